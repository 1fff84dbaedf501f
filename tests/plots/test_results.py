"""The picture of a training's results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_runs import dual_table, results_table
from pixels import pixels

from utils.plots.results import _best_rows, plot_results
from utils.plots.style import CLASSIFICATION, DETECTION


@pytest.mark.slow
def test_every_column_of_the_results_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("utils.plots.style.DPI", 40)
    table = results_table(6)
    plot_results(table[["epoch"]], tmp_path / "none.png")
    pictures = {"none": pixels(tmp_path / "none.png").tobytes()}
    for column in table.columns.drop(["epoch", "metrics/fitness"]):  # which the caption names
        plot_results(table[["epoch", column]], tmp_path / "one.png")
        pictures[column] = pixels(tmp_path / "one.png").tobytes()
    assert len(set(pictures.values())) == len(pictures)


def test_a_dual_run_has_a_best_epoch_for_each_task():
    table = dual_table(9)
    table["best"] = [
        "",
        "detection classification",
        "detection",
        "",
        np.nan,
        "",
        "classification",
        "",
        "",
    ]
    assert _best_rows(table) == {DETECTION: 2, CLASSIFICATION: 6}
    joint = results_table(9).assign(best=["", "joint", "", "", "joint", "", "", "", ""])
    assert set(_best_rows(joint).values()) == {4}
    assert _best_rows(results_table(9).drop(columns="best", errors="ignore")) == {}
