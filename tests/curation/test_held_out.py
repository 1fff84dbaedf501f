"""Predictions find the labels that they are about, or are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from made_up_pages import write_run

from utils.core.script import UserError
from utils.curation.held_out import DataSets, find_predictions, refuse_seen
from utils.data.splits import load_split


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


def held_out_of(tiny_data: Path, folder: Path, split: str = "val"):
    (found,) = find_predictions([write_run(folder, tiny_data, split=split)])
    return DataSets([tiny_data]).held_out(found)


def test_frames_that_a_network_never_saw_are_taken(tiny_data: Path, tmp_path: Path, caplog):
    refuse_seen([held_out_of(tiny_data, tmp_path / "exp")])
    assert not [record for record in caplog.records if "warning" in record.getMessage()]


def test_frames_that_a_network_learnt_from_are_refused(tiny_data: Path, tmp_path: Path):
    with pytest.raises(UserError, match="learnt from 12 of its 12 frames"):
        refuse_seen([held_out_of(tiny_data, tmp_path / "exp", "train")])


def test_unknown_training_frames_are_refused(tiny_data: Path, tmp_path: Path):
    found = replace(held_out_of(tiny_data, tmp_path / "exp"), trained=None)
    with pytest.raises(UserError, match=r"are in no data set that was named.*name the folds"):
        refuse_seen([found])


def test_frames_that_were_predicted_twice_are_refused(tiny_data: Path, tmp_path: Path):
    found = [held_out_of(tiny_data, tmp_path / name) for name in ("a", "b")]
    with pytest.raises(UserError, match="name the runs of one arm"):
        refuse_seen(found)


def test_known_patients_are_warned_of(tiny_data: Path, tmp_path: Path, caplog):
    own = held_out_of(tiny_data, tmp_path / "exp")
    train = load_split(own.data, "train")
    seen = replace(own.split, images=train.images, labels=train.labels)
    path = train.images[0]
    other = replace(own.split, images=(path.with_name(f"{path.stem}9{path.suffix}"),))
    refuse_seen([replace(own, split=other, trained=seen)])
    assert "other frames of 1 patients" in caplog.text
