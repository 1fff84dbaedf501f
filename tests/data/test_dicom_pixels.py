"""Where a file's frames lie, read off files written by hand."""

import struct
from pathlib import Path

import pytest

from utils.data.dicom_pixels import (
    FramesFound,
    PixelElement,
    compressed_frames,
    pixel_element,
)

UNDEFINED = 0xFFFFFFFF


def item(content: bytes, stated: int | None = None) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, stated or len(content)) + content


DELIMITER = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
JPEG = b"\xff\xd8\xff\xe0"
REST = b"\1\2\3\4"


def frames_in(path: Path, *items: bytes) -> FramesFound:
    path.write_bytes(b"".join(items))
    size = path.stat().st_size
    with path.open("rb") as stream:
        return compressed_frames(stream, PixelElement((0x7FE0, 0x0010), 0, None, size))


@pytest.mark.parametrize("table", [b"", b"\0\0\0\0\x08\0\0\0"])
def test_frames_are_counted_by_their_beginnings(tmp_path: Path, table: bytes):
    pieces = [JPEG, REST, JPEG, JPEG, REST, REST]
    found = frames_in(tmp_path / "a", item(table), *map(item, pieces), DELIMITER)
    assert found == FramesFound(3, JPEG)


def test_fragments_without_a_beginning_are_a_frame_each(tmp_path: Path):
    """As in RLE."""
    found = frames_in(tmp_path / "a", item(b""), item(REST), item(REST), DELIMITER)
    assert found.held == 2


@pytest.mark.parametrize("stated", [5, 4000, 0xFFFFFFF0])
def test_a_fragment_that_ends_outside_the_file_is_no_frame(tmp_path: Path, stated: int):
    found = frames_in(tmp_path / "a", item(b""), item(JPEG), item(JPEG, stated))
    assert found == FramesFound(1, JPEG)


def test_a_file_that_ends_within_an_items_head_or_before_any(tmp_path: Path):
    assert frames_in(tmp_path / "a", item(b""), item(JPEG), DELIMITER[:5]).held == 1
    assert frames_in(tmp_path / "a") == FramesFound(0, b"")


@pytest.mark.parametrize(
    ("head", "encoding", "length"),
    [
        (struct.pack("<HHL", 0x7FE0, 0x0010, 6), (True, True), 6),
        (struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 6), (False, True), 6),
        (struct.pack(">HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 6), (False, False), 6),
        (struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, UNDEFINED), (False, True), None),
    ],
)
def test_the_element_is_found_in_every_encoding(
    tmp_path: Path, head: bytes, encoding: tuple[bool, bool], length: int | None
):
    (tmp_path / "a").write_bytes(head + b"123456")
    with (tmp_path / "a").open("rb") as stream:
        found = pixel_element(stream, *encoding)
    assert found == PixelElement((0x7FE0, 0x0010), len(head), length, 6)


def test_an_element_written_without_its_type_is_found_and_noted(tmp_path: Path):
    (tmp_path / "a").write_bytes(struct.pack("<HHL", 0x7FE0, 0x0010, UNDEFINED) + b"1234")
    with (tmp_path / "a").open("rb") as stream:
        found = pixel_element(stream, implicit=False, little_endian=True)
    assert found == PixelElement((0x7FE0, 0x0010), 8, None, 4, is_as_header=False)


@pytest.mark.parametrize("content", [b"", b"\xe0\x7f", struct.pack("<HHL", 0x0008, 0x0060, 2)])
def test_what_is_no_pixel_element_is_none(tmp_path: Path, content: bytes):
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as stream:
        assert pixel_element(stream, implicit=True, little_endian=True) is None


def test_uncompressed_frames_are_counted_by_what_the_file_has():
    assert PixelElement((0x7FE0, 0x0010), 0, 1000, 950).frames_held(100) == 9
    assert PixelElement((0x7FE0, 0x0010), 0, 400, 950).frames_held(100) == 4
