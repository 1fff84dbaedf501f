"""What a file holds that a model could look at: by its content for DICOM, else by its suffix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from utils.core.script import UserError
from utils.data.dicom import is_dicom, open_dicom, other_kind
from utils.data.images import IMAGE_SUFFIXES, left_out
from utils.data.pages import GIF, PAGED_SUFFIXES, page_count

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES | {GIF}


class Kind(Enum):
    """How a file is read."""

    IMAGE = auto()
    VIDEO = auto()
    GIF = auto()
    TIFF = auto()
    DICOM = auto()


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        kind: None if it is nothing to look at.
        frames: that it states; 0 where reading will tell: of videos, and of damaged files.
        name: what it is called where it is left out; empty: by its suffix.
    """

    kind: Kind | None
    frames: int = 1
    name: str = ""

    @property
    def is_clip(self) -> bool:
        """Whether its frames have numbers, and are a clip together."""
        return self.kind is Kind.VIDEO or self.frames > 1


def content_of(path: Path) -> Content:
    """What a file holds, or a folder, which is nothing to look at."""
    if is_dicom(path):
        return _dicom_content(path)
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return Content(Kind.VIDEO, 0)
    if suffix == GIF:
        return Content(Kind.GIF, page_count(path))
    if suffix in PAGED_SUFFIXES:
        pages = page_count(path)
        if pages > 1:
            return Content(Kind.TIFF, pages)
    if suffix in IMAGE_SUFFIXES:
        return Content(Kind.IMAGE)
    return Content(None)


def _dicom_content(path: Path) -> Content:
    name = other_kind(path)
    if name:
        return Content(None, name=name)
    try:
        return Content(Kind.DICOM, open_dicom(path).frame_count)
    except UserError:
        return Content(Kind.DICOM, 0)


def left_out_by_kind(contents: Mapping[Path, Content]) -> str:
    """How many files are nothing to look at, as "2 DICOM SR, 1 DICOMDIR, 3 .zip".

    Of files that are not DICOM, see `left_out`.
    """
    passed_by = [path for path, content in contents.items() if content.kind is None]
    counts = Counter(contents[path].name for path in passed_by if contents[path].name)
    parts = [f"{count} {name}" for name, count in ranked(counts)]
    others = left_out((path for path in passed_by if not contents[path].name), SUFFIXES)
    if others:
        parts.append(others)
    return ", ".join(parts)


def ranked(counts: Counter[str]) -> Iterable[tuple[str, int]]:
    """The most frequent first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
