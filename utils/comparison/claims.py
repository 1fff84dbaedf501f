"""What was claimed of these methods before anybody measured, each beside what a comparison measured.

The claims are those of the reports that this project began with. A gain is *supported* if its whole interval is at
least the claimed one, *contradicted* if its whole interval is below, and otherwise *not shown*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.comparison.arms import GRID
from utils.comparison.outcomes import Outcome
from utils.comparison.statistics import HEADLINES, SINGLE_TASK, difference, mean_and_deviation

Outcomes = Mapping[str, Sequence[Outcome]]
NAMES = {"mAP50": "mAP50", "view_accuracy": "view accuracy"}
LEVELS = {"mAP50": 0.6, "precision": 0.7, "recall": 0.7, "F1": 0.6, "view_accuracy": 0.85}


@dataclass(frozen=True)
class Claim:
    """A sentence of the reports, what was measured in its place, and a word for it."""

    claim: str
    measured: str
    verdict: str


def examine(outcomes: Outcomes) -> list[Claim]:
    """Every claim about the arms that were trained."""
    claims = [
        _gain(outcomes, "gradnorm", "fixed", "mAP50", "GradNorm: detection +10 to 15 %", 0.10),
        _gain(outcomes, "gradnorm", "fixed", "view_accuracy", "GradNorm: classification +5 to 10 %", 0.05),
        _convergence(outcomes),
        _gain(outcomes, "dual", "fixed", "mAP50", "dual backbone: detection +15 to 25 %", 0.15),
        _gain(outcomes, "dual", "fixed", "view_accuracy", "dual backbone: classification +10 to 20 %", 0.10),
        *(_independence(outcomes, task) for task in HEADLINES),
        _best_ratio(outcomes),
        *(_levels(outcomes, arm) for arm in ("gradnorm", "dual")),
        _loss_fall(outcomes),
    ]
    return [claim for claim in claims if claim]


def _gain(outcomes: Outcomes, arm: str, reference: str, metric: str, claim: str, least: float) -> Claim | None:
    found = difference(outcomes.get(arm, ()), outcomes.get(reference, ()), metric, relative=True)
    if found is None:
        return None
    verdict = "supported" if found.low >= least else "contradicted" if found.high < least else "not shown"
    span = f"[{found.low:+.1%}, {found.high:+.1%}]"
    return Claim(claim, f"{NAMES[metric]} {found.value:+.1%} {span} against {reference}", verdict)


def _convergence(outcomes: Outcomes) -> Claim | None:
    pairs = [
        (outcome.figures["epochs_to_90_mAP50"], other.figures["epochs_to_90_mAP50"])
        for outcome in outcomes.get("gradnorm", ())
        for other in outcomes.get("fixed", ())
        if outcome.unit == other.unit
    ]
    if not pairs or None in (value for pair in pairs for value in pair):
        return None
    own, other = np.array(pairs).T
    fewer, is_faster = 1 - own / other, 5 * own <= 4 * other  # by a fifth, in whole numbers
    verdict = "supported" if is_faster.all() else "not shown" if is_faster.any() else "contradicted"
    measured = (
        f"90 % of the final mAP50 after {own.mean():.1f} epochs, fixed: {other.mean():.1f} ({-fewer.mean():+.0%})"
    )
    return Claim("GradNorm: converges 20 to 30 % faster", measured, verdict)


def _independence(outcomes: Outcomes, task: str) -> Claim | None:
    metric, reference = HEADLINES[task], SINGLE_TASK[task]
    found = difference(outcomes.get("dual", ()), outcomes.get(reference, ()), metric)
    if found is None:
        return None
    measured = f"{NAMES[metric]} {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}] against {reference}"
    verdict = {"worse": "contradicted", "better": "supported"}.get(found.word, "not contradicted")
    return Claim(f"dual backbone: as good as independent training ({task})", measured, verdict)


def _best_ratio(outcomes: Outcomes) -> Claim | None:
    grid = {arm: outcomes[arm] for arm in GRID if outcomes.get(arm)}
    if len(grid) < 2 or "ratio-15" not in grid:
        return None
    ranking = sorted(grid, key=lambda arm: -mean_and_deviation(grid[arm])["fitness"][0])
    measured = f"number {ranking.index('ratio-15') + 1} of {len(grid)} by fitness; best: {ranking[0]}"
    gaps = [difference(grid["ratio-15"], grid[arm], m) for arm in grid if arm != "ratio-15" for m in HEADLINES.values()]
    words = {gap.word for gap in gaps if gap}
    verdict = "contradicted" if "worse" in words else "supported" if words == {"better"} else "not shown"
    return Claim("15:1 is the best ratio", measured, verdict)


def _levels(outcomes: Outcomes, arm: str) -> Claim | None:
    figures = mean_and_deviation(outcomes.get(arm, ()))
    found = {metric: figures[metric][0] for metric in LEVELS if metric in figures}
    if not found:
        return None
    levels = ", ".join(f"{NAMES.get(metric, metric)} {LEVELS[metric]}" for metric in found)
    measured = ", ".join(f"{value:.3f}" for value in found.values())
    reached = sum(value >= LEVELS[metric] for metric, value in found.items())
    return Claim(f"at least {levels} within 50 epochs ({arm})", measured, f"{reached} of {len(found)} reached")


def _loss_fall(outcomes: Outcomes) -> Claim | None:
    falls = {
        arm: mean_and_deviation(outcomes[arm])["detection_loss_fall"][0]
        for arm in ("gradnorm", "fixed", "detection-only")
        if outcomes.get(arm)
    }
    if "gradnorm" not in falls:
        return None
    measured = "training loss from first to last epoch: " + ", ".join(f"{a} -{fall:.0%}" for a, fall in falls.items())
    return Claim("detection loss 82 % lower", measured, "reached" if falls["gradnorm"] >= 0.82 else "not reached")
