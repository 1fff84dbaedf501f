"""One picture a clip, for a person to see at a glance what is left in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from utils.data.images import read_image

COLUMNS = 4
MOST_FRAMES = 11  # the last tile is that of all frames
TILE_WIDTH = 400
GAP = 4
GAP_VALUE = 255  # white, so that black borders of frames are seen


def contact_sheet(files: Sequence[Path], brightest: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8: frames evenly from first to last, then the brightest of all.

    Args:
        files: frames of one size.
        brightest: (height, width, 3) uint8 RGB: each pixel's largest value in any frame, so that
            letters that are seen in a single frame do not escape.
    """
    count = min(len(files), MOST_FRAMES)
    chosen = np.linspace(0, len(files) - 1, count).round().astype(int)
    tiles = [_tile(read_image(files[index])) for index in chosen]
    tiles.append(_tile(brightest))
    empty = np.full_like(tiles[0], GAP_VALUE)
    while len(tiles) % COLUMNS:
        tiles.append(empty)
    rows = []
    for first in range(0, len(tiles), COLUMNS):
        rows.append(np.hstack(tiles[first : first + COLUMNS]))
    return np.vstack(rows)


def _tile(frame: np.ndarray) -> np.ndarray:
    height = max(1, round(frame.shape[0] * TILE_WIDTH / frame.shape[1]))
    small = cv2.resize(frame, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
    border = (0, GAP, 0, GAP)
    return cv2.copyMakeBorder(small, *border, cv2.BORDER_CONSTANT, value=(GAP_VALUE,) * 3)
