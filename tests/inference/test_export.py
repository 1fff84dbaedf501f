"""Exported models answer as PyTorch does, with suppression in the graph too."""

import gc
from pathlib import Path

import pytest
import torch
from small_models import assert_equal_outputs, mini_models, noise, stirred
from torch import nn

from utils.checkpoints.onnx_model import OnnxModel
from utils.core.script import UserError
from utils.data.boxes import non_max_suppression
from utils.inference import export

pytest.importorskip("onnxscript", reason="needs pip install '.[export]'")
pytest.importorskip("onnxruntime", reason="needs pip install '.[export]'")

onnx = pytest.importorskip("onnx", reason="needs pip install '.[export]'")
SHAPES = [
    (1, 3, 96, 64),
    (3, 3, 64, 160),
]  # neither the batch nor the sides of the example that is traced


# ---- the same answers as PyTorch -----------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "classification",
        "dual",
        pytest.param("detection", marks=pytest.mark.slow),
        pytest.param("branched", marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_model(name: str):
    model = stirred(mini_models()[name])
    proto = export.onnx_model(export.exported_program(export.Deployed(model)), model.tasks)
    exported, images = OnnxModel(proto.SerializeToString(), name), noise(SHAPES[0])
    assert exported.tasks == model.tasks
    assert_equal_outputs(exported.run(images), model, images)


def test_deploying_leaves_the_model_as_it_is():
    model = stirred(mini_models()["joint"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    deployed = export.Deployed(model, half=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not [layer for layer in deployed.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_deviations_are_seen():
    model = stirred(mini_models()["joint"])
    other = lambda images: [answer + 0.5 for answer in export.answers(model, images).values()]  # noqa: E731
    assert export.deviations(model, other, 64) == pytest.approx(
        {"boxes in pixels": 0.5, "scores": 0.5, "views": 0.5}, 1e-4
    )


# ---- suppression in the graph --------------------------------------------------------------------


def suppress(boxes: torch.Tensor, suppression: export.Suppression) -> torch.Tensor:
    """`boxes` (B, N, 5 + nc) -> detections, by a graph that holds nothing else."""
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["images"], ["boxes"])],
        "boxes",
        [onnx.helper.make_tensor_value_info("images", kind, ["batch", "candidates", "columns"])],
        [onnx.helper.make_tensor_value_info("boxes", kind, ["batch", "candidates", "columns"])],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10
    )
    return OnnxModel(export.with_suppression(model, suppression).SerializeToString(), "test").run(
        boxes
    )["detections"]


def assert_same_detections(
    detections: torch.Tensor, boxes: torch.Tensor, confidence: float, iou: float
) -> list[int]:
    """`detections` are our own suppression's, then zeros; returns how many there are an image."""
    assert detections.shape == (len(boxes), 300, 6)
    expected = non_max_suppression(boxes, confidence, iou)
    for rows, ours in zip(detections, expected, strict=True):
        torch.testing.assert_close(rows[: len(ours)], ours, rtol=1e-5, atol=1e-3)
        assert not rows[len(ours) :].any()
    return [len(ours) for ours in expected]


@pytest.mark.parametrize(("classes", "candidates"), [(4, 800), (1, 100), (2, 0)])
@pytest.mark.parametrize(("confidence", "iou"), [(0.25, 0.45), (0.001, 0.6)])
def test_suppression_is_our_own(classes: int, candidates: int, confidence: float, iou: float):
    random = torch.Generator().manual_seed(3)
    boxes = torch.rand(3, candidates, 5 + classes, generator=random)
    boxes[..., :2] *= 160
    boxes[..., 2:4] = boxes[..., 2:4] * 40 + 8
    boxes[1, :, 4] = 0.0001  # nothing in the second image
    found = assert_same_detections(
        suppress(boxes, export.Suppression(confidence, iou)), boxes, confidence, iou
    )
    assert found[1] == 0 and (found[0] > 20 or not candidates)


def test_at_most_300_detections():
    boxes = torch.rand(1, 1000, 6, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5
    boxes[..., 0] += torch.arange(1000) * 10  # apart from each other
    assert assert_same_detections(
        suppress(boxes, export.Suppression(0.1, 0.45)), boxes, 0.1, 0.45
    ) == [300]


def test_half_refuses_what_float16_cannot_hold():
    model = stirred(mini_models()["joint"])
    model.detect.m[0].weight.data[0, 0] = 1e5
    with pytest.raises(UserError, match=r"^--half: model\.8\.m\.0\.weight has values beyond"):
        export.Deployed(model, half=True)


# ---- what is refused -----------------------------------------------------------------------------


def test_an_opset_that_the_exporter_does_not_write():
    program = export.exported_program(export.Deployed(mini_models()["classification"]))
    with pytest.raises(UserError, match=r"^--opset 99: the exporter here makes"):
        export.onnx_model(program, ["classification"], 99)


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_an_export_as_any_error():
    """PyTorch, writing by itself, would abort the process."""
    program = torch.export.export(nn.Identity(), (torch.zeros(2),))
    with pytest.raises(OSError, match="No space left"):
        export._save_program(program, Path("/dev/full"), {})
    gc.collect()
