"""Every number of every script: none is too large, too small or too odd for one clear line."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Iterator

import pytest

import benchmark
from docs.options_page import SCRIPTS
from utils.core.arguments import ScriptParser
from utils.core.script import UserError
from utils.core.settings import number, whole_number

ODD = [
    str(2**63),
    str(2**64 * 32),
    "9" * 400,
    "9" * 5000,
    "nan",
    "inf",
    "1e400",
    "",
    "x",
]


def number_options() -> Iterator[tuple[str, str]]:
    """Script and option of every number, and of what is made of a text by another function."""
    for script in SCRIPTS:
        for action in importlib.import_module(script).build_parser()._actions:
            if action.option_strings and action.type is not None and makes_number(action):
                yield script, action.option_strings[0]


def makes_number(action: argparse.Action) -> bool:
    try:
        return isinstance(action.type("64"), int | float)
    except argparse.ArgumentTypeError:  # of a range without 64
        return True


OPTIONS = list(number_options())


def test_there_are_numbers_in_most_scripts():
    assert len({script for script, _ in OPTIONS}) >= 8 and len(OPTIONS) > 30


@pytest.mark.parametrize(("script", "option"), OPTIONS)
def test_a_number_is_checked_as_it_is_read(script: str, option: str):
    parser = importlib.import_module(script).build_parser()
    for action in parser._actions:
        action.required = False
    for group in parser._mutually_exclusive_groups:
        group.required = False
    for text in ODD:
        with pytest.raises(UserError) as error:
            checked(script, parser, [option, text])
        message = str(error.value)
        name = re.sub("^--", "", option).replace("-", "[-_]")
        assert re.match(f"(--)?{name} is ", message) and ", expected" in message, message
        assert "\n" not in message and len(message) < 200


def checked(script: str, parser: ScriptParser, arguments: list[str]) -> None:
    """What the script does with its arguments before it imports torch."""
    given = parser.parse_known_args(arguments)[0]
    if script.startswith("train_"):
        start_checks(script, vars(given))


def start_checks(script: str, given: dict[str, object]) -> None:
    from utils.core.hyperparameters import load_hyperparameters
    from utils.core.options import DualOptions, JointOptions, split_arguments

    kind = {"train_joint_gradnorm": JointOptions, "train_joint_dual_backbone": DualOptions}[script]
    options, hyp = split_arguments(given, kind)
    load_hyperparameters(options.hyp, hyp)


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_reads_numbers_in_another_way(script: str):
    for action in importlib.import_module(script).build_parser()._actions:
        assert action.type not in (int, float), action.option_strings


@pytest.mark.parametrize(
    ("against", "message"),
    [
        ('--amp "off', "--against: '--amp \"off' are no options: no closing quotation; close it"),
        ("--amp 'off", "no closing quotation"),
        ("--amp off\\", "no escaped character"),
        ("--epochs 0", "--against: --epochs is 0, expected at least 1"),
        ("--epochs three", "--against: --epochs is 'three', expected a whole number"),
        ("--imgsz 100", "--against: --imgsz is 100, expected a multiple of 32"),
        ("--colour red", "--against: unrecognized arguments: --colour red"),
        ("--rect --resume", "--against: --resume: the benchmark trains anew"),
        ("off", "--against: unrecognized arguments: off"),
    ],
)
def test_what_the_benchmark_cannot_measure_against(monkeypatch, against: str, message: str):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--against", against])
    with pytest.raises(UserError) as error:
        benchmark.parse_arguments()
    assert message in str(error.value) and "\n" not in str(error.value)


def test_numbers_are_read_as_they_are_written():
    assert whole_number()("-12") == -12 and number()("1e-3") == 0.001
