"""The figures of the boxes, by hand."""

import pytest
from made_up_results import NAMES, VIEWS, image_result, random_results

from utils.evaluation.detection import detection_confusion
from utils.evaluation.summary import summarise


def test_confusion_by_hand():
    truth = [(0, 0, 0, 10, 10), (1, 20, 0, 30, 10), (2, 40, 0, 50, 10)]
    found = [
        (0.9, 0, 0, 0, 10, 10),  # right
        (0.8, 2, 20, 0, 30, 10),  # a 1 taken for a 2
        (0.7, 1, 20, 0, 30, 10),  # right, but that box is taken
        (0.2, 2, 40, 0, 50, 10),  # below the threshold
    ]
    confusion = detection_confusion([image_result(truth, found)], 3, 0.5)
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
    given = summarise(results, NAMES, VIEWS, confidence=chosen["confidence"], intervals=False)["detection"]
    assert chosen.pop("confidence_source") == "maximises F1 here" and given.pop("confidence_source") == "given"
    assert chosen == given
    for other in (0.1, 0.9):
        detection = summarise(results, NAMES, VIEWS, confidence=other, intervals=False)["detection"]
        assert detection["f1"] < chosen["f1"]


def test_counts_per_class():
    truth = [(0, 0, 0, 10, 10), (0, 20, 0, 30, 10), (1, 40, 0, 50, 10)]
    rows = summarise([image_result(truth), image_result(truth[:1], name="b")], NAMES, VIEWS)["detection"]["per_class"]
    assert [(row["images"], row["boxes"]) for row in rows] == [(2, 3), (1, 1), (0, 0)]
