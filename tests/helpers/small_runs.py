"""Trainings that take seconds, and whether two of them are the same; for the tests of the scripts."""

from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
import yaml

import train_joint_dual_backbone
import train_joint_gradnorm
from utils.checkpoints.checkpoint import load_checkpoint
from utils.commands.train_joint_dual_backbone import build_job as build_dual_job
from utils.commands.train_joint_gradnorm import build_job as build_joint_job
from utils.core.options import DualOptions, JointOptions
from utils.data.phantom.anatomy import KINDS
from utils.data.phantom.generate import generate
from utils.training.run import start_run
from utils.training.setup import Job
from utils.training.trainer import StepCallback, Trainer, train

TIMES = ["time/epoch_s", "time/val_s"]
EPOCHS = 3
OPTIONS = {
    train_joint_gradnorm: ("joint", JointOptions),
    train_joint_dual_backbone: ("dual", DualOptions),
}
BUILDERS = {
    train_joint_gradnorm: build_joint_job,
    train_joint_dual_backbone: build_dual_job,
}


def write_tiny_data(folder: Path) -> Path:
    """A data.yaml in `folder` and a small phantom beside it: 12 training and 8 validation frames."""
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


def small_options(
    data: Path, folder: Path, script: ModuleType = train_joint_gradnorm
) -> dict[str, object]:
    """Command-line options for 12 frames of 64 px and an eighth of the width; model files go to `folder`."""
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
            path.write_text(yaml.safe_dump(cfg | {"width_multiple": 0.125}))
            options[key] = str(path)
    return options | ({"gradnorm_interval": 2} if script is train_joint_gradnorm else {})


def new_job(options: dict, script: ModuleType = train_joint_gradnorm) -> Job:
    """What `script` makes of `options`."""
    return BUILDERS[script](start_run(options, *OPTIONS[script]))


def run(
    options: dict,
    folder: Path,
    script: ModuleType = train_joint_gradnorm,
    on_step: StepCallback | None = None,
    **changes: object,
) -> Path:
    """Train into `folder`."""
    place = {"project": str(folder.parent), "name": folder.name}
    train(new_job({**options, **changes, **place}, script), on_step)
    return folder


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
    """Go on with the run in `folder`."""
    train(new_job({"resume": str(folder / "weights" / "last.pt")}, script))


def assert_same_run(a: Path, b: Path) -> None:
    """Weights, averages, optimisers, balancer and CSV rows of two runs are equal, bit for bit, but for times."""
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
