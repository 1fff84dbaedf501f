"""Differences and ratios with their intervals, by hand.

Their coverage: docs.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from made_up_outcomes import METRICS, NOISE, PATIENTS, arms, folds, outcome
from made_up_results import NAMES, VIEWS, random_results
from scipy import stats

from utils.comparison.outcomes import Outcome
from utils.comparison.protocol import Contrast
from utils.comparison.statistics import (
    FOLDS,
    IDENTICAL,
    NO_INTERVAL,
    ONE_TRAINING,
    RESAMPLES,
    SEEDS,
    TOO_FEW,
    Term,
    between_trainings,
    combine,
    delta_m,
    difference,
    mean_and_deviation,
    means_by_fold,
    patients_behind,
    resample,
)
from utils.evaluation.metrics import summarise
from utils.evaluation.results import group_draws

PAIR = Contrast("gradnorm", "fixed", "mAP50")
FACTOR = PATIENTS / (PATIENTS - 1)


def other_noise(seed: int = 1) -> dict[str, np.ndarray]:
    """What patients do to one arm only."""
    return dict(
        zip(METRICS, np.random.default_rng(seed).normal(0, 0.03, (4, RESAMPLES)), strict=True)
    )


# ---- seeds on one data set -----------------------------------------------------------------------


def test_seeds_add_the_patients_variance_and_that_of_trainings():
    """V_p + 2 s^2 / S over two arms of three seeds, and Satterthwaite's degrees of freedom."""
    found = arms(fixed=[0.30, 0.36, 0.33])
    found["gradnorm"] = [
        outcome("gradnorm", s, other_noise(), mAP50=v) for s, v in enumerate((0.40, 0.46, 0.40))
    ]
    result = difference(found, PAIR)
    patients = FACTOR * (other_noise()["mAP50"] - NOISE["mAP50"]).var(ddof=1)
    between = 2 / 3 * (np.var([0.30, 0.36, 0.33], ddof=1) + np.var([0.40, 0.46, 0.40], ddof=1)) / 2
    df = (patients + between) ** 2 / (patients**2 / 9 + between**2 / 4)
    half = stats.t.ppf(0.975, df) * np.sqrt(patients + between)
    assert (result.value, result.basis) == (pytest.approx(0.09), SEEDS) and result.cautious is None
    assert result.trainings == pytest.approx((0.10, 0.10, 0.07))
    assert result.estimate.interval() == pytest.approx((0.09 - half, 0.09 + half))
    assert (result.estimate.error**2, result.estimate.df) == pytest.approx((patients + between, df))


def test_what_the_same_patients_do_to_both_arms_cancels_out():
    found = arms(gradnorm=[0.5, 0.6, 0.4], fixed=[0.3, 0.4, 0.2])
    estimate = difference(found, PAIR).estimate
    assert (estimate.error**2, estimate.df) == pytest.approx((2 * 0.01 / 3, 4))  # seeds do not


def test_the_variance_of_trainings_is_pooled_over_working_arms_each_once():
    found = arms(fixed=[0.3, 0.4], gradnorm=[0.5, 0.5], equal=[0.02, 0.03], dual=[0.6, 0.4])
    found["twin"] = [dataclasses.replace(own, arm="twin") for own in found["dual"]]
    expected = (np.var([0.3, 0.4], ddof=1) + 0 + np.var([0.6, 0.4], ddof=1)) / 3
    pooled = between_trainings(found, "mAP50")  # `equal` has collapsed, `twin` is `dual`
    assert (pooled.value, pooled.df) == (pytest.approx(expected), 3)
    with_own = between_trainings(found, "mAP50", ["equal", "fixed"])
    assert (with_own.value, with_own.df) == (pytest.approx((3 * expected + 0.00005) / 4), 4)
    logarithms = between_trainings({"fixed": found["fixed"]}, "mAP50", is_ratio=True)
    assert logarithms.value == pytest.approx(np.log(4 / 3) ** 2 / 2)
    assert between_trainings(found, "F1").df == 0


def test_too_few_trainings_have_values_and_no_interval():
    found = arms(gradnorm=[0.5, 0.6], fixed=[0.3, 0.5])
    result = difference(found, PAIR)
    assert (result.basis, result.estimate) == (TOO_FEW, None)
    assert (result.value, result.trainings) == (pytest.approx(0.15), pytest.approx((0.2, 0.1)))
    assert (
        difference(found | arms(dual=[0.4, 0.5]), PAIR).basis == SEEDS
    )  # three degrees of freedom


def test_one_training_has_its_patients_interval_and_says_so():
    found = arms(fixed=0.3) | {"gradnorm": [outcome("gradnorm", noise=other_noise(), mAP50=0.5)]}
    result = difference(found, PAIR)
    error = np.sqrt(FACTOR) * (other_noise()["mAP50"] - NOISE["mAP50"]).std(ddof=1)
    assert (result.basis, result.estimate.df) == (ONE_TRAINING, 9)
    assert (result.value, result.estimate.error) == pytest.approx((0.2, error))


def test_too_few_patients_give_no_interval():
    found = arms(fixed=[0.3, 0.4, 0.5], gradnorm=[0.5, 0.7, 0.6])
    few = [
        dataclasses.replace(own, patients=dict.fromkeys(METRICS, 1.5)) for own in found["gradnorm"]
    ]
    result = difference(found | {"gradnorm": few}, PAIR)
    assert (result.basis, result.estimate) == (NO_INTERVAL, None) and result.value == pytest.approx(
        0.2
    )


# ---- folds ---------------------------------------------------------------------------------------


def test_folds_average_their_seeds_first():
    fixed = np.array([[0.3, 0.4], [0.2, 0.6], [0.5, 0.5], [0.1, 0.2]])
    own = fixed + np.array([[0.1, 0.3], [0.0, 0.1], [0.2, 0.2], [0.4, 0.0]])
    result = difference(folds(gradnorm=own, fixed=fixed), PAIR)
    expected = stats.ttest_1samp([0.2, 0.05, 0.2, 0.2], 0).confidence_interval(0.95)
    assert (result.basis, result.value, len(result.trainings)) == (FOLDS, pytest.approx(0.1625), 8)
    assert result.estimate.interval() == pytest.approx(expected) and result.estimate.df == 3
    assert result.cautious.error == pytest.approx(result.estimate.error * np.sqrt(1 + 4 / 3))
    assert difference(folds(gradnorm=own[:2], fixed=fixed[:2]), PAIR).basis == TOO_FEW


def test_means_and_deviations_are_over_folds():
    found = folds(fixed=[[0.1, 0.3], [0.4, 0.8], [0.5, 0.1]])["fixed"]
    assert mean_and_deviation(found)["mAP50"] == pytest.approx(
        (11 / 30, np.std([0.2, 0.6, 0.3], ddof=1))
    )
    assert means_by_fold({(0, 0): 1.0, (1, 0): 2.0, (0, 1): 4.0}) == [2.5, 2.0]
    assert means_by_fold({(0, 0): 1.0, (0, 1): 4.0}) == [1.0, 4.0]


# ---- identical, paired, undefined ----------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [arms(fixed=0.3), arms(fixed=[0.3, 0.4]), folds(fixed=[[0.3], [0.4], [0.6]])]
)
def test_arms_of_the_same_figures_are_identical(kind: Mapping[str, Sequence[Outcome]]):
    result = difference({"gradnorm": kind["fixed"], **kind}, PAIR)
    assert (result.basis, result.value, result.estimate) == (IDENTICAL, 0, None)


def test_equal_figures_of_different_predictions_are_not_identical():
    found = arms(fixed=0.3) | {"gradnorm": [outcome("gradnorm", noise=other_noise(), mAP50=0.3)]}
    assert difference(found, PAIR).basis == ONE_TRAINING


def test_outcomes_are_paired_by_unit_whatever_their_order():
    found = arms(gradnorm=[0.3, 0.5, 0.9, 0.2], fixed=[0.1, 0.4, 0.8])
    found["gradnorm"] = found["gradnorm"][::-1]
    result = difference(found, PAIR)
    assert result.value == pytest.approx(0.4 / 3) and result.trainings == pytest.approx(
        (0.2, 0.1, 0.1)
    )


def test_a_pair_has_no_difference_where_there_is_nothing_to_compare():
    found = arms(gradnorm=[0.3], fixed=[0.1])
    elsewhere = [dataclasses.replace(found["fixed"][0], unit=(1, 0))]
    assert difference(found | {"fixed": elsewhere}, PAIR) is None
    assert difference({"gradnorm": found["gradnorm"]}, PAIR) is None
    assert (
        difference(
            found | {"fixed": [outcome("fixed", mAP50=0.1)]}, Contrast("gradnorm", "fixed", "F1")
        )
        is None
    )
    assert difference(found | {"fixed": [outcome("fixed", mAP50=None)]}, PAIR) is None
    assert difference(found | arms(fixed=[0.0]), PAIR, is_ratio=True) is None


# ---- ratios, sums, Delta-m -----------------------------------------------------------------------


def test_a_ratio_is_that_of_logarithms_and_its_patients_those_of_the_delta_method():
    found = arms(fixed=[0.30, 0.36, 0.33])
    found["gradnorm"] = [
        outcome("gradnorm", s, other_noise(), mAP50=v) for s, v in enumerate((0.40, 0.46, 0.40))
    ]
    result = difference(found, PAIR, is_ratio=True)
    own, other = np.array([0.40, 0.46, 0.40]), np.array([0.30, 0.36, 0.33])
    logs = [np.log(figures) for figures in (own, other)]
    drawn = other_noise()["mAP50"] * np.mean(1 / own) - NOISE["mAP50"] * np.mean(1 / other)
    patients, between = (
        FACTOR * drawn.var(ddof=1),
        2 / 3 * np.mean([np.var(log, ddof=1) for log in logs]),
    )
    assert result.value == pytest.approx(np.mean(logs[0] - logs[1]))
    assert result.estimate.error**2 == pytest.approx(patients + between)


def test_a_scale_that_is_common_to_seeds_and_patients_leaves_only_the_seeds():
    fixed = arms(fixed=[0.3, 0.5, 0.4])["fixed"]
    more = [
        outcome("gradnorm", o.unit[1], factor=1.2, **{m: o.figures[m] for m in METRICS})
        for o in fixed
    ]
    result = difference({"fixed": fixed, "gradnorm": more}, PAIR, is_ratio=True)
    between = 2 / 3 * np.var(np.log([0.3, 0.5, 0.4]), ddof=1)
    assert result.value == pytest.approx(np.log(1.2))
    assert (result.estimate.error**2, result.estimate.df) == pytest.approx((between, 4))


def test_a_single_arms_figure_varies_by_its_patients_and_seeds():
    found = arms(dual=[0.3, 0.5, 0.4, 0.2])
    result = combine(found, [Term("dual", "mAP50")])
    patients = FACTOR * NOISE["mAP50"].var(ddof=1)
    assert result.estimate.error**2 == pytest.approx(
        patients + np.var([0.3, 0.5, 0.4, 0.2], ddof=1) / 4
    )


def test_delta_m_by_hand():
    found = arms(dual=[0.4, 0.8])
    found["detection-only"] = [
        outcome("detection-only", seed, mAP50=value) for seed, value in ((1, 0.6), (0, 0.2))
    ]
    found["classification-only"] = [
        outcome("classification-only", seed, view_accuracy=0.8) for seed in (0, 1)
    ]
    gain = delta_m(found, "dual")
    assert np.exp(gain.value) == pytest.approx(
        (0.4 * 0.8 / (0.2 * 0.6) * 0.4 * 0.8 / 0.8**2) ** (1 / 4)
    )
    assert gain.basis == TOO_FEW  # two arms a task
    more = delta_m(found | arms(fixed=[0.4, 0.7], equal=[0.9, 0.8]), "dual")
    assert more.basis == SEEDS and more.value == gain.value


def test_delta_ms_variance_is_half_of_each_tasks_trainings():
    """Noise is proportional to each figure, so that patients cancel out of ratios."""
    proportional = {m: np.zeros(RESAMPLES) for m in METRICS}
    values = {
        "dual": (0.4, 0.8, 0.5),
        "detection-only": (0.2, 0.6, 0.4),
        "classification-only": (0.7, 0.8, 0.9),
    }
    found = {
        arm: [
            outcome(arm, seed, proportional, **dict.fromkeys(METRICS, value))
            for seed, value in enumerate(own)
        ]
        for arm, own in values.items()
    }
    spread = np.mean([np.var(np.log(own), ddof=1) for own in values.values()])
    gain = delta_m(found, "dual")
    assert gain.estimate.error**2 == pytest.approx(2 * spread / 2 / 3)
    assert gain.estimate.df == pytest.approx(2 * 6)  # two equal variances of six degrees each


def test_delta_m_needs_both_tasks():
    found = arms(dual=[0.4], detection_only=[0.3], classification_only=[0.3])
    assert delta_m(found, "dual")
    assert (
        delta_m({name: own for name, own in found.items() if name != "classification-only"}, "dual")
        is None
    )
    assert delta_m(found | {"dual": [outcome("dual", mAP50=0.3)]}, "dual") is None
    assert (
        delta_m(found | {"detection-only": [outcome("detection-only", mAP50=0.0)]}, "dual") is None
    )


# ---- resampled patients --------------------------------------------------------------------------


def test_resampled_metrics_are_those_of_the_resampled_patients():
    results = random_results(images=12, groups=4)
    found = resample(results, len(NAMES), len(VIEWS), ("detection", "classification"), seed=5)
    assert found.keys() == set(METRICS) and all(
        len(values) == RESAMPLES for values in found.values()
    )
    draws = group_draws([result.group for result in results], RESAMPLES, seed=5)
    for number in (0, 1, 2):
        counts = draws[number]
        copies = [r for r, count in zip(results, counts, strict=True) for _ in range(count)]
        metrics = summarise(copies, NAMES, VIEWS, intervals=False)
        detection, views = metrics["detection"], metrics["views"]
        expected = [
            detection["mAP_0.5"],
            detection["mAP_0.5:0.95"],
            views["accuracy"],
            views["balanced_accuracy"],
        ]
        assert [found[metric][number] for metric in METRICS] == pytest.approx(expected, abs=1e-9)


def test_a_tasks_metrics_do_not_depend_on_what_else_is_asked_and_the_draws_are_shared():
    """Two arms with the same views differ by nothing in them, whatever they detect."""
    results = random_results(images=12, groups=4)
    blind = [
        dataclasses.replace(
            r, boxes_xyxy=r.boxes_xyxy[:1], scores=r.scores[:1], classes=r.classes[:1]
        )
        for r in results
    ]
    both = resample(results, len(NAMES), len(VIEWS), ("detection", "classification"), seed=0)
    alone = resample(blind, len(NAMES), len(VIEWS), ("classification",), seed=0)
    assert alone.keys() == {"view_accuracy", "view_balanced_accuracy"}
    assert all(
        np.array_equal(both[metric], values, equal_nan=True) for metric, values in alone.items()
    )


def test_the_patients_behind_a_metric_are_those_of_an_evaluation():
    results = random_results(24)
    found = patients_behind(results, len(NAMES), len(VIEWS), ("detection", "classification"))
    metrics = summarise(results, NAMES, VIEWS)
    detection, views = (metrics[part]["effective_groups"] for part in ("detection", "views"))
    assert found == {
        "mAP50": detection["mAP_0.5"],
        "mAP50-95": detection["mAP_0.5:0.95"],
        "view_accuracy": views["accuracy"],
        "view_balanced_accuracy": views["balanced_accuracy"],
    }
    assert patients_behind(results, len(NAMES), len(VIEWS), ("detection",)).keys() == {
        "mAP50",
        "mAP50-95",
    }


def test_means_and_deviations_leave_out_what_is_undefined():
    three = [
        outcome("dual", seed, mAP50=value, F1=None) for seed, value in enumerate((0.2, None, 0.4))
    ]
    found = mean_and_deviation(three)
    assert found["mAP50"] == pytest.approx((0.3, np.std([0.2, 0.4], ddof=1))) and "F1" not in found
    assert mean_and_deviation(three[:1])["mAP50"] == (0.2, None) and mean_and_deviation([]) == {}
