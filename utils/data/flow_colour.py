"""Whether a frame shows flow: colour Doppler paints it over grey tissue."""

from __future__ import annotations

import cv2
import numpy as np

LEAST_CHROMA = 60  # of 255: largest minus smallest channel; tints of grey frames have less
LEAST_SHARE = 0.002  # of the picture; 2 of the 1225 real frames in the docs have less
# Height or width over the diameter of the thinnest patch that counts: letters, marks and the line
# of an ECG are thinner.
THINNEST = 50


def has_flow_colour(frame_rgb: np.ndarray) -> bool:
    """Whether patches of colour cover enough of a frame, (height, width, 3) uint8 RGB.

    The bar that explains the colours counts as well: it is shown only where colour is on.
    """
    height, width = frame_rgb.shape[:2]
    channels = cv2.blur(frame_rgb, (3, 3)).astype(np.int16)  # without the noise of compression
    chroma = channels.max(axis=2) - channels.min(axis=2)
    side = max(3, min(height, width) // THINNEST)
    is_coloured = (chroma > LEAST_CHROMA).astype(np.uint8)
    patches = cv2.morphologyEx(is_coloured, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    return bool(patches.mean() > LEAST_SHARE)
