"""Errors by kind: by hand, by fixing the boxes themselves, and against TIDE's own program."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_results import NAMES, VIEWS, image_result, random_results, without_predictions

from utils.evaluation.average_precision import coco_evaluation
from utils.evaluation.error_kinds import KINDS, DetectionKinds, detection_kinds, error_kinds
from utils.evaluation.metrics import summarise
from utils.evaluation.results import ImageResult

CLASSES = np.arange(len(NAMES))
ERRORS = KINDS[1:]
NO_ERROR = dict.fromkeys(KINDS, 0)


def errors_of(results: list[ImageResult], confidence: float = 0) -> dict:
    return error_kinds(NAMES, coco_evaluation(results, len(NAMES)), confidence)


def kinds_of(results: list[ImageResult]) -> DetectionKinds:
    return detection_kinds(coco_evaluation(results, len(NAMES)))


def mixed_up_results(images: int = 40, seed: int = 0, every: int = 1) -> list[ImageResult]:
    """Random results, a quarter of the detections of the next class, and only one detection in
    `every`.
    """
    rng, results = np.random.default_rng(seed), []
    for result in random_results(images, seed=seed):
        is_mixed_up = rng.random(len(result.classes)) < 0.25
        low, high = result.boxes_xyxy[:, :2], result.boxes_xyxy[:, 2:]
        boxes_xyxy = np.hstack((low, np.maximum(high, low + 1)))[::every]
        classes = np.where(is_mixed_up, (result.classes + 1) % len(NAMES), result.classes)[::every]
        results.append(
            replace(result, boxes_xyxy=boxes_xyxy, classes=classes, scores=result.scores[::every])
        )
    return results


# ---- by hand -------------------------------------------------------------------------------------

TRUTH = [
    (0, 0, 0, 40, 40),
    (0, 60, 0, 100, 40),
    (1, 122, 0, 162, 40),
    (2, 0, 60, 40, 100),
    (0, 120, 50, 150, 80),
    (0, 70, 60, 90, 80),  # missed
]
FOUND = [
    (0.95, 0, 0, 0, 40, 40),  # right
    (0.90, 0, 4, 0, 44, 40),  # duplicate
    (0.85, 0, 80, 0, 120, 40),  # loose box: IoU 1/3
    (0.80, 2, 122, 0, 162, 40),  # wrong class
    (0.75, 2, 0, 60, 40, 100),  # right
    (0.70, 0, 20, 60, 60, 100),  # wrong both: IoU 1/3 with a box of another class
    (0.60, 0, 160, 60, 190, 90),  # background
    (0.50, 0, 120, 50, 150, 80),  # right
]


def test_every_kind_by_hand():
    errors = errors_of([image_result(TRUTH, FOUND)])
    assert errors["counts"] == dict.fromkeys(KINDS, 1) | {"right": 3}
    of_ar, of_mr, of_pr = errors["per_class"]
    assert of_ar == {"name": "AR"} | dict.fromkeys(KINDS, 1) | {"right": 2, "wrong class": 0}
    assert of_mr == {"name": "MR"} | NO_ERROR
    assert of_pr == {"name": "PR"} | NO_ERROR | {"right": 1, "wrong class": 1}
    # Of 101 recalls AR reaches 26 with precision 1 and 25 more with 2/6; MR has AP 0, PR 1/2.
    one_less = 25 * (2 / 5 - 2 / 6)
    gains_of_ar = {
        "loose box": 25 * (2 / 3 - 2 / 6) + 25 * 3 / 6,
        "wrong both": one_less,
        "duplicate": one_less,
        "background": one_less,
        "missed": (34 + 33 * 2 / 6) - (26 + 25 * 2 / 6),
    }
    expected = {kind: gain / 101 / 3 for kind, gain in gains_of_ar.items()}
    expected["wrong class"] = (1 + 1 / 2) / 3  # MR's box is found, and PR is rid of it
    assert errors["delta_mAP_0.5"] == pytest.approx(expected)


def test_counts_are_from_a_confidence_on_and_gains_are_of_all():
    results = [image_result(TRUTH, FOUND)]
    few, every = errors_of(results, confidence=0.8), errors_of(results)
    named = {"right": 1, "loose box": 1, "wrong class": 1, "duplicate": 1}
    assert few["counts"] == NO_ERROR | named | {
        "missed": 3
    }  # but not what is loose or of a wrong class
    assert few["delta_mAP_0.5"] == every["delta_mAP_0.5"]


def test_only_the_highest_score_is_mended_into_a_true_box():
    loose = [(0.9, 0, 20, 0, 60, 40), (0.8, 0, 20, 4, 60, 44)]
    errors = errors_of([image_result(TRUTH[:1], loose)])
    assert errors["counts"] == NO_ERROR | {"loose box": 2}
    assert errors["delta_mAP_0.5"]["loose box"] == 1
    one_of_each = kinds_of([image_result(TRUTH[:1], [*loose, (0.7, 0, 0, 0, 40, 40)])])
    assert one_of_each.kinds.tolist() == ["loose box", "loose box", "right"]
    assert one_of_each.fixed("loose box").kinds.tolist() == ["right"]


def test_a_class_of_which_nothing_is_left_counts_by_whether_it_is_named():
    missed = [image_result([TRUTH[0], TRUTH[2]], [FOUND[0]])]
    assert errors_of(missed)["delta_mAP_0.5"]["missed"] == pytest.approx(1 / 2)
    named = [image_result([TRUTH[0], TRUTH[2]], [FOUND[0], (0.3, 1, 10, 60, 40, 90)])]
    assert errors_of(named)["delta_mAP_0.5"]["missed"] == 0


# ---- properties ----------------------------------------------------------------------------------


def test_a_perfect_detector_has_no_error_and_nothing_to_gain():
    results = [image_result(TRUTH, [(0.9, *row) for row in TRUTH])]
    errors = errors_of(results)
    assert errors["counts"] == NO_ERROR | {"right": len(TRUTH)}
    assert errors["delta_mAP_0.5"] == dict.fromkeys(ERRORS, 0)


def test_a_blind_detector_misses_all():
    results = [without_predictions(result) for result in random_results()]
    errors = errors_of(results)
    assert errors["counts"] == NO_ERROR | {
        "missed": sum(len(result.true_classes) for result in results)
    }
    assert errors["delta_mAP_0.5"] == dict.fromkeys(ERRORS, 0) | {"missed": 1}


def test_without_true_boxes_all_is_background_and_no_gain_is_defined():
    errors = summarise([image_result(found=FOUND), image_result()], NAMES, VIEWS, confidence=0.65)[
        "detection"
    ]["errors"]
    assert errors["counts"] == NO_ERROR | {"background": 6}
    assert errors["delta_mAP_0.5"] == dict.fromkeys(ERRORS)


@pytest.mark.parametrize("seed", range(3))
def test_fixing_all_kinds_in_turn_gives_the_ap_of_perfection(seed: int):
    fixed = kinds_of(mixed_up_results(seed=seed, every=3))
    for kind in ERRORS:
        before = fixed.mean_ap(CLASSES)
        fixed = fixed.fixed(kind)
        assert fixed.mean_ap(CLASSES) >= before - 1e-12
    assert set(fixed.kinds) == {"right"} and fixed.mean_ap(CLASSES) == pytest.approx(1)


def test_every_detection_is_of_one_kind_and_no_true_box_is_found_twice():
    results = mixed_up_results()
    boxes = kinds_of(results)
    assert sorted(boxes.scores) == sorted(np.concatenate([result.scores for result in results]))
    found = boxes.meant[boxes.kinds == "right"]
    assert len(set(found)) == len(found)
    np.testing.assert_array_equal(boxes.classes[boxes.kinds == "right"], boxes.true_classes[found])


def test_the_order_of_frames_changes_nothing():
    results = mixed_up_results()
    turned = errors_of(results[::-1], confidence=0.3)
    gains = turned.pop("delta_mAP_0.5")
    expected = errors_of(results, confidence=0.3)
    assert gains == pytest.approx(expected.pop("delta_mAP_0.5"))
    assert turned == expected


def test_the_evaluation_counts_at_the_confidence_of_its_precision():
    results = mixed_up_results()
    detection = summarise(results, NAMES, VIEWS, intervals=False)["detection"]
    assert detection["errors"] == errors_of(results, detection["confidence"])


# ---- against other ways --------------------------------------------------------------------------


def fixed_results(results: list[ImageResult], kind: str) -> list[ImageResult]:
    """Frames in which the boxes themselves are fixed."""
    boxes = kinds_of(results)
    scores, boxes_xyxy, true_boxes_xyxy = (
        np.concatenate([getattr(result, name) for result in results])
        for name in ("scores", "boxes_xyxy", "true_boxes_xyxy")
    )
    image_of = np.repeat(np.arange(len(results)), [len(result.scores) for result in results])
    true_image_of = np.repeat(
        np.arange(len(results)), [len(result.true_classes) for result in results]
    )
    by_score = np.argsort(-scores, kind="stable")
    taken = set(boxes.meant[boxes.kinds == "right"])
    found = {image: [] for image in range(len(results))}
    for index, place in enumerate(by_score):
        box, box_class, meant = boxes_xyxy[place], boxes.classes[index], boxes.meant[index]
        if boxes.kinds[index] == kind:
            if meant in {-1, *taken}:
                continue
            taken.add(meant)
            box_class = boxes.true_classes[meant]
            box = true_boxes_xyxy[meant] if kind == "loose box" else box
        found[image_of[place]].append((scores[place], box_class, *box))
    is_kept = ~boxes.is_missed if kind == "missed" else np.full(len(true_image_of), True)
    truth = np.column_stack((boxes.true_classes, true_boxes_xyxy))
    return [
        image_result(truth[is_kept & (true_image_of == image)], found[image]) for image in found
    ]


def coco_map(results: list[ImageResult]) -> float:
    return summarise(results, NAMES, VIEWS, intervals=False)["detection"]["mAP_0.5"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ERRORS)
def test_a_gain_is_what_cocos_evaluation_finds_once_the_boxes_are_mended(kind: str, seed: int):
    results = mixed_up_results(seed=seed, every=4)
    expected = coco_map(fixed_results(results, kind)) - coco_map(results)
    assert errors_of(results)["delta_mAP_0.5"][kind] == pytest.approx(expected)
    assert expected > 0


def test_counts_and_gains_are_those_of_tides_own_program():
    """Of tidecv 1.0.1, up to 300 detections.

    No true box here is meant by a loose box and a wrong class at once.
    """
    errors = errors_of(mixed_up_results(images=20, seed=15, every=3))
    tide = {
        "loose box": (17, 0.07995589084697997),
        "wrong class": (5, 0.012375326929782488),
        "wrong both": (19, 0.009584789957532962),
        "duplicate": (12, 0.03209413895677386),
        "background": (24, 0.019844964053136353),
        "missed": (4, 0.09522458631369503),
    }
    assert {kind: errors["counts"][kind] for kind in ERRORS} == {
        kind: count for kind, (count, _) in tide.items()
    }
    assert errors["delta_mAP_0.5"] == pytest.approx(
        {kind: gain for kind, (_, gain) in tide.items()}
    )
