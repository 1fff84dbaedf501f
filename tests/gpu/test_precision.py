"""Losses and gradient norms of one batch: on the GPU those of the CPU, in half precision float32's."""

from pathlib import Path

import gpu
import pytest
from small_runs import new_job, small_options
from torch import nn

from models.gradnorm import Update
from utils.losses.joint import LossMeter
from utils.training.trainer import Trainer

pytestmark = pytest.mark.gpu

NETWORK = {"width_multiple": 0.25, "depth_multiple": 0.33}  # YOLOv5n's
# Largest relative difference of losses and norms, and difference of the cosine
NEAR = {
    "float32": (1e-3, 1e-2),
    "bf16": (0.1, 0.05),
    "fp16": (0.02, 0.05),
}
OVERFLOWS = 20  # by which the loss scale halves; it begins at 65,536


@pytest.fixture(scope="module")
def options(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("cfg")
    changes = {"imgsz": 128, "batch_size": 12, "workers": 0, "gradnorm_interval": 1}
    return small_options(tiny_data, folder, size=NETWORK) | changes


def first_update(options: dict, folder: Path, **changes: object) -> Update:
    """What GradNorm measures in the first batch, whose loss scale does not overflow."""
    where = {"project": str(folder), "name": "run"}
    job = new_job(options | changes | where)
    with job.run:
        trainer = Trainer(job)
        trainer.open_folder()
        trainer.sampler.set_epoch(0)
        batch = next(iter(trainer.train_loader))
        for layer in trainer.model.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        trainer.model.train()
        for _ in range(OVERFLOWS):
            trainer.step(0, 0, batch, LossMeter(1))
            update = job.balancer.last_update
            if update:
                wanted = changes.get("amp", "off")
                assert str(trainer.compute).endswith(f"(--amp {wanted})"), trainer.compute
                return update
    pytest.fail(f"no update in {OVERFLOWS} batches; left out: {job.balancer.skipped}")


def assert_near(found: Update, expected: Update, kind: str) -> None:
    most, most_cosine = NEAR[kind]
    rows = [f"{kind}, at most {most:g} and {most_cosine:g} of the cosine:"]
    differences = []
    for name in ("losses", "norms"):
        for task, value in getattr(expected, name).items():
            own = getattr(found, name)[task]
            difference = abs(own / value - 1)
            differences.append(difference)
            rows.append(f"{name} {task}: {own:.6g}, expected {value:.6g}, off by {difference:.2e}")
    cosine = abs(found.cosine - expected.cosine)
    rows.append(f"cosine: {found.cosine:.5f}, expected {expected.cosine:.5f}, {cosine:.2e}")
    text = "\n".join(rows)
    print(text)
    assert max(differences) <= most and cosine <= most_cosine, text


@pytest.mark.parametrize("at", ["features", "weights"])
def test_float32_is_that_of_the_cpu(options: dict, tmp_path: Path, at: str, no_tf32: None):
    changes = {"gradnorm_place": at}
    expected = first_update(options, tmp_path / "cpu", **changes)
    found = first_update(options, tmp_path / "gpu", device=gpu.DEVICE, **changes)
    assert_near(found, expected, "float32")


@pytest.mark.parametrize("at", ["features", "weights"])
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_measures_what_float32_does(
    options: dict, tmp_path: Path, amp: str, at: str, no_tf32: None
):
    if amp == "fp16" and gpu.DEVICE == "cpu":
        pytest.skip("fp16 needs CUDA")
    changes = {"gradnorm_place": at, "device": gpu.DEVICE}
    expected = first_update(options, tmp_path / "float32", **changes)
    found = first_update(options, tmp_path / amp, amp=amp, **changes)
    assert_near(found, expected, amp)
