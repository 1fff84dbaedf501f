"""A validation gives cells of results.csv and leaves the training as it was."""

from pathlib import Path

import pytest
import torch
from small_runs import assert_equal, new_job, small_options

from utils.loggers.records import result_columns
from utils.training.setup import Setup
from utils.training.validation import prediction_header, validate


@pytest.fixture
def setup(tiny_data: Path, tmp_path: Path) -> Setup:
    options = small_options(tiny_data, tmp_path) | {"project": str(tmp_path), "epochs": 2}
    return Setup(new_job(options))


def test_a_validation_fills_columns_of_the_results_table(setup: Setup):
    cells = validate(setup, 0)
    assert cells.keys() <= set(result_columns(["joint"]))
    assert {"val/box_loss", "val/view_loss", "metrics/fitness"} <= cells.keys()
    assert len(setup.results) == len(setup.job.frames.val)


def test_only_the_last_epochs_metrics_have_intervals(setup: Setup):
    validate(setup, 0)
    assert setup.metrics["resamples"] == 0
    validate(setup, 1)
    assert setup.metrics["resamples"] > 0


def test_a_validation_moves_nothing_of_the_training(setup: Setup):
    before = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    average = {name: tensor.clone() for name, tensor in setup.ema_model.state_dict().items()}
    setup.model.train()
    generator = torch.get_rng_state()
    validate(setup, 0)
    assert_equal(dict(setup.model.state_dict()), before)
    assert_equal(dict(setup.ema_model.state_dict()), average)
    assert setup.model.training
    assert torch.equal(torch.get_rng_state(), generator)


def test_predictions_say_which_training_frames_they_are_not_of(setup: Setup):
    validate(setup, 0)
    header = prediction_header(setup)
    assert header.trained_on == setup.job.frames.train.split.fingerprint()
