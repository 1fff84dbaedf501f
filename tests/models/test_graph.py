"""Model files: one for every size, and errors that name the layer."""

from pathlib import Path

import pytest
import torch
import yaml

from models.builders import ordered_anchors
from models.common import Detect
from models.graph import load_model_yaml, sized
from models.yolo import DetectionModel, YOLOv5WithClassification
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


# ---- strangers' files ----------------------------------------------------------------------------


def with_row(index: int, row: object) -> dict:
    """YOLOv5s with another row."""
    cfg = load_model_yaml(PLAIN)
    rows = [*cfg["backbone"], *cfg["head"]]
    rows[index] = row
    return cfg | {"backbone": rows[:10], "head": rows[10:]}


def with_keys(**keys: object) -> dict:
    return load_model_yaml(PLAIN) | keys


P345 = load_model_yaml(PLAIN)["anchors"]
WRONG_ROWS = {
    "too few entries": [-1, 1, "Conv"],
    "too many entries": [-1, 1, "Conv", [64], 1],
    "no list": "Conv",
    "nothing": None,
    "a mapping": {"from": -1},
    "unknown module": [-1, 1, "C2f", [128]],
    "v6.0's forerunner": [-1, 1, "Focus", [64, 3]],
    "ghost": [-1, 1, "C3Ghost", [128]],
    "an expression as module": [-1, 1, "__import__('os').system('ls')", [128]],
    "module is a number": [-1, 1, 5, [128]],
    "module is a list": [-1, 1, ["Conv"], [128]],
    "reads itself": [2, 1, "C3", [128]],
    "reads forward": [9, 1, "C3", [128]],
    "reads nowhere": [-7, 1, "C3", [128]],
    "reads text": ["-1", 1, "C3", [128]],
    "reads a fraction": [-1.0, 1, "C3", [128]],
    "reads true": [True, 1, "C3", [128]],
    "reads nothing": [[], 1, "C3", [128]],
    "reads none": [None, 1, "C3", [128]],
    "reads two": [[-1, 0], 1, "Conv", [128]],
    "reads a list of text": [["a"], 1, "Concat", [1]],
    "number 0": [-1, 0, "C3", [128]],
    "number below 0": [-1, -3, "C3", [128]],
    "number is text": [-1, "3", "C3", [128]],
    "number is a fraction": [-1, 1.5, "C3", [128]],
    "number is huge": [-1, 10**9, "C3", [128]],
    "what is not repeated": [-1, 9, "Conv", [128]],
    "no args": [-1, 3, "C3", []],
    "args are no list": [-1, 3, "C3", 128],
    "args are text": [-1, 3, "C3", "128"],
    "channels are text": [-1, 3, "C3", ["128"]],
    "channels are 0": [-1, 3, "C3", [0]],
    "channels below 0": [-1, 3, "C3", [-128]],
    "channels are a fraction": [-1, 3, "C3", [12.5]],
    "channels are not a number": [-1, 3, "C3", [float("nan")]],
    "channels are true": [-1, 3, "C3", [True]],
    "channels are none": [-1, 3, "C3", [None]],
    "channels are a list": [-1, 3, "C3", [[128]]],
    "channels are huge": [-1, 3, "C3", [10**9]],
    "channels are an expression": [-1, 3, "C3", ["64*2"]],
    "shortcut is text": [-1, 3, "C3", [128, "false"]],
    "too many args": [-1, 3, "C3", [128, True, 1, 0.5]],
    "kernel 0": [-1, 1, "Conv", [128, 0, 1]],
    "kernel below 0": [-1, 1, "Conv", [128, -3, 1]],
    "kernel is text": [-1, 1, "Conv", [128, "3", 1]],
    "an even kernel": [-1, 1, "Conv", [128, 4, 1]],
    "stride 0": [-1, 1, "Conv", [128, 3, 0]],
    "stride below 0": [-1, 1, "Conv", [128, 3, -2]],
    "stride 3": [-1, 1, "Conv", [128, 3, 3]],
    "padding below 0": [-1, 1, "Conv", [128, 3, 1, -1]],
    "padding too wide": [-1, 1, "Conv", [128, 3, 1, 5]],
    "an activation as arg, as in YOLOv7 tiny": [
        -1,
        1,
        "Conv",
        [32, 3, 2, None, 1, "nn.LeakyReLU(0.1)"],
    ],
    "an even pool": [-1, 1, "SPPF", [128, 4]],
    "upsampled by text": [-1, 1, "nn.Upsample", [None, "2", "nearest"]],
    "upsampled by 0": [-1, 1, "nn.Upsample", [None, 0, "nearest"]],
    "upsampled beyond pixels": [-1, 1, "nn.Upsample", [None, 8, "nearest"]],
    "upsampled in an unknown way": [-1, 1, "nn.Upsample", [None, 2, "best"]],
    "upsampled to a size": [-1, 1, "nn.Upsample", [64, 2, "nearest"]],
    "concatenated along height": [[-1, 0], 1, "Concat", [2]],
    "concatenated maps of two sizes": [[-1, 0], 1, "Concat", [1]],
    "attention of kernel 0": [-1, 1, "CBAM", [16, 0]],
    "attention that is reduced to nothing": [-1, 1, "CBAM", [0]],
}


@pytest.mark.parametrize("kind", WRONG_ROWS)
def test_a_wrong_row_is_one_line_with_file_and_layer(kind: str, tmp_path: Path):
    cfg = with_row(2, WRONG_ROWS[kind])
    (tmp_path / "strange.yaml").write_text(yaml.safe_dump(cfg))
    for given, source in (
        (cfg, "model configuration"),
        (tmp_path / "strange.yaml", tmp_path / "strange.yaml"),
    ):
        with pytest.raises(UserError) as refused:
            DetectionModel(given, nc=4)
        assert str(refused.value).startswith(f"{source}: model layer 2") and "\n" not in str(
            refused.value
        )


WRONG_KEYS = {
    **{f"{key} {value!r}": {key: value} for key in ("depth_multiple", "width_multiple") for value in (
        0, 0.0, -1, float("nan"), float("inf"), 1e9, "0.33", None, True, [0.33])},
    "another activation": {"activation": "nn.ReLU()"},
    "an activation with an argument": {"activation": "nn.LeakyReLU(0.1)"},
    "code as an activation": {"activation": "__import__('os').system('ls')"},
    "activation is a number": {"activation": 1},
    "grey images": {"ch": 1},
    "four channels": {"ch": 4},
    "no channels": {"ch": 0},
    "channels in text": {"ch": "3"},
    "channel_multiple": {"channel_multiple": 16},
    "channel_multiple 0": {"channel_multiple": 0},
    "backbone is missing": {"backbone": None},
    "backbone is empty": {"backbone": []},
    "backbone is text": {"backbone": "Conv"},
    "head is a mapping": {"head": {"0": []}},
    "head is a number": {"head": 5},
    "anchors: 3": {"anchors": 3},
    "anchors are none": {"anchors": None},
    "anchors are text": {"anchors": "auto"},
    "anchors of four levels": {"anchors": [*P345, [400, 400, 500, 500, 600, 600]]},
    "anchors of two levels": {"anchors": P345[:2]},
    "no anchors": {"anchors": []},
    "uneven anchors": {"anchors": [P345[0], P345[1][:4], P345[2]]},
    "odd anchors": {"anchors": [level[:5] for level in P345]},
    "empty anchors": {"anchors": [[], [], []]},
    "anchors in pairs": {"anchors": [[level[:2], level[2:4]] for level in P345]},
    "anchors below 0": {"anchors": [[-10, 13, 16, 30, 33, 23], *P345[1:]]},
    "anchors of 0": {"anchors": [[0, 13, 16, 30, 33, 23], *P345[1:]]},
    "anchors are not numbers": {"anchors": [[float("nan"), 13, 16, 30, 33, 23], *P345[1:]]},
    "anchors are infinite": {"anchors": [*P345[:2], [116, 90, 156, 198, 373, float("inf")]]},
    "anchors of text": {"anchors": [["10", 13, 16, 30, 33, 23], *P345[1:]]},
    "anchors of truth": {"anchors": [[True, 13, 16, 30, 33, 23], *P345[1:]]},
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_KEYS)
def test_a_wrong_key_is_one_line_with_the_file_and_the_key(kind: str, tmp_path: Path):
    path, (key,) = tmp_path / "strange.yaml", WRONG_KEYS[kind]
    path.write_text(yaml.safe_dump(with_keys(**WRONG_KEYS[kind])))
    with pytest.raises(UserError) as refused:
        DetectionModel(path, nc=4)
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)
    assert key in str(refused.value) and (
        "anchors" not in key or "model layer 24, Detect: anchors" in str(refused.value)
    )


@pytest.mark.parametrize("nc", [0, -1, 1.5, "4", True, float("nan"), [4], 10**9])
def test_a_wrong_class_count(nc: object):
    with pytest.raises(UserError, match="model configuration: nc is "):
        DetectionModel(with_keys(nc=nc))


@pytest.mark.parametrize(
    "keys",
    [
        {"activation": "nn.SiLU()"},
        {"activation": "nn.SiLU(inplace = True)"},
        {"ch": 3},
        {"channel_multiple": 8},
    ],
)
def test_what_is_as_it_is_here_is_honoured(keys: dict):
    with torch.device("meta"):
        assert (
            DetectionModel(with_keys(**keys), nc=4).state_dict().keys()
            == DetectionModel(PLAIN, nc=4).state_dict().keys()
        )


@pytest.mark.parametrize("order", [P345, P345[::-1]])
def test_anchors_that_begin_with_p5_are_turned_round(order: list):
    model = DetectionModel(with_keys(anchors=order), nc=4)
    assert (
        model.detect.anchors_px().flatten(1).tolist() == P345 == model.arguments()["cfg"]["anchors"]
    )


@pytest.mark.parametrize("middle", [[1, 1] * 3, [900, 900] * 3])
def test_only_the_first_and_the_last_level_decide_as_in_yolov5(middle: list):
    expected = [P345[0], middle, P345[2]]
    assert ordered_anchors(expected) == ordered_anchors(expected[::-1]) == expected
    assert ordered_anchors([P345[0]] * 3) == [P345[0]] * 3


def test_models_of_other_levels_are_refused():
    """P6 at the layer that is too coarse; P2, and two levels, where the boxes are found."""
    with pytest.raises(
        UserError, match=r"model layer 9, Conv: its map has a stride of 64.*P6 are not supported"
    ):
        DetectionModel(with_row(9, [-1, 1, "Conv", [1024, 3, 2]]), nc=4)
    for reads, strides in (
        ([2, 17, 20, 23], r"\[4, 8, 16, 32\]"),
        ([17, 20], r"\[8, 16\]"),
        ([23, 20, 17], r"\[32, "),
    ):
        with pytest.raises(
            UserError, match=rf"model layer 24, Detect: reads layers of strides {strides}.*P2"
        ):
            DetectionModel(with_row(24, [reads, 1, "Detect", ["nc", "anchors"]]), nc=4)


@pytest.mark.parametrize(
    "args", [["nc"], [80, "anchors"], ["anchors", "nc"], ["nc", "anchors", 1], ["views", "anchors"]]
)
def test_a_detection_layer_takes_nc_and_anchors(args: list):
    with pytest.raises(UserError, match="model layer 24, Detect: "):
        DetectionModel(with_row(24, [[17, 20, 23], 1, "Detect", args]), nc=4)


@pytest.mark.parametrize(
    "row",
    [[24, 1, "ViewHead", ["views", 0.5]], [17, 1, "ViewHead", [7, 0.5]], [17, 1, "ViewHead", ["views", 1]],
     [17, 1, "ViewHead", ["views", "half"]], [17, 1, "ViewHead", []], [17, 1, "ViewHead", ["views"], {"pool": "mean"}],
     [17, 1, "ViewHead", ["views"], {"stop_gradient": 1}], [17, 1, "ViewHead", ["views"], ["mean"]]],
)  # fmt: skip
def test_a_wrong_view_head(row: list):
    cfg = load_model_yaml(JOINT)
    with pytest.raises(UserError, match="model layer 25, ViewHead: "):
        YOLOv5WithClassification(cfg | {"head": [*cfg["head"][:-1], row]}, nc=4, views=3)


def test_a_key_that_nobody_knows_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "strange.yaml"
    path.write_text(yaml.safe_dump(with_keys(width_multple=0.5)))
    load_model_yaml(path)
    assert (
        f"{path}: unknown key 'width_multple' is ignored; did you mean 'width_multiple'?"
        in caplog.text
    )
