"""How good a score can be without any model: labels of the same clip's training frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
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

NO_BOXES = np.zeros((0, 5))
NO_VIEWS = np.zeros(0)


@dataclass(frozen=True)
class ClipFrame:
    """A training frame, and its number in its clip."""

    number: int
    path: Path
    labels: FrameLabels


@dataclass(frozen=True)
class NeighbourOracle:
    """How good the boxes of the nearest training frame of the same clip are as a prediction.

    Where the frames before and after are equally near, both are tried, and every metric is over
    both tries. APs are over all frames, those without a neighbour having no prediction; the rest is
    over boxes that have one. Undefined metrics are None.
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
    """Accuracy of the most frequent view of the clip in training.

    For a clip that is not there, it is the most frequent view of all of training. Beside it two
    that know less: always the most frequent view, and that of the frame's box class.
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
    results = []
    distances = []  # a frame that has a neighbour
    ious = []  # a true box and try, as are the two below
    same_class = []
    gaps = []
    for image, truth in zip(split.images, split.labels, strict=True):
        distance, near = _nearest(data, clips, image)
        if not near:
            results += [_as_result(data, image, truth, NO_BOXES, NO_VIEWS)] * 2
            continue
        distances.append(distance)
        for guess in (near[0].boxes, near[-1].boxes):
            results.append(_as_result(data, image, truth, guess, NO_VIEWS))
            iou, same = agree(truth.boxes, guess)
            ious += iou.tolist()
            same_class += same.tolist()
            gaps += [distance] * len(iou)
    median_distance = None
    if distances:
        median_distance = float(np.median(distances))
    return NeighbourOracle(
        frames=len(split.images),
        with_neighbour=len(distances),
        median_distance=median_distance,
        **_precision_fields(detection_metrics(results, data.names)),
        **_agreement_fields(np.array(ious), np.array(same_class, bool), np.array(gaps)),
    )


def _precision_fields(metrics: Mapping[str, object]) -> dict[str, float | None]:
    """The APs of `NeighbourOracle`."""
    return {
        "map_50": _mean(metrics["mAP_0.5"]),
        "map_50_95": _mean(metrics["mAP_0.5:0.95"]),
        "map_30": _mean(metrics["mAP_0.3"]),
    }


def _agreement_fields(iou: np.ndarray, same_class: np.ndarray, gap: np.ndarray) -> dict:
    """The fields of `NeighbourOracle` over the true boxes (n,): IoU, class, frames between."""
    quantiles = {}
    if len(iou):
        quantiles = {q: float(np.percentile(iou, q)) for q in (10, 25, 50, 75, 90)}
    good = same_class & (iou > 0.5)
    return {
        "iou_quantiles": quantiles,
        "same_class": _mean(same_class),
        "same_class_iou_50": _mean(good),
        "same_class_iou_50_adjacent": _mean(good[gap <= 1]),
        "iou_75": _mean(iou > 0.75),
    }


def _clips(data: DataConfig, split: Split) -> dict[str, list[ClipFrame]]:
    """Clip -> its frames."""
    clips = defaultdict(list)
    for path, labels in zip(split.images, split.labels, strict=True):
        found = data.clip_of(path)
        if found:
            clip, number = found
            clips[clip].append(ClipFrame(number, path, labels))
    return clips


def _nearest(
    data: DataConfig, clips: Mapping[str, list[ClipFrame]], image: Path
) -> tuple[int, list[FrameLabels]]:
    """The distance of the nearest other frame of the image's clip, and the labels of all so near.

    They are sorted by number and path.
    """
    clip, number = data.clip_of(image) or ("", 0)
    others = [frame for frame in clips.get(clip, ()) if frame.path != image]
    distance = min((abs(frame.number - number) for frame in others), default=0)
    near = [frame for frame in others if abs(frame.number - number) == distance]
    near.sort(key=lambda frame: (frame.number, frame.path))
    return distance, [frame.labels for frame in near]


def view_oracle(data: DataConfig, train: Split, split: Split) -> ViewOracle:
    """See `ViewOracle`; needs `clip_pattern`."""
    prior = ViewPrior.fit(train.labels)
    majority = _majority_views(_clips(data, train))
    results = []
    with_clip = 0
    for path, truth in zip(split.images, split.labels, strict=True):
        if prior is None or truth.view == UNKNOWN_VIEW:
            continue
        clip, _ = data.clip_of(path) or ("", 0)
        with_clip += clip in majority
        certain = np.eye(len(data.view_names))[majority.get(clip, prior.majority)]
        results.append(_as_result(data, path, truth, NO_BOXES, certain))
    if not results:
        return ViewOracle(0, with_clip, None, None, None, None)
    views = view_metrics(results, data.names, data.view_names, prior)
    return ViewOracle(
        frames=len(results),
        with_clip=with_clip,
        accuracy=_mean(views["accuracy"]),
        balanced_accuracy=_mean(views["balanced_accuracy"]),
        majority_accuracy=_mean(views["majority_baseline"]["accuracy"]),
        class_lookup_accuracy=_mean(views["class_lookup_baseline"]["accuracy"]),
    )


def _majority_views(clips: Mapping[str, list[ClipFrame]]) -> dict[str, int]:
    """Clip -> its most frequent view, for those with any."""
    majority = {}
    for clip, frames in clips.items():
        views = [frame.labels.view for frame in frames if frame.labels.view != UNKNOWN_VIEW]
        if views:
            majority[clip] = int(np.bincount(views).argmax())
    return majority


def same_clip_reference(
    data: DataConfig, split: Split, trained_on: str, skip_bad_labels: bool = False
) -> dict[str, dict | None] | None:
    """Both oracles of an evaluated split as plain types: "boxes" and "views".

    Either is None where the data has no boxes or no views. There is no reference, None, for the
    training split itself, without `clip_pattern` and, after a warning, where the training labels
    cannot be read or are not those that the model was trained on. No image is decoded.

    Args:
        trained_on: the fingerprint of the model's training split.
    """
    if data.clip_pattern is None or split.name == "train":
        return None
    try:
        train = load_split(data, "train", skip_bad_labels)
    except (OSError, UserError) as error:
        _warn_of_no_reference(str(error).splitlines()[0].rstrip(":"))
        return None
    if train.fingerprint() != trained_on:
        _warn_of_no_reference(
            f"the model was trained on other frames or labels than train of {data.source}, "
            "perhaps on these frames"
        )
        return None
    oracles = {"boxes": None, "views": None}
    if data.names:
        oracles["boxes"] = asdict(neighbour_oracle(data, train, split))
    if data.view_names:
        oracles["views"] = asdict(view_oracle(data, train, split))
    return oracles


def _warn_of_no_reference(reason: str) -> None:
    LOGGER.warning(f"warning: no row '{SAME_CLIP}': {reason}")


def agree(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How well boxes agree with others, whatever their classes.

    Args:
        boxes, others: (n, 5) and (m, 5), class and xywhn.

    Returns:
        (n,) IoU with the best of the others, and (n,) bool, whether that is of the same class.
    """
    if not len(boxes) or not len(others):
        return np.zeros(len(boxes)), np.zeros(len(boxes), bool)
    iou = box_iou(torch.from_numpy(_xyxy(boxes)), torch.from_numpy(_xyxy(others))).numpy()
    best = iou.argmax(axis=1)
    return iou.max(axis=1), others[best, 0] == boxes[:, 0]


def _xyxy(rows: np.ndarray) -> np.ndarray:
    """(n, 5) class and xywhn -> (n, 4) xyxyn."""
    return xywh_to_xyxy(torch.from_numpy(rows[:, 1:])).numpy()


def _as_result(
    data: DataConfig,
    path: Path,
    truth: FrameLabels,
    guess: np.ndarray,
    view_probabilities: np.ndarray,
) -> ImageResult:
    """A guess, (m, 5) class and xywhn, as a prediction.

    In fractions of the image, as if it were one pixel: IoU does not change by that.
    """
    return ImageResult(
        image=str(path),
        group=data.group_of(path),
        height=1,
        width=1,
        true_boxes_xyxy=_xyxy(truth.boxes),
        true_classes=truth.boxes[:, 0].astype(int),
        true_view=truth.view,
        boxes_xyxy=_xyxy(guess),
        classes=guess[:, 0].astype(int),
        scores=np.ones(len(guess)),
        view_probabilities=view_probabilities,
    )


def _mean(values: object) -> float | None:
    """The mean of what there is, as a plain number; None for nothing or NaN."""
    array = np.asarray(values, float)
    if not array.size or np.isnan(array).any():
        return None
    return float(array.mean())
