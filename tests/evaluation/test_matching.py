"""Matches of all images at once are those of pycocotools and of YOLOv5, made box by box."""

import numpy as np
import pytest
from by_pycocotools import boxes_taken, coco_eval, precision_of, resampled
from made_up_results import NAMES, image_result, random_results

from utils.evaluation import average_precision, matching
from utils.evaluation.average_precision import (
    claims,
    coco_evaluation,
    coco_precision,
    resampled_ap,
)
from utils.evaluation.matching import AT_HALF, IOU_THRESHOLDS, NO_BOX, first_claims
from utils.evaluation.results import ImageResult, group_draws

CLASSES = len(NAMES)


def crowded(images: int = 12, seed: int = 0) -> list[ImageResult]:
    """Many boxes on a coarse grid: equal scores, equal IoUs, and IoUs of exactly a threshold."""
    rng = np.random.default_rng(seed)
    results = []
    for number in range(images):
        low = rng.integers(0, 4, (rng.integers(0, 9), 2)) * 10
        truth = np.column_stack((rng.integers(0, 2, len(low)), low, low + 20))
        low = rng.integers(0, 8, (rng.integers(0, 30), 2)) * 5
        high = low + rng.integers(1, 5, low.shape) * 5
        scores = np.sort(rng.integers(1, 6, len(low)) / 8)[::-1]
        found = np.column_stack((scores, rng.integers(0, 3, len(low)), low, high))
        results.append(image_result(truth, found, name=f"{number}.jpg"))
    return results


def thin(images: int = 3) -> list[ImageResult]:
    """Boxes without an area, true and found."""
    rows = [(0, 5, 5, 5, 9), (1, 0, 0, 10, 10)]
    found = [(0.9, 0, 5, 5, 5, 9), (0.8, 1, 3, 3, 3, 3), (0.7, 1, 0, 0, 10, 9)]
    return [image_result(rows, found, name=f"{number}.jpg") for number in range(images)]


CASES = {
    "random": random_results(40),
    "crowded": crowded(),
    "thin": thin(),
    "no detection": [image_result([(0, 0, 0, 9, 9)])] * 2,
    "no truth": [image_result((), [(0.9, 1, 0, 0, 9, 9)])] * 2,
    "nothing": [image_result()] * 2,
}


@pytest.fixture(params=[1, 5, 1000], ids="{} at once".format)
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever number of images, and of resamples, is in memory at a time."""
    monkeypatch.setattr(matching, "IMAGES_AT_ONCE", request.param)
    monkeypatch.setattr(average_precision, "AT_ONCE", 100 * request.param)


@pytest.mark.parametrize("case", CASES)
def test_matches_are_those_of_pycocotools(case: str, at_once: None):
    results = CASES[case]
    found = coco_evaluation(results, CLASSES)
    expected = boxes_taken(coco_eval(results, CLASSES), len(found.scores))
    np.testing.assert_array_equal(found.is_right, expected != NO_BOX)
    np.testing.assert_array_equal(found.box, expected[:, AT_HALF])


@pytest.mark.parametrize("case", CASES)
def test_precision_is_that_of_pycocotools(case: str, at_once: None):
    expected = precision_of(coco_eval(CASES[case], CLASSES))
    found = coco_precision(coco_evaluation(CASES[case], CLASSES))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2.2e-16)


@pytest.mark.parametrize("case", ["random", "crowded", "thin", "no detection"])
def test_resampled_aps_are_those_of_pycocotools_matches(case: str, at_once: None):
    results = CASES[case]
    draws = group_draws([result.group for result in results], resamples=40)
    draws[0] = 1
    expected = resampled(coco_eval(results, CLASSES), draws)
    found = resampled_ap(coco_evaluation(results, CLASSES), draws)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("boxes", [1, 7, 99, 100, 101, 12_345, 700_000])
def test_the_fewest_hits_for_a_recall(boxes: int):
    (least,) = average_precision._least_hits(np.array([boxes]))
    recalls = average_precision.COCO_RECALLS
    assert (least / boxes >= recalls).all()
    assert ((least - 1) / boxes < recalls).all()


def iou(a: np.ndarray, b: np.ndarray) -> float:
    common = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    if not common:
        return 0.0
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


@pytest.mark.parametrize("case", CASES)
def test_overlaps_are_the_highest_of_each_kind(case: str, at_once: None):
    results = CASES[case]
    overlaps = coco_evaluation(results, CLASSES).overlaps
    highest, nearest = overlaps.of_any_class()
    number = 0
    first = 0
    for result in results:
        for box, box_class in zip(result.boxes_xyxy, result.classes, strict=True):
            every = np.array([iou(box, true) for true in result.true_boxes_xyxy])
            is_own = result.true_classes == box_class
            for counts, value, index in (
                (is_own, overlaps.own[number], overlaps.own_box[number]),
                (~is_own, overlaps.other[number], overlaps.other_box[number]),
                (is_own | True, highest[number], nearest[number]),
            ):
                best = (every * counts).max(initial=0)
                assert value == pytest.approx(best, abs=1e-15)
                if best:
                    assert index == first + np.argmax(every * counts)
            number += 1
        first += len(result.true_classes)


@pytest.mark.parametrize("case", CASES)
def test_claims_are_yolov5s(case: str):
    """The best box of its class, if nobody surer has claimed it, whatever the others overlap."""
    results = CASES[case]
    evaluation = coco_evaluation(results, CLASSES)
    found = claims(evaluation.overlaps, len(evaluation.truth.classes))
    number = 0
    for result in results:
        for column, threshold in enumerate(IOU_THRESHOLDS):
            free = set(range(len(result.true_classes)))
            for index, (box, own) in enumerate(zip(result.boxes_xyxy, result.classes, strict=True)):
                every = [iou(box, true) for true in result.true_boxes_xyxy]
                every = np.array(every) * (result.true_classes == own)
                best = int(np.append(every, -1).argmax())
                is_right = best in free and every[best] >= threshold
                assert found[number + index, column] == is_right
                if is_right:
                    free.remove(best)
        number += len(result.scores)


def test_a_box_takes_its_first_claimant():
    found = np.array([0.4, 0.6, 0.9, 0.9])
    box = np.array([0, 0, 0, 2])
    assert first_claims(found, box, 0.5, 3).tolist() == [False, True, False, True]
    assert not first_claims(found, box, 0.95, 3).any()
