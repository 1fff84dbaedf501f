"""Validation, val.py and detect.py on the GPU find what they find on the CPU, in float32."""

from collections.abc import Callable
from pathlib import Path

import gpu
import numpy as np
import pytest
import torch
from script_calls import exit_code_of
from small_models import stirred
from small_runs import new_job, small_options, small_yaml

import detect
import val
from models.yolo import YOLOv5WithClassification
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.core.device import select_compute
from utils.evaluation.predictions import FILE_NAME, read_predictions
from utils.inference.predictor import Prediction, Predictor
from utils.training.trainer import Trainer
from utils.training.validation import validate

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("no_tf32")]

IMAGE_SIZE = 160
# Rounding may put a box on the other side of a threshold, and choose another of two that overlap:
# noise of 1e-5 on the images' values leaves 1.3 % of the boxes without a partner.
MOST_ALONE = 0.03
MOST_PX = 0.1
MOST_SCORE = 1e-3
AT_BEST_CONFIDENCE = ("metrics/precision", "metrics/recall")  # which may jump to another box's
DEVICES = ("cpu", gpu.DEVICE)


@pytest.fixture(scope="module")
def weights(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network whose boxes depend on the image."""
    torch.manual_seed(0)
    model = stirred(YOLOv5WithClassification(small_yaml("yolov5s_joint"), nc=4, views=3))
    content = load_checkpoint(trained)
    content["options"]["imgsz"] = IMAGE_SIZE
    content |= {"arguments": model.arguments(), "model": model.state_dict()}
    path = tmp_path_factory.mktemp("weights") / "stirred.pt"
    save_checkpoint(path, content)
    return path


@pytest.fixture
def call(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Calls a script with the weights, on a device; returns its folder."""
    monkeypatch.setattr("utils.commands.val.draw_evaluation", lambda folder: [])

    def run(script: object, device: str, *arguments: object) -> Path:
        folder = tmp_path / device.replace(":", "")
        place = ["--project", tmp_path, "--name", folder.name]
        given = ["--weights", weights, "--device", device, *place, *arguments]
        assert exit_code_of(script, *given, monkeypatch=monkeypatch) == 0
        return folder

    return run


def assert_same_predictions(found: list, expected: list) -> None:
    limits = {"most_px": MOST_PX, "most_score": MOST_SCORE}
    alone = gpu.share_without_partner(found, expected, **limits)
    missed = gpu.share_without_partner(expected, found, **limits)
    boxes = sum(len(frame.scores) for frame in expected)
    views = gpu.largest_view_difference(found, expected)
    text = (
        f"{len(expected)} frames, {boxes} boxes on the CPU; no partner within {MOST_PX} px and "
        f"{MOST_SCORE} of the score: {alone:.2%} of the GPU's, {missed:.2%} of the CPU's; "
        f"views differ by {views:.1e}"
    )
    print(text)
    assert max(alone, missed) <= MOST_ALONE, text
    assert views <= 1e-4, text


def test_val_predicts_what_it_does_on_the_cpu(call: Callable[..., Path]):
    frames = []
    for device in DEVICES:
        predictions = read_predictions(call(val, device, "--amp", "off") / FILE_NAME)
        assert "float32" in predictions.header.precision
        frames.append(list(predictions.frames()))
    assert_same_predictions(frames[1], frames[0])


def test_detect_predicts_what_it_does_on_the_cpu(
    call: Callable[..., Path], tiny_data: Path, monkeypatch: pytest.MonkeyPatch
):
    said: dict[str, list[Prediction]] = {device: [] for device in ("cpu", gpu.DEVICE)}
    original = Predictor.predict

    def predict(self: Predictor, images: list[np.ndarray]) -> list[Prediction]:
        found = original(self, images)
        said[device].extend(found)
        return found

    monkeypatch.setattr(Predictor, "predict", predict)
    monkeypatch.setattr(
        "utils.commands.detect.select_compute", lambda mode, device: select_compute("off", device)
    )
    source = tiny_data.parent / "frames/images/val"
    for device in DEVICES:
        call(detect, device, "--source", source, "--conf-thres", 0.05, "--nosave", "--save-csv")
    assert_same_predictions(said[gpu.DEVICE], said["cpu"])


def test_a_validation_has_the_losses_and_figures_of_the_cpu(
    tiny_data: Path, weights: Path, tmp_path: Path
):
    options = small_options(tiny_data, tmp_path) | {"imgsz": IMAGE_SIZE, "weights": str(weights)}
    rows = []
    for device in DEVICES:
        place = {"device": device, "project": str(tmp_path), "name": device.replace(":", "")}
        job = new_job(options | place)
        with job.run:
            rows.append(validate(Trainer(job), epoch=0))
    cpu, own = rows
    text = "\n".join(f"{name}: {own[name]}, on the CPU {cpu[name]}" for name in cpu)
    print(text)
    for name, value in cpu.items():
        if value is None:
            assert own[name] is None, text
        elif name.startswith("val/"):
            assert own[name] == pytest.approx(value, rel=1e-3), text
        elif name not in AT_BEST_CONFIDENCE:
            assert own[name] == pytest.approx(value, abs=0.02, nan_ok=True), text
