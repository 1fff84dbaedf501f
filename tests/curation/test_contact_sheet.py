"""Contact sheets: frames from first to last, and what shows up in any of them."""

from pathlib import Path

import numpy as np
import pytest
from small_files import write_image

from utils.curation.contact_sheet import COLUMNS, GAP, TILE_WIDTH, contact_sheet
from utils.curation.extraction import write_png
from utils.data.images import read_image


def tile_of(sheet: np.ndarray, place: int, height: int) -> np.ndarray:
    row, column = divmod(place, COLUMNS)
    top, left = row * (height + GAP), column * (TILE_WIDTH + GAP)
    return sheet[top : top + height, left : left + TILE_WIDTH]


def write_greys(folder: Path, count: int) -> list[Path]:
    """Frames of 40 x 80, each in a grey of its own."""
    files = []
    for number in range(count):
        files.append(folder / "images" / f"{number}.png")
        write_png(files[-1], np.full((40, 80, 3), number, np.uint8))
    return files


@pytest.mark.parametrize("count", [1, 3, 11, 12, 100])
def test_it_shows_the_first_and_the_last_frame_and_the_brightest_of_all(count: int, tmp_path: Path):
    brightest = np.full((40, 80, 3), 200, np.uint8)
    sheet = contact_sheet(write_greys(tmp_path, count), brightest)
    shown = min(count, 11)
    greys = [int(tile_of(sheet, place, 200).mean()) for place in range(shown + 1)]
    assert greys[0] == 0 and greys[-2] == count - 1 and greys[-1] == 200
    assert greys == sorted(greys)


def test_the_colours_of_a_frame_stay(tmp_path: Path):
    path = write_image(tmp_path / "a.png", 30, TILE_WIDTH)
    sheet = contact_sheet([path], np.zeros((30, TILE_WIDTH, 3), np.uint8))
    assert np.array_equal(tile_of(sheet, 0, 30), read_image(path))
