"""What the tables of runs draw: charts of plain lists, runs over one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

MOST_POINTS = 400  # of a line; more rows of gradnorm.csv are averaged
DIGITS = 5
RATIO = "ratio"


@dataclass(frozen=True)
class Panel:
    """A chart.

    Attributes:
        title: a key of words.json.
        columns: of the table -> the key of the word for that line; the first is solid.
        place: the section it belongs to, another key.
    """

    title: str
    columns: Mapping[str, str]
    place: str


LOSS_PANELS = tuple(
    Panel(
        f"{name}_loss",
        {f"train/{name}_loss": "training", f"val/{name}_loss": "validation"},
        "losses",
    )
    for name in ("box", "obj", "cls", "view")
)
EPOCH_PANELS = (
    *LOSS_PANELS,
    Panel("map", {"metrics/mAP_0.5": "map50", "metrics/mAP_0.5:0.95": "map50_95"}, "metrics"),
    Panel(
        "precision_recall",
        {"metrics/precision": "precision", "metrics/recall": "recall"},
        "metrics",
    ),
    Panel(
        "view_metrics",
        {"metrics/view_accuracy": "accuracy", "metrics/view_balanced_accuracy": "balanced"},
        "metrics",
    ),
    Panel("fitness", {"metrics/fitness": "fitness"}, "metrics"),
    Panel(
        "weights",
        {"weight/detection": "detection", "weight/classification": "classification"},
        "balance",
    ),
    Panel("ratio", {RATIO: "ratio"}, "balance"),
    Panel(
        "rates",
        {
            "x/lr1": "rate",
            "x/detection_lr1": "detection",
            "x/classification_lr1": "classification",
        },
        "rates",
    ),
)
UPDATE_PANELS = (
    Panel("cosine", {"cosine": "cosine"}, "balance"),
    Panel(
        "norms",
        {"norm/detection": "detection", "norm/classification": "classification"},
        "balance",
    ),
)
# Where interference.csv was measured, besides the layers of the trunk
PLACES = ("cut", "trunk")
INTERFERENCE_PANELS = (
    Panel("measured_cosine", {f"cosine/{place}": place for place in PLACES}, "interference"),
    Panel("norm_ratio", {f"{RATIO}/{place}": place for place in PLACES}, "interference"),
)


@dataclass(frozen=True)
class Tables:
    """Of one run; None where it has none.

    Attributes:
        results: of results.csv.
        updates: of gradnorm.csv.
        interference: of interference.csv.
    """

    results: pd.DataFrame | None
    updates: pd.DataFrame | None
    interference: pd.DataFrame | None = None


def charts(runs: Sequence[Tables]) -> list[dict[str, object]]:
    """Every chart that some run has values for, as plain lists.

    Returns:
        Of each chart `title`, `place` and `x_title`, keys of words.json; `x`; and `series`: the
        number of the `run`, the `label`'s key, the `line` (0 is solid) and `values` at `x`.
    """
    by_epoch = []
    by_update = []
    measured = []
    for tables in runs:
        by_epoch.append(_with_ratio(tables.results))
        by_update.append(_thinned(tables.updates))
        measured.append(_measured(tables.interference))
    found = [_chart(panel, by_epoch, "epoch") for panel in EPOCH_PANELS]
    found += [_chart(panel, by_update, "step") for panel in UPDATE_PANELS]
    found += [_chart(panel, measured, "step") for panel in INTERFERENCE_PANELS]
    return [chart for chart in found if chart["series"]]


def _with_ratio(results: pd.DataFrame | None) -> pd.DataFrame | None:
    """With the detection's weight over the classification's, and epochs counted from 1."""
    if results is None or not len(results):
        return None
    changed = results.assign(epoch=results["epoch"] + 1)
    if {"weight/detection", "weight/classification"} <= set(results):
        ratio = results["weight/detection"] / results["weight/classification"]
        changed[RATIO] = ratio.replace([np.inf, -np.inf], np.nan)
    return changed


def _thinned(updates: pd.DataFrame | None) -> pd.DataFrame | None:
    """The means over blocks of rows, at most `MOST_POINTS`."""
    if updates is None or not len(updates):
        return None
    numbers = updates.select_dtypes("number")
    block = -(-len(numbers) // MOST_POINTS)
    return numbers.groupby(np.arange(len(numbers)) // block).mean()


def _measured(rows: pd.DataFrame | None) -> pd.DataFrame | None:
    """A row for each of some blocks of batches: cosine and ratio of mean norms at each place."""
    if rows is None:
        return None
    columns = {}
    for place in PLACES:
        own = rows[rows["place"] == place].drop_duplicates("step", keep="last").set_index("step")
        columns |= {f"{name}/{place}": own[name] for name in own.columns}
    table = _thinned(pd.DataFrame(columns).rename_axis("step").reset_index())
    if table is None:
        return None
    for place in PLACES:
        ratio = table[f"norm/detection/{place}"] / table[f"norm/classification/{place}"]
        table[f"{RATIO}/{place}"] = ratio.replace([np.inf, -np.inf], np.nan)
    return table


def _chart(panel: Panel, tables: Sequence[pd.DataFrame | None], x: str) -> dict[str, object]:
    known = [table for table in tables if table is not None]
    places = sorted(set().union(*(table[x].tolist() for table in known)))
    series = []
    for run, table in enumerate(tables):
        if table is None:
            continue
        at = table.drop_duplicates(x, keep="last").set_index(x)
        for line, (column, label) in enumerate(panel.columns.items()):
            if column not in at or not at[column].notna().any():
                continue
            values = [_rounded(value) for value in at[column].reindex(places)]
            series.append({"run": run, "label": label, "line": line, "values": values})
    return {
        "title": panel.title,
        "place": panel.place,
        "x_title": x,
        "x": [_rounded(place) for place in places],
        "series": series,
    }


def _rounded(value: float) -> float | None:
    if not np.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")
