"""How often the view is wrong if the least sure answers are left out: risk over coverage.

Of N frames, or clips, with the probabilities t_1 >= t_2 >= ... of their most probable view:

    coverage of a threshold t    the share of those with t_i >= t
    risk                         the share of these whose view is wrong
    area                         mean over k of the risk of the k surest

(El-Yaniv and Wiener 2010; the area: Geifman, Uziel and El-Yaniv 2019.) A threshold chosen here is
for other patients: on these frames its risk is too low.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.evaluation.results import ImageResult
from utils.evaluation.views import has_view

ACCURACIES = (0.8, 0.9, 0.95)
MOST_POINTS = 200


def risk_of_views(
    results: Sequence[ImageResult], threshold: float | None = None
) -> dict[str, object] | None:
    """Of the frames with a known and a predicted view; see `risk_coverage`."""
    labelled = [result for result in results if has_view(result)]
    if not labelled:
        return None
    probabilities = np.array([result.view_probabilities for result in labelled])
    truth = np.array([result.true_view for result in labelled])
    return risk_coverage(probabilities, truth, threshold)


def risk_coverage(
    probabilities: np.ndarray, truth: np.ndarray, threshold: float | None = None
) -> dict[str, object] | None:
    """The part `risk_coverage` of `utils.evaluation.summary.Summary`; None without an answer.

    Args:
        probabilities: (n, v).
        truth: (n,) the true view.
        threshold: chosen elsewhere; None: there is none.
    """
    if not len(truth):
        return None
    top = probabilities.max(axis=1)
    is_wrong = probabilities.argmax(axis=1) != truth
    order = np.argsort(-top, kind="stable")
    answered = np.arange(1, len(top) + 1)
    risk = is_wrong[order].cumsum() / answered
    # What has the same probability is answered together
    ends = np.flatnonzero(np.diff(top[order], append=-np.inf) < 0)
    thresholds = top[order][ends]
    coverage = answered[ends] / len(top)
    step = -(-len(ends) // MOST_POINTS)
    shown = slice((len(ends) - 1) % step, None, step)  # the last is among them
    return {
        "area": risk.mean(),
        "threshold": thresholds[shown],
        "coverage": coverage[shown],
        "risk": risk[ends][shown],
        "at_accuracy": [_at(accuracy, thresholds, coverage, risk[ends]) for accuracy in ACCURACIES],
        "kept": kept_from(threshold, top, ~is_wrong),
    }


def kept_from(
    threshold: float | None, top: np.ndarray, is_right: np.ndarray
) -> dict[str, float] | None:
    """How many answers a threshold keeps, and how many of these are right; None without one.

    Args:
        top: (n,) the probability of each answer.
        is_right: (n,) bool.
    """
    if threshold is None:
        return None
    kept = top >= threshold
    accuracy = np.nan
    if kept.any():
        accuracy = is_right[kept].mean()
    return {"threshold": threshold, "coverage": kept.mean(), "accuracy": accuracy}


def _at(
    accuracy: float, thresholds: np.ndarray, coverage: np.ndarray, risk: np.ndarray
) -> dict[str, float]:
    """The lowest threshold at which so many answers are right; NaN where there is none."""
    reached = np.flatnonzero(risk <= 1 - accuracy + 1e-9)  # but for rounding
    if not len(reached):
        return {"accuracy": accuracy, "threshold": np.nan, "coverage": 0.0}
    last = reached[-1]
    return {"accuracy": accuracy, "threshold": thresholds[last], "coverage": coverage[last]}
