"""What goes wrong with files while the scripts run, and data sets that are strange but right.

Broken label files and images before the start are in test_cli.py and tests/data, hostile
checkpoints in test_cli.py and tests/checkpoints, signals and kills in
tests/training/test_trainer.py and test_train_joint_gradnorm.py.
"""

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import pandas as pd
import pytest
import torch
import yaml
from small_runs import assert_same_run, resume, run, small_options

import train_joint_gradnorm
import val
from utils.checkpoints.checkpoint import load_checkpoint
from utils.core.files import ROOT
from utils.core.script import run_script
from utils.data.sampling import EpochSampler


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data.yaml whose files may be spoilt, if they are repaired again."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(tiny_data.parent, folder, dirs_exist_ok=True)
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def options(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return small_options(data, tmp_path_factory.mktemp("cfg"))


@pytest.fixture(scope="module")
def finished(options: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an undisturbed training."""
    return run(options, tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> Callable:
    """Run a script with options; returns its exit code, last message, and stderr."""
    monkeypatch.chdir(ROOT)
    caplog.set_level("INFO")

    def run_with(script: ModuleType, **options: object) -> tuple[int, str, str]:
        arguments = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        monkeypatch.setattr(sys, "argv", [script.__name__, *arguments])
        code = 0
        try:
            run_script(script.main)
        except SystemExit as stop:
            code = stop.code
        return code, caplog.messages[-1], capfd.readouterr().err

    return run_with


def error_of(stderr: str) -> str:
    """The one line that says what is wrong."""
    assert "Traceback" not in stderr and "Caught" not in stderr
    (message,) = re.findall(r"(?:^|\r)error: (.*)\Z", stderr.rstrip("\n"), re.MULTILINE | re.DOTALL)
    assert "\n" not in message
    return message


# ---- while training ------------------------------------------------------------------------------


def at_epoch(monkeypatch: pytest.MonkeyPatch, number: int, happen: Callable[[], object]) -> None:
    """Before the first batch of an epoch is loaded."""

    def set_epoch(self: EpochSampler, epoch: int) -> None:
        if epoch == number:
            happen()
        original(self, epoch)

    original = EpochSampler.set_epoch
    monkeypatch.setattr(EpochSampler, "set_epoch", set_epoch)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def halve(path: Path) -> None:
    """An image of another size in its place."""
    cv2.imwrite(str(path), cv2.imread(str(path))[::2])


BROKEN, CHANGED = (
    "cannot be read as an image",
    r"\d+x\d+ pixels, expected \d+x\d+ as at the start; ",
)


@pytest.mark.parametrize(
    ("split", "spoil", "workers", "expected"),
    [
        *(("train", cut, 0, BROKEN), ("train", Path.unlink, 2, BROKEN), ("val", cut, 2, BROKEN)),
        *(("train", halve, 0, CHANGED), ("val", halve, 2, CHANGED)),
    ],
)
def test_an_image_that_breaks_stops_the_run_which_goes_on_when_it_is_mended(
    call,
    options: dict,
    finished: Path,
    tmp_path: Path,
    monkeypatch,
    split: str,
    spoil,
    workers: int,
    expected: str,
):
    image = sorted((Path(options["data"]).parent / "frames/images" / split).iterdir())[4]
    whole, folder = image.read_bytes(), tmp_path / "run"
    at_epoch(monkeypatch, 1, lambda: spoil(image))
    try:
        place = {"project": tmp_path, "name": "run", "cache": "off", "workers": workers}
        code, last_message, err = call(train_joint_gradnorm, **options, **place)
    finally:
        image.write_bytes(whole)
    assert code == 2
    assert re.match(f"{re.escape(str(image))}: {expected}", error_of(err))
    last = folder / "weights/last.pt"
    assert last_message.startswith("stopped in epoch 2; ") and last_message.endswith(
        f"--resume {last}"
    )
    assert load_checkpoint(last)["epoch"] == 0
    monkeypatch.undo()
    resume(folder)
    assert_same_run(folder, finished)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_to_all_processes_of_a_run_stops_it_cleanly(
    options: dict, tmp_path: Path, number: int
):
    """As a terminal, `timeout` or a batch system sends it; loader processes get it too."""
    changes = {"project": tmp_path, "name": "run", "cache": "off", "workers": 2, "epochs": 500}
    arguments = [
        f"--{key.replace('_', '-')}={value}" for key, value in {**options, **changes}.items()
    ]
    command = [sys.executable, "train_joint_gradnorm.py", *arguments]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes)
    while not (tmp_path / "run/results.csv").exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number and "Traceback" not in err
    assert f"resume with --resume {tmp_path / 'run/weights/last.pt'}" in err


def no_room(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("module", "name"), [(torch, "save"), (os, "fsync")])
def test_a_full_disk_leaves_the_last_checkpoint_to_go_on_from(
    call, options: dict, finished: Path, tmp_path: Path, monkeypatch, module: ModuleType, name: str
):
    at_epoch(monkeypatch, 1, lambda: monkeypatch.setattr(module, name, no_room))
    code, last_message, err = call(train_joint_gradnorm, **options, project=tmp_path, name="run")
    folder = tmp_path / "run"
    assert code == 2 and last_message.startswith("stopped in epoch 2; ")
    file, reason = error_of(err).split(": ", 1)
    assert reason == "cannot be written: No space left on device"
    assert Path(file).relative_to(folder).as_posix() in (
        "weights/last.pt",
        "weights/best.pt",
        "progress.json",
    )
    assert {path.name for path in (folder / "weights").iterdir()} == {
        "last.pt"
    }  # none can be the best so early
    assert load_checkpoint(folder / "weights/last.pt")["epoch"] == 0
    monkeypatch.undo()
    resume(folder)
    assert_same_run(folder, finished)


# ---- strange but right ---------------------------------------------------------------------------


STRANGE = "a +b=c (1) \u5fc3\u81df"


@pytest.mark.parametrize("as_list", [pytest.param(False, marks=pytest.mark.slow), True])
def test_unusual_names_everywhere(call, options: dict, tmp_path: Path, as_list: bool):
    """Of folders, files, lists, the data.yaml and the run."""
    root = tmp_path / f"{STRANGE} root"
    shutil.copytree(Path(options["data"]).parent / "frames", root / STRANGE)
    for path in sorted((root / STRANGE).rglob("*.*")):
        path.rename(path.with_name(f"{path.stem} {STRANGE}{path.suffix}"))
    content = yaml.safe_load(Path(options["data"]).read_text()) | {"path": STRANGE}
    if as_list:
        for split in ("train", "val"):
            names = sorted((root / STRANGE / "images" / split).iterdir())
            (root / STRANGE / f"{STRANGE} {split}.txt").write_text(
                "\n".join(map(str, names)), encoding="utf-8"
            )
            content[split] = f"{STRANGE} {split}.txt"
    data = root / f"{STRANGE}.yaml"
    data.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    project = tmp_path / f"{STRANGE} runs"
    changes = {
        "data": data,
        "epochs": 1,
        "project": project,
        "name": STRANGE,
        "cache": "off",
        "workers": 1,
    }
    assert call(train_joint_gradnorm, **options | changes)[0] == 0
    folder = project / STRANGE
    assert (
        len(pd.read_csv(folder / "results.csv")) == 1
        and (folder / "val_batch_pred.png").stat().st_size
    )
    code, last_message, _ = call(
        val, weights=folder / "weights/best.pt", project=project, name="val", device="cpu"
    )
    assert code == 0 and last_message.endswith(f"everything is in {project / 'val'}")


def tree_hash(folder: Path) -> str:
    """Of all names, kinds, times and contents below a folder."""
    digest = hashlib.sha256()
    for path in [folder, *sorted(folder.rglob("*"))]:
        digest.update(f"{path} {path.stat().st_mode} {path.stat().st_mtime_ns}".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


@pytest.mark.parametrize("cache", ["off", pytest.param("ram", marks=pytest.mark.slow), "disk"])
def test_a_read_only_data_set_is_enough(
    call, options: dict, tmp_path: Path, monkeypatch, request, cache: str
):
    """Root may write anywhere, so what counts is that nothing has changed."""
    if cache != "off":  # pictures read the frames in one way, whatever the cache
        request.getfixturevalue("no_pictures")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(Path(options["data"]).parent, tmp_path / "set")
    for path in sorted((tmp_path / "set").rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = tree_hash(tmp_path / "set")
    place = {"data": tmp_path / "set/data.yaml", "project": tmp_path, "name": "run"}
    assert call(train_joint_gradnorm, **options | place | {"epochs": 1, "cache": cache})[0] == 0
    weights = tmp_path / "run/weights/best.pt"
    assert call(val, weights=weights, project=tmp_path, name="val", device="cpu")[0] == 0
    assert tree_hash(tmp_path / "set") == before
    kept = {path.name for path in (tmp_path / "cache/yolov5-joint-gradnorm").iterdir()}
    assert "index" in kept and ("frames" in kept) == (cache == "disk")
