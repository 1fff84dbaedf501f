"""The metrics of the view: accuracy, recalls, AUROC, calibration; what labels alone would score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from utils.evaluation.results import (
    NO_INTERVALS,
    ImageResult,
    ViewPrior,
    effective_groups,
    groups_behind,
    metric_intervals,
    nan_mean,
)

VIEW_RATES = ("recall", "precision", "f1")


def calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the top-1 probability (Guo et al. 2017, eq. 3).

    Of bins of equal width; `probabilities` (n, v), `truth` (n,).
    """
    top = probabilities.max(1).astype(float)
    gap = (probabilities.argmax(1) == truth) - top
    bin_index = np.clip(np.ceil(top * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(bin_index, weights=gap)).sum() / len(truth))


def area_under_roc(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """The share of pairs of a positive and a negative in which the positive has the higher score.

    That is the area under the ROC curve (Hanley and McNeil 1982); a tie is half a pair.

    Args:
        scores: (n,).
        is_positive: (n,) bool; some are, and some are not.
    """
    positives, negatives = scores[is_positive], np.sort(scores[~is_positive])
    below = np.searchsorted(negatives, positives, side="left")
    not_above = np.searchsorted(negatives, positives, side="right")
    return float((below + not_above).sum() / (2 * len(positives) * len(negatives)))


def _probability_metrics(labelled: Sequence[ImageResult]) -> dict[str, float]:
    """AUROC and ECE.

    AUROC is of one view against the rest, the mean over the views present; undefined for only one.
    """
    if not labelled:
        return {"auroc": np.nan, "ece": np.nan}
    truth = np.array([result.true_view for result in labelled])
    probabilities = np.array([result.view_probabilities for result in labelled])
    views = np.unique(truth)
    areas = []
    if len(views) > 1:
        areas = [area_under_roc(probabilities[:, view], truth == view) for view in views]
    return {"auroc": nan_mean(areas), "ece": calibration_error(probabilities, truth)}


def _view_rates(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Rates from confusion matrices (..., true, predicted); those of an absent view are NaN."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    images, predicted = confusion.sum(-1), confusion.sum(-2)
    with np.errstate(invalid="ignore"):
        accuracy = right.sum(-1) / images.sum(-1)
        recall = right / images
    precision = np.where(images > 0, right / np.maximum(predicted, 1), np.nan)
    f1 = np.where(images > 0, 2 * right / np.maximum(images + predicted, 1), np.nan)
    return {
        "accuracy": accuracy,
        "balanced_accuracy": nan_mean(recall, -1),
        "macro_f1": nan_mean(f1, -1),
        "images": images,
        "recall": recall,
        "precision": precision,
        "f1": f1,
    }


def has_view(result: ImageResult) -> bool:
    """Whether the view is known, and one was predicted."""
    return result.true_view >= 0 and len(result.view_probabilities) > 0


def _view_confusions(results: Sequence[ImageResult], view_count: int) -> np.ndarray:
    """The confusion (true, predicted) of every image by itself, (images, views, views).

    Zeros where a view is unknown or not predicted.
    """
    confusions = np.zeros((len(results), view_count, view_count), int)
    for confusion, result in zip(confusions, results, strict=True):
        if has_view(result):
            confusion[result.true_view, result.view_probabilities.argmax()] = 1
    return confusions


def view_counts(results: Sequence[ImageResult], view_count: int) -> np.ndarray:
    """1 where an image has that known view, and one was predicted, (images, views)."""
    return _view_confusions(results, view_count).sum(axis=2)


def resampled_view_rates(
    results: Sequence[ImageResult], view_count: int, resample_counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy, ... (R,) on resamples of the images.

    Args:
        resample_counts: (R, images), how often each resample holds each image.
    """
    confusions = _view_confusions(results, view_count)
    return _view_rates(np.tensordot(resample_counts, confusions, 1))


def view_metrics(
    results: Sequence[ImageResult],
    names: Sequence[str],
    view_names: Sequence[str],
    prior: ViewPrior | None = None,
    resample_counts: np.ndarray | None = None,
) -> dict[str, object]:
    """The part `views` of `utils.evaluation.summary.Summary`, as arrays, and NaN for None.

    It is over images with a known view and a predicted one. `resample_counts` (R, images), how
    often a resample holds an image, adds intervals.
    """
    labelled = [result for result in results if has_view(result)]
    confusion = _view_confusions(results, len(view_names)).sum(0)
    rates = _view_rates(confusion)
    counts = view_counts(results, len(view_names))
    groups = groups_behind(results, counts)
    rows = []
    for index, name in enumerate(view_names):
        row = {"name": name, "images": rates["images"][index], "groups": groups[index]}
        row |= {key: rates[key][index] for key in VIEW_RATES}
        rows.append(row)
    return {
        "images": len(labelled),
        "accuracy": rates["accuracy"],
        "balanced_accuracy": rates["balanced_accuracy"],
        "macro_f1": rates["macro_f1"],
        **_probability_metrics(labelled),
        "per_view": rows,
        "confusion": confusion,
        **_baselines(labelled, names, view_names, prior),
        **_resampled(results, counts, rates, resample_counts),
    }


def _resampled(
    results: Sequence[ImageResult],
    counts: np.ndarray,
    rates: Mapping[str, np.ndarray],
    resample_counts: np.ndarray | None,
) -> dict[str, object]:
    """The intervals of accuracy and balanced accuracy, and what is behind them.

    See `utils.evaluation.metrics.summarise`.
    """
    if resample_counts is None or not counts.any():
        return NO_INTERVALS
    groups = effective_view_groups(results, counts)
    all_resampled = resampled_view_rates(results, counts.shape[1], resample_counts)
    resampled = {key: all_resampled[key] for key in groups}
    return metric_intervals(rates, resampled, groups, counts, resample_counts)


def effective_view_groups(results: Sequence[ImageResult], counts: np.ndarray) -> dict[str, float]:
    """Kish's number of groups behind the accuracy and behind the balanced one.

    The accuracy weighs frames, the balanced one views.

    Args:
        counts: (images, views), as `view_counts` gives them.
    """
    frames = counts.sum(axis=1, keepdims=True)
    return {
        "accuracy": effective_groups(results, frames),
        "balanced_accuracy": effective_groups(results, counts),
    }


def _baselines(
    labelled: Sequence[ImageResult],
    names: Sequence[str],
    view_names: Sequence[str],
    prior: ViewPrior | None,
) -> dict[str, object]:
    """What the training labels alone would score on these images."""
    if prior is None:
        return {"majority_baseline": None, "class_lookup_baseline": None}
    truth = np.array([result.true_view for result in labelled], int)
    looked_up = np.array([prior.lookup(result.true_classes) for result in labelled], int)
    majority_accuracy = nan_mean(truth == prior.majority)
    table = {names[box_class]: view_names[view] for box_class, view in prior.by_class.items()}
    return {
        "majority_baseline": {
            "view": view_names[prior.majority],
            "accuracy": majority_accuracy,
        },
        "class_lookup_baseline": {"accuracy": nan_mean(truth == looked_up), "table": table},
    }
