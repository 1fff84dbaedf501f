"""An evaluation does not depend on whether layers are fused."""

from pathlib import Path

import numpy as np
import pytest
from small_runs import new_job, small_options

from utils.core.device import fused_copy
from utils.data.loader import make_loader
from utils.evaluation.evaluate import evaluate


def test_validation_of_fused_weights_is_that_of_the_unfused(tiny_data: Path, tmp_path: Path):
    job = new_job(small_options(tiny_data, tmp_path) | {"project": str(tmp_path)})
    loader = make_loader(job.frames.val, 4, 0, False, match=job.criterion.matcher)
    outcomes = [
        evaluate(m, loader, job.run.precision, job.frames.data, job.criterion)
        for m in (job.model, fused_copy(job.model))
    ]
    (plain, losses), (fused, fused_losses) = outcomes
    assert losses == pytest.approx(fused_losses, rel=1e-4)
    for a, b in zip(plain, fused, strict=True):
        np.testing.assert_allclose(a.view_probabilities, b.view_probabilities, atol=1e-5)
