"""FROC and the figures of whole frames, against cases by hand, their definitions, scikit-learn and
SciPy.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_results import NAMES, VIEWS, image_result, random_results, without_predictions
from scipy import stats
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from utils.evaluation.average_precision import match_predictions
from utils.evaluation.matching import IOU_THRESHOLDS
from utils.evaluation.metrics import summarise
from utils.evaluation.results import ImageResult, group_draws
from utils.evaluation.screening import FROC_RATES, NO_NEGATIVES, frame_rates, froc, wilson
from utils.evaluation.tables import format_table

SETTINGS = settings(max_examples=200, deadline=None, derandomize=True, database=None)
RATES = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]


# ---- FROC ----------------------------------------------------------------------------------------


def test_froc_by_hand():
    # 8 frames, 4 true boxes of class 0; class 1 has a detection and no true box
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.95])
    is_hit = np.array([1, 0, 1, 0, 0, 1, 0], bool)
    found = froc(("AR", "MR"), is_hit, scores, np.array([0, 0, 0, 0, 0, 0, 1]), np.zeros(4, int), 8)
    assert found["false_positives"].tolist() == RATES
    # one false box allowed: down to 0.7; two: no better; four: all three hits
    assert found["per_class"][0]["sensitivity"].tolist() == [0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75]
    assert found["per_class"][0]["mean"] == pytest.approx((2 * 0.5 + 5 * 0.75) / 7)
    assert np.isnan(found["per_class"][1]["sensitivity"]).all() and np.isnan(
        found["per_class"][1]["mean"]
    )
    assert (
        found["sensitivity"].tolist() == found["per_class"][0]["sensitivity"].tolist()
    )  # of the class that there is
    assert found["curve"]["false_positives"][[0, 60, 120]].tolist() == [1 / 8, 1, 8]
    assert np.nanmax(found["curve"]["sensitivity"]) == 0.75


def test_a_threshold_takes_all_detections_of_its_score():
    found = froc(
        ("AR",),
        np.array([True, False]),
        np.array([0.5, 0.5]),
        np.zeros(2, int),
        np.zeros(1, int),
        4,
    )
    assert found["sensitivity"].tolist() == [
        0,
        1,
        1,
        1,
        1,
        1,
        1,
    ]  # the hit costs a false box, 1/4 a frame


DETECTIONS = st.lists(
    st.tuples(st.booleans(), st.sampled_from(np.linspace(0, 1, 9).tolist())), max_size=40
)


@SETTINGS
@given(DETECTIONS, st.integers(0, 5), st.integers(1, 20))
def test_froc_is_its_definition_and_rises(detections: list, missed: int, images: int):
    is_hit, scores = (np.array([row[column] for row in detections]) for column in (0, 1))
    is_hit, true_count = is_hit.astype(bool), int(is_hit.sum()) + missed
    curve = froc(
        ("AR",), is_hit, scores, np.zeros(len(scores), int), np.zeros(true_count, int), images
    )["curve"]
    sensitivity = curve["sensitivity"][0]
    if not true_count:
        assert np.isnan(sensitivity).all()
        return
    assert (np.diff(sensitivity) >= 0).all()
    points = [
        ((~is_hit[scores >= t]).sum() / images, is_hit[scores >= t].sum() / true_count)
        for t in {2.0, *scores}
    ]
    expected = [max(recall for false, recall in points if false <= rate) for rate in FROC_RATES]
    assert sensitivity.tolist() == expected


def test_froc_agrees_with_the_recall_at_every_threshold():
    results = random_results()
    found = summarise(results, NAMES, VIEWS, intervals=False)["detection"]["froc"]
    for number, row in enumerate(found["per_class"]):
        points = []
        for threshold in {1.1, *np.concatenate([r.scores for r in results])}:
            hits, false = counts_at(results, number, threshold)
            points.append(
                (
                    false / len(results),
                    hits / sum((r.true_classes == number).sum() for r in results),
                )
            )
        expected = [max(recall for false, recall in points if false <= rate) for rate in RATES]
        assert row["sensitivity"] == pytest.approx(expected)
    assert found["sensitivity"] == pytest.approx(
        np.mean([row["sensitivity"] for row in found["per_class"]], axis=0)
    )
    assert 0.1 < found["sensitivity"][0] < found["mean"] < found["sensitivity"][-1] <= 1


def counts_at(results: list[ImageResult], number: int, threshold: float) -> tuple[int, int]:
    """True and false positives of a class at a threshold, matched anew."""
    hits = detections = 0
    for result in results:
        kept = (result.scores >= threshold) & (result.classes == number)
        truth = result.true_boxes_xyxy, result.true_classes
        hit, _ = match_predictions(
            result.boxes_xyxy[kept], result.classes[kept], *truth, IOU_THRESHOLDS[:1]
        )
        hits, detections = hits + hit.sum(), detections + kept.sum()
    return hits, detections - hits


def test_a_perfect_detector_finds_all_at_every_rate_and_none_finds_nothing():
    results = random_results(10)
    perfect = [
        replace(
            r,
            boxes_xyxy=r.true_boxes_xyxy,
            classes=r.true_classes,
            scores=np.full(len(r.true_classes), 0.9),
        )
        for r in results
    ]
    assert summarise(perfect, NAMES, VIEWS)["detection"]["froc"]["sensitivity"] == [1] * 7
    blind = summarise([without_predictions(r) for r in results], NAMES, VIEWS)["detection"]["froc"]
    assert blind["sensitivity"] == [0] * 7 and blind["mean"] == 0


# ---- whole frames --------------------------------------------------------------------------------


def presence(results: list[ImageResult], confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """True and called classes of each frame, any finding first."""
    truth, called = np.zeros((2, len(results), 1 + len(NAMES)), bool)
    for row, result in enumerate(results):
        for box_class in result.true_classes:
            truth[row, [0, 1 + box_class]] = True
        for box_class, score in zip(result.classes, result.scores, strict=True):
            if score >= confidence:
                called[row, [0, 1 + box_class]] = True
    return truth, called


def test_rates_of_frames_equal_scikit_learn():
    results = random_results(60, seed=6)  # with which no rate is 0 or 1
    level = summarise(results, NAMES, VIEWS, confidence=0.57, intervals=False)["detection"][
        "image_level"
    ]
    truth, called = presence(results, 0.57)
    rows = [level["any"], *level["per_class"]]
    assert [row["name"] for row in rows] == ["any finding", *NAMES]
    for row, own_truth, own_called in zip(rows, truth.T, called.T, strict=True):
        tn, fp, fn, tp = confusion_matrix(own_truth, own_called).ravel()
        assert (row["positives"], row["negatives"]) == (tp + fn, tn + fp)
        assert row["sensitivity"] == pytest.approx(tp / (tp + fn)) and 0 < row["sensitivity"] < 1
        assert row["specificity"] == pytest.approx(tn / (tn + fp)) and 0 < row["specificity"] < 1
        assert row["sensitivity_interval"] == row["specificity_interval"] == [None, None]
    assert level["any"]["note"] is None


def test_a_frame_counts_as_called_wherever_the_box_lies_and_at_the_confidence():
    truth = [(0, 0, 0, 10, 10)]
    elsewhere, faint, other = (
        [(score, number, 150, 50, 190, 90)] for score, number in ((0.5, 0), (0.49, 0), (0.9, 1))
    )
    results = [
        image_result(truth, found, name=f"{i}") for i, found in enumerate((elsewhere, faint, other))
    ]
    level = summarise(results, NAMES, VIEWS, confidence=0.5)["detection"]["image_level"]
    assert level["per_class"][0]["sensitivity"] == pytest.approx(1 / 3)
    assert level["any"]["sensitivity"] == pytest.approx(2 / 3)
    assert level["per_class"][1]["sensitivity"] is None
    assert level["per_class"][1]["specificity"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("hits", "attempts"), [(0, 1), (0, 30), (3, 7), (95, 100), (30, 30), (1, 1)]
)
def test_wilson_equals_scipy(hits: int, attempts: int):
    expected = binomtest(hits, attempts).proportion_ci(0.95, "wilson")
    assert wilson(np.array([hits]), np.array([attempts]))[0] == pytest.approx(
        [expected.low, expected.high], abs=1e-6
    )


def test_without_groups_the_intervals_are_wilsons():
    results = [replace(result, group=result.image) for result in random_results(40)]
    metrics = summarise(results, NAMES, VIEWS, confidence=0.5)
    for row in (
        metrics["detection"]["image_level"]["any"],
        *metrics["detection"]["image_level"]["per_class"],
    ):
        for rate, count in (("sensitivity", "positives"), ("specificity", "negatives")):
            hits = round(row[rate] * row[count])
            expected = binomtest(hits, row[count]).proportion_ci(0.95, "wilson")
            assert row[f"{rate}_interval"] == pytest.approx([expected.low, expected.high], abs=1e-6)
        assert row["positive_groups"] is None
    assert "95 % intervals: Wilson's, over images" in format_table(metrics).splitlines()


def test_with_groups_the_intervals_are_t_times_their_bootstraps_errors():
    results = random_results(60, seed=6)
    groups = [result.group for result in results]
    (truth, called), resample_counts = presence(results, 0.57), group_draws(groups, resamples=100)
    level = frame_rates(NAMES, truth[:, 1:], called[:, 1:], np.array(groups), resample_counts)
    for row, own_truth, own_called in zip(
        [level["any"], *level["per_class"]], truth.T, called.T, strict=True
    ):
        assert row["positive_groups"] == len(
            {group for group, shown in zip(groups, own_truth, strict=True) if shown}
        )
        drawn = []
        for counts in resample_counts:
            (tn, fp), (fn, tp) = confusion_matrix(
                own_truth, own_called, sample_weight=counts, labels=[False, True]
            )
            drawn.append((tp / (tp + fn), tn / (tn + fp)))
        errors = np.std(drawn, axis=0, ddof=1)
        for rate, error, shown in zip(
            ("sensitivity", "specificity"), errors, (own_truth, ~own_truth), strict=True
        ):
            counts = [
                sum(shown[i] for i in range(60) if groups[i] == group) for group in set(groups)
            ]
            patients = sum(counts) ** 2 / sum(count**2 for count in counts)
            half = stats.t.ppf(0.975, patients - 1) * error * np.sqrt(patients / (patients - 1))
            assert row[f"{rate}_interval"] == pytest.approx(
                np.clip([row[rate] - half, row[rate] + half], 0, 1)
            )
    wilsons = frame_rates(NAMES, truth[:, 1:], called[:, 1:], None, resample_counts)["any"][
        "sensitivity_interval"
    ]
    assert wilsons.tolist() != level["any"]["sensitivity_interval"].tolist()


def test_an_interval_is_undefined_where_resamples_do_not_differ():
    truth, called = (
        np.array([[1], [1], [0], [0], [0]], bool),
        np.array([[1], [1], [0], [1], [1]], bool),
    )
    groups = np.array(["a", "b", "c", "d", "e"])
    (row,) = frame_rates(("AR",), truth, called, groups, group_draws(groups))["per_class"]
    assert row["sensitivity"] == 1 and np.isnan(row["sensitivity_interval"]).all()
    assert (
        row["specificity"] == pytest.approx(1 / 3)
        and np.isfinite(row["specificity_interval"]).all()
    )
    few = frame_rates(
        ("AR",), truth[2:], called[2:], groups[[2, 3, 3]], group_draws(groups[[2, 3, 3]])
    )["any"]
    assert np.isnan(few["specificity_interval"]).all()  # two unequal patients weigh less than two
    one = summarise([replace(result, group="p") for result in random_results(9)], NAMES, VIEWS)[
        "detection"
    ]
    assert one["image_level"]["any"]["sensitivity_interval"] == [None, None]


def test_without_a_negative_frame_the_specificity_is_words():
    results = [result for result in random_results(40) if len(result.true_classes)]
    metrics = summarise(results, NAMES, VIEWS, confidence=0.5)
    level = metrics["detection"]["image_level"]
    json.dumps(metrics, allow_nan=False)
    assert (level["any"]["negatives"], level["any"]["specificity"]) == (0, None)
    assert level["any"]["note"] == NO_NEGATIVES
    lines = format_table(metrics).splitlines()
    assert f"any finding: {NO_NEGATIVES}" in lines
    (row,) = [line for line in lines if line.startswith("any finding ")]
    assert row.split()[-2:] == ["0", "-"]
