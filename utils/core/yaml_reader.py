"""The one place where YAML files are read: plain values, within limits, each key once.

PyYAML by itself accepts files that fill the memory (aliases of aliases), overflow the stack (lists
in lists) or cannot be printed (numbers of thousands of digits), and takes the last of keys that are
there twice.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import yaml

from utils.core.script import UserError
from utils.core.terminal import one_line
from utils.core.user_file import read_regular
from utils.core.values import not_text

MOST_BYTES = 1 << 20
MOST_VALUES = 50_000  # in a file, where each alias counts as what it stands for
DEEPEST = 32  # lists and mappings within each other
LONGEST_NUMBER = 40  # characters
SHOWN_LETTERS = 60

TAGS = "tag:yaml.org,2002:"
MERGE = f"{TAGS}merge"  # of the key `<<`, which may come again
NUMBERS = (f"{TAGS}int", f"{TAGS}float")
PLAIN = (
    *NUMBERS,
    *(f"{TAGS}{name}" for name in ("str", "bool", "null", "timestamp", "seq", "map", "value")),
    MERGE,
)
# What PyYAML raises for a value that its tag does not fit, such as 2024-13-01 or 0x_
MISFITS = (ValueError, LookupError, AttributeError, TypeError, OverflowError)


class PlainSafeLoader(yaml.SafeLoader):
    """PyYAML's safe loader within the limits above; what breaks them is a `UserError`."""

    def __init__(self, text: str):
        super().__init__(text)
        self._depth = 0
        # Node -> values in it, and how deep it is
        self._extents: dict[yaml.Node, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        is_alias = self.check_event(yaml.AliasEvent)
        line = _line(self.peek_event())
        self._depth += 1
        _refuse_deep(self._depth, line)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not is_alias:
            _refuse_odd(node, line)
            self._extents[node] = self._extent(node)
        if node not in self._extents:  # it is not composed to its end
            raise UserError(f"line {line}: an alias of what it lies in; leave it out")
        values, depth = self._extents[node]
        _refuse_deep(self._depth + depth, line)
        if values > MOST_VALUES:
            raise UserError(
                f"line {line}: more than {MOST_VALUES} values, where each alias counts as what it "
                "stands for"
            )
        return node

    def _extent(self, node: yaml.Node) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            return 1, 1
        children = node.value
        if isinstance(node, yaml.MappingNode):
            children = chain.from_iterable(node.value)
        values, depths = 0, 0
        for child in children:
            own_values, own_depth = self._extents[child]
            values += own_values
            depths = max(depths, own_depth)
        return 1 + values, 1 + depths

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[object, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == MERGE:
                continue
            key = self.construct_object(key_node)
            if key in lines:
                raise UserError(
                    f"key {key!r} is there twice, in lines {lines[key]} and {_line(key_node)}; "
                    "leave one of them out"
                )
            lines[key] = _line(key_node)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        try:
            return super().construct_object(node, deep)
        except UserError:
            raise
        except MISFITS as error:
            kind = node.tag.removeprefix(TAGS)
            raise UserError(
                f"line {_line(node)}: '{_shown(str(node.value))}' is no {kind} ({error}); "
                "put it in quotes if it is text"
            ) from None


def _line(place: yaml.Node | yaml.Event) -> int:
    return place.start_mark.line + 1


def _shown(text: str) -> str:
    if len(text) > SHOWN_LETTERS:
        text = f"{text[: SHOWN_LETTERS - 3]}..."
    return one_line(text)


def _refuse_deep(depth: int, line: int) -> None:
    if depth > DEEPEST:
        raise UserError(f"line {line}: more than {DEEPEST} lists and mappings within each other")


def _refuse_odd(node: yaml.Node, line: int) -> None:
    """Raise a `UserError` for a tag of what is no plain value, a long number, or odd text."""
    if node.tag not in PLAIN:
        tag = _shown(node.tag.replace(TAGS, "!!"))
        raise UserError(
            f"line {line}: the tag {tag}, expected text, numbers, lists and mappings without one"
        )
    if not isinstance(node, yaml.ScalarNode):
        return
    letters = len(node.value)
    if node.tag in NUMBERS and letters > LONGEST_NUMBER:
        raise UserError(
            f"line {line}: a number of {letters} characters, expected at most {LONGEST_NUMBER}; "
            "put it in quotes if it is text"
        )
    if "\0" in node.value:
        raise UserError(f"line {line}: '{_shown(node.value)}' holds a NUL, which no text needs")
    if _has_half_characters(node.value):
        raise UserError(
            f"line {line}: '{_shown(node.value)}' holds half a character; "
            "write the character itself, in UTF-8"
        )


def _has_half_characters(text: str) -> bool:
    """Whether the text has others than those that stand for bytes of a file's name."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return True
    return False


def read_yaml_mapping(path: Path, hint: str) -> dict[str, object]:
    """The mapping in a YAML file.

    Raises:
        UserError: no such file, not YAML within the limits, not a mapping, or one with keys that
            are no text or there twice.
    """
    try:
        content = yaml.load(_text_of(path), Loader=PlainSafeLoader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {hint}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; {hint}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: not readable as YAML: {_in_words(error)}") from None
    if content is None:
        raise UserError(f"{path}: is empty, expected 'key: value' lines; {hint}")
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: found {type(content).__name__}, expected 'key: value' lines; {hint}"
        )
    for key in content:
        problem = not_text(key)
        if problem:
            raise UserError(f"{path}: key {problem}")
    return content


def _in_words(error: Exception) -> str:
    """What PyYAML found, and in which line, without its drawing of the place."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    parts = [part for part in (error.context, error.problem) if part]
    return f"line {error.problem_mark.line + 1}: {', '.join(parts)}"


def _text_of(path: Path) -> str:
    try:
        return read_regular(path, MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"byte {error.start} is not UTF-8; expected YAML, saved as UTF-8") from None
