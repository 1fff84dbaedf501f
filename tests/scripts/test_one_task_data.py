"""Data of boxes alone, as YOLOv5's users have them, and of views alone.

Every script works on them.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import yaml
from script_calls import exit_code_of
from script_processes import run_script_process
from small_comparisons import InThisProcess, compare
from small_runs import small_options, write_tiny_data

import check_dataset
import compare_solutions
import detect
import monitor_training
import split_dataset
import train_joint_dual_backbone
import train_joint_gradnorm
import val
from utils.checkpoints.checkpoint import load_checkpoint
from utils.data.labels import FrameLabels, label_text, parse_labels, read_label_file, view_line

TASK = {"boxes": "detection", "views": "classification"}
pytestmark = pytest.mark.parametrize("kind", TASK)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The data.yaml of either kind."""
    found = {}
    for kind in TASK:
        path = found[kind] = write_tiny_data(tmp_path_factory.mktemp(kind))
        content = yaml.safe_load(path.read_text())
        for file in (path.parent / "frames/labels").rglob("*.txt"):
            labels = read_label_file(file, 4, 3)
            views = view_line(labels.view, 3) if labels.view >= 0 else ""
            file.write_text(label_text(FrameLabels(labels.boxes), 0) if kind == "boxes" else views)
        if kind == "boxes":
            del content["cls_names"]
        else:
            content |= {"names": [], "nc": 0}
        path.write_text(yaml.safe_dump(content))
    return found


@pytest.fixture(scope="module")
def runs(sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run folder of either kind, by the script as a user calls it."""
    found = {}
    for kind, path in sets.items():
        folder = tmp_path_factory.mktemp(f"{kind}_run")
        options = small_options(path, folder) | {"epochs": 1, "project": folder, "name": "run"}
        options = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        done = run_script_process("train_joint_gradnorm.py", *options, "--tasks", TASK[kind])
        assert done.returncode == 0, done.stderr[-2000:]
        assert "no_op" not in done.stderr and "UserWarning" not in done.stderr
        found[kind] = folder / "run"
    return found


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, caplog, capfd, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Run a script; returns its exit code, and what it said."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")

    def run_with(script: ModuleType, *arguments: object) -> tuple[int, str]:
        code = exit_code_of(script, *arguments, monkeypatch=monkeypatch)
        return code, caplog.text + "".join(capfd.readouterr())

    return run_with


def test_it_is_trained_on(kind: str, sets: dict, runs: dict):
    content = load_checkpoint(runs[kind] / "weights/last.pt")
    assert (content["names"] == [], content["view_names"] == []) == (
        kind == "views",
        kind == "boxes",
    )
    metrics = json.loads((runs[kind] / "metrics.json").read_text())
    assert ("detection" in metrics, "views" in metrics) == (kind == "boxes", kind == "views")
    card = (runs[kind] / "MODEL_CARD.md").read_text()
    assert ("4 classes" in card, "3 views" in card) == (kind == "boxes", kind == "views")
    assert (
        len(pd.read_csv(runs[kind] / "results.csv")) == 1
        and (runs[kind] / "val_batch_pred.png").stat().st_size
    )


def test_its_model_is_evaluated_and_detects(
    kind: str, sets: dict, runs: dict, call, tmp_path: Path
):
    weights = runs[kind] / "weights/last.pt"
    code, said = call(
        val, "--weights", weights, "--device", "cpu", "--project", tmp_path, "--name", "val"
    )
    assert code == 0 and "Traceback" not in said
    source = sets[kind].parent / "frames/images/val"
    place = [
        "--device",
        "cpu",
        "--project",
        tmp_path,
        "--name",
        "seen",
        "--save-txt",
        "--save-csv",
        "--save-crop",
    ]
    assert (
        call(detect, "--weights", weights, "--source", source, "--conf-thres", 0.001, *place)[0]
        == 0
    )
    texts = [path.read_text() for path in (tmp_path / "seen/labels").iterdir()]
    read = [parse_labels(text, 4, 3 if kind == "views" else 0) for text in texts]
    assert len(read) == 8 and all((labels.view >= 0) == (kind == "views") for labels in read)


def test_its_audit_finds_nothing_wrong(kind: str, sets: dict, call, tmp_path: Path):
    code, said = call(check_dataset, "--data", sets[kind], "--out", tmp_path / "audit")
    assert code == 0 and "0 errors, 0 leaks" in said
    assert (tmp_path / "audit/boxes.png").exists() == (kind == "boxes")
    assert (tmp_path / "audit/class_by_view.png").exists() == (kind == "views")


def test_it_is_split_and_the_split_can_be_read(kind: str, sets: dict, call, tmp_path: Path):
    assert (
        call(
            split_dataset,
            "--data",
            sets[kind],
            "--by",
            "image",
            "--val",
            0.4,
            "--out",
            tmp_path / "split",
        )[0]
        == 0
    )
    assert call(check_dataset, "--data", tmp_path / "split/data.yaml", "--out", tmp_path / "audit")[
        0
    ] in (0, 1)


def test_its_training_is_followed(kind: str, runs: dict, call):
    code, said = call(monitor_training, runs[kind], "--once")
    assert code == 0 and "finished" in said


def test_what_needs_the_other_task_is_refused_in_one_line(
    kind: str, sets: dict, call, tmp_path: Path
):
    missing, frozen = {
        "boxes": ("cls_names", "classification"),
        "views": ("names is empty", "detection"),
    }[kind]
    data = ["--data", sets[kind], "--project", tmp_path / "runs"]
    for script, *options in (
        (train_joint_gradnorm,),
        (train_joint_dual_backbone,),
        (train_joint_dual_backbone, "--freeze-task", frozen),
        (compare_solutions, "--device", "cpu"),
        (train_joint_gradnorm, "--tasks", "classification" if kind == "boxes" else "detection"),
    ):
        code, said = call(script, *data, *options, "--epochs", 1, "--imgsz", 64)
        (line,) = re.findall(r"^error: (.*)$", said, re.MULTILINE)
        assert code == 2 and "Traceback" not in said
        assert missing in line and (
            f"--tasks {TASK[kind]}" in line or f"--arms {TASK[kind]}-only" in line
        )
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("no_pictures")
def test_the_arm_of_its_task_is_compared(
    kind: str, sets: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    arm = f"{TASK[kind]}-only"
    given = {"arms": arm, "seeds": 0, "epochs": 1, "imgsz": 64, "size": "n", "amp": "off"}
    options = [f"--{name}={value}" for name, value in given.items()]
    data = ["--data", sets[kind], "--device", "cpu"]
    results = compare(monkeypatch, InThisProcess, tmp_path / "compared", *data, *options)
    figures = results["arms"][arm]["figures"]
    assert ("mAP50" in figures, "view_accuracy" in figures) == (kind == "boxes", kind == "views")
