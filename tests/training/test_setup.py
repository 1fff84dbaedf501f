"""What a training consists of before its first batch."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from small_runs import new_job, run, small_options, small_yaml

import train_joint_dual_backbone
import train_joint_gradnorm
from models.yolo import YOLOv5WithClassification
from utils.core.script import UserError
from utils.training.setup import Setup, least_batch


def test_a_training_whose_check_fails_goes_on_in_float32(
    tiny_data: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("utils.core.device.HALF_TOLERANCE", 0.0)
    options = small_options(tiny_data, tmp_path) | {"amp": "bf16", "project": str(tmp_path)}
    assert Setup(new_job(options)).compute.dtype is torch.float32


def test_the_moving_average_starts_as_the_model_and_is_not_trained(tiny_data: Path, tmp_path: Path):
    options = small_options(tiny_data, tmp_path) | {"project": str(tmp_path)}
    setup = Setup(new_job(options))
    averaged = setup.ema_model.state_dict()
    for name, tensor in setup.model.state_dict().items():
        assert torch.equal(tensor, averaged[name])
        assert tensor.data_ptr() != averaged[name].data_ptr()
    assert not any(parameter.requires_grad for parameter in setup.ema_model.parameters())


def test_tasks_are_those_of_all_parts_in_their_usual_order(tiny_data: Path, tmp_path: Path):
    place = {"project": str(tmp_path)}
    one = small_options(tiny_data, tmp_path) | place | {"tasks": ["classification"]}
    assert Setup(new_job(one)).tasks == ["classification"]
    script = train_joint_dual_backbone
    setup = Setup(new_job(small_options(tiny_data, tmp_path, script) | place, script))
    assert setup.tasks == [learner.part.name for learner in setup.learners]
    assert setup.tasks == ["detection", "classification"]


# ---- the last batch ------------------------------------------------------------------------------

SCRIPTS = [train_joint_gradnorm, train_joint_dual_backbone]


@pytest.mark.parametrize(
    ("shape", "least"), [((32, 32), 2), ((32, 64), 1), ((64, 64), 1), ((320, 320), 1)]
)
def test_one_frame_is_enough_where_every_map_has_two_cells(shape: tuple[int, int], least: int):
    model = YOLOv5WithClassification(small_yaml("yolov5s_joint"), nc=4, views=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert least_batch(model, shape) == least and model.training
    assert all(before[name].equal(tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("batch_size", "side", "batches"), [(11, 32, 1), (11, 64, 2), (10, 32, 2), (1, 64, 12)]
)
def test_a_run_ends_whatever_its_last_batch_is(
    tiny_data: Path, tmp_path: Path, caplog, script, batch_size: int, side: int, batches: int
):
    """Of 12 frames."""
    changes = {"epochs": 1, "imgsz": side, "batch_size": batch_size}
    options = small_options(tiny_data, tmp_path, script) | changes
    seen = []
    folder = run(options, tmp_path / "run", script, lambda *step: seen.append(step[2]))
    assert seen == list(range(batches)) and len(pd.read_csv(folder / "results.csv")) == 1
    is_left_out = batches * batch_size < 12
    assert ("last batch, of 1, is left out" in caplog.text) == is_left_out


@pytest.mark.parametrize("script", SCRIPTS)
def test_batches_that_batch_norm_refuses_are_refused_before_the_first(
    tiny_data: Path, tmp_path: Path, script
):
    changes = {"imgsz": 32, "batch_size": 1, "project": str(tmp_path / "runs")}
    job = new_job(small_options(tiny_data, tmp_path, script) | changes, script)
    with job.run, pytest.raises(UserError, match=r"--batch-size 1: .*--batch-size 2 .*--imgsz"):
        Setup(job)
    assert not (tmp_path / "runs").exists()
