"""Boxes of a clip's frames are rescored by what all of them show."""

import sys
from pathlib import Path

import numpy as np
import pytest
from detections import prediction

from utils.evaluation.clips import STRENGTH
from utils.inference import clips
from utils.inference.clips import pooled_frames, with_evidence
from utils.inference.predictor import Prediction, Predictor, not_scored
from utils.inference.sources import Frame

LEFT, RIGHT = (0, 0, 20, 20), (50, 10, 90, 50)


class Told(Predictor):
    """Says of an image what is told of the number in its first pixel."""

    def predict(self, images: list[np.ndarray]) -> list[Prediction]:
        ASKED.extend([(self.confidence, self.several_labels)] * len(images))
        return [FOUND[image[0, 0, 0]] for image in images]


FOUND = [
    prediction([(*LEFT, 0.6, 0), (*LEFT, 0.55, 1), (*RIGHT, 0.02, 1)]),
    prediction([(*LEFT, 0.9, 1), (*LEFT, 0.1, 0)]),
    prediction([(*RIGHT, 0.5, 2)]),
    not_scored(60, 100),
]
ASKED = []


def frame(number: int, clip: str | None) -> Frame:
    image = np.full((60, 100, 3), number, np.uint8)
    return Frame(image, Path(f"{number}.png"), Path(str(number)), clip, number)


@pytest.fixture
def told() -> Told:
    ASKED.clear()
    return Told(model=None, compute=None, size=64, confidence=0.3, max_detections=2)


def test_evidence_of_the_clip_decides_a_box_that_one_frame_leaves_open(told: Told):
    pooled = pooled_frames([[frame(0, "c")], [frame(1, "c"), frame(2, None)]], told, 3, {})
    np.testing.assert_allclose(pooled.evidence["c"], [0.35, 0.725, 0])
    first, second, alone = pooled.predictions
    assert first.classes.tolist() == [1]  # one label a box; the weak box is below the threshold
    factor = (0.725 / ((0.35 + 0.725) / 3)) ** STRENGTH
    np.testing.assert_allclose(first.scores, [0.55 * factor], rtol=1e-5)
    assert second.classes.tolist() == [1] and second.scores[0] == 1
    assert alone is FOUND[2]
    assert sorted(ASKED) == [(0.001, True), (0.001, True), (0.3, False)]


def test_frames_that_are_not_scored_have_no_say(told: Told):
    pooled = pooled_frames([[frame(2, "c"), frame(3, "c"), frame(3, "d")]], told, 3, {})
    np.testing.assert_allclose(pooled.evidence["c"], [0, 0, 0.5])
    assert pooled.evidence.keys() == {"c"}
    assert not pooled.predictions[1].is_scored and not len(pooled.predictions[1].scores)


def test_a_clip_is_rescored_after_its_last_file(told: Told):
    """Or at the end, where that file cannot be read; the figures are the same."""
    frames = [frame(0, "c"), frame(1, "c"), frame(2, "d"), frame(0, "d"), frame(2, None)]
    at_the_end = pooled_frames([frames], told, 3, {})
    last_files = {"c": Path("1.png"), "d": Path("lost.png")}
    for batches in ([frames], [[one] for one in frames]):
        pooled = pooled_frames(batches, told, 3, last_files)
        assert pooled.evidence.keys() == {"c", "d"}
        for one, other in zip(pooled.predictions, at_the_end.predictions, strict=True):
            np.testing.assert_array_equal(one.scores, other.scores)
            np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)


def test_boxes_that_are_not_shown_do_not_stay_in_memory(told: Told, monkeypatch):
    seen = []
    monkeypatch.setattr(clips, "with_evidence", lambda *_: seen.append("rescored") or FOUND[3])

    def batches():
        for number, clip in ((0, "c"), (1, "c"), (2, "d")):
            seen.append(clip)
            yield [frame(number, clip)]
        seen.append("end")

    pooled_frames(batches(), told, 3, {"c": Path("1.png"), "d": Path("2.png")})
    assert seen == ["c", "c", "d", "rescored", "rescored", "end", "rescored"]


def test_boxes_that_are_dropped_at_once_would_not_have_been_shown(told: Told, monkeypatch):
    rng = np.random.default_rng(1)
    many = []
    for _ in range(40):
        corners = rng.integers(0, 50, (200, 2))
        rows = np.column_stack(
            (corners, corners + 20, rng.random(200) ** 4, rng.integers(3, size=200))
        )
        many.append(prediction([tuple(row) for row in rows]))
    monkeypatch.setattr(sys.modules[__name__], "FOUND", many)
    pooled = pooled_frames([[frame(number, "c") for number in range(40)]], told, 3, {})
    highest = [clips.highest_scores(one.scores, one.classes, 3) for one in many]
    evidence = clips.class_evidence(highest)
    np.testing.assert_array_equal(pooled.evidence["c"], evidence)
    for found, whole in zip(pooled.predictions, many, strict=True):
        expected = with_evidence(whole, evidence, told)
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)


def test_no_more_boxes_than_asked_for_best_first(told: Told):
    rows = [(x, 0, x + 9, 9, 0.9 - x / 100, 0) for x in range(0, 50, 10)]
    found = with_evidence(prediction(rows), np.ones(3), told)
    np.testing.assert_allclose(found.scores, [0.9, 0.8])
