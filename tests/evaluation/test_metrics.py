"""The figures of an evaluation as a whole.

Perfect, absent and undefined ones, and their intervals.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_up_results import NAMES, VIEWS, image_result, random_results, without_predictions
from scipy import stats

from utils.evaluation.metrics import fitness, fitness_parts, summarise
from utils.evaluation.results import group_draws
from utils.evaluation.tables import format_table

# ---- figures -------------------------------------------------------------------------------------


def test_perfect_predictions_score_one():
    truth = [[(0, 10, 10, 50, 60)], [(1, 0, 0, 30, 30), (0, 50, 50, 99, 99)], [(2, 5, 7, 77, 88)]]
    results = [
        image_result(boxes, [(0.9, *box) for box in boxes], view, np.eye(3)[view], f"{view}.jpg")
        for view, boxes in enumerate(truth)
    ]
    metrics = summarise(results, NAMES, VIEWS)
    detection, views = metrics["detection"], metrics["views"]
    ones = ["mAP_0.5", "mAP_0.5:0.95", "mAP_0.3", "precision", "recall", "f1", "matched_share"]
    assert [detection[key] for key in ones] == pytest.approx([1] * len(ones))
    assert detection["yolov5_mAP_0.5:0.95"] == pytest.approx(0.995)  # its 101 points end at (1, 0)
    assert detection["mse_xywhn"] == 0
    assert detection["confusion"] == np.diag([2, 1, 1, 0]).tolist()
    assert [views[key] for key in ("accuracy", "balanced_accuracy", "macro_f1", "auroc")] == [
        1,
        1,
        1,
        1,
    ]
    assert views["ece"] == 0
    assert views["confusion"] == np.eye(3).tolist()
    assert metrics["fitness"] == pytest.approx(1)
    assert detection["intervals"]["mAP_0.5"] == [
        None,
        None,
    ]  # where resamples do not differ, nothing is known


def test_no_predictions_score_zero():
    results = [without_predictions(result) for result in random_results(6)]
    detection = summarise(results, NAMES, VIEWS)["detection"]
    zeros = ["mAP_0.5", "mAP_0.5:0.95", "mAP_0.3", "precision", "recall", "f1", "matched_share"]
    assert [detection[key] for key in zeros] == [0] * len(zeros)
    assert detection["mse_xywhn"] is None
    assert sum(detection["confusion"][-1]) == sum(len(result.true_classes) for result in results)


@pytest.mark.parametrize("found", [(), [(0.9, 0, 0, 0, 10, 10)]])
def test_nothing_to_measure_is_none_and_not_zero(found):
    metrics = summarise([image_result(found=found)], NAMES, VIEWS)
    detection, views = metrics["detection"], metrics["views"]
    assert metrics["boxes"] == 0 and views["images"] == 0 and metrics["fitness"] == 0
    undefined = (
        "mAP_0.5",
        "mAP_0.5:0.95",
        "precision",
        "recall",
        "f1",
        "matched_share",
        "mse_xywhn",
    )
    assert [detection[key] for key in undefined] == [None] * len(undefined)
    undefined = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")
    assert [views[key] for key in undefined] == [None] * len(undefined)
    assert detection["intervals"] == views["intervals"] == {}
    assert detection["confusion"][0][-1] == len(found)
    json.dumps(metrics, allow_nan=False)
    assert "no image with a known" in format_table(metrics)


def test_a_model_without_a_view_head_and_data_without_views():
    results = [replace(result, view_probabilities=np.zeros(0)) for result in random_results(5)]
    for view_names in (VIEWS, ()):
        metrics = summarise(results, NAMES, view_names)
        assert metrics["views"]["images"] == 0
        assert np.shape(metrics["views"]["confusion"]) in ((3, 3), (0,))
        detection = metrics["detection"]
        expected = 0.1 * detection["mAP_0.5"] + 0.9 * detection["mAP_0.5:0.95"]
        assert metrics["fitness"] == pytest.approx(expected)


# ---- intervals and fitness -----------------------------------------------------------------------


def test_intervals_hold_the_figure_and_repeat():
    metrics = summarise(random_results(60), NAMES, VIEWS)
    assert metrics["interval_unit"] == "patients (group_pattern), 10 groups"
    assert metrics["resamples"] == 1000
    for part, keys in (
        ("detection", ("mAP_0.5", "mAP_0.5:0.95")),
        ("views", ("accuracy", "balanced_accuracy")),
    ):
        assert set(metrics[part]["intervals"]) == set(keys)
        for key in keys:
            low, high = metrics[part]["intervals"][key]
            assert low < metrics[part][key] < high
            assert metrics[part][key] - low == pytest.approx(high - metrics[part][key])
            assert 7 < metrics[part]["effective_groups"][key] <= 10
    assert summarise(random_results(60), NAMES, VIEWS) == metrics


def test_intervals_resample_groups_and_not_images():
    results = random_results(24)
    one_group = summarise([replace(result, group="p") for result in results], NAMES, VIEWS)
    for part in ("detection", "views"):
        assert set(map(tuple, one_group[part]["intervals"].values())) == {
            (None, None)
        }  # one patient shows no spread
    by_image = summarise([replace(result, group=result.image) for result in results], NAMES, VIEWS)
    assert by_image["interval_unit"] == "images"
    # every image four times, kept together in groups: no more certain than the images once
    copies = [replace(r, image=f"{n}{r.image}", group=r.image) for r in results for n in range(4)]
    copied = summarise(copies, NAMES, VIEWS)
    assert copied["views"]["intervals"]["accuracy"] == pytest.approx(
        by_image["views"]["intervals"]["accuracy"]
    )


def test_an_interval_is_t_times_the_bootstraps_standard_error():
    """Patients of one and of three frames, each right or wrong throughout."""
    frames = [("p", 1, 1), ("q", 1, 0), ("r", 3, 1), ("s", 3, 0)]
    rows = [(group, right) for group, count, right in frames for _ in range(count)]
    results = [
        image_result(view=0, probabilities=[right, 1 - right, 0], name=f"{n}.jpg", group=group)
        for n, (group, right) in enumerate(rows)
    ]
    views = summarise(results, NAMES, VIEWS)["views"]
    resample_counts = group_draws([group for group, _ in rows])
    drawn = (resample_counts @ [right for _, right in rows]) / resample_counts.sum(axis=1)
    patients = 8**2 / (1 + 1 + 9 + 9)
    half = stats.t.ppf(0.975, patients - 1) * np.sqrt(patients / (patients - 1)) * drawn.std(ddof=1)
    assert views["effective_groups"]["accuracy"] == pytest.approx(patients)
    assert views["intervals"]["accuracy"] == pytest.approx(np.clip([0.5 - half, 0.5 + half], 0, 1))
    low = replace(results[0], view_probabilities=np.array([0.0, 1.0, 0.0]))
    assert (
        summarise([low, *results[1:]], NAMES, VIEWS)["views"]["intervals"]["accuracy"][0] == 0
    )  # clipped


def test_what_is_behind_a_class_stands_beside_its_figure():
    results = random_results(24)
    metrics = summarise(results, NAMES, VIEWS)
    for number, row in enumerate(metrics["detection"]["per_class"]):
        assert row["groups"] == len({r.group for r in results if number in r.true_classes})
    for number, row in enumerate(metrics["views"]["per_view"]):
        assert row["groups"] == len({r.group for r in results if r.true_view == number})
    rare = [replace(r, true_view=0 if r.true_view == 1 else r.true_view) for r in results]
    rare[0] = replace(
        rare[0], true_view=1
    )  # in one of ten patients, whom 0.9^10 of the resamples lack
    views = summarise(rare, NAMES, VIEWS)["views"]
    assert views["per_view"][1]["groups"] == 1
    assert views["incomplete_resamples"] / 1000 == pytest.approx(0.9**10, abs=0.05)
    alone = [replace(result, group=result.image) for result in results]
    assert {row["groups"] for row in summarise(alone, NAMES, VIEWS)["detection"]["per_class"]} == {
        None
    }


def test_no_intervals_when_not_asked_for():
    metrics = summarise(random_results(5), NAMES, VIEWS, intervals=False)
    assert metrics["detection"]["intervals"] == metrics["views"]["intervals"] == {}
    assert metrics["resamples"] == 0


def test_fitness_is_half_detection_and_half_the_views_accuracy_above_chance():
    def of(detection: float | None, view: float | None, *tasks: tuple[str, ...]) -> float:
        boxes = {"mAP_0.5": detection and 3 * detection, "mAP_0.5:0.95": detection}
        metrics = {
            "detection": boxes,
            "views": {"balanced_accuracy": view},
            "view_names": ["A", "B", "C"],
        }
        return fitness(fitness_parts(metrics, *tasks))

    assert of(0.2, 0.8) == pytest.approx(0.5 * 0.24 + 0.5 * 0.7)
    assert of(0.2, 1 / 3) == pytest.approx(0.12)
    assert of(0.2, None) == of(0.2, 0.7, ("detection",)) == pytest.approx(0.24)
    assert of(None, 0.8) == of(0.2, 0.8, ("classification",)) == pytest.approx(0.7)
    assert of(None, None) == of(0.2, None, ("classification",)) == 0


def test_a_single_view_says_nothing_of_fitness():
    metrics = {"views": {"balanced_accuracy": 1.0}, "view_names": ["A4C"]}
    assert fitness_parts(metrics) == {}


def test_a_scale_of_the_detection_makes_both_parts_count():
    assert fitness({"detection": 0.03, "classification": 0.6}, 0.06) == pytest.approx(0.55)
