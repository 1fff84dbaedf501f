"""Grad-CAM against what can be written down, and where its maps lie."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import load
from torch import nn

from models.common import ViewHead
from utils.core.device import select_compute
from utils.data.images import Letterbox, read_image
from utils.inference.grad_cam import grad_cam, to_image
from utils.inference.predictor import Predictor

FLOAT32 = select_compute("off", torch.device("cpu"))


class MeanHead(nn.Module):
    """Logits are linear in the features: what Grad-CAM gives can be written down."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3)) @ self.weight.T


def test_grad_cam_of_a_linear_head():
    torch.manual_seed(0)
    weight, features = torch.randn(3, 5), torch.randn(2, 5, 4, 6)
    head = MeanHead(weight)
    maps = grad_cam(head, features, torch.tensor([2, 0]))
    expected = (
        torch.stack(
            [
                torch.einsum("c,chw->hw", weight[view], x)
                for view, x in zip((2, 0), features, strict=True)
            ]
        )
        / 24
    )
    torch.testing.assert_close(maps, expected.clamp(min=0))
    assert (maps > 0).any() and (maps == 0).any()
    assert head.weight.grad is None and not maps.requires_grad


def test_grad_cam_of_the_view_head():
    """The mean's weights are shared out over the map, the maximum's fall on one cell.

    Their mean is the same.
    """
    torch.manual_seed(0)
    head, features = ViewHead(3, [5]).eval(), torch.randn(1, 5, 4, 6)
    of_mean, of_maximum = head.linear.weight[1].detach().split(5)
    expected = torch.einsum("c,chw->hw", of_mean + of_maximum, features[0]).clamp(min=0) / 24
    torch.testing.assert_close(grad_cam(head, features, torch.tensor([1]))[0], expected)


@pytest.mark.parametrize("kind", ["joint", "classification", "dual"])
def test_the_view_heads_input_is_explained(checkpoints, tiny_data: Path, kind: str):
    model = load(checkpoints[kind])
    (head,) = (layer for layer in model.modules() if isinstance(layer, ViewHead))
    image = read_image(min((tiny_data.parent / "frames/images/val").iterdir()))
    found = Predictor(model, FLOAT32, 64, 0.5, explained=head)(image)
    letterbox = Letterbox.fit(*image.shape[:2], 64)
    square = FLOAT32.images(torch.from_numpy(letterbox.apply(image)).permute(2, 0, 1)[None])
    if kind == "dual":
        read = model.classifier.model[:-1](square)
    else:
        (source,) = model.sources[model.view_index]
        read = (
            model.trunk(square)[source]
            if kind == "joint"
            else model.run(range(source + 1), {-1: square})[source]
        )
    cells = grad_cam(head, read, torch.tensor([found.view]))[0].numpy()
    np.testing.assert_allclose(
        found.attention, to_image(cells, letterbox, image.shape[:2]), atol=1e-5
    )
    assert found.attention.shape == image.shape[:2] and found.attention.max() > 0
    assert not head._forward_pre_hooks
    assert Predictor(model, FLOAT32, 64, 0.5)(image).attention is None


@pytest.mark.parametrize(("height", "width"), [(120, 240), (240, 120), (77, 77)])
def test_a_map_lies_where_its_cells_are(height: int, width: int):
    letterbox, cells = Letterbox.fit(height, width, 64), np.zeros((16, 16), np.float32)
    cells[8, 9] = 3
    centre = np.array([9.5, 8.5, 9.5, 8.5]) * 4  # of the cell, in pixels of the square
    x, y, *_ = letterbox.to_original(centre[None], height, width)[0]
    found = to_image(cells, letterbox, (height, width))
    assert found.shape == (height, width) and found.min() == 0 and 0.7 < found.max() <= 1
    weights = found / found.sum()
    np.testing.assert_allclose(
        ((np.arange(width) + 0.5) @ weights.sum(0), (np.arange(height) + 0.5) @ weights.sum(1)),
        (x, y),
        atol=0.5,
    )
    assert not to_image(np.zeros((16, 16), np.float32), letterbox, (height, width)).any()


def test_attention_to_the_letterboxs_border_makes_the_rest_pale():
    cells = np.zeros((16, 16), np.float32)
    cells[0], cells[8] = 4, 1
    found = to_image(cells, Letterbox.fit(32, 64, 64), (32, 64))
    assert 0.2 < found.max() <= 0.25
