"""What was claimed of these methods before anybody measured, beside what a comparison measured.

The claims are those of the reports that this project began with. A claim is *supported* if the
whole 95 % interval lies beyond what was claimed, *contradicted* if the whole interval falls short
of it, and otherwise *not shown*, as it is where there is no interval, or one of a single training.
A claim about 50 epochs is *not tested* by fewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.comparison.outcomes import Outcome, first_epoch_at
from utils.comparison.protocol import Contrast
from utils.comparison.statistics import (
    FOLDS,
    HEADLINES,
    IDENTICAL,
    SEEDS,
    SINGLE_TASK,
    Found,
    Term,
    combine,
    difference,
    mean_and_deviation,
    means_by_fold,
)
from utils.evaluation.intervals import Estimate, holm, over_units

Outcomes = Mapping[str, Sequence[Outcome]]
Limits = tuple[float, float]
NAMES = {"mAP50": "mAP50", "view_accuracy": "view accuracy"}
LEVELS = {"mAP50": 0.6, "precision": 0.7, "recall": 0.7, "F1": 0.6, "view_accuracy": 0.85}
CLAIMED_EPOCHS = 50
SUPPORTED, CONTRADICTED, NOT_SHOWN = "supported", "contradicted", "not shown"
UNKNOWN = (-np.inf, np.inf)
RATIOS = ("equal", "ratio-4", "ratio-15", "ratio-40", "fixed-scaled")  # 15:1 is one among them


@dataclass(frozen=True)
class Claim:
    """A sentence of the reports, what was measured in its place, and a word for it."""

    claim: str
    measured: str
    verdict: str


def check_claims(outcomes: Outcomes, epochs: int, margins: Mapping[str, float]) -> list[Claim]:
    """Every claim about the arms that were trained.

    Args:
        epochs: of every training.
        margins: metric -> the difference below which two arms count as equally good.
    """
    claims = [
        _gain(outcomes, "gradnorm", "mAP50", "GradNorm: detection +10 to 15 %", 0.10),
        _gain(outcomes, "gradnorm", "view_accuracy", "GradNorm: classification +5 to 10 %", 0.05),
        _convergence(outcomes),
        _gain(outcomes, "dual", "mAP50", "dual backbone: detection +15 to 25 %", 0.15),
        _gain(outcomes, "dual", "view_accuracy", "dual backbone: classification +10 to 20 %", 0.10),
    ]
    claims += [_independence(outcomes, task, margins) for task in HEADLINES]
    claims.append(_best_ratio(outcomes))
    claims += [_levels(outcomes, arm, epochs) for arm in ("gradnorm", "dual")]
    claims.append(_loss_fall(outcomes, epochs))
    return [claim for claim in claims if claim]


def _limits(found: Found) -> Limits:
    """Between which the truth may lie, as far as a word may follow from it."""
    if found.basis == IDENTICAL:
        return 0.0, 0.0
    if found.basis not in (FOLDS, SEEDS):
        return UNKNOWN
    return found.estimate.interval()


def _interval(estimate: Estimate | None) -> Limits:
    if estimate is None:
        return UNKNOWN
    return estimate.interval()


def _verdict(limits: Limits, least: float) -> str:
    """Of the claim that the truth is at least `least`."""
    low, high = limits
    if low >= least:
        return SUPPORTED
    if high < least:
        return CONTRADICTED
    return NOT_SHOWN


def _span(limits: Limits, style: str) -> str:
    if limits == UNKNOWN:
        return "no interval"
    low, high = limits
    return f"[{low:{style}}, {high:{style}}]"


def _gain(outcomes: Outcomes, arm: str, metric: str, claim: str, least: float) -> Claim | None:
    """That an arm has at least so much more, as a share, than `fixed`."""
    found = difference(outcomes, Contrast(arm, "fixed", metric), is_ratio=True)
    if found is None:
        return None
    low, high = np.expm1(_limits(found)).tolist()
    limits = (low, high)
    if np.isinf(high):
        limits = UNKNOWN
    gain = f"{NAMES[metric]} {np.expm1(found.value):+.1%} {_span(limits, '+.1%')}"
    return Claim(claim, f"{gain} against fixed", _verdict(limits, least))


def _convergence(outcomes: Outcomes) -> Claim | None:
    """Epochs until 90 % of a level that both arms reach: the lower of their last epochs' mAP50."""
    by_unit = {outcome.unit: outcome for outcome in outcomes.get("fixed", ())}
    ratios = {}
    for own in outcomes.get("gradnorm", ()):
        if own.unit in by_unit:
            ratios[own.unit] = _log_epochs(own, by_unit[own.unit])
    if not ratios or None in ratios.values():
        return None
    values = means_by_fold(ratios)
    estimate = over_units(values)
    low, high = UNKNOWN
    if estimate:
        low, high = np.exp(estimate.interval())
    measured = (
        "epochs to 90 % of the lower final mAP50 of the two, as a multiple of fixed's: "
        f"{np.exp(np.mean(values)):.2f} {_span((low, high), '.2f')}"
    )
    return Claim("GradNorm: converges 20 to 30 % faster", measured, _verdict((-high, -low), -0.8))


def _log_epochs(own: Outcome, other: Outcome) -> float | None:
    """The logarithm of the ratio of both arms' epochs to a level; None where one ends at zero."""
    courses = [outcome.courses["mAP50"] for outcome in (own, other)]
    level = 0.9 * min(course[-1] for course in courses)
    if not level > 0:
        return None
    epochs = [first_epoch_at(course, level) for course in courses]
    return float(np.log(epochs[0] / epochs[1]))


def _independence(outcomes: Outcomes, task: str, margins: Mapping[str, float]) -> Claim | None:
    metric = HEADLINES[task]
    reference = SINGLE_TASK[task]
    found = difference(outcomes, Contrast("dual", reference, metric))
    if found is None:
        return None
    limits = _limits(found)
    low, high = limits
    margin = margins.get(metric, 0.0)
    if low >= 0:
        verdict = SUPPORTED
    elif low >= -margin:
        verdict = f"{SUPPORTED} within {margin:g}"
    elif high < 0:
        verdict = CONTRADICTED
    else:
        verdict = NOT_SHOWN
    measured = f"{NAMES[metric]} {found.value:+.3f} {_span(limits, '+.3f')} against {reference}"
    return Claim(f"dual backbone: as good as independent training ({task})", measured, verdict)


def _best_ratio(outcomes: Outcomes) -> Claim | None:
    """Supported if better than every other ratio at both tasks.

    Contradicted if, after Holm's correction, worse than one of them.
    """
    trained = {arm: outcomes[arm] for arm in RATIOS if outcomes.get(arm)}
    if len(trained) < 2 or "ratio-15" not in trained:
        return None
    ranking = sorted(trained, key=lambda arm: -mean_and_deviation(trained[arm])["fitness"][0])
    place = ranking.index("ratio-15") + 1
    measured = f"number {place} of {len(trained)} by fitness; best: {ranking[0]}"
    gaps = _gaps_to_other_ratios(outcomes, trained)
    if _is_worse_than_one(gaps):
        verdict = CONTRADICTED
    elif all(_limits(gap)[0] > 0 for gap in gaps):
        verdict = SUPPORTED
    else:
        verdict = NOT_SHOWN
    return Claim("15:1 is the best ratio", measured, verdict)


def _gaps_to_other_ratios(outcomes: Outcomes, trained: Iterable[str]) -> list[Found]:
    """15:1 less every other ratio, in both headline metrics, where that is defined."""
    gaps = []
    for arm in trained:
        for metric in HEADLINES.values():
            gap = difference(outcomes, Contrast("ratio-15", arm, metric))
            if gap and arm != "ratio-15":
                gaps.append(gap)
    return gaps


def _is_worse_than_one(gaps: Sequence[Found]) -> bool:
    """One of the gaps is below zero, significantly after Holm's correction."""
    tested = [gap for gap in gaps if gap.basis in (FOLDS, SEEDS)]
    p_values = holm([gap.estimate.p_value() for gap in tested])
    return any(gap.value < 0 and p < 0.05 for gap, p in zip(tested, p_values, strict=True))


def _levels(outcomes: Outcomes, arm: str, epochs: int) -> Claim | None:
    """Shown are the levels that the mean's lower limit reaches; P, R and F1 have no interval."""
    figures = mean_and_deviation(outcomes.get(arm, ()))
    found = {metric: figures[metric][0] for metric in LEVELS if metric in figures}
    if not found:
        return None
    levels = ", ".join(f"{NAMES.get(metric, metric)} {LEVELS[metric]}" for metric in found)
    limits = {metric: _limits(combine(outcomes, [Term(arm, metric)])) for metric in found}
    measured = ", ".join(_figure(value, limits[metric]) for metric, value in found.items())
    shown = sum(limits[metric][0] >= LEVELS[metric] for metric in found)
    verdict = f"{shown} of {len(found)} shown"
    if epochs < CLAIMED_EPOCHS:
        verdict = _not_tested(epochs)
    return Claim(f"at least {levels} within {CLAIMED_EPOCHS} epochs ({arm})", measured, verdict)


def _figure(value: float, limits: Limits) -> str:
    if limits == UNKNOWN:
        return f"{value:.3f}"
    return f"{value:.3f} {_span(limits, '.3f')}"


def _not_tested(epochs: int) -> str:
    return f"not tested ({epochs} epochs)"


def _loss_fall(outcomes: Outcomes, epochs: int) -> Claim | None:
    falls = {}
    for arm in ("gradnorm", "fixed", "detection-only"):
        if outcomes.get(arm):
            falls[arm] = _falls(outcomes[arm])
    if "gradnorm" not in falls:
        return None
    means = ", ".join(f"{arm} -{np.mean(values):.0%}" for arm, values in falls.items())
    verdict = _verdict(_interval(over_units(falls["gradnorm"])), 0.82)
    if epochs < CLAIMED_EPOCHS:
        verdict = _not_tested(epochs)
    measured = f"training loss from first to last epoch: {means}"
    return Claim("detection loss 82 % lower", measured, verdict)


def _falls(outcomes: Sequence[Outcome]) -> list[float]:
    by_unit = {outcome.unit: outcome.figures["detection_loss_fall"] for outcome in outcomes}
    return means_by_fold(by_unit)
