"""Images become RGB, and boxes go through the letterbox and back."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_files import UNREADABLE

from utils.core.script import UserError
from utils.data.images import Letterbox, read_image

# ---- letterbox -----------------------------------------------------------------------------------


def check_letterbox(case: np.ndarray) -> None:
    """height, width, new height, new width, ratio, half of the padding left + right and top +
    bottom.
    """
    height, width, new_height, new_width, ratio, half_x, half_y = case
    letterbox = Letterbox.fit(int(height), int(width), 320)
    assert letterbox.apply(np.zeros((int(height), int(width), 3), np.uint8)).shape == (
        new_height,
        new_width,
        3,
    )
    assert letterbox.ratio == pytest.approx(ratio, rel=1e-12)
    assert (letterbox.pad_left + letterbox.pad_right) / 2 == half_x
    assert (letterbox.pad_top + letterbox.pad_bottom) / 2 == half_y


@pytest.mark.parametrize("number", range(3))
def test_letterbox_as_the_public_yolov5(golden: dict, number: int):
    check_letterbox(golden[f"letterbox_{number}"])


@pytest.mark.parametrize(
    "case",
    [
        (320, 430, 320, 320, 320 / 430, 0, 41),
        (495, 700, 320, 320, 320 / 700, 0, 47),
        (600, 200, 320, 320, 320 / 600, 106.5, 0),
    ],
)
def test_letterbox_as_the_public_yolov5_from_copied_figures(case: tuple):
    check_letterbox(case)


def test_the_smaller_half_of_an_odd_padding_is_left_and_above():
    assert (
        Letterbox.fit(600, 200, 320).pad_left == 106
        and Letterbox.fit(600, 200, 320).pad_right == 107
    )
    assert (
        Letterbox.fit(200, 600, 320).pad_top == 106
        and Letterbox.fit(200, 600, 320).pad_bottom == 107
    )


@pytest.mark.parametrize(
    ("height", "width"), [(48, 96), (96, 48), (64, 64), (33, 97), (1, 64), (1, 999), (999, 1)]
)
def test_letterboxed_frames_are_square_with_grey_borders(height: int, width: int):
    letterbox = Letterbox.fit(height, width, 64)
    frame = letterbox.apply(np.full((height, width, 3), 255, np.uint8))
    assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8
    rows, columns = (frame != 114).all(axis=2).nonzero()
    assert rows.min() == letterbox.pad_top and rows.max() == 63 - letterbox.pad_bottom
    assert columns.min() == letterbox.pad_left and columns.max() == 63 - letterbox.pad_right
    assert (
        frame[
            letterbox.pad_top : 64 - letterbox.pad_bottom,
            letterbox.pad_left : 64 - letterbox.pad_right,
        ]
        == 255
    ).all()


SIZES = [(320, 430), (495, 700), (600, 200), (240, 320), (64, 64), (31, 77)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_letterboxed_boxes_lie_on_what_they_mark(height: int, width: int):
    image = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = width // 8, height // 4, width // 2, height * 7 // 8
    image[top:bottom, left:right] = 255
    letterbox = Letterbox.fit(height, width, 320)
    rows, columns = (letterbox.apply(image)[..., 0] > 180).nonzero()
    box = np.array(
        [
            [
                (left + right) / width,
                (top + bottom) / height,
                2 * (right - left) / width,
                2 * (bottom - top) / height,
            ]
        ]
    )
    xc, yc, w, h = letterbox.boxes(box / 2)[0] * 320
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(
        [xc - w / 2, yc - h / 2, xc + w / 2, yc + h / 2],
        seen,
        atol=1.01 * max(1, letterbox.ratio / 2),
    )


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_letterboxed_boxes_map_back(height: int, width: int):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.random((50, 2, 2)), axis=1)
    low, high = corners[:, 0], corners[:, 1]
    letterbox = Letterbox.fit(height, width, 320)
    boxes = letterbox.boxes(np.hstack([(low + high) / 2, high - low])) * 320
    boxes_xyxy = np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])
    expected = np.hstack([low, high]) * [width, height, width, height]
    np.testing.assert_allclose(
        letterbox.to_original(boxes_xyxy, height, width), expected, atol=1e-9
    )


def test_restored_boxes_are_clipped_to_the_image():
    letterbox = Letterbox.fit(320, 430, 320)
    found = letterbox.to_original(np.array([[-5.0, 41, 400, 320]]), 320, 430)
    np.testing.assert_allclose(found, [[0, 0, 430, 320]])


# ---- reading an image ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(np.full((6, 8), 200, np.uint8), id="grey"),
        pytest.param(np.full((6, 8), 200 * 257, np.uint16), id="16-bit"),
        pytest.param(np.full((6, 8, 4), 200, np.uint8), id="alpha"),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, pixels: np.ndarray):
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    image = read_image(tmp_path / "a.png")
    assert image.shape == (6, 8, 3) and image.dtype == np.uint8 and (image == 200).all()


def test_channels_are_red_green_blue(tmp_path: Path):
    blue_green_red = np.full((6, 8, 3), (10, 20, 30), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), blue_green_red)
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [30, 20, 10]


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_image_is_named(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(UNREADABLE[name])
    with pytest.raises(UserError, match=re.escape(str(tmp_path / name))):
        read_image(tmp_path / name)
