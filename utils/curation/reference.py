"""How good a score can be without any model: what the training frames of the same clip say of a frame."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_iou

from utils.core.data_config import DataConfig
from utils.core.script import LOGGER, UserError
from utils.data.boxes import xywh_to_xyxy
from utils.data.labels import UNKNOWN_VIEW, FrameLabels
from utils.data.splits import Split, load_split
from utils.evaluation.detection import detection_metrics
from utils.evaluation.results import SAME_CLIP, ImageResult, ViewPrior
from utils.evaluation.views import view_metrics


@dataclass(frozen=True)
class NeighbourOracle:
    """The boxes of the nearest training frame of the same clip, taken as a prediction; undefined figures are None.

    Where the frames before and after are equally near, both are tried, and every figure is over
    both tries. APs are over all frames, those without a neighbour having no prediction; the rest is
    over boxes that have one.
    """

    frames: int
    with_neighbour: int
    median_distance: float | None  # in frames
    map_50: float | None
    map_50_95: float | None
    map_30: float | None
    iou_quantiles: dict[int, float]  # percent -> IoU with the true box; 50: the median
    same_class: float | None
    same_class_iou_50: float | None  # share with the same class and IoU > 0.5
    same_class_iou_50_adjacent: float | None  # the same at a distance of at most one frame
    iou_75: float | None  # share with IoU > 0.75, whatever the class


@dataclass(frozen=True)
class ViewOracle:
    """Accuracy of the most frequent view of the clip in training (of all of training for a clip that is not there).

    Beside it two that know less: always the most frequent view, and that of the frame's box class.
    """

    frames: int
    with_clip: int
    accuracy: float | None
    balanced_accuracy: float | None
    majority_accuracy: float | None
    class_lookup_accuracy: float | None


def neighbour_oracle(data: DataConfig, train: Split, split: Split) -> NeighbourOracle:
    """See `NeighbourOracle`; needs `clip_pattern`. A training frame is not its own neighbour."""
    clips = _clips(data, train)
    results, rows, distances = [], [], []
    for image, truth in zip(split.images, split.labels, strict=True):
        distance, near = _nearest(data, clips, image)
        distances += [distance] if near else []
        for guess in (near[0].boxes, near[-1].boxes) if near else (np.zeros((0, 5)),) * 2:
            results.append(_as_result(data, image, truth, guess, np.zeros(0)))
            rows += [
                (*pair, distance) for pair in zip(*agree(truth.boxes, guess), strict=True) if near
            ]
    iou, same, gap = np.array(rows).reshape(-1, 3).T
    good = (same > 0) & (iou > 0.5)
    precision = detection_metrics(results, data.names)
    return NeighbourOracle(
        frames=len(split.images),
        with_neighbour=len(distances),
        median_distance=_mean(np.median(distances) if distances else ()),
        map_50=_mean(precision["mAP_0.5"]),
        map_50_95=_mean(precision["mAP_0.5:0.95"]),
        map_30=_mean(precision["mAP_0.3"]),
        iou_quantiles={q: float(np.percentile(iou, q)) for q in (10, 25, 50, 75, 90)}
        if len(iou)
        else {},
        same_class=_mean(same),
        same_class_iou_50=_mean(good),
        same_class_iou_50_adjacent=_mean(good[gap <= 1]),
        iou_75=_mean(iou > 0.75),
    )


def _clips(data: DataConfig, split: Split) -> dict[str, list[tuple[int, Path, FrameLabels]]]:
    """Clip -> number, path and labels of its frames."""
    clips = defaultdict(list)
    for path, labels in zip(split.images, split.labels, strict=True):
        if clip := data.clip_of(path):
            clips[clip[0]].append((clip[1], path, labels))
    return clips


def _nearest(data: DataConfig, clips: dict, image: Path) -> tuple[int, list[FrameLabels]]:
    """How near the nearest other frame of the image's clip is, and the labels of all that near, by number and path."""
    clip, number = data.clip_of(image) or ("", 0)
    others = [frame for frame in clips.get(clip, ()) if frame[1] != image]
    distance = min((abs(other - number) for other, *_ in others), default=0)
    near = sorted(
        (frame for frame in others if abs(frame[0] - number) == distance),
        key=lambda frame: frame[:2],
    )
    return distance, [labels for *_, labels in near]


def view_oracle(data: DataConfig, train: Split, split: Split) -> ViewOracle:
    """See `ViewOracle`; needs `clip_pattern`."""
    prior = ViewPrior.fit((labels.boxes[:, 0].astype(int), labels.view) for labels in train.labels)
    seen = {clip: [labels.view for *_, labels in own] for clip, own in _clips(data, train).items()}
    seen = {clip: [view for view in views if view != UNKNOWN_VIEW] for clip, views in seen.items()}
    majority = {clip: np.bincount(views).argmax() for clip, views in seen.items() if views}
    results, with_clip = [], 0
    for path, truth in zip(split.images, split.labels, strict=True):
        if prior and truth.view != UNKNOWN_VIEW:
            clip, _ = data.clip_of(path) or ("", 0)
            with_clip += clip in majority
            certain = np.eye(len(data.view_names))[majority.get(clip, prior.majority)]
            results.append(_as_result(data, path, truth, np.zeros((0, 5)), certain))
    views = view_metrics(results, data.names, data.view_names, prior) if results else {}
    rates = [views.get(name, ()) for name in ("accuracy", "balanced_accuracy")]
    rates += [
        views[f"{name}_baseline"]["accuracy"] if views else ()
        for name in ("majority", "class_lookup")
    ]
    return ViewOracle(len(results), with_clip, *map(_mean, rates))


def same_clip_reference(
    data: DataConfig, split: Split, trained_on: str, skip_bad_labels: bool = False
) -> dict[str, dict | None] | None:
    """Both oracles of an evaluated split as plain types: "boxes" and "views", None where the data has none.

    None for the training split itself, without `clip_pattern` and, after a warning, where the
    training labels cannot be read or are not those that the model was trained on. No image is
    decoded.

    Args:
        trained_on: the fingerprint of the model's training split.
    """
    if data.clip_pattern is None or split.name == "train":
        return None
    reason = f"the model was trained on other frames or labels than train of {data.source}, perhaps on these frames"
    try:
        train = load_split(data, "train", skip_bad_labels)
        is_known = train.fingerprint() == trained_on
    except (OSError, UserError) as error:
        is_known, reason = False, str(error).splitlines()[0].rstrip(":")
    if not is_known:
        LOGGER.warning(f"warning: no row '{SAME_CLIP}': {reason}")
        return None
    boxes = asdict(neighbour_oracle(data, train, split)) if data.names else None
    views = asdict(view_oracle(data, train, split)) if data.view_names else None
    return {"boxes": boxes, "views": views}


def agree(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every row of `boxes` (n, 5), class and xywhn: IoU with the best of `others` (m, 5), same class or not."""
    if not len(boxes) or not len(others):
        return np.zeros(len(boxes)), np.zeros(len(boxes), bool)
    iou = box_iou(
        *(xywh_to_xyxy(torch.from_numpy(rows[:, 1:])) for rows in (boxes, others))
    ).numpy()
    best = iou.argmax(axis=1)
    return iou.max(axis=1), others[best, 0] == boxes[:, 0]


def _as_result(
    data: DataConfig,
    path: Path,
    truth: FrameLabels,
    guess: np.ndarray,
    view_probabilities: np.ndarray,
) -> ImageResult:
    """A guess, (m, 5) class and xywhn, as a prediction; in fractions of the image, as IoU does not change by that."""
    (true_xyxy, true_classes), (xyxy, classes) = (
        (xywh_to_xyxy(torch.from_numpy(rows[:, 1:])).numpy(), rows[:, 0].astype(int))
        for rows in (truth.boxes, guess)
    )
    known = {"image": str(path), "group": data.group_of(path), "height": 1, "width": 1}
    real = {"true_boxes_xyxy": true_xyxy, "true_classes": true_classes, "true_view": truth.view}
    said = {"boxes_xyxy": xyxy, "classes": classes, "scores": np.ones(len(classes))}
    return ImageResult(**known, **real, **said, view_probabilities=view_probabilities)


def _mean(values: object) -> float | None:
    """The mean of what there is, as a plain number; None for nothing or NaN."""
    array = np.asarray(values, float)
    return None if not array.size or np.isnan(array).any() else float(array.mean())
