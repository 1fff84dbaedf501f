"""Predictions find the labels that they are about, or are refused."""

from pathlib import Path

import pytest
import yaml
from made_up_pages import write_run

from utils.core.script import UserError
from utils.curation.held_out import DataSets, find_predictions


def test_predictions_find_their_split_and_what_was_trained_on(tiny_data: Path, tmp_path: Path):
    for name, split in (("a", "val"), ("b", "train")):
        write_run(tmp_path / name, tiny_data, split=split)
    first, second = find_predictions([tmp_path])
    data_sets = DataSets([tiny_data])
    found = data_sets.held_out(first)
    assert found.split.name == "val" and len(found.results) == 8
    assert len(found.trained.images) == 12
    assert data_sets.held_out(second).split.name == "train"


def test_other_frames_are_refused(tiny_data: Path, tmp_path: Path):
    (found,) = find_predictions([write_run(tmp_path / "exp", tiny_data)])
    content = yaml.safe_load(tiny_data.read_text()) | {
        "path": str(tiny_data.parent / "frames"),
        "val": "images/train",
    }
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"name the data\.yaml, or the folds"):
        DataSets([tmp_path / "other.yaml"]).held_out(found)


def test_a_folder_without_predictions_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"found no predictions\.npz in it; expected run folders"):
        find_predictions([tmp_path])
