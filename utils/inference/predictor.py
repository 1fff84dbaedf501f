"""What a model finds in images of any sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from torch import nn

from utils.checkpoints.model_file import ModelMetadata
from utils.core.device import Compute
from utils.core.options import usual_confidence
from utils.data.boxes import xyxy_to_xywh
from utils.data.detections import boxes_in_pixels, no_detections
from utils.data.flow_colour import has_flow_colour
from utils.data.images import Letterbox
from utils.data.labels import UNKNOWN_VIEW, FrameLabels
from utils.inference.grad_cam import grad_cam, inputs_of, to_image

PARTS = 2  # of a batch, on a CPU


@dataclass(frozen=True)
class Prediction:
    """Boxes and view of one image.

    Attributes:
        height, width: of the image, pixels.
        boxes_xyxy: (n, 4) float64, pixels of the image, inside it and with an area above zero; best
            first.
        scores, classes: (n,) confidences and class numbers.
        view_probabilities: (views,); empty without a view head.
        attention: (height, width) float32 in [0, 1], how much each place raised the view's logit;
            None if not asked for.
        is_scored: False of a frame that the model was not asked about.
        least_probability: a view that is less probable than this is unknown.
    """

    height: int
    width: int
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    view_probabilities: np.ndarray
    attention: np.ndarray | None = None
    is_scored: bool = True
    least_probability: float = 0

    @property
    def view(self) -> int:
        """The most probable view; -1 if it is unknown, or there is no view head."""
        return sure_view(self.view_probabilities, self.least_probability)

    def labels(self) -> FrameLabels:
        """The same as labels: without confidences, boxes as fractions of the image."""
        xywh = xyxy_to_xywh(torch.from_numpy(self.boxes_xyxy)).numpy()
        xywhn = xywh / [self.width, self.height, self.width, self.height]
        return FrameLabels(np.column_stack((self.classes, xywhn)), self.view)


def sure_view(probabilities: np.ndarray, least_probability: float) -> int:
    """The most probable of (views,); -1 if that is less probable than asked, or there is none."""
    if not len(probabilities) or probabilities.max() < least_probability:
        return UNKNOWN_VIEW
    return int(probabilities.argmax())


def view_text(
    probabilities: np.ndarray, least_probability: float, view_names: Sequence[str]
) -> str:
    """The name of the `sure_view` of (views,), of which there are some; else "unknown"."""
    view = sure_view(probabilities, least_probability)
    if view == UNKNOWN_VIEW:
        return "unknown"
    return view_names[view]


def not_scored(height: int, width: int, with_attention: bool = False) -> Prediction:
    """Of an image that the model was not asked about: no box and no view."""
    attention = None
    if with_attention:  # so that the pictures of a video are of one size
        attention = np.zeros((height, width), np.float32)
    return Prediction(
        height,
        width,
        boxes_xyxy=np.zeros((0, 4)),
        scores=np.zeros(0),
        classes=np.zeros(0, int),
        view_probabilities=np.zeros(0),
        attention=attention,
        is_scored=False,
    )


@dataclass(frozen=True)
class Predictor:
    """A model in eval mode and what is needed to use it: call it with an image, or `predict` many.

    Attributes:
        size: side of the letterboxed square, pixels.
        confidence, iou, max_detections: of `utils.data.boxes.non_max_suppression`; None without a
            detector.
        explained: the model's view head, if its decision is to be explained.
        several_labels: a box is kept once for every class above `confidence`, as in validation.
        needs_colour: a frame without flow colour is not scored.
        least_probability: of a view, see `Prediction`.
        pool: threads that share out the images of a batch, see `threads_for_parts`; None with
            `explained`, which listens to one forward pass at a time.
    """

    model: nn.Module
    compute: Compute
    size: int
    confidence: float | None
    iou: float = 0.45
    max_detections: int = 300
    explained: nn.Module | None = None
    several_labels: bool = False
    needs_colour: bool = False
    least_probability: float = 0
    pool: ThreadPoolExecutor | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        metadata: ModelMetadata,
        compute: Compute,
        size: int | None = None,
        confidence: float | None = None,
        *others: object,
    ) -> Predictor:
        """With the image size and the confidence of the model's file where none is given."""
        if confidence is None:
            confidence = metadata.confidence
        if confidence is None and "detection" in model.tasks:
            confidence = usual_confidence()
        predictor = cls(model, compute, size or metadata.imgsz, confidence, *others)
        return replace(predictor, needs_colour=metadata.needs_colour)

    def __call__(self, image: np.ndarray) -> Prediction:
        """(height, width, 3) uint8 RGB -> what the model finds in it."""
        return self.predict([image])[0]

    def predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """What the model finds in images of any sizes; it is asked about all of them at once."""
        predictions = [self._blank(image) for image in images]
        asked = [number for number, image in enumerate(images) if self._is_asked_about(image)]
        if asked:
            found = self._answers_in_parts([images[number] for number in asked])
            for number, prediction in zip(asked, found, strict=True):
                predictions[number] = prediction
        return predictions

    def _is_asked_about(self, image: np.ndarray) -> bool:
        return not self.needs_colour or has_flow_colour(image)

    def _blank(self, image: np.ndarray) -> Prediction:
        """What is said of an image that the model is not asked about."""
        blank = not_scored(*image.shape[:2], with_attention=self.explained is not None)
        return replace(blank, least_probability=self.least_probability)

    def _answers_in_parts(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        if self.pool is None:
            return self._answers(images)
        most = math.ceil(len(images) / PARTS)
        parts = [images[first : first + most] for first in range(0, len(images), most)]
        return list(chain.from_iterable(self.pool.map(self._answers, parts)))

    @torch.no_grad()
    def _answers(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        sizes = [image.shape[:2] for image in images]
        letterboxes = [Letterbox.fit(*size, self.size) for size in sizes]
        pairs = zip(letterboxes, images, strict=True)
        squares = np.stack([letterbox.apply(image) for letterbox, image in pairs])
        inputs = nullcontext()
        if self.explained:
            inputs = inputs_of(self.explained)
        with inputs as head_inputs, self.compute.autocast():
            outputs = self.model(self.compute.images(torch.from_numpy(squares).permute(0, 3, 1, 2)))
        rows = self._detections(outputs, letterboxes, sizes)
        probabilities = [np.zeros(0)] * len(images)
        if "classify" in outputs:
            probabilities = outputs["classify"].double().softmax(dim=1).cpu().numpy()
        attentions = [None] * len(images)
        if head_inputs:
            views = outputs["classify"].argmax(dim=1)
            maps = grad_cam(self.explained, head_inputs[0], views).cpu().numpy()
            attentions = [to_image(*parts) for parts in zip(maps, letterboxes, sizes, strict=True)]
        answers = zip(sizes, rows, probabilities, attentions, strict=True)
        return [self._prediction(*answer) for answer in answers]

    def _prediction(
        self,
        size: tuple[int, int],
        rows: np.ndarray,
        probabilities: np.ndarray,
        attention: np.ndarray | None,
    ) -> Prediction:
        """Of the rows of `boxes_in_pixels` of an image of this height and width."""
        boxes_xyxy = rows[:, :4]
        # The others lie in the letterbox's border.
        kept = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
        return Prediction(
            *size,
            boxes_xyxy=boxes_xyxy[kept],
            scores=rows[kept, 4],
            classes=rows[kept, 5].astype(int),
            view_probabilities=probabilities,
            attention=attention,
            least_probability=self.least_probability,
        )

    def _detections(
        self,
        outputs: Mapping[str, object],
        letterboxes: Sequence[Letterbox],
        sizes: Sequence[tuple[int, int]],
    ) -> list[np.ndarray]:
        """The rows of `boxes_in_pixels` of every image; none without a detector."""
        if "detect" not in outputs:
            return no_detections(len(sizes))
        return boxes_in_pixels(
            self.model,
            outputs["detect"],
            letterboxes,
            sizes,
            confidence=self.confidence,
            iou=self.iou,
            max_detections=self.max_detections,
            several_labels=self.several_labels,
        )


@contextmanager
def threads_for_parts(device: torch.device) -> Iterator[ThreadPoolExecutor | None]:
    """Threads for the parts of a batch, each with its share of the processor's cores.

    PyTorch's own threads wait for each other after every layer, and do so at full speed: time that
    reading and drawing miss. Parts wait for each other once a batch. None where that is no gain: on
    a GPU, or with one core.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads < PARTS:
        yield None
        return
    torch.set_num_threads(threads // PARTS)
    try:
        with ThreadPoolExecutor(PARTS) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)
