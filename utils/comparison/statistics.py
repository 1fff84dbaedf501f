"""What the figures of a comparison carry: paired differences with intervals, and a plain word for each.

Arms are compared on the same units, a unit being a seed and a data set (or fold). The bootstrap draws units and,
within a unit, patients, with replacement; the same draws serve every arm, so that what two arms have in common
cancels out. An interval that holds zero is called *not distinguishable*, whatever its middle.

    Delta-m of an arm = mean over the tasks t of (M_t - S_t) / S_t

M_t being the arm's metric and S_t the single-task arm's (Maninis et al. 2019, eq. 4; Vandenhende et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.comparison.outcomes import Outcome
from utils.evaluation.average_precision import coco_evaluation, resampled_ap
from utils.evaluation.results import ImageResult, group_draws
from utils.evaluation.views import resampled_view_rates

RESAMPLES = 2000
HEADLINES = {"detection": "mAP50", "classification": "view_accuracy"}  # task -> the metric that speaks for it
COMPARED = {"detection": ("mAP50", "mAP50-95"), "classification": ("view_accuracy", "view_balanced_accuracy")}
SINGLE_TASK = {"detection": "detection-only", "classification": "classification-only"}


@dataclass(frozen=True)
class Difference:
    """`arm` less `reference` in `metric`, over `units` units, with a 95 % interval.

    Attributes:
        relative: whether it is a share of the reference's value.
    """

    arm: str
    reference: str
    metric: str
    value: float
    low: float
    high: float
    units: int
    relative: bool = False

    @property
    def word(self) -> str:
        """What the interval carries."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not distinguishable"


def resample(
    results: Sequence[ImageResult], class_count: int, view_count: int, tasks: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """The compared metrics of `tasks` on resampled patients, (RESAMPLES,) each.

    Args:
        seed: of the draws; the same for all arms on the same images.
    """
    draws = group_draws([result.group for result in results], RESAMPLES, seed)
    return drawn_metrics(results, class_count, view_count, tasks, draws)


def drawn_metrics(
    results: Sequence[ImageResult], class_count: int, view_count: int, tasks: Sequence[str], draws: np.ndarray
) -> dict[str, np.ndarray]:
    """The compared metrics of `tasks`, (R,) each, where image i counts `draws[r, i]` times."""
    found = {}
    if "detection" in tasks:
        ap = resampled_ap(coco_evaluation(results, class_count), draws)
        found |= {"mAP50": ap[:, 1], "mAP50-95": ap[:, 1:].mean(axis=1)}
    if "classification" in tasks:
        rates = resampled_view_rates(results, view_count, draws)
        found |= {f"view_{name}": rates[name] for name in ("accuracy", "balanced_accuracy")}
    return found


def difference(
    arm: Sequence[Outcome], reference: Sequence[Outcome], metric: str, relative: bool = False
) -> Difference | None:
    """The paired difference over the units that both have; None if there are none or a value is undefined."""
    pairs = _paired(arm, reference)
    if not pairs or any(metric not in outcome.resampled for pair in pairs for outcome in pair):
        return None
    values = np.array([[outcome.figures[metric] for outcome in pair] for pair in pairs], float)  # (units, 2)
    drawn = np.array([[outcome.resampled[metric] for outcome in pair] for pair in pairs])  # (units, 2, R)
    weights = _unit_draws(len(pairs))  # (R, units)
    means = np.einsum("ru,upr->pr", weights, drawn)
    value = _change(*values.mean(axis=0), relative)
    if not np.isfinite(value):
        return None
    low, high = _interval(_change(*means, relative))
    return Difference(arm[0].arm, reference[0].arm, metric, float(value), low, high, len(pairs), relative)


def _paired(arm: Sequence[Outcome], reference: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    by_unit = {outcome.unit: outcome for outcome in reference}
    return [(outcome, by_unit[outcome.unit]) for outcome in arm if outcome.unit in by_unit]


def _unit_draws(units: int) -> np.ndarray:
    """The share of each unit in every resample, (RESAMPLES, units)."""
    return np.random.default_rng(1).multinomial(units, np.full(units, 1 / units), size=RESAMPLES) / units


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of what is defined."""
    low, high = np.percentile(drawn[np.isfinite(drawn)], [2.5, 97.5])
    return float(low), float(high)


def _change(value: np.ndarray, reference: np.ndarray, relative: bool) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return (value - reference) / reference if relative else value - reference


def delta_m(arm: Sequence[Outcome], single: Mapping[str, Sequence[Outcome]]) -> dict[str, float] | None:
    """Delta-m over both tasks' headline metrics, with its interval; see the module's docstring.

    Args:
        single: task -> the outcomes of its single-task arm.
    """
    parts = {task: _paired(arm, single.get(task, ())) for task in HEADLINES}
    if not all(parts.values()) or any(HEADLINES[task] not in arm[0].resampled for task in HEADLINES):
        return None
    values, drawn = [], []
    for task, pairs in parts.items():
        metric, weights = HEADLINES[task], _unit_draws(len(pairs))
        own, other = (np.array([pair[side].resampled[metric] for pair in pairs]) for side in (0, 1))
        drawn.append(_change(*(np.einsum("ru,ur->r", weights, part) for part in (own, other)), True))
        values.append(_change(*np.mean([[o.figures[metric] for o in pair] for pair in pairs], axis=0), True))
    if not np.isfinite(values).all():
        return None
    low, high = _interval(np.mean(drawn, axis=0))
    return {"value": float(np.mean(values)), "low": low, "high": high}


def mean_and_deviation(outcomes: Sequence[Outcome], kind: str = "figures") -> dict[str, tuple[float, float | None]]:
    """Figure -> mean and standard deviation over the units where it is defined."""
    found: dict[str, list[float]] = {}
    for outcome in outcomes:
        for name, value in getattr(outcome, kind).items():
            if value is not None:
                found.setdefault(name, []).append(value)
    return {n: (float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else None) for n, v in found.items()}


def best_of(candidates: Mapping[str, Sequence[Outcome]]) -> str:
    """The arm with the highest mean fitness on the validation split, whatever split is reported."""
    return max(candidates, key=lambda arm: mean_and_deviation(candidates[arm])["validation_fitness"][0])
