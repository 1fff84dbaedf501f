"""Anchors that a training fits to its boxes: in model, loss and checkpoint, and after a resume."""

import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import assert_same_run, break_run, new_job, resume, run, small_options

import train_joint_dual_backbone
import train_joint_gradnorm
import val
from models.graph import load_model_yaml
from utils.checkpoints.checkpoint import averaged_weights, load_checkpoint
from utils.checkpoints.model_file import model_from_checkpoint
from utils.losses.anchors import anchor_fit
from utils.training.anchors import prepare_anchors, training_sizes
from utils.training.trainer import Trainer

YOLOV5S = np.array(load_model_yaml("models/yolov5s.yaml")["anchors"], dtype=float).reshape(-1, 2)
SCRIPTS = {"joint": train_joint_gradnorm, "dual": train_joint_dual_backbone}


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
    letterboxed = (
        np.concatenate([job.frames.train[i][2] for i in range(len(job.frames.train))])[:, 3:] * 64
    )
    np.testing.assert_allclose(wh, letterboxed, rtol=1e-6)
    fit = anchor_fit(wh, YOLOV5S, 4.0)
    assert (
        caplog.text.count(f"anchors: {fit} ({len(wh)} training boxes at 64 px, threshold 4)") == 1
    )
    lost = f"warning: {1 - fit.recall:.1%} of the training boxes are too far from every anchor; try --autoanchor"
    assert (lost in caplog.text) == (fit.recall < 0.98)
    assert np.array_equal(anchors_of(job), YOLOV5S)


def test_fitted_anchors_are_those_of_model_loss_and_checkpoint(
    options, script, tmp_path, monkeypatch
):
    job = new_job({**options, "autoanchor": True}, script)
    wh = training_sizes(job.frames.train)
    fitted = anchors_of(job)
    assert anchor_fit(wh, fitted, 4.0) > anchor_fit(wh, YOLOV5S, 4.0)
    assert torch.equal(job.criterion.matcher.anchors, job.model.detect.anchors)
    other = new_job(options, script)  # the weights are those of a training without
    for name, tensor in job.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]) == (not name.endswith("anchors"))

    folder = run(options, tmp_path / "exp", script, autoanchor=True, epochs=1)
    for name in ("last.pt", "best.pt"):
        content = load_checkpoint(folder / "weights" / name)
        again = model_from_checkpoint(content, averaged_weights(content), name)
        assert torch.equal(again.detect.anchors, job.model.detect.anchors)
        built = type(again)(
            **content["arguments"]
        )  # as a resumed run builds it, before the weights are read
        assert torch.equal(built.detect.anchors, job.model.detect.anchors)
    place = ["--project", str(tmp_path / "val"), "--device", "cpu"]
    monkeypatch.setattr(
        sys, "argv", ["val.py", "--weights", str(folder / "weights/last.pt"), *place]
    )
    val.main()


def test_a_run_with_fitted_anchors_resumes_exactly(options, script, tmp_path):
    whole = run(options, tmp_path / "whole", script, autoanchor=True)
    break_run(options, tmp_path / "cut", (1, 1), script, autoanchor=True)
    resume(tmp_path / "cut", script)
    assert_same_run(tmp_path / "cut", whole)


def test_anchors_that_came_with_weights_are_the_losss_after_a_resume_too(options, script, tmp_path):
    first = run(options, tmp_path / "first", script, autoanchor=True, epochs=1)
    place = {
        "project": str(tmp_path),
        "name": "second",
        "weights": str(first / "weights" / "last.pt"),
    }
    job = new_job({**options, **place}, script)
    Trainer(job).open_folder()  # as if it were killed in its first epoch
    resumed = new_job({"resume": str(tmp_path / "second/weights/last.pt")}, script)
    assert not np.array_equal(anchors_of(job), YOLOV5S)
    assert torch.equal(resumed.criterion.matcher.anchors, job.model.detect.anchors)


def test_a_model_without_boxes_has_no_anchors_to_speak_of(tiny_data, tmp_path, caplog):
    options = small_options(tiny_data, tmp_path)
    with caplog.at_level(logging.INFO):
        new_job({**options, "tasks": ["classification"], "autoanchor": True})
    assert "anchors:" not in caplog.text
    assert "--autoanchor has no effect beside --tasks classification" in caplog.text


def test_anchors_that_cannot_be_bettered_are_kept(options, script, caplog):
    job = new_job({**options, "autoanchor": True}, script)
    before = anchors_of(job)
    with caplog.at_level(logging.INFO):
        prepare_anchors(job.model.detect, job.run, job.frames.train)
    assert np.array_equal(anchors_of(job), before)
    assert "not better" in caplog.text


def test_too_few_sizes_to_fit_to(tiny_data, tmp_path, caplog):
    job = new_job({**small_options(tiny_data, tmp_path), "autoanchor": True})
    split = job.frames.train.split
    boxes = split.labels.boxes.copy()
    boxes[:, 3:] = 0.2
    job.frames.train.split = replace(split, labels=replace(split.labels, boxes=boxes))
    prepare_anchors(job.model.detect, job.run, job.frames.train)
    assert "1 sizes of boxes are too few for 9 anchors" in caplog.text
