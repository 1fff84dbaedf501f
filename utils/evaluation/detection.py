"""The figures of the boxes: COCO AP, P/R/F1 at a threshold, localisation error, the confusion, and their intervals."""

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
    interval_figures,
    nan_mean,
)

CLASS_FIGURES = ("precision", "recall", "f1", "AP_0.5", "AP_0.5:0.95", "AP_0.3")
# (..., 4) xyxy @ XYXY_TO_XYWH = xywh; being linear, it serves differences of boxes as well
XYXY_TO_XYWH = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]])


def box_counts(results: Sequence[ImageResult], class_count: int) -> np.ndarray:
    """How many true boxes of each class an image has, (images, classes)."""
    return np.array([np.bincount(result.true_classes, minlength=class_count) for result in results])


def detection_confusion(
    results: Sequence[ImageResult], class_count: int, confidence: float
) -> np.ndarray:
    """Counts (classes + 1, classes + 1), rows predicted, columns true, the last of each is background.

    Matched at IoU 0.5 whatever the class, so a found box of the wrong class shows as a mix-up.
    """
    counts = np.zeros((class_count + 1, class_count + 1), int)
    for result in results:
        kept = result.scores >= confidence
        classes, true_classes = result.classes[kept], result.true_classes
        one, true_one = (
            np.zeros_like(classes),
            np.zeros_like(true_classes),
        )  # as if there were one class
        tp, claimed = match_predictions(
            result.boxes_xyxy[kept], one, result.true_boxes_xyxy, true_one
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
    draws: np.ndarray | None = None,
) -> dict:
    """The detection figures; `draws` (R, images), how often a resample holds an image, adds intervals.

    Where no confidence is given and none finds a box, there is no threshold: `confidence` is None,
    and what needs one is taken at the usual.
    """
    matches = [
        match_predictions(r.boxes_xyxy, r.classes, r.true_boxes_xyxy, r.true_classes)
        for r in results
    ]
    scores, classes, true_classes = (
        np.concatenate([getattr(result, name) for result in results])
        for name in ("scores", "classes", "true_classes")
    )
    tp = np.concatenate([tp for tp, _ in matches])
    curves = yolo_ap(tp, scores, classes, true_classes)
    best = curves.best_confidence
    chosen = best if confidence is None else float(confidence)
    threshold = USUAL_CONFIDENCE if chosen is None else chosen
    evaluation = coco_evaluation(results, len(names))
    coco_curves = evaluation.eval["precision"][
        ..., 0, 0
    ].T  # (classes, 101, T), -1 for an absent class
    coco_curves = np.where(coco_curves < 0, np.nan, coco_curves)
    # Where nothing is found, YOLOv5's precision would be 1 above the highest score.
    rows = _per_class(
        results, names, curves, None if best is None else threshold, coco_curves.mean(1)
    )
    means = {
        key.replace("AP", "mAP"): nan_mean([row[key] for row in rows]) for key in CLASS_FIGURES
    }
    return {
        **means,
        "confidence": chosen,
        "confidence_source": _source_of(chosen, confidence),
        "yolov5_mAP_0.5": nan_mean(curves.ap[:, 0]),
        "yolov5_mAP_0.5:0.95": nan_mean(curves.ap),
        **_localisation(results, matches, threshold),
        "per_class": rows,
        "confusion": detection_confusion(results, len(names), threshold),
        "pr_curve": {"recall": COCO_RECALLS, "precision": coco_curves[..., 1]},
        "errors": error_kinds(results, names, evaluation, threshold),
        "froc": screening.froc(names, tp[:, 0], scores, classes, true_classes, len(results)),
        "image_level": _image_level(results, names, threshold, draws),
        **_resampled(results, evaluation, means, draws),
    }


def _source_of(chosen: float | None, given: float | None) -> str:
    if given is not None:
        return "given"
    return (
        "maximises F1 here"
        if chosen is not None
        else f"none finds a box; the usual {USUAL_CONFIDENCE} is taken"
    )


def _per_class(
    results: Sequence[ImageResult],
    names: Sequence[str],
    curves: YoloAP,
    confidence: float | None,
    ap: np.ndarray,
) -> list[dict]:
    at_confidence = dict(zip(curves.classes.tolist(), curves.at(confidence).T, strict=True))
    counts = box_counts(results, len(names))
    groups = groups_behind(results, counts)
    rows = []
    for index, name in enumerate(names):
        boxes = counts[:, index]
        coco = (ap[index, 1], ap[index, 1:].mean(), ap[index, 0])
        figures = zip(CLASS_FIGURES, (*at_confidence.get(index, [np.nan] * 3), *coco), strict=True)
        behind = {"images": (boxes > 0).sum(), "groups": groups[index], "boxes": boxes.sum()}
        rows.append({"name": name, **behind, **dict(figures)})
    return rows


def _resampled(
    results: Sequence[ImageResult],
    evaluation: COCOeval,
    means: Mapping[str, float],
    draws: np.ndarray | None,
) -> dict:
    """The intervals of the APs, and what is behind them; see `utils.evaluation.metrics.summarise`."""
    counts = box_counts(results, len(evaluation.params.catIds))
    if draws is None or not counts.any():
        return NO_INTERVALS
    ap = resampled_ap(evaluation, draws)
    drawn = {"mAP_0.5": ap[:, 1], "mAP_0.5:0.95": ap[:, 1:].mean(1)}
    groups = dict.fromkeys(drawn, effective_groups(results, counts))
    return interval_figures(means, drawn, groups, counts, draws)


def _image_level(
    results: Sequence[ImageResult],
    names: Sequence[str],
    confidence: float,
    draws: np.ndarray | None,
) -> dict:
    numbers = np.arange(len(names))
    present = np.array([np.isin(numbers, r.true_classes) for r in results])
    called = np.array([np.isin(numbers, r.classes[r.scores >= confidence]) for r in results])
    groups = None if has_no_groups(results) else np.array([r.group for r in results])
    return screening.frame_rates(names, present, called, groups, draws)


def _localisation(
    results: Sequence[ImageResult],
    matches: Sequence[tuple[np.ndarray, np.ndarray]],
    confidence: float,
) -> dict[str, float]:
    """Mean squared error of normalised xywh over matches at IoU 0.5, and the share of boxes matched."""
    errors = []
    for result, (tp, claimed) in zip(results, matches, strict=True):
        hit = tp[:, 0] & (result.scores >= confidence)
        difference_xyxy = result.boxes_xyxy[hit] - result.true_boxes_xyxy[claimed[hit]]
        errors.append(difference_xyxy @ XYXY_TO_XYWH / np.array([result.width, result.height] * 2))
    boxes = sum(len(result.true_classes) for result in results)
    matched = sum(len(error) for error in errors)
    mse = nan_mean(np.concatenate(errors) ** 2)
    return {"mse_xywhn": mse, "matched_share": matched / boxes if boxes else np.nan}
