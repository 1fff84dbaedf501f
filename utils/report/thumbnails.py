"""Small pictures of frames that can stand in a page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from utils.data.images import read_image
from utils.evaluation.results import ImageResult

LONGEST_SIDE_PX = 256
QUALITY = 80


def thumbnails(results: Sequence[ImageResult]) -> list[str]:
    """A JPEG of each frame, as a data URL."""
    return [thumbnail(read_image(Path(own.image), own.bits)) for own in results]


def thumbnail(image: np.ndarray) -> str:
    """A JPEG, at most `LONGEST_SIDE_PX` wide and high, as a data URL.

    Args:
        image: (height, width, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    ratio = min(1, LONGEST_SIDE_PX / max(height, width))
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"
