"""docs/verdict/permute_views.py: training views of other patients, all else as it was."""

import itertools
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from eight_patients import FRAMES, load_all, make_set

import split_dataset
from docs.verdict import permute_views
from utils.core.data_config import DataConfig, load_data_config
from utils.core.script import UserError
from utils.data.labels import UNKNOWN_VIEW
from utils.data.splits import Split, label_path, load_split

ONE_HOT = ("1 0 0", "0 1 0", "0 0 1")
# Patients of two to seven frames, both classes and all views in each half of them.
UNEVEN = {
    f"P{patient:02}_V1_F{frame}.png": f"{frame % 2} 0.5 0.5 0.25 0.5\n{ONE_HOT[frame % 3]}\n"
    for patient in range(12)
    for frame in range(2 + patient % 6)
}
Call = Callable[..., None]


@pytest.fixture
def make_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Two folds of a data set with these frames."""

    def make(frames: dict[str, str]) -> Path:
        path = make_set(tmp_path / "set", frames)
        arguments = ["--data", path, "--folds", 2, "--out", tmp_path / "folds"]
        monkeypatch.setattr(sys, "argv", ["split_dataset.py", *map(str, arguments)])
        split_dataset.main()
        return tmp_path / "folds"

    return make


@pytest.fixture
def permute(monkeypatch: pytest.MonkeyPatch) -> Call:
    def call(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["permute_views", *map(str, arguments)])
        permute_views.main()

    return call


def views_of(split: Split) -> Counter:
    return Counter(labels.view for labels in split.labels)


def patient_of(image: Path) -> str:
    return image.name.partition("_")[0]


def content_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_training_views_stay_as_frequent_and_all_else_stays(make_folds, permute, tmp_path: Path):
    folds = make_folds(UNEVEN)
    before = content_of(tmp_path / "set")
    permute(folds, tmp_path / "out")
    assert content_of(tmp_path / "set") == before
    for name in ("fold0", "fold1"):
        old = load_data_config(folds / name / "data.yaml")
        new = load_data_config(tmp_path / "out" / name / "data.yaml")
        old_train, new_train = load_split(old, "train"), load_split(new, "train")
        assert new_train.images == old_train.images
        assert views_of(new_train) == views_of(old_train)
        for a, b in zip(old_train.labels, new_train.labels, strict=True):
            assert (a.boxes == b.boxes).all()
        validation = load_split(new, "val")
        assert validation.images == load_split(old, "val").images
        for image in validation.images:
            assert label_path(image, new).read_bytes() == label_path(image, old).read_bytes()


def test_no_frame_takes_a_view_of_its_own_patient(make_folds):
    data = load_data_config(make_folds(UNEVEN) / "fold0" / "data.yaml")
    frames = load_split(data, "train")
    for seed in range(20):
        givers = givers_of(frames, data, seed)
        assert sorted(givers) == sorted(givers.values())  # each gives once
        for taker, giver in givers.items():
            assert patient_of(frames.images[taker]) != patient_of(frames.images[giver])


def givers_of(frames: Split, data: DataConfig, seed: int) -> dict[int, int]:
    """Place of each frame with a view -> the place of the frame whose view it gets."""
    row = permute_views.in_patients_order(frames, data, seed)
    return dict(zip(row, permute_views.givers(row), strict=True))


def test_the_row_has_patient_after_patient_and_a_clips_frames_in_order(make_folds):
    data = load_data_config(make_folds(UNEVEN) / "fold0" / "data.yaml")
    frames = load_split(data, "train")
    row = permute_views.in_patients_order(frames, data, seed=0)
    patients = [patient_of(frames.images[place]) for place in row]
    changes = sum(a != b for a, b in itertools.pairwise(patients))
    assert changes == len(set(patients)) - 1
    clips = [data.clip_of(frames.images[place]) for place in row]
    for (clip, number), (next_clip, following) in itertools.pairwise(clips):
        assert clip != next_clip or following == number + 1


def test_the_seed_decides(make_folds):
    data = load_data_config(make_folds(UNEVEN) / "fold0" / "data.yaml")
    frames = load_split(data, "train")
    first, again, other = (givers_of(frames, data, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_a_frame_without_a_view_gets_none(make_folds, permute, tmp_path: Path):
    name = sorted(FRAMES)[0]
    folds = make_folds(FRAMES | {name: "0 0.5 0.5 0.25 0.5\n"})
    permute(folds, tmp_path / "out")
    for path in (tmp_path / "out").glob("*/data.yaml"):
        frames = load_all(path)
        views = {
            image.name: labels.view
            for image, labels in zip(frames.images, frames.labels, strict=True)
        }
        assert [image for image, view in views.items() if view == UNKNOWN_VIEW] == [name]


def test_a_patient_with_most_frames_is_an_error(tmp_path: Path):
    names = [f"P01_V1_F{frame}.png" for frame in range(8)] + ["P02_V1_F0.png", "P02_V1_F1.png"]
    frames = dict.fromkeys(names, f"{ONE_HOT[0]}\n")
    data = load_data_config(make_set(tmp_path, frames))
    with pytest.raises(UserError, match="P01 has 4 of 5 training frames"):
        permute_views.permuted(load_split(data, "train"), data, seed=0)


def test_nothing_is_overwritten_and_nothing_written_into_the_data(
    make_folds, permute, tmp_path: Path
):
    folds = make_folds(FRAMES)
    with pytest.raises(UserError, match="lies in the data set"):
        permute(folds, tmp_path / "set" / "train" / "images")
    permute(folds, tmp_path / "out")
    with pytest.raises(UserError, match="not an empty folder"):
        permute(folds, tmp_path / "out")
