"""Risk over coverage, by hand and against its definition."""

import numpy as np
import pytest

from utils.evaluation.risk_coverage import MOST_POINTS, risk_coverage


def test_by_hand():
    sure = np.array([0.9, 0.8, 0.8, 0.6])
    found = risk_coverage(np.column_stack((sure, 1 - sure)), np.array([0, 0, 1, 0]))
    np.testing.assert_allclose(found["threshold"], [0.9, 0.8, 0.6])
    np.testing.assert_allclose(found["coverage"], [0.25, 0.75, 1])
    np.testing.assert_allclose(found["risk"], [0, 1 / 3, 1 / 4])
    assert found["area"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)
    assert found["at_accuracy"][1] == {"accuracy": 0.9, "threshold": 0.9, "coverage": 0.25}
    assert found["kept"] is None
    kept = risk_coverage(np.column_stack((sure, 1 - sure)), np.array([0, 0, 1, 0]), 0.8)["kept"]
    assert kept == {"threshold": 0.8, "coverage": 0.75, "accuracy": pytest.approx(2 / 3)}


def test_every_point_is_the_share_of_wrong_answers_among_those_as_sure():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 1000).round(3)
    truth = rng.integers(3, size=1000)
    found = risk_coverage(probabilities, truth)
    points = zip(found["threshold"], found["coverage"], found["risk"], strict=True)
    assert len(found["threshold"]) <= MOST_POINTS and found["coverage"][-1] == 1
    for threshold, coverage, risk in points:
        answered = probabilities.max(axis=1) >= threshold
        assert coverage == pytest.approx(answered.mean())
        wrong = probabilities.argmax(axis=1) != truth
        assert risk == pytest.approx(wrong[answered].mean())


def test_where_too_many_are_wrong_there_is_no_threshold():
    found = risk_coverage(np.array([[0.9, 0.1]]), np.array([1]))
    assert np.isnan(found["at_accuracy"][0]["threshold"])
    assert found["at_accuracy"][0]["coverage"] == 0
    assert risk_coverage(np.zeros((0, 2)), np.zeros(0, int)) is None
