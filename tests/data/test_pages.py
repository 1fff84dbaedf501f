"""Frames of animated GIFs, and pages of TIFFs."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from deep_images import encoded
from PIL import Image

from utils.core.script import UserError
from utils.data.pages import gif_frames, gif_times_ms, page_count, tiff_pages

SHADES = (20, 120, 220)


def flat(shade: int, dtype: type = np.uint8) -> np.ndarray:
    return np.full((8, 12, 3), shade, dtype)


def write_gif(path: Path, durations_ms: list[int]) -> Path:
    images = [Image.fromarray(flat(shade)) for shade in SHADES]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations_ms, loop=0)
    return path


def write_tiff(path: Path, pages: list[np.ndarray]) -> Path:
    assert cv2.imwritemulti(str(path), [page[:, :, ::-1].copy() for page in pages])
    return path


def test_frames_of_a_gif_have_their_times(tmp_path: Path):
    path = write_gif(tmp_path / "a.gif", [40, 100, 40])
    assert page_count(path) == 3
    assert gif_times_ms(path) == [0, 40, 140]
    for frame, shade in zip(gif_frames(path), SHADES, strict=True):
        np.testing.assert_allclose(frame, flat(shade), atol=2)


def test_a_gif_that_only_stores_what_changes_is_shown_whole(tmp_path: Path):
    pictures = []
    for column in range(3):
        picture = np.zeros((8, 12, 3), np.uint8)
        picture[:, :, 0] = 200
        picture[2:4, column : column + 2] = (0, 0, 255)
        pictures.append(picture)
    images = [Image.fromarray(picture) for picture in pictures]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], optimize=True)
    np.testing.assert_allclose(list(gif_frames(tmp_path / "a.gif")), pictures, atol=2)


def test_a_gif_without_durations_has_no_times(tmp_path: Path):
    assert gif_times_ms(write_gif(tmp_path / "a.gif", [0, 0, 0])) == []


def test_every_page_of_a_tiff_is_read(tmp_path: Path):
    random = np.random.default_rng(0)
    pages = list(random.integers(0, 256, (4, 8, 12, 3), dtype=np.uint8))
    path = write_tiff(tmp_path / "a.tiff", pages)
    assert page_count(path) == 4
    np.testing.assert_array_equal(list(tiff_pages(path)), pages)


def test_pages_of_16_bits_obey_the_stored_bits(tmp_path: Path):
    pages = [flat(shade * 16, np.uint16) for shade in SHADES]
    path = write_tiff(tmp_path / "a.tif", pages)
    found = [page.max() for page in tiff_pages(path, bits=12)]
    assert found == list(SHADES)
    with pytest.raises(UserError, match="fits 12 bits or fewer"):
        list(tiff_pages(path))


def test_a_page_of_another_size_is_refused(tmp_path: Path):
    path = write_tiff(tmp_path / "a.tif", [flat(1), np.zeros((9, 12, 3), np.uint8)])
    with pytest.raises(UserError, match="page 2 has 12 x 9 pixels, the first 12 x 8"):
        list(tiff_pages(path))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"text", b"II*\0\x08\0\0\0"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "a").write_bytes(content)
    assert page_count(tmp_path / "a") == 1
    for read in (gif_frames, tiff_pages):
        with pytest.raises(UserError, match="cannot be read as") as caught:
            list(read(tmp_path / "a"))
        assert "\n" not in str(caught.value)


def test_a_torn_gif_is_one_line(tmp_path: Path):
    path = write_gif(tmp_path / "a.gif", [40, 40, 40])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="cannot be read as a GIF"):
        list(gif_frames(path))


def test_an_image_of_one_page_is_one(tmp_path: Path):
    (tmp_path / "a.tif").write_bytes(encoded(".tif", flat(7)))
    assert page_count(tmp_path / "a.tif") == 1
