"""Several processes train what one trains: with gloo, on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from small_runs import TIMES, small_options

import train_joint_dual_backbone
import train_joint_gradnorm
from utils import distributed
from utils.checkpoint import load_checkpoint
from utils.dataloaders import EpochSampler, EvaluationBatches, TrainingBatches
from utils.general import UserError

ROOT = Path(__file__).resolve().parents[1]
# Runs a training script without what depends on how frames are spread over processes: batch norm's own statistics, and
# dropout. After every epoch all ranks must hold the same bits. A rank told to fail does so once, in the second epoch.
LAUNCHER = """
import os, sys
import torch
import torch.nn.functional as F
import {script} as script
from utils import distributed, engine
from utils.general import run_script

torch.nn.BatchNorm2d.forward = lambda self, x: F.batch_norm(
    x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
torch.nn.Dropout.forward = lambda self, x: x
train_epoch = engine.Trainer._train_epoch

def checked(self, epoch):
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if epoch == 1 and restarts == "0" and os.environ.get("FAILING_RANK") == os.environ["RANK"]:
        os._exit(1)
    losses = train_epoch(self, epoch)
    bits = [t.double().sum().item() for t in (*self.model.parameters(), *self.average.parameters())]
    state = (bits, self.job.balancer.weights, losses)
    assert all(other == state for other in distributed.gathered([state]))
    return losses

engine.Trainer._train_epoch = checked
run_script(script.main)
"""


def launch(folder: Path, script: ModuleType, options: dict, processes: int, *torchrun: str, **environment: str) -> Path:
    """Train into `folder`: directly in one process, else under torchrun."""
    launcher = folder.parent / "launcher.py"
    launcher.write_text(LAUNCHER.format(script=script.__name__))
    given = options | {"project": folder.parent, "name": folder.name, "optimizer": "SGD", "workers": 0}
    arguments = [text for key, value in given.items() for text in (f"--{key.replace('_', '-')}", str(value))]
    command = [sys.executable, str(launcher), *arguments]
    if processes > 1:
        run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *torchrun]
        command[1:1] = run
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def assert_same_training(one: Path, several: Path) -> None:
    """Weights, figures and rows agree within float tolerance."""
    a, b = (load_checkpoint(folder / "weights" / "last.pt") for folder in (one, several))
    for kind in ("model", "ema"):
        left, right = (state[kind]["model"] if kind == "ema" else state[kind] for state in (a, b))
        for name in left:
            torch.testing.assert_close(left[name], right[name], rtol=1e-4, atol=1e-6, msg=lambda text, n=name: n + text)
    for name in ("results.csv", "gradnorm.csv"):
        assert (one / name).exists() == (several / name).exists()
        if (one / name).exists():
            left, right = (pd.read_csv(folder / name).drop(columns=TIMES, errors="ignore") for folder in (one, several))
            # Validation losses are means of batches, which are smaller where there are more processes.
            left, right = (table.loc[:, ~table.columns.str.startswith("val/")] for table in (left, right))
            pd.testing.assert_frame_equal(left, right, rtol=1e-3, atol=1e-6)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (one, several)]
    assert metrics[0]["views"]["accuracy"] == metrics[1]["views"]["accuracy"]
    assert metrics[0]["detection"]["mAP_0.5"] == pytest.approx(metrics[1]["detection"]["mAP_0.5"], abs=1e-6)


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        (train_joint_gradnorm, {"gradnorm_place": "features"}),
        (train_joint_gradnorm, {"gradnorm_place": "weights", "diagnose_interval": 2, "view_loss_weights": "inverse"}),
        (train_joint_dual_backbone, {}),
    ],
)
def test_two_processes_train_what_one_trains(tiny_data: Path, tmp_path: Path, script: ModuleType, changes: dict):
    """12 frames in batches of 5: the ranks have 3 and 2 frames, then 3 and 2, then 1 and 1."""
    options = small_options(tiny_data, tmp_path, script) | {"batch_size": 5, "epochs": 2} | changes
    one = launch(tmp_path / "one", script, options, 1)
    two = launch(tmp_path / "two", script, options, 2)
    assert_same_training(one, two)
    assert json.loads((two / "summary.json").read_text())["processes"] == 2
    if changes.get("diagnose_interval"):
        left, right = (pd.read_csv(folder / "interference.csv") for folder in (one, two))
        pd.testing.assert_frame_equal(left, right, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_processes_that_torchrun_starts_again_go_on_where_they_were(tiny_data: Path, tmp_path: Path):
    options = small_options(tiny_data, tmp_path) | {"epochs": 3}
    whole = launch(tmp_path / "whole", train_joint_gradnorm, options, 2)
    failing = launch(tmp_path / "again", train_joint_gradnorm, options, 2, "--max-restarts=1", FAILING_RANK="1")
    assert_same_training(whole, failing)
    assert len(list(tmp_path.glob("again*"))) == 1


# ---- who takes which frames --------------------------------------------------------------------------------


def as_ranks(monkeypatch: pytest.MonkeyPatch, count: int, make) -> list:
    """What `make()` gives on every rank."""
    monkeypatch.setattr(distributed, "world_size", lambda: count)
    found = []
    for number in range(count):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        found.append(make())
    return found


@pytest.mark.parametrize(("length", "size", "ranks"), [(12, 5, 2), (11, 5, 2), (10, 4, 3), (16, 4, 4), (7, 7, 1)])
def test_the_ranks_share_every_batch_that_one_process_would_have(monkeypatch, length, size, ranks):
    (whole,) = as_ranks(monkeypatch, 1, lambda: list(TrainingBatches(EpochSampler(length, 3), size)))
    shares = as_ranks(monkeypatch, ranks, lambda: list(TrainingBatches(EpochSampler(length, 3), size)))
    left_out = len(whole[-1]) < ranks
    assert {len(share) for share in shares} == {len(whole) - left_out}
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=False):
        assert sorted(key for part in parts for key in part) == sorted(batch)
        assert all(parts) and max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("length", "size", "ranks"), [(183, 16, 2), (183, 16, 7), (3, 16, 4), (5, 1, 2)])
def test_every_frame_is_evaluated_once(monkeypatch, length, size, ranks):
    shares = as_ranks(monkeypatch, ranks, lambda: list(EvaluationBatches(length, size)))
    assert sorted(index for share in shares for batch in share for index in batch) == list(range(length))
    assert max(len(batch) for share in shares for batch in share) <= -(-size // ranks)


def test_a_batch_smaller_than_the_number_of_processes_is_an_error(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    with pytest.raises(UserError, match=r"--batch-size 3.*4 processes"):
        TrainingBatches(EpochSampler(100, 0), 3)


# ---- shares ------------------------------------------------------------------------------------------------


def test_alone_a_share_is_exactly_one():
    counts = {"frames": 3, "views": 2, "matches0": 7}
    assert set(distributed.shares(counts, distributed.totals(counts)).values()) == {1.0}
    assert distributed.shares({"views": 0}, {"views": 0}) == {"views": 0.0}


def test_the_average_of_shared_means_is_the_mean_of_all(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    parts = [[1.0, 4.0], [2.0], []]
    totals = {"n": sum(map(len, parts))}
    means = [sum(part) / len(part) if part else 0.0 for part in parts]
    terms = [m * distributed.shares({"n": len(part)}, totals)["n"] for m, part in zip(means, parts, strict=True)]
    assert sum(terms) / 3 == pytest.approx(7 / 3)
