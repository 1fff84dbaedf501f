"""What a comparison's figures carry: sums and differences of arms' figures, with intervals.

A unit is a data set (or fold) and a seed; arms are compared on the units that all of them have. The
formulas are those of `utils.evaluation.intervals`, and the units say which of them serves:

- several data sets: they are taken as folds; a fold's seeds are averaged first, and t is over
  folds;
- one data set, several seeds: the patients' variance plus that between trainings, which is pooled
  over all arms;
- one training of each arm: the patients' variance only, so the interval is "of this training".

All trainings on a data set are evaluated on the same resamples of its patients, so what two arms
make of the same patients cancels out of their difference. Seeds do not: arms of the same seed vary
as arms of different seeds do.

    Delta-m of an arm = exp(mean over the tasks t of log(M_t / S_t)) - 1

M_t being the arm's metric and S_t the single-task arm's. It is Maninis et al.'s (2019, eq. 4) mean
of (M_t - S_t) / S_t with the geometric mean for the arithmetic one, as ratios multiply.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.comparison.outcomes import Outcome
from utils.comparison.protocol import Contrast
from utils.evaluation.average_precision import coco_evaluation, resampled_ap
from utils.evaluation.detection import box_counts
from utils.evaluation.intervals import (
    LEAST_DF,
    LEAST_UNITS,
    Estimate,
    Variance,
    nadeau_bengio,
    over_patients,
    over_units,
    pooled,
    satterthwaite,
)
from utils.evaluation.results import ImageResult, effective_groups, group_draws
from utils.evaluation.views import effective_view_groups, resampled_view_rates, view_counts

RESAMPLES = 2000
# Task -> the metric that speaks for it
HEADLINES = {"detection": "mAP50", "classification": "view_accuracy"}
COMPARED = {
    "detection": ("mAP50", "mAP50-95"),
    "classification": ("view_accuracy", "view_balanced_accuracy"),
}
SINGLE_TASK = {"detection": "detection-only", "classification": "classification-only"}
# An arm whose mean is below this share of the highest arm's has collapsed, and varies less than a
# working one does.
COLLAPSED = 0.5

# What an estimate rests on, or why there is none
FOLDS, SEEDS, ONE_TRAINING = "folds", "seeds", "one training"
IDENTICAL, TOO_FEW, NO_INTERVAL = "identical", "too few trainings", "no interval"

Outcomes = Mapping[str, Sequence[Outcome]]
Unit = tuple[int, int]


@dataclass(frozen=True)
class Term:
    """An arm's metric in a sum."""

    arm: str
    metric: str
    weight: float = 1.0


@dataclass(frozen=True)
class Found:
    """A sum of arms' figures, or of their logarithms.

    Attributes:
        trainings: the sum of every unit.
        basis: `FOLDS`, `SEEDS` or `ONE_TRAINING`; or why there is no estimate.
        cautious: with Nadeau and Bengio's standard error; folds only.
    """

    value: float
    trainings: tuple[float, ...]
    basis: str
    estimate: Estimate | None = None
    cautious: Estimate | None = None


@dataclass(frozen=True)
class _Sum:
    """Terms, summed.

    Attributes:
        values: unit -> the sum.
        resampled: (units, R) the same on resampled patients; of logarithms by the delta method.
            NaN where unknown.
        patients: the smallest of Kish's numbers of patients behind a term.
    """

    values: Mapping[Unit, float]
    resampled: np.ndarray
    patients: float


def resample(
    results: Sequence[ImageResult],
    class_count: int,
    view_count: int,
    tasks: Sequence[str],
    seed: int,
) -> dict[str, np.ndarray]:
    """The compared metrics of `tasks` on resampled patients, (RESAMPLES,) each.

    Args:
        seed: of the resamples; the same for all arms on the same images.
    """
    resample_counts = group_draws([result.group for result in results], RESAMPLES, seed)
    return resampled_metrics(results, class_count, view_count, tasks, resample_counts)


def resampled_metrics(
    results: Sequence[ImageResult],
    class_count: int,
    view_count: int,
    tasks: Sequence[str],
    resample_counts: np.ndarray,
) -> dict[str, np.ndarray]:
    """The compared metrics of `tasks` on resamples of the images, (R,) each.

    Args:
        resample_counts: (R, images), how often each resample holds each image.
    """
    found = {}
    if "detection" in tasks:
        ap = resampled_ap(coco_evaluation(results, class_count), resample_counts)
        found |= {"mAP50": ap[:, 1], "mAP50-95": ap[:, 1:].mean(axis=1)}
    if "classification" in tasks:
        rates = resampled_view_rates(results, view_count, resample_counts)
        found |= {f"view_{name}": rates[name] for name in ("accuracy", "balanced_accuracy")}
    return found


def patients_behind(
    results: Sequence[ImageResult], class_count: int, view_count: int, tasks: Sequence[str]
) -> dict[str, float]:
    """Metric -> Kish's number of the patients behind it, for those that `resample` gives."""
    found = {}
    if "detection" in tasks:
        groups = effective_groups(results, box_counts(results, class_count))
        found |= dict.fromkeys(COMPARED["detection"], groups)
    if "classification" in tasks:
        by_view = effective_view_groups(results, view_counts(results, view_count))
        found |= {f"view_{name}": groups for name, groups in by_view.items()}
    return found


def difference(outcomes: Outcomes, contrast: Contrast, is_ratio: bool = False) -> Found | None:
    """The arm's metric less the reference's, or the logarithm of their ratio; see `combine`."""
    return combine(outcomes, _terms(contrast), is_ratio)


def delta_m(outcomes: Outcomes, arm: str) -> Found | None:
    """The logarithm of 1 + Delta-m over both tasks' headline metrics; see `combine`.

    The module's docstring defines it.
    """
    contrasts = [Contrast(arm, SINGLE_TASK[task], metric) for task, metric in HEADLINES.items()]
    terms = []
    for contrast in contrasts:
        terms += _terms(contrast, 1 / len(contrasts))
    return combine(outcomes, terms, is_ratio=True)


def _terms(contrast: Contrast, weight: float = 1.0) -> tuple[Term, Term]:
    own = Term(contrast.arm, contrast.metric, weight)
    other = Term(contrast.reference, contrast.metric, -weight)
    return own, other


def combine(outcomes: Outcomes, terms: Sequence[Term], is_ratio: bool = False) -> Found | None:
    """The sum of `terms` over the units that all of them have.

    None without any unit, or where a figure is undefined.

    Args:
        outcomes: arm -> its outcomes; those of other arms serve to pool the variance between
            trainings.
        is_ratio: sum logarithms.
    """
    total = _add(outcomes, terms, is_ratio)
    values = np.array(list(total.values.values()))
    if not len(values) or not np.isfinite(values).all():
        return None
    if len(terms) > 1 and not values.any() and not np.nan_to_num(total.resampled).any():
        return Found(0.0, tuple(values.tolist()), IDENTICAL)
    if len({data for data, _ in total.values}) > 1:
        return _over_folds(total)
    if len(values) == 1:
        return _of_one_training(total)
    return _over_seeds(total, _trainings_variances(outcomes, terms, is_ratio, len(values)))


def _add(outcomes: Outcomes, terms: Sequence[Term], is_ratio: bool) -> _Sum:
    by_unit = [_by_unit(outcomes.get(term.arm, ())) for term in terms]
    units = sorted(set(by_unit[0]).intersection(*by_unit[1:]))
    values = np.zeros(len(units))
    resampled = np.zeros((len(units), 1))
    patients = np.inf
    for term, own in zip(terms, by_unit, strict=True):
        trained = [own[unit] for unit in units]
        figures = np.array([outcome.figures.get(term.metric) for outcome in trained], float)
        by_unit_resampled = [outcome.resampled.get(term.metric, [np.nan]) for outcome in trained]
        linear = _linear(np.array(by_unit_resampled), figures[:, None], is_ratio)
        values = values + term.weight * _scaled(figures, is_ratio)
        resampled = resampled + term.weight * linear
        for outcome in trained:
            patients = min(patients, outcome.patients.get(term.metric, 0.0))
    return _Sum(dict(zip(units, values.tolist(), strict=True)), resampled, patients)


def _by_unit(outcomes: Sequence[Outcome]) -> dict[Unit, Outcome]:
    return {outcome.unit: outcome for outcome in outcomes}


def _scaled(figures: np.ndarray, is_ratio: bool) -> np.ndarray:
    """The figures, or their logarithms: NaN for 0."""
    if not is_ratio:
        return figures
    return np.log(np.where(figures > 0, figures, np.nan))


def _linear(resampled: np.ndarray, figures: np.ndarray, is_ratio: bool) -> np.ndarray:
    """What varies as `_scaled` figures do where these are near `figures`."""
    if not is_ratio:
        return resampled
    return resampled / np.where(figures > 0, figures, np.nan)


def _over_folds(total: _Sum) -> Found:
    folds = means_by_fold(total.values)
    value = float(np.mean(folds))
    if len(folds) < LEAST_UNITS:
        return Found(value, tuple(total.values.values()), TOO_FEW)
    return _found(total, FOLDS, over_units(folds), value, nadeau_bengio(folds))


def _of_one_training(total: _Sum) -> Found:
    (value,) = total.values.values()
    estimate = _estimate(value, over_patients(total.resampled[0], total.patients))
    return _found(total, ONE_TRAINING, estimate, value)


def _over_seeds(total: _Sum, shares: Sequence[Variance]) -> Found:
    value = float(np.mean(list(total.values.values())))
    if min(share.df for share in shares) < LEAST_DF:
        return Found(value, tuple(total.values.values()), TOO_FEW)
    patients = over_patients(total.resampled.mean(axis=0), total.patients)
    return _found(total, SEEDS, _estimate(value, patients, shares), value)


def _estimate(
    value: float, patients: Variance | None, shares: Sequence[Variance] = ()
) -> Estimate | None:
    """From the variances of patients and trainings; None where the patients' is unknown."""
    if patients is None:
        return None
    return satterthwaite(value, [patients, *shares])


def _found(
    total: _Sum,
    basis: str,
    estimate: Estimate | None,
    value: float,
    cautious: Estimate | None = None,
) -> Found:
    if estimate is None:
        basis = NO_INTERVAL
    return Found(value, tuple(total.values.values()), basis, estimate, cautious)


def _trainings_variances(
    outcomes: Outcomes, terms: Sequence[Term], is_ratio: bool, seeds: int
) -> list[Variance]:
    """Of every metric, the variance that the trainings of its arms give to the sum's mean."""
    squares: dict[str, float] = {}
    for term in terms:
        squares[term.metric] = squares.get(term.metric, 0.0) + term.weight**2
    arms = {term.arm for term in terms}
    variances = []
    for metric, square in squares.items():
        own = between_trainings(outcomes, metric, arms, is_ratio)
        variances.append(Variance(square * own.value / seeds, own.df))
    return variances


def between_trainings(
    outcomes: Outcomes, metric: str, arms: Collection[str] = (), is_ratio: bool = False
) -> Variance:
    """The variance of a metric, or its logarithm, over the seeds of an arm, pooled over the arms.

    Arms of the very same figures, such as `equal` and `ratio-1`, count once; a collapsed arm
    counts only if it is one of `arms`, whose figures are compared.
    """
    samples: dict[tuple[float, ...], bool] = {}
    for arm, own in outcomes.items():
        figures = tuple(outcome.figures.get(metric) for outcome in own)
        if figures and None not in figures:
            samples[figures] = samples.get(figures, False) or arm in arms
    highest = max(map(np.mean, samples), default=0.0)
    counted = []
    for own, is_compared in samples.items():
        if is_compared or np.mean(own) >= COLLAPSED * highest:
            counted.append(_scaled(np.array(own), is_ratio))
    return pooled(counted)


def means_by_fold(values: Mapping[Unit, float]) -> list[float]:
    """A value for every data set, the mean over its seeds.

    Where there is only one data set, the value of every seed.
    """
    by_fold: dict[int, list[float]] = {}
    for (fold, _), value in values.items():
        by_fold.setdefault(fold, []).append(value)
    if len(by_fold) < 2:
        return list(values.values())
    return [float(np.mean(by_fold[fold])) for fold in sorted(by_fold)]


def mean_and_deviation(
    outcomes: Sequence[Outcome], kind: str = "figures"
) -> dict[str, tuple[float, float | None]]:
    """Figure -> mean and standard deviation over the folds, or the seeds of one data set.

    It is of the units where the figure is defined; one value has no deviation: None.
    """
    found: dict[str, dict[Unit, float]] = {}
    for outcome in outcomes:
        for name, value in getattr(outcome, kind).items():
            if value is not None:
                found.setdefault(name, {})[outcome.unit] = value
    pairs = {}
    for name, own in found.items():
        values = means_by_fold(own)
        deviation = None
        if len(values) > 1:
            deviation = float(np.std(values, ddof=1))
        pairs[name] = (float(np.mean(values)), deviation)
    return pairs
