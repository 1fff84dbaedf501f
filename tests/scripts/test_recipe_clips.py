"""The figures of clips that the recipe study's folds come to: their intervals, and the page."""

import csv

import numpy as np
import pytest
from scipy import stats

from docs.recipe.clips import over_folds
from utils.core.files import ROOT


def test_intervals_are_students_over_the_folds_where_a_figure_is_defined():
    values = [0.5, 0.6, 0.55, np.nan, 0.7]
    by_fold = {f"fold{number}": {"AUROC": value} for number, value in enumerate(values)}
    (row,) = over_folds(by_fold)
    known = [0.5, 0.6, 0.55, 0.7]
    expected = stats.t.interval(0.95, 3, np.mean(known), stats.sem(known))
    assert row["mean"] == pytest.approx(np.mean(known))
    assert (row["low"], row["high"]) == pytest.approx(expected)


def test_two_folds_have_no_interval_and_none_goes_beyond_one():
    (row,) = over_folds({"fold0": {"AUROC": 0.5}, "fold1": {"AUROC": 0.6}})
    assert "low" not in row
    (row,) = over_folds({"a": {"AUROC": 1}, "b": {"AUROC": 1}, "c": {"AUROC": 0.7}})
    assert row["high"] == 1


def test_the_pages_figures_are_the_tables():
    page = (ROOT / "docs/how-to/clips.md").read_text(encoding="utf-8")
    with (ROOT / "docs/results/clips.csv").open(newline="", encoding="utf-8") as stream:
        figures = {row["figure"]: row for row in csv.DictReader(stream)}
    for name in ("mAP50 of frames, clip evidence", "view accuracy of clips"):
        row = figures[name]
        mean, low, high = (float(row[key]) for key in ("mean", "low", "high"))
        assert f"| {name} | {mean:.3f} ({low:.3f} to {high:.3f}) |" in page
    for name in ("mean of classes", "AR", "MR", "PR", "TR"):
        cells = []
        for kind in ("clip", "patient"):
            row = figures[f"AUROC by {kind}, {name}"]
            mean, low, high = (float(row[key]) for key in ("mean", "low", "high"))
            cells.append(f"{mean:.3f} ({low:.3f} to {high:.3f})")
        assert f"| {name} | {cells[0]} | {cells[1]} |" in page
