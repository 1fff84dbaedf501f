"""Whether a line of a label file is several lines whose breaks were lost.

An odd number of values, seven or more, is a polygon. It may as well be what several lines held: `0
.5 .5 .2 .2 0 1` a box and the view of two, fifteen values three boxes. Two readings are told apart
by what a drawn outline looks like:

- A view at the end would be one or more exact corners of the image. An outline that has these comes
  to them, and leaves them, along the edges of the image.
- Boxes would be cut where class numbers stand, `0` or `1` without a decimal point, and each would
  be a box by itself. An outline does not have them there and nowhere else, unless it crosses
  itself.

Where the last line break is lost altogether, not only replaced by a space, the view's first digit
is the last one of the value before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

BOX_VALUES, RECTANGLE_VALUES = 5, 9  # class with xywh, or with four corners
NEAR_EDGE = 0.02  # of the image's side: an outline this near to an edge runs along it
EQUAL = 1e-6  # coordinates that differ by no more are one
MOST_CORNERS = 1000


class Verdict(Enum):
    """What a line is."""

    ONE_LINE = "one line"
    DOUBTFUL = "one line, or several"
    SEVERAL_LINES = "several lines"


def judge_line(tokens: Sequence[str], class_count: int, view_count: int) -> tuple[Verdict, str]:
    """Whether a line of numbers is several lines, and what these would be, such as "3 boxes".

    Args:
        tokens: class and corners, each within the image: an odd number of values, at least seven.
        view_count: values of a view that may be at the line's end; 0 where none can be there.
    """
    judged = _judge_rows(tokens, class_count, view_count), _judge_view(tokens, view_count)
    return max(judged, key=lambda verdict_and_words: list(Verdict).index(verdict_and_words[0]))


def _judge_view(tokens: Sequence[str], view_count: int) -> tuple[Verdict, str]:
    """Whether the line is one box, or outline, and the view."""
    found = Verdict.ONE_LINE, ""
    tail = (
        view_count - view_count % 2
    )  # values that would be corners; without the digit that is a part of another
    if tail < 2 or len(tokens) - tail < BOX_VALUES:
        return found
    head, ends = tokens[: len(tokens) - tail], list(tokens[len(tokens) - tail :])
    if view_count % 2:
        ends.insert(0, head[-1][-1] if "." in head[-1] else "")
    values = np.array([float(token) for token in head])
    if not _is_one_hot(ends) or (len(head) == BOX_VALUES and values[3:].min() <= 0):
        return found
    corners = np.array([float(token) for token in tokens[1:]]).reshape(-1, 2)
    sides = _sides_along_an_edge(corners, len(corners) - tail // 2)
    is_box = _is_inside(values) if len(head) == BOX_VALUES else is_rectangle(corners[: -tail // 2])
    if sides == 2:
        return found
    what = "a box and a view" if is_box or len(head) == BOX_VALUES else "an outline and a view"
    return (Verdict.SEVERAL_LINES if sides == 0 or is_box else Verdict.DOUBTFUL), what


def _sides_along_an_edge(corners: np.ndarray, first: int) -> int:
    """Of the two sides by which an outline comes to its last corners, `first` and later, and leaves them."""
    if len(corners) - first > 2:  # of more than two corners of a view, some are equal
        return 0
    pairs = (corners[first - 1], corners[first]), (corners[0], corners[-1])
    return sum(bool((abs(other - corner) <= NEAR_EDGE).any()) for other, corner in pairs)


def _judge_rows(tokens: Sequence[str], class_count: int, view_count: int) -> tuple[Verdict, str]:
    """Whether the line is several boxes, and perhaps the view."""
    boxes, has_view = _cut(tokens, {str(number) for number in range(class_count)}, view_count)
    if boxes < 2:
        return Verdict.ONE_LINE, ""
    what = f"{boxes} boxes and a view" if has_view else f"{boxes} boxes"
    has_other_whole_values = (
        sum(token.isdecimal() for token in tokens) > boxes + has_view * view_count
    )
    corners = np.array([float(token) for token in tokens[1:]]).reshape(-1, 2)
    is_certain = not has_other_whole_values or crosses_itself(corners)
    return (Verdict.SEVERAL_LINES if is_certain else Verdict.DOUBTFUL), what


def _cut(tokens: Sequence[str], classes: set[str], view_count: int) -> tuple[int, bool]:
    """Into how many boxes the tokens can be cut, and whether there is a view at their end; 0 if they cannot be cut."""
    cuts = {len(tokens): (0, False)}  # start -> what can be made of the tokens from there on
    if view_count and _is_one_hot(tokens[-view_count:]):
        cuts[len(tokens) - view_count] = (0, True)
    for start in range(len(tokens) - BOX_VALUES, -1, -1):
        for length in (BOX_VALUES, RECTANGLE_VALUES):
            rest = cuts.get(start + length)
            if rest and tokens[start] in classes and _is_box(tokens[start : start + length]):
                cuts[start] = rest[0] + 1, rest[1]
    return cuts.get(0, (0, False))


def _is_one_hot(tokens: Sequence[str]) -> bool:
    return sorted(tokens) == ["0"] * (len(tokens) - 1) + ["1"]


def _is_box(row: Sequence[str]) -> bool:
    values = np.array([float(token) for token in row])
    return _is_inside(values) if len(row) == BOX_VALUES else is_rectangle(values[1:].reshape(-1, 2))


def _is_inside(row: np.ndarray) -> bool:
    """(5,) class, xc, yc, w, h: whether that is a box whose centre, at least, is not on the image's edge."""
    centre, size = row[1:3], row[3:]
    return bool((size > 0).all() and (centre > 0).all() and (centre < 1).all())


def is_rectangle(corners: np.ndarray) -> bool:
    """Whether (k, 2) corners are the four of an upright rectangle, in any order."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    is_high = abs(corners - high) <= EQUAL
    is_low = abs(corners - low) <= EQUAL
    if len(corners) != 4 or not (is_low ^ is_high).all():
        return False
    return len(np.unique(is_high, axis=0)) == 4


def crosses_itself(corners: np.ndarray) -> bool:
    """Whether two sides of the closed outline through (k, 2) corners cross, other than in a corner.

    Of more corners than `MOST_CORNERS`, whose pairs of sides are too many to look at, it is not
    said.
    """
    if len(corners) > MOST_CORNERS:
        return False
    start, end = corners, np.roll(corners, -1, axis=0)
    first, second = np.triu_indices(len(corners), k=1)

    def turns(point: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Which side of the line through `side` a point is on: its sign."""
        along, across = end[side] - start[side], point - start[side]
        return np.sign(along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0])

    parted = turns(start[second], first) * turns(end[second], first) < 0
    return bool((parted & (turns(start[first], second) * turns(end[first], second) < 0)).any())
