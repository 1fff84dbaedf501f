"""Arguments that several scripts share are checked as they are read."""

from __future__ import annotations

import argparse

import pytest

from utils.core.arguments import (
    MOST_ASKED_WORKERS,
    MOST_SIDE,
    add_workers,
    filled,
    image_side,
    script_parser,
    workers,
)
from utils.core.options import TrainOptions
from utils.core.script import UserError


@pytest.mark.parametrize("text", ["32", "320", str(MOST_SIDE)])
def test_an_image_side_is_a_multiple_of_the_stride(text: str):
    assert image_side(text) == int(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0", "is 0, expected 1 to 16384"),
        ("-32", "is -32, expected 1 to 16384"),
        ("100", "is 100, expected a multiple of 32 (the stride), e.g. 96"),
        ("16416", "is 16416, expected 1 to 16384"),
        ("x", "is 'x', expected a whole number"),
    ],
)
def test_another_side_is_refused(text: str, problem: str):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        image_side(text)
    assert str(error.value) == problem


@pytest.mark.parametrize("count", [-1, 0, 1, MOST_ASKED_WORKERS])
def test_workers_are_some_none_or_as_many_as_there_are_cores(count: int):
    assert workers(str(count)) == count


@pytest.mark.parametrize("text", ["-2", "65", "100000", "9" * 30, "", "two"])
def test_other_workers_are_refused_before_one_is_started(text: str):
    parser = script_parser("")
    add_workers(parser, default=2)
    with pytest.raises(UserError, match=r"^--workers is .*, expected"):
        parser.parse_args(["--workers", text])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--colour", "green"], "argument --colour: invalid choice: 'green'"),
        (["--colour", "red", "--other"], "unrecognized arguments: --other"),
        (["--colour", "red", "--dice"], "unrecognized arguments: --dice"),
        (["--colour", "red", "two\nlines"], "unrecognized arguments: two\\nlines"),
        (
            ["--colour", "red", "--sise", "2"],
            "unrecognized arguments: --sise 2; did you mean '--size'",
        ),
        (
            ["--colour", "red", "--sise=2"],
            "unrecognized arguments: --sise=2; did you mean '--size'",
        ),
        (["--colour"], "argument --colour: expected one argument"),
        ([], "the following arguments are required: --colour"),
    ],
)
def test_what_the_parser_refuses_is_one_line(arguments: list[str], message: str, capsys):
    parser = script_parser("")
    parser.add_argument("--colour", choices=("red", "blue"), required=True)
    parser.add_argument("--size")
    with pytest.raises(UserError) as error:
        parser.parse_args(arguments)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert ("did you mean" in str(error.value)) == ("did you mean" in message)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u3000"])
def test_a_blank_argument_is_empty(text: str):
    with pytest.raises(argparse.ArgumentTypeError, match=r"^is empty; give a value"):
        filled(text)
    with pytest.raises(UserError, match=r"^--data is empty; leave it out for "):
        TrainOptions(data=text)
