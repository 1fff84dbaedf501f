"""Options that change nothing are said, or refused.

Those of the trainings are in core/test_options.py.
"""

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest

import benchmark
import check_dataset
import compare_solutions
import detect
import export
import monitor_training
import split_dataset
import val
from utils.commands import detect as detect_command
from utils.commands import val as val_command
from utils.core.device import select_device
from utils.core.options import warn_without_effect
from utils.core.script import UserError

REQUIRED = {
    export: ["--weights", "a.pt"],
    split_dataset: ["--data", "a.yaml", "--out", "out"],
    compare_solutions: [],
    monitor_training: ["runs/train/exp"],
    val: ["--weights", "a.pt"],
    detect: ["--weights", "a.pt", "--source", "a.png"],
    benchmark: [],
    check_dataset: ["--data", "a.yaml"],
}
NOT_BALANCED = "none of which balances two losses of one network"


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Read a script's arguments: those that it needs, and these; folds are taken to be there."""
    monkeypatch.setattr(
        compare_solutions, "find_folds", lambda folder: {"fold0": f"{folder}/fold0/data.yaml"}
    )

    def call(script: ModuleType, text: str) -> object:
        arguments = [part.replace("''", "") for part in text.split()]
        monkeypatch.setattr(sys, "argv", ["script.py", *REQUIRED[script], *arguments])
        return script.parse_arguments()

    return call


@pytest.mark.parametrize(
    ("script", "arguments", "in_vain", "because"),
    [
        (export, "--conf-thres 0.5", ["conf-thres"], "an export without --nms"),
        (export, "--iou-thres 0.5", ["iou-thres"], "an export without --nms"),
        (export, "--include pt2 --opset 18", ["opset"], "--include pt2"),
        (
            export,
            "--include pt2 --iou-thres 0.5 --conf-thres 0",
            ["conf-thres", "iou-thres"],
            "an export without --nms",
        ),
        (export, "--nms --conf-thres 0.5 --opset 18", [], ""),
        (export, "--include pt2 onnx --opset 18", [], ""),
        (
            split_dataset,
            "--harmonise-views --seed 3",
            ["seed"],
            "--harmonise-views alone, which keeps the splits",
        ),
        (
            split_dataset,
            "--harmonise-views --by image",
            ["by"],
            "--harmonise-views alone, which keeps the splits",
        ),
        (split_dataset, "--harmonise-views --val 0.2 --seed 3 --by image", [], ""),
        (split_dataset, "--folds 3 --seed 3", [], ""),
        (
            *(compare_solutions, "--arms dual --diagnose-interval 5", ["diagnose-interval"]),
            f"--arms dual, {NOT_BALANCED}",
        ),
        (
            *(
                compare_solutions,
                "--arms detection-only dual --diagnose-interval 0",
                ["diagnose-interval"],
            ),
            f"--arms detection-only dual, {NOT_BALANCED}",
        ),
        (compare_solutions, "--folds folds --data my.yaml", ["data"], "--folds folds"),
        (compare_solutions, "--address head:6379", ["address"], "--engine local"),
        (compare_solutions, "--engine ray --address head:6379", [], ""),
        (compare_solutions, "--arms dual fixed --diagnose-interval 5", [], ""),
        (compare_solutions, "--arms dual", [], ""),
        *(
            (
                benchmark,
                f"--{option}",
                [option.split()[0]],
                "the benchmark, which trains for --steps only",
            )
            for option in ("exist-ok", "noval", "tensorboard", "patience 3", "save-period 2")
        ),
        (benchmark, "--against=--noval", ["noval"], "the benchmark, which trains for --steps only"),
        (benchmark, "--batch-size 2 --rect", [], ""),
    ],
)
def test_what_has_no_effect_is_said(
    parse: Callable, caplog, script: ModuleType, arguments: str, in_vain: list[str], because: str
):
    parse(script, arguments)
    assert caplog.messages == [
        f"warning: --{option} has no effect beside {because}" for option in in_vain
    ]


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (compare_solutions, "--epochs 0", "--epochs is 0, expected at least 1"),
        (compare_solutions, "--batch-size -1", "--batch-size is -1, expected at least 1"),
        (compare_solutions, "--imgsz 100", "--imgsz is 100, expected a multiple of 32"),
        (compare_solutions, "--size q", "--size is 'q', expected one of"),
        (compare_solutions, "--seeds 0 -1", "--seeds is -1, expected at least 0"),
        (compare_solutions, "--seeds 1 2 1", "--seeds has 1 more than once; give each once"),
        (
            compare_solutions,
            "--diagnose-interval -1",
            "--diagnose-interval is -1, expected at least 0",
        ),
        (compare_solutions, "--device ''", "--device is empty; leave it out for auto"),
        (compare_solutions, "--hyp ''", "--hyp is empty; leave it out for hyp/"),
        (
            compare_solutions,
            "--arms dual fixed dual",
            "--arms has dual more than once; give each once",
        ),
        (compare_solutions, "--arms ratio-15 ratio-15", "--arms has ratio-15 more than once"),
        (compare_solutions, "--arms tuned", "--arms: the arm 'tuned' is gone: it was the best of"),
        (monitor_training, "--once --interval 5", "--interval has no effect beside --once"),
        (benchmark, "--resume last.pt", "--resume: the benchmark trains anew"),
        (benchmark, "--resume", "--resume: the benchmark trains anew"),
        (benchmark, "--against=--resume", "--against: --resume: the benchmark trains anew"),
        (val, "--workers -2", "--workers is -2, expected 0 to 64, or -1"),
    ],
)
def test_what_is_refused(parse: Callable, script: ModuleType, arguments: str, message: str):
    with pytest.raises(UserError) as refused:
        parse(script, arguments)
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("script", "option"),
    [
        (compare_solutions, "--data"),
        (compare_solutions, "--folds"),
        (check_dataset, "--out"),
        (check_dataset, "--plausible"),
        (split_dataset, "--out"),
        (val, "--data"),
        (detect, "--data"),
        (benchmark, "--against"),
    ],
)
def test_an_empty_value_is_not_taken_for_none(parse: Callable, script: ModuleType, option: str):
    """As from an unset variable of a shell."""
    with pytest.raises(UserError, match=rf"^{option} is empty; give a value"):
        parse(script, f"{option} ''")


@pytest.mark.parametrize(
    ("command", "tasks", "weights", "in_vain"),
    [
        (val_command, ["classification"], "a.pt", {"conf_thres", "iou_thres", "save_json"}),
        (val_command, ["detection"], "a.pt", set()),
        (val_command, ["detection", "classification"], "a.onnx", {"device", "amp"}),
        (
            val_command,
            ["classification"],
            "a.ONNX",
            {"conf_thres", "iou_thres", "save_json", "device", "amp"},
        ),
        (
            detect_command,
            ["classification"],
            "a.pt",
            {"conf_thres", "iou_thres", "max_det", "save_crop"},
        ),
        (detect_command, ["detection"], "a.pt", {"view_thres"}),
        (detect_command, ["detection", "classification"], "a.onnx", {"device"}),
    ],
)
def test_what_a_model_has_no_use_for(
    caplog, command: ModuleType, tasks: list[str], weights: str, in_vain: set[str]
):
    idle = command.without_effect(SimpleNamespace(tasks=tasks), weights)
    assert set(idle) == in_vain
    warn_without_effect([*in_vain, "name"], idle)
    assert len(caplog.messages) == len(in_vain) and all(
        weights in message for message in caplog.messages
    )


@pytest.mark.parametrize("name", ["", " "])
def test_no_device_is_refused(name: str):
    with pytest.raises(
        UserError, match=r"^--device is '', expected auto, cpu or a CUDA device's number"
    ):
        select_device(name)
