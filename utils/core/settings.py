"""Settings that are declared once: a dataclass field carries help, choices and range.

The command line (`add_argument`), the checks (`problem_of`) and docs/reference/options.md all read
the declaration.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

TINY = 1e-12  # the least value of what must be above 0
HUGE = 1e12  # the most of what has no limit that matters
MANY = 10**9  # the same of what is counted; random generators take no seed of more than 31 bits
LONGEST_NUMBER = 20  # digits that a message repeats


@dataclass(frozen=True)
class Setting:
    """What a field's name, type and default do not tell.

    Attributes:
        help: what it sets, as a part of a sentence.
        choices: the values that are allowed; empty: any of the type.
        limits: the least and the most that a number may be; the default may lie outside.
        expected: the range in words, where the default's special meaning belongs to it.
        refuses_empty: whether an empty text is an error.
        arguments: further keyword arguments of `ArgumentParser.add_argument`.
    """

    help: str
    choices: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None
    expected: str = ""
    refuses_empty: bool = False
    arguments: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @property
    def allowed(self) -> str:
        """The range in words; empty if every value is allowed."""
        if self.expected or self.limits is None:
            return self.expected
        return range_in_words(*self.limits)


def range_in_words(least: float, most: float) -> str:
    """`at least 1`, `above 0`, `0 to 1`: a `most` that does not matter is not named."""
    if (least, most) == (-HUGE, HUGE):
        return "a finite number"
    if most >= MANY:
        if least == TINY:
            return "above 0"
        return f"at least {least:g}"
    if least == TINY:
        return f"above 0, at most {most:g}"
    return f"{least:g} to {most:g}"


def whole_number(least: int = -MANY, most: int = MANY) -> Callable[[str], int]:
    """The type of every option that is a whole number, for `ArgumentParser.add_argument`.

    Its errors go on after the option's name: "is 0, expected at least 1".
    """

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:  # also of thousands of digits, which Python does not convert
            raise argparse.ArgumentTypeError(
                f"is {_cut(repr(text))}, expected a whole number"
            ) from None
        return _within(value, least, most)

    return parse


def number(least: float = -HUGE, most: float = HUGE) -> Callable[[str], float]:
    """The same of every option that is a number; NaN and infinity are refused."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"is {_cut(repr(text))}, expected a number") from None
        return _within(value, least, most)

    return parse


def _within(value: float, least: float, most: float) -> float:
    """The value, if it is from `least` to `most`."""
    if least <= value <= most:
        return value
    raise argparse.ArgumentTypeError(_out_of_range(value, least, most))


def _out_of_range(value: float, least: float, most: float, allowed: str = "") -> str:
    """What is wrong with a value that is not from `least` to `most`."""
    if value > most >= MANY:
        return f"is {_cut(str(value))}, expected at most {most:.0f}"
    return f"is {_cut(str(value))}, expected {allowed or range_in_words(least, most)}"


def _cut(text: str) -> str:
    if len(text) <= LONGEST_NUMBER:
        return text
    return f"{text[:LONGEST_NUMBER]}... ({len(text)} characters)"


def setting(default: object, help: str, **declared: object) -> typing.Any:
    """A dataclass field with a default, and a `Setting` of `help` and `declared` as its metadata.

    The result stands for the default in a class body, so its type is whatever the field's is.
    """
    metadata = {"setting": Setting(help, **declared)}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def setting_of(field: dataclasses.Field) -> Setting:
    return field.metadata["setting"]


def default_of(field: dataclasses.Field) -> object:
    """The default, made anew where it is a list."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def option_name(name: str) -> str:
    """A field's name as it is on the command line: batch_size -> --batch-size."""
    return f"--{name.replace('_', '-')}"


def of_options(message: str, given: Collection[str]) -> str:
    """A message on a field, about the option that it was given by.

    Args:
        message: may begin with the field's name.
        given: the fields that were given on the command line.
    """
    name, space, rest = message.partition(" ")
    if name in given:
        name = option_name(name)
    return f"{name}{space}{rest}"


def problem_of(field: dataclasses.Field, value: object) -> str:
    """What a value breaks of a field's declaration, in words; empty if nothing.

    The default is always allowed. The items of a list are not checked.
    """
    declared = setting_of(field)
    if value == default_of(field):
        return ""
    if declared.refuses_empty and not str(value).strip():
        return f"is empty; leave it out for {default_of(field)}"
    if declared.choices and not isinstance(value, list) and value not in declared.choices:
        return f"is {value!r}, expected one of {', '.join(declared.choices)}"
    if declared.limits is None or value is None:
        return ""
    least, most = declared.limits
    if least <= value <= most:
        return ""
    return _out_of_range(value, least, most, declared.expected)


def add_argument(
    parser: argparse._ActionsContainer, config: type, name: str, default: str | None = None
) -> None:
    """Offer the field `name` of the dataclass `config` as an option.

    Args:
        parser: an argument parser, or a group of one.
        default: in words, where it is not the field's.
    """
    field = config.__dataclass_fields__[name]
    declared = setting_of(field)
    arguments = dict(declared.arguments)
    value_type = typing.get_type_hints(config)[name]
    if value_type is bool:
        arguments.setdefault("action", "store_true")
    else:
        arguments.setdefault("type", argument_type(value_type))
        if declared.choices:
            arguments["choices"] = declared.choices
    arguments["help"] = help_text(field, default)
    parser.add_argument(option_name(name), **arguments)


def plain_type(value_type: object) -> type:
    """int, float or str: the type of one value of `int`, `float | None` or `list[str]`."""
    first, *_ = typing.get_args(value_type) or [value_type]
    return first


def argument_type(value_type: object) -> Callable[[str], object]:
    """What makes a value of the text on a command line; ranges are checked with the dataclass."""
    plain = plain_type(value_type)
    return {int: whole_number(), float: number()}.get(plain, plain)


def help_text(field: dataclasses.Field, default: str | None = None) -> str:
    """Meaning, range and default of an option in one line."""
    declared = setting_of(field)
    text = declared.help
    if declared.allowed:
        text = f"{text}; {declared.allowed}"
    if default is None:
        default = shown(default_of(field))
    if default:
        text = f"{text} (default: {default})"
    return text


def shown(default: object) -> str:
    """A default as it would be given; empty where it stands for "not given"."""
    if default is None or default is False:
        return ""
    if isinstance(default, list):
        return " ".join(default)
    return str(default)
