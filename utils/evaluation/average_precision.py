"""The areas under precision-recall curves, COCO's and YOLOv5's, and COCO's on resampled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.evaluation.matching import IOU_THRESHOLDS, Boxes, Matches, Overlaps, first_claims
from utils.evaluation.results import ImageResult, nan_mean

AT_ONCE = 300_000  # detections times resamples: so few that the processor's cache holds them
COCO_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class YoloAP:
    """YOLOv5-style curves at the first IoU threshold, and APs at all of them.

    There is a row for every class with a true box.
    """

    classes: np.ndarray  # (c,)
    confidence: np.ndarray  # (1000,) grid of the curves
    precision: np.ndarray  # (c, 1000)
    recall: np.ndarray  # (c, 1000)
    ap: np.ndarray  # (c, T)

    @property
    def best_confidence(self) -> float | None:
        """Where the mean F1 over classes, smoothed by a box 10 % of the grid wide, is highest.

        Above 0, at which every box counts. None where F1 is 0 at every confidence: there is nothing
        to choose by.
        """
        f1 = _f1(self.precision, self.recall)
        if not f1.any():
            return None
        smooth = _box_filter(f1.mean(0), width=len(self.confidence) // 10 + 1)
        return float(self.confidence[1 + smooth[1:].argmax()])

    def at(self, confidence: float | None) -> np.ndarray:
        """Precision, recall and F1 (3, c) at a confidence threshold.

        None: no threshold has a hit, so all are 0.
        """
        if confidence is None:
            return np.zeros((3, len(self.classes)))
        precision = self._read_off(self.precision, confidence)
        recall = self._read_off(self.recall, confidence)
        return np.array([precision, recall, _f1(precision, recall)])

    def _read_off(self, curves: np.ndarray, confidence: float) -> np.ndarray:
        """The values (c,) of curves (c, 1000) at a confidence."""
        return np.array([np.interp(confidence, self.confidence, curve) for curve in curves])


def match_predictions(
    boxes_xyxy: np.ndarray,
    classes: np.ndarray,
    true_boxes_xyxy: np.ndarray,
    true_classes: np.ndarray,
    iou_thresholds: np.ndarray = IOU_THRESHOLDS,
) -> tuple[np.ndarray, np.ndarray]:
    """Match predictions (m) to true boxes (n), as YOLOv5 v7.0 validates.

    The predictions are sorted by falling confidence. A prediction claims the true box of its class
    with the highest IoU, and a true box takes its most confident claimant. Each is matched at most
    once, and leaving out the least confident predictions changes no other match. Returns tp (m, T),
    and for every prediction the index of the true box it claims (m,), which has no meaning where it
    is no true positive.
    """
    truth = Boxes.of([true_classes], [true_boxes_xyxy])
    found = Boxes.of([classes], [boxes_xyxy])
    overlaps = Overlaps.of(truth, found)
    return claims(overlaps, len(true_classes), iou_thresholds), overlaps.own_box


def claims(
    overlaps: Overlaps, boxes: int, iou_thresholds: np.ndarray = IOU_THRESHOLDS
) -> np.ndarray:
    """`first_claims` (m, T) of detections on the true boxes of their class."""
    tp = np.zeros((len(overlaps.own), len(iou_thresholds)), bool)
    for column, threshold in enumerate(iou_thresholds):
        tp[:, column] = first_claims(overlaps.own, overlaps.own_box, threshold, boxes)
    return tp


def yolo_ap(
    tp: np.ndarray, confidence: np.ndarray, predicted_classes: np.ndarray, true_classes: np.ndarray
) -> YoloAP:
    """YOLOv5-style curves and APs from matches `tp` (n, T) of predictions (n,).

    `true_classes` (m,) are those of all true boxes. AP is the area under the envelope of precision,
    interpolated between the measured points at 101 recalls; COCO's does not interpolate.
    """
    order = np.argsort(-confidence, kind="stable")
    tp = tp[order]
    confidence = confidence[order]
    predicted_classes = predicted_classes[order]
    grid = np.linspace(0, 1, 1000)
    classes, true_counts = np.unique(true_classes.astype(int), return_counts=True)
    precisions = np.zeros((len(classes), len(grid)))
    recalls = np.zeros_like(precisions)
    ap = np.zeros((len(classes), tp.shape[1]))
    for row, (box_class, true_count) in enumerate(zip(classes, true_counts, strict=True)):
        own = predicted_classes == box_class
        if not own.any():
            continue
        hits = tp[own].cumsum(0)
        recall = hits / true_count
        precision = hits / np.arange(1, len(hits) + 1)[:, None]
        recalls[row] = np.interp(-grid, -confidence[own], recall[:, 0], left=0)
        precisions[row] = np.interp(-grid, -confidence[own], precision[:, 0], left=1)
        ap[row] = [_area(*curve) for curve in zip(recall.T, precision.T, strict=True)]
    return YoloAP(classes, grid, precisions, recalls, ap)


def coco_evaluation(results: Sequence[ImageResult], class_count: int) -> Matches:
    """The detections of all images matched to the true ones; at most 300 an image count."""
    truth = Boxes.of([r.true_classes for r in results], [r.true_boxes_xyxy for r in results])
    found = Boxes.of([r.classes for r in results], [r.boxes_xyxy for r in results])
    scores = np.concatenate([result.scores for result in results])
    return Matches.of(truth, found, scores, class_count)


def coco_precision(evaluation: Matches) -> np.ndarray:
    """Precision at `COCO_RECALLS`, (classes, 101, T), NaN for a class without a true box.

    The same numbers as pycocotools', down to what it adds to a count so as not to divide by 0.
    """
    shape = (evaluation.class_count, len(COCO_RECALLS), evaluation.is_right.shape[1])
    precision = np.full(shape, np.nan)
    for index in range(evaluation.class_count):
        boxes = (evaluation.truth.classes == index).sum()
        if not boxes:
            continue
        rows = _by_score(evaluation, index)
        seen = np.arange(1, len(rows) + 1) + np.spacing(1)
        for column, is_right in enumerate(evaluation.is_right[rows].T):
            found = is_right.cumsum()
            highest = np.append(_envelope(found / seen), 0)
            first = np.searchsorted(found / boxes, COCO_RECALLS)
            precision[index, :, column] = highest[first]
    return precision


def _by_score(evaluation: Matches, index: int) -> np.ndarray:
    """The numbers of a class's detections, by falling score."""
    own = np.flatnonzero(evaluation.found.classes == index)
    return own[np.argsort(-evaluation.scores[own], kind="stable")]


def coco_ap(is_right: np.ndarray, boxes: int) -> float:
    """COCO's AP of detections by falling score, (n,) bool.

    Each right one finds one of `boxes` true boxes.
    """
    found = is_right.cumsum()
    precision = _envelope(found / np.arange(1, len(found) + 1))
    reached = np.searchsorted(COCO_RECALLS, found / boxes, side="right")
    return float((precision * np.diff(reached, prepend=0)).sum() / len(COCO_RECALLS))


def resampled_ap(evaluation: Matches, resample_counts: np.ndarray) -> np.ndarray:
    """COCO AP (R, T), mean over classes, on resamples of the images.

    Uses the matches already made; a resample that holds every image once gives back the AP itself.

    Args:
        resample_counts: (R, images), how often each resample holds each image.
    """
    weights = resample_counts.astype(np.int32)
    areas = [
        _resampled_class_ap(evaluation, index, weights) for index in range(evaluation.class_count)
    ]
    return nan_mean(np.array(areas), 0)


def _resampled_class_ap(evaluation: Matches, index: int, weights: np.ndarray) -> np.ndarray:
    """The APs (R, T) of a class, where image i counts `weights[r, i]` times in resample r.

    Example: image 0 has two true boxes, and by falling score the class's detections are right in
    image 0, wrong in image 1, right in image 0. With weights (2, 1) there are 4 true boxes, and
    at the two right detections 2 and 4 hits of 2 and 5 detections: precision 1 up to recall 1/2,
    and 4/5 from there to recall 1.
    """
    rows = _by_score(evaluation, index)
    image = evaluation.found.image[rows]
    right = [np.flatnonzero(is_right) for is_right in evaluation.is_right[rows].T]
    own = evaluation.truth.image[evaluation.truth.classes == index]
    boxes = weights @ np.bincount(own, minlength=evaluation.images)  # (R,)
    areas = np.empty((len(weights), len(right)))
    at_once = max(1, AT_ONCE // (len(rows) + 1))
    for first in range(0, len(weights), at_once):
        part = slice(first, first + at_once)
        counts = weights[part].take(image, axis=1)  # (r, n)
        seen = counts.cumsum(axis=1, dtype=np.int32).clip(1)
        least_hits = _least_hits(boxes[part])
        for column, hit in enumerate(right):
            found = counts.take(hit, axis=1).cumsum(axis=1, dtype=np.int32)
            areas[part, column] = _areas(found, seen.take(hit, axis=1), least_hits)
    return np.where(boxes[:, None] > 0, areas, np.nan)


def _areas(found: np.ndarray, seen: np.ndarray, least_hits: np.ndarray) -> np.ndarray:
    """COCO's APs (r,), of what was found and seen up to each right detection (r, n).

    Precision has its highest values there. Of its maximum from a recall on, only the 101 values at
    COCO's recalls are made, from the maxima between them.
    """
    resamples, hits = found.shape
    precision = np.empty((resamples, hits + 1))
    precision[:, hits] = 0  # at recalls that are not reached
    np.divide(found, seen, out=precision[:, :hits])
    firsts = np.empty((resamples, len(COCO_RECALLS)), int)
    for row, (own, least) in enumerate(zip(found, least_hits, strict=True)):
        firsts[row] = own.searchsorted(least)
    firsts += np.arange(resamples)[:, None] * (hits + 1)
    between = np.maximum.reduceat(precision.ravel(), firsts.ravel())
    return _envelope(between.reshape(firsts.shape)).mean(axis=1)


def _least_hits(boxes: np.ndarray) -> np.ndarray:
    """How many of so many boxes (r,) have to be found for each of COCO's recalls, (r, 101)."""
    counts = np.maximum(boxes, 1)[:, None]
    least = np.rint(COCO_RECALLS * counts)
    least += least / counts < COCO_RECALLS
    return least.astype(np.int32)


def _box_filter(values: np.ndarray, width: int) -> np.ndarray:
    """The moving mean over `width`, an odd number, of values (n,), whose ends are extended."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    return 2 * precision * recall / (precision + recall + 1e-16)


def _envelope(precision: np.ndarray) -> np.ndarray:
    """The highest precision at this or any higher recall, along the last axis."""
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    heights = np.interp(COCO_RECALLS, np.r_[0, recall, 1], _envelope(np.r_[1, precision, 0]))
    return (heights[1:] + heights[:-1]).mean() / 2
