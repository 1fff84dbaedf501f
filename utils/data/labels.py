"""One label file -> boxes and a view, or an error that names the file and the line.

The format (blank lines are skipped):

- A detection is `class xc yc w h`, or `class x1 y1 x2 y2 x3 y3 ...` with three or more corners,
  which becomes its bounding box. All coordinates are fractions of the image's width and height.
- The view is the last non-blank line, if it has as many tokens as there are views and all are 0 or
  1, with or without brackets and commas: `0 1 0` or `[0, 1, 0]`. Exactly one token is 1. A line
  that could be read both ways is the view, since no real box is made of zeros and ones only.
- No detection: a true negative. No view: the frame counts for detection only.
- A line that can only be several whose line breaks were lost is an error; see
  `utils.data.line_breaks`.
- A line that can only be a box and keypoints is an error; see `utils.data.keypoints`.
- A box that reaches outside of the image is cut off at its edges; `FrameLabels.cut_boxes` counts.
- Rows that are identical count once (`without_repeats`): the same class, and numbers that agree to
  1e-6, however they were written. Two classes for one box are two boxes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from utils.core.script import UserError
from utils.core.user_file import read_regular
from utils.data.boxes import xywh_to_xyxy, xyxy_to_xywh
from utils.data.keypoints import keypoints_in
from utils.data.line_breaks import BOX_VALUES, LineKind, crosses_itself, is_rectangle, line_kind

UNKNOWN_VIEW = -1
MOST_BYTES = 1 << 24  # of a label file
# Of a clip's labelled frames: a view with no more than that does not decide the clip.
MAJORITY = Fraction(3, 5)
MOST_OUTSIDE = 0.05  # of a box's area, which rounding and a hand's tremble explain
TOLERANCE = 1e-3  # how far outside [0, 1] a coordinate may lie and still be clipped
SAME = 1e-6  # by how much the numbers of identical rows may differ: the last digit that tools write
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BRACKETS = re.compile(r"[\[\](),]")


class LabelError(UserError):
    """A label file that breaks the format; the message names file, line, found and expected."""


@dataclass(frozen=True)
class FrameLabels:
    """What is known of one frame.

    Attributes:
        boxes: (n, 5) float64: class, xc, yc, w, h as fractions of the image.
        view: column of the one-hot view line, or -1 if there is none.
        cut_boxes: how many of them reached far outside of the image, see `MOST_OUTSIDE`, and were
            cut off at its edges.
    """

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 5)))
    view: int = UNKNOWN_VIEW
    cut_boxes: int = 0


def majority_view(votes: Sequence[int]) -> int:
    """The view of more than `MAJORITY` of a clip's labelled frames; -1 where there is none.

    Args:
        votes: (views,) frames that show each view.
    """
    best = int(np.argmax(votes))
    if votes[best] > MAJORITY * sum(votes):
        return best
    return UNKNOWN_VIEW


def read_label_file(path: Path, class_count: int, view_count: int) -> FrameLabels:
    """Parse the label file at `path`.

    Raises:
        LabelError: unreadable, see `read_label_text`, or breaks the format.
    """
    return parse_labels(read_label_text(path), class_count, view_count, str(path))


def read_label_text(path: Path) -> str:
    """The text of the label file at `path`.

    Raises:
        LabelError: unreadable, or no UTF-8.
    """
    try:
        return read_regular(path, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = len(re.split(rb"\r\n|\n|\r", error.object[: error.start]))
        found = f"a byte that is not UTF-8, 0x{error.object[error.start]:02x}"
        raise LabelError(f"{path}:{number}: found {found}, expected a text file") from None
    except OSError as error:
        raise LabelError(
            f"{path}: cannot be read: {error.strerror}; expected a text file"
        ) from None


def parse_labels(
    text: str, class_count: int, view_count: int, source: str = "<text>"
) -> FrameLabels:
    """Parse a label file's text; `source` is named in errors.

    Raises:
        LabelError: the text breaks the format.
    """
    lines = _numbered_lines(text)
    view = UNKNOWN_VIEW
    try:
        if _ends_in_view(lines, view_count):
            number, line = lines.pop()
            view = _parse_view(line, view_count)
        boxes = []
        cut_boxes = 0
        for number, line in lines:
            boxes.append(_parse_detection(line, class_count, view_count))
            cut_boxes += _reaches_outside(line.split())
            is_last = number == lines[-1][0]
            if view == UNKNOWN_VIEW and is_last:
                _refuse_several_lines(line, class_count, view_count)
            else:
                _refuse_several_lines(line, class_count, view_count=0)
    except ValueError as error:
        raise LabelError(f"{source}:{number}: {error}") from None
    return FrameLabels(np.array(boxes, dtype=np.float64).reshape(-1, 5), view, cut_boxes)


def _numbered_lines(text: str) -> list[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers from 1."""
    lines = enumerate(re.split(r"\r\n|\n|\r", text), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def _ends_in_view(lines: list[tuple[int, str]], view_count: int) -> bool:
    return bool(lines) and view_count > 0 and _looks_like_view(lines[-1][1], view_count)


def without_repeats(labels: FrameLabels) -> FrameLabels:
    """Of rows that are identical the first only; the same object where there are none."""
    boxes = labels.boxes
    # Only rows of almost the same centre are compared, so that thousands of rows take no minute.
    centres = boxes[:, 1]
    order = np.argsort(centres, kind="stable")
    first = np.searchsorted(centres, centres - 2 * SAME, sorter=order)
    end = np.searchsorted(centres, centres + 2 * SAME, side="right", sorter=order)
    is_kept = np.ones(len(boxes), bool)
    for number in np.flatnonzero(end - first > 1):
        near = order[first[number] : end[number]]
        earlier = near[(near < number) & is_kept[near]]
        differences = abs(boxes[earlier] - boxes[number]).max(axis=1, initial=0)
        is_kept[number] = not (differences <= SAME).any()
    if is_kept.all():
        return labels
    return replace(labels, boxes=boxes[is_kept])


def same_boxes(boxes: np.ndarray) -> list[tuple[int, int]]:
    """The classes of every two rows of (n, 5) `boxes` that are one box with two classes."""
    found = []
    for number, row in enumerate(boxes):
        later = boxes[number + 1 :]
        same = abs(later[:, 1:] - row[1:]).max(axis=1, initial=0) <= SAME
        found += [(int(row[0]), int(other)) for other in later[same, 0]]
    return found


def doubtful_lines(text: str, class_count: int, view_count: int) -> list[str]:
    """What a person should look at in the text of a valid label file.

    Lines that may be several whose breaks were lost, and outlines that cross themselves.
    """
    lines = _numbered_lines(text)
    values_of_view = view_count  # that the last line may hold beside boxes
    if _ends_in_view(lines, view_count):
        lines.pop()
        values_of_view = 0
    doubts = []
    for place, (number, line) in enumerate(lines, start=1):
        is_last = place == len(lines)
        doubt = _doubt(line.split(), class_count, values_of_view * is_last)
        if doubt:
            doubts.append(f"line {number}{doubt}")
    return doubts


def _doubt(tokens: list[str], class_count: int, view_count: int) -> str:
    """What is doubtful about a line, to be put after its number; empty if nothing is."""
    if len(tokens) == BOX_VALUES:
        return ""
    kind, what = line_kind(tokens, class_count, view_count)
    if kind is not LineKind.ONE_LINE:
        return f" may be {what} on one line"
    kind, count = keypoints_in(tokens)
    if kind is not LineKind.ONE_LINE:
        return f" may be a box and {count} keypoints, taken as an outline"
    corners = np.array([float(token) for token in tokens[1:]]).reshape(-1, 2)
    if not is_rectangle(corners) and crosses_itself(corners):
        return ": the outline crosses itself"
    return ""


def label_text(labels: FrameLabels, view_count: int) -> str:
    """The text of a label file that `parse_labels` reads as `labels`, every number in full.

    A box has an area above zero and its edges in the image.
    """
    lines = []
    for class_number, *box in labels.boxes.tolist():
        lines.append(" ".join(map(str, (int(class_number), *box))))
    if labels.view != UNKNOWN_VIEW:
        lines.append(view_line(labels.view, view_count))
    return "".join(f"{line}\n" for line in lines)


def view_line(view: int, view_count: int) -> str:
    """`0 1 0` for the second of three views."""
    return " ".join(str(int(column == view)) for column in range(view_count))


def _looks_like_view(line: str, view_count: int) -> bool:
    if line.startswith(("[", "(")):
        return True
    return _has_values_of_view(_BRACKETS.sub(" ", line).split(), view_count)


def _has_values_of_view(tokens: list[str], view_count: int) -> bool:
    """Whether there are as many tokens as views, and all are 0 or 1."""
    if len(tokens) != view_count:
        return False
    return all(_NUMBER.fullmatch(token) and float(token) in (0, 1) for token in tokens)


def _parse_view(line: str, view_count: int) -> int:
    tokens = _BRACKETS.sub(" ", line).split()
    expected = f"expected a one-hot view: {view_count} values, one of them 1 and the others 0"
    if not _has_values_of_view(tokens, view_count):
        raise ValueError(f"found '{_shorten(line)}', {expected}")
    ones = [column for column, token in enumerate(tokens) if float(token) == 1]
    if len(ones) != 1:
        raise ValueError(f"found {len(ones)} ones in the view '{_shorten(line)}', {expected}")
    return ones[0]


def _parse_detection(line: str, class_count: int, view_count: int) -> list[float]:
    tokens = line.split()
    bad = next((token for token in tokens if not _NUMBER.fullmatch(token)), None)
    if bad is not None:
        raise ValueError(f"found '{_shorten(bad)}', expected a number in a detection line")
    _refuse_keypoints(tokens, line)
    if len(tokens) != 5 and (len(tokens) < 7 or len(tokens) % 2 == 0):
        view = " (a view needs the key cls_names in data.yaml)"
        if view_count:
            view = f", or as the last line a one-hot view of {view_count} values"
        raise ValueError(
            f"found {len(tokens)} values in '{_shorten(line)}', expected 'class xc yc w h' (5), "
            f"'class x1 y1 x2 y2 x3 y3 ...' (7 or more, an odd number){view}"
        )
    class_number = float(tokens[0])
    if not class_count:
        raise ValueError(
            f"found a box, '{_shorten(line)}', expected none, as names in data.yaml is empty"
        )
    if class_number not in range(class_count):
        raise ValueError(
            f"found class {_shorten(tokens[0])}, "
            f"expected a whole number from 0 to {class_count - 1}"
        )
    coordinates = np.array([float(token) for token in tokens[1:]])
    outside = (coordinates < -TOLERANCE) | (coordinates > 1 + TOLERANCE)
    if outside.any():
        found = _shorten(tokens[1 + int(outside.argmax())])
        raise ValueError(f"found coordinate {found}, expected fractions of the image, from 0 to 1")
    return [class_number, *_bounding_box_xywh(coordinates.clip(0, 1))]


def _refuse_keypoints(tokens: list[str], line: str) -> None:
    if len(tokens) == BOX_VALUES:
        return
    kind, count = keypoints_in(tokens)
    if kind is LineKind.SEVERAL_LINES:
        raise ValueError(
            f"found what can only be a box and {count} keypoints in '{_shorten(line)}', "
            "expected the box alone, 'class xc yc w h'"
        )


def _refuse_several_lines(line: str, class_count: int, view_count: int) -> None:
    tokens = line.split()
    if len(tokens) == BOX_VALUES:
        return
    kind, what = line_kind(tokens, class_count, view_count)
    if kind is LineKind.SEVERAL_LINES:
        raise ValueError(
            f"found what can only be {what} in '{_shorten(line)}', expected a line for each"
        )


def _reaches_outside(tokens: list[str]) -> bool:
    """Whether more than `MOST_OUTSIDE` of a box with centre and size lies outside of the image."""
    if len(tokens) != BOX_VALUES:
        return False
    box_xywh = np.array([float(token) for token in tokens[1:]])
    inside = xyxy_to_xywh(xywh_to_xyxy(box_xywh).clip(0, 1))
    return bool(inside[2:].prod() < (1 - MOST_OUTSIDE) * box_xywh[2:].prod())


def _bounding_box_xywh(coordinates: np.ndarray) -> np.ndarray:
    """(4,) xc, yc, w, h or (2k,) corners, in [0, 1] -> (4,) xc, yc, w, h with edges in [0, 1]."""
    if len(coordinates) == 4:
        box = coordinates
        box_xyxy = xywh_to_xyxy(box)
        inside = box_xyxy.clip(0, 1)
        if (inside != box_xyxy).any():
            box = xyxy_to_xywh(inside)
    else:
        corners = coordinates.reshape(-1, 2)
        box = xyxy_to_xywh(np.concatenate((corners.min(axis=0), corners.max(axis=0))))
    if (box[2:] <= 0).any():
        raise ValueError(
            f"found a box {box[2]:g} wide and {box[3]:g} high, expected an area above zero"
        )
    return box


def _shorten(text: str, limit: int = 60) -> str:
    if len(text) <= limit:
        return text
    return text[: limit - 3] + "..."
