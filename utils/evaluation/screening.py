"""What an evaluation says to those who screen frames: FROC, sensitivity and specificity of frames.

`utils.evaluation.metrics.summarise` reports them. A figure that is undefined is NaN, as there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.evaluation.intervals import figure_interval, kish

# False positives a frame; every 20th is 1/8, 1/4, ..., 8
FROC_RATES = 2.0 ** (np.arange(-60, 61) / 20)
NO_NEGATIVES = "no negative frames: image-level specificity cannot be measured"
Z_95 = 1.959964  # the normal distribution's 97.5 % quantile


def froc(
    names: Sequence[str],
    is_hit: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    true_classes: np.ndarray,
    images: int,
) -> dict[str, object]:
    """Free-response ROC: the share of true boxes found at 1/8, 1/4, ..., 8 false positives a frame.

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
    curves = []
    for number, true_count in enumerate(true_counts):
        own = classes == number
        curves.append(_sensitivity(is_hit[own], scores[own], true_count, FROC_RATES * images))
    at_rates = np.array(curves)[:, ::20]
    mean = np.full(at_rates.shape[1], np.nan)
    if true_counts.any():
        mean = at_rates[true_counts > 0].mean(axis=0)
    rows = []
    for name, values in zip(names, at_rates, strict=True):
        rows.append({"name": name, "sensitivity": values, "mean": values.mean()})
    return {
        "false_positives": FROC_RATES[::20],
        "sensitivity": mean,
        "mean": mean.mean(),
        "per_class": rows,
        "curve": {"false_positives": FROC_RATES, "sensitivity": np.array(curves)},
    }


def _sensitivity(
    is_hit: np.ndarray, scores: np.ndarray, true_count: int, allowed: np.ndarray
) -> np.ndarray:
    """The largest share of true boxes found with at most `allowed` (r,) false positives."""
    if not true_count:
        return np.full(len(allowed), np.nan)
    order = np.argsort(-scores, kind="stable")
    # Detections of the same score come together
    is_threshold = np.diff(scores[order], append=-np.inf) < 0
    hits = np.r_[0, is_hit[order].cumsum()[is_threshold]]
    false = np.r_[0, (~is_hit)[order].cumsum()[is_threshold]]
    return hits[np.searchsorted(false, allowed, side="right") - 1] / true_count


def frame_rates(
    names: Sequence[str],
    present: np.ndarray,
    called: np.ndarray,
    groups: np.ndarray | None = None,
    resample_counts: np.ndarray | None = None,
) -> dict[str, object]:
    """Sensitivity and specificity of whole frames, for any finding and for each class.

    Positives are the frames that show the finding, negatives all others, whatever else they show.
    The intervals are of 95 %.

    Args:
        present: (images, classes) bool: there is a true box of that class.
        called: (images, classes) bool: a detection of that class reaches the confidence, wherever
            it lies.
        groups: (images,) the patient of each, whose frames are not independent: intervals are then
            those of `utils.evaluation.intervals` for one training, undefined where resamples do not
            differ, as for a rate of 0 or 1. None: intervals are Wilson's.
        resample_counts: (R, images), how often each bootstrap resample of groups holds an image;
            None: no intervals.
    """
    present = np.column_stack((present.any(axis=1), present))  # (images, 1 + classes)
    called = np.column_stack((called.any(axis=1), called))
    rows = [{"name": name} for name in ("any finding", *names)]
    for column, row in enumerate(rows):
        truth = present[:, column]
        said = called[:, column]
        row |= _rate("sensitivity", "positive", truth, said, groups, resample_counts)
        row |= _rate("specificity", "negative", ~truth, ~said, groups, resample_counts)
    note = None
    if not rows[0]["negatives"]:
        note = NO_NEGATIVES
    return {"any": rows[0] | {"note": note}, "per_class": rows[1:]}


def _rate(
    rate: str,
    kind: str,
    truth: np.ndarray,
    said: np.ndarray,
    groups: np.ndarray | None,
    resample_counts: np.ndarray | None,
) -> dict[str, object]:
    """The share of the frames in `truth` (images,) that are also in `said`; what is behind it."""
    is_right = truth & said
    interval = np.full(2, np.nan)
    if resample_counts is not None and groups is None:
        interval = wilson(is_right.sum(), truth.sum())
    elif resample_counts is not None:
        interval = interval_over_groups(is_right, truth, groups, resample_counts)
    group_count = None
    if groups is not None:
        group_count = len(set(groups[truth]))
    return {
        f"{kind}s": truth.sum(),
        f"{kind}_groups": group_count,
        rate: _ratio(is_right.sum(), truth.sum()),
        f"{rate}_interval": interval,
    }


def wilson(hits: np.ndarray, attempts: np.ndarray) -> np.ndarray:
    """The 95 % score interval (..., 2) of `hits` in `attempts`, (...) each (Wilson 1927).

    NaN for no attempts.
    """
    share = _ratio(hits, attempts)
    spread = Z_95**2 / np.maximum(attempts, 1)
    half = np.sqrt(spread * (share * (1 - share) + spread / 4))
    middle = share + spread / 2
    limits = np.stack((middle - half, middle + half), axis=-1) / (1 + spread)[..., None]
    return limits.clip(0, 1)


def interval_over_groups(
    is_right: np.ndarray, truth: np.ndarray, groups: np.ndarray, resample_counts: np.ndarray
) -> np.ndarray:
    """The 95 % interval (2,) of the share of `truth` that is right, over groups.

    Args:
        is_right, truth: (images,) bool, the first only where the second is.
        groups: (images,) the group of each.
        resample_counts: (R, images) how often each resample of groups holds an image.
    """
    value = _ratio(is_right.sum(), truth.sum())
    resampled = _ratio(resample_counts @ is_right, resample_counts @ truth)
    is_own = np.unique(groups)[:, None] == groups  # (groups, images)
    frames_of_group = is_own @ truth.astype(int)  # (groups,)
    return figure_interval(value, resampled, kish(frames_of_group))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return part / whole
