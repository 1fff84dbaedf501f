"""The training loop: exact resume, determinism, a clean stop, and the run folder it leaves."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from small_runs import EPOCHS, TIMES, assert_same_run, new_job, resume, run, small_options

from utils import engine
from utils.checkpoint import load_checkpoint
from utils.config import HyperParameters, TrainOptions
from utils.engine import LossReader, Trainer, train
from utils.general import TASKS, CsvLog, Interrupted, UserError, new_run_folder
from utils.learner import Network
from utils.torch_utils import ModelEMA, Schedule, Stepper, frozen_copy, parameter_groups, select_precision


@pytest.fixture(scope="module")
def options(tiny_data, tmp_path_factory) -> dict:
    return small_options(tiny_data, tmp_path_factory.mktemp("cfg"))


@pytest.fixture(scope="module")
def finished(options, tmp_path_factory) -> Path:
    """The run folder of an uninterrupted training."""
    return run(options, tmp_path_factory.mktemp("runs") / "whole")


def test_a_run_leaves_its_folder(finished):
    names = {path.name for path in finished.iterdir()}
    files = {"results.csv", "gradnorm.csv", "progress.json", "hyp.yaml", "opt.yaml", "summary.json", "metrics.json"}
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
    network = Network("joint", "", TASKS, HyperParameters(), range(EPOCHS))
    assert tuple(results.columns) == engine.result_columns([network])
    assert results["epoch"].tolist() == list(range(EPOCHS))
    assert results.drop(columns=["metrics/precision", "metrics/recall"]).notna().all().all()
    updates = pd.read_csv(finished / "gradnorm.csv")
    assert tuple(updates.columns) == engine.GRADNORM_COLUMNS
    assert np.allclose(updates["weight/detection"] + updates["weight/classification"], 2, atol=1e-5)
    progress = json.loads((finished / "progress.json").read_text())
    assert (progress["state"], progress["pid"]) == ("finished", os.getpid())


def test_the_same_command_twice_gives_the_same_bits(options, finished, tmp_path):
    assert_same_run(run(options, tmp_path / "again"), finished)


def test_another_seed_gives_other_weights(options, finished, tmp_path):
    other = run(options, tmp_path / "other", seed=1, epochs=1)
    weights = [load_checkpoint(f / "weights" / "last.pt")["model"]["model.0.conv.weight"] for f in (other, finished)]
    assert not torch.equal(*weights)


def fail_at(step, place: tuple[int, int]):
    """`step`, but that in an epoch's batch the power fails."""

    def failing_step(self, epoch, index, *rest):
        if (epoch, index) == place:
            raise OSError("power failure")
        return step(self, epoch, index, *rest)

    return failing_step


@pytest.mark.parametrize("place", [(0, 1), (1, 0), (2, 2)])
def test_resume_equals_an_uninterrupted_run(options, finished, tmp_path, monkeypatch, place):
    """Power fails in an epoch's batch; `--resume` starts at that epoch."""
    monkeypatch.setattr(Trainer, "_step", fail_at(Trainer._step, place))
    with pytest.raises(OSError, match="power failure"):
        run(options, tmp_path / "broken")
    monkeypatch.undo()
    with (tmp_path / "broken" / "gradnorm.csv").open("a") as stream:
        stream.write("9,")  # a row torn by the failure
    torch.rand(7)  # whatever else drew random numbers since
    resume(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", finished)


def test_resume_is_exact_with_loader_processes(options, finished, tmp_path, monkeypatch):
    """Frames that are not cached come from worker processes, which leave the generator of dropout alone."""
    changes = {"cache": "off", "workers": 2}
    monkeypatch.setattr(Trainer, "_step", fail_at(Trainer._step, (1, 1)))
    with pytest.raises(OSError, match="power failure"):
        run(options, tmp_path / "broken", **changes)
    monkeypatch.undo()
    resume(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", finished)


def test_resume_of_accumulated_batches_is_exact(options, tmp_path, monkeypatch):
    hyp = yaml.safe_load(Path(TrainOptions.hyp).read_text())
    (tmp_path / "hyp.yaml").write_text(yaml.safe_dump(hyp | {"nominal_batch_size": 8, "optimizer": "SGD"}))
    changed = {**options, "hyp": str(tmp_path / "hyp.yaml")}
    whole = run(changed, tmp_path / "whole")
    monkeypatch.setattr(Trainer, "_step", fail_at(Trainer._step, (2, 0)))
    with pytest.raises(OSError, match="power failure"):
        run(changed, tmp_path / "half")
    monkeypatch.undo()
    resume(tmp_path / "half")
    assert_same_run(tmp_path / "half", whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_the_run_can_go_on(options, finished, tmp_path, monkeypatch, number):
    def step_and_signal(self, epoch, index, *rest):
        original(self, epoch, index, *rest)
        if (epoch, index) == (1, 1):
            os.kill(os.getpid(), number)

    original, handler = Trainer._step, signal.getsignal(number)
    monkeypatch.setattr(Trainer, "_step", step_and_signal)
    with pytest.raises(Interrupted, match="--resume") as stop:
        run(options, tmp_path / "stopped")
    assert stop.value.exit_code == 128 + number
    assert signal.getsignal(number) is handler
    assert json.loads((tmp_path / "stopped" / "progress.json").read_text())["state"] == "stopped"
    monkeypatch.undo()
    resume(tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", finished)


@pytest.fixture(scope="module")
def four_epochs(options, tmp_path_factory) -> Path:
    return run(options, tmp_path_factory.mktemp("four") / "whole", epochs=4)


@pytest.mark.parametrize("kill", [0, *(pytest.param(kill, marks=pytest.mark.slow) for kill in range(1, 10))])
def test_a_killed_process_resumes_exactly(options, four_epochs, tmp_path, kill):
    """Two epochs, SIGKILL at a random moment of the third, `--resume` to four."""
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in {**options, "epochs": 4}.items()]
    command = [sys.executable, "train_joint_gradnorm.py", *arguments, f"--project={tmp_path}", "--name=killed"]
    folder, results = tmp_path / "killed", pd.read_csv(four_epochs / "results.csv")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while rows_of(folder / "results.csv") < 2 and process.poll() is None:
        time.sleep(0.005)
    time.sleep(random.Random(kill).random() * results[TIMES].iloc[2].sum())
    process.kill()
    process.wait()
    resume = [*command[:2], f"--resume={folder / 'weights' / 'last.pt'}"]
    subprocess.run(resume, check=True, capture_output=True)
    assert_same_run(folder, four_epochs)


def rows_of(path: Path) -> int:
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def test_changed_data_is_not_resumed(options, finished, monkeypatch):
    monkeypatch.setattr("utils.dataloaders.Split.fingerprint", lambda self: "other")
    state = load_checkpoint(finished / "weights" / "last.pt")
    job = new_job(options)
    with pytest.raises(UserError, match="changed since this run started"):
        Trainer(dataclasses.replace(job, run=dataclasses.replace(job.run, resume=state)))


def test_a_finished_run_is_not_resumed(finished):
    with pytest.raises(UserError, match="this run is finished"):
        resume(finished)


def test_a_run_killed_while_it_writes_its_summary_is_finished_by_resume(options, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "write_evaluation", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(options, tmp_path / "broken")
    monkeypatch.undo()
    resume(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", finished)
    left, right = (json.loads((f / "metrics.json").read_text()) for f in (tmp_path / "broken", finished))
    assert left == right and (tmp_path / "broken/summary.json").exists()


def test_resume_needs_neither_the_starting_weights_nor_the_model_file(options, finished, tmp_path, monkeypatch):
    cfg, weights = tmp_path / "model.yaml", tmp_path / "start.pt"
    shutil.copy(options["cfg"], cfg)
    shutil.copy(finished / "weights/best.pt", weights)
    changes = {"cfg": str(cfg), "weights": str(weights), "patience": 0}
    whole = run(options, tmp_path / "whole", **changes)
    monkeypatch.setattr(Trainer, "_step", fail_at(Trainer._step, (1, 1)))
    with pytest.raises(OSError, match="power failure"):
        run(options, tmp_path / "broken", **changes)
    monkeypatch.undo()
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
    original = engine.JointLoss.forward
    monkeypatch.setattr(engine.JointLoss, "calls", lambda self: next(calls), raising=False)
    monkeypatch.setattr(engine.JointLoss, "forward", broken)
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
    monkeypatch.setattr("utils.learner.fitness", lambda metrics, tasks: 0.5)
    folder = run(options, tmp_path / "short", epochs=6, patience=1, save_period=1, freeze=10)
    results = pd.read_csv(folder / "results.csv")
    assert len(results) == 2
    assert (folder / "weights" / "epoch0.pt").exists()
    first, last = (load_checkpoint(folder / "weights" / name)["model"] for name in ("epoch0.pt", "last.pt"))
    assert torch.equal(first["model.9.cv1.conv.weight"], last["model.9.cv1.conv.weight"])
    assert not torch.equal(first["model.10.conv.weight"], last["model.10.conv.weight"])
    assert json.loads((folder / "summary.json").read_text())["epochs"] == len(results)


# ---- parts ----------------------------------------------------------------------------------------------------


def test_schedule_warms_up_then_decays():
    hyp = HyperParameters(lr0=0.01, lrf=0.1, warmup_epochs=3, warmup_bias_lr=0.1, cos_lr=True)
    schedule = Schedule(hyp, epochs=20, batches=100)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(parameter_groups(model, 0.1), lr=1.0, momentum=0.5)
    assert schedule.warmup_steps == 300
    schedule.apply(optimizer, 0, 0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.0, 0.0]
    assert optimizer.param_groups[0]["momentum"] == 0.8
    schedule.apply(optimizer, 10, 0)
    assert all(group["lr"] == pytest.approx(0.01 * 0.55) for group in optimizer.param_groups)
    assert optimizer.param_groups[0]["momentum"] == hyp.momentum
    assert schedule.factor(20) == pytest.approx(0.1)
    assert Schedule(HyperParameters(lrf=0.1), 20, 100).factor(10) == pytest.approx(0.55)  # linear
    assert Schedule(hyp, epochs=3, batches=10).warmup_steps == 10  # capped at a third


def test_accumulation_keeps_yolov5s_meaning():
    schedule = Schedule(HyperParameters(nominal_batch_size=64, warmup_epochs=1), 20, 200)
    assert [schedule.accumulate(0, batch, 16) for batch in (0, 100, 199)] == [1, 2, 4]
    assert schedule.accumulate(5, 0, 16) == 4
    assert schedule.accumulate(5, 0, 128) == 1
    assert Schedule(HyperParameters(nominal_batch_size=None), 20, 200).accumulate(5, 0, 2) == 1


def test_parameter_groups_decay_only_weights():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.GroupNorm(2, 4))
    groups = {group["name"]: group for group in parameter_groups(model, 0.1)}
    assert {name: len(group["params"]) for name, group in groups.items()} == {"bias": 3, "decay": 1, "norm": 2}
    assert {name: group["weight_decay"] for name, group in groups.items()} == {"bias": 0, "decay": 0.1, "norm": 0}


def test_ema_follows_yolov5s_ramp():
    model = torch.nn.BatchNorm1d(2)
    average = frozen_copy(model)
    ema = ModelEMA(model, average)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(5.0)
    ema.update()
    keep = 0.9999 * (1 - np.exp(-1 / 2000))
    torch.testing.assert_close(average.weight, torch.full((2,), keep * 1.0 + (1 - keep) * 3.0))
    torch.testing.assert_close(average.running_mean, torch.full((2,), (1 - keep) * 5.0))


def test_stepper_clips_and_accumulates_sums():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    rates = {"lr0": 1.0, "momentum": 0.0, "warmup_epochs": 0.0, "weight_decay": 0.0}
    hyp = HyperParameters(**rates, nominal_batch_size=2, gradient_clip=5.0)
    stepper = Stepper(model, hyp, Schedule(hyp, 1, 10), select_precision("off", torch.device("cpu")), 1)
    stepped = []
    for batch in range(2):
        stepper.begin(0, batch)
        stepper.backward(model(torch.ones(1, 1)).sum() * 2)
        stepped.append(stepper.step(0, batch))
    assert stepped == [False, True]
    assert model.weight.item() == pytest.approx(-4.0, rel=1e-5)
    for batch in (2, 3):
        stepper.begin(0, batch)
        stepper.backward(model(torch.ones(1, 1)).sum() * 100)
        stepper.step(0, batch)
    assert model.weight.item() == pytest.approx(-9.0, rel=1e-5)  # 200 clipped to 5


def test_loss_reader_weights_by_images():
    reader = LossReader(interval=10)
    reader.add(0, {"box": torch.tensor(1.0)}, ["a"])
    reader.add(1, {"box": torch.tensor(4.0)}, ["b", "c"])
    reader.read()
    assert reader.means() == {"box": 3.0}


def test_csv_log_mends_a_torn_row(tmp_path):
    log = CsvLog(tmp_path / "log.csv", ("epoch", "value"))
    for epoch in range(3):
        log.append({"epoch": epoch, "value": epoch / 3})
    with log.path.open("a") as stream:
        stream.write("3,0.")
    log.keep_before(10)
    assert log.path.read_text() == "epoch,value\n0,0\n1,0.333333\n2,0.666667\n"
    log.keep_before(1)
    assert log.path.read_text() == "epoch,value\n0,0\n"


def test_run_folders_count_up(tmp_path):
    for expected in ("exp", "exp2", "exp3"):
        folder = new_run_folder(tmp_path, "exp")
        assert folder.name == expected
        folder.mkdir()
    assert new_run_folder(tmp_path, "exp", exist_ok=True).name == "exp"


def test_precision_is_chosen_and_refused(monkeypatch):
    cpu = torch.device("cpu")
    assert select_precision("off", cpu).dtype is torch.float32
    assert not select_precision("off", cpu).channels_last
    for has_bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("utils.torch_utils.cpu_has_fast_bf16", lambda has_bf16=has_bf16: has_bf16)
        assert select_precision("auto", cpu).dtype is dtype
    with pytest.raises(UserError, match="CUDA"):
        select_precision("fp16", cpu)
    with pytest.raises(UserError, match="--amp is 'fast'"):
        select_precision("fast", cpu)


def test_bf16_losses_are_close_to_float32(options, tmp_path):
    """Of the first batch, before any update; bf16 has eight significant bits. Noisiest: the view's, of 12 frames."""
    losses = []
    for amp in ("off", "bf16"):
        folder = run(options, tmp_path / amp, amp=amp, epochs=1, noval=True, batch_size=12, imgsz=160)
        losses.append(pd.read_csv(folder / "results.csv")[[f"train/{name}_loss" for name in engine.LOSSES]].iloc[0])
    np.testing.assert_array_less(np.abs(losses[1] / losses[0] - 1), [0.01, 0.01, 0.01, 0.05])
