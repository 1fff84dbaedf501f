"""Where in a clip the ultrasound image lies, so that all around it can be blackened.

The rectangles that the file states are taken where there are any. Else the sector is looked for:
tissue and speckle change from frame to frame, while names, dates and scales stand still; and the
image is a large patch of light, while letters and lines are thin.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from utils.data.dicom_header import Region

LEAST_CHANGE = 32  # of 255, from the darkest to the brightest frame; compression changes less
LEAST_LIGHT = 16  # of 255, in the brightest frame
LEAST_SHARE = 0.03  # of the picture; a smaller patch is no image
# The light may show more of the sector than the change does, but not many times more: then
# something stands around it that is no image.
MOST_GROWTH = 2
MOST_OF_STILL = 0.8  # of the picture, where nothing changes
FINEST = 40  # height or width over the gaps that are closed; patches of twice that are letters


def region_mask(regions: Iterable[Region], height: int, width: int) -> np.ndarray:
    """(height, width) bool: the regions of tissue, those with a spacing in mm in both directions.

    Those of spectra and of ECGs, which have time as one axis, do not count.
    """
    mask = np.zeros((height, width), bool)
    for region in regions:
        if is_tissue(region):
            mask[region.top : region.bottom, region.left : region.right] = True
    return mask


def is_tissue(region: Region) -> bool:
    return region.spacing_x_mm is not None and region.spacing_y_mm is not None


def find_sector(frames: Iterable[np.ndarray]) -> np.ndarray | None:
    """(height, width) bool: the convex hull of the image in frames (height, width, 3) uint8.

    None where it is not clear: no frame, no large patch, or a still picture that is light all over.
    """
    darkest = brightest = None
    for frame in frames:
        if darkest is None:
            darkest, brightest = frame.copy(), frame.copy()
        np.minimum(darkest, frame, out=darkest)
        np.maximum(brightest, frame, out=brightest)
    if darkest is None:
        return None
    changing = _largest_patch((brightest - darkest).max(axis=2) > LEAST_CHANGE)
    lit = _largest_patch(cv2.blur(brightest, (3, 3)).max(axis=2) > LEAST_LIGHT)
    is_moving = changing.mean() >= LEAST_SHARE
    if not is_moving and not LEAST_SHARE <= lit.mean() <= MOST_OF_STILL:
        return None
    if not is_moving:
        return lit
    if lit.mean() <= MOST_GROWTH * changing.mean():
        return lit | changing
    return changing


def _largest_patch(wanted: np.ndarray) -> np.ndarray:
    """The convex hull of the largest patch of a mask that is not thin; (height, width) bool."""
    finest = max(3, min(wanted.shape) // FINEST)
    closed = cv2.morphologyEx(wanted.astype(np.uint8), cv2.MORPH_CLOSE, _disc(finest))
    patches = cv2.morphologyEx(closed, cv2.MORPH_OPEN, _disc(2 * finest))
    count, numbers, facts, _ = cv2.connectedComponentsWithStats(patches)
    hull = np.zeros(wanted.shape, np.uint8)
    if count > 1:
        largest = 1 + facts[1:, cv2.CC_STAT_AREA].argmax()
        points = cv2.findNonZero((numbers == largest).astype(np.uint8))
        cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return hull.astype(bool)


def _disc(diameter: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
