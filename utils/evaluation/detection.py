"""The metrics of the boxes: COCO AP, P/R/F1 at a threshold, localisation error, the confusion.

Some of them have intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from utils.core.options import USUAL_CONFIDENCE
from utils.data.boxes import xyxy_to_xywh
from utils.evaluation import screening
from utils.evaluation.average_precision import (
    COCO_RECALLS,
    YoloAP,
    claims,
    coco_evaluation,
    coco_precision,
    resampled_ap,
    yolo_ap,
)
from utils.evaluation.error_kinds import error_kinds
from utils.evaluation.matching import Matches, first_claims
from utils.evaluation.results import (
    NO_INTERVALS,
    ImageResult,
    effective_groups,
    groups_behind,
    has_no_groups,
    metric_intervals,
    nan_mean,
)

CONFUSION_IOU = 0.5
CLASS_METRICS = ("precision", "recall", "f1", "AP_0.5", "AP_0.5:0.95", "AP_0.3")


def box_counts(results: Sequence[ImageResult], class_count: int) -> np.ndarray:
    """How many true boxes of each class an image has, (images, classes)."""
    return np.array([np.bincount(result.true_classes, minlength=class_count) for result in results])


def detection_confusion(evaluation: Matches, confidence: float) -> np.ndarray:
    """Counts (classes + 1, classes + 1): rows predicted, columns true, the last of each background.

    Matched at IoU 0.5 whatever the class, so a found box of the wrong class shows as a mix-up.
    """
    iou, box = evaluation.overlaps.of_any_class()
    is_shown = evaluation.scores >= confidence
    is_hit = is_shown & first_claims(iou, box, CONFUSION_IOU, len(evaluation.truth.classes))
    classes = evaluation.found.classes
    true_classes = evaluation.truth.classes
    is_missed = np.ones(len(true_classes), bool)
    is_missed[box[is_hit]] = False
    background = evaluation.class_count
    counts = np.zeros((background + 1, background + 1), int)
    np.add.at(counts, (classes[is_hit], true_classes[box[is_hit]]), 1)
    np.add.at(counts, (classes[is_shown & ~is_hit], background), 1)
    np.add.at(counts, (background, true_classes[is_missed]), 1)
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
    evaluation = coco_evaluation(results, len(names))
    scores = evaluation.scores
    classes = evaluation.found.classes
    true_classes = evaluation.truth.classes
    tp = claims(evaluation.overlaps, len(true_classes))
    curves = yolo_ap(tp, scores, classes, true_classes)
    chosen, source = _choose_confidence(curves, confidence)
    threshold = chosen
    if chosen is None:
        threshold = USUAL_CONFIDENCE
    coco_curves = coco_precision(evaluation)
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
        **_localisation(results, evaluation, tp[:, 0] & (scores >= threshold)),
        "per_class": rows,
        "confusion": detection_confusion(evaluation, threshold),
        "pr_curve": {"recall": COCO_RECALLS, "precision": coco_curves[..., 1]},
        "errors": error_kinds(names, evaluation, threshold),
        "froc": screening.froc(names, tp[:, 0], scores, classes, true_classes, len(results)),
        "image_level": _image_level(results, names, evaluation, threshold, resample_counts),
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
    evaluation: Matches,
    means: Mapping[str, float],
    resample_counts: np.ndarray | None,
) -> dict[str, object]:
    """The intervals of the APs, and what is behind them; see `metrics.summarise`."""
    counts = box_counts(results, evaluation.class_count)
    if resample_counts is None or not counts.any():
        return NO_INTERVALS
    ap = resampled_ap(evaluation, resample_counts)
    resampled = {"mAP_0.5": ap[:, 1], "mAP_0.5:0.95": ap[:, 1:].mean(1)}
    groups = dict.fromkeys(resampled, effective_groups(results, counts))
    return metric_intervals(means, resampled, groups, counts, resample_counts)


def _image_level(
    results: Sequence[ImageResult],
    names: Sequence[str],
    evaluation: Matches,
    confidence: float,
    resample_counts: np.ndarray | None,
) -> dict[str, object]:
    truth, found = evaluation.truth, evaluation.found
    is_shown = evaluation.scores >= confidence
    present = np.zeros((len(results), len(names)), bool)
    present[truth.image, truth.classes] = True
    called = np.zeros_like(present)
    called[found.image[is_shown], found.classes[is_shown]] = True
    groups = None
    if not has_no_groups(results):
        groups = np.array([result.group for result in results])
    return screening.frame_rates(names, present, called, groups, resample_counts)


def _localisation(
    results: Sequence[ImageResult], evaluation: Matches, is_hit: np.ndarray
) -> dict[str, float]:
    """Mean squared error of normalised xywh over the hits; the share of boxes that are hit."""
    box = evaluation.overlaps.own_box[is_hit]
    difference_xyxy = evaluation.found.boxes_xyxy[is_hit] - evaluation.truth.boxes_xyxy[box]
    sizes = np.array([[result.width, result.height] * 2 for result in results])
    # The conversion is linear, so it serves differences of boxes as well.
    errors = xyxy_to_xywh(difference_xyxy) / sizes[evaluation.found.image[is_hit]]
    matched_share = np.nan
    if len(evaluation.truth.classes):
        matched_share = len(errors) / len(evaluation.truth.classes)
    return {"mse_xywhn": nan_mean(errors**2), "matched_share": matched_share}
