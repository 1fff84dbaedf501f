"""The view head on its own copy of the layers after k: what is shared, what is copied."""

import copy
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from small_models import mini_models, noise
from small_runs import assert_same_run, break_run, resume, run, small_options

from models.branches import with_view_branch
from models.graph import load_model_yaml, sized
from models.yolo import DetectionModel, YOLOv5WithClassification
from utils.checkpoints.checkpoint import load_checkpoint
from utils.core.script import UserError

JOINT = "models/yolov5s_joint.yaml"
HEAD_LAYER = 17  # that the view head reads
CUTS = {0: (0,), 4: (4,), 9: (4, 6, 9), 10: (4, 6, 10), 14: (4, 10, 14)}
STUDY = {4: "docs/verdict/depth_4.yaml", 9: "docs/verdict/depth_9.yaml"}


def branched(last_shared: object, size: str = "n") -> dict:
    return sized(JOINT, size) | {"view_branches_after": last_shared}


def model_of(cfg: dict) -> YOLOv5WithClassification:
    torch.manual_seed(0)
    return YOLOv5WithClassification(cfg, nc=4, views=3)


def parameters(model: torch.nn.Module, layers: range) -> int:
    chosen = torch.nn.ModuleList(model.model[index] for index in layers)
    return sum(parameter.numel() for parameter in chosen.parameters())


@pytest.mark.parametrize("last_shared", CUTS)
def test_what_is_shared_is_what_both_need_up_to_the_layer(last_shared: int):
    model = model_of(branched(last_shared))
    assert model.trunk_layers == tuple(range(last_shared + 1))
    copies = HEAD_LAYER - last_shared
    assert model.view_layers == tuple(range(25, 25 + copies + 1))
    assert model.detection_layers == tuple(range(last_shared + 1, 25))
    assert model.cut == CUTS[last_shared]


@pytest.mark.parametrize("last_shared", [0, 4, 9])
def test_the_copies_have_the_parameters_of_their_originals(last_shared: int):
    plain, model = model_of(sized(JOINT, "n")), model_of(branched(last_shared))
    copies = HEAD_LAYER - last_shared
    originals = range(last_shared + 1, HEAD_LAYER + 1)
    assert parameters(model, range(25, 25 + copies)) == parameters(plain, originals)
    assert parameters(model, range(25 + copies, 26 + copies)) == parameters(plain, range(25, 26))
    kinds = [type(plain.model[index]) for index in originals]
    assert [type(model.model[25 + index]) for index in range(copies)] == kinds


@pytest.mark.parametrize("last_shared", [0, 4, 9])
def test_the_detector_keeps_names_and_initial_values(last_shared: int):
    torch.manual_seed(0)
    alone = DetectionModel("models/yolov5s.yaml", nc=4, size="n").state_dict()
    state = model_of(branched(last_shared)).state_dict()
    assert alone.keys() <= state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in alone.items())


def test_a_branch_after_the_heads_layer_is_the_plain_model():
    plain, model = model_of(sized(JOINT, "n")), model_of(branched(HEAD_LAYER))
    assert model.sources == plain.sources
    state = model.state_dict()
    assert state.keys() == plain.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in plain.state_dict().items())


def test_a_branch_with_the_originals_weights_answers_as_the_plain_model():
    """The copies read what their originals read."""
    plain, model = model_of(sized(JOINT, "n")).eval(), model_of(branched(4)).eval()
    for original in range(5, HEAD_LAYER + 1):
        model.model[20 + original].load_state_dict(plain.model[original].state_dict())
    model.model[-1].load_state_dict(plain.model[-1].state_dict())
    images = noise((2, 3, 64, 64))
    with torch.no_grad():
        expected, found = plain(images), model(images)
    torch.testing.assert_close(found["classify"], expected["classify"], rtol=0, atol=0)
    for level, own in zip(expected["detect"], found["detect"], strict=True):
        torch.testing.assert_close(own, level, rtol=0, atol=0)


@pytest.mark.parametrize("last_shared", [0, 3])
def test_no_gradient_of_one_task_reaches_the_others_layers(last_shared: int):
    cfg = mini_models()["joint"].cfg | {"view_branches_after": last_shared}
    model = YOLOv5WithClassification(cfg, nc=4, views=3).train()
    model(noise((2, 3, 64, 64)))["classify"].square().sum().backward()
    touched = set()
    for index, layer in enumerate(model.model):
        if any(parameter.grad is not None for parameter in layer.parameters()):
            touched.add(index)
    assert touched <= {*model.trunk_layers, *model.view_layers}
    assert touched & set(model.trunk_layers)
    assert touched & set(model.view_layers)


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_task_alone_answers_as_beside_the_other(task: str):
    torch.manual_seed(0)
    alone = YOLOv5WithClassification(branched(9), nc=4, views=3, tasks=[task]).eval()
    both = model_of(branched(9)).eval()
    images = noise((1, 3, 64, 64))
    with torch.no_grad():
        found, expected = alone(images), both(images)
    assert len(found) == 1
    for name, output in found.items():
        torch.testing.assert_close(output, expected[name], rtol=0, atol=0)


def test_the_yaml_is_left_as_it_was():
    cfg = branched(9)
    before = copy.deepcopy(cfg)
    assert "view_branches_after" not in with_view_branch(cfg, "a.yaml")
    assert cfg == before


@pytest.mark.parametrize("last_shared", [-1, 18, 25, 9.0, "9", True, None, [9]])
def test_a_layer_that_cannot_be_the_last_shared_is_an_error(last_shared: object):
    with pytest.raises(UserError, match=r"^a\.yaml: view_branches_after is .* 0 to 17") as error:
        with_view_branch(branched(last_shared), "a.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"ViewHead found at layers \[\]"),
        ([[17, 1, "ViewHead", ["views"]], [-2, 1, "Conv", [8]]], r"found at layers \[25\]"),
        ([[17, 1, "ViewHead", ["views"]]] * 2, r"found at layers \[25, 26\]"),
        ([["a", 1, "ViewHead", ["views"]]], "model layer 25: reads 'a'"),
        (["ViewHead"], "model layer 25: found 'ViewHead'"),
        ([[17, 1, "ViewHead", ["views"], {"stop_gradient": True}]], "behind a stop-gradient"),
    ],
)
def test_rows_that_allow_no_branch_are_an_error(rows: list, message: str):
    cfg = branched(9)
    cfg["head"] = [*cfg["head"][:-1], *rows]
    with pytest.raises(UserError, match=message):
        model_of(cfg)


def test_a_detector_alone_refuses_the_key():
    with pytest.raises(UserError, match="ViewHead found at"):
        DetectionModel(load_model_yaml("models/yolov5s.yaml") | {"view_branches_after": 9}, nc=4)


@pytest.mark.parametrize("last_shared", STUDY)
def test_the_studys_files_are_the_joint_model_with_the_key(last_shared: int):
    assert load_model_yaml(STUDY[last_shared]) == load_model_yaml(JOINT) | {
        "view_branches_after": last_shared
    }


# ---- trained -------------------------------------------------------------------------------------


@pytest.fixture
def options(tiny_data: Path, tmp_path: Path) -> dict[str, object]:
    """Of a training by GradNorm whose view head shares layers 0 to 9."""
    options = small_options(tiny_data, tmp_path) | {"balancer": "gradnorm", "diagnose_interval": 2}
    path = Path(options["cfg"])
    cfg = yaml.safe_load(path.read_text()) | {"view_branches_after": 9}
    path.write_text(yaml.safe_dump(cfg))
    return options


def test_gradnorm_trains_it_and_a_resume_is_exact(options: dict, tmp_path: Path):
    whole = run(options, tmp_path / "whole")
    assert len((whole / "gradnorm.csv").read_text().splitlines()) > 1
    places = pd.read_csv(whole / "interference.csv")["place"]
    assert set(places) == {"cut", "trunk", *map(str, range(10))}
    break_run(options, tmp_path / "halves", (1, 1))
    resume(tmp_path / "halves")
    assert_same_run(whole, tmp_path / "halves")


def test_a_checkpoint_builds_the_same_model(options: dict, tmp_path: Path):
    folder = run(options | {"epochs": 1}, tmp_path / "run")
    content = load_checkpoint(folder / "weights" / "last.pt")
    model = YOLOv5WithClassification(**content["arguments"])
    model.load_state_dict(content["model"])
    assert model.trunk_layers == tuple(range(10))
