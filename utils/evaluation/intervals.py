"""Intervals and tests of this project: what a figure or a difference of figures carries.

Every one is an estimate with a standard error and degrees of freedom, and rests on Student's t:

    interval = estimate +- t(0.975, df) SE

One training, its figure M, and M* on bootstrap resamples of the patients (frames where patients are
unknown):

    SE^2 = P / (P - 1) var(M*),   df = P - 1,   clipped to the figure's range

P is Kish's effective number of patients, (sum w)^2 / sum w^2 (Kish 1965), of the weights w that the
figure gives to them: the mean over its classes of the patient's share of the class. It is their
number where all weigh the same. A patient of many frames, or the only one of a rare class, makes it
smaller; with the plain number intervals cover too seldom (docs/explanation/statistics.md).

Several trainings (seeds) on one data set, a difference of two arms, each trained S times:

    V_p  = P / (P - 1) var(mean over s of M*_a,s - M*_r,s),   df P - 1
    V_s  = 2 s^2 / S,   df f = sum over arms of (S - 1)
    SE^2 = V_p + V_s,   df = (V_p + V_s)^2 / (V_p^2 / (P - 1) + V_s^2 / f)

by Satterthwaite (1946). All trainings have the same patients; s^2 is the variance over seeds,
pooled over arms.

Trainings and patients are crossed; the rest that both variances hold is counted twice, which errs
on the wide side.

Folds, K of them: the difference of every fold, its seeds averaged first, is one value;

    SE^2 = s^2 / K,   df = K - 1

Folds share training frames, so values are not independent and no unbiased estimate of SE exists
(Bengio and Grandvalet 2004); Nadeau and Bengio (2003) err on the wide side:

    SE^2 = (1 / K + 1 / (K - 1)) s^2

Ratios: all of this on logarithms, where the patients' variance of log M is that of M* / M (delta
method).

Equivalence within a margin: two one-sided t tests (Schuirmann 1987). Several tests: Holm (1979).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats is slow to import

LEVEL = 0.95
POWER = 0.8
LEAST_UNITS = 3  # folds, or trainings where nothing is pooled
LEAST_DF = 3  # of a variance between trainings
LEAST_ERROR = 1e-9  # below it, values are the same but for rounding
LEAST_PATIENTS = 2.0  # Kish's number: below it t has less than one degree of freedom


@dataclass(frozen=True)
class Variance:
    """A variance, and its degrees of freedom."""

    value: float
    df: float


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error above 0, and the degrees of freedom of that."""

    value: float
    error: float
    df: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Lower and upper limit."""
        half = self.error * stdtrit(self.df, (1 + level) / 2)
        return float(self.value - half), float(self.value + half)

    def p_value(self) -> float:
        """Of a value as far from zero, on either side, if the truth is zero."""
        return float(2 * stdtr(self.df, -abs(self.value) / self.error))

    def p_equivalence(self, margin: float) -> float:
        """The larger p of the two one-sided tests that the truth is outside +-`margin`.

        It is below 0.05 where the 90 % interval lies within the margin.
        """
        return float(stdtr(self.df, (abs(self.value) - margin) / self.error))

    def detectable(self, power: float = POWER) -> float:
        """The true difference whose 95 % interval would leave out zero with this probability."""
        quantiles = stdtrit(self.df, (1 + LEVEL) / 2) + stdtrit(self.df, power)
        return float(self.error * quantiles)


def kish(weights: np.ndarray) -> float:
    """The number of equal weights that vary a sum as much as these (n,) do; 0 without any."""
    total = np.sum(weights)
    if not total > 0:
        return 0.0
    return float(total**2 / np.sum(np.square(weights)))


def over_patients(resampled: np.ndarray, patients: float) -> Variance | None:
    """The patients' variance of a figure; None where it cannot be known.

    Args:
        resampled: (R,) the figure on resampled patients; NaN where it is undefined on a resample.
        patients: Kish's effective number.
    """
    known = resampled[np.isfinite(resampled)]
    if patients < LEAST_PATIENTS or len(known) < 2:
        return None
    return Variance(float(patients / (patients - 1) * known.var(ddof=1)), patients - 1)


def pooled(samples: Iterable[Sequence[float]]) -> Variance:
    """The variance within samples (each (S,)) that have a common one.

    NaN with 0 degrees of freedom where none has two values.
    """
    repeated = [np.asarray(sample, float) for sample in samples if len(sample) > 1]
    df = sum(len(sample) - 1 for sample in repeated)
    if not df:
        return Variance(np.nan, 0)
    squares = sum(len(sample) * sample.var() for sample in repeated)
    return Variance(float(squares / df), df)


def satterthwaite(value: float, parts: Sequence[Variance]) -> Estimate | None:
    """The estimate whose variance is the sum of independent `parts`; None if they sum to 0."""
    total = sum(part.value for part in parts)
    if not total > LEAST_ERROR**2:
        return None
    df = total**2 / sum(part.value**2 / part.df for part in parts)
    return Estimate(float(value), float(np.sqrt(total)), float(df))


def over_units(values: Sequence[float]) -> Estimate | None:
    """The mean of independent values, such as folds'.

    None for fewer than three, or where all are the same.
    """
    count = len(values)
    if count < LEAST_UNITS:
        return None
    variance = Variance(np.var(values, ddof=1) / count, count - 1)
    return satterthwaite(np.mean(values), [variance])


def nadeau_bengio(values: Sequence[float]) -> Estimate | None:
    """As `over_units`, with Nadeau and Bengio's wider error, of K values from K folds."""
    folds = len(values)
    if folds < LEAST_UNITS:
        return None
    variance = Variance((1 / folds + 1 / (folds - 1)) * np.var(values, ddof=1), folds - 1)
    return satterthwaite(np.mean(values), [variance])


def figure_interval(value: float, resampled: np.ndarray, patients: float) -> np.ndarray:
    """The 95 % interval (2,) of a figure between 0 and 1 of one training; NaN where there is none.

    Args:
        resampled: (R,) the figure on resampled patients.
        patients: Kish's effective number.
    """
    variance = over_patients(resampled, patients)
    if variance is None:
        return np.full(2, np.nan)
    estimate = satterthwaite(value, [variance])
    if estimate is None:
        return np.full(2, np.nan)
    return np.clip(estimate.interval(), 0, 1)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P values (n,) corrected for their number (Holm 1979).

    Reject those below the level of the whole family.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return corrected
