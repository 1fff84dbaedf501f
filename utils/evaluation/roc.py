"""Receiver operating characteristic: its points, and the area below it on resamples."""

from __future__ import annotations

import numpy as np


def roc_curve(scores: np.ndarray, is_positive: np.ndarray) -> dict[str, np.ndarray]:
    """The points of the curve, from (0, 0) to (1, 1), one a threshold.

    Args:
        scores: (n,).
        is_positive: (n,) bool; some are, and some are not.

    Returns:
        `false_positive_rate` and `sensitivity`, (k,) each, neither ever falling.
    """
    order = np.argsort(-scores, kind="stable")
    # What has the same score is called together
    is_threshold = np.diff(scores[order], append=-np.inf) < 0
    hits = np.r_[0, is_positive[order].cumsum()[is_threshold]]
    false = np.r_[0, (~is_positive)[order].cumsum()[is_threshold]]
    return {"false_positive_rate": false / false[-1], "sensitivity": hits / hits[-1]}


def resampled_areas(
    scores: np.ndarray, is_positive: np.ndarray, resample_counts: np.ndarray
) -> np.ndarray:
    """(R,) the area under the ROC curve on resamples; NaN where one lacks positives or negatives.

    It is the share of pairs of a positive and a negative in which the positive has the higher
    score, a tie being half a pair (Hanley and McNeil 1982).

    Args:
        scores: (n,).
        is_positive: (n,) bool.
        resample_counts: (R, n) how often each resample holds each of them; ones for the area
            itself.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    positives = (resample_counts * is_positive)[:, order]
    negatives = (resample_counts * ~is_positive)[:, order]
    positives = np.add.reduceat(positives, starts, axis=1)  # (R, different scores)
    negatives = np.add.reduceat(negatives, starts, axis=1)
    below = negatives.cumsum(axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return (positives * below).sum(axis=1) / pairs
