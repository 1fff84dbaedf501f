"""What a run is resumed from: the newest checkpoint, and the random numbers in it."""

import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from utils.checkpoints.checkpoint import read_checkpoint, save_checkpoint
from utils.core.script import UserError
from utils.training.run import newest_checkpoint, random_states, restore_random_states


def draw() -> tuple:
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.standard_normal(), torch.rand(2).tolist()


def test_random_states_go_through_a_file(tmp_path: Path):
    draw()  # an odd number of Gaussians leaves a second one waiting in the state
    save_checkpoint(tmp_path / "a.pt", {"random": random_states()})
    first = draw()
    for number in range(5):
        random.seed(number), np.random.seed(number), torch.manual_seed(number)
        draw()
    restore_random_states(read_checkpoint(tmp_path / "a.pt")["random"])
    assert draw() == first


def test_newest_checkpoint_is_the_one_written_last(tmp_path: Path):
    for time_s, run in enumerate(["exp2", "exp10", "exp"], start=1_000_000_000):
        path = tmp_path / run / "weights/last.pt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (time_s, time_s))
    assert newest_checkpoint(tmp_path) == tmp_path / "exp/weights/last.pt"


def test_no_run_to_resume_is_an_error(tmp_path: Path):
    for project in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match=rf"--resume: .*{re.escape(str(project))}"):
            newest_checkpoint(project)
