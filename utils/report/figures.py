"""What `metrics.json` says as tables: headings are keys of words.json or names from the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from utils.evaluation.error_kinds import KINDS

FIGURES = {  # word -> part of metrics.json, key there
    "map50": ("detection", "mAP_0.5"),
    "map50_95": ("detection", "mAP_0.5:0.95"),
    "ap30": ("detection", "mAP_0.3"),
    "precision": ("detection", "precision"),
    "recall": ("detection", "recall"),
    "f1": ("detection", "f1"),
    "accuracy": ("views", "accuracy"),
    "balanced": ("views", "balanced_accuracy"),
    "macro_f1": ("views", "macro_f1"),
    "ece": ("views", "ece"),
}
CLASS_FIGURES = {
    "images": "images",
    "boxes": "boxes",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "map50": "AP_0.5",
    "map50_95": "AP_0.5:0.95",
    "ap30": "AP_0.3",
}
VIEW_FIGURES = {"images": "images", "recall": "recall", "precision": "precision", "f1": "f1"}
DIGITS = 3
NOTHING = "-"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what is read.
        value: what the table is sorted by; None: nothing is known.
        note: beside it in small letters, as an interval.
        shade: of the background, 0 to 1.
    """

    text: str
    value: float | str | None = None
    note: str = ""
    shade: float = 0.0


@dataclass(frozen=True)
class Table:
    """A table whose rows begin with a name.

    Attributes:
        title: a key of words.json.
        columns: keys of words.json, or names where `are_names`; without the first.
        rows: name and cells.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    are_names: bool = False


def overview(metrics: Mapping[str, Mapping]) -> Table:
    """The main figures, with intervals.

    Args:
        metrics: name of a run -> what its metrics.json holds.
    """
    columns = []
    for key, (part, name) in FIGURES.items():
        if any(own.get(part, {}).get(name) is not None for own in metrics.values()):
            columns.append(key)
    rows = []
    for run, own in metrics.items():
        rows.append((run, [_figure_cell(own, *FIGURES[key]) for key in columns]))
    return Table("figures", columns, rows)


def _figure_cell(metrics: Mapping, part: str, name: str) -> Cell:
    own = metrics.get(part, {})
    interval = own.get("intervals", {}).get(name)
    note = ""
    if interval and None not in interval:
        note = f"{interval[0]:.{DIGITS}f} to {interval[1]:.{DIGITS}f}"
    return number_cell(own.get(name), note)


def number_cell(value: float | None, note: str = "") -> Cell:
    """A figure; whole numbers as they are."""
    if value is None:
        return Cell(NOTHING)
    if isinstance(value, int):
        return Cell(str(value), value, note)
    return Cell(f"{value:.{DIGITS}f}", value, note)


def errors(metrics: Mapping[str, Mapping]) -> Table | None:
    """How many boxes are of which kind; None where no run has that."""
    rows = []
    for run, own in metrics.items():
        found = own.get("detection", {}).get("errors")
        if found:
            counts = found["counts"]
            gains = found["delta_mAP_0.5"]
            rows.append((run, [_kind_cell(counts[kind], gains.get(kind)) for kind in KINDS]))
    if not rows:
        return None
    return Table("errors", [kind.replace(" ", "_") for kind in KINDS], rows)


def _kind_cell(count: int, gain: float | None) -> Cell:
    note = ""
    if gain is not None:
        note = f"{gain:+.{DIGITS}f}"
    return number_cell(count, note)


def details(metrics: Mapping) -> list[Table]:
    """Of one run: by class, by view, and the confusions."""
    tables = []
    detection = metrics.get("detection")
    views = metrics.get("views")
    if detection:
        tables.append(_by_name("per_class", detection.get("per_class", []), CLASS_FIGURES))
        names = metrics["names"]
        rows, columns = [*names, "missed"], [*names, "background"]
        tables.append(_confusion("confusion_boxes", detection["confusion"], rows, columns))
    if views:
        tables.append(_by_name("per_view", views.get("per_view", []), VIEW_FIGURES))
        names = metrics["view_names"]
        tables.append(_confusion("confusion_views", views["confusion"], names, names))
    return [table for table in tables if table.rows]


def _by_name(title: str, rows: Sequence[Mapping], figures: Mapping[str, str]) -> Table:
    columns = [word for word, key in figures.items() if any(key in row for row in rows)]
    found = []
    for row in rows:
        cells = [number_cell(row.get(figures[word])) for word in columns]
        found.append((row["name"], cells))
    return Table(title, columns, found)


def _confusion(
    title: str, counts: Sequence[Sequence[int]], rows: Sequence[str], columns: Sequence[str]
) -> Table:
    """Counts, each shaded by its share of the largest."""
    largest = max([1, *(max(own) for own in counts)])
    found = []
    for name, own in zip(rows, counts, strict=True):
        cells = [Cell(str(count), count, shade=round(count / largest, 3)) for count in own]
        found.append((name, cells))
    return Table(title, columns, found, are_names=True)
