"""A training on skewed data: what it draws, what its loss counts, and an exact resume."""

import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from small_runs import assert_same_run, break_run, new_job, resume, run, small_options

from utils.checkpoints.checkpoint import load_checkpoint
from utils.data.loader import make_loader
from utils.evaluation.evaluate import evaluate
from utils.training.trainer import Trainer


@pytest.fixture(scope="module")
def options(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Options for 9 frames: 1, 4 and 4 of a patient; 5, 2 and none of a view, 2 without."""
    folder = tmp_path_factory.mktemp("skewed")
    shutil.copytree(tiny_data.parent, folder, dirs_exist_ok=True)
    images = sorted((folder / "frames/images/train").iterdir())
    for path in images[:3]:
        path.unlink()
    for path, view in zip(images[3:], ["1 0 0", "0 1 0", ""] * 2 + ["1 0 0"] * 3, strict=True):
        (folder / "frames/labels/train" / f"{path.stem}.txt").write_text(
            f"0 0.5 0.5 0.2 0.2\n{view}\n"
        )
    return small_options(folder / "data.yaml", tmp_path_factory.mktemp("cfg"))


@pytest.mark.parametrize(
    "recipe", [{"sampler": "groups", "view_loss_weights": "inverse"}, {"sampler": "views"}]
)
def test_resume_is_exact(options: dict, tmp_path: Path, recipe: dict):
    whole = run(options, tmp_path / "whole", **recipe)
    break_run(options, tmp_path / "broken", (1, 1), **recipe)
    resume(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", whole)


def test_a_training_draws_by_weight(options: dict, tmp_path: Path):
    def note(trainer: Trainer, epoch: int, index: int, batch: dict) -> None:
        seen.extend(batch["paths"])

    seen = []
    run(options, tmp_path / "run", on_step=note, sampler="groups", epochs=1)
    patients = Counter(Path(path).name[:3] for path in seen)
    assert len(seen) == 9 and patients["P01"] == 3  # its one frame


def test_the_training_loss_is_weighted_and_the_validation_loss_is_not(
    options: dict, tmp_path: Path
):
    """Training: of one batch, which is that of the same network in either run."""
    changes = {"epochs": 1, "batch_size": 12}
    folders = [
        run(options, tmp_path / kind, **changes, view_loss_weights=kind)
        for kind in ("equal", "inverse")
    ]
    (_, plain), (folder, logged) = [
        (folder, pd.read_csv(folder / "results.csv").iloc[0]) for folder in folders
    ]
    assert abs(logged["train/view_loss"] / plain["train/view_loss"] - 1) > 0.01
    job = new_job(options)
    job.model.load_state_dict(load_checkpoint(folder / "weights/last.pt")["ema"]["model"])
    loader = make_loader(job.frames.val, 12, 0, pin_memory=False, match=job.criterion.matcher)
    _, losses = evaluate(job.model, loader, job.run.compute, job.frames.data, job.criterion)
    assert logged["val/view_loss"] == pytest.approx(losses["view"], rel=1e-5)
