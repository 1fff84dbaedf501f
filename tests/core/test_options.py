"""The options of the command line: defaults, precedence, and what is refused."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from small_files import write_yaml

from utils.core.files import ROOT
from utils.core.hyperparameters import HyperParameters, load_hyperparameters
from utils.core.names import TASKS
from utils.core.options import DualOptions, JointOptions, TrainOptions, split_arguments, training_parser
from utils.core.script import UserError


def test_command_line_over_hyp_file_over_defaults(tmp_path: Path):
    path = write_yaml(tmp_path, {"momentum": 0.5, "patience": 7, "cos_lr": True})
    given = vars(training_parser("").parse_args(["--patience", "9", "--epochs", "3", "--batch-size", "4"]))
    options, over = split_arguments(given)
    hyp = load_hyperparameters(path, over)
    assert (hyp.patience, hyp.momentum, hyp.lr0) == (9, 0.5, HyperParameters().lr0)
    assert hyp.cos_lr  # neither --cos-lr nor --no-cos-lr was given
    assert options == TrainOptions(epochs=3, batch_size=4)
    off = vars(training_parser("").parse_args(["--no-cos-lr", "--optimizer", "Adam"]))
    hyp = load_hyperparameters(path, split_arguments(off)[1])
    assert (hyp.cos_lr, hyp.optimizer) == (False, "Adam")


def test_defaults_of_the_contract():
    options = TrainOptions()
    assert (options.imgsz, options.batch_size, options.project, options.name) == (320, 16, "runs/train", "exp")
    assert (ROOT / options.cfg).is_file() and (ROOT / options.data).is_file() and (ROOT / options.hyp).is_file()


def test_when_each_network_trains():
    late = DualOptions(epochs=9, classification_start_epoch=2, classification_epochs=3)
    assert [late.trained_epochs(task) for task in TASKS] == [range(9), range(2, 5)]
    frozen = DualOptions(epochs=9, freeze_task=["detection"])
    assert [frozen.trained_epochs(task) for task in TASKS] == [range(0), range(9)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tasks": []}, "--tasks is , expected detection and/or classification"),
        ({"tasks": ["detection", "detection"]}, "--tasks is detection detection"),
        ({"tasks": ["segmentation"]}, "--tasks is segmentation"),
        ({"diagnose_interval": -1}, "--diagnose-interval is -1, expected at least 0"),
        ({"diagnose_interval": 5, "tasks": ["detection"]}, "--diagnose-interval: --tasks detection has nothing"),
        ({"size": "q"}, "--size is 'q', expected one of n, s, m, l, x"),
        ({"epochs": 0}, "--epochs is 0"),
    ],
)
def test_wrong_options_of_the_joint_script(given: dict, message: str):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        JointOptions(**given)


def test_options_of_the_joint_script():
    assert JointOptions().tasks == list(TASKS) and not JointOptions().diagnose_interval
    assert JointOptions(tasks=["classification"], size="x").tasks == ["classification"]
    options, over_hyp = split_arguments({"tasks": ["detection"], "balancer": "fixed", "lr0": 0.1}, JointOptions)
    assert options == JointOptions(tasks=["detection"]) and over_hyp == {"balancer": "fixed", "lr0": 0.1}


def test_every_option_of_a_training_can_be_given():
    options = {f"--{field.name.replace('_', '-')}" for field in fields(TrainOptions)}
    known = set(training_parser("")._option_string_actions)
    assert options | {"--resume", "--optimizer", "--cos-lr", "--patience"} <= known


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("epochs", -1), ("batch_size", 0), ("imgsz", 0), ("workers", -2), ("seed", -1), ("freeze", -1)],
)
def test_options_have_lower_limits(name: str, value: int):
    with pytest.raises(UserError, match=rf"--{name.replace('_', '-')} is {value}, expected"):
        TrainOptions(**{name: value})


@pytest.mark.parametrize(("size", "nearest"), [(100, 96), (330, 320), (1, 32), (17, 32)])
def test_image_size_is_a_multiple_of_the_stride(size: int, nearest: int):
    with pytest.raises(UserError, match=rf"--imgsz is {size}, expected a multiple of 32.*{nearest}\b"):
        TrainOptions(imgsz=size)
    assert TrainOptions(imgsz=nearest).imgsz == nearest
