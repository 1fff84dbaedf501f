"""The figures of the views, by hand and against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_results import NAMES, VIEWS, image_result, random_results
from sklearn import metrics as sk

from utils.evaluation.metrics import summarise
from utils.evaluation.results import ImageResult
from utils.evaluation.views import (
    area_under_roc,
    calibration_error,
    resampled_view_rates,
    view_metrics,
)


def test_resampled_views_equal_evaluating_the_resampled_images():
    results = random_results(12)
    resample_counts = np.random.default_rng(2).multinomial(12, np.full(12, 1 / 12), size=6)
    found = resampled_view_rates(results, len(VIEWS), resample_counts)
    for number, counts in enumerate(resample_counts):
        copies = [r for r, count in zip(results, counts, strict=True) for _ in range(count)]
        expected = view_metrics(copies, NAMES, VIEWS)
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            np.testing.assert_allclose(found[name][number], expected[name], atol=1e-12)


def view_results(truth, probabilities) -> list[ImageResult]:
    pairs = enumerate(zip(truth, probabilities, strict=True))
    return [image_result(view=view, probabilities=p, name=f"{i}.jpg") for i, (view, p) in pairs]


def test_views_by_hand():
    probabilities = [
        [0.8, 0.1, 0.1],
        [0.2, 0.7, 0.1],
        [0.3, 0.6, 0.1],
        [0.1, 0.8, 0.1],
        [0.5, 0.4, 0.1],
    ]
    views = summarise(view_results([0, 0, 1, 1, -1], probabilities), NAMES, VIEWS)["views"]
    assert views["images"] == 4
    assert views["accuracy"] == views["balanced_accuracy"] == 0.75
    assert views["confusion"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert [row["images"] for row in views["per_view"]] == [2, 2, 0]
    assert [row["recall"] for row in views["per_view"]] == [0.5, 1, None]
    assert [row["precision"] for row in views["per_view"]] == [1, pytest.approx(2 / 3), None]
    assert views["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    # view 0: (0.8, 0.2) against (0.3, 0.1); view 1: (0.6, 0.8) against (0.1, 0.7): 3 of 4 pairs
    # each
    assert views["auroc"] == pytest.approx(0.75)


def test_views_equal_scikit_learn():
    results = [result for result in random_results(60) if result.true_view >= 0]
    views = summarise(results, NAMES, VIEWS)["views"]
    truth = np.array([result.true_view for result in results])
    probabilities = np.array([result.view_probabilities for result in results])
    predicted = probabilities.argmax(1)
    assert views["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    assert views["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert views["macro_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    assert views["auroc"] == pytest.approx(
        sk.roc_auc_score(truth, probabilities, multi_class="ovr")
    )
    assert views["confusion"] == sk.confusion_matrix(truth, predicted).tolist()
    precision, recall, f1, count = sk.precision_recall_fscore_support(truth, predicted)
    for name, expected in (
        ("precision", precision),
        ("recall", recall),
        ("f1", f1),
        ("images", count),
    ):
        assert [row[name] for row in views["per_view"]] == pytest.approx(expected.tolist())


def test_the_area_under_the_roc_curve_is_scikit_learns_with_ties_too():
    rng = np.random.default_rng(0)
    for levels in (2, 5, 1000):
        scores, is_positive = rng.integers(levels, size=60) / levels, rng.random(60) < 0.3
        expected = sk.roc_auc_score(is_positive, scores)
        assert area_under_roc(scores, is_positive) == pytest.approx(expected, abs=1e-12)


def test_auroc_is_none_with_one_view_and_a_never_predicted_view_has_f1_zero():
    views = summarise(view_results([1, 1], [[0.2, 0.7, 0.1], [0.7, 0.2, 0.1]]), NAMES, VIEWS)[
        "views"
    ]
    assert views["auroc"] is None and views["balanced_accuracy"] == 0.5
    views = summarise(view_results([0, 1], [[0.8, 0.1, 0.1], [0.8, 0.1, 0.1]]), NAMES, VIEWS)[
        "views"
    ]
    assert [row["f1"] for row in views["per_view"]] == [pytest.approx(2 / 3), 0, None]


def test_calibration_error_where_it_is_known():
    sure, unsure = [0.8, 0.2], [0.6, 0.4]
    assert calibration_error(np.array([sure] * 5), np.array([0, 0, 0, 0, 1])) == pytest.approx(0)
    assert calibration_error(np.array([sure] * 4), np.array([0, 0, 1, 1])) == pytest.approx(0.3)
    # two bins, gaps of opposite sign do not cancel: (2 |0.5 - 0.8| + 2 |1 - 0.6|) / 4
    mixed = np.array([sure, sure, unsure, unsure])
    assert calibration_error(mixed, np.array([0, 1, 0, 0])) == pytest.approx(0.35)
    # in one bin they do
    assert calibration_error(mixed, np.array([0, 1, 0, 0]), bins=1) == pytest.approx(0.05)
    assert calibration_error(np.eye(2), np.array([0, 1])) == 0


def test_images_without_a_view_do_not_move_the_intervals_of_the_views():
    results = [result for result in random_results(40) if result.true_view >= 0]
    unlabelled = [replace(result, true_view=-1) for result in results[::2]]
    expected = summarise(results, NAMES, VIEWS)["views"]
    assert summarise([*unlabelled, *results], NAMES, VIEWS)["views"] == expected
