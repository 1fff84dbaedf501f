"""An image file as pixels, and the letterbox that fits it into a square, in both directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from utils.core.pixels import DEEPEST, FEW_BITS, decode, fits_few_bits, largest_value, to_8_bits
from utils.core.script import UserError
from utils.core.user_file import read_regular

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

# What lies beside images and is not worth a word when it is passed by: labels, notes, and what
# systems leave behind.
BESIDE_SUFFIXES = {".cache", ".csv", ".json", ".md", ".txt", ".yaml", ".yml"}
BESIDE_NAMES = {"desktop.ini", "thumbs.db"}
NAMED_KINDS = 6  # of files left out

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
        new_height = max(round(height * ratio), 1)
        new_width = max(round(width * ratio), 1)
        pad_x = (size - new_width) / 2
        pad_y = (size - new_height) / 2
        return cls(
            ratio,
            new_height,
            new_width,
            pad_left=round(pad_x - 0.1),
            pad_top=round(pad_y - 0.1),
            pad_right=round(pad_x + 0.1),
            pad_bottom=round(pad_y + 0.1),
        )

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
            method = cv2.INTER_LINEAR
            if self.ratio < 1:
                method = cv2.INTER_AREA
            image = cv2.resize(image, (self.width, self.height), interpolation=method)
        borders = (self.pad_top, self.pad_bottom, self.pad_left, self.pad_right)
        return cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=(PAD_VALUE,) * 3)

    def boxes(self, boxes_xywhn: np.ndarray) -> np.ndarray:
        """(n, 4) fractions of the original image -> fractions of the letterboxed one."""
        scale = np.array([self.width, self.height] * 2)
        shift = np.array([self.pad_left, self.pad_top, 0, 0])
        padded = (
            self.width + self.pad_left + self.pad_right,
            self.height + self.pad_top + self.pad_bottom,
        )
        return (boxes_xywhn * scale + shift) / (padded * 2)

    def to_original(self, boxes_xyxy: np.ndarray, height: int, width: int) -> np.ndarray:
        """(n, 4) pixels of the letterboxed image -> pixels of the original, clipped to it.

        Each axis has its own factor, since the scaled image has whole pixels.

        Args:
            height, width: of the original.
        """
        shift = np.array([self.pad_left, self.pad_top] * 2)
        scale = np.array([width / self.width, height / self.height] * 2)
        return ((boxes_xyxy - shift) * scale).clip(0, [width, height] * 2)


def left_out(paths: Iterable[Path], wanted: Collection[str]) -> str:
    """How many files have none of the `wanted` suffixes, by kind; empty if there are none.

    An example: "12 .dcm, 2 without suffix".

    Hidden files and what lies beside images (`BESIDE_SUFFIXES`, `BESIDE_NAMES`) do not count.
    Digits after the last dot, as in the UIDs that DICOM files are called by, are no suffix.
    """
    silent = BESIDE_SUFFIXES | set(wanted)
    counts: Counter[str] = Counter()
    for path in paths:
        suffix = path.suffix.lower()
        is_hidden = path.name.startswith(".")
        is_beside = path.name.lower() in BESIDE_NAMES or suffix in silent
        if is_hidden or is_beside or not path.is_file():
            continue
        if not suffix or suffix[1:].isdecimal():
            suffix = "without suffix"
        counts[suffix] += 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count} {kind}" for kind, count in ranked[:NAMED_KINDS]]
    others = sum(count for _, count in ranked[NAMED_KINDS:])
    if others:
        parts.append(f"{others} of other kinds")
    return ", ".join(parts)


def read_image(path: Path, bits: int | None = None) -> np.ndarray:
    """(height, width, 3) uint8 RGB; any path the file system allows.

    Args:
        bits: stored in an image of 16 bits a channel, see `utils.core.pixels`; None if nobody has
            said.

    Raises:
        UserError: the file cannot be read, is not an image, or has 16 bits a channel and it is
            unknown how many of them are stored.
    """
    return to_rgb_of_8_bits(read_bytes(path), bits, path)


def to_rgb_of_8_bits(content: bytes, bits: int | None, path: Path, page: int = 0) -> np.ndarray:
    """`read_image` of a file's content; of a TIFF, one of its pages, from 0."""
    pixels = decode_image(content, path, page)
    largest = largest_value(pixels)
    if bits is None and fits_few_bits(largest):
        raise UserError(
            f"{path}: the largest value of its {DEEPEST}-bit pixels is {largest}, which fits "
            f"{FEW_BITS} bits or fewer, and the model does not say how many are stored; "
            f"train with 'bits: {FEW_BITS}' or so in data.yaml"
        )
    return reduce_depth(pixels, bits, path)


def decode_image(content: bytes, path: Path, page: int = 0) -> np.ndarray:
    """An image file's content -> (height, width, 3) RGB, uint8 or uint16; `path` is for the error.

    Args:
        page: of a TIFF, from 0.

    Raises:
        UserError: it is not an image, see `utils.core.pixels.decode`.
    """
    try:
        return decode(content, page)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def reduce_depth(pixels: np.ndarray, bits: int | None, path: Path) -> np.ndarray:
    """`to_8_bits`, with the file's name in its error."""
    try:
        return to_8_bits(pixels, bits)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_bytes(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read as an image: {error.strerror}") from None
