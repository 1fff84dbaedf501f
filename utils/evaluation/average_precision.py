"""Predictions matched to true boxes, and the areas under their precision-recall curves: COCO's and YOLOv5's.

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
    """YOLOv5-style curves at the first IoU threshold and APs at all, a row per class with a true box."""

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
        width = len(self.confidence) // 10 + 1
        curve = np.pad(f1.mean(0), width // 2, mode="edge")
        smooth = np.convolve(curve, np.full(width, 1 / width), mode="valid")
        return float(self.confidence[1 + smooth[1:].argmax()])

    def at(self, confidence: float | None) -> np.ndarray:
        """Precision, recall and F1 (3, c) at a confidence threshold; None: no threshold has a hit, so all are 0."""
        if confidence is None:
            return np.zeros((3, len(self.classes)))
        precision, recall = (
            np.array([np.interp(confidence, self.confidence, curve) for curve in curves])
            for curves in (self.precision, self.recall)
        )
        return np.array([precision, recall, _f1(precision, recall)])


def match_predictions(
    boxes_xyxy: np.ndarray,
    classes: np.ndarray,
    true_boxes_xyxy: np.ndarray,
    true_classes: np.ndarray,
    iou_thresholds: np.ndarray = IOU_THRESHOLDS,
) -> tuple[np.ndarray, np.ndarray]:
    """Match predictions (m), sorted by falling confidence, to true boxes (n), as YOLOv5 v7.0 validates.

    A prediction claims the true box of its class with the highest IoU, and a true box takes its
    most confident claimant. Each is matched at most once, and leaving out the least confident
    predictions changes no other match. Returns tp (m, T), and for every prediction the index of the
    true box it claims (m,), which has no meaning where it is no true positive.
    """
    if not len(boxes_xyxy) or not len(true_boxes_xyxy):
        return np.zeros((len(boxes_xyxy), len(iou_thresholds)), bool), np.zeros(
            len(boxes_xyxy), int
        )
    corners = (
        torch.as_tensor(boxes, dtype=torch.float64) for boxes in (boxes_xyxy, true_boxes_xyxy)
    )
    iou = box_iou(*corners).numpy() * (classes[:, None] == true_classes)
    claimed = iou.argmax(1)
    is_claimed = claimed[:, None] == np.arange(len(true_classes))  # (m, n)
    claims = is_claimed[:, :, None] & (iou.max(1)[:, None, None] >= iou_thresholds)  # (m, n, T)
    return (claims & (claims.cumsum(0) == 1)).any(1), claimed


def yolo_ap(
    tp: np.ndarray, confidence: np.ndarray, predicted_classes: np.ndarray, true_classes: np.ndarray
) -> YoloAP:
    """YOLOv5-style curves and APs from matches `tp` (n, T) of predictions (n,) and all true classes (m,).

    AP is the area under the envelope of precision, interpolated between the measured points at 101
    recalls; COCO's does not interpolate.
    """
    order = np.argsort(-confidence, kind="stable")
    tp, confidence, predicted_classes = tp[order], confidence[order], predicted_classes[order]
    grid = np.linspace(0, 1, 1000)
    classes, true_counts = np.unique(true_classes.astype(int), return_counts=True)
    precisions, recalls = np.zeros((2, len(classes), len(grid)))
    ap = np.zeros((len(classes), tp.shape[1]))
    for row, (box_class, true_count) in enumerate(zip(classes, true_counts, strict=True)):
        own = predicted_classes == box_class
        if not own.any():
            continue
        hits = tp[own].cumsum(0)
        recall, precision = hits / true_count, hits / np.arange(1, len(hits) + 1)[:, None]
        recalls[row] = np.interp(-grid, -confidence[own], recall[:, 0], left=0)
        precisions[row] = np.interp(-grid, -confidence[own], precision[:, 0], left=1)
        ap[row] = [_area(*curve) for curve in zip(recall.T, precision.T, strict=True)]
    return YoloAP(classes, grid, precisions, recalls, ap)


def coco_evaluation(results: Sequence[ImageResult], class_count: int) -> COCOeval:
    """pycocotools' evaluation, accumulated, over `COCO_IOU_THRESHOLDS`; writes no file and prints nothing.

    Up to 300 detections per image count; pycocotools' own headline takes 100, which can only be
    lower.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = [(r.true_boxes_xyxy, r.true_classes, np.ones(len(r.true_classes))) for r in results]
        found = [(r.boxes_xyxy, r.classes, r.scores) for r in results]
        evaluation = COCOeval(_coco_data(truth), _coco_data(found), "bbox")
        evaluation.params.catIds = list(range(class_count))
        evaluation.params.iouThrs = COCO_IOU_THRESHOLDS
        evaluation.params.maxDets = [300]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, np.inf]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _coco_data(images: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> COCO:
    annotations = []
    for image_id, (boxes_xyxy, classes, scores) in enumerate(images):
        corner_and_size = boxes_xyxy - np.pad(boxes_xyxy[:, :2], ((0, 0), (2, 0)))
        rows = zip(corner_and_size.tolist(), classes.tolist(), scores.tolist(), strict=True)
        for number, (box, box_class, score) in enumerate(rows, start=len(annotations) + 1):
            # ids start at 1, as pycocotools reads a match with id 0 as no match
            ids = {"id": number, "image_id": image_id, "category_id": box_class}
            annotations.append(
                ids | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0, "score": score}
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
    """COCO's AP of detections by falling score, (n,) bool, of which each right one finds one of `boxes` true boxes."""
    found = is_right.cumsum()
    precision = _envelope(found / np.arange(1, len(found) + 1))
    reached = np.searchsorted(COCO_RECALLS, found / boxes, side="right")
    return float((precision * np.diff(reached, prepend=0)).sum() / len(COCO_RECALLS))


def resampled_ap(evaluation: COCOeval, draws: np.ndarray) -> np.ndarray:
    """COCO AP (R, T), mean over classes, where image i occurs `draws[r, i]` times in resample r.

    Uses the matches already made; drawing every image once gives back the AP itself.
    """
    images, records = draws.shape[1], evaluation.evalImgs
    by_class = [records[first : first + images] for first in range(0, len(records), images)]
    return nan_mean(
        np.array([_resampled_class_ap(own, draws.astype(float)) for own in by_class]), 0
    )


def _resampled_class_ap(records: Sequence[dict | None], draws: np.ndarray) -> np.ndarray:
    image, matched, true_counts = _ranked_matches(records)
    boxes = (draws @ true_counts)[:, None]  # (R, 1)
    # Precision's envelope changes at true positives only, so all else is counted up to those rows
    rows = np.flatnonzero(matched.any(0))
    between = np.zeros((len(rows) + 1, len(records)))
    np.add.at(between, (np.searchsorted(rows, np.arange(len(image))), image), 1)
    detections = np.maximum(draws @ between[:-1].cumsum(0).T, 1)  # (R, rows)
    areas = np.empty((len(draws), len(matched)))
    for column, is_matched in enumerate(matched[:, rows]):
        hits = (draws[:, image[rows]] * is_matched).cumsum(1)
        reached = np.searchsorted(COCO_RECALLS, hits / np.maximum(boxes, 1), side="right")
        areas[:, column] = (_envelope(hits / detections) * np.diff(reached, prepend=0)).sum(1)
    return np.where(boxes > 0, areas / len(COCO_RECALLS), np.nan)


def _ranked_matches(records: Sequence[dict | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A class's detections by falling score: their image (n,), matched (T, n); and true boxes per image."""
    true_counts = np.array([len(record["gtIds"]) if record else 0 for record in records])
    present = [(index, record) for index, record in enumerate(records) if record]
    if not present:
        return np.zeros(0, int), np.zeros((len(COCO_IOU_THRESHOLDS), 0), bool), true_counts
    order = np.argsort(
        -np.concatenate([record["dtScores"] for _, record in present]), kind="stable"
    )
    image = np.repeat(
        [index for index, _ in present], [len(record["dtIds"]) for _, record in present]
    )
    matched = np.concatenate([record["dtMatches"] for _, record in present], axis=1) > 0
    return image[order], matched[:, order], true_counts


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    return 2 * precision * recall / (precision + recall + 1e-16)


def _envelope(precision: np.ndarray) -> np.ndarray:
    """The highest precision at this or any higher recall, along the last axis."""
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    heights = np.interp(COCO_RECALLS, np.r_[0, recall, 1], _envelope(np.r_[1, precision, 0]))
    return (heights[1:] + heights[:-1]).mean() / 2
