"""What a JPEG's segments say, of files by Pillow and OpenCV and of bytes of any kind."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from utils.data.jpeg_markers import Markers, markers_of

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def by_pillow(pixels: np.ndarray, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def test_a_usual_jpeg_is_ybr_by_jfif():
    for codestream in (by_pillow(PIXELS), cv2.imencode(".jpg", PIXELS)[1].tobytes()):
        assert markers_of(codestream) == Markers("YBR", "JFIF marker", size=(24, 40, 3))


def test_a_jpeg_kept_in_rgb_says_so_by_app14():
    found = markers_of(by_pillow(PIXELS, keep_rgb=True))
    assert found == Markers("RGB", "APP14 marker", has_app14=True, size=(24, 40, 3))


def test_a_progressive_and_a_grey_jpeg_have_their_size():
    assert markers_of(by_pillow(PIXELS, progressive=True)).size == (24, 40, 3)
    assert markers_of(by_pillow(PIXELS[:, :, 0])).size == (24, 40, 1)


@pytest.mark.parametrize("no_jp2", [True, False])
@pytest.mark.parametrize(("mct", "colours"), [(1, "RGB"), (0, None)])
def test_jpeg_2000_says_whether_it_transforms(no_jp2: bool, mct: int, colours: str | None):
    codestream = by_pillow(PIXELS, "JPEG2000", no_jp2=no_jp2, mct=mct, irreversible=False)
    assert markers_of(codestream).colours == colours


@given(codestream=st.binary(max_size=80))
def test_any_bytes_have_markers_or_none(codestream: bytes):
    for beginning in (b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd8\xff\xc0\0\x08"):
        assert markers_of(beginning + codestream).colours in ("RGB", "YBR", None)


def test_the_beginning_is_enough():
    codestream = by_pillow(PIXELS)
    start = codestream.index(b"\xff\xda")
    assert markers_of(codestream[:start]) == markers_of(codestream)
    assert markers_of(codestream[:3]) == Markers()
