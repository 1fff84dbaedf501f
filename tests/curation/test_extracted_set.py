"""The data set of extracted frames: a share of the patients for val, and rows without a header."""

import csv
from pathlib import Path

import pytest

from utils.core.data_config import load_data_config
from utils.curation.extracted_set import COLUMNS, write_data, write_table
from utils.curation.extraction import Extracted
from utils.curation.pseudonyms import ClipName
from utils.data.image_list import read_image_list


def clip_of(patient: int, folder: Path) -> Extracted:
    name = ClipName(patient, 1)
    files = tuple(folder / "images" / f"{name.frame(number)}.png" for number in (1, 2))
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return Extracted(name, files, 9, 30, 40, None, (0.51, 0.25), "regions", "")


@pytest.mark.parametrize(("patients", "for_val"), [(2, 1), (5, 1), (7, 1), (10, 2), (18, 4)])
def test_a_fifth_of_the_patients_is_for_val(patients: int, for_val: int, tmp_path: Path):
    write_data(tmp_path, [clip_of(number + 1, tmp_path) for number in range(patients)], False)
    data = load_data_config(tmp_path / "data.yaml")
    found = {}
    for split in ("train", "val"):
        images = read_image_list(tmp_path / f"{split}.txt")
        found[split] = {data.group_of(image) for image in images}
        assert len(images) == 2 * len(found[split])
    assert len(found["val"]) == for_val
    assert len(found["train"]) == patients - for_val and not found["train"] & found["val"]


def test_what_is_not_stated_is_an_empty_cell(tmp_path: Path):
    write_table(tmp_path / "a.csv", [(clip_of(3, tmp_path), "GE")], with_make=False)
    with (tmp_path / "a.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert tuple(row) == COLUMNS
    assert (row["patient"], row["clip"], row["frames"]) == ("P0003", "C001", "2")
    assert (row["frame_time_ms"], row["spacing_x_mm"], row["height"]) == ("", "0.51000", "30")
