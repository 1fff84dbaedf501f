"""What the report of a comparison says of interference, and of what its means are over."""

import numpy as np
import pandas as pd
import pytest
from made_up_outcomes import arms, folds
from scipy import stats

from utils.comparison.arms import find_arm
from utils.comparison.protocol import Contrast, Protocol
from utils.comparison.report import collect, summarise_interference, to_markdown

ABOUT = {
    **{
        "title": "made up",
        "split": "validation",
        "data_line": "`a.yaml`",
        "epochs": 50,
        "imgsz": 64,
    },
    **{"resampled": "patients (group_pattern)", "limits": ["few"], "seeds": [0], "units": 1},
}


def rows_of(cosines: dict[tuple[int, int], list[float]], place: str = "cut") -> pd.DataFrame:
    """(data, seed) -> the cosines of that training's batches."""
    rows = [
        {
            "place": place,
            "data": data,
            "seed": seed,
            "cosine": cosine,
            "magnitude_similarity": 0.1 * number,
        }
        for (data, seed), values in cosines.items()
        for number, cosine in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_the_interval_of_a_cosine_is_over_trainings_and_not_their_batches():
    cosines = {(0, 0): [0.1, -0.3, 0.5, np.nan], (0, 1): [0.2] * 9, (0, 2): [0.6, 0.4]}
    found = summarise_interference(rows_of(cosines))["cut"]
    interval = stats.ttest_1samp([0.1, 0.2, 0.5], 0).confidence_interval(0.95)
    assert found["cosine"] == pytest.approx(0.8 / 3) and found["cosine_interval"] == pytest.approx(
        interval
    )
    assert found["conflicting"] == pytest.approx(
        1 / 9
    )  # of one in three batches of one in three trainings
    assert (
        found["magnitude_similarity"] == pytest.approx((0.1 + 0.4 + 0.05) / 3)
        and found["batches"] == 14
    )


def test_the_interval_of_a_cosine_is_over_folds_where_there_are_any():
    cosines = {
        (0, 0): [0.1],
        (0, 1): [0.3],
        (1, 0): [0.6],
        (1, 1): [0.2],
        (2, 0): [0.5],
        (2, 1): [0.3],
    }
    interval = stats.ttest_1samp([0.2, 0.4, 0.4], 0).confidence_interval(0.95)
    assert summarise_interference(rows_of(cosines))["cut"]["cosine_interval"] == pytest.approx(
        interval
    )


def test_fewer_than_three_trainings_have_no_interval_of_a_cosine():
    rows = pd.concat(
        [rows_of({(0, 0): [0.1] * 50, (0, 1): [0.2] * 50}), rows_of({(0, 0): [np.nan]}, "trunk")]
    )
    found = summarise_interference(rows)
    assert (
        list(found) == ["cut"] and found["cut"]["cosine_interval"] is None
    )  # of the trunk nothing is known


def report_of(outcomes: dict, *counted: Contrast) -> str:
    made_up = {name: find_arm(name) for name in outcomes}
    rows = {"gradnorm": rows_of({(0, seed): [0.1 * seed, 0.2] for seed in range(3)})}
    return to_markdown(
        collect(ABOUT, Protocol(counted, {}), list(made_up.values()), outcomes, rows)
    )


def test_a_report_says_what_its_means_are_over():
    several = np.random.default_rng(0).uniform(0.3, 0.6, (2, 3, 2))
    assert "over 3 folds, each the mean of 2 trainings." in report_of(
        folds(gradnorm=several[0], fixed=several[1])
    )
    assert "over 3 trainings." in report_of(arms(gradnorm=[0.3, 0.4, 0.5], fixed=[0.3, 0.4, 0.4]))


def test_a_report_judges_what_was_fixed_before_and_nothing_else():
    counted = Contrast("gradnorm", "fixed", "view_balanced_accuracy")
    text = report_of(arms(gradnorm=[0.7, 0.71, 0.72], fixed=[0.3, 0.31, 0.32]), counted)
    (row,) = [
        line
        for line in text.splitlines()
        if line.startswith("| `gradnorm` - `fixed` | balanced view accuracy")
    ]
    assert row.endswith("| better |")
    others = [
        line
        for line in text.splitlines()
        if line.startswith("| `gradnorm` - `fixed` |") and line != row
    ]
    assert len(others) == 3 and all(line.endswith("| - | - | exploratory |") for line in others)
    assert "| `gradnorm` | cut | +0.1500 | [" in text
