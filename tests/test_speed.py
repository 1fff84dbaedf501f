"""What makes it fast changes nothing that counts: precision, fused layers, narrower frames, matching ahead of time."""

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import new_job, run, small_options
from torch import nn

import benchmark
from models.yolo import YOLOv5WithClassification
from utils.boxes import xywh_to_xyxy, xyxy_to_xywh
from utils.config import load_data_config
from utils.dataloaders import JointDataset, Letterbox, load_split, make_loader
from utils.engine import Trainer, evaluate
from utils.general import UserError
from utils.loss import AnchorMatcher, LevelTargets, match_anchors
from utils.timing import EpochTime, Stopwatch, epoch_ratio
from utils.torch_utils import Precision, fused_copy, select_device, tune_for, verified

CPU = torch.device("cpu")
BF16 = Precision(CPU, torch.bfloat16, True, "a test")


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


# ---- precision ---------------------------------------------------------------------------------------------


@pytest.fixture
def images_uint8() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


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


def test_a_training_whose_check_fails_goes_on_in_float32(tiny_data: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("utils.torch_utils.PRECISION_TOLERANCE", 0.0)
    options = small_options(tiny_data, tmp_path) | {"amp": "bf16", "project": str(tmp_path)}
    assert Trainer(new_job(options)).precision.dtype is torch.float32


# ---- fused batch norms -------------------------------------------------------------------------------------


def test_fused_layers_give_the_same_outputs(model, images_uint8):
    fused = fused_copy(model)
    assert not [module for module in fused.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]  # a copy
    with torch.inference_mode():
        images = images_uint8 / 255
        expected, found = model(images), fused(images)
    for a, b in zip([*found["detect"], found["classify"]], [*expected["detect"], expected["classify"]], strict=True):
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


# ---- --rect ------------------------------------------------------------------------------------------------


@pytest.fixture
def split(tiny_data: Path):
    return load_split(load_data_config(tiny_data), "train")


@pytest.mark.parametrize("cache", ["ram", "off"])
def test_rect_cuts_nothing_but_border(split, cache):
    square, rect = JointDataset(split, 128, cache), JointDataset(split, 128, cache, rect=True)
    (height, width), (rows, columns) = rect.shape, rect.margins
    assert (rows, columns) != (0, 0) and height % 32 == width % 32 == 0
    for index, labels in enumerate(split.labels):
        (frame, boxes), (cut, moved) = square.plain(index), rect.plain(index)
        assert cut.shape == (height, width, 3)
        assert (cut == frame[rows : 128 - rows, columns : 128 - columns]).all()
        border = np.delete(frame, np.s_[rows : 128 - rows], axis=0)
        assert (border == 114).all()
        in_square, in_cut = boxes[:, 1:] * 128, moved[:, 1:] * (width, height, width, height)
        np.testing.assert_allclose(in_square - (columns, rows, 0, 0), in_cut, atol=1e-3)
        size = rect.original_sizes[index]
        corners = xywh_to_xyxy(torch.from_numpy(in_cut)).numpy()
        restored = xyxy_to_xywh(torch.from_numpy(rect.letterboxes[index].restore(corners, *size))).numpy()
        np.testing.assert_allclose(restored / np.tile(size[::-1], 2), labels.boxes[:, 1:], atol=1e-5)


@pytest.mark.parametrize(
    ("height", "width", "sides"), [(320, 430, (256, 320)), (556, 800, (224, 320)), (90, 30, (320, 128))]
)
def test_rect_sides_are_the_next_multiples_of_32(monkeypatch, height, width, sides):
    dataset = JointDataset.__new__(JointDataset)
    dataset.image_size, dataset.letterboxes = 320, (Letterbox.fit(height, width, 320),) * 2
    rows, columns = dataset._common_margins()
    assert (320 - 2 * rows, 320 - 2 * columns) == sides


def test_a_rect_training_sees_the_boxes_that_a_square_one_sees(tiny_data: Path, tmp_path: Path):
    options = small_options(tiny_data, tmp_path) | {"epochs": 1, "imgsz": 128}
    folders = [run(options, tmp_path / name, rect=rect) for name, rect in (("square", False), ("rect", True))]
    truths = [[r["truth"] for r in json.loads((f / "val_batch.json").read_text())] for f in folders]
    assert truths[0] == truths[1] and any(truth["boxes_xyxy"] for truth in truths[0])


# ---- matching ahead of time --------------------------------------------------------------------------------


def test_targets_made_by_the_loader_are_the_matches_of_every_level():
    torch.manual_seed(0)
    anchors = torch.rand(3, 3, 2) * 4 + 0.5
    boxes = torch.cat((torch.tensor([[0, 1], [1, 3], [1, 0]]), torch.rand(3, 4) * 0.5 + 0.2), dim=1)
    made = AnchorMatcher(anchors, (8, 16, 32))(boxes, 64, 96)
    levels = made["targets"].split(made["target_counts"])
    assert sum(made["target_counts"]) > 3
    for rows, level_anchors, stride in zip(levels, anchors, (8, 16, 32), strict=True):
        expected, found = (
            match_anchors(boxes, level_anchors, 64 // stride, 96 // stride, 4.0),
            LevelTargets.of_rows(rows),
        )
        assert all(torch.equal(a, b) for a, b in zip(found.index, expected.index, strict=True))
        assert torch.equal(found.class_number, expected.class_number)
        assert torch.equal(found.boxes_xywh, expected.boxes_xywh)
        assert torch.equal(found.anchor_sizes, expected.anchor_sizes)


def test_a_batch_without_boxes_has_no_targets():
    made = AnchorMatcher(torch.ones(3, 3, 2), (8, 16, 32))(torch.zeros(0, 6), 64, 64)
    assert made["targets"].shape == (0, 11) and made["target_counts"] == [0, 0, 0]


# ---- the benchmark -----------------------------------------------------------------------------------------


def test_a_stopwatch_notes_every_call_and_passes_results_on():
    watch = Stopwatch(CPU)
    assert watch.timed("sum", sum)([1, 2]) == 3 and watch.timed("sum", sum)([4]) == 4
    assert len(watch.seconds["sum"]) == 2 and watch.total("sum") == pytest.approx(sum(watch.seconds["sum"]))


def epoch_of(step_ms: list[float], validation_s: float) -> EpochTime:
    training = {"load": 0.0, "forward": 10 * sum(step_ms) / len(step_ms) / 1000}
    return EpochTime(160, 16, training, 0.1, {"NMS": validation_s}, step_ms, 900.0, 100.0, 5.0, 50.0)


def test_the_ratio_of_two_epochs_is_taken_block_by_block():
    slow, fast = epoch_of([200.0] * 20, 1.0), epoch_of([100.0] * 20, 0.5)
    assert epoch_ratio(fast, slow, block=10)["median"] == pytest.approx(0.5)
    assert slow.epoch_s == pytest.approx(3.0) and slow.images_per_s == pytest.approx(80)
    shares = {row["stage"]: row["share"] for row in slow.rows()}
    assert shares["NMS"] == pytest.approx(1 / 3) and shares["of these GradNorm"] == pytest.approx(0.1 / 3)


@pytest.mark.slow
def test_the_benchmark_runs_from_end_to_end(tiny_data: Path, tmp_path: Path, monkeypatch, caplog):
    options = small_options(tiny_data, tmp_path)
    given = [text for key, value in options.items() for text in (f"--{key.replace('_', '-')}", str(value))]
    monkeypatch.setattr(
        "sys.argv", ["benchmark.py", "--steps", "10", "--project", str(tmp_path), "--against", "--amp bf16", *given]
    )
    with caplog.at_level(logging.INFO):
        benchmark.main()
    assert (tmp_path / "exp" / "benchmark.png").stat().st_size > 10_000
    assert "whole epoch" in caplog.text and "COCO evaluation" in caplog.text


def test_validation_of_fused_weights_is_that_of_the_unfused(tiny_data: Path, tmp_path: Path):
    job = new_job(small_options(tiny_data, tmp_path) | {"project": str(tmp_path)})
    loader = make_loader(job.frames.val, 4, 0, False, match=job.criterion.matcher)
    outcomes = [
        evaluate(m, loader, job.run.precision, job.frames.data, job.criterion)
        for m in (job.model, fused_copy(job.model))
    ]
    (plain, losses), (fused, fused_losses) = outcomes
    assert losses == pytest.approx(fused_losses, rel=1e-4)
    for a, b in zip(plain, fused, strict=True):
        np.testing.assert_allclose(a.view_probabilities, b.view_probabilities, atol=1e-5)
