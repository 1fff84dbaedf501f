"""data.yaml: what an image's label is called, and which classes a mirror image swaps."""

import re
from pathlib import Path

import pytest
from small_files import write_yaml

from utils.core.data_config import load_data_config
from utils.core.script import UserError

DATA = {
    "train": "images/train",
    "val": "images/val",
    "nc": 2,
    "names": ["AR", "MR"],
    "cls_names": ["A4C", "PSAX"],
}


def test_title_and_flip_pairs(tmp_path: Path):
    keys = {
        "names": ["left", "right"],
        "cls_title": "projection",
        "flip_pairs": [["right", "left"]],
    }
    data = load_data_config(write_yaml(tmp_path, DATA | keys))
    assert data.said("no view") == "no projection"
    assert data.mirrored_classes == (1, 0)
    assert data.unpaired_sides == []


def test_names_of_sides_that_no_pair_swaps_are_known(tmp_path: Path):
    keys = {"names": ["left", "heart"], "cls_names": ["AP", "left lateral"], "nc": 2}
    data = load_data_config(write_yaml(tmp_path, DATA | keys))
    assert data.unpaired_sides == ["left", "left lateral"]


@pytest.mark.parametrize("names", [[], ["A4C"], {0: "A4C"}])
def test_a_single_view_tells_nothing_apart(tmp_path: Path, names: object):
    path = write_yaml(tmp_path, DATA | {"cls_names": names})
    with pytest.raises(UserError, match=r"cls_names is .*at least two names") as refused:
        load_data_config(path)
    assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize("change", [{"cls_title": 3}, {"flip_pairs": [["AR", "XR"]]}])
def test_a_wrong_title_or_pair_names_file_and_key(tmp_path: Path, change: dict):
    path = write_yaml(tmp_path, DATA | change)
    (key,) = change
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: {key}"):
        load_data_config(path)
