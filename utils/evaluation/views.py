"""The figures of the view: accuracy, recalls, AUROC, calibration, and what the labels alone would score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from utils.evaluation.results import (
    NO_INTERVALS,
    ImageResult,
    ViewPrior,
    effective_groups,
    groups_behind,
    interval_figures,
    nan_mean,
)

VIEW_RATES = ("recall", "precision", "f1")


def calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the top-1 probability (Guo et al. 2017, eq. 3), equal-width bins.

    `probabilities` (n, v), `truth` (n,).
    """
    top = probabilities.max(1).astype(float)
    gap = (probabilities.argmax(1) == truth) - top
    bin_index = np.clip(np.ceil(top * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(bin_index, weights=gap)).sum() / len(truth))


def _probability_figures(labelled: Sequence[ImageResult]) -> dict[str, float]:
    """AUROC, one view against the rest, mean over the views present (undefined for only one); and ECE."""
    if not labelled:
        return {"auroc": np.nan, "ece": np.nan}
    truth = np.array([result.true_view for result in labelled])
    probabilities = np.array([result.view_probabilities for result in labelled])
    views = np.unique(truth)
    areas = (
        [roc_auc_score(truth == v, probabilities[:, v]) for v in views] if len(views) > 1 else []
    )
    return {"auroc": nan_mean(areas), "ece": calibration_error(probabilities, truth)}


def _view_rates(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Rates from confusion matrices (..., true, predicted); those of a view that is absent are NaN."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    images, predicted = confusion.sum(-1), confusion.sum(-2)
    with np.errstate(invalid="ignore"):
        accuracy, recall = right.sum(-1) / images.sum(-1), right / images
    precision = np.where(images > 0, right / np.maximum(predicted, 1), np.nan)
    f1 = np.where(images > 0, 2 * right / np.maximum(images + predicted, 1), np.nan)
    means = {
        "accuracy": accuracy,
        "balanced_accuracy": nan_mean(recall, -1),
        "macro_f1": nan_mean(f1, -1),
    }
    return means | {"images": images, "recall": recall, "precision": precision, "f1": f1}


def _has_view(result: ImageResult) -> bool:
    return result.true_view >= 0 and len(result.view_probabilities) > 0


def _view_confusions(results: Sequence[ImageResult], view_count: int) -> np.ndarray:
    """The confusion (true, predicted) of every image by itself; zeros where a view is unknown or not predicted."""
    confusions = np.zeros((len(results), view_count, view_count), int)
    for confusion, result in zip(confusions, results, strict=True):
        if _has_view(result):
            confusion[result.true_view, result.view_probabilities.argmax()] = 1
    return confusions


def view_counts(results: Sequence[ImageResult], view_count: int) -> np.ndarray:
    """1 where an image has that known view, and one was predicted, (images, views)."""
    return _view_confusions(results, view_count).sum(axis=2)


def resampled_view_rates(
    results: Sequence[ImageResult], view_count: int, draws: np.ndarray
) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy, ... (R,), where image i occurs `draws[r, i]` times in resample r."""
    return _view_rates(np.tensordot(draws, _view_confusions(results, view_count), 1))


def view_metrics(
    results: Sequence[ImageResult],
    names: Sequence[str],
    view_names: Sequence[str],
    prior: ViewPrior | None = None,
    draws: np.ndarray | None = None,
) -> dict:
    """The figures of the view, over images with a known view and a predicted one; `draws` as above."""
    labelled = [result for result in results if _has_view(result)]
    confusion = _view_confusions(results, len(view_names)).sum(0)
    rates, counts = _view_rates(confusion), view_counts(results, len(view_names))
    keys = ("name", "images", "groups", *VIEW_RATES)
    columns = (rates["images"], groups_behind(results, counts), *(rates[key] for key in VIEW_RATES))
    rows = zip(view_names, *columns, strict=True)
    return {
        "images": len(labelled),
        **{key: rates[key] for key in ("accuracy", "balanced_accuracy", "macro_f1")},
        **_probability_figures(labelled),
        "per_view": [dict(zip(keys, row, strict=True)) for row in rows],
        "confusion": confusion,
        **_baselines(labelled, names, view_names, prior),
        **_resampled(results, counts, rates, draws),
    }


def _resampled(
    results: Sequence[ImageResult],
    counts: np.ndarray,
    rates: Mapping[str, np.ndarray],
    draws: np.ndarray | None,
) -> dict:
    """The intervals of accuracy and balanced accuracy, and what is behind them; see `metrics.summarise`."""
    if draws is None or not counts.any():
        return NO_INTERVALS
    groups = effective_view_groups(results, counts)
    resampled = resampled_view_rates(results, counts.shape[1], draws)
    return interval_figures(rates, {key: resampled[key] for key in groups}, groups, counts, draws)


def effective_view_groups(results: Sequence[ImageResult], counts: np.ndarray) -> dict[str, float]:
    """Kish's number of groups behind the accuracy, which weighs frames, and the balanced one, which weighs views.

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
) -> dict:
    """What the training labels alone would score on these images."""
    if prior is None:
        return {"majority_baseline": None, "class_lookup_baseline": None}
    truth = np.array([result.true_view for result in labelled], int)
    looked_up = np.array([prior.lookup(result.true_classes) for result in labelled], int)
    table = {names[box_class]: view_names[view] for box_class, view in prior.by_class.items()}
    return {
        "majority_baseline": {
            "view": view_names[prior.majority],
            "accuracy": nan_mean(truth == prior.majority),
        },
        "class_lookup_baseline": {"accuracy": nan_mean(truth == looked_up), "table": table},
    }
