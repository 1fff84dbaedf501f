"""The predictor says what the evaluation says, in pixels of the image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import load
from torch import nn

from utils.core.data_config import load_data_config
from utils.core.device import select_compute
from utils.data.dataset import JointDataset
from utils.data.images import read_image
from utils.data.loader import make_loader
from utils.data.splits import load_split
from utils.evaluation.evaluate import evaluate
from utils.inference.predictor import Predictor

FLOAT32 = select_compute("off", torch.device("cpu"))


class Oracle(nn.Module):
    """A detector that always says the same.

    Rows of xywh in pixels of the square, objectness and class scores.
    """

    def __init__(self, rows: list):
        super().__init__()
        self.rows = torch.tensor([rows])

    def forward(self, images: torch.Tensor) -> dict:
        return {"detect": images}

    def decode(self, raw: torch.Tensor) -> torch.Tensor:
        return self.rows


def test_boxes_are_in_pixels_of_the_image_and_those_in_the_border_are_dropped():
    rows = [
        [32, 32, 16, 8, 0.9, 0.1, 1.0],
        [32, 8, 16, 10, 1.0, 1.0, 0.0],
        [60, 18, 16, 16, 0.5, 1.0, 0.0],
    ]
    model = Oracle([*rows, [8, 32, 4, 4, 0.3, 1.0, 0.0]])
    found = Predictor(model, FLOAT32, size=64, confidence=0.4)(np.zeros((100, 200, 3), np.uint8))
    # 200 x 100 is scaled by 0.32 and lies in rows 16 to 48 of the square
    np.testing.assert_allclose(
        found.boxes_xyxy, [[75, 37.5, 125, 62.5], [162.5, 0, 200, 31.25]], atol=1e-6
    )
    np.testing.assert_allclose(found.scores, [0.9, 0.5], atol=1e-6)
    assert found.classes.tolist() == [1, 0] and (found.height, found.width) == (100, 200)
    assert found.view == -1 and found.labels().view == -1


def test_it_says_what_the_evaluation_says(checkpoints, tiny_data: Path):
    model, data = load(checkpoints["joint"]), load_data_config(tiny_data)
    loader = make_loader(JointDataset(load_split(data, "val"), 64, "off"), 4, 0, False)
    expected, _ = evaluate(model, loader, FLOAT32, data)
    predictor = Predictor(model, FLOAT32, 64, confidence=0.001)
    for result in expected:
        found = predictor(read_image(Path(result.image)))
        np.testing.assert_allclose(found.view_probabilities, result.view_probabilities, atol=1e-5)
        np.testing.assert_allclose(found.boxes_xyxy[0], result.boxes_xyxy[0], atol=0.01)
        assert found.classes[0] == result.classes[0]
        assert found.scores[0] == pytest.approx(result.scores[0], abs=1e-5)
