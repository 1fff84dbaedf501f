"""Plain values from YAML into dataclasses and back, with names and types checked."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import yaml

from utils.core.script import UserError

INT_TAG = "tag:yaml.org,2002:int"
LARGEST_INT = 2**63 - 1


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    """A whole number that the libraries which get it can hold."""
    value = loader.construct_yaml_int(node)
    if abs(value) > LARGEST_INT:
        raise UserError(
            f"line {node.start_mark.line + 1}: the whole number {node.value[:20]}... "
            f"({len(node.value)} characters) has more than 63 bits; expected a smaller one"
        )
    return value


class UniqueKeySafeLoader(yaml.SafeLoader):
    """PyYAML's safe loader that refuses a key which is there twice; PyYAML takes the last one.

    Whole numbers of more than 63 bits are refused, too.
    """

    yaml_constructors: ClassVar = yaml.SafeLoader.yaml_constructors | {INT_TAG: _construct_int}

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[object, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == MERGE_TAG:
                continue
            key = self.construct_object(key_node)
            line = key_node.start_mark.line + 1
            if key in lines:
                raise UserError(
                    f"key {key!r} is there twice, in lines {lines[key]} and {line}; "
                    "leave one of them out"
                )
            lines[key] = line
        return node


MERGE_TAG = "tag:yaml.org,2002:merge"  # of the key `<<`, which may come again
# What PyYAML raises for a number or date that is none (0x_, 2024-13-01), an odd tag, or lists in
# lists without end
PYYAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)


def read_yaml_mapping(path: Path, hint: str) -> dict[str, object]:
    """The mapping in a YAML file.

    Raises:
        UserError: no such file, not YAML, not a mapping, or one with keys that are no text or there
            twice.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {hint}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeySafeLoader)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except PYYAML_ERRORS as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: found {type(content).__name__}, expected 'key: value' lines; {hint}"
        )
    for key in content:
        problem = not_text(key)
        if problem:
            raise UserError(f"{path}: key {problem}")
    return content


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


def did_you_mean(key: object, valid: typing.Iterable[str]) -> str:
    """The nearest of the valid keys as the end of a message; empty if there is none."""
    matches = difflib.get_close_matches(str(key), list(valid), n=1, cutoff=0)
    if not matches:
        return ""
    return f"; did you mean '{matches[0]}'?"


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
