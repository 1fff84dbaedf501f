"""Where a DICOM file's frames lie, and how many of them are wholly there.

This is read off the file without decoding anything, so that a file that is cut off, or whose header
claims what is not there, is found out before memory is asked for.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from utils.data.dicom_header import Dataset

PIXEL_DATA = (0x7FE0, 0x0010)
PIXEL_ELEMENTS = ((0x7FE0, 0x0008), (0x7FE0, 0x0009), PIXEL_DATA)  # the first two: floating-point
ITEM = (0xFFFE, 0xE000)
UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM_HEADER_BYTES = 8
# What a frame's first fragment begins with: JPEG and JPEG-LS, JPEG 2000, the same in a JP2 file.
BEGINNINGS = (b"\xff\xd8", b"\xff\x4f", b"\x00\x00\x00\x0cjP")
BEGINNING_BYTES = 6
MARKER_BYTES = 1 << 16  # of the first frame; enough for the markers before its data


@dataclass(frozen=True)
class PixelElement:
    """The element that holds the pixels of all frames.

    Attributes:
        name: (group, element).
        offset: of its value, in bytes of the file.
        length: in bytes, as stated; None if it is left open, as for compressed frames.
        available: bytes from the offset to the end of the file.
        is_as_header: it is written in the way that the header is.
    """

    name: tuple[int, int]
    offset: int
    length: int | None
    available: int
    is_as_header: bool = True

    def frames_held(self, frame_bytes: float) -> int:
        """How many uncompressed frames are wholly there."""
        held = self.available
        if self.length is not None:
            held = min(self.length, held)
        return int(held // frame_bytes)


def pixel_element(stream: BinaryIO, implicit: bool, little_endian: bool) -> PixelElement | None:
    """The element that begins where the stream stands; None if it holds no pixels.

    Args:
        implicit: the file's elements do not name their types.
    """
    order = ">"
    if little_endian:
        order = "<"
    head = stream.read(ITEM_HEADER_BYTES)
    if len(head) < ITEM_HEADER_BYTES:
        return None
    group, element, length = struct.unpack(f"{order}HHL", head)
    if (group, element) not in PIXEL_ELEMENTS:
        return None
    # Two letters of type, two bytes of nothing, and then the length; some writers forget it.
    has_type = not implicit and head[4:6].isalpha()
    if has_type:
        (length,) = struct.unpack(f"{order}L", stream.read(4).ljust(4, b"\0"))
    offset = stream.tell()
    available = os.fstat(stream.fileno()).st_size - offset
    stated = length
    if length == UNDEFINED_LENGTH:
        stated = None
    is_as_header = has_type != implicit
    return PixelElement((group, element), offset, stated, available, is_as_header)


@dataclass(frozen=True)
class Fragment:
    """A piece of compressed pixel data.

    Attributes:
        beginning: its first bytes.
        is_whole: its end lies within the file.
    """

    beginning: bytes
    is_whole: bool


def fragments_of(stream: BinaryIO, element: PixelElement) -> Iterator[Fragment]:
    """The fragments of compressed frames, without the table of offsets, which is the first item."""
    position = element.offset
    end = element.offset + element.available
    is_table = True
    wanted = MARKER_BYTES
    while position + ITEM_HEADER_BYTES <= end:
        stream.seek(position)
        group, number, length = struct.unpack("<HHL", stream.read(ITEM_HEADER_BYTES))
        if (group, number) != ITEM:
            return
        position += ITEM_HEADER_BYTES + length
        if not is_table:
            yield Fragment(stream.read(min(length, wanted)), position <= end)
            wanted = BEGINNING_BYTES
        is_table = False


@dataclass(frozen=True)
class FramesFound:
    """What is found of the frames.

    Attributes:
        held: how many are wholly there.
        codestream: the beginning of the first, if they are compressed; else empty.
    """

    held: int
    codestream: bytes


def compressed_frames(stream: BinaryIO, element: PixelElement) -> FramesFound:
    """Count the frames; one that is cut off does not count.

    A frame may have several fragments, of which the first begins as its compression does. In RLE,
    which has no such beginning, every fragment is a frame (PS3.5 A.4.2).
    """
    held = 0
    codestream = b""
    is_torn = False
    for fragment in fragments_of(stream, element):
        codestream = codestream or fragment.beginning
        if _begins_frame(fragment.beginning, codestream):
            held += 1
        is_torn = not fragment.is_whole
    return FramesFound(held - is_torn, codestream)


def _begins_frame(beginning: bytes, first: bytes) -> bool:
    if not first.startswith(BEGINNINGS):
        return True
    return beginning.startswith(BEGINNINGS)


def frame_bytes_of(header: Dataset) -> float:
    """Bytes of an uncompressed frame; a fraction where pixels have less than 8 bits."""
    samples = header.Rows * header.Columns * header.SamplesPerPixel
    return samples * header.BitsAllocated / 8
