"""Device and number format.

What is chosen, what stands its check, and that fused layers give the same.
"""

import logging
import math

import pytest
import torch
from torch import nn

from models.yolo import YOLOv5WithClassification
from utils.core.device import (
    AMP_MODES,
    Compute,
    fused_copy,
    select_compute,
    select_device,
    tune_for,
    verified,
)
from utils.core.options import training_parser
from utils.core.script import UserError

CPU = torch.device("cpu")
BF16 = Compute(CPU, torch.bfloat16, True, "a test")


@pytest.fixture(scope="module")
def model() -> YOLOv5WithClassification:
    """With the statistics of a trained one: batch norms that do something."""
    torch.manual_seed(0)
    model = YOLOv5WithClassification("models/yolov5n_joint.yaml", nc=4, views=3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def test_help_names_every_mode():
    (amp,) = [action for action in training_parser("")._actions if action.dest == "amp"]
    assert all(mode in amp.help for mode in AMP_MODES)


# ---- device and number format --------------------------------------------------------------------


@pytest.fixture
def images_uint8() -> torch.Tensor:
    return torch.randint(
        0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def test_bf16_stands_its_check(model, images_uint8, caplog):
    assert verified(BF16, model, images_uint8) is BF16
    assert not caplog.records


@pytest.mark.parametrize("harm", [math.nan, math.inf, 1.3])
def test_outputs_unlike_float32s_are_trained_in_float32(model, images_uint8, caplog, harm):
    class Harmed(nn.Module):
        def forward(self, images):
            outputs = model(images)
            in_half = outputs["classify"].dtype is torch.bfloat16
            return outputs | {"classify": outputs["classify"] * (harm if in_half else 1.0)}

    with caplog.at_level(logging.WARNING):
        fallen = verified(BF16, Harmed(), images_uint8)
    assert (fallen.dtype, fallen.channels_last, fallen.device) == (torch.float32, True, CPU)
    assert "bfloat16" in caplog.text and "float32" in str(fallen)


def test_the_number_format_is_chosen_and_refused(monkeypatch):
    cpu = torch.device("cpu")
    assert select_compute("off", cpu).dtype is torch.float32
    assert not select_compute("off", cpu).channels_last
    for has_bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(
            "utils.core.device.cpu_has_fast_bf16", lambda has_bf16=has_bf16: has_bf16
        )
        assert select_compute("auto", cpu).dtype is dtype
    with pytest.raises(UserError, match="CUDA"):
        select_compute("fp16", cpu)
    with pytest.raises(UserError, match="--amp is 'fast'"):
        select_compute("fast", cpu)


# ---- fused batch norms ---------------------------------------------------------------------------


def test_fused_layers_give_the_same_outputs(model, images_uint8):
    fused = fused_copy(model)
    assert not [module for module in fused.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]  # a copy
    with torch.inference_mode():
        images = images_uint8 / 255
        expected, found = model(images), fused(images)
    for a, b in zip(
        [*found["detect"], found["classify"]],
        [*expected["detect"], expected["classify"]],
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_allocators_setting_can_be_asked_for_anywhere():
    tune_for(CPU)
    assert torch.zeros(1000, 1000).sum() == 0


def test_one_processs_gpu_number_means_nothing_to_several(monkeypatch):
    for name, value in {
        "RANK": 0,
        "WORLD_SIZE": 2,
        "LOCAL_RANK": 0,
        "LOCAL_WORLD_SIZE": 2,
        "MASTER_ADDR": "::",
    }.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UserError, match="2 processes cannot share"):
        select_device("0")
    assert select_device("cpu") == CPU
