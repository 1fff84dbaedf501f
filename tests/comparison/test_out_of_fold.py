"""Figures over all folds.

Each fold's threshold comes from the others, and counts are those of the frames together.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from made_up_results import clip_data, image_result, random_results
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from utils.comparison.out_of_fold import (
    Fold,
    other_folds_thresholds,
    out_of_fold,
    out_of_fold_section,
    pooled,
)
from utils.core.options import USUAL_CONFIDENCE
from utils.evaluation.average_precision import match_predictions
from utils.evaluation.results import ImageResult
from utils.evaluation.views import calibration_error

DATA = clip_data(r"^(.+)_F(\d+)")
ALL = {"gradnorm": ("detection", "classification")}


def folds(count: int = 4, frames: int = 12) -> list[Fold]:
    """Of made-up patients of their own, with a threshold each."""
    made = []
    for number in range(count):
        results = random_results(frames, groups=3, seed=number)
        own = [
            replace(r, image=f"{number}-{r.group}_F{r.image}", group=f"{number}-{r.group}")
            for r in results
        ]
        made.append(Fold(own, 0.2 + 0.1 * number))
    return made


def results_of(made: Sequence[Fold]) -> list[ImageResult]:
    return [result for fold in made for result in fold.results]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([0.1, 0.2, 0.6, 0.7, 0.3], [0.45, 0.45, 0.25, 0.25, 0.4]),
        ([0.1, 0.2, 0.9], [0.55, 0.5, 0.15]),
        ([0.3, 0.4], [0.4, 0.3]),
        ([0.3, None, 0.5], [0.5, 0.4, 0.3]),
        ([0.3, None], [USUAL_CONFIDENCE, 0.3]),
        ([0.3], [USUAL_CONFIDENCE]),
    ],
)
def test_a_folds_threshold_is_the_median_of_the_others(own: list, expected: list[float]):
    assert other_folds_thresholds(own) == pytest.approx(expected)


def test_views_are_those_of_all_frames_together():
    made = folds()
    labelled = [result for result in results_of(made) if result.true_view >= 0]
    truth = [result.true_view for result in labelled]
    probabilities = np.array([result.view_probabilities for result in labelled])
    found = probabilities.argmax(1)
    expected = {
        "view_accuracy": accuracy_score(truth, found),
        "view_balanced_accuracy": balanced_accuracy_score(truth, found),
        "view_macro_f1": f1_score(truth, found, average="macro"),
        "view_ece": calibration_error(probabilities, np.array(truth)),
    }
    figures = pooled(made, DATA)["figures"]
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_boxes_are_counted_at_the_thresholds_of_the_other_folds():
    made = folds()
    chosen = [0.4, 0.4, 0.3, 0.3]  # medians of three of 0.2, 0.3, 0.4, 0.5
    found = wrong = missed = 0
    for fold, threshold in zip(made, chosen, strict=True):
        for r in fold.results:
            tp, _ = match_predictions(r.boxes_xyxy, r.classes, r.true_boxes_xyxy, r.true_classes)
            hits = int(tp[r.scores >= threshold, 0].sum())
            found += hits
            wrong += int((r.scores >= threshold).sum()) - hits
            missed += len(r.true_classes) - hits
    whole = pooled(made, DATA)
    assert whole["thresholds"] == pytest.approx(chosen)
    assert [sum(row[key] for row in whole["classes"]) for key in ("found", "wrong", "missed")] == [
        found,
        wrong,
        missed,
    ]
    expected = [
        found / (found + wrong),
        found / (found + missed),
        2 * found / (2 * found + wrong + missed),
    ]
    assert [whole["figures"][name] for name in ("precision", "recall", "f1")] == pytest.approx(
        expected
    )


def test_each_class_has_its_counts_and_patients():
    box, far = (0, 0, 50, 50), (100, 50, 150, 90)
    frames = [
        image_result([(0, *box)], [(0.9, 0, *box)], name="a", group="P1"),
        image_result(
            [(0, *box), (1, *far)], [(0.9, 0, *far), (0.3, 1, *far)], name="b", group="P1"
        ),
        image_result([(0, *box)], [], name="c", group="P2"),
    ]
    whole = pooled([Fold(frames, 0.1), Fold([], 0.5)], DATA, ("detection",))
    assert whole["classes"] == [
        {"name": "AR", "groups": 2, "found": 1, "wrong": 1, "missed": 2},
        {
            "name": "MR",
            "groups": 1,
            "found": 0,
            "wrong": 0,
            "missed": 1,
        },  # 0.3 is below the other fold's 0.5
        {"name": "PR", "groups": 0, "found": 0, "wrong": 0, "missed": 0},
    ]
    assert whole["figures"] == pytest.approx(
        {"precision": 1 / 2, "recall": 1 / 4, "f1": 1 / 3, "class_f1": 0.2}
    )
    assert (whole["frames"], whole["groups"]) == (3, 2)


def clip_of_frames(
    name: str, views: Sequence[int], probabilities: Sequence[Sequence[float]]
) -> list[ImageResult]:
    pairs = zip(views, probabilities, strict=True)
    return [
        image_result(view=v, probabilities=p, name=f"{name}_F{number}")
        for number, (v, p) in enumerate(pairs)
    ]


def test_a_clip_has_the_view_of_most_frames_or_of_the_highest_mean():
    sure, unsure = (0.0, 1.0, 0.0), (0.6, 0.4, 0.0)
    frames = [
        *clip_of_frames("vote is right", (0, 0, -1), (unsure, unsure, sure)),
        *clip_of_frames("mean is right", (1, 1, 1), (unsure, unsure, sure)),
        *clip_of_frames("mean is right again", (1, 1, 1), (unsure, unsure, sure)),
        *clip_of_frames("undecided", (0, 1, 0, 1), (sure,) * 4),
        *clip_of_frames("unknown", (-1,), (sure,)),
        *clip_of_frames("decided by most", (1, 1, 0), (sure,) * 3),
    ]
    whole = pooled([Fold(frames[:5]), Fold(frames[5:])], DATA, ("classification",))
    assert whole["clips"] == 4
    assert whole["figures"]["clip_accuracy_vote"] == pytest.approx(2 / 4)
    assert whole["figures"]["clip_accuracy_mean"] == pytest.approx(3 / 4)


def test_without_a_clip_pattern_there_are_no_clips():
    whole = pooled(folds(), replace(DATA, clip_pattern=None))
    assert whole["clips"] == 0 and whole["figures"]["clip_accuracy_vote"] is None


def test_figures_are_of_the_arms_tasks():
    names = {
        task: set(pooled(folds(), DATA, (task,))["figures"])
        for task in ("detection", "classification")
    }
    assert names["detection"] == {"precision", "recall", "f1", "class_f1"}
    assert not names["detection"] & names["classification"]


def test_frames_that_are_held_out_twice_are_no_cross_validation():
    made = folds(2)
    assert set(out_of_fold({"gradnorm": {0: made}}, ALL, DATA)) == {"gradnorm"}
    assert out_of_fold({"gradnorm": {0: [made[0], made[0]]}}, ALL, DATA) == {}
    assert out_of_fold({"gradnorm": {0: made[:1]}}, ALL, DATA) == {}


def test_the_section_has_a_row_for_every_arm_with_its_spread_over_seeds():
    tasks = ALL | {"detection-only": ("detection",)}
    held_out = {"gradnorm": {0: folds(), 1: folds(3)}, "detection-only": {0: folds()}}
    found = out_of_fold(held_out, tasks, DATA)
    text = out_of_fold_section({"out_of_fold": found})
    figures = [seed["figures"]["view_accuracy"] for seed in found["gradnorm"]]
    rows = {
        line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| `")
    }
    assert f"{np.mean(figures):.3f} ± {np.std(figures, ddof=1):.3f}" in rows["`gradnorm`"]
    assert "±" not in rows["`detection-only`"] and rows["`detection-only`"].count(" - ") == 6
    assert "48 frames of 12 groups" in text
    assert out_of_fold_section({}) == out_of_fold_section({"out_of_fold": {}}) == ""
