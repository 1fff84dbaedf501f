"""Kinds of errors frame by frame."""

from made_up_results import NAMES, image_result, random_results

from utils.evaluation.average_precision import coco_evaluation
from utils.evaluation.error_kinds import KINDS, NO_BOX, error_kinds
from utils.evaluation.frame_kinds import frame_kinds


def test_kinds_are_those_of_the_metrics_in_the_frames_order():
    results = random_results(60, seed=4)
    frames = frame_kinds(results, len(NAMES))
    evaluation = coco_evaluation(results, len(NAMES))
    for confidence in (0, 0.3, 0.7):
        counts = dict.fromkeys(KINDS, 0)
        for result, (kinds, meant) in zip(results, frames, strict=True):
            shown = result.scores >= confidence
            for number in kinds[shown]:
                counts[KINDS[number]] += 1
            found = set(meant[shown].tolist())
            counts["missed"] += sum(own not in found for own in range(len(result.true_classes)))
        assert counts == error_kinds(NAMES, evaluation, confidence)["counts"]


def test_a_box_is_about_the_true_box_of_its_own_frame():
    truth = [(0, 10, 10, 40, 40), (1, 60, 10, 90, 40)]
    found = [(0.9, 1, 60, 10, 90, 40), (0.8, 2, 100, 50, 120, 70)]
    frames = [image_result(truth, found, name=f"{number}.jpg") for number in range(2)]
    for kinds, meant in frame_kinds(frames, 3):
        assert [KINDS[kind] for kind in kinds] == ["right", "background"]
        assert meant.tolist() == [1, NO_BOX]


def test_networks_that_find_nothing_have_no_kinds():
    assert [len(kinds) for kinds, _ in frame_kinds([image_result()] * 2, 3)] == [0, 0]
