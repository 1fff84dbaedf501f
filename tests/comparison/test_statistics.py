"""Differences with intervals against simulations, Delta-m, the best of the grid."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from made_up_outcomes import METRICS, arms, outcome
from made_up_results import NAMES, VIEWS, random_results

from utils.comparison.arms import GRID, find_arm
from utils.comparison.outcomes import Outcome
from utils.comparison.report import collect
from utils.comparison.statistics import (
    RESAMPLES,
    Difference,
    best_of,
    delta_m,
    difference,
    mean_and_deviation,
    resample,
)
from utils.evaluation.metrics import summarise
from utils.evaluation.results import group_draws

# ---- differences -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "word"), [(0.03, "better"), (-0.03, "worse"), (0.0, "not distinguishable")])
def test_a_constant_shift_has_no_width(shift: float, word: str):
    """Seeds and patients move both arms alike, so that nothing is left of them."""
    reference = np.array([0.3, 0.5, 0.4])
    found = arms(gradnorm=reference + shift, fixed=reference)
    for metric in METRICS:
        result = difference(found["gradnorm"], found["fixed"], metric)
        assert [result.value, result.low, result.high] == pytest.approx([shift] * 3)
        assert (result.word, result.units, result.relative) == (word, 3, False)
        assert (result.arm, result.reference, result.metric) == ("gradnorm", "fixed", metric)


def test_a_constant_ratio_has_no_width():
    fixed = arms(fixed=[0.3, 0.5])["fixed"]
    more = [outcome("dual", o.unit[1], factor=1.2, **{m: o.figures[m] for m in METRICS}) for o in fixed]
    result = difference(more, fixed, "mAP50", relative=True)
    assert [result.value, result.low, result.high] == pytest.approx([0.2] * 3)


def test_an_arm_is_not_distinguishable_from_itself():
    own = arms(equal=[0.9, 0.1, 0.3, 0.2])["equal"]
    result = difference(own, own, "mAP50")
    assert (result.value, result.low, result.high, result.word) == (0, 0, 0, "not distinguishable")


def test_outcomes_are_paired_by_unit_whatever_their_order():
    found = arms(gradnorm=[0.3, 0.5, 0.9, 0.2], fixed=[0.1, 0.4, 0.8])
    expected = difference(found["gradnorm"][:3], found["fixed"], "mAP50")
    assert difference(found["gradnorm"][::-1], found["fixed"], "mAP50").value == pytest.approx(expected.value)
    assert expected.value == pytest.approx(0.4 / 3) and expected.units == 3
    assert expected.low == pytest.approx(0.1) and expected.high == pytest.approx(0.2)


def test_a_pair_has_no_difference_where_there_is_nothing_to_compare():
    found = arms(gradnorm=[0.3], fixed=[0.1])
    elsewhere = [dataclasses.replace(found["fixed"][0], unit=(1, 0))]
    assert difference(found["gradnorm"], elsewhere, "mAP50") is None
    assert difference(found["gradnorm"], [], "mAP50") is None
    assert difference(found["gradnorm"], [outcome("detection-only", mAP50=0.1)], "view_accuracy") is None
    undefined = [outcome("fixed", mAP50=None)]
    assert difference(found["gradnorm"], undefined, "mAP50") is None
    nothing = arms(fixed=[0.0])["fixed"]
    assert difference(found["gradnorm"], nothing, "mAP50", relative=True) is None


def test_about_95_of_100_intervals_hold_the_truth():
    """Arms differ by 0.3 for a training and a patient drawn from all there could be; both add to the spread."""
    rng, seeds, patients, repeats, hits = np.random.default_rng(0), 8, 30, 300, 0
    draws = group_draws([str(patient) for patient in range(patients)], RESAMPLES, seed=3) / patients
    for _ in range(repeats):
        common = rng.normal(0, 3, (seeds, patients))
        of_seed, of_patient = rng.normal(0, 0.7, (seeds, 1)), rng.normal(0, 1.4, patients)
        apart = 0.3 + of_seed + of_patient + rng.normal(0, 1, (seeds, patients))
        pair = [
            [Outcome(arm, (0, seed), {"mAP50": x.mean()}, {}, {"mAP50": draws @ x}) for seed, x in enumerate(values)]
            for arm, values in (("dual", common + apart), ("gradnorm", common))
        ]
        result = difference(*pair, "mAP50")
        hits += result.low <= 0.3 <= result.high
    assert 0.88 < hits / repeats < 0.99  # 0.8 and less if seeds, or patients, were left out


def test_resampled_metrics_are_those_of_the_resampled_patients():
    results = random_results(images=12, groups=4)
    found = resample(results, len(NAMES), len(VIEWS), ("detection", "classification"), seed=5)
    assert found.keys() == set(METRICS) and all(len(values) == RESAMPLES for values in found.values())
    draws = group_draws([result.group for result in results], RESAMPLES, seed=5)
    for number in (0, 1, 2):
        counts = draws[number]
        copies = [r for r, count in zip(results, counts, strict=True) for _ in range(count)]
        metrics = summarise(copies, NAMES, VIEWS, intervals=False)
        detection, views = metrics["detection"], metrics["views"]
        expected = [detection["mAP_0.5"], detection["mAP_0.5:0.95"], views["accuracy"], views["balanced_accuracy"]]
        assert [found[metric][number] for metric in METRICS] == pytest.approx(expected, abs=1e-9)


def test_a_tasks_metrics_do_not_depend_on_what_else_is_asked_and_the_draws_are_shared():
    """Two arms with the same views differ by nothing in them, whatever they detect."""
    results = random_results(images=12, groups=4)
    blind = [
        dataclasses.replace(r, boxes_xyxy=r.boxes_xyxy[:1], scores=r.scores[:1], classes=r.classes[:1]) for r in results
    ]
    both = resample(results, len(NAMES), len(VIEWS), ("detection", "classification"), seed=0)
    alone = resample(blind, len(NAMES), len(VIEWS), ("classification",), seed=0)
    assert alone.keys() == {"view_accuracy", "view_balanced_accuracy"}
    assert all(np.array_equal(both[metric], values, equal_nan=True) for metric, values in alone.items())


# ---- Delta-m, the best of a grid ---------------------------------------------------------------------------


def test_delta_m_by_hand():
    found = arms(dual=[0.4, 0.8])["dual"]
    single = {
        "detection": [outcome("detection-only", seed, mAP50=value) for seed, value in ((1, 0.6), (0, 0.2))],
        "classification": [outcome("classification-only", seed, view_accuracy=0.8) for seed in (0, 1)],
    }
    gain = delta_m(found, single)
    assert gain["value"] == pytest.approx((0.6 / 0.4 - 1 + 0.6 / 0.8 - 1) / 2)
    assert gain["low"] < gain["value"] < gain["high"]
    twice = [outcome("dual", o.unit[1], factor=2, **{m: o.figures[m] for m in METRICS}) for o in found]
    of_itself = delta_m(twice, dict.fromkeys(("detection", "classification"), found))
    assert list(of_itself.values()) == pytest.approx([1.0] * 3)  # twice as good at both


def test_delta_m_needs_both_tasks():
    found = arms(dual=[0.4], detection_only=[0.3], classification_only=[0.3])
    single = {"detection": found["detection-only"], "classification": found["classification-only"]}
    assert delta_m(found["dual"], single) and delta_m(found["dual"], {"detection": single["detection"]}) is None
    assert delta_m([outcome("detection-only", mAP50=0.3)], single) is None
    blind = [outcome("detection-only", mAP50=0.0)]
    assert delta_m(found["dual"], single | {"detection": blind}) is None


def test_the_best_of_the_grid_is_chosen_on_validation_whatever_is_reported():
    """On the test split the last arm of the grid is best."""
    found = arms(**{name.replace("-", "_"): [0.1 + 0.1 * number, 0.1] for number, name in enumerate(GRID)})
    chosen = [dataclasses.replace(o, figures={**o.figures, "validation_fitness": 0.9}) for o in found["ratio-4"]]
    assert best_of(found) == GRID[-1] and best_of(found | {"ratio-4": chosen}) == "ratio-4"
    results = collect_made_up(found | {"ratio-4": chosen} | arms(gradnorm=[0.4, 0.3]))
    assert results["tuned"] == "ratio-4" and results["arms"]["tuned"]["runs"] == results["arms"]["ratio-4"]["runs"]
    assert ["gradnorm", "tuned"] in [[d["arm"], d["reference"]] for d in results["differences"]]
    del found["ratio-15"]  # of a part of the grid there is no best
    assert collect_made_up(found)["tuned"] is None


def collect_made_up(found: Mapping[str, Sequence[Outcome]]) -> dict:
    return collect({}, [find_arm(name) for name in found], found, {})


def test_means_and_deviations_leave_out_what_is_undefined():
    three = [outcome("dual", seed, mAP50=value, F1=None) for seed, value in enumerate((0.2, None, 0.4))]
    found = mean_and_deviation(three)
    assert found["mAP50"] == pytest.approx((0.3, np.std([0.2, 0.4], ddof=1))) and "F1" not in found
    assert mean_and_deviation(three[:1])["mAP50"] == (0.2, None) and mean_and_deviation([]) == {}


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.01, 0.2, "better"),
        (-0.01, 0.2, "not distinguishable"),  # a gain whose interval holds zero
        (0.0, 0.2, "not distinguishable"),
        (-0.2, 0.01, "not distinguishable"),
        (-0.2, -0.01, "worse"),
    ],
)
def test_the_word_is_that_of_the_whole_interval(low: float, high: float, word: str):
    assert Difference("a", "b", "mAP50", (low + high) / 2, low, high, units=3).word == word
