"""Scripts as processes, as users start them: together, and into a folder where one is at work."""

import json
import signal
import socket
import time
from pathlib import Path

import pandas as pd
import pytest
from script_processes import ScriptProcess
from small_runs import small_options


@pytest.fixture(scope="module")
def options(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A tiny training's options as a command line has them."""
    options = small_options(tiny_data, tmp_path_factory.mktemp("cfg"))
    return [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]


def start(script: str, *arguments: object) -> ScriptProcess:
    return ScriptProcess(script, *arguments, OMP_NUM_THREADS="1")


def refusal(process: ScriptProcess) -> str:
    """The one line with which a script refuses."""
    _, stderr = process.communicate(120)
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert process.returncode == 2 and len(errors) == 1 and "Traceback" not in stderr, stderr
    return errors[0]


def test_trainings_that_start_together_have_a_folder_each(options: list[str], tmp_path: Path):
    processes = [
        start("train_joint_gradnorm.py", *options, "--epochs=1", "--project", tmp_path)
        for _ in range(3)
    ]
    for process in processes:
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp", "exp2", "exp3"]
    for folder in tmp_path.iterdir():
        assert len(pd.read_csv(folder / "results.csv")) == 1 and (folder / "summary.json").exists()
        assert not list(folder.glob(".*"))


@pytest.mark.parametrize("script", ["detect.py", pytest.param("val.py", marks=pytest.mark.slow)])
def test_evaluations_that_start_together_have_a_folder_each(
    script: str, checkpoints: dict[str, Path], tiny_data: Path, tmp_path: Path
):
    own = (
        ["--source", tiny_data.parent / "frames/images/val"]
        if script == "detect.py"
        else ["--data", tiny_data]
    )
    arguments = ["--weights", checkpoints["joint"], "--project", tmp_path, "--device", "cpu", *own]
    processes = [start(script, *arguments) for _ in range(3)]
    for process in processes:
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
    contents = [sorted(path.name for path in folder.rglob("*")) for folder in tmp_path.iterdir()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp", "exp2", "exp3"]
    assert contents[0] == contents[1] == contents[2] and ".lock" not in contents[0]


def test_nobody_else_writes_into_a_live_run(
    options: list[str], checkpoints: dict[str, Path], tmp_path: Path
):
    first = start("train_joint_gradnorm.py", *options, "--epochs=500", "--project", tmp_path)
    folder = tmp_path / "exp"
    while not (folder / "results.csv").exists() and first.poll() is None:
        time.sleep(0.05)
    place = ["--project", tmp_path, "--name", "exp", "--exist-ok"]
    names_the_first = (
        f"error: {folder}: process {first.pid} on host {socket.gethostname()} is at work there"
    )
    others = (
        ("train_joint_gradnorm.py", "--resume", folder / "weights/last.pt"),
        ("train_joint_gradnorm.py", "--resume", "--project", tmp_path),
        ("train_joint_gradnorm.py", *options, *place),
        ("val.py", "--weights", checkpoints["joint"], "--device", "cpu", *place),
    )
    processes = [start(*command) for command in others]
    assert all(refusal(process).startswith(names_the_first) for process in processes)
    assert json.loads((folder / ".lock").read_text())["pid"] == first.pid
    first.send_signal(signal.SIGTERM)
    first.communicate(60)
    assert first.returncode == 143 and not list(folder.glob(".lock*"))
    rows = pd.read_csv(folder / "results.csv")
    assert rows["epoch"].tolist() == list(range(len(rows)))


def test_a_signal_before_the_first_epoch_leaves_nothing(options: list[str], tmp_path: Path):
    process = start("train_joint_gradnorm.py", *options, "--project", tmp_path / "runs")
    while not (tmp_path / "runs/exp/.lock").exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(60)
    assert (
        process.returncode == 143 and "stopped by SIGTERM" in stderr and "Traceback" not in stderr
    )
    assert not list(tmp_path.rglob(".lock"))
