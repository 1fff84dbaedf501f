"""Truth and prediction of a frame; what the training labels alone say; resamples of patients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from utils.data.label_table import LabelTable
from utils.evaluation.intervals import figure_interval, kish

RESAMPLES = 1000
NO_INTERVALS = {"intervals": {}, "effective_groups": {}, "incomplete_resamples": 0}
SAME_CLIP = "same clip in training"


@dataclass(frozen=True)
class ImageResult:
    """Truth and prediction of one image, boxes in pixels of the original image.

    `group` is the patient, or `image` itself where patients are unknown. Predictions are those
    after NMS, by falling score, at most 300. `view_probabilities` is empty where the model has no
    view head. `bits` are stored in the image if it has 16 a channel, see `utils.core.pixels`.
    `detection_loss` is that of a batch of this image alone, NaN where it was not measured.
    """

    image: str
    group: str
    height: int
    width: int
    true_boxes_xyxy: np.ndarray  # (n, 4)
    true_classes: np.ndarray  # (n,) int
    true_view: int  # -1: unknown
    boxes_xyxy: np.ndarray  # (m, 4)
    scores: np.ndarray  # (m,)
    classes: np.ndarray  # (m,) int
    view_probabilities: np.ndarray  # (v,)
    bits: int | None = None
    detection_loss: float = math.nan


@dataclass(frozen=True)
class ViewPrior:
    """What the training labels alone say about the view: the baselines a view head has to beat."""

    majority: int
    by_class: dict[int, int] = field(default_factory=dict)

    @classmethod
    def fit(cls, labels: LabelTable) -> ViewPrior | None:
        """Learn from the labels of all training images; None if no view is known.

        An image counts once for every class it shows.
        """
        known = labels.views[labels.views >= 0]
        if not len(known):
            return None
        shown = np.column_stack((labels.boxes[:, 0].astype(int), labels.frames))
        classes, frames = np.unique(shown, axis=0).T
        views = labels.views[frames]
        by_class = {}
        for box_class in np.unique(classes[views >= 0]).tolist():
            by_class[box_class] = _most_frequent(views[(classes == box_class) & (views >= 0)])
        return cls(_most_frequent(known), by_class)

    def lookup(self, classes: np.ndarray) -> int:
        """The view that the most frequent box class suggests.

        It is the majority view where there is no box, or one of an unseen class.
        """
        if not len(classes):
            return self.majority
        return self.by_class.get(_most_frequent(classes), self.majority)


def has_no_groups(results: Sequence[ImageResult]) -> bool:
    """No groups are known."""
    return all(result.group == result.image for result in results)


def group_draws(groups: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each image occurs in each bootstrap resample of the groups, (resamples, images)."""
    unique, group_index = np.unique(groups, return_inverse=True)
    shares = np.full(len(unique), 1 / len(unique))
    rng = np.random.default_rng(seed)
    group_counts = rng.multinomial(len(unique), shares, size=resamples)  # (resamples, groups)
    return group_counts[:, group_index]


def counts_by_group(results: Sequence[ImageResult], counts: np.ndarray) -> np.ndarray:
    """The sums over every group's images, (groups, c), of counts (images, c) of boxes or views."""
    unique, group_index = np.unique([result.group for result in results], return_inverse=True)
    sums = np.zeros((len(unique), counts.shape[1]))
    np.add.at(sums, group_index, counts)
    return sums


def groups_behind(results: Sequence[ImageResult], counts: np.ndarray) -> list[int] | list[None]:
    """How many groups each column of `counts` (images, c) comes from; None where none are known."""
    if has_no_groups(results):
        return [None] * counts.shape[1]
    return (counts_by_group(results, counts) > 0).sum(axis=0).tolist()


def effective_groups(results: Sequence[ImageResult], counts: np.ndarray) -> float:
    """Kish's number of the groups behind the mean over the columns of `counts` (images, c).

    A column that is zero throughout is not in that mean. See `utils.evaluation.intervals`.
    """
    sums = counts_by_group(results, counts)
    sums = sums[:, sums.any(axis=0)]
    return kish((sums / sums.sum(axis=0)).sum(axis=1))


def count_incomplete(counts: np.ndarray, resample_counts: np.ndarray) -> int:
    """In how many resamples a column of `counts` (images, c), not zero throughout, is zero."""
    present = counts[:, counts.any(axis=0)]
    is_absent = resample_counts @ present == 0  # (R, c)
    return int(is_absent.any(axis=1).sum())


def metric_intervals(
    metrics: Mapping[str, float],
    resampled: Mapping[str, np.ndarray],
    groups: Mapping[str, float],
    counts: np.ndarray,
    resample_counts: np.ndarray,
) -> dict[str, object]:
    """What `metrics.json` says of intervals.

    Args:
        metrics: name -> value, of those in `resampled` at least.
        resampled: name -> (R,) its values on the resamples.
        groups: name -> Kish's number of the groups behind it.
        counts: (images, c) of the classes that a metric is a mean over.
        resample_counts: (R, images), how often each resample holds each image.
    """
    intervals = {}
    for name, values in resampled.items():
        intervals[name] = figure_interval(metrics[name], values, groups[name])
    incomplete = count_incomplete(counts, resample_counts)
    return {"intervals": intervals, "effective_groups": groups, "incomplete_resamples": incomplete}


def nan_mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of what is not NaN; NaN, without a warning, where nothing is left."""
    values = np.asarray(values, float)
    with np.errstate(invalid="ignore"):
        return np.nansum(values, axis) / (~np.isnan(values)).sum(axis)


def _most_frequent(values: Iterable[int]) -> int:
    return int(np.bincount(values).argmax())
