"""docs/second_domain/fewer_patients.py: the frames of few patients, as often as it takes."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from eight_patients import FRAMES, make_set

import split_dataset
from docs.second_domain import fewer_patients
from utils.core.data_config import load_data_config
from utils.core.script import UserError
from utils.data.splits import load_split


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes two folds, then calls the command on them with these arguments."""
    path = make_set(tmp_path / "set", FRAMES)
    arguments = ["--data", path, "--folds", 2, "--out", tmp_path / "folds"]
    monkeypatch.setattr(sys, "argv", ["split_dataset.py", *map(str, arguments)])
    split_dataset.main()

    def run(*arguments: object) -> None:
        given = [tmp_path / "folds", tmp_path / "few", *arguments]
        monkeypatch.setattr(sys, "argv", ["fewer_patients", *map(str, given)])
        fewer_patients.main()

    return run


def images_of(fold: Path, split: str) -> list[Path]:
    return list(load_split(load_data_config(fold / "data.yaml"), split).images)


def patients_of(images: list[Path]) -> set[str]:
    return {image.name.partition("_")[0] for image in images}


def test_the_fewer_are_among_the_more_and_the_validation_frames_stay(call, tmp_path: Path):
    call("--patients", 1, 3)
    for fold in ("fold0", "fold1"):
        one = images_of(tmp_path / "few" / "1" / fold, "train")
        three = images_of(tmp_path / "few" / "3" / fold, "train")
        assert len(patients_of(one)) == 1
        assert len(patients_of(three)) == 3
        assert patients_of(one) < patients_of(three)
        before = images_of(tmp_path / "folds" / fold, "val")
        assert images_of(tmp_path / "few" / "3" / fold, "val") == before


def test_as_many_frames_are_listed_as_before_each_about_as_often(call, tmp_path: Path):
    call("--patients", 3)
    whole = images_of(tmp_path / "folds" / "fold0", "train")
    few = images_of(tmp_path / "few" / "3" / "fold0", "train")
    assert len(few) == len(whole)
    counts = Counter(few).values()
    assert max(counts) - min(counts) <= 1
    assert set(few) == {image for image in whole if patients_of([image]) <= patients_of(few)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--patients", 99), "--patients 99: .* training patients"),
        (("--patients", 0), "--patients is 0, expected at least 1"),
        (("--patients", 1, "--seed", -1), "--seed is -1, expected at least 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(call, arguments: tuple, message: str):
    with pytest.raises(UserError, match=message):
        call(*arguments)
