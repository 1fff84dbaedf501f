"""An evaluation does not depend on whether layers are fused, and has no more than a file of
predictions keeps.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from small_runs import new_job, small_options

from utils.core.device import fused_copy
from utils.data.loader import make_loader
from utils.evaluation.evaluate import evaluate
from utils.evaluation.predictions import Header, read_predictions, results_from, write_predictions


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
