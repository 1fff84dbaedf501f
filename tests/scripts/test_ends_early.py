"""A place that cannot be written to ends a command before its work, a signal within it."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from small_runs import small_options

import benchmark
import check_dataset
import detect
import export
import train_joint_dual_backbone
import train_joint_gradnorm
import val
from utils.core.script import run_script
from utils.core.signals import STOP_SIGNALS

# Script -> the first thing it does that takes long, and the option that names its folder
WORK = {
    val: "utils.commands.val.open_model",
    detect: "utils.commands.detect.open_model",
    benchmark: "utils.commands.benchmark.Measured",
    check_dataset: "utils.commands.check_dataset.audit",
    train_joint_gradnorm: "utils.commands.train_joint_gradnorm.load_frames",
    train_joint_dual_backbone: "utils.commands.train_joint_dual_backbone.load_frames",
}
IN_THE_WAY = ("metrics.json", "predictions.npz", "results.csv", "audit.md", "any.png")


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> Callable:
    """Run a script that must end before its work; returns the one line that it says."""

    def run(script: ModuleType, work: str, *arguments: object) -> str:
        monkeypatch.setattr(work, lambda *args, **kwargs: pytest.fail("has begun to work"))
        monkeypatch.setattr("sys.argv", [script.__name__, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run_script(script.main)
        message = capsys.readouterr().err
        assert stop.value.code == 2 and message.count("error: ") == 1, message
        return message

    return run


@pytest.fixture
def arguments(tiny_data: Path, trained: Path, tmp_path: Path) -> dict[ModuleType, list]:
    """What each script needs beside the place of its results."""
    training = []
    for key, value in small_options(tiny_data, tmp_path).items():
        training += [f"--{key.replace('_', '-')}", value]
    dual = []
    for key, value in small_options(tiny_data, tmp_path, train_joint_dual_backbone).items():
        dual += [f"--{key.replace('_', '-')}", value]
    frames = tiny_data.parent / "frames/images/val"
    return {
        val: ["--weights", trained],
        detect: ["--weights", trained, "--source", frames],
        benchmark: training,
        check_dataset: ["--data", tiny_data],
        train_joint_gradnorm: training,
        train_joint_dual_backbone: dual,
    }


def place(script: ModuleType, project: Path, *more: str) -> list:
    if script is check_dataset:
        return ["--out", project / "exp"]
    return ["--project", project, "--name", "exp", *more]


@pytest.mark.parametrize("script", WORK, ids=lambda script: script.__name__)
def test_a_file_in_place_of_the_folder(refused, arguments, tmp_path: Path, script: ModuleType):
    project = tmp_path / "project"
    project.write_text("a file")
    message = refused(script, WORK[script], *arguments[script], *place(script, project))
    assert str(project) in message and project.read_text() == "a file"


@pytest.mark.parametrize("script", WORK, ids=lambda script: script.__name__)
def test_a_full_disk(refused, arguments, tmp_path: Path, monkeypatch, script: ModuleType):
    def no_room(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("utils.core.lock._create", no_room)
    message = refused(script, WORK[script], *arguments[script], *place(script, tmp_path / "runs"))
    assert "No space left on device" in message


@pytest.mark.parametrize("name", IN_THE_WAY)
@pytest.mark.parametrize(
    "script", [script for script in WORK if script is not benchmark], ids=lambda s: s.__name__
)
def test_a_folder_in_place_of_a_file(
    refused, arguments, tmp_path: Path, script: ModuleType, name: str
):
    (tmp_path / "runs/exp" / name).mkdir(parents=True)
    where = place(script, tmp_path / "runs", "--exist-ok")
    message = refused(script, WORK[script], *arguments[script], *where)
    assert f"{tmp_path / 'runs/exp' / name}: found a folder" in message
    assert [path.name for path in (tmp_path / "runs/exp").iterdir()] == [name]


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.parametrize("script", [*WORK, export], ids=lambda script: script.__name__)
def test_a_signal_within_the_work_leaves_one_line_and_a_free_folder(
    arguments, trained: Path, tmp_path: Path, monkeypatch, capsys, script: ModuleType, number: int
):
    work = WORK.get(script, "utils.commands.export.load_any")
    given = ["--weights", trained]
    if script is not export:
        given = [*arguments[script], *place(script, tmp_path / "a/runs")]
    monkeypatch.setattr(work, lambda *args, **kwargs: signal.raise_signal(number))
    monkeypatch.setattr("sys.argv", [script.__name__, *map(str, given)])
    with pytest.raises(SystemExit) as stop:
        run_script(script.main)
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 128 + number
    assert lines[-1].startswith(f"stopped by {signal.Signals(number).name}")
    left = [path.name for path in (tmp_path / "a").rglob("*") if path.is_file()]
    if work.endswith("load_frames"):
        assert left == ["progress.json"]
    else:
        assert not (tmp_path / "a").exists()


def test_predictions_are_scored_where_there_is_room_only(refused, tiny_data: Path, tmp_path: Path):
    project = tmp_path / "project"
    project.write_text("a file")
    given = ["--predictions", "predictions.npz", "--data", tiny_data, *place(val, project)]
    assert str(project) in refused(val, "utils.commands.val.read_predictions", *given)


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_an_export_with_a_folder_in_its_place(refused, trained: Path, tmp_path: Path, suffix: str):
    weights = tmp_path / "last.pt"
    weights.symlink_to(trained)
    path = weights.with_suffix(f".{suffix}")
    path.mkdir()
    given = ["--weights", weights, "--include", "onnx", "pt2"]
    message = refused(export, "utils.commands.export.load_any", *given)
    assert f"{path}: found a folder" in message


def test_an_export_beside_weights_where_nothing_can_be_written(
    refused, trained: Path, tmp_path: Path, monkeypatch
):
    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "some temporary name")

    weights = tmp_path / "last.pt"
    weights.symlink_to(trained)
    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    message = refused(export, "utils.commands.export.load_any", "--weights", weights)
    assert f"{weights.with_suffix('.onnx')}: cannot be written: Permission denied" in message
