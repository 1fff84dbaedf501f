"""Flow colour: found in what Doppler paints, not in grey tissue, tints, letters and lines."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.data.flow_colour import has_flow_colour
from utils.data.images import read_image

RED, BLUE, GREEN = (220, 30, 20), (20, 40, 230), (40, 220, 60)


def tissue(height: int = 240, width: int = 320) -> np.ndarray:
    """(height, width, 3) of grey speckle."""
    grey = np.random.default_rng(0).integers(0, 200, (height, width, 1), dtype=np.uint8)
    return np.repeat(grey, 3, axis=2)


@pytest.mark.parametrize("colour", [RED, BLUE], ids=["towards", "away"])
@pytest.mark.parametrize("scale", [1, 3])
def test_a_jet_is_flow_at_any_size_of_the_picture(colour: tuple[int, ...], scale: int):
    frame = tissue(240 * scale, 320 * scale)
    cv2.circle(frame, (160 * scale, 120 * scale), 12 * scale, colour, -1)
    assert has_flow_colour(frame)


def test_grey_tissue_is_no_flow():
    assert not has_flow_colour(tissue())


def test_a_tint_is_no_flow():
    assert not has_flow_colour((tissue() * np.array([1, 0.85, 0.72])).astype(np.uint8))


def test_letters_and_the_line_of_an_ecg_are_no_flow():
    frame = tissue(480, 640)
    cv2.putText(frame, "DOE 12:30", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 0), 2)
    wave = [(x, 440 - 16 * (x % 40 == 0)) for x in range(640)]
    cv2.polylines(frame, [np.array(wave, np.int32)], False, GREEN, 2)
    assert not has_flow_colour(frame)


def test_a_compressed_grey_frame_is_no_flow():
    content = cv2.imencode(".jpg", tissue(), [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    assert not has_flow_colour(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB))


def test_real_frames_have_flow_and_lose_it_when_they_turn_grey(shared_dir: Path):
    for path in sorted((shared_dir / "regurgitation/valid/images").iterdir())[::20]:
        frame = read_image(path)
        assert has_flow_colour(frame), path.name
        grey = np.repeat(frame.max(axis=2, keepdims=True), 3, axis=2)
        assert not has_flow_colour(grey), path.name
