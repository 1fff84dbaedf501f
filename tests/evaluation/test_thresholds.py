"""Thresholds chosen on validation frames, against values by hand and an exhaustive search."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_results import CLIP_DATA as DATA
from made_up_results import image_result, random_results

from utils.core.names import TASKS
from utils.evaluation.clips import Unit
from utils.evaluation.thresholds import (
    Thresholds,
    chosen_on,
    evidence_threshold,
    view_threshold,
)


def units_of(evidence: np.ndarray, present: np.ndarray) -> list[Unit]:
    """One a row."""
    nothing = {"frames": 1, "votes": np.zeros(3), "view_probabilities": np.zeros(0)}
    return [
        Unit(name=str(number), group=str(number), present=shown, evidence=found, **nothing)
        for number, (found, shown) in enumerate(zip(evidence, present, strict=True))
    ]


def test_the_threshold_lies_halfway_between_the_clips_that_it_tells_apart():
    evidence = np.array([[0.1], [0.3], [0.4], [0.8]])
    present = np.array([[False], [False], [True], [True]])
    assert evidence_threshold(units_of(evidence, present)) == pytest.approx(0.35)


def test_no_threshold_has_a_higher_sensitivity_and_specificity():
    rng = np.random.default_rng(3)
    present = rng.random((60, 3)) < [0.1, 0.4, 0.6]
    evidence = (rng.random((60, 3)) + 0.4 * present).round(2)
    found = evidence_threshold(units_of(evidence, present))

    def gain(threshold: float) -> float:
        called = evidence >= threshold
        rates = []
        for number in range(3):
            truth = present[:, number]
            rates.append(called[truth, number].mean() - called[~truth, number].mean())
        return np.mean(rates)

    assert gain(found) == pytest.approx(max(map(gain, np.linspace(0, 1.5, 3001))))


def test_a_class_that_every_clip_shows_or_none_has_no_say():
    evidence = np.array([[0.1, 0.9, 0.0], [0.3, 0.1, 0.6]])
    present = np.array([[False, True, False], [True, True, False]])
    assert evidence_threshold(units_of(evidence, present)) == pytest.approx(0.2)


@pytest.mark.parametrize("present", [(True, True), (False, False), (True, False)])
def test_where_evidence_tells_nothing_apart_there_is_none(present: tuple):
    evidence = np.array([[0.2], [0.7]])  # less where it is shown, in the last case
    assert evidence_threshold(units_of(evidence, np.array(present)[:, None])) is None
    assert evidence_threshold([]) is None


def test_four_of_five_views_from_the_threshold_on_are_right():
    top = np.array([0.9, 0.5, 0.8, 0.6, 0.7, 0.4])
    is_right = np.array([True, True, True, False, True, False])
    # Right from 0.9 down: 1, 2 of 2, 3 of 3, 3 of 4, 4 of 5, 4 of 6.
    assert view_threshold(top, is_right) == pytest.approx(0.45)
    assert view_threshold(top[::-1], is_right[::-1]) == pytest.approx(0.45)
    assert view_threshold(top, np.zeros(6, bool)) is None
    assert view_threshold(np.zeros(0), np.zeros(0, bool)) is None


def test_where_enough_are_right_every_view_is_known():
    assert view_threshold(np.array([0.4, 0.9]), np.array([True, True])) == 0


def test_answers_of_the_same_probability_are_kept_together():
    top = np.array([0.9, 0.6, 0.6, 0.6, 0.6, 0.6])
    is_right = np.array([True, True, True, True, False, False])
    assert view_threshold(top, is_right) == pytest.approx(0.75)


def test_no_lower_threshold_leaves_as_many_right():
    rng = np.random.default_rng(5)
    top = rng.uniform(0.34, 1, 300).round(2)
    is_right = rng.random(300) < top
    found = view_threshold(top, is_right)
    assert is_right[top >= found].mean() >= 0.8 > is_right.mean()
    for lower in top[top < found]:
        assert is_right[top >= lower].mean() < 0.8


def test_without_clips_or_right_views_nothing_is_chosen():
    wrong = [image_result(view=0, probabilities=(0, 1, 0), name=f"{n}.jpg") for n in range(9)]
    assert chosen_on(wrong, DATA, TASKS) == Thresholds()
    assert chosen_on(random_results(), replace(DATA, clip_pattern=None), ["detection"]) == replace(
        chosen_on(random_results(), DATA, TASKS), clip_evidence=None
    )


def test_a_network_without_boxes_has_no_threshold_of_evidence():
    results = [replace(r, image=f"P{n}_C1_F1.jpg") for n, r in enumerate(random_results())]
    assert chosen_on(results, DATA, TASKS).clip_evidence is not None
    assert chosen_on(results, DATA, ["classification"]).clip_evidence is None
