"""hubconf.py: what torch.hub loads says the same as the predictor."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from models.yolo import YOLOv5WithClassification
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.checkpoints.model_file import model_from_checkpoint, open_model
from utils.core.device import select_compute
from utils.core.files import ROOT
from utils.core.names import TASKS
from utils.core.script import UserError
from utils.data.images import read_image
from utils.inference.hub import HubModel
from utils.inference.predictor import Predictor

MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
}  # what packages are imported as
CPU = torch.device("cpu")


def load(weights: Path, **options: object) -> HubModel:
    """As a user does."""
    return torch.hub.load(
        str(ROOT), "joint", weights=weights, source="local", device="cpu", **options
    )


def small_checkpoint(path: Path, like: Path, tasks: tuple[str, ...] = TASKS) -> Path:
    """An untrained network of an eighth of the width."""
    torch.manual_seed(0)
    cfg = yaml.safe_load((ROOT / "models/yolov5s_joint.yaml").read_text()) | {
        "width_multiple": 0.125
    }
    model = YOLOv5WithClassification(cfg, nc=4, views=3, tasks=tasks)
    own = {"kind": model.kind, "arguments": model.arguments(), "model": model.state_dict()}
    save_checkpoint(path, load_checkpoint(like) | own)
    return path


@pytest.fixture(scope="module")
def weights(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("hub") / "best.pt", trained)


@pytest.fixture(scope="module")
def frame(tiny_data: Path) -> Path:
    return min((tiny_data.parent / "frames/images/val").iterdir())


def test_it_says_what_the_predictor_says(weights: Path, frame: Path):
    compute = select_compute("auto", CPU)
    ours = Predictor.of(
        *open_model(weights, model_from_checkpoint, compute), compute, 96, 0.001, 0.5, 7
    )
    said = ours(read_image(frame))
    boxes, view = load(weights, imgsz=96, conf_thres=0.001, iou_thres=0.5, max_det=7).predict(frame)
    assert boxes.shape == (7, 6)
    np.testing.assert_array_equal(boxes[:, :4], said.boxes_xyxy)
    np.testing.assert_array_equal(boxes[:, 4], said.scores)
    np.testing.assert_array_equal(boxes[:, 5], said.classes)
    assert (
        view.name == ["A4C", "PSAX", "PLAX"][said.view]
        and view.probability == said.view_probabilities.max()
    )


def test_size_and_confidence_are_the_checkpoints(weights: Path):
    predictor = load(weights).predictor
    assert (predictor.size, predictor.confidence, predictor.iou, predictor.max_detections) == (
        64,
        0.25,
        0.45,
        300,
    )


def test_paths_and_arrays_are_the_same(weights: Path, frame: Path):
    model = load(weights, conf_thres=0.001)
    answers = [
        model.predict(image) for image in (frame, str(frame), cv2.imread(str(frame))[..., ::-1])
    ]
    assert len(answers[0].boxes)
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.boxes, answers[0].boxes)
        assert answer.view == answers[0].view


def test_a_model_of_one_task(trained: Path, frame: Path, tmp_path: Path):
    detector = load(
        small_checkpoint(tmp_path / "d.pt", trained, ("detection",)), conf_thres=0.9
    ).predict(frame)
    assert detector.view is None and detector.boxes.shape == (0, 6)
    classifier = load(small_checkpoint(tmp_path / "c.pt", trained, ("classification",))).predict(
        frame
    )
    assert classifier.boxes is None and 1 / 3 <= classifier.view.probability <= 1


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=["grey", "floats", "channels first", "empty"],
)
def test_wrong_arrays(weights: Path, image: np.ndarray):
    with pytest.raises(
        UserError, match=r"^image of shape .*; expected \(height, width, 3\), uint8, RGB$"
    ):
        load(weights).predict(image)


def test_wrong_options_and_files(weights: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no such checkpoint"):
        load(tmp_path / "missing.pt")
    with pytest.raises(UserError, match="cannot be read as an image"):
        load(weights).predict(weights)


def test_every_package_it_imports_is_named():
    """torch.hub asks for `dependencies` before it imports anything else."""
    script = (
        "import sys; before = set(sys.modules); import hubconf; print(*hubconf.dependencies); "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    named, imported = (set(line.split()) for line in done.stdout.splitlines())
    wanted = {MODULES.get(name, name) for name in requirements()}
    assert imported & wanted <= named <= wanted


def requirements() -> set[str]:
    """The packages in requirements.txt."""
    return {line.partition(">=")[0] for line in (ROOT / "requirements.txt").read_text().split()}
