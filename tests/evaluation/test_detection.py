"""The figures of the boxes, by hand."""

import json
from pathlib import Path

import pytest
from made_up_results import NAMES, VIEWS, image_result, random_results

from utils.core.options import USUAL_CONFIDENCE
from utils.evaluation.average_precision import coco_evaluation
from utils.evaluation.detection import detection_confusion
from utils.evaluation.evaluate import write_evaluation
from utils.evaluation.metrics import confidence_of, summarise
from utils.evaluation.tables import format_table
from utils.plots.run import draw_evaluation


def test_confusion_by_hand():
    truth = [(0, 0, 0, 10, 10), (1, 20, 0, 30, 10), (2, 40, 0, 50, 10)]
    found = [
        (0.9, 0, 0, 0, 10, 10),  # right
        (0.8, 2, 20, 0, 30, 10),  # a 1 taken for a 2
        (0.7, 1, 20, 0, 30, 10),  # right, but that box is taken
        (0.2, 2, 40, 0, 50, 10),  # below the threshold
    ]
    evaluation = coco_evaluation([image_result(truth, found)], 3)
    confusion = detection_confusion(evaluation, 0.5)
    assert confusion.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]]


def test_an_absent_class_is_none_and_outside_the_means():
    truth, found = [(0, 0, 0, 10, 10)], [(0.9, 0, 0, 0, 10, 10), (0.8, 1, 0, 0, 10, 10)]
    detection = summarise([image_result(truth, found)], NAMES, VIEWS)["detection"]
    assert detection["mAP_0.5"] == pytest.approx(1) and detection["precision"] == pytest.approx(1)
    absent = detection["per_class"][1]
    assert (absent["name"], absent["images"], absent["boxes"]) == ("MR", 0, 0)
    assert absent["AP_0.5"] is absent["AP_0.3"] is absent["precision"] is absent["f1"] is None
    assert detection["pr_curve"]["precision"][1] == [None] * 101


def test_localisation_error_by_hand():
    # 200 x 100 pixels: 4 px to the right and 2 px down, 10 px wider; and one that does not match
    truth = [(0, 20, 20, 80, 60), (0, 100, 0, 150, 50)]
    found = [(0.9, 0, 19, 22, 89, 62), (0.8, 0, 150, 60, 190, 90), (0.1, 0, 100, 0, 150, 50)]
    detection = summarise([image_result(truth, found)], NAMES, VIEWS, confidence=0.5)["detection"]
    assert detection["matched_share"] == 0.5
    assert detection["mse_xywhn"] == pytest.approx((0.02**2 + 0.02**2 + 0.05**2) / 4)
    assert detection["confidence"] == 0.5 and detection["confidence_source"] == "given"


def test_the_chosen_confidence_given_back_gives_the_same_figures():
    results = random_results()
    chosen = summarise(results, NAMES, VIEWS, intervals=False)["detection"]
    given = summarise(results, NAMES, VIEWS, confidence=chosen["confidence"], intervals=False)[
        "detection"
    ]
    assert (
        chosen.pop("confidence_source") == "maximises F1 here"
        and given.pop("confidence_source") == "given"
    )
    assert chosen == given
    for other in (0.1, 0.9):
        detection = summarise(results, NAMES, VIEWS, confidence=other, intervals=False)["detection"]
        assert detection["f1"] < chosen["f1"]


def test_counts_per_class():
    truth = [(0, 0, 0, 10, 10), (0, 20, 0, 30, 10), (1, 40, 0, 50, 10)]
    rows = summarise([image_result(truth), image_result(truth[:1], name="b")], NAMES, VIEWS)[
        "detection"
    ]["per_class"]
    assert [(row["images"], row["boxes"]) for row in rows] == [(2, 3), (1, 1), (0, 0)]


# ---- where no threshold finds a box --------------------------------------------------------------

BOX = (0, 0, 0, 10, 10)
NOTHING_FOUND = {
    "no prediction": [image_result([BOX])],
    "far away": [image_result([BOX], [(0.9, 0, 100, 50, 150, 90)])],
    "of another class": [image_result([BOX], [(0.9, 1, 0, 0, 10, 10)])],
    "of a class that nothing is": [
        image_result([BOX], [(0.3, 2, 0, 0, 10, 10), (0.2, 1, 0, 0, 10, 10)])
    ],
    "too large": [image_result([BOX], [(0.9, 0, 0, 0, 100, 100)])],
    "of scores that are almost 0": [image_result([BOX], [(0.001, 0, 50, 50, 60, 60)] * 150)],
    "no true box": [image_result([], [(0.9, 0, 0, 0, 10, 10)])],
    "neither": [image_result(), image_result(name="b.jpg")],
    "several images": [
        image_result([BOX], [(0.9, 2, 0, 0, 9, 9)]),
        image_result([(1, 5, 5, 50, 50)], name="b.jpg"),
    ],
    "on the wrong image": [
        image_result([BOX]),
        image_result([], [(0.8, 0, 0, 0, 10, 10)], name="b.jpg"),
    ],
}


@pytest.mark.parametrize("kind", NOTHING_FOUND)
def test_no_threshold_is_chosen_where_none_finds_a_box(kind: str):
    results = NOTHING_FOUND[kind]
    metrics = summarise(results, NAMES, VIEWS)
    detection = metrics["detection"]
    assert detection["confidence"] is None and confidence_of(metrics) is None
    assert (
        detection["confidence_source"] == f"none finds a box; the usual {USUAL_CONFIDENCE} is taken"
    )
    assert {detection[key] for key in ("precision", "recall", "f1")} <= {0, None}
    at_usual = summarise(results, NAMES, VIEWS, confidence=USUAL_CONFIDENCE)["detection"]
    for key in (
        "precision",
        "recall",
        "f1",
        "per_class",
        "confusion",
        "image_level",
        "matched_share",
        "mse_xywhn",
    ):
        assert detection[key] == at_usual[key]
    table = format_table(metrics)
    assert (
        "P, R, F1 at confidence - (none finds a box" in table
        and "at least confidence 0.25, the usual" in table
    )


@pytest.mark.parametrize("kind", NOTHING_FOUND)
def test_boxes_that_find_nothing_are_drawn_from_the_usual_confidence_on(kind: str, tmp_path: Path):
    results = NOTHING_FOUND[kind]
    write_evaluation(tmp_path, summarise(results, NAMES, VIEWS), results)
    drawn = [
        record["prediction"]["scores"]
        for record in json.loads((tmp_path / "val_batch.json").read_text())
    ]
    assert drawn == [
        [score for score in result.scores if score >= USUAL_CONFIDENCE] for result in results
    ]


def test_a_confusion_without_a_threshold_is_drawn(tmp_path: Path):
    results = NOTHING_FOUND["no prediction"]
    write_evaluation(tmp_path, summarise(results, NAMES, VIEWS), results)
    assert tmp_path / "confusion_matrix_detection.png" in draw_evaluation(tmp_path)


@pytest.mark.parametrize("score", [0.001, 0.0015, 0.01, 0.5, 0.999, 1.0])
def test_a_threshold_that_finds_a_box_is_above_zero(score: float):
    """At 0 every box counts, so that a file which says 0 says nothing."""
    detection = summarise([image_result([BOX], [(score, *BOX)])], NAMES, VIEWS)["detection"]
    assert (
        0 < detection["confidence"] <= 1 and detection["confidence_source"] == "maximises F1 here"
    )
