"""Model files: one for every size, and errors that name the layer."""

from pathlib import Path

import pytest

from models.common import Detect
from models.graph import load_model_yaml, sized
from models.yolo import DetectionModel
from utils.core.options import SIZES
from utils.core.script import UserError

PLAIN, JOINT = "models/yolov5s.yaml", "models/yolov5s_joint.yaml"


@pytest.mark.parametrize("kind", ["", "_joint"])
@pytest.mark.parametrize("size", SIZES)
def test_a_sizes_file_is_yolov5s_but_for_depth_and_width(size, kind):
    """Comments too, so that ten files do not drift apart."""
    names = {"YOLOv5s": f"YOLOv5{size}"}
    for key, small, own in zip(("depth", "width"), ("0.33", "0.50"), SIZES[size], strict=True):
        written = small if float(small) == own else str(own)
        names[f"{key}_multiple: {small}"] = f"{key}_multiple: {written}"
    expected = Path(f"models/yolov5s{kind}.yaml").read_text(encoding="utf-8")
    for old, new in names.items():
        assert expected.count(old) == 1
        expected = expected.replace(old, new)
    assert Path(f"models/yolov5{size}{kind}.yaml").read_text(encoding="utf-8") == expected
    assert sized(f"models/yolov5{size}{kind}.yaml", "") == sized(f"models/yolov5s{kind}.yaml", size)


def test_the_joint_file_is_the_plain_one_with_a_view_head():
    plain, joint = load_model_yaml(PLAIN), load_model_yaml(JOINT)
    assert joint | {"head": joint["head"][:-1]} == plain
    assert joint["head"][-1][2] == "ViewHead"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([-1, 1, "Missing", [1]], "unknown module 'Missing'"),
        ([99, 1, "Conv", [64]], "reads \\[99\\]"),
        ([[-1, 4], 1, "Concat", [1]], "strides"),
    ],
)
def test_a_wrong_yaml_is_an_error_that_names_the_layer(row, message):
    cfg = load_model_yaml(PLAIN)
    cfg["head"] = [row, *cfg["head"]]
    with pytest.raises(UserError, match=message):
        DetectionModel(cfg, nc=4)


def test_a_model_needs_exactly_one_detection_layer():
    cfg = load_model_yaml(PLAIN)
    cfg["head"] = cfg["head"][:-1]
    with pytest.raises(UserError, match=f"0 layers of type {Detect.__name__}"):
        DetectionModel(cfg, nc=4)
