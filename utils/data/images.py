"""An image file as pixels, and the letterbox that fits it into a square: both directions of its geometry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from utils.core.script import UserError

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

STRIDE = 32  # of the coarsest level: an image's sides are multiples of it
PAD_VALUE = 114  # grey of the letterbox's borders, as YOLOv5's


@dataclass(frozen=True)
class Letterbox:
    """How an image of height x width is fitted into a square: scaled by `ratio`, then padded.

    Attributes:
        ratio: letterboxed over original size.
        height, width: of the scaled image, in pixels.
        pad_left, pad_top, pad_right, pad_bottom: in pixels.
    """

    ratio: float
    height: int
    width: int
    pad_left: int
    pad_top: int
    pad_right: int
    pad_bottom: int

    @classmethod
    def fit(cls, height: int, width: int, size: int) -> Letterbox:
        """Fit height x width into size x size with YOLOv5's rounding."""
        ratio = size / max(height, width)
        new_height, new_width = (max(round(side * ratio), 1) for side in (height, width))
        pad_x, pad_y = (size - new_width) / 2, (size - new_height) / 2
        left, top = round(pad_x - 0.1), round(pad_y - 0.1)
        right, bottom = round(pad_x + 0.1), round(pad_y + 0.1)
        return cls(ratio, new_height, new_width, left, top, right, bottom)

    def cropped(self, rows: int, columns: int) -> Letterbox:
        """With so many rows less above and below, and columns left and right."""
        return replace(
            self,
            pad_left=self.pad_left - columns,
            pad_right=self.pad_right - columns,
            pad_top=self.pad_top - rows,
            pad_bottom=self.pad_bottom - rows,
        )

    def apply(self, image: np.ndarray) -> np.ndarray:
        """(height, width, 3) -> (size, size, 3)."""
        if image.shape[:2] != (self.height, self.width):
            method = cv2.INTER_AREA if self.ratio < 1 else cv2.INTER_LINEAR
            image = cv2.resize(image, (self.width, self.height), interpolation=method)
        borders = (self.pad_top, self.pad_bottom, self.pad_left, self.pad_right)
        return cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=(PAD_VALUE,) * 3)

    def boxes(self, boxes_xywhn: np.ndarray) -> np.ndarray:
        """(n, 4) fractions of the original image -> fractions of the letterboxed one."""
        scale = np.array([self.width, self.height] * 2)
        shift = np.array([self.pad_left, self.pad_top, 0, 0])
        padded = (self.width + self.pad_left + self.pad_right, self.height + self.pad_top + self.pad_bottom)
        return (boxes_xywhn * scale + shift) / (padded * 2)

    def restore(self, boxes_xyxy: np.ndarray, height: int, width: int) -> np.ndarray:
        """(n, 4) pixels of the letterboxed image -> pixels of the original (`height` x `width`), clipped to it.

        Each axis by its own factor, since the scaled image has whole pixels.
        """
        shift = np.array([self.pad_left, self.pad_top] * 2)
        scale = np.array([width / self.width, height / self.height] * 2)
        return ((boxes_xyxy - shift) * scale).clip(0, [width, height] * 2)


def read_image(path: Path) -> np.ndarray:
    """(height, width, 3) uint8 RGB; any path the file system allows.

    Raises:
        UserError: the file cannot be read or is not an image.
    """
    return decode_image(read_bytes(path), path)


def decode_image(content: bytes, path: Path) -> np.ndarray:
    """An image file's content -> (height, width, 3) uint8 RGB; `path` is for the error.

    Raises:
        UserError: it is not an image.
    """
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # of a file of 0 bytes
        image = None
    if image is None:
        raise UserError(f"{path}: cannot be read as an image (of {len(content)} bytes); replace or remove it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read as an image: {error.strerror}") from None
