"""File names that are not UTF-8, or hold what ends a line elsewhere: every script takes them."""

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from detections import write_video
from script_calls import exit_code_of
from small_runs import small_options

import check_dataset
import detect
import export
import split_dataset
import train_joint_gradnorm
import val
from utils.core.data_config import load_data_config
from utils.data.splits import load_split

ODD = (b"\xa4\xa4", b"\xe9cho", b"x\ny", "x\u2028y".encode(), b"x\x0cy", b"a[1]")


@pytest.fixture
def odd_data(clean_folder: Path, tmp_path: Path) -> Path:
    """The data.yaml of a data set in an odd folder, whose frames have odd names in turns."""
    folder = tmp_path / os.fsdecode(b"\xe9 set")
    shutil.copytree(clean_folder, folder)
    rename(folder, ODD)
    return folder / "data.yaml"


def rename(folder: Path, marks: tuple[bytes, ...]) -> None:
    files = sorted((folder / "frames").rglob("*_F*.*"))
    stems = sorted({path.stem for path in files})
    for path in files:
        mark = marks[stems.index(path.stem) % len(marks)]
        path.rename(path.with_name(f"{path.stem}{os.fsdecode(mark)}{path.suffix}"))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable:
    """Run a script with arguments; returns its exit code and what is on stderr."""

    def run_with(script: ModuleType, *arguments: object) -> tuple[int, str]:
        code = exit_code_of(script, *arguments, monkeypatch=monkeypatch)
        stderr = capfd.readouterr().err
        assert "Traceback" not in stderr and "Logging error" not in stderr
        return code, stderr

    return run_with


@pytest.mark.slow
def test_a_data_set_of_odd_names_is_audited_trained_on_and_looked_at(
    call, odd_data: Path, tmp_path: Path
):
    assert call(check_dataset, "--data", odd_data, "--out", tmp_path / "audit")[0] == 0
    options = small_options(odd_data, tmp_path) | {"epochs": 1, "project": tmp_path, "name": "run"}
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    assert call(train_joint_gradnorm, *arguments)[0] == 0
    weights = tmp_path / "run/weights/last.pt"
    place = ("--project", tmp_path, "--device", "cpu")
    assert call(val, "--weights", weights, "--save-json", "--name", "val", *place)[0] == 0
    images = odd_data.parent / "frames/images/val"
    wanted = ("--save-csv", "--save-txt", "--save-crop", "--data", odd_data)
    video = write_video(tmp_path / "x.mp4", [0, 100])
    video.rename(images / os.fsdecode(b"\xe9.mp4"))
    assert (
        call(detect, "--weights", weights, "--source", images, *wanted, "--name", "found", *place)[
            0
        ]
        == 0
    )
    with (tmp_path / "found/predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["image"] for row in rows}) == 8
    assert call(export, "--weights", weights, "--include", "onnx")[0] == 0
    assert call(val, "--weights", weights.with_suffix(".onnx"), "--name", "onnx", *place)[0] == 0


@pytest.mark.parametrize("wanted", [("--val", "0.4"), ("--folds", "2"), ("--harmonise-views",)])
def test_a_split_of_odd_names_is_read_back(
    call, clean_folder: Path, tmp_path: Path, wanted: tuple[str, ...]
):
    folder = tmp_path / os.fsdecode(b"\xe9 set")
    shutil.copytree(clean_folder, folder)
    rename(folder, tuple(mark for mark in ODD if b"\n" not in mark))
    out = tmp_path / os.fsdecode(b"\xa4\xa4 out")
    assert call(split_dataset, "--data", folder / "data.yaml", "--out", out, *wanted)[0] == 0
    for place in out.rglob("data.yaml"):
        data = load_data_config(place)
        images = [*load_split(data, "train").images, *load_split(data, "val").images]
        assert sorted(images) == sorted((folder / "frames/images").rglob("*.png"))


@pytest.mark.parametrize("mark", [b"\n", b"\r"])
@pytest.mark.parametrize("wanted", [("--val", "0.4"), ("--harmonise-views",)])
def test_a_split_of_names_with_line_breaks_is_refused_before_anything_is_written(
    call, clean_folder: Path, tmp_path: Path, mark: bytes, wanted: tuple[str, ...]
):
    folder = tmp_path / "set"
    shutil.copytree(clean_folder, folder)
    rename(folder, (b"x", mark))
    code, stderr = call(
        split_dataset, "--data", folder / "data.yaml", "--out", tmp_path / "out", *wanted
    )
    assert code == 2 and stderr.count("\n") == 1 and "a line break in the name" in stderr
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name != ".lock"]
