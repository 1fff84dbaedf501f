"""What an evaluation reports: COCO AP, P/R/F1, localisation error, view metrics, and their intervals.

The headline APs are pycocotools': 55,000 detections take it under half a second, and its matches are plain
arrays that the bootstrap can read (faster-coco-eval: same figures, 0.2 s less, matches hidden in C++).
A figure that is undefined, such as the recall of a class without a true box, is NaN inside this module
and None in what it returns; it is left out of means.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import roc_auc_score
from torchvision.ops import box_iou

from utils import screening
from utils.general import TASKS

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
COCO_IOU_THRESHOLDS = np.r_[0.3, IOU_THRESHOLDS]
COCO_RECALLS = np.linspace(0, 1, 101)
RESAMPLES = 1000
SAME_CLIP = "same clip in training"
CLASS_FIGURES = ("precision", "recall", "f1", "AP_0.5", "AP_0.5:0.95", "AP_0.3")
# (..., 4) xyxy @ XYXY_TO_XYWH = xywh; being linear, it serves differences of boxes as well
XYXY_TO_XYWH = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]])


@dataclass(frozen=True)
class ImageResult:
    """Truth and prediction of one image, boxes in pixels of the original image.

    `group` is the patient, or `image` itself where patients are unknown. Predictions are those after NMS,
    by falling score, at most 300. `view_probabilities` is empty where the model has no view head.
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


@dataclass(frozen=True)
class ViewPrior:
    """What the training labels alone say about the view: the baselines a view head has to beat."""

    majority: int
    by_class: dict[int, int] = field(default_factory=dict)

    @classmethod
    def fit(cls, labels: Iterable[tuple[np.ndarray, int]]) -> ViewPrior | None:
        """Learn from (box classes, view or -1) of every training image; None where no view is known.

        An image counts once for every class it shows.
        """
        labelled = [(np.unique(classes), view) for classes, view in labels if view >= 0]
        if not labelled:
            return None
        views: dict[int, list[int]] = {}
        for classes, view in labelled:
            for box_class in classes:
                views.setdefault(int(box_class), []).append(view)
        by_class = {box_class: _most_frequent(seen) for box_class, seen in sorted(views.items())}
        return cls(_most_frequent([view for _, view in labelled]), by_class)

    def lookup(self, classes: np.ndarray) -> int:
        """The view its most frequent box class suggests; the majority view for no box or an unseen class."""
        return self.by_class.get(_most_frequent(classes), self.majority) if len(classes) else self.majority


@dataclass(frozen=True)
class YoloAP:
    """YOLOv5-style curves at the first IoU threshold and APs at all, a row per class with a true box."""

    classes: np.ndarray  # (c,)
    confidence: np.ndarray  # (1000,) grid of the curves
    precision: np.ndarray  # (c, 1000)
    recall: np.ndarray  # (c, 1000)
    ap: np.ndarray  # (c, T)

    @property
    def best_confidence(self) -> float:
        """Where the mean F1 over classes, smoothed by a box 10 % of the grid wide, is highest."""
        if not len(self.classes):
            return 0.0
        width = len(self.confidence) // 10 + 1
        curve = np.pad(_f1(self.precision, self.recall).mean(0), width // 2, mode="edge")
        return float(self.confidence[np.convolve(curve, np.full(width, 1 / width), mode="valid").argmax()])

    def at(self, confidence: float) -> np.ndarray:
        """Precision, recall and F1 (3, c) at a confidence threshold."""
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

    A prediction claims the true box of its class with the highest IoU, and a true box takes its most
    confident claimant. Each is matched at most once, and leaving out the least confident predictions
    changes no other match. Returns tp (m, T), and for every prediction the index of the true box it
    claims (m,), which has no meaning where it is no true positive.
    """
    if not len(boxes_xyxy) or not len(true_boxes_xyxy):
        return np.zeros((len(boxes_xyxy), len(iou_thresholds)), bool), np.zeros(len(boxes_xyxy), int)
    corners = (torch.as_tensor(boxes, dtype=torch.float64) for boxes in (boxes_xyxy, true_boxes_xyxy))
    iou = box_iou(*corners).numpy() * (classes[:, None] == true_classes)
    claimed = iou.argmax(1)
    is_claimed = claimed[:, None] == np.arange(len(true_classes))  # (m, n)
    claims = is_claimed[:, :, None] & (iou.max(1)[:, None, None] >= iou_thresholds)  # (m, n, T)
    return (claims & (claims.cumsum(0) == 1)).any(1), claimed


def yolo_ap(tp: np.ndarray, confidence: np.ndarray, predicted_classes: np.ndarray, true_classes: np.ndarray) -> YoloAP:
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

    Up to 300 detections per image count; pycocotools' own headline takes 100, which can only be lower.
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
            annotations.append(ids | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0, "score": score})
    data = COCO()
    image_ids = [{"id": image_id} for image_id in range(len(images))]
    data.dataset = {"images": image_ids, "annotations": annotations, "categories": []}
    data.createIndex()
    return data


def resampled_ap(evaluation: COCOeval, draws: np.ndarray) -> np.ndarray:
    """COCO AP (R, T), mean over classes, where image i occurs `draws[r, i]` times in resample r.

    Uses the matches already made; drawing every image once gives back the AP itself.
    """
    images, records = draws.shape[1], evaluation.evalImgs
    by_class = [records[first : first + images] for first in range(0, len(records), images)]
    return _mean(np.array([_resampled_class_ap(own, draws.astype(float)) for own in by_class]), 0)


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
    order = np.argsort(-np.concatenate([record["dtScores"] for _, record in present]), kind="stable")
    image = np.repeat([index for index, _ in present], [len(record["dtIds"]) for _, record in present])
    matched = np.concatenate([record["dtMatches"] for _, record in present], axis=1) > 0
    return image[order], matched[:, order], true_counts


def detection_confusion(results: Sequence[ImageResult], class_count: int, confidence: float) -> np.ndarray:
    """Counts (classes + 1, classes + 1), rows predicted, columns true, the last of each is background.

    Matched at IoU 0.5 whatever the class, so a found box of the wrong class shows as a mix-up.
    """
    counts = np.zeros((class_count + 1, class_count + 1), int)
    for result in results:
        kept = result.scores >= confidence
        classes, true_classes = result.classes[kept], result.true_classes
        one, true_one = np.zeros_like(classes), np.zeros_like(true_classes)  # as if there were one class
        tp, claimed = match_predictions(result.boxes_xyxy[kept], one, result.true_boxes_xyxy, true_one)
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
    """The detection figures; `draws` (R, images), how often a resample holds an image, adds intervals."""
    matches = [match_predictions(r.boxes_xyxy, r.classes, r.true_boxes_xyxy, r.true_classes) for r in results]
    scores, classes, true_classes = (
        np.concatenate([getattr(result, name) for result in results]) for name in ("scores", "classes", "true_classes")
    )
    tp = np.concatenate([tp for tp, _ in matches])
    curves = yolo_ap(tp, scores, classes, true_classes)
    threshold = curves.best_confidence if confidence is None else float(confidence)
    evaluation = coco_evaluation(results, len(names))
    coco_curves = evaluation.eval["precision"][..., 0, 0].T  # (classes, 101, T), -1 for an absent class
    coco_curves = np.where(coco_curves < 0, np.nan, coco_curves)
    rows = _per_class(results, names, curves, threshold, coco_curves.mean(1))
    means = {key.replace("AP", "mAP"): _mean([row[key] for row in rows]) for key in CLASS_FIGURES}
    return {
        **means,
        "confidence": threshold,
        "confidence_source": "maximises F1 here" if confidence is None else "given",
        "yolov5_mAP_0.5": _mean(curves.ap[:, 0]),
        "yolov5_mAP_0.5:0.95": _mean(curves.ap),
        **_localisation(results, matches, threshold),
        "per_class": rows,
        "confusion": detection_confusion(results, len(names), threshold),
        "pr_curve": {"recall": COCO_RECALLS, "precision": coco_curves[..., 1]},
        "froc": screening.froc(names, tp[:, 0], scores, classes, true_classes, len(results)),
        "image_level": _image_level(results, names, threshold, draws),
        "intervals": _ap_intervals(evaluation, draws) if draws is not None and len(true_classes) else {},
    }


def _per_class(
    results: Sequence[ImageResult], names: Sequence[str], curves: YoloAP, confidence: float, ap: np.ndarray
) -> list[dict]:
    at_confidence = dict(zip(curves.classes.tolist(), curves.at(confidence).T, strict=True))
    rows = []
    for index, name in enumerate(names):
        boxes = np.array([(result.true_classes == index).sum() for result in results])
        coco = (ap[index, 1], ap[index, 1:].mean(), ap[index, 0])
        figures = zip(CLASS_FIGURES, (*at_confidence.get(index, [np.nan] * 3), *coco), strict=True)
        rows.append({"name": name, "images": (boxes > 0).sum(), "boxes": boxes.sum(), **dict(figures)})
    return rows


def _ap_intervals(evaluation: COCOeval, draws: np.ndarray) -> dict[str, np.ndarray]:
    ap = resampled_ap(evaluation, draws)
    return {"mAP_0.5": _interval(ap[:, 1]), "mAP_0.5:0.95": _interval(ap[:, 1:].mean(1))}


def _image_level(
    results: Sequence[ImageResult], names: Sequence[str], confidence: float, draws: np.ndarray | None
) -> dict:
    numbers = np.arange(len(names))
    present = np.array([np.isin(numbers, r.true_classes) for r in results])
    called = np.array([np.isin(numbers, r.classes[r.scores >= confidence]) for r in results])
    groups = None if _by_image(results) else np.array([r.group for r in results])
    return screening.frame_rates(names, present, called, groups, draws)


def _localisation(
    results: Sequence[ImageResult], matches: Sequence[tuple[np.ndarray, np.ndarray]], confidence: float
) -> dict[str, float]:
    """Mean squared error of normalised xywh over matches at IoU 0.5, and the share of boxes matched."""
    errors = []
    for result, (tp, claimed) in zip(results, matches, strict=True):
        hit = tp[:, 0] & (result.scores >= confidence)
        difference_xyxy = result.boxes_xyxy[hit] - result.true_boxes_xyxy[claimed[hit]]
        errors.append(difference_xyxy @ XYXY_TO_XYWH / np.array([result.width, result.height] * 2))
    boxes = sum(len(result.true_classes) for result in results)
    matched = sum(len(error) for error in errors)
    mse = _mean(np.concatenate(errors) ** 2)
    return {"mse_xywhn": mse, "matched_share": matched / boxes if boxes else np.nan}


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
    areas = [roc_auc_score(truth == v, probabilities[:, v]) for v in views] if len(views) > 1 else []
    return {"auroc": _mean(areas), "ece": calibration_error(probabilities, truth)}


def _view_rates(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Rates from confusion matrices (..., true, predicted); those of a view that is absent are NaN."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    images, predicted = confusion.sum(-1), confusion.sum(-2)
    with np.errstate(invalid="ignore"):
        accuracy, recall = right.sum(-1) / images.sum(-1), right / images
    precision = np.where(images > 0, right / np.maximum(predicted, 1), np.nan)
    f1 = np.where(images > 0, 2 * right / np.maximum(images + predicted, 1), np.nan)
    means = {"accuracy": accuracy, "balanced_accuracy": _mean(recall, -1), "macro_f1": _mean(f1, -1)}
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


def resampled_view_rates(results: Sequence[ImageResult], view_count: int, draws: np.ndarray) -> dict[str, np.ndarray]:
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
    rates = _view_rates(confusion)
    per_view = zip(*(rates[key] for key in ("images", "recall", "precision", "f1")), strict=True)
    drawn = {} if draws is None or not labelled else resampled_view_rates(results, len(view_names), draws)
    return {
        "images": len(labelled),
        **{key: rates[key] for key in ("accuracy", "balanced_accuracy", "macro_f1")},
        **_probability_figures(labelled),
        "per_view": [
            {"name": name, "images": images, "recall": recall, "precision": precision, "f1": f1}
            for name, (images, recall, precision, f1) in zip(view_names, per_view, strict=True)
        ],
        "confusion": confusion,
        **_baselines(labelled, names, view_names, prior),
        "intervals": {key: _interval(drawn[key]) for key in ("accuracy", "balanced_accuracy") if key in drawn},
    }


def _baselines(
    labelled: Sequence[ImageResult], names: Sequence[str], view_names: Sequence[str], prior: ViewPrior | None
) -> dict:
    """What the training labels alone would score on these images."""
    if prior is None:
        return {"majority_baseline": None, "class_lookup_baseline": None}
    truth = np.array([result.true_view for result in labelled], int)
    looked_up = np.array([prior.lookup(result.true_classes) for result in labelled], int)
    table = {names[box_class]: view_names[view] for box_class, view in prior.by_class.items()}
    return {
        "majority_baseline": {"view": view_names[prior.majority], "accuracy": _mean(truth == prior.majority)},
        "class_lookup_baseline": {"accuracy": _mean(truth == looked_up), "table": table},
    }


def summarise(
    results: Sequence[ImageResult],
    names: Sequence[str],
    view_names: Sequence[str],
    confidence: float | None = None,
    view_prior: ViewPrior | None = None,
    intervals: bool = True,
    tasks: Sequence[str] = TASKS,
) -> dict:
    """Everything an evaluation reports, as plain types that JSON can hold.

    `confidence` is the threshold of P, R, F1, localisation and confusion; None takes the one that maximises
    F1 here. Undefined figures are None. `intervals` adds 95 % bootstrap intervals over groups, which takes
    a second or two; without it there are none. `tasks` are those the model answers: "detection" and "views" are
    there for them only.
    """
    groups = [result.group for result in results]
    draws = group_draws(groups) if intervals else None
    parts = {
        "detection": ("detection", lambda: detection_metrics(results, names, confidence, draws)),
        "classification": ("views", lambda: view_metrics(results, names, view_names, view_prior, draws)),
    }
    metrics = _plain(
        {
            "names": names,
            "view_names": view_names,
            "images": len(results),
            "boxes": sum(len(result.true_classes) for result in results),
            **{parts[task][0]: parts[task][1]() for task in tasks},
            "interval_unit": "images" if _by_image(results) else f"patients (group_pattern), {len(set(groups))} groups",
            "resamples": RESAMPLES if intervals else 0,
        }
    )
    return metrics | {"fitness": fitness(metrics, tasks)}


def fitness(metrics: Mapping, tasks: Sequence[str] = TASKS) -> float:
    """How good an evaluation is for `tasks`: the mean of what each is judged by, of those that are defined.

    Detection: 0.1 AP50 + 0.9 AP50-95, as in YOLOv5. Classification: balanced view accuracy.
    """
    detection = metrics.get("detection", {"mAP_0.5": None})
    parts = {"classification": metrics.get("views", {}).get("balanced_accuracy"), "detection": None}
    if detection["mAP_0.5"] is not None:
        parts["detection"] = 0.1 * detection["mAP_0.5"] + 0.9 * detection["mAP_0.5:0.95"]
    defined = [parts[task] for task in tasks if parts[task] is not None]
    return sum(defined) / len(defined) if defined else 0.0


def _by_image(results: Sequence[ImageResult]) -> bool:
    """No groups are known."""
    return all(result.group == result.image for result in results)


def group_draws(groups: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each image occurs in each bootstrap resample of the groups, (resamples, images)."""
    unique, group_index = np.unique(groups, return_inverse=True)
    shares = np.full(len(unique), 1 / len(unique))
    return np.random.default_rng(seed).multinomial(len(unique), shares, size=resamples)[:, group_index]


def _interval(values: np.ndarray) -> np.ndarray:
    return np.nanpercentile(values, [2.5, 97.5])


def _mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of what is not NaN; NaN, without a warning, where nothing is left."""
    values = np.asarray(values, float)
    with np.errstate(invalid="ignore"):
        return np.nansum(values, axis) / (~np.isnan(values)).sum(axis)


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    return 2 * precision * recall / (precision + recall + 1e-16)


def _envelope(precision: np.ndarray) -> np.ndarray:
    """The highest precision at this or any higher recall, along the last axis."""
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    heights = np.interp(COCO_RECALLS, np.r_[0, recall, 1], _envelope(np.r_[1, precision, 0]))
    return (heights[1:] + heights[:-1]).mean() / 2


def _most_frequent(values: Iterable[int]) -> int:
    return int(np.bincount(values).argmax())


def _plain(value: object) -> object:
    """Numpy's types as Python's, NaN as None, so that JSON can hold the result."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if value != value else value  # only NaN differs from itself
