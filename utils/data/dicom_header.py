"""What a DICOM object's header says about its frames: when they were taken, and what a pixel spans.

Nothing that names a patient is looked at. Tags are those of DICOM PS3.3: C.7.6.5 (cine),
C.8.5.5 (ultrasound regions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# pydicom's Dataset; the package is optional.
Dataset = Any

CENTIMETRES = 3  # a value of PhysicalUnitsXDirection
MM_A_CM = 10
MS_A_SECOND = 1000
FRAME_TIME = "FrameTime"
FRAME_TIME_VECTOR = "FrameTimeVector"
FRAME_RATES = ("CineRate", "RecommendedDisplayFrameRate")


@dataclass(frozen=True)
class Region:
    """A part of the picture with a scale of its own: pixels [top:bottom, left:right].

    Attributes:
        spacing_x_mm, spacing_y_mm: what a pixel spans; None where the scale is no length, as in
            spectral Doppler.
    """

    left: int
    top: int
    right: int
    bottom: int
    spacing_x_mm: float | None
    spacing_y_mm: float | None


def regions_of(
    header: Dataset, height: int, width: int
) -> tuple[tuple[Region, ...], tuple[str, ...]]:
    """The regions that lie inside the picture, and a warning if others do not.

    Regions are stale where somebody scaled or cut the picture and left the header as it was.
    """
    items = header.get("SequenceOfUltrasoundRegions") or ()
    listed = [region for region in map(_region, items) if region]
    fitting = []
    for region in listed:
        fits_across = 0 <= region.left < region.right <= width
        fits_down = 0 <= region.top < region.bottom <= height
        if fits_across and fits_down:
            fitting.append(region)
    warnings = ()
    if len(fitting) < len(listed):
        stale = len(listed) - len(fitting)
        warnings = (
            f"{stale} of {len(listed)} ultrasound regions do not fit its picture of "
            f"{width} x {height} pixels and are not used",
        )
    return tuple(fitting), warnings


def _region(item: Dataset) -> Region | None:
    """None where a corner is missing, or is no number."""
    names = ("MinX0", "MinY0", "MaxX1", "MaxY1")
    corners = [item.get(f"RegionLocation{name}") for name in names]
    try:
        left, top, last_column, last_row = map(int, corners)
    except (TypeError, ValueError):
        return None
    spacing = [_spacing_mm(item, axis) for axis in "XY"]
    return Region(left, top, last_column + 1, last_row + 1, *spacing)


def _spacing_mm(item: Dataset, axis: str) -> float | None:
    delta = item.get(f"PhysicalDelta{axis}")
    if item.get(f"PhysicalUnits{axis}Direction") != CENTIMETRES:
        return None
    if not isinstance(delta, float) or not 0 < abs(delta) < np.inf:
        return None
    return abs(delta) * MM_A_CM


def frame_times_of(
    header: Dataset, frames: int
) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """When each frame was taken, in ms after the first; a warning if what is stated is no use.

    What FrameIncrementPointer names comes first, then FrameTimeVector, FrameTime, CineRate and
    RecommendedDisplayFrameRate. None where nothing is stated, and for a single frame.

    Args:
        frames: that are there; a header may claim any number.
    """
    if frames == 1:
        return None, ()
    warnings = []
    names = _time_elements(header)
    if not names:
        warnings.append("its header does not say when its frames were taken")
    for name in names:
        times = _times_by(name, header[name].value, frames)
        if times is not None:
            return times, tuple(warnings)
        warnings.append(f"its {name} gives no times for {frames} frames and is not used")
    return None, tuple(warnings)


def _time_elements(header: Dataset) -> list[str]:
    """The names of the elements with times, the most trusted first."""
    known = [FRAME_TIME_VECTOR, FRAME_TIME, *FRAME_RATES]
    pointers = header.get("FrameIncrementPointer") or ()
    if not isinstance(pointers, Sequence):
        pointers = (pointers,)
    pointed_at = [name for name in known if _tag_of(name) in pointers]
    ranked = dict.fromkeys([*pointed_at, *known])
    return [name for name in ranked if name in header and header[name].value is not None]


def _tag_of(name: str) -> int:
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(name)


def _times_by(name: str, value: object, frames: int) -> tuple[float, ...] | None:
    """The times that an element's value means; None if it can mean none."""
    try:
        numbers = np.atleast_1d(np.asarray(value, float))
    except (TypeError, ValueError):
        return None
    if name == FRAME_TIME_VECTOR:
        steps = numbers[1:frames]  # the first frame is 0 ms after itself
    else:
        step = numbers[0]
        if name in FRAME_RATES and step:
            step = MS_A_SECOND / step
        steps = np.full(frames - 1, step)
    is_usable = len(steps) == frames - 1 and np.isfinite(steps).all() and (steps > 0).all()
    if not is_usable:
        return None
    return (0.0, *np.cumsum(steps).tolist())
