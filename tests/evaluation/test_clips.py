"""Pooling over clips and patients, against values by hand."""

import numpy as np
import pytest
from made_up_results import CLIP_DATA as DATA
from made_up_results import NAMES, VIEWS, image_result

from utils.evaluation.clips import (
    clip_units,
    clips_of,
    mean_view,
    patient_units,
    rescored,
    score_factors,
    with_clip_evidence,
)

BOX = (10, 10, 40, 40)


def a_study():
    """Patient P1 with clips of two frames and of one, and a frame of no clip."""
    frames = {
        "P1_C1_F1.jpg": ([(0, *BOX)], [(0.8, 0, *BOX), (0.5, 1, *BOX)], 0, (0.6, 0.4, 0)),
        "P1_C1_F2.jpg": ([(0, *BOX)], [(0.4, 0, *BOX), (0.3, 0, *BOX)], 0, (0.2, 0.8, 0)),
        "P1_C2_F1.jpg": ([(1, *BOX)], [(0.9, 1, *BOX)], 1, (0, 0, 1)),
        "other.jpg": ([(2, *BOX)], [(0.7, 2, *BOX)], 2, (1, 0, 0)),
    }
    return [
        image_result(truth, found, view, probabilities, name, DATA.group_of(name))
        for name, (truth, found, view, probabilities) in frames.items()
    ]


def test_evidence_is_the_mean_over_frames_of_the_highest_score():
    results = a_study()
    clips = clips_of(results, DATA)
    assert clips == {"P1_C1": [0, 1], "P1_C2": [2]}
    first, second = clip_units(results, clips, len(NAMES), len(VIEWS))
    np.testing.assert_allclose(first.evidence, [0.6, 0.25, 0])
    np.testing.assert_allclose(second.evidence, [0, 0.9, 0])
    assert first.present.tolist() == [True, False, False]
    assert (first.group, first.frames, first.votes.tolist()) == ("P1", 2, [2, 0, 0])
    np.testing.assert_allclose(first.view_probabilities, [0.4, 0.6, 0])


def test_a_patient_has_what_one_of_the_clips_shows():
    results = a_study()
    clips = clip_units(results, clips_of(results, DATA), len(NAMES), len(VIEWS))
    (patient,) = patient_units(clips)
    np.testing.assert_allclose(patient.evidence, [0.6, 0.9, 0])
    assert patient.present.tolist() == [True, True, False]
    assert (patient.name, patient.frames) == ("P1", 3)


def test_where_patients_are_unknown_a_clip_is_its_own_group():
    results = [image_result(name=f"P1_C1_F{number}.jpg") for number in range(2)]
    (clip,) = clip_units(results, clips_of(results, DATA), len(NAMES), len(VIEWS))
    assert clip.group == clip.name == "P1_C1"


def test_boxes_are_rescored_by_the_clips_evidence_and_sorted_again():
    results = a_study()
    pooled = with_clip_evidence(results, clips_of(results, DATA), len(NAMES), strength=1)
    mean = (0.6 + 0.25 + 0) / 3
    np.testing.assert_allclose(pooled[0].scores, [1, 0.5 * 0.25 / mean], atol=1e-4)
    assert pooled[3] is results[3]  # of no clip
    swapped = image_result((), [(0.8, 0, *BOX), (0.79, 1, *BOX)], name="P1_C3_F1.jpg")
    ally = image_result((), [(0.9, 1, *BOX)], name="P1_C3_F2.jpg")
    first, _ = with_clip_evidence([swapped, ally], {"c": [0, 1]}, len(NAMES))
    assert first.classes.tolist() == [1, 0] and (np.diff(first.scores) <= 0).all()


@pytest.mark.parametrize("evidence", [(0.5, 0.5, 0.5), (0, 0, 0)])
def test_no_class_is_favoured_where_all_have_the_same_evidence(evidence: tuple):
    np.testing.assert_allclose(score_factors(np.array(evidence)), 1)


def test_strength_zero_changes_no_score_and_no_score_is_above_one():
    evidence = np.array([0.9, 0.1, 0])
    np.testing.assert_allclose(score_factors(evidence, 0), 1)
    scores = rescored(np.array([0.95, 0.5]), np.array([0, 1]), score_factors(evidence, 1))
    assert scores[0] == 1 and scores[1] == pytest.approx(0.5 * 0.3, rel=1e-4)


def test_a_frame_without_a_view_has_no_say():
    view = mean_view([np.array([0.2, 0.8]), np.zeros(0), np.array([0.4, 0.6])])
    np.testing.assert_allclose(view, [0.3, 0.7])
    assert not len(mean_view([np.zeros(0)]))
