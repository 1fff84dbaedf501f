"""Labels to doubt as a table, as decisions of a machine, and as a page to go through them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.files import naming
from utils.curation.decisions import MACHINE, PERSON, Decision, head, image_name, write_decisions
from utils.curation.doubts import Doubt, rank_boxes, rank_clips, rank_views
from utils.curation.held_out import HeldOut
from utils.data.labels import UNKNOWN_VIEW
from utils.evaluation.clips import clips_of
from utils.evaluation.error_kinds import KINDS, NO_BOX
from utils.evaluation.results import ImageResult
from utils.report.page import packed, write_page
from utils.report.records import LEAST_SCORE, frame_set

PAGE, TABLE, BY_MACHINE = "doubts.html", "doubts.csv", "decisions_by_machine.json"
SCRIPTS = ("page.js", "frames.js", "doubts.js")
MOST_DOUBTS = 1000  # of each subject in the page; the table has all
COLUMNS = ("subject", "rank", "doubt", "kind", "image", "label", "likely", "taken_for_wrong")


def write_doubts(folder: Path, held_out: Sequence[HeldOut], data: DataConfig) -> str:
    """Write table, decisions and page into a folder.

    Args:
        data: of the labels; decisions name images below its folder.

    Returns:
        What was found, in a line.
    """
    parts = [own.results for own in held_out]
    results = [result for part in parts for result in part]
    views = rank_views(results)
    ranked = {
        "view": views,
        "box": rank_boxes(parts, len(data.names)),
        "clip": rank_clips(results, data, views),
    }
    _write_table(folder / TABLE, ranked, results, data)
    decisions = [
        decision_of(doubt, results, data)
        for doubt in [*ranked["view"], *ranked["box"]]
        if doubt.is_issue
    ]
    write_decisions(folder / BY_MACHINE, decisions, data, MACHINE)
    _write_page(folder / PAGE, parts, ranked, data)
    counts = [f"{len(own)} {subject} labels" for subject, own in ranked.items()]
    return (
        f"labels to doubt: {', '.join(counts)}, {len(decisions)} taken for wrong; "
        f"go through them in {folder / PAGE}"
    )


def decision_of(doubt: Doubt, results: Sequence[ImageResult], data: DataConfig) -> Decision:
    """What the likely label makes of the one that is doubted."""
    result = results[doubt.frame]
    image = image_name(result.image, data)
    if doubt.subject == "view":
        return Decision(image, "view", "change", result.true_view, doubt.view)
    old, new = boxes_of(doubt, result)
    decision = "replace"
    if new is None:
        decision = "remove"
    elif old is None:
        decision = "add"
    return Decision(image, "box", decision, old, new)


def boxes_of(
    doubt: Doubt, result: ImageResult
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """The labelled and the predicted box, as rows of a label file."""
    old = None
    new = None
    if doubt.label != NO_BOX:
        box_class = result.true_classes[doubt.label]
        old = _row(box_class, result.true_boxes_xyxy[doubt.label], result)
    if doubt.found != NO_BOX:
        new = _row(result.classes[doubt.found], result.boxes_xyxy[doubt.found], result)
    return old, new


def _row(box_class: int, box_xyxy: np.ndarray, result: ImageResult) -> tuple[float, ...]:
    low, high = box_xyxy[:2], box_xyxy[2:]
    size = np.array([result.width, result.height])
    numbers = np.concatenate(((low + high) / 2 / size, (high - low) / size))
    return (int(box_class), *numbers.round(6).tolist())


def _write_table(
    path: Path,
    ranked: dict[str, list[Doubt]],
    results: Sequence[ImageResult],
    data: DataConfig,
) -> None:
    with (
        naming(path),
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for subject, doubts in ranked.items():
            for rank, doubt in enumerate(doubts, start=1):
                label, likely = _in_words(doubt, results[doubt.frame], data)
                image = image_name(results[doubt.frame].image, data)
                row = (subject, rank, f"{doubt.doubt:.4f}", doubt.kind, image, label, likely)
                writer.writerow([*row, int(doubt.is_issue)])


def _in_words(doubt: Doubt, result: ImageResult, data: DataConfig) -> tuple[str, str]:
    """What the label says, and what is likely."""
    if doubt.subject != "box":
        return _view_name(result.true_view, data), _view_name(doubt.view, data)
    old, new = boxes_of(doubt, result)
    return _box_in_words(old, data), _box_in_words(new, data)


def _view_name(view: int, data: DataConfig) -> str:
    if view == UNKNOWN_VIEW:
        return ""
    return data.view_names[view]


def _box_in_words(row: tuple[float, ...] | None, data: DataConfig) -> str:
    if row is None:
        return ""
    return " ".join([data.names[int(row[0])], *(f"{number:.4f}" for number in row[1:])])


def _write_page(
    path: Path,
    parts: Sequence[Sequence[ImageResult]],
    ranked: dict[str, list[Doubt]],
    data: DataConfig,
) -> None:
    results = [result for part in parts for result in part]
    clips = clips_of(results, data)
    clip_of = {number: numbers for numbers in clips.values() for number in numbers}
    doubts = []
    for own in ranked.values():
        for doubt in own[:MOST_DOUBTS]:
            doubts.append(_record(doubt, results[doubt.frame], clip_of))
    content = {
        "kinds": list(KINDS),
        "least_score": LEAST_SCORE,
        "classes": list(data.names),
        "views": list(data.view_names),
        "sets": [frame_set("", parts, data, path, None)],
        "images": packed([image_name(result.image, data) for result in results]),
        "head": head(data, PERSON),
        "doubts": packed(doubts),
    }
    write_page(
        path,
        "doubts.html.j2",
        SCRIPTS,
        content,
        data.cls_title,
        title="/".join(data.source.resolve().parts[-2:]),
        most_doubts=MOST_DOUBTS,
        is_real=not data.generate,
        is_embedded=False,
    )


def _record(
    doubt: Doubt, result: ImageResult, clip_of: dict[int, Sequence[int]]
) -> dict[str, object]:
    """A doubt as the page reads it; of a clip with the numbers of its frames."""
    old, new = boxes_of(doubt, result)
    record = {
        "subject": doubt.subject,
        "kind": doubt.kind.replace(" ", "_"),
        "frame": doubt.frame,
        "doubt": round(doubt.doubt, 4),
        "view": doubt.view,
        "label": doubt.label,
        "old": old,
        "new": new,
        "score": None,
    }
    if doubt.found != NO_BOX:
        record["score"] = round(float(result.scores[doubt.found]), 3)
    if doubt.subject == "clip":
        record["members"] = list(clip_of[doubt.frame])
    return record
