"""Several processes train what one trains: with gloo, on this machine."""

import json
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from several_processes import assert_same_training, launch
from small_runs import small_options

import train_joint_dual_backbone
import train_joint_gradnorm

AT_WEIGHTS = {"gradnorm_place": "weights", "diagnose_interval": 2, "view_loss_weights": "inverse"}


@pytest.mark.parametrize(
    ("script", "changes", "torchrun"),
    [
        (train_joint_gradnorm, {"gradnorm_place": "features"}, ["--max-restarts=0"]),
        pytest.param(train_joint_gradnorm, AT_WEIGHTS, [], marks=pytest.mark.slow),
        pytest.param(train_joint_dual_backbone, {}, [], marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_what_one_trains(
    tiny_data: Path, tmp_path: Path, script: ModuleType, changes: dict, torchrun: list[str]
):
    """12 frames in batches of 5: the ranks have 3 and 2 frames, then 3 and 2, then 1 and 1."""
    options = small_options(tiny_data, tmp_path, script) | {"batch_size": 5, "epochs": 2} | changes
    one = launch(tmp_path / "one", script, options, 1)
    two = launch(tmp_path / "two", script, options, 2, *torchrun)
    assert_same_training(one, two)
    assert json.loads((two / "summary.json").read_text())["processes"] == 2
    if changes.get("diagnose_interval"):
        left, right = (pd.read_csv(folder / "interference.csv") for folder in (one, two))
        pd.testing.assert_frame_equal(left, right, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_processes_that_torchrun_starts_again_go_on_where_they_were(
    tiny_data: Path, tmp_path: Path
):
    options = small_options(tiny_data, tmp_path) | {"epochs": 3}
    whole = launch(tmp_path / "whole", train_joint_gradnorm, options, 2, "--max-restarts=0")
    failing = launch(
        tmp_path / "again", train_joint_gradnorm, options, 2, "--max-restarts=1", FAILING_RANK="1"
    )
    assert_same_training(whole, failing)
    assert len(list(tmp_path.glob("again*"))) == 1
