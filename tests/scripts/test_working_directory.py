"""Scripts work from any folder: they find their own YAML files, and write where the user stands."""

import subprocess
import sys
from pathlib import Path

import pytest

import train_joint_gradnorm
from utils.checkpoints.checkpoint import load_checkpoint
from utils.core.files import ROOT, find_file
from utils.core.script import run_script

SMALL = [
    "--imgsz",
    "32",
    "--batch-size",
    "4",
    "--epochs",
    "1",
    "--size",
    "n",
    "--device",
    "cpu",
    "--workers",
    "0",
]


def run_elsewhere(folder: Path, script: str, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / script), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_a_training_from_elsewhere_finds_its_default_files(tiny_data: Path, tmp_path: Path):
    ended = run_elsewhere(tmp_path, "train_joint_gradnorm.py", "--data", str(tiny_data), *SMALL)
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    options = load_checkpoint(tmp_path / "runs" / "train" / "exp" / "weights" / "last.pt")[
        "options"
    ]
    assert options["hyp"] == "hyp/joint_training_rules.yaml"


@pytest.mark.parametrize("option", ["--data", "--hyp", "--cfg"])
def test_a_missing_file_is_named_as_it_was_given(option: str, tmp_path: Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", option, "data/nowhere.yaml", *SMALL])
    with pytest.raises(SystemExit) as stop:
        run_script(train_joint_gradnorm.main)
    assert stop.value.code == 2
    assert "data/nowhere.yaml: no such file" in capfd.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_file_where_the_user_stands_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = "data/echo_phantom.yaml"
    monkeypatch.chdir(tmp_path)
    assert find_file(name) == ROOT / name
    (tmp_path / "data").mkdir()
    (tmp_path / name).touch()
    assert find_file(name) == Path(name)
    assert find_file("nowhere.yaml") == Path("nowhere.yaml")
