"""Networks of so few layers that the tests of what is made of them take seconds."""

from pathlib import Path

import torch
from torch import nn

from models.dual_backbone import DualBackbone
from models.yolo import YOLOv5WithClassification
from utils.checkpoints.checkpoint import load_checkpoint
from utils.checkpoints.model_file import model_from_checkpoint
from utils.inference import export

ANCHORS = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]]


def mini_models() -> dict[str, nn.Module]:
    """All kinds of models, of so few layers that an export takes a second or two."""
    torch.manual_seed(0)
    backbone = [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [8, 3, 4]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "C3", [16]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "SPPF", [16, 5]],
    ]
    # Layers 6 and 7, of stride 16.
    neck = [[-1, 1, "nn.Upsample", [None, 2, "nearest"]], [[-1, 3], 1, "Concat", [1]]]
    detect_row = [[1, 7, 5], 1, "Detect", ["nc", "anchors"]]
    view_row = [7, 1, "ViewHead", ["views", 0.5]]
    joint = {
        "nc": 4,
        "anchors": ANCHORS,
        "backbone": backbone,
        "head": [*neck, detect_row, view_row],
    }
    detector = joint | {"head": [*neck, detect_row]}
    classifier = {
        "backbone": [*backbone, [-1, 1, "CBAM", []]],
        "head": [[-1, 1, "ViewHead", ["views", 0.5]]],
    }
    return {
        "joint": YOLOv5WithClassification(joint, nc=4, views=3),
        "detection": YOLOv5WithClassification(joint, nc=4, views=3, tasks=["detection"]),
        "classification": YOLOv5WithClassification(joint, nc=4, views=3, tasks=["classification"]),
        "dual": DualBackbone(detector, classifier, nc=4, views=3),
        "branched": YOLOv5WithClassification(joint | {"view_branches_after": 2}, nc=4, views=3),
    }


def noise(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def stirred(model: nn.Module, images: torch.Tensor | None = None) -> nn.Module:
    """The model as if trained: batch norms are not the identity, outputs depend on the image.

    By a few logits: with norms that do not fit the features of `images` (or noise) they are
    hundreds, and not within 1e-4 of themselves in float64.
    """
    if images is None:
        images = noise((4, 3, 160, 160))
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches, of which there is one
        nn.init.uniform_(norm.weight, 0.5, 1.0)
        nn.init.normal_(norm.bias, 0, 0.2)
    with torch.no_grad():
        model.train()(images)
        levels = model.detect.m if model.detect else ()
        for level in levels:
            level.weight.mul_(2)
            level.bias.view(3, -1)[:, 4:] += 4
    return model.eval()


def load(path: Path) -> nn.Module:
    content = load_checkpoint(path)
    return model_from_checkpoint(content, content["model"], path).eval()


def assert_equal_outputs(
    found: dict[str, torch.Tensor], model: nn.Module, images: torch.Tensor
) -> None:
    """Raw outputs within 1e-4; boxes, in pixels, within 1e-4 of their size and 0.02."""
    with torch.no_grad():
        expected = export.answers(model, images)
    assert list(found) == list(expected)
    if "boxes" in found:
        boxes = found["boxes"]
        true_boxes = expected["boxes"]
        assert boxes.dtype == torch.float32 and boxes.shape == true_boxes.shape
        torch.testing.assert_close(boxes[..., :4], true_boxes[..., :4], rtol=1e-4, atol=0.02)
        torch.testing.assert_close(boxes[..., 4:], true_boxes[..., 4:], rtol=0, atol=1e-4)
        assert true_boxes[..., 4:].std() > 0.05  # not one answer for all
    if "views" in found:
        assert found["views"].dtype == torch.float32
        torch.testing.assert_close(found["views"], expected["views"], rtol=0, atol=1e-4)
        torch.testing.assert_close(found["views"].sum(dim=1), torch.ones(len(images)))
