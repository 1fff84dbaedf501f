"""What an evaluation says to those who screen frames: FROC, and sensitivity and specificity of whole frames.

`utils.evaluation.metrics.summarise` reports both. A figure that is undefined is NaN, as there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.evaluation.intervals import figure_interval, kish

FROC_RATES = 2.0 ** (
    np.arange(-60, 61) / 20
)  # false positives a frame; every 20th is 1/8, 1/4, ..., 8
NO_NEGATIVES = "no negative frames: image-level specificity cannot be measured"
Z_95 = 1.959964  # the normal distribution's 97.5 % quantile


def froc(
    names: Sequence[str],
    is_hit: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    true_classes: np.ndarray,
    images: int,
) -> dict:
    """Free-response ROC: the share of true boxes found at 1/8, 1/4, ..., 8 false positives a frame, and their mean.

    These seven rates are LUNA16's (Setio et al. 2017), their mean is Niemeijer et al.'s (2011)
    competition performance metric; here with frames for scans. Each class has a threshold of its
    own and its false positives are counted alone. A second detection of a box is false, as in AP
    (LUNA16 ignores it), and nothing is interpolated: a sensitivity is one that a threshold reaches
    with no more false positives than that.

    Args:
        is_hit, scores, classes: (n,) of all detections: true positive or not, confidence, class.
        true_classes: (m,) of all true boxes.
    """
    true_counts = np.bincount(true_classes, minlength=len(names))
    detected = (
        (is_hit[classes == number], scores[classes == number]) for number in range(len(names))
    )
    allowed = FROC_RATES * images
    curve = np.array(
        [
            _sensitivity(*own, count, allowed)
            for own, count in zip(detected, true_counts, strict=True)
        ]
    )
    at_rates = curve[:, ::20]
    mean = (
        at_rates[true_counts > 0].mean(axis=0)
        if true_counts.any()
        else np.full(at_rates.shape[1], np.nan)
    )
    rows = zip(names, at_rates, strict=True)
    return {
        "false_positives": FROC_RATES[::20],
        "sensitivity": mean,
        "mean": mean.mean(),
        "per_class": [
            {"name": name, "sensitivity": values, "mean": values.mean()} for name, values in rows
        ],
        "curve": {"false_positives": FROC_RATES, "sensitivity": curve},
    }


def _sensitivity(
    is_hit: np.ndarray, scores: np.ndarray, true_count: int, allowed: np.ndarray
) -> np.ndarray:
    """The largest share of true boxes found with at most `allowed` (r,) false positives."""
    if not true_count:
        return np.full(len(allowed), np.nan)
    order = np.argsort(-scores, kind="stable")
    is_threshold = (
        np.diff(scores[order], append=-np.inf) < 0
    )  # detections of the same score come together
    hits, false = (np.r_[0, own[order].cumsum()[is_threshold]] for own in (is_hit, ~is_hit))
    return hits[np.searchsorted(false, allowed, side="right") - 1] / true_count


def frame_rates(
    names: Sequence[str],
    present: np.ndarray,
    called: np.ndarray,
    groups: np.ndarray | None = None,
    draws: np.ndarray | None = None,
) -> dict:
    """Sensitivity and specificity of whole frames, for any finding and for each class, with 95 % intervals.

    Positives are the frames that show the finding, negatives all others, whatever else they show.

    Args:
        present: (images, classes) bool: there is a true box of that class.
        called: (images, classes) bool: a detection of that class reaches the confidence, wherever
            it lies.
        groups: (images,) the patient of each, whose frames are not independent: intervals are then
            those of `utils.evaluation.intervals` for one training, undefined where resamples do not
            differ, as for a rate of 0 or 1. None: intervals are Wilson's.
        draws: (R, images), how often each bootstrap resample of groups holds an image; None: no
            intervals.
    """
    present, called = (np.column_stack((each.any(axis=1), each)) for each in (present, called))
    columns = {"name": ["any finding", *names]}
    for rate, kind, truth, said in (
        ("sensitivity", "positive", present, called),
        ("specificity", "negative", ~present, ~called),
    ):
        right, count = truth & said, truth.sum(axis=0)
        limits = np.full((len(count), 2), np.nan)
        if draws is not None:
            limits = (
                wilson(right.sum(0), count)
                if groups is None
                else _limits(right, truth, groups, draws)
            )
        in_groups = [None if groups is None else len(set(groups[own])) for own in truth.T]
        columns |= {f"{kind}s": count, f"{kind}_groups": in_groups}
        columns |= {rate: _ratio(right.sum(axis=0), count), f"{rate}_interval": limits}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    note = None if rows[0]["negatives"] else NO_NEGATIVES
    return {"any": rows[0] | {"note": note}, "per_class": rows[1:]}


def wilson(hits: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """The 95 % score interval (n, 2) of `hits` (n,) in `trials` (n,) (Wilson 1927); NaN for no trials."""
    share = _ratio(hits, trials)
    spread = Z_95**2 / np.maximum(trials, 1)
    half = np.sqrt(spread * (share * (1 - share) + spread / 4))
    limits = (
        np.column_stack((share + spread / 2 - half, share + spread / 2 + half))
        / (1 + spread)[:, None]
    )
    return limits.clip(0, 1)


def _limits(
    right: np.ndarray, truth: np.ndarray, groups: np.ndarray, draws: np.ndarray
) -> np.ndarray:
    """The 95 % intervals (n, 2) of the shares of `truth` (images, n) that are `right`, over groups (images,)."""
    values, drawn = (
        _ratio(right.sum(axis=0), truth.sum(axis=0)),
        _ratio(draws @ right, draws @ truth),
    )
    is_own = np.unique(groups)[:, None] == groups  # (groups, images)
    weights = is_own @ truth.astype(int)  # (groups, n)
    rows = zip(values, drawn.T, weights.T, strict=True)
    return np.array([figure_interval(value, own, kish(behind)) for value, own, behind in rows])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return part / whole
