"""Figures by clip and by patient, against scikit-learn and values by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_results import NAMES, VIEWS, image_result, random_results
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from utils.core.data_config import DataConfig
from utils.evaluation.clip_metrics import calibration, clip_metrics, view_by_clip
from utils.evaluation.clips import clip_units, clips_of
from utils.evaluation.metrics import plain, summarise
from utils.evaluation.tables import clip_lines

DATA = DataConfig(
    source=Path("data.yaml"),
    root=Path(),
    splits={},
    names=NAMES,
    view_names=VIEWS,
    group_pattern=r"^(P\d+)_",
    clip_pattern=r"^(P\d+_C\d+)_F(\d+)",
)


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
    found = clip_metrics(results, DATA, 0.3)
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
    by_clip = clip_metrics(results, DATA, 0.3)["by_clip"]
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
    pooled = clip_metrics(results, data, 0.3)["with_evidence"]
    alone = summarise(results, data.names, VIEWS, intervals=False)["detection"]
    for key, value in pooled.items():
        assert value == pytest.approx(alone[key])


@pytest.mark.parametrize("tasks", [("detection",), ("classification",)])
def test_a_network_with_one_task_has_figures_of_that_task(tasks: tuple):
    found = clip_metrics(a_study(), DATA, 0.3, tasks)
    assert (found["view"] is None) == (tasks == ("detection",)) == (found["by_clip"] is not None)


def test_without_clips_there_is_nothing_and_without_patients_no_row_of_patients():
    assert clip_metrics(a_study(), replace(DATA, clip_pattern=None), 0.3) is None
    results = [replace(result, group=result.image) for result in a_study()]
    found = clip_metrics(results, replace(DATA, group_pattern=None), 0.3)
    assert found["by_patient"] is None and found["by_clip"]["rows"][0]["positive_groups"] is None


def test_the_table_fits_and_names_every_figure():
    found = plain(clip_metrics(a_study(), DATA, 0.3))
    lines = clip_lines(found)
    assert max(map(len, lines)) <= 110
    text = "\n".join(lines)
    for row in found["by_clip"]["rows"][1:]:
        assert f"{row['auroc']:.3f}" in text
    for row in found["by_patient"]["rows"]:
        assert f"{row['sensitivity']:.3f}" in text
    assert "2 frames are in no clip" in text
