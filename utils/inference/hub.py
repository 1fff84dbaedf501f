"""A model for other people's Python programs: an image in, boxes and a view out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.checkpoints.model_file import ModelMetadata
from utils.core.script import UserError
from utils.data.images import read_image
from utils.data.labels import UNKNOWN_VIEW
from utils.inference.predictor import Predictor


@dataclass(frozen=True)
class View:
    """The most probable view of an image."""

    name: str
    probability: float


class Answer(NamedTuple):
    """What a model finds in an image; `boxes, view = model.predict(image)`.

    Attributes:
        boxes: (n, 6) float64: x1, y1, x2, y2 in pixels of the image, confidence, class number; best
            first. None of a model that finds no boxes.
        view: None of a model that names no views, and of an image that it does not score.
    """

    boxes: np.ndarray | None
    view: View | None


@dataclass(frozen=True)
class HubModel:
    """A loaded model.

    Attributes:
        names: of the box classes, by number.
        view_names: of the views.
        bits: that image files of 16 bits a channel store, see `utils.core.pixels`; None if the
            model's file does not tell.
    """

    predictor: Predictor
    names: tuple[str, ...]
    view_names: tuple[str, ...]
    bits: int | None = None

    @classmethod
    def of(cls, predictor: Predictor, metadata: ModelMetadata) -> HubModel:
        return cls(predictor, tuple(metadata.names), tuple(metadata.view_names), metadata.bits)

    def predict(self, image: str | Path | np.ndarray) -> Answer:
        """Boxes and view of an image file, or of (height, width, 3) uint8 RGB.

        Raises:
            UserError: the file cannot be read, or the array is of another shape or type.
        """
        pixels = image
        if not isinstance(image, np.ndarray):
            pixels = read_image(Path(image), self.bits)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise UserError(
                f"image of shape {pixels.shape}, {pixels.dtype}; "
                "expected (height, width, 3), uint8, RGB"
            )
        found = self.predictor(pixels)
        tasks = self.predictor.model.tasks
        boxes = None
        if "detection" in tasks:
            boxes = np.column_stack((found.boxes_xyxy, found.scores, found.classes))
        view = None
        if "classification" in tasks and found.view != UNKNOWN_VIEW:
            probability = float(found.view_probabilities[found.view])
            view = View(self.view_names[found.view], probability)
        return Answer(boxes, view)
