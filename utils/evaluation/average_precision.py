"""Predictions matched to true boxes; the areas under precision-recall curves, COCO's and YOLOv5's.

The headline APs are pycocotools': 55,000 detections take it under half a second, and its matches
are plain arrays that the bootstrap can read (faster-coco-eval: same figures, 0.2 s less, matches
hidden in C++).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from utils.evaluation.results import ImageResult, nan_mean

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
COCO_IOU_THRESHOLDS = np.r_[0.3, IOU_THRESHOLDS]
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
    if not len(boxes_xyxy) or not len(true_boxes_xyxy):
        no_match = np.zeros((len(boxes_xyxy), len(iou_thresholds)), bool)
        return no_match, np.zeros(len(boxes_xyxy), int)
    is_own_class = classes[:, None] == true_classes  # (m, n)
    iou = iou_matrix(boxes_xyxy, true_boxes_xyxy) * is_own_class  # (m, n)
    claimed = iou.argmax(1)  # (m,)
    is_claimed = claimed[:, None] == np.arange(len(true_classes))  # (m, n)
    is_near = iou.max(1)[:, None, None] >= iou_thresholds  # (m, 1, T)
    claims = is_claimed[:, :, None] & is_near  # (m, n, T)
    # The number of claims on each box so far is 1 at the most confident one, and stays 1 after it
    is_first_claim = claims & (claims.cumsum(0) == 1)
    return is_first_claim.any(1), claimed


def iou_matrix(boxes_xyxy: np.ndarray, others_xyxy: np.ndarray) -> np.ndarray:
    """The IoU of every box (m, 4) with every other one (n, 4), (m, n), in float64."""
    boxes = torch.as_tensor(boxes_xyxy, dtype=torch.float64)
    others = torch.as_tensor(others_xyxy, dtype=torch.float64)
    return box_iou(boxes, others).numpy()


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


def coco_evaluation(results: Sequence[ImageResult], class_count: int) -> COCOeval:
    """pycocotools' evaluation, accumulated, over `COCO_IOU_THRESHOLDS`.

    It writes no file and prints nothing. Up to 300 detections per image count; pycocotools' own
    headline takes 100, which can only be lower.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = [(r.true_boxes_xyxy, r.true_classes, np.ones(len(r.true_classes))) for r in results]
        found = [(r.boxes_xyxy, r.classes, r.scores) for r in results]
        evaluation = COCOeval(_coco_data(truth), _coco_data(found), "bbox")
        evaluation.params.catIds = list(range(class_count))
        evaluation.params.iouThrs = COCO_IOU_THRESHOLDS
        evaluation.params.maxDets = [300]
        evaluation.params.areaRng = [[0, np.inf]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _coco_data(images: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> COCO:
    annotations = []
    for image_id, (boxes_xyxy, classes, scores) in enumerate(images):
        low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
        corner_and_size = np.hstack((low, high - low))
        rows = zip(corner_and_size.tolist(), classes.tolist(), scores.tolist(), strict=True)
        for number, (box, box_class, score) in enumerate(rows, start=len(annotations) + 1):
            # ids start at 1, as pycocotools reads a match with id 0 as no match
            annotations.append(
                {
                    "id": number,
                    "image_id": image_id,
                    "category_id": box_class,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                }
            )
    data = COCO()
    image_ids = [{"id": image_id} for image_id in range(len(images))]
    data.dataset = {"images": image_ids, "annotations": annotations, "categories": []}
    data.createIndex()
    return data


def coco_matches(evaluation: COCOeval, detections: int) -> np.ndarray:
    """The true box that COCO matches to each detection at IoU 0.5, else -1; (detections,).

    Detections and true boxes are numbered over all images, in the order of the results.
    """
    matches = np.full(detections, -1)
    for record in filter(None, evaluation.evalImgs):
        # ids start at 1, so that 0 is no match
        matches[np.array(record["dtIds"], int) - 1] = record["dtMatches"][1].astype(int) - 1
    return matches


def coco_ap(is_right: np.ndarray, boxes: int) -> float:
    """COCO's AP of detections by falling score, (n,) bool.

    Each right one finds one of `boxes` true boxes.
    """
    found = is_right.cumsum()
    precision = _envelope(found / np.arange(1, len(found) + 1))
    reached = np.searchsorted(COCO_RECALLS, found / boxes, side="right")
    return float((precision * np.diff(reached, prepend=0)).sum() / len(COCO_RECALLS))


def resampled_ap(evaluation: COCOeval, resample_counts: np.ndarray) -> np.ndarray:
    """COCO AP (R, T), mean over classes, on resamples of the images.

    Uses the matches already made; a resample that holds every image once gives back the AP itself.

    Args:
        resample_counts: (R, images), how often each resample holds each image.
    """
    images = resample_counts.shape[1]
    records = evaluation.evalImgs
    weights = resample_counts.astype(float)
    areas = []
    for first in range(0, len(records), images):
        ranked = _ranked_matches(records[first : first + images])
        areas.append(_resampled_class_ap(ranked, weights))
    return nan_mean(np.array(areas), 0)


@dataclass(frozen=True)
class _RankedMatches:
    """A class's detections by falling score, and its true boxes."""

    image: np.ndarray  # (n,) index of the image that a detection is in
    is_matched: np.ndarray  # (T, n) bool
    true_counts: np.ndarray  # (images,) true boxes of the class


def _resampled_class_ap(ranked: _RankedMatches, weights: np.ndarray) -> np.ndarray:
    """The APs (R, T) of a class, where image i counts `weights[r, i]` times in resample r.

    Example: image 0 has two true boxes, and by falling score the class's detections are right in
    image 0, wrong in image 1, right in image 0. With weights (2, 1) there are 4 true boxes, and
    at the two right detections 2 and 4 hits of 2 and 5 detections: precision 1 up to recall 1/2,
    and 4/5 from there to recall 1.
    """
    # Precision's envelope changes at true positives only, so all else is counted up to those rows
    rows = np.flatnonzero(ranked.is_matched.any(0))
    boxes = (weights @ ranked.true_counts)[:, None]  # (R, 1)
    detections = np.maximum(weights @ _detections_up_to(rows, ranked).T, 1)  # (R, rows)
    row_weights = weights[:, ranked.image[rows]]  # (R, rows)
    areas = np.empty((len(weights), len(ranked.is_matched)))
    for column, is_matched in enumerate(ranked.is_matched[:, rows]):
        hits = (row_weights * is_matched).cumsum(1)
        reached = np.searchsorted(COCO_RECALLS, hits / np.maximum(boxes, 1), side="right")
        newly_reached = np.diff(reached, prepend=0)  # of COCO's recalls, by each row
        areas[:, column] = (_envelope(hits / detections) * newly_reached).sum(1)
    return np.where(boxes > 0, areas / len(COCO_RECALLS), np.nan)


def _detections_up_to(rows: np.ndarray, ranked: _RankedMatches) -> np.ndarray:
    """How many of the detections up to each of `rows` are in each image, (rows, images)."""
    next_row = np.searchsorted(rows, np.arange(len(ranked.image)))
    between = np.zeros((len(rows) + 1, len(ranked.true_counts)))  # the last: after all rows
    np.add.at(between, (next_row, ranked.image), 1)
    return between[:-1].cumsum(0)


def _ranked_matches(records: Sequence[dict | None]) -> _RankedMatches:
    """From COCO's records of one class, one for each image; None: neither box nor detection."""
    true_counts = np.zeros(len(records), int)
    images = [np.zeros(0, int)]
    scores = [np.zeros(0)]
    is_matched = [np.zeros((len(COCO_IOU_THRESHOLDS), 0), bool)]
    for index, record in enumerate(records):
        if record:
            true_counts[index] = len(record["gtIds"])
            images.append(np.full(len(record["dtIds"]), index))
            scores.append(record["dtScores"])
            is_matched.append(record["dtMatches"] > 0)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    image = np.concatenate(images)[order]
    return _RankedMatches(image, np.concatenate(is_matched, axis=1)[:, order], true_counts)


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
