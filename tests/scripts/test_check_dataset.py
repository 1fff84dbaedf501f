"""check_dataset.py: its report, its exit codes, and nothing written into the data."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_audits import images_of, move

import check_dataset
from utils.core.script import run_script
from utils.curation.kinds import KINDS
from utils.data.splits import label_path


@pytest.fixture
def frames(clean_folder: Path, tmp_path: Path) -> Path:
    """The folder of a clean data set that may be spoilt; its data.yaml lies beside it."""
    shutil.copytree(clean_folder, tmp_path / "set")
    return tmp_path / "set/frames"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the script and return its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["check_dataset.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run_script(check_dataset.main)
        return stop.value.code or 0

    return run


def everything_below(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p): (p.stat().st_mtime_ns, p.read_bytes())
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_the_script_writes_its_report_and_nothing_into_the_data(
    frames: Path, check, caplog, tmp_path: Path
):
    caplog.set_level("INFO")
    label_path(images_of(frames)[0]).write_text("0 0.5 0.5 0.1 0.1\n")
    move(frames, images_of(frames)[5])
    before = everything_below(frames.parent)
    assert check("--data", frames.parent / "data.yaml") == 1
    assert check("--data", frames.parent / "data.yaml") == 1
    assert everything_below(frames.parent) == before
    folders = [tmp_path / "runs/check" / name for name in ("exp", "exp2")]
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert names == {
            f"{name}.png" for name in ("balance", "boxes", "class_by_view", "suspicious")
        } | {
            "audit.json",
            "audit.md",
        }
    content = json.loads((folders[0] / "audit.json").read_text())
    assert content["findings"]["missing_view"]["found"][0]["files"] == [
        f"images/train/{images_of(frames)[0].name}"
    ]
    assert re.search(r"^ +1 clips in more than one split: P0", caplog.text, re.MULTILINE)


def test_the_exit_code_says_clean_doubtful_or_impossible(
    frames: Path, check, capsys, tmp_path: Path
):
    data, out = frames.parent / "data.yaml", tmp_path / "report"
    assert check("--data", data, "--strict", "--out", out) == 0
    label_path(images_of(frames)[0]).unlink()
    assert check("--data", data, "--out", out) == 0
    assert check("--data", data, "--strict", "--out", out) == 1
    assert check("--data", tmp_path / "absent.yaml") == 2
    for inside in ("images/train/report", "labels/train"):
        assert check("--data", data, "--out", frames / inside) == 2
    assert "choose another folder" in capsys.readouterr().err
    assert not (frames / "images/train/report").exists()


def test_help_names_every_kind_of_finding(check, capsys):
    assert check("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(meaning in text for _, meaning in KINDS.values())
