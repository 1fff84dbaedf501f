"""An evaluation does not depend on whether layers are fused, or on how many processes share it; it
has no more than a file of predictions keeps.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from several_processes import run_in_processes
from small_runs import new_job, small_options

from utils.core.device import fused_copy
from utils.data.loader import make_loader
from utils.evaluation.evaluate import evaluate
from utils.evaluation.predictions import Header, read_predictions, results_from, write_predictions

# Evaluates an untrained network; frames a batch, and where to, are arguments.
EVALUATION = """
import sys
from pathlib import Path
import torch
from small_runs import new_job, small_options
from utils.core import distributed
from utils.data.loader import make_loader
from utils.evaluation.evaluate import evaluate
from utils.evaluation.predictions import Header, write_predictions

data, size, folder = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
distributed.join(torch.device("cpu"))
job = new_job(small_options(data, folder) | {"project": str(folder)})
frames = job.frames
loader = make_loader(frames.val, size, 0, False, match=job.criterion.matcher)
results, _ = evaluate(job.model, loader, job.run.compute, frames.data, job.criterion)
assert len(results) == len(frames.val) * distributed.is_main()
if distributed.is_main():
    header = Header.of(frames.data, frames.val, job.model.tasks, job.run.compute)
    write_predictions(folder / "file.npz", results, header)
distributed.leave()
"""


@pytest.mark.parametrize(("size", "ranks"), [(4, 2), (16, 2)])
def test_processes_together_find_to_the_last_bit_what_one_finds(
    tiny_data: Path, tmp_path: Path, size: int, ranks: int
):
    """Of 8 frames, batches of 4 are shared out in turns; with batches of 16 rank 1 has nothing."""
    script = tmp_path / "evaluation.py"
    script.write_text(EVALUATION)
    found = []
    for processes, frames in ((1, size // ranks), (ranks, size)):
        folder = tmp_path / str(processes)
        folder.mkdir()
        run_in_processes(processes, script, tiny_data, frames, folder, OMP_NUM_THREADS="1")
        found.append((folder / "file.npz").read_bytes())
    assert found[0] == found[1]


def test_validation_of_fused_weights_is_that_of_the_unfused(tiny_data: Path, tmp_path: Path):
    job = new_job(small_options(tiny_data, tmp_path) | {"project": str(tmp_path)})
    loader = make_loader(job.frames.val, 4, 0, False, match=job.criterion.matcher)
    outcomes = [
        evaluate(m, loader, job.run.compute, job.frames.data, job.criterion)
        for m in (job.model, fused_copy(job.model))
    ]
    (plain, losses), (fused, fused_losses) = outcomes
    assert losses == pytest.approx(fused_losses, rel=1e-4)
    for a, b in zip(plain, fused, strict=True):
        np.testing.assert_allclose(a.view_probabilities, b.view_probabilities, atol=1e-5)


def test_results_come_back_from_their_file_to_the_last_bit(tiny_data: Path, tmp_path: Path):
    job = new_job(small_options(tiny_data, tmp_path) | {"project": str(tmp_path)})
    loader = make_loader(job.frames.val, 4, 0, False, match=job.criterion.matcher)
    results, losses = evaluate(job.model, loader, job.run.compute, job.frames.data, job.criterion)
    header = Header.of(job.frames.data, job.frames.val, job.model.tasks, job.run.compute)
    write_predictions(tmp_path / "file.npz", results, header)
    again = results_from(
        read_predictions(tmp_path / "file.npz"), job.frames.val.split, job.frames.data
    )
    for before, after in zip(results, again, strict=True):
        for name, value in dataclasses.asdict(before).items():
            np.testing.assert_array_equal(getattr(after, name), value)
    # The objectness of an untrained network is the greater part of its loss, and a mean over
    # frames.
    mean = np.mean([result.detection_loss for result in results])
    assert mean == pytest.approx(sum(losses[name] for name in ("box", "obj", "cls")), rel=0.2)
