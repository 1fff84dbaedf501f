"""The training loop: exact resume, determinism, a clean stop, and the run folder it leaves."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from small_runs import EPOCHS, assert_same_run, break_run, new_job, resume, run, small_options

from utils.checkpoints.checkpoint import load_checkpoint
from utils.core.names import LOSSES
from utils.core.options import TrainOptions
from utils.core.script import Interrupted, UserError
from utils.loggers.records import GRADNORM_COLUMNS, result_columns
from utils.losses.joint import JointLoss
from utils.training.trainer import Trainer, train


@pytest.fixture(scope="module")
def options(tiny_data, tmp_path_factory) -> dict:
    return small_options(tiny_data, tmp_path_factory.mktemp("cfg"))


@pytest.fixture(scope="module")
def finished(options, tmp_path_factory) -> Path:
    """The run folder of an uninterrupted training."""
    return run(options, tmp_path_factory.mktemp("runs") / "whole", pictures=True)


def test_a_run_leaves_its_folder(finished):
    names = {path.name for path in finished.iterdir()}
    files = {
        "results.csv",
        "gradnorm.csv",
        "progress.json",
        "hyp.yaml",
        "opt.yaml",
        "summary.json",
        "metrics.json",
    }
    files.add("predictions.npz")
    pictures = [
        "results",
        "gradnorm_weight_evolution",
        "gradnorm_analysis_report",
        "PR_curve",
        "confusion_matrix_detection",
        "confusion_matrix_views",
        "val_batch_labels",
        "val_batch_pred",
    ]
    assert files | {f"{name}.png" for name in pictures} <= names
    assert {path.name for path in (finished / "weights").iterdir()} == {"last.pt", "best.pt"}
    results = pd.read_csv(finished / "results.csv")
    assert tuple(results.columns) == result_columns(["joint"])
    assert results["epoch"].tolist() == list(range(EPOCHS))
    assert results.drop(columns=["metrics/precision", "metrics/recall", "best"]).notna().all().all()
    assert results["best"].tolist()[-1] == "joint" and results["best"].iloc[:-1].isna().all()
    updates = pd.read_csv(finished / "gradnorm.csv")
    assert tuple(updates.columns) == GRADNORM_COLUMNS
    assert np.allclose(updates["weight/detection"] + updates["weight/classification"], 2, atol=1e-5)
    progress = json.loads((finished / "progress.json").read_text())
    assert (progress["state"], progress["pid"]) == ("finished", os.getpid())


def test_the_same_command_twice_gives_the_same_bits(options, finished, tmp_path):
    assert_same_run(run(options, tmp_path / "again"), finished)


def test_another_seed_gives_other_weights(options, finished, tmp_path):
    other = run(options, tmp_path / "other", seed=1, epochs=1)
    weights = [
        load_checkpoint(f / "weights" / "last.pt")["model"]["model.0.conv.weight"]
        for f in (other, finished)
    ]
    assert not torch.equal(*weights)


@pytest.mark.parametrize("place", [(0, 1), (1, 0), (2, 2)])
def test_resume_equals_an_uninterrupted_run(options, finished, tmp_path, place):
    """Power fails in an epoch's batch; `--resume` starts at that epoch."""
    break_run(options, tmp_path / "broken", place)
    with (tmp_path / "broken" / "gradnorm.csv").open("a") as stream:
        stream.write("9,")  # a row torn by the failure
    torch.rand(7)  # whatever else drew random numbers since
    resume(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", finished)


def test_resume_is_exact_with_loader_processes(options, finished, tmp_path):
    """Frames that are not cached come from worker processes, which leave the generator of dropout
    alone.
    """
    changes = {"cache": "off", "workers": 2}
    break_run(options, tmp_path / "broken", (1, 1), **changes)
    resume(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", finished)


def test_resume_of_accumulated_batches_is_exact(options, tmp_path):
    hyp = yaml.safe_load(Path(TrainOptions.hyp).read_text())
    (tmp_path / "hyp.yaml").write_text(
        yaml.safe_dump(hyp | {"nominal_batch_size": 8, "optimizer": "SGD"})
    )
    changed = {**options, "hyp": str(tmp_path / "hyp.yaml")}
    whole = run(changed, tmp_path / "whole")
    break_run(changed, tmp_path / "half", (2, 0))
    resume(tmp_path / "half")
    assert_same_run(tmp_path / "half", whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_the_run_can_go_on(options, finished, tmp_path, number):
    def send(trainer: Trainer, epoch: int, index: int, batch: dict) -> None:
        if (epoch, index) == (1, 1):
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match="--resume") as stop:
        run(options, tmp_path / "stopped", on_step=send)
    assert stop.value.exit_code == 128 + number
    assert signal.getsignal(number) is handler
    assert json.loads((tmp_path / "stopped" / "progress.json").read_text())["state"] == "stopped"
    resume(tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", finished)


def test_changed_data_is_not_resumed(options, finished, monkeypatch):
    monkeypatch.setattr("utils.data.splits.Split.fingerprint", lambda self: "other")
    state = load_checkpoint(finished / "weights" / "last.pt")
    job = new_job(options)
    with pytest.raises(UserError, match="changed since this run started"):
        Trainer(dataclasses.replace(job, run=dataclasses.replace(job.run, resume=state)))


def test_a_finished_run_is_not_resumed(finished):
    with pytest.raises(UserError, match="this run is finished"):
        resume(finished)


def test_resume_needs_neither_the_starting_weights_nor_the_model_file(
    options, finished, tmp_path, monkeypatch
):
    cfg, weights = tmp_path / "model.yaml", tmp_path / "start.pt"
    shutil.copy(options["cfg"], cfg)
    shutil.copy(finished / "weights/best.pt", weights)
    changes = {"cfg": str(cfg), "weights": str(weights), "patience": 0}
    whole = run(options, tmp_path / "whole", **changes)
    break_run(options, tmp_path / "broken", (1, 1), **changes)
    cfg.unlink()
    weights.unlink()
    monkeypatch.chdir(tmp_path / "broken/weights")
    train(new_job({"resume": "last.pt"}))
    assert_same_run(tmp_path / "broken", whole)


def test_only_last_pt_in_its_run_is_resumed(options, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    weights = tmp_path / "run/weights"
    (tmp_path / "run/summary.json").unlink()
    for path in (weights / "epoch1.pt", tmp_path / "last.pt"):
        shutil.copy(weights / "last.pt", path)
        with pytest.raises(UserError, match=r"expected RUN/weights/last\.pt"):
            new_job({"resume": str(path)})


@pytest.mark.parametrize("place", ["features", "weights"])
@pytest.mark.parametrize("freeze", [11, 18])
def test_gradnorm_measures_at_a_frozen_cut(options, tmp_path, place, freeze):
    changes = {"freeze": freeze, "gradnorm_place": place, "epochs": 1}
    if (place, freeze) == ("weights", 18):
        with pytest.raises(UserError, match="--freeze 18 holds the last shared layer"):
            run(options, tmp_path / "run", **changes)
    else:
        updates = pd.read_csv(run(options, tmp_path / "run", **changes) / "gradnorm.csv")
        assert (updates[["norm/detection", "norm/classification"]] > 0).all().all()


def test_a_non_finite_loss_stops_and_leaves_the_checkpoint(options, tmp_path, monkeypatch):
    def broken(self, *arguments):
        losses = original(self, *arguments)
        return losses | {"view": losses["view"] * float("nan")} if self.calls() == 5 else losses

    calls = iter(range(100))
    original = JointLoss.forward
    monkeypatch.setattr(JointLoss, "calls", lambda self: next(calls), raising=False)
    monkeypatch.setattr(JointLoss, "forward", broken)
    with pytest.raises(UserError, match=r"not finite at batch.*nan.*\.png"):
        run(options, tmp_path / "nan", noval=True)
    state = load_checkpoint(tmp_path / "nan" / "weights" / "last.pt")
    assert state["epoch"] == 0
    assert all(t.isfinite().all() for t in state["model"].values())


def test_fixed_weights_and_the_other_place(options, tmp_path):
    fixed = run(options, tmp_path / "fixed", balancer="fixed", epochs=1)
    assert not (fixed / "gradnorm.csv").exists()
    row = pd.read_csv(fixed / "results.csv").iloc[-1]
    assert (row["weight/detection"], row["weight/classification"]) == (1.0, 0.01)
    paper = run(options, tmp_path / "paper", gradnorm_place="weights", epochs=1)
    assert len(pd.read_csv(paper / "gradnorm.csv"))


def test_early_stopping_save_period_and_freeze(options, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "utils.training.learner.fitness_parts", lambda metrics, tasks: {"detection": 0.5}
    )
    monkeypatch.setattr("utils.training.learner.EPOCHS_AFTER_WARMUP", -2)
    folder = run(options, tmp_path / "short", epochs=6, patience=1, save_period=1, freeze=10)
    results = pd.read_csv(folder / "results.csv")
    assert len(results) == 2
    assert (folder / "weights" / "epoch0.pt").exists()
    first, last = (
        load_checkpoint(folder / "weights" / name)["model"] for name in ("epoch0.pt", "last.pt")
    )
    assert torch.equal(first["model.9.cv1.conv.weight"], last["model.9.cv1.conv.weight"])
    assert not torch.equal(first["model.10.conv.weight"], last["model.10.conv.weight"])
    assert json.loads((folder / "summary.json").read_text())["epochs"] == len(results)


# ---- number format and shape ---------------------------------------------------------------------


def test_bf16_losses_are_close_to_float32(options, tmp_path):
    """Of the first batch, before any update; bf16 has eight significant bits.

    Noisiest: the view's, of 12 frames.
    """
    losses = []
    for amp in ("off", "bf16"):
        folder = run(
            options, tmp_path / amp, amp=amp, epochs=1, noval=True, batch_size=12, imgsz=160
        )
        losses.append(
            pd.read_csv(folder / "results.csv")[[f"train/{name}_loss" for name in LOSSES]].iloc[0]
        )
    np.testing.assert_array_less(np.abs(losses[1] / losses[0] - 1), [0.01, 0.01, 0.01, 0.05])


def test_a_rect_training_sees_the_boxes_that_a_square_one_sees(tiny_data: Path, tmp_path: Path):
    options = small_options(tiny_data, tmp_path) | {"epochs": 1, "imgsz": 128}
    folders = [
        run(options, tmp_path / name, rect=rect)
        for name, rect in (("square", False), ("rect", True))
    ]
    truths = [[r["truth"] for r in json.loads((f / "val_batch.json").read_text())] for f in folders]
    assert truths[0] == truths[1] and any(truth["boxes_xyxy"] for truth in truths[0])
