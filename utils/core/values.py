"""Plain values into dataclasses and back, with names and types checked."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping

from utils.core.script import UserError


def not_text(value: object) -> str:
    """What is wrong with a value of a YAML file that has to be text; empty if nothing is.

    YAML reads `No`, `on`, `12`, `010`, `12:30`, `2024-05-01` and `null` as something else, unless
    they are in quotes.
    """
    if isinstance(value, list | dict | set | tuple):
        return f"is {value!r}, expected text"
    if not isinstance(value, str):
        return f"is {value!r}, expected text; put it in quotes"
    if not value.strip():
        return f"is {value!r}, expected text that is not blank"
    return ""


def from_mapping(cls: type, content: Mapping[str, object]):
    """Build the dataclass `cls` from plain values, checked and converted by its annotations."""
    annotations = typing.get_type_hints(cls)
    for key in content:
        if key not in annotations:
            raise UserError(f"unknown key '{key}'{did_you_mean(key, annotations)}")
    values = {key: _convert(key, value, annotations[key]) for key, value in content.items()}
    return cls(**values)


def is_whole(value: object, low: int, high: float = math.inf) -> bool:
    """Whether a value is an integer (and no bool) from `low` to `high`."""
    return type(value) is int and low <= value <= high


def is_number(value: object, low: float, high: float) -> bool:
    """Whether a value is a number (no bool, no NaN) from `low` to `high`."""
    return type(value) in (int, float) and low <= value <= high


def did_you_mean(key: object, valid: typing.Iterable[str], prefix: str = "") -> str:
    """The nearest of the valid keys as the end of a message; empty if none is near.

    Args:
        prefix: that all keys begin with, so that it makes none of them near.
    """
    names = [name.removeprefix(prefix) for name in valid]
    matches = difflib.get_close_matches(str(key).removeprefix(prefix), names, n=1)
    if not matches:
        return ""
    return f"; did you mean '{prefix}{matches[0]}'?"


def _convert(key: str, value: object, annotation: object) -> object:
    """`value` as the type of the annotation, which may be a union of one type and None."""
    allowed = (annotation,)
    if isinstance(annotation, types.UnionType):
        allowed = typing.get_args(annotation)
    if value is None and types.NoneType in allowed:
        return None
    expected = typing.get_origin(allowed[0]) or allowed[0]
    if expected is float:
        return _to_float(key, value)
    if type(value) is not expected:
        raise UserError(f"{key} is {value!r}, expected {expected.__name__}")
    return value


def _to_float(key: str, value: object) -> float:
    """A number; also one that PyYAML reads as text, such as 1e-3 (no dot)."""
    if not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise UserError(f"{key} is {value!r}, expected a number")


def to_mapping(config: object) -> dict[str, object]:
    """A dataclass as plain values, for YAML and checkpoints."""
    return dataclasses.asdict(config)
