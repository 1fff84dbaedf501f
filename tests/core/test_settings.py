"""Settings: what a declaration makes of the command line, of checks and of help."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import pytest

from utils.core.settings import (
    HUGE,
    MANY,
    TINY,
    Setting,
    add_argument,
    help_text,
    number,
    of_options,
    problem_of,
    setting,
    whole_number,
)


@dataclass(frozen=True)
class Example:
    count: int = setting(3, "how many", limits=(1, math.inf))
    total: int = setting(3, "of them", limits=(1, MANY))
    share: float | None = setting(None, "of all", limits=(0, 0.5))
    period: int = setting(
        -1, "epochs between", limits=(1, math.inf), expected="at least 1, or -1 for never"
    )
    colour: str = setting("red", "of the line", choices=("red", "blue"))
    place: str = setting("here", "where", refuses_empty=True)
    names: list[str] = setting(
        ["a"], "of all", choices=("a", "b"), arguments={"nargs": "+", "metavar": "NAME"}
    )
    is_on: bool = setting(False, "switch it on")


FIELDS = Example.__dataclass_fields__


def parsed(*given: str) -> dict[str, object]:
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    for name in FIELDS:
        add_argument(parser, Example, name)
    return vars(parser.parse_args(given))


def test_what_is_not_given_is_absent_and_the_rest_has_the_fields_types():
    assert parsed() == {}
    given = parsed("--count", "5", "--share", "0.25", "--names", "a", "b", "--is-on")
    assert given == {"count": 5, "share": 0.25, "names": ["a", "b"], "is_on": True}
    assert Example(**given) == Example(count=5, share=0.25, names=["a", "b"], is_on=True)


@pytest.mark.parametrize("given", [["--colour", "green"], ["--names", "c"], ["--count", "x"]])
def test_the_parser_refuses_other_choices_and_types(given: list[str], capsys):
    with pytest.raises(SystemExit):
        parsed(*given)
    assert given[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("count", 0, "is 0, expected at least 1"),
        ("count", math.nan, "is nan, expected at least 1"),
        ("share", 0.6, "is 0.6, expected 0 to 0.5"),
        ("total", 10**9 + 1, "is 1000000001, expected at most 1000000000"),
        ("total", 2**80, "is 12089258196146291747... (25 characters), expected at most 1000000000"),
        ("period", 0, "is 0, expected at least 1, or -1 for never"),
        ("colour", "green", "is 'green', expected one of red, blue"),
        ("place", "", "is empty; leave it out for here"),
    ],
)
def test_a_value_that_breaks_a_declaration_is_named(name: str, value: object, problem: str):
    assert problem_of(FIELDS[name], value) == problem


@pytest.mark.parametrize(
    ("name", "value"), [("count", 1), ("share", 0.5), ("share", None), ("period", -1)]
)
def test_limits_and_defaults_are_allowed(name: str, value: object):
    assert not problem_of(FIELDS[name], value)


def test_lists_are_not_shared():
    assert Example().names is not Example().names


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (None, ""),
        ((0, 1), "0 to 1"),
        ((TINY, 1), "above 0, at most 1"),
        ((TINY, HUGE), "above 0"),
        ((0, HUGE), "at least 0"),
        ((1, MANY), "at least 1"),
    ],
)
def test_a_range_in_words(limits: tuple[float, float] | None, words: str):
    assert Setting("", limits=limits).allowed == words


@pytest.mark.parametrize("kind", [whole_number(), number()])
@pytest.mark.parametrize(
    "text", ["", "x", "1e", "0x10", "--", "9" * 40, "9" * 5000, "-" + "9" * 40, "1e400"]
)
def test_what_is_no_number_or_too_large_is_refused_in_few_words(kind, text: str):
    with pytest.raises(argparse.ArgumentTypeError, match=r"^is .*, expected ") as error:
        kind(text)
    assert len(str(error.value)) < 100


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e13"])
def test_a_number_is_finite(text: str):
    with pytest.raises(argparse.ArgumentTypeError, match=r"^is .*, expected "):
        number()(text)


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        (whole_number(1), "0", "is 0, expected at least 1"),
        (whole_number(1), "1.5", "is '1.5', expected a whole number"),
        (whole_number(0, 8), "9", "is 9, expected 0 to 8"),
        (whole_number(0), "1000000001", "is 1000000001, expected at most 1000000000"),
        (number(0, 1), "2", "is 2.0, expected 0 to 1"),
        (number(0, 1), "nan", "is nan, expected 0 to 1"),
        (number(TINY), "0", "is 0.0, expected above 0"),
        (number(), "nan", "is nan, expected a finite number"),
    ],
)
def test_a_value_out_of_range_is_named_with_the_range(kind, text: str, problem: str):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        kind(text)
    assert str(error.value) == problem


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("count", "how many; at least 1 (default: 3)"),
        ("share", "of all; 0 to 0.5"),
        ("names", "of all (default: a)"),
        ("is_on", "switch it on"),
    ],
)
def test_help_has_meaning_range_and_default(name: str, text: str):
    assert help_text(FIELDS[name]) == text


def test_a_message_on_a_field_names_the_option_that_it_was_given_by():
    message = "gradnorm_alpha is -1.0, expected 0 to 10"
    assert of_options(message, {"gradnorm_alpha"}) == f"--{message.replace('m_a', 'm-a')}"
    assert of_options(message, {"lr0"}) == message
    assert of_options("hyp.yaml: lr0 is x", {"lr0"}) == "hyp.yaml: lr0 is x"
