"""What a training consists of before its first batch."""

from pathlib import Path

import torch
from small_runs import new_job, small_options

import train_joint_dual_backbone
from utils.training.setup import Setup


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
