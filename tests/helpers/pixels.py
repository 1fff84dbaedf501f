"""The pixels of a picture that was drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def pixels(path: Path) -> np.ndarray:
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def count_of(path: Path, colour: str) -> int:
    rgb = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return int((pixels(path) == rgb).all(axis=-1).sum())
