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

BOX_VALUES = 5  # class and xywh
RECTANGLE_VALUES = 9  # class and four corners
NEAR_EDGE = 0.02  # of the image's side: an outline this near to an edge runs along it
EQUAL = 1e-6  # coordinates that differ by no more are one
MOST_CORNERS = 1000


class LineKind(Enum):
    """What a line is."""

    ONE_LINE = 0
    DOUBTFUL = 1  # one line, or several
    SEVERAL_LINES = 2


Finding = tuple[LineKind, str]  # and what the several lines would be, such as "3 boxes"


def line_kind(tokens: Sequence[str], class_count: int, view_count: int) -> Finding:
    """Whether a line of numbers is several lines, and what these would be.

    Args:
        tokens: class and corners, each within the image: an odd number of values, at least seven.
        view_count: values of a view that may be at the line's end; 0 where none can be there.
    """
    as_boxes = _read_as_boxes(tokens, class_count, view_count)
    as_one_and_view = _read_as_one_and_view(tokens, view_count)
    return max(as_boxes, as_one_and_view, key=lambda finding: finding[0].value)


def _read_as_one_and_view(tokens: Sequence[str], view_count: int) -> Finding:
    """Whether the line is one box, or outline, and the view."""
    nothing = LineKind.ONE_LINE, ""
    # Values that would be corners: without the digit that is a part of another value.
    tail = view_count - view_count % 2
    if tail < 2 or len(tokens) - tail < BOX_VALUES:
        return nothing
    head = tokens[:-tail]
    ends = list(tokens[-tail:])
    if view_count % 2:
        ends.insert(0, _last_digit(head[-1]))
    values = np.array([float(token) for token in head])
    has_box_values = len(head) == BOX_VALUES
    if not _is_one_hot(ends) or (has_box_values and values[3:].min() <= 0):
        return nothing
    corners = _corners(tokens)
    sides = _sides_along_an_edge(corners, len(corners) - tail // 2)
    if sides == 2:
        return nothing
    if has_box_values:
        is_box = _is_inside(values)
    else:
        is_box = is_rectangle(corners[: -tail // 2])
    what = "an outline and a view"
    if is_box or has_box_values:
        what = "a box and a view"
    if is_box or sides == 0:
        return LineKind.SEVERAL_LINES, what
    return LineKind.DOUBTFUL, what


def _last_digit(token: str) -> str:
    """The last digit of a number with a decimal point; empty for others."""
    if "." not in token:
        return ""
    return token[-1]


def _corners(tokens: Sequence[str]) -> np.ndarray:
    """Class and corners -> (k, 2) corners."""
    return np.array([float(token) for token in tokens[1:]]).reshape(-1, 2)


def _sides_along_an_edge(corners: np.ndarray, first: int) -> int:
    """How many of two sides of an outline run along an edge of the image.

    They are the sides by which the outline comes to its last corners, `first` and later, and leaves
    them.
    """
    if len(corners) - first > 2:  # of more than two corners of a view, some are equal
        return 0
    pairs = (corners[first - 1], corners[first]), (corners[0], corners[-1])
    return sum(bool((abs(other - corner) <= NEAR_EDGE).any()) for other, corner in pairs)


def _read_as_boxes(tokens: Sequence[str], class_count: int, view_count: int) -> Finding:
    """Whether the line is several boxes, and perhaps the view."""
    classes = {str(number) for number in range(class_count)}
    boxes, has_view = _cut(tokens, classes, view_count)
    if boxes < 2:
        return LineKind.ONE_LINE, ""
    what = f"{boxes} boxes"
    whole_values = boxes
    if has_view:
        what += " and a view"
        whole_values += view_count
    has_others = sum(token.isdecimal() for token in tokens) > whole_values
    if has_others and not crosses_itself(_corners(tokens)):
        return LineKind.DOUBTFUL, what
    return LineKind.SEVERAL_LINES, what


def _cut(tokens: Sequence[str], classes: set[str], view_count: int) -> tuple[int, bool]:
    """Into how many boxes the tokens can be cut, and whether a view is at their end.

    No boxes if they cannot be cut.
    """
    cuts = {len(tokens): (0, False)}  # start -> what can be made of the tokens from there on
    if view_count and _is_one_hot(tokens[-view_count:]):
        cuts[len(tokens) - view_count] = (0, True)
    for start in range(len(tokens) - BOX_VALUES, -1, -1):
        for length in (BOX_VALUES, RECTANGLE_VALUES):
            end = start + length
            if end not in cuts or tokens[start] not in classes:
                continue
            if _is_box(tokens[start:end]):
                boxes, has_view = cuts[end]
                cuts[start] = boxes + 1, has_view
    return cuts.get(0, (0, False))


def _is_one_hot(tokens: Sequence[str]) -> bool:
    return sorted(tokens) == ["0"] * (len(tokens) - 1) + ["1"]


def _is_box(row: Sequence[str]) -> bool:
    values = np.array([float(token) for token in row])
    if len(row) == BOX_VALUES:
        return _is_inside(values)
    return is_rectangle(values[1:].reshape(-1, 2))


def _is_inside(row: np.ndarray) -> bool:
    """(5,) class, xc, yc, w, h: whether that is a box whose centre is inside the image."""
    centre = row[1:3]
    size = row[3:]
    return bool((size > 0).all() and (centre > 0).all() and (centre < 1).all())


def is_rectangle(corners: np.ndarray) -> bool:
    """Whether (k, 2) corners are the four of an upright rectangle, in any order."""
    low = corners.min(axis=0)
    high = corners.max(axis=0)
    is_high = abs(corners - high) <= EQUAL
    is_low = abs(corners - low) <= EQUAL
    if len(corners) != 4 or not (is_low ^ is_high).all():
        return False
    return set((is_high @ (1, 2)).tolist()) == {0, 1, 2, 3}


def crosses_itself(corners: np.ndarray) -> bool:
    """Whether two sides of the closed outline through (k, 2) corners cross, other than in a corner.

    False for more corners than `MOST_CORNERS`, whose pairs of sides are too many to look at.
    """
    if len(corners) > MOST_CORNERS:
        return False
    start = corners
    end = np.roll(corners, -1, axis=0)
    first, second = np.triu_indices(len(corners), k=1)

    def turns(point: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Which side of the line through `side` a point is on: its sign."""
        along = end[side] - start[side]
        across = point - start[side]
        return np.sign(along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0])

    first_parts_second = turns(start[second], first) * turns(end[second], first) < 0
    second_parts_first = turns(start[first], second) * turns(end[first], second) < 0
    return bool((first_parts_second & second_parts_first).any())
