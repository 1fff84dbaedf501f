"""The result of a comparison: its arms and pairs; the interference of its trainings, by hand."""

import numpy as np
import pandas as pd
import pytest
from made_up_outcomes import arms, interference_rows
from scipy import stats

from utils.comparison.arms import ARM_NAMES, find_arm
from utils.comparison.protocol import Protocol
from utils.comparison.results import PAIRS, collect, summarise_interference


def test_every_arm_was_trained_and_the_usual_pairs_are_compared():
    """No arm is made of others by looking at what is reported."""
    found = arms(gradnorm=[0.4, 0.3], fixed=[0.3, 0.3], ratio_15=[0.3, 0.4], dual=[0.5, 0.4])
    made = collect({"epochs": 50}, Protocol((), {}), [find_arm(name) for name in found], found, {})
    assert made["arms"].keys() == found.keys()
    compared = {(entry["arm"], entry["reference"]) for entry in made["differences"]}
    assert compared == set(PAIRS)


def test_the_usual_pairs_are_of_arms_that_are_trained_without_a_choice():
    for pair in PAIRS:
        assert set(pair) <= set(ARM_NAMES)


def test_the_interval_of_a_cosine_is_over_trainings_and_not_their_batches():
    cosines = {(0, 0): [0.1, -0.3, 0.5, np.nan], (0, 1): [0.2] * 9, (0, 2): [0.6, 0.4]}
    found = summarise_interference(interference_rows(cosines))["cut"]
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
    assert summarise_interference(interference_rows(cosines))["cut"][
        "cosine_interval"
    ] == pytest.approx(interval)


def test_fewer_than_three_trainings_have_no_interval_of_a_cosine():
    rows = pd.concat(
        [
            interference_rows({(0, 0): [0.1] * 50, (0, 1): [0.2] * 50}),
            interference_rows({(0, 0): [np.nan]}, "trunk"),
        ]
    )
    found = summarise_interference(rows)
    assert (
        list(found) == ["cut"] and found["cut"]["cosine_interval"] is None
    )  # of the trunk nothing is known
