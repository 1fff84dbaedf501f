"""Charts of runs over one another."""

import numpy as np
import pandas as pd
from made_up_runs import dual_table, results_table, updates_table

from utils.report.curves import MOST_POINTS, Tables, charts


def chart_of(found: list[dict], title: str) -> dict:
    (chart,) = [own for own in found if own["title"] == title]
    return chart


def test_runs_of_different_length_share_the_epochs():
    runs = [Tables(results_table(3), None), Tables(results_table(5, every=2), None)]
    chart = chart_of(charts(runs), "map")
    assert chart["x"] == [1, 2, 3, 4, 5]
    short, _, long, _ = chart["series"]
    assert short["run"] == 0 and short["values"][3:] == [None, None]
    assert [value is None for value in long["values"]] == [True, False, True, False, False]


def test_the_ratio_is_the_weights():
    table = results_table(4)
    table["weight/detection"] = [1.0, 2.0, 3.0, 1.0]
    table["weight/classification"] = [1.0, 0.5, 0.0, np.nan]
    (series,) = chart_of(charts([Tables(table, None)]), "ratio")["series"]
    assert series["values"] == [1, 4, None, None]


def test_updates_are_averaged_to_few_points():
    updates = updates_table(200)
    assert len(updates) > 2 * MOST_POINTS
    (series,) = chart_of(charts([Tables(None, updates)]), "cosine")["series"]
    assert len(series["values"]) <= MOST_POINTS
    assert np.isclose(np.mean(series["values"]), updates["cosine"].mean(), atol=0.005)


def interference(steps: int) -> pd.DataFrame:
    """The cut's cosine is the step's share of all, its norms 2 and 1; the trunk's are the reverse."""
    rows = []
    for step in range(steps):
        for place, cosine, detection in (("cut", step / steps, 2), ("trunk", -step / steps, 0.5)):
            norms = {"norm/detection": detection, "norm/classification": 1}
            rows.append({"step": 10 * step, "place": place, "cosine": cosine} | norms)
        rows.append({"step": 10 * step, "place": "3", "cosine": 9, "norm/detection": 9})
    return pd.DataFrame(rows)


def test_interference_has_cosine_and_ratio_of_norms_at_both_places():
    found = charts([Tables(None, None, interference(5))])
    cosine, ratio = chart_of(found, "measured_cosine"), chart_of(found, "norm_ratio")
    assert cosine["x"] == [0, 10, 20, 30, 40]
    values = {own["label"]: own["values"] for own in cosine["series"]}
    assert values == {"cut": [0, 0.2, 0.4, 0.6, 0.8], "trunk": [0, -0.2, -0.4, -0.6, -0.8]}
    values = {own["label"]: own["values"] for own in ratio["series"]}
    assert values == {"cut": [2] * 5, "trunk": [0.5] * 5}


def test_many_measurements_are_averaged_and_a_norm_of_zero_has_no_ratio():
    rows = interference(3 * MOST_POINTS)
    rows.loc[rows["place"] == "trunk", "norm/classification"] = 0
    found = charts([Tables(None, None, rows)])
    (series,) = chart_of(found, "norm_ratio")["series"]
    assert series["label"] == "cut" and len(series["values"]) == MOST_POINTS
    assert charts([Tables(None, None, rows[:0])]) == []


def test_what_a_run_lacks_has_no_chart():
    found = charts([Tables(results_table(3)[["epoch", "train/box_loss"]], None)])
    assert [chart["title"] for chart in found] == ["box_loss"]
    assert charts([Tables(pd.DataFrame({"epoch": []}), None), Tables(None, None)]) == []


def test_two_networks_have_a_rate_each():
    series = chart_of(charts([Tables(dual_table(3), None)]), "rates")["series"]
    assert [own["label"] for own in series] == ["detection", "classification"]
