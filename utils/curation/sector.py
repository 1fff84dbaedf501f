"""Where in a clip the ultrasound image lies, so that all around it can be blackened.

The rectangles that the file states are taken where there are any. Else the sector is looked for, by
what changes from frame to frame: tissue and speckle do, while names, dates, scales and the bars
behind them stand still. By its light alone no image can be told from a bar with a name in it, so in
a still picture no sector is found.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from utils.data.dicom_header import Region

SMOOTHED = (5, 5)  # pixels, against the noise of compression
LEAST_CHANGE = 8  # of 255, from the darkest to the brightest frame
LEAST_SHARE = 0.03  # of the picture; a smaller patch is no image
MOST_SHARE = 0.95  # of the picture; where more changes, letters do, too, as between two pages
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
    """(height, width) bool: the convex hull of what changes in frames (height, width, 3) uint8.

    None where it is not clear: no frame, no large patch that changes, or one all over the picture.
    """
    darkest = brightest = None
    for frame in frames:
        smooth = cv2.blur(frame, SMOOTHED)
        if darkest is None:
            darkest, brightest = smooth, smooth.copy()
        np.minimum(darkest, smooth, out=darkest)
        np.maximum(brightest, smooth, out=brightest)
    if darkest is None:
        return None
    sector = _largest_patch((brightest - darkest).max(axis=2) > LEAST_CHANGE)
    if not LEAST_SHARE <= sector.mean() <= MOST_SHARE:
        return None
    return sector


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
