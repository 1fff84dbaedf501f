"""Anchors: how well they suit boxes (the loss's matching is the oracle), and ones that are fitted."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.graph import load_model_yaml
from utils.losses.anchors import anchor_fit, fit_anchors
from utils.losses.targets import match_anchors

YOLOV5S = np.array(load_model_yaml("models/yolov5s.yaml")["anchors"], dtype=float).reshape(-1, 2)


# ---- how well they suit --------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(1.5, 6))
def test_recall_is_the_share_of_boxes_that_the_loss_matches_on_some_level(seed, anchor_t):
    generator = np.random.default_rng(seed)
    wh = np.exp(generator.uniform(0, np.log(320), (40, 2)))
    matches = np.zeros(len(wh))
    boxes = torch.zeros(len(wh), 6, dtype=torch.float64)
    boxes[:, 0] = torch.arange(len(wh))  # a box an image, so that a match tells its box
    boxes[:, 2:4] = (
        0.5  # the middle of an even map, so that a match has three cells: the own and two neighbours
    )
    boxes[:, 4:] = torch.from_numpy(wh / 320)
    for level, stride in enumerate((8, 16, 32)):
        anchors = torch.from_numpy(YOLOV5S[3 * level : 3 * level + 3] / stride)
        found = match_anchors(boxes, anchors, 320 // stride, 320 // stride, anchor_t)
        pairs = torch.unique(torch.stack((found.index[0], found.index[1])), dim=1)
        matches += np.bincount(pairs[0].numpy(), minlength=len(wh))
    fit = anchor_fit(wh, YOLOV5S, anchor_t)
    assert fit.recall == (matches > 0).mean()
    assert fit.above_threshold == pytest.approx(matches.mean())


def test_fit_by_hand():
    fit = anchor_fit(
        np.array([[10.0, 20.0], [1.0, 20.0]]), np.array([[20.0, 20.0], [10.0, 10.0]]), 4.0
    )
    # The first box is half as wide as one anchor and twice as high as the other; the second is too
    # narrow for both.
    assert (fit.recall, fit.fitness, fit.above_threshold) == (0.5, 0.25, 1.0)
    assert str(fit) == "best possible recall 0.5000, 1.00 anchors a box above threshold"


def test_many_boxes_take_little_more_memory_than_the_result():
    wh = np.random.default_rng(0).uniform(5, 300, (50_000, 2))
    result_bytes = len(wh) * len(YOLOV5S) * 8
    tracemalloc.start()
    anchor_fit(wh, YOLOV5S, 4.0)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2 * result_bytes


# ---- fitting -------------------------------------------------------------------------------------


def test_planted_clusters_are_found():
    planted = np.array([[8.0, 30.0], [40.0, 12.0], [50.0, 60.0], [200.0, 90.0]])  # by area
    generator = np.random.default_rng(0)
    wh = np.repeat(planted, 100, axis=0) * np.exp(generator.normal(0, 0.03, (400, 2)))
    found = fit_anchors(wh, len(planted), 4.0, seed=1)
    np.testing.assert_allclose(found, planted, rtol=0.1)
    assert anchor_fit(wh, found, 4.0).fitness > 0.95


def test_fitting_repeats_itself_and_leaves_other_random_numbers_alone():
    wh = np.exp(np.random.default_rng(0).normal(3.5, 0.8, (500, 2)))
    np.random.seed(0)
    torch.manual_seed(0)
    expected = np.random.rand(), torch.rand(1).item()
    np.random.seed(0)
    torch.manual_seed(0)
    first, again = (fit_anchors(wh, 9, 4.0, seed=3) for _ in range(2))
    assert (np.random.rand(), torch.rand(1).item()) == expected
    assert np.array_equal(first, again)
    assert not np.array_equal(first, fit_anchors(wh, 9, 4.0, seed=4))
    assert (np.diff(first.prod(axis=1)) >= 0).all()


def test_fitted_anchors_reach_boxes_that_yolov5s_do_not():
    wh = np.exp(
        np.random.default_rng(0).normal([1.2, 2.0], 0.5, (500, 2))
    )  # thin and a few pixels high
    old, new = (
        anchor_fit(wh, anchors, 4.0) for anchors in (YOLOV5S, fit_anchors(wh, 9, 4.0, seed=0))
    )
    assert old.recall < 0.9 and new.recall > 0.99 and new > old
