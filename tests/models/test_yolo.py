"""The architecture is YOLOv5s, to the last digit; the trunk and the cut follow from the graph."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import torch

from models.graph import load_model_yaml, sized
from models.yolo import DetectionModel, YOLOv5WithClassification
from utils.checkpoints.model_file import model_from_checkpoint
from utils.training.run import freeze_layers

PLAIN, JOINT = "models/yolov5s.yaml", "models/yolov5s_joint.yaml"
YOLOV5S_PARAMETERS_NC4 = 7_030_417


@pytest.fixture(scope="module")
def joint() -> YOLOv5WithClassification:
    torch.manual_seed(0)
    return YOLOv5WithClassification(JOINT, nc=4, views=3)


def joint_with_view_head_on(layer: int) -> YOLOv5WithClassification:
    cfg = load_model_yaml(JOINT)
    cfg["head"] = [*cfg["head"][:-1], [layer, *cfg["head"][-1][1:]]]
    return YOLOv5WithClassification(cfg, nc=4, views=3)


def test_parameter_counts():
    assert (
        sum(p.numel() for p in DetectionModel(PLAIN, nc=4).parameters()) == YOLOV5S_PARAMETERS_NC4
    )
    # The published figure for the 80 classes of COCO.
    assert sum(p.numel() for p in DetectionModel(PLAIN).parameters()) == 7_235_389


def parameters_of(model: torch.nn.Module) -> int:
    """As published: with batch norms merged into the convolutions, a bias in place of a weight and
    a bias.
    """
    norms = (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    return sum(p.numel() for p in model.parameters()) - sum(m.num_features for m in norms)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("n", 1_867_405), ("s", 7_225_885), ("m", 21_172_173), ("l", 46_533_693), ("x", 86_705_005)],
)
def test_every_size_has_the_published_number_of_parameters(size, parameters):
    """As a file and as an option; the joint file's detection part too."""
    with torch.device("meta"):
        alone = YOLOv5WithClassification(f"models/yolov5{size}_joint.yaml", tasks=["detection"])
        for model in (
            DetectionModel(f"models/yolov5{size}.yaml"),
            DetectionModel(PLAIN, size=size),
            alone,
        ):
            assert parameters_of(model) == parameters


def test_a_sized_model_is_built_again_from_its_arguments():
    small = YOLOv5WithClassification(JOINT, nc=4, views=3, size="n")
    again = YOLOv5WithClassification(**small.arguments())
    again.load_state_dict(small.state_dict())
    assert small.model[0].conv.out_channels == 16 and small.trunk_layers == tuple(range(18))
    assert sized(JOINT, "") == load_model_yaml(JOINT)


def test_state_dict_has_the_reference_names_and_shapes(shared_dir, joint):
    reference = json.loads((shared_dir / "reference" / "yolov5s_nc4_state_dict.json").read_text())
    expected = {
        name: (tuple(shape), dtype) for name, (shape, dtype) in reference["state_dict"].items()
    }
    for model in (DetectionModel(PLAIN, nc=4), joint):
        found = {
            name: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in model.state_dict().items()
            if not name.startswith("model.25.")  # the view head
        }
        assert found == expected
        assert model.detect.strides == tuple(reference["stride"])
        assert torch.allclose(
            model.detect.anchors, torch.tensor(reference["anchors_in_stride_units"])
        )


def test_raw_maps_and_boxes_equal_the_reference(shared_dir, golden, joint):
    spec = importlib.util.spec_from_file_location("fill", shared_dir / "reference" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    for model in (DetectionModel(PLAIN, nc=4), YOLOv5WithClassification(JOINT, nc=4, views=3)):
        model.load_state_dict(fill.fill(model.state_dict()))
        with torch.no_grad():
            raw_maps = model.eval()(torch.from_numpy(golden["image"]))["detect"]
        for raw, name in zip(raw_maps, ("p3", "p4", "p5"), strict=True):
            assert (raw - torch.from_numpy(golden[name])).abs().max() <= 1e-4
        decoded, expected = model.decode(raw_maps), torch.from_numpy(golden["decoded"])
        torch.testing.assert_close(decoded[..., :4], expected[..., :4], rtol=1e-4, atol=0.02)
        torch.testing.assert_close(decoded[..., 4:], expected[..., 4:], rtol=1e-4, atol=1e-6)


def test_decoding_a_raw_map_of_zeros_puts_anchors_on_cell_centres():
    model = DetectionModel(PLAIN, nc=4)
    decoded = model.decode(
        [torch.zeros(1, 3, 2, 3, 9), torch.zeros(1, 3, 1, 1, 9), torch.zeros(1, 3, 1, 1, 9)]
    )
    first_level = decoded[0, : 3 * 2 * 3].view(3, 2, 3, 9)
    assert first_level[1, 1, 2, :4].tolist() == [
        20.0,
        12.0,
        16.0,
        30.0,
    ]  # cell (2, 1) of stride 8, anchor 16 x 30
    assert (first_level[..., 4:] == 0.5).all()


def test_trunk_and_cut_follow_from_where_the_view_head_attaches(joint):
    assert joint.trunk_layers == tuple(range(18))
    assert joint.cut == (10, 14, 17)
    assert joint.detection_layers == tuple(range(18, 25))
    assert joint.view_layers == (25,)


# What the joint YAML says the row's `from` may be; the cut of each, worked out by hand.
DOCUMENTED_PLACES = {
    "P3": (17, (10, 14, 17)),
    "P4": (20, (10, 17, 20)),
    "P5": (23, (17, 20, 23)),
    "end": (9, (4, 6, 9)),
}


def test_the_places_are_those_that_the_file_names():
    line = next(
        line for line in Path(JOINT).read_text(encoding="utf-8").splitlines() if "17 = P3" in line
    )
    said = dict(re.findall(r"(\d+) = (P\d|end)", line))
    assert said == {str(layer): place for place, (layer, _) in DOCUMENTED_PLACES.items()}


@pytest.mark.parametrize("place", DOCUMENTED_PLACES)
def test_the_view_head_works_on_every_documented_place(place):
    layer, cut = DOCUMENTED_PLACES[place]
    model = joint_with_view_head_on(layer).eval()
    assert model.trunk_layers == tuple(range(layer + 1)) and model.cut == cut
    assert model.detection_layers == tuple(range(layer + 1, 25)) and model.view_layers == (25,)
    images = torch.rand(1, 3, 64, 64)
    outputs = model(images)
    assert outputs["classify"].shape == (1, 3)
    assert [raw.shape[2] for raw in outputs["detect"]] == [8, 4, 2]
    features = model.trunk(images)
    assert tuple(features) == cut
    assert torch.equal(model.heads(features)["classify"], outputs["classify"])
    outputs[
        "classify"
    ].sum().backward()  # the view's gradient is in the trunk, and nowhere else of the detector
    reached = {
        int(name.split(".")[1]) for name, p in model.named_parameters() if p.grad is not None
    }
    assert layer in reached and reached <= {*range(layer + 1), 25}
    assert model.last_shared_parameter().grad is not None


def test_forward_is_trunk_then_heads_in_both_modes(joint):
    images = torch.rand(2, 3, 64, 96)
    for model in (joint.train(), joint.eval()):
        outputs = model(images)
        assert [tuple(raw.shape) for raw in outputs["detect"]] == [
            (2, 3, 64 // s, 96 // s, 9) for s in (8, 16, 32)
        ]
        assert outputs["classify"].shape == (2, 3)
    with torch.no_grad():
        again = joint.heads(joint.trunk(images))
        assert torch.equal(again["classify"], outputs["classify"])
        assert all(
            torch.equal(a, b) for a, b in zip(again["detect"], outputs["detect"], strict=True)
        )


def test_the_detection_part_starts_from_the_same_values_with_and_without_view_head():
    torch.manual_seed(3)
    plain = DetectionModel(PLAIN, nc=4).state_dict()
    torch.manual_seed(3)
    joint = YOLOv5WithClassification(JOINT, nc=4, views=3).state_dict()
    assert all(torch.equal(tensor, joint[name]) for name, tensor in plain.items())


@pytest.mark.parametrize(
    ("task", "output"), [("detection", "detect"), ("classification", "classify")]
)
def test_a_single_task_is_the_joint_model_without_the_other_head(joint, task, output):
    torch.manual_seed(0)
    single = YOLOv5WithClassification(JOINT, nc=4, views=3, tasks=[task])
    removed = joint.view_layers if task == "detection" else joint.detection_layers
    torch.manual_seed(0)
    expected = YOLOv5WithClassification(JOINT, nc=4, views=3).state_dict()
    expected = {name: t for name, t in expected.items() if int(name.split(".")[1]) not in removed}
    assert single.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in single.state_dict().items())

    images = torch.rand(1, 3, 64, 64)
    single.load_state_dict(joint.state_dict(), strict=False)
    with torch.no_grad():
        outputs, both = single.eval()(images), joint.eval()(images)
    assert outputs.keys() == {output}
    assert all(torch.equal(a, b) for a, b in zip(outputs[output], both[output], strict=True))
    assert (single.detect is None) == (task == "classification") and single.tasks == (task,)

    content = {"kind": single.kind, "arguments": single.arguments()}
    again = model_from_checkpoint(content, single.state_dict(), "x").eval()
    assert again.tasks == (task,) and again(images).keys() == {output}


def test_detection_alone_is_yolov5():
    alone = YOLOv5WithClassification(JOINT, nc=4, views=3, tasks=["detection"])
    assert sum(p.numel() for p in alone.parameters()) == YOLOV5S_PARAMETERS_NC4


def test_the_trunks_parameters_layer_by_layer(joint):
    layers = joint.trunk_parameters()
    trunk = layers.pop("trunk")
    assert {id(p) for p in trunk} == {
        id(p) for name, p in joint.named_parameters() if int(name.split(".")[1]) <= 17
    }
    assert list(layers) == [
        str(i) for i in joint.trunk_layers if i not in (11, 12, 15, 16)
    ]  # which have no weights
    assert [id(p) for parameters in layers.values() for p in parameters] == [id(p) for p in trunk]
    assert any(p is joint.last_shared_parameter() for p in layers["17"])
    frozen = YOLOv5WithClassification(JOINT, nc=4, views=3)
    freeze_layers(frozen, 10)
    assert list(frozen.trunk_parameters()) == ["trunk", "10", "13", "14", "17"]
