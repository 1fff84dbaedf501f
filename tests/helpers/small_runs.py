"""Trainings that take seconds, and whether two of them are the same."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pandas as pd
import pytest
import torch
import yaml

import train_joint_dual_backbone
import train_joint_gradnorm
from utils.checkpoints.checkpoint import load_checkpoint
from utils.commands.train_joint_dual_backbone import build_job as build_dual_job
from utils.commands.train_joint_gradnorm import build_job as build_joint_job
from utils.core.files import ROOT
from utils.core.options import DualOptions, JointOptions
from utils.data.phantom.anatomy import KINDS
from utils.data.phantom.generate import generate
from utils.training import finish
from utils.training.run import start_run
from utils.training.setup import Job
from utils.training.trainer import StepCallback, Trainer, train

TIMES = ["time/epoch_s", "time/val_s"]
EPOCHS = 3
SMALL = {"width_multiple": 0.125, "depth_multiple": 0.1}  # in a model YAML
OPTIONS = {
    train_joint_gradnorm: ("joint", JointOptions),
    train_joint_dual_backbone: ("dual", DualOptions),
}
BUILDERS = {
    train_joint_gradnorm: build_joint_job,
    train_joint_dual_backbone: build_dual_job,
}


def write_tiny_data(folder: Path) -> Path:
    """A data.yaml in `folder`, and beside it a phantom of 12 training and 8 validation frames."""
    generate(folder / "frames", seed=0, train_patients=3, val_patients=2)
    content = {
        "path": "frames",
        "train": "images/train",
        "val": "images/val",
        "nc": 4,
        "names": list(KINDS),
        "cls_names": ["A4C", "PSAX", "PLAX"],
        "group_pattern": r"^(P\d+)_",
        "clip_pattern": r"^(P\d+_.+)_F(\d+)",
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "data.yaml"


def small_yaml(name: str) -> dict[str, object]:
    """The content of a model YAML of this project, made small."""
    return yaml.safe_load((ROOT / f"models/{name}.yaml").read_text()) | SMALL


def small_options(
    data: Path,
    folder: Path,
    script: ModuleType = train_joint_gradnorm,
    size: Mapping[str, float] = SMALL,
) -> dict[str, object]:
    """Command-line options for frames of 64 px and a small model, whose files go to `folder`.

    Args:
        size: keys of the model's YAML that make it small.
    """
    options = {
        "data": str(data),
        "epochs": EPOCHS,
        "imgsz": 64,
        "batch_size": 4,
        "device": "cpu",
        "amp": "off",
    }
    defaults = OPTIONS[script][1]()
    for key in ("cfg", "classifier_cfg"):
        if hasattr(defaults, key):
            path = folder / f"{key}.yaml"
            cfg = yaml.safe_load(Path(getattr(defaults, key)).read_text())
            path.write_text(yaml.safe_dump(cfg | size))
            options[key] = str(path)
    if script is train_joint_gradnorm:
        options["gradnorm_interval"] = 2
    return options


def new_job(options: dict, script: ModuleType = train_joint_gradnorm) -> Job:
    """What `script` makes of `options`."""
    return BUILDERS[script](start_run(options, *OPTIONS[script]))


def run(
    options: dict,
    folder: Path,
    script: ModuleType = train_joint_gradnorm,
    on_step: StepCallback | None = None,
    pictures: bool = False,
    **changes: object,
) -> Path:
    """Train into `folder`; pictures take twice as long as the rest, so only where they are seen."""
    place = {"project": str(folder.parent), "name": folder.name}
    job = new_job(options | changes | place, script)
    if pictures:
        train(job, on_step)
    else:
        _train_without_pictures(job, on_step)
    return folder


def _train_without_pictures(job: Job, on_step: StepCallback | None = None) -> None:
    with patch.object(finish, "draw_run"):
        train(job, on_step)


def power_fails_at(place: tuple[int, int]) -> StepCallback:
    """For `on_step`: an `OSError` after the step of (epoch, batch)."""

    def fail(trainer: Trainer, epoch: int, index: int, batch: dict) -> None:
        if (epoch, index) == place:
            raise OSError("power failure")

    return fail


def break_run(
    options: dict,
    folder: Path,
    place: tuple[int, int],
    script: ModuleType = train_joint_gradnorm,
    **changes: object,
) -> None:
    """Train into `folder` until the power fails after the step of (epoch, batch)."""
    with pytest.raises(OSError, match="power failure"):
        run(options, folder, script, power_fails_at(place), **changes)


def resume(folder: Path, script: ModuleType = train_joint_gradnorm) -> None:
    """Resume the run in `folder`."""
    job = new_job({"resume": str(folder / "weights" / "last.pt")}, script)
    _train_without_pictures(job)


def assert_same_run(a: Path, b: Path) -> None:
    """Weights, averages, optimisers, balancer and CSV rows are equal, bit for bit, but for times."""
    for name in ("last.pt", "best.pt"):
        left, right = (load_checkpoint(folder / "weights" / name) for folder in (a, b))
        for state in (left, right):
            del state["options"]
        assert_equal(left, right)
    for name in ("results.csv", "gradnorm.csv"):
        assert (a / name).exists() == (b / name).exists()
        if (a / name).exists():
            tables = [
                pd.read_csv(folder / name).drop(columns=TIMES, errors="ignore") for folder in (a, b)
            ]
            pd.testing.assert_frame_equal(*tables, check_exact=True)


def assert_equal(a: object, b: object) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b or (a != a and b != b)
