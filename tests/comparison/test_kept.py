"""What a comparison leaves: read again, and copied without what nobody else should see."""

import json
from pathlib import Path

import pytest
import yaml
from small_files import LABEL, make_set, write_yaml

from utils.comparison.arms import find_arm
from utils.comparison.kept import (
    copy_kept,
    open_kept,
    predictions_path,
    without_places,
    write_record,
)
from utils.comparison.trainings import Training
from utils.core.script import UserError

NETWORKS = {
    "fixed": {"gflops": 1.5, "latency_ms": 2.5},
    "detection-only": {"gflops": 1.0, "latency_ms": 2.0},
}


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """Two data sets."""
    paths = []
    for name in ("fold1", "fold2"):
        make_set(tmp_path / name, {"a.png": LABEL})
        content = {
            "path": ".",
            "train": "images/train",
            "val": "images/train",
            "names": ["AR", "MR", "PR", "TR"],
        }
        paths.append(
            str(write_yaml(tmp_path / name, content | {"cls_names": ["A4C", "PSAX", "PLAX"]}))
        )
    return paths


@pytest.fixture
def trainings(data: list[str], tmp_path: Path) -> list[Training]:
    common = {"epochs": 2, "imgsz": 64, "hyp": str(tmp_path / "some/hyp.yaml")}
    return [
        Training(
            find_arm(arm), path, seed, common, tmp_path / "compared" / f"{number}-{arm}-{seed}"
        )
        for number, path in enumerate(data)
        for seed in (0, 3)
        for arm in NETWORKS
    ]


@pytest.fixture
def folder(trainings: list[Training], tmp_path: Path) -> Path:
    """Of a comparison of which only this record is left, and settings of its runs."""
    folder = tmp_path / "compared"
    for training in trainings:
        training.folder.mkdir(parents=True)
        options = {"data": training.data, "epochs": 2, "weights": ""}
        (training.folder / "opt.yaml").write_text(yaml.safe_dump(options), encoding="utf-8")
        (training.folder / "val_batch.json").write_text("[]")
    write_record(folder, trainings, NETWORKS, "val")
    return folder


def test_trainings_are_read_as_they_were_written(
    folder: Path, data: list[str], trainings: list[Training]
):
    kept = open_kept(folder, data)
    for found, written in zip(kept.trainings, trainings, strict=True):
        assert (found.data, found.seed, found.folder) == (
            written.data,
            written.seed,
            written.folder,
        )
        for key in ("name", "about", "script", "tasks"):
            assert getattr(found.arm, key) == getattr(written.arm, key)
    assert [kept.unit(training) for training in kept.trainings[::2]] == [
        (0, 0),
        (0, 3),
        (1, 0),
        (1, 3),
    ]
    assert kept.record.networks == NETWORKS and kept.record.data == [
        "fold1/file.yaml",
        "fold2/file.yaml",
    ]
    assert [truth.data.source for truth in kept.truths.values()] == [Path(path) for path in data]


def test_the_record_has_no_path_of_a_machine(folder: Path, tmp_path: Path):
    text = (folder / "trainings.json").read_text()
    assert str(tmp_path) not in text and json.loads(text)["common"]["hyp"] == "some/hyp.yaml"


def test_a_copy_has_what_may_be_published(folder: Path, tmp_path: Path):
    (folder / "data.json").write_text(
        json.dumps({str(tmp_path / "fold1/file.yaml"): {"val": "0123"}})
    )
    (folder / "notes.txt").write_text("private")
    copy_kept(folder, tmp_path / "copy")
    names = {
        path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*.*")
    }
    assert {"trainings.json", "data.json", "0-fixed-0/opt.yaml"} <= names
    assert not [name for name in names if name.endswith(("notes.txt", "val_batch.json"))]
    assert json.loads((tmp_path / "copy/data.json").read_text()) == {
        "fold1/file.yaml": {"val": "0123"}
    }
    options = yaml.safe_load((tmp_path / "copy/0-fixed-0/opt.yaml").read_text())
    assert options == {"data": "fold1/file.yaml", "epochs": 2, "weights": ""}
    with pytest.raises(UserError, match="is there already; remove it, or choose another folder"):
        copy_kept(folder, tmp_path / "copy")


def test_another_number_of_data_sets_is_refused(folder: Path, data: list[str]):
    with pytest.raises(
        UserError, match=r"compared on 2 data sets \(fold1/file.yaml, .*\), found 1; name them by"
    ):
        open_kept(folder, data[:1])


@pytest.mark.parametrize("content", ["torn {", "[]", '{"split": "val"}', '{"split": 3}'])
def test_a_damaged_record_is_refused(folder: Path, data: list[str], content: str):
    (folder / "trainings.json").write_text(content)
    with pytest.raises(UserError, match=r"trainings\.json: .*; compare again$"):
        open_kept(folder, data)


def test_missing_predictions_are_named(folder: Path, data: list[str]):
    kept = open_kept(folder, data)
    with pytest.raises(UserError, match=r"0-fixed-0/predictions\.npz: no such file"):
        kept.results(kept.trainings[0])


def test_splits_have_files_of_their_own():
    assert predictions_path(Path("run"), "val") == Path("run/predictions.npz")
    assert predictions_path(Path("run"), "test") == Path("run/predictions_test.npz")


def test_places_are_left_out_wherever_they_are(tmp_path: Path):
    content = {
        "a": [str(tmp_path / "b/c.yaml"), "hyp/d.yaml", 1, None],
        str(tmp_path / "e/f.yaml"): {"g": 2.5},
    }
    assert without_places(content) == {
        "a": ["b/c.yaml", "hyp/d.yaml", 1, None],
        "e/f.yaml": {"g": 2.5},
    }
