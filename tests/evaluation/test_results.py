"""Draws of patients, and what can be guessed from training labels alone."""

import numpy as np
import pytest
from made_up_results import NAMES, VIEWS, image_result

from utils.data.label_table import LabelTable
from utils.data.labels import FrameLabels
from utils.evaluation.metrics import summarise
from utils.evaluation.results import (
    ViewPrior,
    count_incomplete,
    effective_groups,
    group_draws,
    groups_behind,
)


def test_draws_are_of_groups_and_the_same_whatever_is_drawn_for():
    groups = ["b", "a", "a", "c", "b", "a"]
    resample_counts = group_draws(groups, 500, seed=7)
    assert (
        resample_counts.shape == (500, 6)
        and (resample_counts[:, [1, 0, 1]] == resample_counts[:, [2, 4, 5]]).all()
    )
    assert (resample_counts[:, [0, 1, 3]].sum(axis=1) == 3).all()  # as many groups as there are
    assert (
        resample_counts[:, 0].mean() == pytest.approx(1, abs=0.15)
        and len(np.unique(resample_counts[:, [0, 1, 3]], axis=0)) == 10
    )
    assert (
        group_draws(sorted(groups), 500, seed=7)[:, [3, 0, 1, 5, 4, 2]] == resample_counts
    ).all()
    assert (group_draws(groups, 500, seed=8) != resample_counts).any()


def labels_of(frames: list[tuple[list[int], int]]) -> LabelTable:
    """Labels of frames that show these classes and this view."""
    found = []
    for classes, view in frames:
        boxes = np.full((len(classes), 5), 0.5)
        boxes[:, 0] = classes
        found.append(FrameLabels(boxes, view))
    return LabelTable.of(found)


def test_baselines_come_from_training_labels():
    frames = [([0, 0, 0, 1], 1), ([0], 2), ([0], 2), ([1], 1), ([], 1), ([2], -1)]
    prior = ViewPrior.fit(labels_of(frames))
    assert prior == ViewPrior(majority=1, by_class={0: 2, 1: 1})
    assert prior.lookup(np.array([0])) == 2
    assert prior.lookup(np.array([1, 0, 0])) == 2  # its most frequent class
    assert (
        prior.lookup(np.array([2])) == prior.lookup(np.array([], int)) == 1
    )  # unseen, none: the majority
    boxes = [[(0, 0, 0, 9, 9)], [(0, 0, 0, 9, 9)], [(2, 0, 0, 9, 9)], []]
    results = [
        image_result(truth, view=view, probabilities=[1, 0, 0], name=f"{i}.jpg")
        for i, (truth, view) in enumerate(zip(boxes, [2, 1, 1, 0], strict=True))
    ]
    views = summarise(results, NAMES, VIEWS, view_prior=prior)["views"]
    assert views["majority_baseline"] == {"view": "PSAX", "accuracy": 0.5}
    assert views["class_lookup_baseline"] == {
        "accuracy": 0.5,
        "table": {"AR": "PLAX", "MR": "PSAX"},
    }
    assert ViewPrior.fit(labels_of([([0], -1)])) is None
    assert summarise(results, NAMES, VIEWS)["views"]["majority_baseline"] is None


# Boxes of three classes in five frames of three patients; nobody has the last class.
COUNTS = np.array([[1, 0, 0], [1, 0, 0], [2, 1, 0], [0, 1, 0], [0, 2, 0]])
PATIENTS = ["p", "p", "q", "r", "r"]


def test_groups_behind_a_class_are_those_that_show_it():
    results = [image_result(name=f"{i}.jpg", group=group) for i, group in enumerate(PATIENTS)]
    assert groups_behind(results, COUNTS) == [2, 2, 0]
    ungrouped = [image_result(name=f"{i}.jpg") for i in range(5)]
    assert groups_behind(ungrouped, COUNTS) == [None] * 3


def test_effective_groups_weigh_as_the_mean_over_the_classes_does():
    results = [image_result(name=f"{i}.jpg", group=group) for i, group in enumerate(PATIENTS)]
    weights = (
        np.array([2 / 4 + 0, 2 / 4 + 1 / 4, 0 + 3 / 4]) / 2
    )  # of p, q, r: their shares of the two classes
    assert effective_groups(results, COUNTS) == pytest.approx(1 / (weights**2).sum())
    even = [image_result(name=f"{i}.jpg", group=str(i)) for i in range(4)]
    assert effective_groups(even, np.full((4, 2), 3)) == pytest.approx(4)
    assert effective_groups(even, np.zeros((4, 2))) == 0


def test_resamples_without_a_class_are_counted():
    resample_counts = np.array([[1, 1, 1, 1, 1], [3, 2, 0, 0, 0], [0, 0, 0, 4, 1], [0, 0, 5, 0, 0]])
    assert (
        count_incomplete(COUNTS, resample_counts) == 2
    )  # that nobody has the last class is no lack
