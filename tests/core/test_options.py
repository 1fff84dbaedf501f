"""The options of the command line: defaults, precedence, and what is refused."""

import re
from dataclasses import fields
from itertools import chain
from pathlib import Path

import pytest
from small_files import write_yaml

from utils.core.files import ROOT
from utils.core.hyperparameters import RATES, HyperParameters, load_hyperparameters
from utils.core.names import TASKS
from utils.core.options import (
    DualOptions,
    JointOptions,
    TrainOptions,
    split_arguments,
    training_parser,
    warn_without_effect,
)
from utils.core.script import UserError
from utils.core.settings import default_of, setting_of


def test_command_line_over_hyp_file_over_defaults(tmp_path: Path):
    path = write_yaml(tmp_path, {"momentum": 0.5, "patience": 7, "cos_lr": True})
    given = vars(
        training_parser("").parse_args(["--patience", "9", "--epochs", "3", "--batch-size", "4"])
    )
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
    assert (options.imgsz, options.batch_size, options.project, options.name) == (
        320,
        16,
        "runs/train",
        "exp",
    )
    assert (
        (ROOT / options.cfg).is_file()
        and (ROOT / options.data).is_file()
        and (ROOT / options.hyp).is_file()
    )


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
        (
            {"diagnose_interval": 5, "tasks": ["detection"]},
            "--diagnose-interval: --tasks detection has nothing",
        ),
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
    options, over_hyp = split_arguments(
        {"tasks": ["detection"], "balancer": "fixed", "lr0": 0.1}, JointOptions
    )
    assert options == JointOptions(tasks=["detection"]) and over_hyp == {
        "balancer": "fixed",
        "lr0": 0.1,
    }


def test_every_option_of_a_training_can_be_given():
    options = {f"--{field.name.replace('_', '-')}" for field in fields(TrainOptions)}
    known = set(training_parser("")._option_string_actions)
    assert options | {"--resume", "--optimizer", "--cos-lr", "--patience"} <= known


@pytest.mark.parametrize("kind", [TrainOptions, JointOptions, DualOptions])
def test_every_option_tells_its_meaning_and_default(kind: type[TrainOptions]):
    for action in training_parser("", kind)._actions:
        name = action.dest
        assert action.help and not action.help.startswith("("), name
        default = getattr(kind(), name, None)
        if default:
            shown = " ".join(default) if isinstance(default, list) else default
            assert f"(default: {shown})" in action.help


@pytest.mark.parametrize("kind", [JointOptions, DualOptions])
def test_hyper_parameters_among_the_options_tell_range_choices_and_default(kind):
    parser = training_parser("", kind)
    shown = " ".join(parser.format_help().split())
    for name in chain.from_iterable(kind.hyp_options.values()):
        field = HyperParameters.__dataclass_fields__[name]
        declared, default = setting_of(field), default_of(field)
        action = next(action for action in parser._actions if action.dest == name)
        assert declared.help in action.help and declared.allowed in action.help
        assert all(choice in shown for choice in declared.choices)
        known = "(default: the hyp file's"
        if default not in (None, False):
            known += f", or {default} where it has none"
        assert f"{known})" in action.help


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("batch_size", 0),
        ("imgsz", 0),
        ("workers", -2),
        ("seed", -1),
        ("freeze", -1),
    ],
)
def test_options_have_lower_limits(name: str, value: int):
    with pytest.raises(UserError, match=rf"--{name.replace('_', '-')} is {value}, expected"):
        TrainOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("epochs", 10**9),
        ("batch_size", 10**9),
        ("seed", 10**9),
        ("freeze", 10**9),
        ("imgsz", 16384),
        ("workers", 64),
    ],
)
def test_options_have_upper_limits(name: str, most: int):
    assert getattr(TrainOptions(**{name: most}), name) == most
    for value in (most + 32, 2**63, 2**64 * 32, 10**400):
        with pytest.raises(UserError, match=rf"^--{name.replace('_', '-')} is \d+.*, expected"):
            TrainOptions(**{name: value})


@pytest.mark.parametrize("value", [0, -2, -7])
def test_a_save_period_is_epochs_or_never(value: int):
    with pytest.raises(
        UserError, match=f"^--save-period is {value}, expected at least 1 .*, or -1 for never"
    ):
        TrainOptions(save_period=value)
    assert TrainOptions(save_period=1).save_period == 1


@pytest.mark.parametrize("kind", [TrainOptions, JointOptions, DualOptions])
@pytest.mark.parametrize("name", ["cfg", "data", "hyp", "device", "amp"])
def test_an_empty_option_is_refused(kind: type[TrainOptions], name: str):
    with pytest.raises(
        UserError, match=f"^--{name} is empty; leave it out for {getattr(kind, name)}$"
    ):
        kind(**{name: ""})


@pytest.mark.parametrize("value", [["--resume="], ["--resume", ""]])
def test_an_empty_resume_is_not_the_newest_run(value: list[str]):
    """As from an unset variable of a shell."""
    with pytest.raises(UserError, match=r"^--resume is empty; give a value"):
        training_parser("").parse_args(value)
    assert vars(training_parser("").parse_args(["--resume"])) == {"resume": None}


ALONE = "which has no other loss to be balanced with"
OF_TWO_LOSSES = {
    "balancer": "fixed",
    "gradnorm_alpha": 2.0,
    "gradnorm_interval": 5,
    "gradnorm_rule": "equilibrium",
    "gradnorm_place": "weights",
    "initial_detection_weight": 2.0,
    "initial_classification_weight": 2.0,
}
IN_VAIN = [  # options, the one of them without effect, because of what
    *(
        (JointOptions, {"tasks": [task], option: value}, option, f"--tasks {task}, {ALONE}")
        for task in TASKS
        for option, value in OF_TWO_LOSSES.items()
    ),
    *(
        (
            DualOptions,
            {"freeze_task": [task], f"{task}_{rate}": 0.1},
            f"{task}_{rate}",
            f"--freeze-task {task}",
        )
        for task in TASKS
        for rate in RATES
    ),
    (
        JointOptions,
        {"balancer": "fixed", "gradnorm_alpha": 2.0},
        "gradnorm_alpha",
        "the balancer fixed",
    ),
    (
        JointOptions,
        {"balancer": "fixed", "gradnorm_place": "weights"},
        "gradnorm_place",
        "the balancer fixed",
    ),
    (
        JointOptions,
        {"balancer": "uw", "gradnorm_interval": 3},
        "gradnorm_interval",
        "the balancer uw",
    ),
    (
        JointOptions,
        {"balancer": "mgda", "gradnorm_rule": "gradient"},
        "gradnorm_rule",
        "the balancer mgda",
    ),
    (
        *(JointOptions, {"balancer": "pcgrad", "initial_detection_weight": 1.0}),
        *("initial_detection_weight", "the balancer pcgrad"),
    ),
    (
        JointOptions,
        {"tasks": ["classification"], "autoanchor": True},
        "autoanchor",
        "--tasks classification",
    ),
    (
        *(JointOptions, {"tasks": ["detection"], "view_loss_weights": "inverse"}),
        *("view_loss_weights", "--tasks detection"),
    ),
    (TrainOptions, {"noval": True, "patience": 3}, "patience", "--noval"),
    (TrainOptions, {"epochs": 5, "patience": 5}, "patience", "--epochs 5"),
    (TrainOptions, {"epochs": 5, "save_period": 6}, "save_period", "--epochs 5"),
    (DualOptions, {"freeze_task": ["detection"], "freeze": 3}, "freeze", "--freeze-task detection"),
    (
        *(DualOptions, {"freeze_task": ["classification"], "view_loss_weights": "inverse"}),
        *("view_loss_weights", "--freeze-task classification"),
    ),
]


def warnings_about(
    kind: type[TrainOptions], given: dict, caplog: pytest.LogCaptureFixture
) -> list[str]:
    options, over_hyp = split_arguments(given, kind)
    warn_without_effect(given, options.without_effect(load_hyperparameters(options.hyp, over_hyp)))
    return caplog.messages


@pytest.mark.parametrize(("kind", "given", "in_vain", "because"), IN_VAIN, ids=str)
def test_what_has_no_effect_is_said(
    caplog, kind: type[TrainOptions], given: dict, in_vain: str, because: str
):
    option = f"--{in_vain.replace('_', '-')}"
    assert warnings_about(kind, given, caplog) == [
        f"warning: {option} has no effect beside {because}"
    ]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (TrainOptions, {}),
        (TrainOptions, {"epochs": 5, "patience": 4}),
        (TrainOptions, {"epochs": 5, "patience": 0}),
        (TrainOptions, {"epochs": 5, "save_period": 5}),
        (TrainOptions, {"epochs": 5, "save_period": -1}),
        (JointOptions, {"tasks": ["detection"], "autoanchor": True}),
        (JointOptions, {"tasks": ["classification"], "view_loss_weights": "inverse"}),
        (JointOptions, {"balancer": "fixed", "initial_detection_weight": 1.0}),
        (JointOptions, OF_TWO_LOSSES | {"balancer": "gradnorm"}),
        (DualOptions, {"freeze_task": ["classification"], "detection_lr0": 0.1, "freeze": 3}),
    ],
    ids=str,
)
def test_what_has_an_effect_is_not_spoken_of(caplog, kind: type[TrainOptions], given: dict):
    assert warnings_about(kind, given, caplog) == []


def test_anchors_of_a_frozen_network_are_not_fitted():
    with pytest.raises(
        UserError,
        match=r"^--autoanchor changes the detection network, which --freeze-task detection",
    ):
        DualOptions(autoanchor=True, freeze_task=["detection"])
    assert DualOptions(autoanchor=True, freeze_task=["classification"]).autoanchor


@pytest.mark.parametrize(("size", "nearest"), [(100, 96), (330, 320), (1, 32), (17, 32)])
def test_image_size_is_a_multiple_of_the_stride(size: int, nearest: int):
    with pytest.raises(
        UserError, match=rf"--imgsz is {size}, expected a multiple of 32.*{nearest}\b"
    ):
        TrainOptions(imgsz=size)
    assert TrainOptions(imgsz=nearest).imgsz == nearest
