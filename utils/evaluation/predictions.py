"""What a network found in every frame of a split, as a small file.

It is enough to recompute every figure without the network. `predictions.npz` is NumPy's compressed
archive, without pickles. It holds no truth, no pixel and no path of a machine; the truth is joined
from the data set, by the images' names, when figures are recomputed. Of N frames with M detections
after non-maximum suppression, frame after frame:

    images              (N,)    file paths below the folder that all of them have in common
    sizes               (N, 2)  height and width of the original image, pixels
    counts              (N,)    detections of a frame, by falling score
    boxes_xyxy          (M, 4)  256ths of a pixel of the original image
    scores              (M,)    of 65535
    classes             (M,)    numbers of `names`
    view_probabilities  (N, V)  float32; V is 0 without a view head
    detection_losses    (N,)    float32, of the frame alone; NaN where it was not measured
    header              JSON: `version`, and the fields of `Header`

The view's loss is not kept: it is -log of the true view's probability, so with the probabilities it
would be the label.

An evaluation rounds boxes and scores to this form before it scores them, and its processes send
them in it, so that what is scored at once and what is scored from the file are the same numbers.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from utils.core.data_config import DataConfig
from utils.core.device import Compute, machine_name
from utils.core.files import write_atomically, write_json
from utils.core.script import UserError
from utils.core.user_file import require_regular
from utils.core.values import from_mapping, to_mapping
from utils.data.dataset import JointDataset
from utils.data.splits import Split
from utils.evaluation.results import ImageResult, ViewPrior
from utils.evaluation.thresholds import Thresholds

FILE_NAME = "predictions.npz"
VERSION = 1
# A pixel. With 16, AP50 of made-up boxes of 15 to 40 pixels moved by up to 0.005; with 256 by less
# than 0.0001.
BOX_STEPS = 256
SCORE_STEPS = 65535  # so that only the least confident can tie
# What NumPy and JSON raise for a file that is cut off, changed, or of another program
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    RecursionError,
    zipfile.BadZipFile,
)
ARRAYS = (
    "images",
    "sizes",
    "counts",
    "boxes_xyxy",
    "scores",
    "classes",
    "view_probabilities",
    "detection_losses",
)


@dataclass(frozen=True)
class Header:
    """Of what, and with what, predictions were made.

    Attributes:
        names, view_names: of the box classes and the views, by number.
        tasks: those the network answers.
        split: its name.
        fingerprint: of the split, see `Split.fingerprint`.
        image_size: side of the letterboxed square, pixels.
        precision, torch, machine: in words.
        confidence: the threshold of the boxes, chosen on validation; None if none was.
        bits: see `JointDataset`.
        view_prior: the fields of `ViewPrior`, or None.
        trained_on: fingerprint of the training split; "" if unknown.
        thresholds: the fields of `Thresholds`, of the model's file; None if it has none.
    """

    names: list[str]
    view_names: list[str]
    tasks: list[str]
    split: str
    fingerprint: str
    image_size: int
    precision: str
    torch: str
    machine: str
    confidence: float | None = None
    bits: int | None = None
    view_prior: dict[str, object] | None = None
    trained_on: str = ""
    thresholds: dict[str, object] | None = None

    @classmethod
    def of(
        cls,
        data: DataConfig,
        dataset: JointDataset,
        tasks: Sequence[str],
        compute: Compute,
        confidence: float | None = None,
        view_prior: Mapping[str, object] | None = None,
        trained_on: str = "",
        thresholds: Mapping[str, object] | None = None,
    ) -> Header:
        """Of predictions on a split as it is loaded here, by this machine."""
        return cls(
            names=list(data.names),
            view_names=list(data.view_names),
            tasks=list(tasks),
            split=dataset.split.name,
            fingerprint=dataset.split.fingerprint(),
            image_size=dataset.image_size,
            precision=str(compute),
            torch=torch.__version__,
            machine=machine_name(compute.device),
            confidence=confidence,
            bits=dataset.bits,
            view_prior=view_prior,
            trained_on=trained_on,
            thresholds=thresholds,
        )

    @property
    def kept_thresholds(self) -> Thresholds:
        """Those of the model's file."""
        return from_mapping(Thresholds, self.thresholds or {})

    @property
    def prior(self) -> ViewPrior | None:
        """What the training labels alone say of the view; JSON's keys are text."""
        if self.view_prior is None:
            return None
        by_class = {int(number): view for number, view in self.view_prior["by_class"].items()}
        return ViewPrior(self.view_prior["majority"], by_class)


@dataclass(frozen=True)
class FramePrediction:
    """What a network says of one frame.

    Attributes:
        height, width: of the original image, pixels.
        boxes_xyxy: (m, 4) pixels of the original image, by falling score.
        scores, classes: (m,).
        view_probabilities: (views,); empty without a view head.
        detection_loss: of the frame alone; NaN where it was not measured.
    """

    height: int
    width: int
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    view_probabilities: np.ndarray
    detection_loss: float = math.nan

    def beside_truth(
        self, data: DataConfig, split: Split, index: int, bits: int | None
    ) -> ImageResult:
        """The prediction, and the labels of the split's frame."""
        path = split.images[index]
        labels = split.labels[index]
        centre, half = labels.boxes[:, 1:3], labels.boxes[:, 3:5] / 2
        corners = np.concatenate((centre - half, centre + half), axis=1)
        return ImageResult(
            image=str(path),
            group=data.group_of(path),
            height=self.height,
            width=self.width,
            true_boxes_xyxy=corners * [self.width, self.height, self.width, self.height],
            true_classes=labels.boxes[:, 0].astype(int),
            true_view=labels.view,
            boxes_xyxy=self.boxes_xyxy,
            scores=self.scores,
            classes=self.classes,
            view_probabilities=self.view_probabilities,
            bits=bits,
            detection_loss=self.detection_loss,
        )


@dataclass(frozen=True)
class Predictions:
    """The content of a file; `arrays` as in the module's docstring."""

    source: Path
    header: Header
    arrays: dict[str, np.ndarray]

    def frames(self) -> Iterator[FramePrediction]:
        """One after the other, in pixels and shares of 1."""
        return unpacked(self.arrays)


def packed(found: Sequence[FramePrediction | ImageResult]) -> dict[str, np.ndarray]:
    """The arrays of a file, but for `images`, of at least one frame."""
    boxes_xyxy = np.concatenate([frame.boxes_xyxy for frame in found])
    scores = np.concatenate([frame.scores for frame in found])
    classes = np.concatenate([frame.classes for frame in found])
    probabilities = [frame.view_probabilities for frame in found]
    return {
        "sizes": _compact(np.array([(frame.height, frame.width) for frame in found])),
        "counts": _compact(np.array([len(frame.scores) for frame in found])),
        "boxes_xyxy": _compact(_steps(boxes_xyxy, BOX_STEPS)),
        "scores": _compact(_steps(scores, SCORE_STEPS)),
        "classes": _compact(classes.astype(int)),
        "view_probabilities": np.array(probabilities, np.float32),
        "detection_losses": np.array([frame.detection_loss for frame in found], np.float32),
    }


def unpacked(arrays: Mapping[str, np.ndarray]) -> Iterator[FramePrediction]:
    """The frames of `packed` arrays, one after the other, boxes and scores rounded."""
    boxes_xyxy = arrays["boxes_xyxy"] / np.float64(BOX_STEPS)
    scores = arrays["scores"] / np.float64(SCORE_STEPS)
    classes = arrays["classes"].astype(int)
    sizes = arrays["sizes"].tolist()
    losses = arrays["detection_losses"].tolist()
    start = 0
    for index, end in enumerate(np.cumsum(arrays["counts"], dtype=int).tolist()):
        height, width = sizes[index]
        yield FramePrediction(
            height=height,
            width=width,
            boxes_xyxy=boxes_xyxy[start:end],
            scores=scores[start:end],
            classes=classes[start:end],
            view_probabilities=arrays["view_probabilities"][index],
            detection_loss=losses[index],
        )
        start = end


def write_predictions(path: Path, results: Sequence[ImageResult], header: Header) -> None:
    """Write the predictions in `results`, without their truth, atomically.

    Equal ones give equal bytes.
    """
    images = names_below([Path(result.image) for result in results])
    arrays = {"images": np.array(images)} | packed(results)
    text = json.dumps({"version": VERSION, **to_mapping(header)})

    def save(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, header=np.array(text), **arrays)

    write_atomically(path, save)


def read_predictions(path: str | Path) -> Predictions:
    """What `write_predictions` wrote.

    Raises:
        UserError: there is no such file, or it is no whole file of predictions.
    """
    path = Path(path)
    expected = f"expected the {FILE_NAME} that a training or val.py left in its folder"
    try:
        require_regular(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {expected}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; {expected}") from None
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            arrays = {name: archive[name] for name in ARRAYS}
        version = header.pop("version")
    except UNREADABLE:
        raise UserError(
            f"{path}: no file of predictions, or a damaged one; evaluate the weights again"
        ) from None
    if version != VERSION:
        raise UserError(
            f"{path}: version {version} of the format, expected {VERSION}; "
            "evaluate the weights again"
        )
    return Predictions(path, _header(header, path), arrays)


def _header(content: dict[str, object], path: Path) -> Header:
    try:
        return from_mapping(Header, content)
    except (UserError, TypeError) as error:
        raise UserError(f"{path}: header: {error}; evaluate the weights again") from None


def results_from(predictions: Predictions, split: Split, data: DataConfig) -> list[ImageResult]:
    """The predictions beside their truth, one result a frame; the same as when they were made.

    Raises:
        UserError: the split has other images, labels or names than the one that the predictions
            were made on.
    """
    _refuse_other_data(predictions, split, data)
    bits = predictions.header.bits
    return [
        frame.beside_truth(data, split, index, bits)
        for index, frame in enumerate(predictions.frames())
    ]


def _refuse_other_data(predictions: Predictions, split: Split, data: DataConfig) -> None:
    header = predictions.header
    source = predictions.source
    where = f"{split.name} of {data.source}"
    fix = "name the data set as it was, or evaluate the weights again"
    for key, found, expected in (
        ("names", list(data.names), header.names),
        ("cls_names", list(data.view_names), header.view_names),
    ):
        if found != expected:
            raise UserError(
                f"{data.source}: {key} {found}, but {source} has predictions of {expected}; {fix}"
            )
    images = names_below(split.images)
    expected = predictions.arrays["images"].tolist()
    if images != expected:
        raise UserError(
            f"{where}: {_first_difference(images, expected)}, as {source} has it; {fix}"
        )
    if split.fingerprint() != header.fingerprint:
        changed = "a label or an image's size in bytes is not what it was"
        raise UserError(
            f"{where}: {changed} when {source} was written "
            f"(fingerprint {header.fingerprint}); {fix}"
        )


def _first_difference(found: Sequence[str], expected: Sequence[str]) -> str:
    pairs = zip(found, expected, strict=False)
    for index, (own, other) in enumerate(pairs):
        if own != other:
            return f"image {index + 1} is {own}, expected {other}"
    return f"{len(found)} images, expected {len(expected)}"


def names_below(images: Sequence[Path]) -> list[str]:
    """The paths below the folder that holds all images, with slashes."""
    folder = os.path.commonpath([image.parent for image in images])
    return [Path(os.path.relpath(image, folder)).as_posix() for image in images]


def write_coco_predictions(path: Path, results: Sequence[ImageResult]) -> None:
    """Every detection in COCO's result format.

    That is image, category, box as [left, top, width, height] in pixels, and score.
    """
    rows = []
    image_ids = _image_ids([Path(result.image) for result in results])
    for image_id, result in zip(image_ids, results, strict=True):
        detections = zip(result.boxes_xyxy.tolist(), result.scores, result.classes, strict=True)
        for (left, top, right, bottom), score, category in detections:
            rows.append(
                {
                    "image_id": image_id,
                    "category_id": int(category),
                    "bbox": [left, top, right - left, bottom - top],
                    "score": round(float(score), 5),
                }
            )
    write_json(path, rows)


def _image_ids(images: Sequence[Path]) -> list[str]:
    """File names without suffix, as YOLOv5's; where these repeat, paths below the common folder."""
    stems = [image.stem for image in images]
    if len(set(stems)) == len(images):
        return stems
    return [Path(name).with_suffix("").as_posix() for name in names_below(images)]


def _steps(values: np.ndarray, steps: int) -> np.ndarray:
    """The nearest whole numbers of steps, `steps` of which are 1."""
    return np.rint(np.asarray(values, float) * steps).astype(int)


def _compact(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest type that holds them."""
    smallest = np.min_scalar_type(values.min(initial=0))
    largest = np.min_scalar_type(values.max(initial=0))
    return values.astype(np.promote_types(smallest, largest))
