"""Anchors: how well they suit boxes (the loss's matching is the oracle), and ones that are fitted."""

import logging
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import assert_same_run, new_job, resume, run, small_options

import train_joint_dual_backbone
import train_joint_gradnorm
import val
from models import model_from_checkpoint
from models.yolo import load_model_yaml
from utils.autoanchor import fit_anchors, judge_anchors, prepare_anchors, training_sizes
from utils.checkpoint import averaged_weights, load_checkpoint
from utils.engine import Trainer
from utils.general import Interrupted
from utils.loss import match_anchors

YOLOV5S = np.array(load_model_yaml("models/yolov5s.yaml")["anchors"], dtype=float).reshape(-1, 2)
SCRIPTS = {"joint": train_joint_gradnorm, "dual": train_joint_dual_backbone}


# ---- how well they suit ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(1.5, 6))
def test_recall_is_the_share_of_boxes_that_the_loss_matches_on_some_level(seed, anchor_t):
    generator = np.random.default_rng(seed)
    wh = np.exp(generator.uniform(0, np.log(320), (40, 2)))
    matches = np.zeros(len(wh))
    boxes = torch.zeros(len(wh), 6, dtype=torch.float64)
    boxes[:, 0] = torch.arange(len(wh))  # a box an image, so that a match tells its box
    boxes[:, 2:4] = 0.5  # the middle of an even map, so that a match has three cells: the own and two neighbours
    boxes[:, 4:] = torch.from_numpy(wh / 320)
    for level, stride in enumerate((8, 16, 32)):
        anchors = torch.from_numpy(YOLOV5S[3 * level : 3 * level + 3] / stride)
        found = match_anchors(boxes, anchors, 320 // stride, 320 // stride, anchor_t)
        pairs = torch.unique(torch.stack((found.index[0], found.index[1])), dim=1)
        matches += np.bincount(pairs[0].numpy(), minlength=len(wh))
    fit = judge_anchors(wh, YOLOV5S, anchor_t)
    assert fit.recall == (matches > 0).mean()
    assert fit.above_threshold == pytest.approx(matches.mean())


def test_fit_by_hand():
    fit = judge_anchors(np.array([[10.0, 20.0], [1.0, 20.0]]), np.array([[20.0, 20.0], [10.0, 10.0]]), 4.0)
    # The first box is half as wide as one anchor and twice as high as the other; the second is too narrow for both.
    assert (fit.recall, fit.fitness, fit.above_threshold) == (0.5, 0.25, 1.0)
    assert str(fit) == "best possible recall 0.5000, 1.00 anchors a box above threshold"


# ---- fitting -----------------------------------------------------------------------------------------------


def test_planted_clusters_are_found():
    planted = np.array([[8.0, 30.0], [40.0, 12.0], [50.0, 60.0], [200.0, 90.0]])  # by area
    generator = np.random.default_rng(0)
    wh = np.repeat(planted, 100, axis=0) * np.exp(generator.normal(0, 0.03, (400, 2)))
    found = fit_anchors(wh, len(planted), 4.0, seed=1)
    np.testing.assert_allclose(found, planted, rtol=0.1)
    assert judge_anchors(wh, found, 4.0).fitness > 0.95


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
    wh = np.exp(np.random.default_rng(0).normal([1.2, 2.0], 0.5, (500, 2)))  # thin and a few pixels high
    old, new = (judge_anchors(wh, anchors, 4.0) for anchors in (YOLOV5S, fit_anchors(wh, 9, 4.0, seed=0)))
    assert old.recall < 0.9 and new.recall > 0.99 and new > old


# ---- in a training -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SCRIPTS)
def script(request):
    return SCRIPTS[request.param]


@pytest.fixture(scope="module")
def options(script, tiny_data, tmp_path_factory) -> dict:
    return small_options(tiny_data, tmp_path_factory.mktemp("cfg"), script)


def anchors_of(job) -> np.ndarray:
    return job.model.detect.anchors_px().view(-1, 2).numpy()


def test_every_training_says_how_well_the_anchors_suit(options, script, caplog):
    with caplog.at_level(logging.INFO):
        job = new_job(options, script)
    wh = training_sizes(job.frames.train)
    letterboxed = np.concatenate([job.frames.train[i][2] for i in range(len(job.frames.train))])[:, 3:] * 64
    np.testing.assert_allclose(wh, letterboxed, rtol=1e-6)
    fit = judge_anchors(wh, YOLOV5S, 4.0)
    assert caplog.text.count(f"anchors: {fit} ({len(wh)} training boxes at 64 px, threshold 4)") == 1
    lost = f"warning: {1 - fit.recall:.1%} of the training boxes are too far from every anchor; try --autoanchor"
    assert (lost in caplog.text) == (fit.recall < 0.98)
    assert np.array_equal(anchors_of(job), YOLOV5S)


def test_fitted_anchors_are_those_of_model_loss_and_checkpoint(options, script, tmp_path, monkeypatch):
    job = new_job({**options, "autoanchor": True}, script)
    wh = training_sizes(job.frames.train)
    fitted = anchors_of(job)
    assert judge_anchors(wh, fitted, 4.0) > judge_anchors(wh, YOLOV5S, 4.0)
    assert torch.equal(job.criterion.matcher.anchors, job.model.detect.anchors)
    other = new_job(options, script)  # the weights are those of a training without
    for name, tensor in job.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]) == (not name.endswith("anchors"))

    folder = run(options, tmp_path / "exp", script, autoanchor=True, epochs=1)
    for name in ("last.pt", "best.pt"):
        content = load_checkpoint(folder / "weights" / name)
        again = model_from_checkpoint(content, averaged_weights(content), name)
        assert torch.equal(again.detect.anchors, job.model.detect.anchors)
        built = type(again)(**content["arguments"])  # as a resumed run builds it, before the weights are read
        assert torch.equal(built.detect.anchors, job.model.detect.anchors)
    place = ["--project", str(tmp_path / "val"), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["val.py", "--weights", str(folder / "weights/last.pt"), *place])
    val.main()


def test_a_run_with_fitted_anchors_resumes_exactly(options, script, tmp_path, monkeypatch):
    whole = run(options, tmp_path / "whole", script, autoanchor=True)
    step = Trainer._step

    def stops(self, epoch, index, *rest):
        if (epoch, index) == (1, 1):
            raise Interrupted("", 2)
        step(self, epoch, index, *rest)

    monkeypatch.setattr(Trainer, "_step", stops)
    with pytest.raises(Interrupted):
        run(options, tmp_path / "cut", script, autoanchor=True)
    monkeypatch.setattr(Trainer, "_step", step)
    resume(tmp_path / "cut", script)
    assert_same_run(tmp_path / "cut", whole)


def test_anchors_that_came_with_weights_are_the_losss_after_a_resume_too(options, script, tmp_path):
    first = run(options, tmp_path / "first", script, autoanchor=True, epochs=1)
    place = {"project": str(tmp_path), "name": "second", "weights": str(first / "weights" / "last.pt")}
    job = new_job({**options, **place}, script)
    Trainer(job)._open_folder()  # as if it were killed in its first epoch
    resumed = new_job({"resume": str(tmp_path / "second/weights/last.pt")}, script)
    assert not np.array_equal(anchors_of(job), YOLOV5S)
    assert torch.equal(resumed.criterion.matcher.anchors, job.model.detect.anchors)


def test_a_model_without_boxes_has_no_anchors_to_speak_of(tiny_data, tmp_path, caplog):
    options = small_options(tiny_data, tmp_path)
    with caplog.at_level(logging.INFO):
        new_job({**options, "tasks": ["classification"], "autoanchor": True})
    assert "anchors:" not in caplog.text and "--autoanchor" not in caplog.text


def test_anchors_that_cannot_be_bettered_are_kept(options, script, caplog):
    job = new_job({**options, "autoanchor": True}, script)
    before = anchors_of(job)
    with caplog.at_level(logging.INFO):
        prepare_anchors(job.model.detect, job.run, job.frames.train)
    assert np.array_equal(anchors_of(job), before)
    assert "not better" in caplog.text


def test_too_few_sizes_to_fit_to(tiny_data, tmp_path, caplog):
    job = new_job({**small_options(tiny_data, tmp_path), "autoanchor": True})
    for labels in job.frames.train.split.labels:
        labels.boxes[:, 3:] = 0.2
    prepare_anchors(job.model.detect, job.run, job.frames.train)
    assert "1 sizes of boxes are too few for 9 anchors" in caplog.text
