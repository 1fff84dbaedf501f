"""Two processes with a GPU each train what one trains, by NCCL."""

import json
from pathlib import Path

import gpu
import pytest
import torch
from several_processes import launch
from small_runs import small_options

import train_joint_gradnorm

pytestmark = pytest.mark.gpu

SAME = 0.01  # largest relative difference of an epoch's losses and weights


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_two_gpus_train_what_one_trains(tiny_data: Path, tmp_path: Path, amp: str):
    if gpu.DEVICE != "cpu" and torch.cuda.device_count() < 2:
        pytest.skip(f"needs two CUDA GPUs, found {torch.cuda.device_count()}")
    options = small_options(tiny_data, tmp_path) | {"batch_size": 6, "epochs": 2, "amp": amp}
    options["device"] = "auto"
    one = launch(tmp_path / "one", train_joint_gradnorm, options, 1, NVIDIA_TF32_OVERRIDE="0")
    two = launch(
        tmp_path / "two",
        train_joint_gradnorm,
        options,
        2,
        "--max-restarts=0",
        NVIDIA_TF32_OVERRIDE="0",
    )
    assert json.loads((two / "summary.json").read_text())["processes"] == 2
    losses = [gpu.losses_of(folder).filter(regex="^train/|^weight/") for folder in (one, two)]
    difference = gpu.largest_relative_difference(losses[1], losses[0])
    text = f"one:\n{losses[0].to_string()}\ntwo:\n{losses[1].to_string()}"
    print(f"{text}\nlargest relative difference {difference:.2e}")
    assert difference <= SAME, text
