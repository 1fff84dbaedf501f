"""A model's file says what the model is, and builds it again."""

import pytest
import torch
from small_runs import small_yaml

from models.yolo import YOLOv5WithClassification
from utils.checkpoints.model_file import ModelMetadata, model_from_checkpoint
from utils.core.script import UserError


def test_metadata_without_what_a_checkpoint_may_lack():
    metadata = ModelMetadata(
        "detection", ["a, b", "é"], [], 320, True, "my.yaml", None, None, "1-2"
    )
    assert ModelMetadata.of_properties(metadata.to_properties(), "x") == metadata


@pytest.mark.parametrize("bits", [None, 12])
def test_stored_bits_are_kept_and_older_files_do_not_say(bits: int | None):
    metadata = ModelMetadata("joint", ["a"], ["b"], 64, False, "d", 0.5, None, "1-2", bits)
    properties = metadata.to_properties()
    assert ModelMetadata.of_properties(properties, "x").bits == bits
    del properties["bits"]
    assert ModelMetadata.of_properties(properties, "x").bits is None


FILE_NAMES = {"group_pattern": r"^(P\d+)_", "clip_pattern": r"^(.+)_F(\d+)", "needs_colour": True}


def test_an_export_keeps_what_the_data_says_of_file_names_and_older_files_say_nothing():
    metadata = ModelMetadata("joint", ["a"], ["b"], 64, False, "d", 0.5, None, "1-2", **FILE_NAMES)
    properties = metadata.to_properties()
    again = ModelMetadata.of_properties(properties, "x")
    assert again == metadata
    assert again.file_names("x").clip_of("a/P1_C2_F17.png") == ("P1_C2", 17)
    assert again.file_names("x").group_of("a/P1_C2_F17.png") == "P1"
    for key in FILE_NAMES:
        del properties[key]
    older = ModelMetadata.of_properties(properties, "x")
    assert older.clip_pattern is None and not older.needs_colour


def test_an_export_keeps_thresholds_and_older_files_have_none():
    chosen = {"clip_evidence": 0.25, "view_probability": 0.75}
    metadata = ModelMetadata("joint", ["a"], ["b"], 64, False, "d", 0.5, None, "1-2", **chosen)
    properties = metadata.to_properties()
    again = ModelMetadata.of_properties(properties, "x")
    assert (again.clip_evidence, again.view_probability) == (0.25, 0.75)
    for key in chosen:
        del properties[key]
    older = ModelMetadata.of_properties(properties, "x")
    assert older.clip_evidence is older.view_probability is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"clip_pattern": '"(a)"'}, "clip_pattern is '(a)', expected None, or a regular"),
        ({"group_pattern": '"("'}, "group_pattern is '('"),
        ({"bits": '"12"'}, "bits is '12', expected int"),
        ({"clip_evidence": "1.5"}, "clip_evidence is 1.5, expected None, or a number from 0 to 1"),
        ({"view_probability": "-1"}, "view_probability is -1, expected None, or a number"),
        ({"format": '"other"'}, "no metadata of this project"),
        ({"version": "99"}, "version 99, expected 1 or 2"),
        ({"names": "not JSON"}, "Expecting value"),
        ({"imgsz": '"large"'}, "imgsz is 'large', expected int"),
        ({"view_prior": "[1]"}, "list indices"),
        ({"names": None}, "['names'] are missing"),
    ],
)
def test_wrong_metadata(changes: dict, expected: str):
    properties = (
        ModelMetadata("joint", ["a"], ["b"], 64, False, "d", 0.5, None, "").to_properties()
        | changes
    )
    properties = {key: text for key, text in properties.items() if text is not None}
    with pytest.raises(UserError, match=r"^x\.onnx: not an export of this project") as refused:
        ModelMetadata.of_properties(properties, "x.onnx")
    assert expected in str(refused.value)


@pytest.fixture(scope="module")
def joint() -> YOLOv5WithClassification:
    torch.manual_seed(0)
    return YOLOv5WithClassification(small_yaml("yolov5s_joint"), nc=4, views=3)


def test_a_checkpoint_builds_the_same_model_again(joint):
    content = {"kind": joint.kind, "arguments": joint.arguments(), "model": joint.state_dict()}
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        again = model_from_checkpoint(content, content["model"], "x").eval()
        assert torch.equal(again(images)["classify"], joint.eval()(images)["classify"])
    with pytest.raises(UserError, match="kind 'segmenter'"):
        model_from_checkpoint({**content, "kind": "segmenter"}, {}, "x.pt")
