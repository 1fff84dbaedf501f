"""The predictor says what the evaluation says, in pixels of the image."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import load
from torch import nn

from models.common import ViewHead
from utils.core.data_config import load_data_config
from utils.core.device import select_compute
from utils.data.dataset import JointDataset
from utils.data.images import read_image
from utils.data.loader import make_loader
from utils.data.splits import load_split
from utils.evaluation.evaluate import evaluate
from utils.inference.predictor import PARTS, Predictor, threads_for_parts

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


@pytest.fixture(params=[False, True], ids=["alone", "in parts"])
def pool(request: pytest.FixtureRequest) -> Iterator[ThreadPoolExecutor | None]:
    if not request.param:
        yield None
        return
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.mark.parametrize("kind", ["joint", "dual", "detection", "classification"])
def test_many_images_at_once_are_predicted_as_one_by_one(
    checkpoints, tiny_data: Path, kind: str, pool: ThreadPoolExecutor | None
):
    """Whatever their sizes; in float32 boxes are the same to a thousandth of a pixel."""
    predictor = Predictor(load(checkpoints[kind]), FLOAT32, 64, confidence=0.001, pool=pool)
    paths = sorted((tiny_data.parent / "frames/images/val").glob("*.png"))
    images = [read_image(path) for path in paths]
    images += [images[0][:90, :31], images[1][::2], images[2].repeat(3, axis=1)]
    together = predictor.predict(images)
    assert len(together) == len(images) == 11
    for image, found in zip(images, together, strict=True):
        alone = predictor(image)
        assert (found.height, found.width) == image.shape[:2]
        assert found.classes.tolist() == alone.classes.tolist()
        np.testing.assert_allclose(found.boxes_xyxy, alone.boxes_xyxy, rtol=0, atol=1e-3)
        np.testing.assert_allclose(found.scores, alone.scores, rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            found.view_probabilities, alone.view_probabilities, rtol=0, atol=1e-6
        )


def test_every_image_has_its_own_explanation(checkpoints, tiny_data: Path):
    model = load(checkpoints["joint"])
    (head,) = [layer for layer in model.modules() if isinstance(layer, ViewHead)]
    predictor = Predictor(model, FLOAT32, 64, confidence=0.5, explained=head)
    paths = sorted((tiny_data.parent / "frames/images/val").glob("*.png"))[:3]
    images = [read_image(path) for path in paths]
    for image, found in zip(images, predictor.predict(images), strict=True):
        np.testing.assert_allclose(found.attention, predictor(image).attention, atol=1e-4)


def test_images_without_colour_are_left_out_of_a_batch_and_keep_their_place():
    grey = np.full((60, 100, 3), 90, np.uint8)
    red = grey.copy()
    red[10:50, 10:80] = (220, 30, 10)
    model = Oracle([[32, 32, 16, 8, 0.9, 0.1, 1.0]])
    predictor = Predictor(model, FLOAT32, size=64, confidence=0.4, needs_colour=True)
    found = predictor.predict([grey, red, grey])
    assert [prediction.is_scored for prediction in found] == [False, True, False]
    assert [len(prediction.classes) for prediction in found] == [0, 1, 0]
    assert not predictor.predict([]) and not predictor.predict([grey])[0].is_scored


def test_parts_of_a_batch_share_out_the_cores():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 * PARTS)
        with threads_for_parts(torch.device("cpu")) as pool:
            assert list(pool.map(threads_of_a_part, range(PARTS))) == [2] * PARTS
        assert torch.get_num_threads() == 2 * PARTS
        with threads_for_parts(torch.device("cuda")) as pool:
            assert pool is None
        torch.set_num_threads(1)
        with threads_for_parts(torch.device("cpu")) as pool:
            assert pool is None
    finally:
        torch.set_num_threads(threads)


def threads_of_a_part(_: int) -> int:
    return torch.get_num_threads()
