"""Rates, accumulation, parameter groups and clipping, as YOLOv5's."""

import pytest
import torch

from utils.core.device import select_compute
from utils.core.hyperparameters import HyperParameters
from utils.training.optimiser import Schedule, Stepper, parameter_groups


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
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.GroupNorm(2, 4)
    )
    groups = {group["name"]: group for group in parameter_groups(model, 0.1)}
    assert {name: len(group["params"]) for name, group in groups.items()} == {
        "bias": 3,
        "decay": 1,
        "norm": 2,
    }
    assert {name: group["weight_decay"] for name, group in groups.items()} == {
        "bias": 0,
        "decay": 0.1,
        "norm": 0,
    }


def test_stepper_clips_and_accumulates_sums():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    rates = {"lr0": 1.0, "momentum": 0.0, "warmup_epochs": 0.0, "weight_decay": 0.0}
    hyp = HyperParameters(**rates, nominal_batch_size=2, gradient_clip=5.0)
    stepper = Stepper(
        model, hyp, Schedule(hyp, 1, 10), select_compute("off", torch.device("cpu")), 1
    )
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
