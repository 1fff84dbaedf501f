"""Figures by clip and by patient, against scikit-learn and values by hand."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_results import CLIP_DATA as DATA
from made_up_results import NAMES, VIEWS, image_result, random_results
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from utils.evaluation.clip_metrics import calibration, clip_metrics, froc_by_clip, view_by_clip
from utils.evaluation.clips import clip_units, clips_of
from utils.evaluation.metrics import plain, summarise
from utils.evaluation.tables import clip_lines
from utils.evaluation.thresholds import Thresholds, evidence_threshold

AT_03 = Thresholds(clip_evidence=0.3, view_probability=0.5)


def a_study(frames: int = 120):
    """Clips of three frames, two clips a patient, and two frames of no clip."""
    found = random_results(frames)
    results = []
    for number, result in enumerate(found[:-2]):
        name = f"P{number // 6}_C{number // 3}_F{number}.jpg"
        results.append(replace(result, image=name, group=DATA.group_of(name)))
    return [*results, *found[-2:]]


def of_views(clip: int, views: list[int], probabilities: tuple):
    names = [f"P{clip}_C{clip}_F{number}.jpg" for number in range(len(views))]
    return [
        image_result(view=view, probabilities=probabilities, name=name, group=f"P{clip}")
        for name, view in zip(names, views, strict=True)
    ]


def test_areas_are_scikit_learns_and_patients_are_fewer_than_clips():
    results = a_study()
    found = clip_metrics(results, DATA, AT_03)
    clips = clip_units(results, clips_of(results, DATA), len(NAMES), len(VIEWS))
    assert found["count"] == found["by_clip"]["count"] == len(clips) == 40
    assert found["by_patient"]["count"] == 20 and found["frames_outside"] == 2
    for number, row in enumerate(found["by_clip"]["rows"][1:]):
        truth = [clip.present[number] for clip in clips]
        evidence = [clip.evidence[number] for clip in clips]
        assert row["auroc"] == pytest.approx(roc_auc_score(truth, evidence))
        low, high = row["auroc_interval"]
        assert low < row["auroc"] < high
        called = np.array(evidence) >= 0.3
        assert row["sensitivity"] == pytest.approx(called[truth].mean())
        assert row["specificity"] == pytest.approx(1 - called[~np.array(truth)].mean())
        assert row["positive_groups"] <= row["positives"]
    assert all(row["positive_groups"] is None for row in found["by_patient"]["rows"])


def test_what_cannot_be_measured_is_said():
    box = (10, 10, 40, 40)
    results = [
        image_result([(0, *box)], [(0.9, 0, *box)], 0, (1, 0, 0), f"P{n}_C{n}_F1.jpg", f"P{n}")
        for n in range(4)
    ]
    by_clip = clip_metrics(results, DATA, AT_03)["by_clip"]
    assert by_clip["notes"] == [
        "any finding: every clip is positive, so AUROC and specificity cannot be measured",
        "AR: every clip is positive, so AUROC and specificity cannot be measured",
        "MR: no clip is positive, so AUROC and sensitivity cannot be measured",
        "PR: no clip is positive, so AUROC and sensitivity cannot be measured",
    ]
    assert by_clip["roc"] == [] and np.isnan(by_clip["rows"][0]["auroc"])


def test_a_clips_view_is_held_against_the_majority_of_its_labels():
    results = [
        *of_views(1, [0, 0, 0], (0.9, 0.1, 0)),  # right
        *of_views(2, [1, 1, 0], (0.9, 0.1, 0)),  # wrong, and contradicting
        *of_views(3, [0, 1], (0.9, 0.1, 0)),  # undecided
        *of_views(4, [-1], (0.9, 0.1, 0)),  # unlabelled
    ]
    clips = clip_units(results, clips_of(results, DATA), len(NAMES), len(VIEWS))
    found = view_by_clip(clips)
    counts = ("clips", "contradicting", "undecided", "unlabelled")
    assert [found[key] for key in counts] == [2, 2, 1, 1]
    assert found["accuracy"] == 0.5
    assert found["calibration"]["true"][8] == 0.5


def test_a_clips_view_below_the_threshold_is_not_answered():
    results = [*of_views(1, [0], (0.9, 0.1, 0)), *of_views(2, [1], (0.6, 0.4, 0))]
    clips = clip_units(results, clips_of(results, DATA), len(NAMES), len(VIEWS))
    found = view_by_clip(clips, 0.7)["kept"]
    assert found == {"threshold": 0.7, "coverage": 0.5, "accuracy": 1}
    assert view_by_clip(clips)["kept"] is None
    assert np.isnan(view_by_clip(clips, 0.95)["kept"]["accuracy"])


def test_a_threshold_is_chosen_here_only_where_the_model_has_none():
    results = a_study()
    clips = clip_units(results, clips_of(results, DATA), len(NAMES), len(VIEWS))
    found = clip_metrics(results, DATA, Thresholds())
    assert found["threshold"] == evidence_threshold(clips)
    assert found["threshold_source"].startswith("chosen here")
    found = clip_metrics(results, DATA, AT_03)
    assert (found["threshold"], found["threshold_source"]) == (0.3, "the model's")
    nothing = [replace(result, true_classes=np.zeros(0, int)) for result in results]
    nothing = [replace(result, true_boxes_xyxy=np.zeros((0, 4))) for result in nothing]
    assert clip_metrics(nothing, DATA, Thresholds())["threshold"] == 0.25


# ---- FROC by clip --------------------------------------------------------------------------------

LEFT, RIGHT = (10, 10, 40, 40), (110, 10, 150, 50)


def two_clips():
    """By hand: the first shows AR in two frames and MR in one, the second MR; PR is nowhere.

    Boxes on a true one, by score: AR 0.9 and 0.8 (one finding), MR 0.4 in the second clip.
    False ones: MR 0.7 on AR's place, AR 0.6 for the second time on its box, MR 0.3 far off, PR 0.2.
    """
    frames = {
        "P1_C1_F1.jpg": ([(0, *LEFT)], [(0.9, 0, *LEFT), (0.7, 1, *LEFT), (0.6, 0, *LEFT)]),
        "P1_C1_F2.jpg": ([(0, *LEFT), (1, *RIGHT)], [(0.8, 0, *LEFT)]),
        "P2_C2_F1.jpg": ([(1, *RIGHT)], [(0.4, 1, *RIGHT), (0.3, 1, *LEFT), (0.2, 2, *LEFT)]),
    }
    return [
        image_result(truth, found, 0, (1, 0, 0), name, name[:2])
        for name, (truth, found) in frames.items()
    ]


def test_froc_by_clip_counts_a_finding_once_and_every_false_box():
    results = two_clips()
    found = froc_by_clip(results, clips_of(results, DATA), NAMES)
    assert found["false_positives"].tolist() == [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
    ar, mr, pr = (row["sensitivity"] for row in found["per_class"])
    assert ar.tolist() == [1] * 7  # one finding in one clip, at 0.9
    # MR has two findings, one of which is met at 0.4, below one false box at 0.7: 1/2 a clip.
    assert mr.tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert np.isnan(pr).all()
    # Of two clips that show something the first is met at 0.9, the second at 0.4 below two false.
    assert found["any"]["sensitivity"].tolist() == [0.5, 0.5, 0.5, 1, 1, 1, 1]
    assert found["sensitivity"].tolist() == [0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75]


def test_of_clips_of_one_frame_and_one_box_froc_is_that_of_frames():
    results = []
    for number, result in enumerate(random_results(60)):
        own = {key: getattr(result, key)[:1] for key in ("true_boxes_xyxy", "true_classes")}
        name = f"P{number}_C{number}_F1.jpg"
        results.append(replace(result, image=name, group=f"P{number}", **own))
    by_clip = froc_by_clip(results, clips_of(results, DATA), NAMES)
    by_frame = summarise(results, NAMES, VIEWS, intervals=False)["detection"]["froc"]
    np.testing.assert_allclose(by_clip["sensitivity"], by_frame["sensitivity"])
    np.testing.assert_allclose(by_clip["curve"]["sensitivity"], by_frame["curve"]["sensitivity"])


def test_without_any_box_no_finding_is_found():
    nothing = {"boxes_xyxy": np.zeros((0, 4)), "scores": np.zeros(0), "classes": np.zeros(0, int)}
    results = [replace(result, **nothing) for result in two_clips()]
    found = froc_by_clip(results, clips_of(results, DATA), NAMES)
    assert found["sensitivity"].tolist() == [0] * 7 and found["any"]["mean"] == 0


def test_calibration_is_scikit_learns():
    rng = np.random.default_rng(0)
    probabilities = rng.random(500)
    is_true = rng.random(500) < probabilities
    found = calibration(probabilities, is_true)
    true, said = calibration_curve(is_true, probabilities, n_bins=10)
    np.testing.assert_allclose(found["true"], true)
    np.testing.assert_allclose(found["said"], said)
    assert found["count"].sum() == 500


def test_of_a_single_class_the_evidence_changes_nothing():
    results = []
    for number, result in enumerate(random_results()):
        changes = {key: np.zeros_like(getattr(result, key)) for key in ("classes", "true_classes")}
        results.append(replace(result, image=f"P1_C{number // 3}_F{number}", **changes))
    data = replace(DATA, names=("AR",))
    pooled = clip_metrics(results, data, AT_03)["with_evidence"]
    alone = summarise(results, data.names, VIEWS, intervals=False)["detection"]
    for key, value in pooled.items():
        assert value == pytest.approx(alone[key])


@pytest.mark.parametrize("tasks", [("detection",), ("classification",)])
def test_a_network_with_one_task_has_figures_of_that_task(tasks: tuple):
    found = clip_metrics(a_study(), DATA, AT_03, tasks)
    assert (found["view"] is None) == (tasks == ("detection",)) == (found["by_clip"] is not None)


def test_without_clips_there_is_nothing_and_without_patients_no_row_of_patients():
    assert clip_metrics(a_study(), replace(DATA, clip_pattern=None), AT_03) is None
    results = [replace(result, group=result.image) for result in a_study()]
    found = clip_metrics(results, replace(DATA, group_pattern=None), AT_03)
    assert found["by_patient"] is None and found["by_clip"]["rows"][0]["positive_groups"] is None


def test_the_table_fits_and_names_every_figure():
    found = plain(clip_metrics(a_study(), DATA, AT_03))
    lines = clip_lines(found)
    assert max(map(len, lines)) <= 110
    text = "\n".join(lines)
    for row in found["by_clip"]["rows"][1:]:
        assert f"{row['auroc']:.3f}" in text
    for row in found["by_patient"]["rows"]:
        assert f"{row['sensitivity']:.3f}" in text
    for row in (found["froc"]["any"], *found["froc"]["per_class"]):
        assert f"{row['mean']:.3f}" in text
    assert "2 frames are in no clip" in text
    assert "called: evidence of at least 0.300 (the model's)" in text
    assert "a view of less than 0.500 is unknown (the model's threshold)" in text
