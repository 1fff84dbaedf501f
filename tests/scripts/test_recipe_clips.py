"""The figures of clips that the recipe study's folds come to: their intervals, and the page."""

import csv

import numpy as np
import pytest
from scipy import stats

from docs.recipe.clips import Fold, of_other_folds, over_folds
from utils.core.files import ROOT
from utils.evaluation.thresholds import Thresholds


def test_intervals_are_students_over_the_folds_where_a_figure_is_defined():
    values = [0.5, 0.6, 0.55, np.nan, 0.7]
    by_fold = {f"fold{number}": {"AUROC": value} for number, value in enumerate(values)}
    (row,) = over_folds(by_fold)
    known = [0.5, 0.6, 0.55, 0.7]
    expected = stats.t.interval(0.95, 3, np.mean(known), stats.sem(known))
    assert row["mean"] == pytest.approx(np.mean(known))
    assert (row["low"], row["high"]) == pytest.approx(expected)


def test_a_fold_is_judged_by_the_thresholds_of_the_others_only():
    best = (Thresholds(0.1, 0.5), Thresholds(0.2, 0.6), Thresholds(0.6, 0.1))
    folds = [Fold(str(number), None, [], own) for number, own in enumerate(best)]
    found = of_other_folds(folds[2], folds)
    assert found.clip_evidence == pytest.approx(0.15)
    assert found.view_probability == pytest.approx(0.55)


def test_two_folds_have_no_interval_and_none_goes_beyond_one():
    (row,) = over_folds({"fold0": {"AUROC": 0.5}, "fold1": {"AUROC": 0.6}})
    assert "low" not in row
    (row,) = over_folds({"a": {"AUROC": 1}, "b": {"AUROC": 1}, "c": {"AUROC": 0.7}})
    assert row["high"] == 1


def test_the_pages_figures_are_the_tables():
    page = (ROOT / "docs/how-to/clips.md").read_text(encoding="utf-8")
    with (ROOT / "docs/results/clips.csv").open(newline="", encoding="utf-8") as stream:
        figures = {row["figure"]: row for row in csv.DictReader(stream)}

    def cell(name: str) -> str:
        row = figures[name]
        mean, low, high = (float(row[key]) for key in ("mean", "low", "high"))
        return f"{mean:.3f} ({low:.3f} to {high:.3f})"

    for name in ("mAP50 of frames, clip evidence", "view accuracy of clips"):
        assert f"| {name} | {cell(name)} |" in page
    for name in ("mean of classes", "AR", "MR", "PR", "TR"):
        by_clip, by_patient = (cell(f"AUROC by {kind}, {name}") for kind in ("clip", "patient"))
        assert f"| {name} | {by_clip} | {by_patient} |" in page
    for name in ("sensitivity, mean of classes", "sensitivity, MR", "specificity, MR"):
        rate, of = name.split(", ")
        by_clip, by_patient = (cell(f"{rate} by {kind}, {of}") for kind in ("clip", "patient"))
        assert f"| {name} | {by_clip} | {by_patient} |" in page
    for rate, shown in (("0.125", "1/8"), ("1", "1"), ("8", "8")):
        cells = [cell(f"FROC by {unit}, at {rate} false boxes") for unit in ("frame", "clip")]
        assert f"| {shown} | {cells[0]} | {cells[1]} |" in page
    short = [
        goal - float(figures[name]["mean"])
        for goal, name in (
            (0.60, "mAP50 of frames, clip evidence"),
            (0.85, "view accuracy of clips"),
        )
    ]
    assert f"is {short[0]:.3f}\nshort" in page and f"is {short[1]:.3f} short" in page
