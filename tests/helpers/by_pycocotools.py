"""Matches, precision and resampled APs as pycocotools' evaluation gives them, box by box."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from utils.evaluation.matching import COCO_IOU_THRESHOLDS
from utils.evaluation.results import ImageResult, nan_mean

RECALLS = np.linspace(0, 1, 101)


def coco_eval(results: Sequence[ImageResult], class_count: int) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = [(r.true_boxes_xyxy, r.true_classes, np.ones(len(r.true_classes))) for r in results]
        found = [(r.boxes_xyxy, r.classes, r.scores) for r in results]
        evaluation = COCOeval(_data(truth), _data(found), "bbox")
        evaluation.params.catIds = list(range(class_count))
        evaluation.params.iouThrs = COCO_IOU_THRESHOLDS
        evaluation.params.maxDets = [300]
        evaluation.params.areaRng = [[0, np.inf]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _data(images: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> COCO:
    annotations = []
    for image_id, (boxes_xyxy, classes, scores) in enumerate(images):
        low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
        rows = zip(np.hstack((low, high - low)).tolist(), classes.tolist(), scores, strict=True)
        for number, (box, box_class, score) in enumerate(rows, start=len(annotations) + 1):
            # ids start at 1, as pycocotools reads a match with id 0 as no match
            ids = {"id": number, "image_id": image_id, "category_id": box_class}
            area = box[2] * box[3]
            annotations.append(
                ids | {"bbox": box, "area": area, "iscrowd": 0, "score": float(score)}
            )
    data = COCO()
    image_ids = [{"id": image_id} for image_id in range(len(images))]
    data.dataset = {"images": image_ids, "annotations": annotations, "categories": []}
    data.createIndex()
    return data


def precision_of(evaluation: COCOeval) -> np.ndarray:
    """(classes, 101, T); NaN for a class without a true box."""
    precision = evaluation.eval["precision"][..., 0, 0].T
    return np.where(precision < 0, np.nan, precision)


def boxes_taken(evaluation: COCOeval, detections: int) -> np.ndarray:
    """The true box that each detection takes, (detections, T); -1: none."""
    boxes = np.full((detections, len(COCO_IOU_THRESHOLDS)), -1)
    for record in filter(None, evaluation.evalImgs):
        boxes[np.array(record["dtIds"], int) - 1] = record["dtMatches"].T.astype(int) - 1
    return boxes


def resampled(evaluation: COCOeval, resample_counts: np.ndarray) -> np.ndarray:
    """COCO AP (R, T), mean over classes, with every detection counted in every image."""
    images = resample_counts.shape[1]
    weights = resample_counts.astype(float)
    records = evaluation.evalImgs
    areas = []
    for first in range(0, len(records), images):
        areas.append(_resampled_class(records[first : first + images], weights))
    return nan_mean(np.array(areas), 0)


def _resampled_class(records: Sequence[dict | None], weights: np.ndarray) -> np.ndarray:
    true_counts = np.zeros(len(records), int)
    images, scores, matches = [], [], []
    for index, record in enumerate(records):
        if record:
            true_counts[index] = len(record["gtIds"])
            images += [index] * len(record["dtIds"])
            scores += list(record["dtScores"])
            matches += list(record["dtMatches"].T > 0)
    order = np.argsort(-np.array(scores), kind="stable")
    image = np.array(images, int)[order]
    is_matched = np.array(matches, bool).reshape(-1, len(COCO_IOU_THRESHOLDS))[order]
    boxes = (weights @ true_counts)[:, None]
    seen = np.maximum(weights[:, image].cumsum(1), 1)
    areas = np.empty((len(weights), len(COCO_IOU_THRESHOLDS)))
    for column in range(is_matched.shape[1]):
        hits = (weights[:, image] * is_matched[:, column]).cumsum(1)
        reached = np.searchsorted(RECALLS, hits / np.maximum(boxes, 1), side="right")
        envelope = np.maximum.accumulate((hits / seen)[:, ::-1], axis=1)[:, ::-1]
        areas[:, column] = (envelope * np.diff(reached, prepend=0)).sum(1)
    return np.where(boxes > 0, areas / len(RECALLS), np.nan)
