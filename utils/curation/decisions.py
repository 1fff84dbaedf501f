"""Decisions on labels, by a person on the page of doubts or by a machine, and corrected copies.

A file of decisions is JSON:

    {"format": "label-decisions", "version": 1, "names": [...], "cls_names": [...],
     "decided_by": "person",
     "decisions": [
       {"image": "train/images/a.jpg", "subject": "view", "decision": "change", "old": 1, "new": 0},
       {"image": "b.jpg", "subject": "box", "decision": "remove",
        "old": [0, 0.5, 0.5, 0.1, 0.1], "new": null}]}

`image` is a path below the data set's folder. A view is the number of a column; a box is class,
centre, width and height as in a label file. The decisions are `keep`, `change` (a view), and
`remove`, `replace` and `add` (a box); `old` is what the label file must still say.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.files import write_json
from utils.core.script import UserError, errors_in
from utils.core.user_file import read_regular
from utils.curation.clips import copy_labels, replace_view
from utils.data.labels import UNKNOWN_VIEW, FrameLabels, parse_labels
from utils.data.splits import Split

FORMAT, VERSION = "label-decisions", 1
PERSON, MACHINE = "person", "machine"
NEEDED = {  # subject -> decision -> which of old and new there are
    "view": {"keep": {"old"}, "change": {"old", "new"}},
    "box": {
        "keep": set(),
        "remove": {"old"},
        "replace": {"old", "new"},
        "add": {"new"},
    },
}
SAME_BOX = 1e-4  # by how much the numbers of one box may differ: they are rounded in the file
MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class Decision:
    """What was decided on a label; `old` and `new` are a view's number, a box, or None."""

    image: str
    subject: str
    decision: str
    old: int | tuple[float, ...] | None = None
    new: int | tuple[float, ...] | None = None


def write_decisions(
    path: Path, decisions: Sequence[Decision], data: DataConfig, decided_by: str
) -> None:
    """Write a file of decisions."""
    rows = [vars(decision) for decision in decisions]
    write_json(path, head(data, decided_by) | {"decisions": rows})


def head(data: DataConfig, decided_by: str) -> dict[str, object]:
    """What a file of decisions begins with."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "names": list(data.names),
        "cls_names": list(data.view_names),
        "decided_by": decided_by,
    }


def read_decisions(path: Path, data: DataConfig) -> list[Decision]:
    """The decisions in a file.

    Raises:
        UserError: it is no such file, or of other classes or views, or a decision makes no sense.
    """
    try:
        content = json.loads(read_regular(path, MOST_BYTES))
        version = (content["format"], content["version"])
        rows = content["decisions"]
        if not isinstance(rows, list):
            raise TypeError(f"its decisions are {reprlib.repr(rows)}, not a list")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: no file of decisions ({error}); "
            "expected what the page of doubts saves, or check_dataset.py writes"
        ) from None
    if version != (FORMAT, VERSION):
        raise UserError(f"{path}: found {version}, expected {(FORMAT, VERSION)}; decide again")
    for key, expected in head(data, PERSON).items():
        if key in ("names", "cls_names") and content.get(key) != expected:
            raise UserError(
                f"{path}: {key} is {content.get(key)}, but {data.source} has {expected}; "
                "name the data set that the labels are of"
            )
    decisions = []
    for number, row in enumerate(rows, start=1):
        with errors_in(f"{path}: decision {number}"):
            decisions.append(_decision(row, data))
    return decisions


def _decision(row: object, data: DataConfig) -> Decision:
    try:
        found = Decision(**row)
        needed = NEEDED[found.subject][found.decision]
    except (TypeError, LookupError):
        shown = reprlib.repr(row)
        raise UserError(f"is {shown}, expected image, subject, decision, old and new") from None
    if not isinstance(found.image, str):
        raise UserError(f"image is {reprlib.repr(found.image)}, expected a path")
    values = {}
    for key in ("old", "new"):
        value = getattr(found, key)
        if value is None and key in needed:
            raise UserError(f"{found.decision} needs '{key}'")
        if value is not None and key not in needed and found.decision != "keep":
            raise UserError(f"{found.decision} has no '{key}', found {reprlib.repr(value)}")
        if value is not None:
            values[key] = _value(value, found.subject, key, data)
    return replace(found, **values)


def _value(value: object, subject: str, key: str, data: DataConfig) -> int | tuple[float, ...]:
    """A view or a box, checked."""
    if subject == "view":
        least = 0
        if key == "old":
            least = UNKNOWN_VIEW
        if type(value) is not int or not least <= value < len(data.view_names):
            last = len(data.view_names) - 1
            shown = reprlib.repr(value)
            raise UserError(f"{key} is {shown}, expected a view's number, {least} to {last}")
        return value
    try:
        line = " ".join(f"{number:.8f}" for number in value)
        (row,) = parse_labels(line, len(data.names), 0).boxes
    except (TypeError, ValueError, OverflowError):
        shown = reprlib.repr(value)
        raise UserError(
            f"{key} is {shown}, expected a box: class, centre, width and height, 0 to 1"
        ) from None
    return tuple(row.tolist())


def decided(
    frames: Split, decisions: Sequence[Decision], data: DataConfig
) -> tuple[Split, dict[Path, list[Decision]]]:
    """The frames with their labels as decided, and what changes in each image's label file.

    Raises:
        UserError: an image is not in the data set, or its label is not what it was.
    """
    place = {image_name(image, data): number for number, image in enumerate(frames.images)}
    labels = list(frames.labels)
    changes: dict[Path, list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.decision == "keep":
            continue
        if decision.image not in place:
            raise UserError(
                f"{data.source}: no image {decision.image}, which was decided on; "
                "name the data set that the labels are of"
            )
        number = place[decision.image]
        with errors_in(decision.image):
            labels[number] = _changed(labels[number], decision)
        changes[frames.images[number]].append(decision)
    return replace(frames, labels=tuple(labels)), changes


def image_name(image: str | Path, data: DataConfig) -> str:
    """How a decision names an image: its path below the data set's folder."""
    return Path(os.path.relpath(image, data.root)).as_posix()


def _changed(labels: FrameLabels, decision: Decision) -> FrameLabels:
    """Labels after a decision.

    Raises:
        UserError: they are not what was decided on.
    """
    if decision.subject == "view":
        if labels.view != decision.old:
            raise UserError(
                f"its view is {labels.view}, but {decision.old} when that was decided; decide again"
            )
        return replace(labels, view=decision.new)
    boxes = labels.boxes
    if decision.old is not None:
        is_old = _same_boxes(boxes, decision.old)
        if not is_old.any():
            raise UserError("the box that was decided on is not there any more; decide again")
        boxes = boxes[~is_old]
    if decision.new is not None:
        boxes = np.vstack((boxes, decision.new))
    return replace(labels, boxes=boxes)


def _same_boxes(boxes: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """(n,) bool: which of the boxes (n, 5) are this one."""
    return (np.abs(boxes - np.array(box)) <= SAME_BOX).all(axis=1)


def write_decided(
    folder: Path, data: DataConfig, frames: Split, changes: Mapping[Path, Sequence[Decision]]
) -> None:
    """Copy the label files to where `labels: folder` finds them, changed where it was decided.

    Args:
        frames: with the labels that the files have now.
        changes: of `decided`.
    """
    labels = dict(zip(frames.images, frames.labels, strict=True))

    def change(image: Path, content: bytes) -> bytes:
        # Boxes first: they stand before a view, which a decision may add
        for decision in sorted(changes.get(image, ()), key=lambda own: own.subject):
            content = corrected(content, labels[image].view != UNKNOWN_VIEW, decision, data)
        return content

    copy_labels(folder, data, frames.images, change, changes)


def corrected(content: bytes, had_view: bool, decision: Decision, data: DataConfig) -> bytes:
    """A valid label file's bytes after a decision; all other lines stay as they are.

    Args:
        had_view: the last non-blank line is a view.
    """
    if decision.subject == "view":
        return replace_view(content, had_view, decision.new, len(data.view_names))
    lines = re.split(r"(?<=\n)|(?<=\r)(?!\n)", content.decode("utf-8-sig"))
    lines = [line for line in lines if line]
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += "\n"
    not_blank = [number for number, line in enumerate(lines) if line.strip()]
    view_at = len(lines)
    if had_view:
        view_at = not_blank[-1]
    kept = []
    for line in lines[:view_at]:
        is_old = decision.old is not None and _is_box(line, decision.old, data)
        if not is_old:
            kept.append(line)
    if decision.new is not None:
        numbers = " ".join(f"{number:.6f}" for number in decision.new[1:])
        kept.append(f"{int(decision.new[0])} {numbers}\n")
    return "".join(kept + lines[view_at:]).encode("utf-8")


def _is_box(line: str, box: Sequence[float], data: DataConfig) -> bool:
    boxes = parse_labels(line, len(data.names), 0).boxes
    return bool(_same_boxes(boxes, box).any())
