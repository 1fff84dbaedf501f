"""The metrics of the boxes: COCO AP, P/R/F1 at a threshold, localisation error, the confusion.

Some of them have intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools.cocoeval import COCOeval

from utils.core.options import USUAL_CONFIDENCE
from utils.evaluation import screening
from utils.evaluation.average_precision import (
    COCO_RECALLS,
    YoloAP,
    coco_evaluation,
    match_predictions,
    resampled_ap,
    yolo_ap,
)
from utils.evaluation.error_kinds import error_kinds
from utils.evaluation.results import (
    NO_INTERVALS,
    ImageResult,
    effective_groups,
    groups_behind,
    has_no_groups,
    metric_intervals,
    nan_mean,
)

CLASS_METRICS = ("precision", "recall", "f1", "AP_0.5", "AP_0.5:0.95", "AP_0.3")
# (..., 4) xyxy @ XYXY_TO_XYWH = xywh; being linear, it serves differences of boxes as well
XYXY_TO_XYWH = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]])


def box_counts(results: Sequence[ImageResult], class_count: int) -> np.ndarray:
    """How many true boxes of each class an image has, (images, classes)."""
    return np.array([np.bincount(result.true_classes, minlength=class_count) for result in results])


def detection_confusion(
    results: Sequence[ImageResult], class_count: int, confidence: float
) -> np.ndarray:
    """Counts (classes + 1, classes + 1): rows predicted, columns true, the last of each background.

    Matched at IoU 0.5 whatever the class, so a found box of the wrong class shows as a mix-up.
    """
    counts = np.zeros((class_count + 1, class_count + 1), int)
    for result in results:
        kept = result.scores >= confidence
        classes = result.classes[kept]
        true_classes = result.true_classes
        tp, claimed = match_predictions(
            result.boxes_xyxy[kept],
            np.zeros_like(classes),  # as if there were one class
            result.true_boxes_xyxy,
            np.zeros_like(true_classes),
        )
        hit = tp[:, 0]
        missed = np.setdiff1d(np.arange(len(true_classes)), claimed[hit])
        np.add.at(counts, (classes[hit], true_classes[claimed[hit]]), 1)
        np.add.at(counts, (classes[~hit], class_count), 1)
        np.add.at(counts, (class_count, true_classes[missed]), 1)
    return counts


def detection_metrics(
    results: Sequence[ImageResult],
    names: Sequence[str],
    confidence: float | None = None,
    resample_counts: np.ndarray | None = None,
) -> dict[str, object]:
    """The part `detection` of `utils.evaluation.summary.Summary`, as arrays, and NaN for None.

    `resample_counts` (R, images), how often a resample holds an image, adds intervals.

    Where no confidence is given and none finds a box, there is no threshold: `confidence` is None,
    and what needs one is taken at the usual.
    """
    matches = [
        match_predictions(r.boxes_xyxy, r.classes, r.true_boxes_xyxy, r.true_classes)
        for r in results
    ]
    tp = np.concatenate([tp for tp, _ in matches])
    scores = np.concatenate([result.scores for result in results])
    classes = np.concatenate([result.classes for result in results])
    true_classes = np.concatenate([result.true_classes for result in results])
    curves = yolo_ap(tp, scores, classes, true_classes)
    chosen, source = _choose_confidence(curves, confidence)
    threshold = chosen
    if chosen is None:
        threshold = USUAL_CONFIDENCE
    evaluation = coco_evaluation(results, len(names))
    coco_curves = _coco_curves(evaluation)
    rows = _per_class(results, names, curves, threshold, coco_curves.mean(1))
    means = {}
    for key in CLASS_METRICS:
        means[key.replace("AP", "mAP")] = nan_mean([row[key] for row in rows])
    return {
        **means,
        "confidence": chosen,
        "confidence_source": source,
        "yolov5_mAP_0.5": nan_mean(curves.ap[:, 0]),
        "yolov5_mAP_0.5:0.95": nan_mean(curves.ap),
        **_localisation(results, matches, threshold),
        "per_class": rows,
        "confusion": detection_confusion(results, len(names), threshold),
        "pr_curve": {"recall": COCO_RECALLS, "precision": coco_curves[..., 1]},
        "errors": error_kinds(results, names, evaluation, threshold),
        "froc": screening.froc(names, tp[:, 0], scores, classes, true_classes, len(results)),
        "image_level": _image_level(results, names, threshold, resample_counts),
        **_resampled(results, evaluation, means, resample_counts),
    }


def _choose_confidence(curves: YoloAP, given: float | None) -> tuple[float | None, str]:
    """The threshold of the boxes, None if there is none, and where it comes from."""
    if given is not None:
        return float(given), "given"
    best = curves.best_confidence
    if best is not None:
        return best, "maximises F1 here"
    return None, f"none finds a box; the usual {USUAL_CONFIDENCE} is taken"


def _coco_curves(evaluation: COCOeval) -> np.ndarray:
    """Precision at `COCO_RECALLS`, (classes, 101, T); NaN for a class without a true box."""
    precision = evaluation.eval["precision"][..., 0, 0].T
    return np.where(precision < 0, np.nan, precision)


def _per_class(
    results: Sequence[ImageResult],
    names: Sequence[str],
    curves: YoloAP,
    confidence: float,
    ap: np.ndarray,
) -> list[dict[str, object]]:
    """The rows of `per_class`; `ap` (classes, T) is COCO's."""
    if curves.best_confidence is None:
        confidence = None  # YOLOv5's precision would be 1 above the highest score
    at_confidence = dict(zip(curves.classes.tolist(), curves.at(confidence).T, strict=True))
    counts = box_counts(results, len(names))
    groups = groups_behind(results, counts)
    rows = []
    for index, name in enumerate(names):
        boxes = counts[:, index]
        precision, recall, f1 = at_confidence.get(index, [np.nan] * 3)
        rows.append(
            {
                "name": name,
                "images": (boxes > 0).sum(),
                "groups": groups[index],
                "boxes": boxes.sum(),
                "precision": precision,
                "recall": recall,
                "f1": f1,
                "AP_0.5": ap[index, 1],
                "AP_0.5:0.95": ap[index, 1:].mean(),
                "AP_0.3": ap[index, 0],
            }
        )
    return rows


def _resampled(
    results: Sequence[ImageResult],
    evaluation: COCOeval,
    means: Mapping[str, float],
    resample_counts: np.ndarray | None,
) -> dict[str, object]:
    """The intervals of the APs, and what is behind them; see `metrics.summarise`."""
    counts = box_counts(results, len(evaluation.params.catIds))
    if resample_counts is None or not counts.any():
        return NO_INTERVALS
    ap = resampled_ap(evaluation, resample_counts)
    resampled = {"mAP_0.5": ap[:, 1], "mAP_0.5:0.95": ap[:, 1:].mean(1)}
    groups = dict.fromkeys(resampled, effective_groups(results, counts))
    return metric_intervals(means, resampled, groups, counts, resample_counts)


def _image_level(
    results: Sequence[ImageResult],
    names: Sequence[str],
    confidence: float,
    resample_counts: np.ndarray | None,
) -> dict[str, object]:
    numbers = np.arange(len(names))
    present = np.array([np.isin(numbers, r.true_classes) for r in results])
    called = np.array([np.isin(numbers, r.classes[r.scores >= confidence]) for r in results])
    groups = None
    if not has_no_groups(results):
        groups = np.array([result.group for result in results])
    return screening.frame_rates(names, present, called, groups, resample_counts)


def _localisation(
    results: Sequence[ImageResult],
    matches: Sequence[tuple[np.ndarray, np.ndarray]],
    confidence: float,
) -> dict[str, float]:
    """Mean squared error of normalised xywh over matches at IoU 0.5; the share of boxes matched."""
    errors = []
    for result, (tp, claimed) in zip(results, matches, strict=True):
        hit = tp[:, 0] & (result.scores >= confidence)
        difference_xyxy = result.boxes_xyxy[hit] - result.true_boxes_xyxy[claimed[hit]]
        size = np.array([result.width, result.height] * 2)
        errors.append(difference_xyxy @ XYXY_TO_XYWH / size)
    boxes = sum(len(result.true_classes) for result in results)
    matched = sum(len(error) for error in errors)
    matched_share = np.nan
    if boxes:
        matched_share = matched / boxes
    return {"mse_xywhn": nan_mean(np.concatenate(errors) ** 2), "matched_share": matched_share}
