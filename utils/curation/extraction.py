"""A clip's frames as PNG files that hold nothing but the ultrasound image.

Everything outside the image region is black. What is written inside it stays: no tool can promise
otherwise, so there is a contact sheet of every clip, for a person to look at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from utils.core.files import write_bytes
from utils.core.script import UserError
from utils.curation.contact_sheet import contact_sheet
from utils.curation.pseudonyms import ClipName
from utils.curation.sector import MOST_SHARE, find_sector, is_tissue, region_mask
from utils.data.dicom_header import Region
from utils.data.flow_colour import has_flow_colour

MS_A_SECOND = 1000
ROUNDING = 1e-6  # times are sums of fractions


@dataclass(frozen=True)
class Selection:
    """Which frames of a clip are kept.

    Attributes:
        every: the first of so many.
        fps: at most so many a second; None: all.
        only_colour: those with flow colour.
    """

    every: int = 1
    fps: float | None = None
    only_colour: bool = False

    def indices(self, times_ms: tuple[float, ...] | None) -> Callable[[int], bool]:
        """Whether to keep a frame, by its number from 0; its colour is another matter.

        Raises:
            UserError: `fps` is asked for, and there are no times.
        """
        if self.fps is None:
            return lambda index: index % self.every == 0
        if times_ms is None:
            raise UserError("states no frame times, which --fps needs; use --every for it")
        slots = [math.floor(time * self.fps / MS_A_SECOND + ROUNDING) for time in times_ms]
        first_of_slot = {0}
        for index, (before, own) in enumerate(pairwise(slots), start=1):
            if own > before:
                first_of_slot.add(index)
        return first_of_slot.__contains__


@dataclass(frozen=True)
class ClipContent:
    """A clip, from whatever file.

    Attributes:
        frames: gives them from the first on at every call, (height, width, 3) uint8 RGB; may raise
            a `UserError` after some of them.
        times_ms: of the frames; None if the file states none.
        regions: of the picture, as stated.
    """

    frames: Callable[[], Iterator[np.ndarray]]
    times_ms: tuple[float, ...] | None = None
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Extracted:
    """What was written of a clip.

    Attributes:
        files: the frames.
        clip_frames: that the clip has, as far as it could be read.
        height, width: in pixels.
        frame_time_ms: from a frame of the clip to the next, the median; None if not stated.
        spacing_mm: of a pixel across and down; None if not stated.
        kept: "regions" or "sector".
        problem: why the clip ended early; empty if it did not.
    """

    name: ClipName
    files: tuple[Path, ...]
    clip_frames: int
    height: int
    width: int
    frame_time_ms: float | None
    spacing_mm: tuple[float, float] | None
    kept: str
    problem: str


def extract(content: ClipContent, name: ClipName, folder: Path, selection: Selection) -> Extracted:
    """Write `images/NAME_F0001.png`, ... and `sheets/NAME.png` into the folder.

    Frames are numbered as in the clip, whichever are kept.

    Raises:
        UserError: there is no frame or no image in it, or what the selection needs is not stated.
        OSError: a file cannot be written.
    """
    is_chosen = selection.indices(content.times_ms)
    mask, kept = image_mask(content)
    reader = FrameReader(content)
    sheet_frame = np.zeros((*mask.shape, 3), np.uint8)
    files = []
    for index, frame in enumerate(reader):
        if not is_chosen(index):
            continue
        blackened = frame * mask[..., None]
        if selection.only_colour and not has_flow_colour(blackened):
            continue
        files.append(folder / "images" / f"{name.frame(index + 1)}.png")
        write_png(files[-1], blackened)
        np.maximum(sheet_frame, blackened, out=sheet_frame)
    if files:
        write_png(folder / "sheets" / f"{name}.png", contact_sheet(files, sheet_frame))
    return Extracted(
        name=name,
        files=tuple(files),
        clip_frames=reader.count,
        height=mask.shape[0],
        width=mask.shape[1],
        frame_time_ms=frame_time_of(content.times_ms),
        spacing_mm=spacing_of(content.regions),
        kept=kept,
        problem=reader.problem,
    )


class FrameReader:
    """The frames of a clip up to the first that cannot be read; `problem` says what is with it."""

    def __init__(self, content: ClipContent):
        self._content = content
        self.count = 0
        self.problem = ""

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            for frame in self._content.frames():
                self.count += 1
                yield frame
        except UserError as error:
            self.problem = str(error)


def image_mask(content: ClipContent) -> tuple[np.ndarray, str]:
    """(height, width) bool: where the image is; and by what it was found: "regions" or "sector".

    Regions that are the whole picture tell nothing: names and dates are in the picture, too.

    Raises:
        UserError: nowhere that is clear.
    """
    reader = FrameReader(content)
    first = next(iter(reader), None)
    if first is None:
        raise UserError(reader.problem or "has no frame")
    mask = region_mask(content.regions, *first.shape[:2])
    if 0 < mask.mean() <= MOST_SHARE:
        return mask, "regions"
    sector = find_sector(FrameReader(content))
    if sector is None:
        raise UserError(
            "states no image region that fits, and no sector is found by what moves; "
            "nothing of it is kept"
        )
    return sector, "sector"


def frame_time_of(times_ms: tuple[float, ...] | None) -> float | None:
    if times_ms is None or len(times_ms) < 2:
        return None
    return median(later - earlier for earlier, later in pairwise(times_ms))


def spacing_of(regions: tuple[Region, ...]) -> tuple[float, float] | None:
    """Of the largest region of tissue: mm across and down."""
    tissue = [region for region in regions if is_tissue(region)]
    if not tissue:
        return None
    largest = max(tissue, key=lambda own: (own.right - own.left) * (own.bottom - own.top))
    return largest.spacing_x_mm, largest.spacing_y_mm


def write_png(path: Path, frame_rgb: np.ndarray) -> None:
    """Write pixels and nothing else: OpenCV adds no text, time or name to a PNG."""
    path.parent.mkdir(exist_ok=True)
    pixels_bgr = cv2.cvtColor(frame_rgb, cv2.COLOR_RGB2BGR)
    write_bytes(path, cv2.imencode(".png", pixels_bgr)[1].tobytes())
