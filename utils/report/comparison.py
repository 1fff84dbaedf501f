"""The differences of a comparison, and which of them can be told from nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 200  # of the drawing, in its own units
MARGIN = 8
METRIC_WORDS = {  # metric of a comparison -> key of words.json
    "mAP50": "map50",
    "mAP50-95": "map50_95",
    "view_accuracy": "accuracy",
    "view_balanced_accuracy": "balanced_accuracy",
}


@dataclass(frozen=True)
class Difference:
    """A row of the table.

    Attributes:
        metric_word: a key of words.json; empty where the metric has none.
        value, low, high: the difference and its interval; None without one.
        word: as `utils.comparison.words` has it.
        is_told: the interval leaves out zero and, where a word was promised, so does the word.
        at: value, low, high and zero in the drawing.
    """

    arm: str
    reference: str
    metric: str
    metric_word: str
    value: float
    low: float | None
    high: float | None
    word: str
    is_told: bool
    at: Mapping[str, float | None]


def differences(results: Mapping) -> list[Difference]:
    """Of comparison_results.json; those of a metric share the scale of their drawings."""
    rows = results.get("differences", [])
    found = []
    for row in rows:
        alike = [own for own in rows if own["metric"] == row["metric"]]
        found.append(_difference(row, _scale(alike)))
    return found


def _difference(row: Mapping, scale: tuple[float, float]) -> Difference:
    at = {"zero": _place(0, scale)}
    for key in ("value", "low", "high"):
        at[key] = _place(row[key], scale)
    return Difference(
        arm=row["arm"],
        reference=row["reference"],
        metric=row["metric"],
        metric_word=METRIC_WORDS.get(row["metric"], ""),
        value=row["value"],
        low=row["low"],
        high=row["high"],
        word=row["word"],
        is_told=is_told(row),
        at=at,
    )


def is_told(row: Mapping) -> bool:
    """Whether a difference can be told from none."""
    if row["low"] is None:
        return False
    if row["is_counted"]:
        return row["word"].startswith(("better", "worse"))
    return row["low"] > 0 or row["high"] < 0


def _scale(rows: Sequence[Mapping]) -> tuple[float, float]:
    """The smallest and largest number that is drawn, zero among them."""
    numbers = [0.0]
    for row in rows:
        numbers += [row[key] for key in ("value", "low", "high") if row[key] is not None]
    return min(numbers), max(numbers)


def _place(value: float | None, scale: tuple[float, float]) -> float | None:
    low, high = scale
    if value is None:
        return None
    share = (value - low) / ((high - low) or 1)
    return round(MARGIN + share * (WIDTH - 2 * MARGIN), 1)
