"""A checkpoint's content: what is saved is what a resumed training has; a damaged part is named."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import assert_equal, break_run, new_job, small_options

from utils.checkpoints.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from utils.core.script import UserError
from utils.training.setup import Setup
from utils.training.state import (
    description,
    random_states,
    restore,
    restore_random_states,
    training_state,
)


@pytest.fixture(scope="module")
def broken(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed in its second epoch, a best epoch behind it."""
    folder = tmp_path_factory.mktemp("runs") / "broken"
    options = small_options(tiny_data, tmp_path_factory.mktemp("cfg"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.training.learner.EPOCHS_AFTER_WARMUP", -2)
        break_run(options, folder, (1, 1))
    return folder


def resumed(folder: Path) -> Setup:
    """As a resumed run begins, but for the state."""
    return Setup(new_job({"resume": str(folder / "weights" / "last.pt")}))


def draw() -> tuple:
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.standard_normal(),
        torch.rand(2).tolist(),
    )


def test_random_states_go_through_a_file(tmp_path: Path):
    draw()  # an odd number of Gaussians leaves a second one waiting in the state
    save_checkpoint(tmp_path / "a.pt", {"random": random_states()})
    first = draw()
    for number in range(5):
        random.seed(number), np.random.seed(number), torch.manual_seed(number)
        draw()
    restore_random_states(read_checkpoint(tmp_path / "a.pt")["random"])
    assert draw() == first


def test_a_restored_training_has_the_state_of_its_file(broken: Path):
    content = load_checkpoint(broken / "weights" / "last.pt")
    setup = resumed(broken)
    setup.job.run.lock.release()
    restore(setup, content)
    assert setup.first_epoch == 1 and content["best"]["joint"]["epoch"] == 0
    again = description(setup, 0) | training_state(setup, [random_states()])
    for key in ("confidence", "thresholds"):  # of metrics that only an evaluation gives
        again[key] = content[key]
    assert_equal(again, {key: content[key] for key in again})
    assert content.keys() == again.keys() | {"format", "version"}
    best = load_checkpoint(broken / "weights" / "best.pt")
    assert_equal(setup.best["model"], best["model"])
    assert setup.best["thresholds"] == best["thresholds"] != {}


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("balancer", {"weights": {"other": 1.0}}, "balancer does not fit this run"),
        ("networks", {"joint": {}}, "networks.joint does not fit this run"),
        ("fingerprint", "other", "images or labels changed"),
    ],
)
def test_a_state_that_does_not_fit_is_named(
    broken: Path, tmp_path: Path, key: str, value: object, named: str
):
    folder = shutil.copytree(broken, tmp_path / "run")
    setup = resumed(folder)
    setup.job.run.lock.release()
    with pytest.raises(UserError, match=named):
        restore(setup, load_checkpoint(folder / "weights" / "last.pt") | {key: value})
