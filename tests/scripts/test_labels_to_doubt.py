"""check_dataset.py --predictions and split_dataset.py --apply, one after the other."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up_pages import write_run
from script_calls import exit_code_of

import check_dataset
import split_dataset
from utils.core.data_config import load_data_config
from utils.curation import doubts
from utils.data.splits import load_split


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_data.parent, tmp_path / "data")
    return tmp_path / "data/data.yaml"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_doubts_become_decisions_and_corrected_copies(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("cleanlab", reason="pip install '.[labels]'")
    monkeypatch.setattr(doubts, "LIKELY", 0.8)  # of nine labels none is surer
    run = write_run(tmp_path / "exp", data, confused=1)
    before = contents(data.parent)
    out = tmp_path / "doubts"
    given = ("--data", data, "--predictions", run, "--out", out)
    assert exit_code_of(check_dataset, *given, monkeypatch=monkeypatch) in (0, 1)
    assert {"doubts.html", "doubts.csv", "audit.json"} <= {path.name for path in out.iterdir()}
    decisions = out / "decisions_by_machine.json"
    assert json.loads(decisions.read_text())["decisions"]
    given = ("--data", data, "--apply", decisions, "--out", tmp_path / "corrected")
    assert exit_code_of(split_dataset, *given, monkeypatch=monkeypatch) == 0
    assert contents(data.parent) == before
    corrected = load_data_config(tmp_path / "corrected/data.yaml")
    old, new = (load_split(own, "val") for own in (load_data_config(data), corrected))
    changed = []
    for own, other in zip(old.labels, new.labels, strict=True):
        same_boxes = np.array_equal(own.boxes, other.boxes)
        changed.append(own.view != other.view or not same_boxes)
    assert any(changed) and old.images == new.images


@pytest.mark.parametrize(
    ("split", "message"), [("train", "learnt from 12 of its 12 frames"), ("val", "")]
)
def test_predictions_of_seen_frames_are_refused_before_anything_is_written(
    split: str,
    message: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    run = write_run(tmp_path / "exp", data, split=split)
    if not message:
        (data.parent / "frames/labels/val/P04_A4C-1_F0003.txt").write_text("1 0 0\n")
        message = "are in no data set that was named"
    given = ("--data", data, "--predictions", run, "--out", tmp_path / "doubts")
    assert exit_code_of(check_dataset, *given, monkeypatch=monkeypatch) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "doubts").exists()


def test_a_missing_package_is_named_before_anything_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    run = write_run(tmp_path / "exp", data)
    given = ("--data", data, "--predictions", run, "--out", tmp_path / "doubts")
    assert exit_code_of(check_dataset, *given, monkeypatch=monkeypatch) == 2
    assert "pip install '.[labels]'" in capsys.readouterr().err
    assert not (tmp_path / "doubts").exists()


def test_apply_and_harmonise_go_one_after_the_other(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    given = ("--data", data, "--apply", "d.json", "--harmonise-views", "--out", tmp_path / "x")
    assert exit_code_of(split_dataset, *given, monkeypatch=monkeypatch) == 2
    assert "one after the other" in capsys.readouterr().err
