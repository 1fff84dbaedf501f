"""The interference that a training logs is autograd's, and logging it changes nothing."""

import copy
import dataclasses
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from by_autograd import flat_norms_and_cosine, norms_by_autograd
from small_runs import assert_same_run, break_run, new_job, resume, run, small_options

from utils.checkpoints.checkpoint import load_checkpoint
from utils.core.names import TASKS
from utils.losses.joint import LossMeter, task_losses
from utils.training.trainer import Trainer


@pytest.fixture(scope="module")
def options(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return small_options(tiny_data, tmp_path_factory.mktemp("cfg")) | {"noval": True, "epochs": 2}


def interference_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "interference.csv", dtype={"place": str})


def test_a_diagnosed_training_learns_the_same_and_resumes_exactly(options, tmp_path, monkeypatch):
    """The rest is rounding: the taps add the tasks' gradients in another order."""
    monkeypatch.setattr("utils.training.finish.draw_run", lambda folder: [])
    plain = run(options, tmp_path / "plain")
    whole = run(options, tmp_path / "whole", diagnose_interval=2)
    assert not (plain / "interference.csv").exists()
    left, right = (
        load_checkpoint(folder / "weights/last.pt")["model"] for folder in (plain, whole)
    )
    for name, tensor in left.items():
        torch.testing.assert_close(right[name], tensor, rtol=1e-3, atol=5e-5)
    rows = interference_of(whole)
    assert (
        rows["step"].unique().tolist() == [0, 2, 4] and len(rows) == 3 * 16
    )  # cut, trunk, 14 layers with weights
    assert (rows["step"] == 3 * rows["epoch"] + rows["batch"]).all() and rows["cosine"].abs().le(
        1
    ).all()
    break_run(options, tmp_path / "broken", (1, 2), diagnose_interval=2)
    resume(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", whole)
    pd.testing.assert_frame_equal(interference_of(tmp_path / "broken"), rows, check_exact=True)


@pytest.mark.parametrize("freeze", [0, 4, 18])
def test_the_logged_figures_are_autograds(options, tmp_path, freeze):
    """Of the first batch: on a copy of the model, with the same dropout."""
    place = {"project": str(tmp_path), "name": "run", "freeze": freeze, "diagnose_interval": 1}
    trainer = Trainer(new_job(options | place))
    model, batch = copy.deepcopy(trainer.model).train(), next(iter(trainer.train_loader))
    trainer.model.train()
    torch.manual_seed(3)
    trainer.step(0, 0, batch, LossMeter(1))
    images = trainer.compute.images(batch["images"])
    torch.manual_seed(3)
    expected = {
        "cut": norms_by_autograd(
            model, images, lambda outputs: task_losses(trainer.criterion(outputs, batch))
        )
    }
    torch.manual_seed(3)
    losses = task_losses(trainer.criterion(model(images), batch))
    expected |= {
        name: flat_norms_and_cosine(losses, found)
        for name, found in model.trunk_parameters().items()
    }
    rows = interference_of(tmp_path / "run").set_index("place")
    assert len(rows) == len(expected) and set(rows.index) == set(expected)
    assert ("trunk" in expected) == (freeze < 18) and ("3" in expected) == (freeze < 4)
    for name, (norms, cosine) in expected.items():
        assert rows.loc[name, [f"norm/{task}" for task in TASKS]].tolist() == pytest.approx(
            list(norms.values()), 1e-3
        )
        assert rows.loc[name, "cosine"] == pytest.approx(cosine, abs=1e-4)
        a, b = norms.values()
        assert rows.loc[name, "magnitude_similarity"] == pytest.approx(
            2 * a * b / (a * a + b * b), rel=1e-3
        )


class OneFeature(torch.nn.Module):
    """A trunk of one number a pixel.

    One head says whether there is a box, the other names one of two views.
    """

    kind, cut = "one feature", (0,)

    def __init__(self):
        super().__init__()
        self.trunk = torch.nn.Conv2d(3, 1, 1, bias=False)

    def forward(self, images, tap=None):
        features = {0: self.trunk(images)}
        detection, classification = (
            seen[0].mean((1, 2, 3)) for seen in (tap(features) if tap else [features] * 2)
        )
        return {"detect": detection, "classify": torch.stack((-classification, classification), 1)}

    def trunk_parameters(self):
        return {"trunk": list(self.trunk.parameters())}


class OneFeatureLoss(torch.nn.Module):
    matcher = None

    def forward(self, outputs, batch, shares):
        has_box = torch.zeros_like(outputs["detect"]).index_fill(
            0, batch["targets"][:, 0].long(), 1.0
        )
        zero = outputs["detect"].sum() * 0
        found = F.binary_cross_entropy_with_logits(outputs["detect"], has_box)
        return {
            "box": zero,
            "obj": found,
            "cls": zero,
            "view": F.cross_entropy(outputs["classify"], batch["views"]),
        }


@pytest.mark.parametrize(("view_with_box", "sign"), [(0, -1), (1, 1)])
def test_data_built_to_conflict_show_it_in_training(options, tmp_path, view_with_box, sign):
    """Bright frames have a box, which asks for a high feature, and a view that asks for a low one,
    or a high one.
    """
    place = {"project": str(tmp_path), "name": "run", "diagnose_interval": 1, "balancer": "fixed"}
    changes = {"initial_detection_weight": 1.0, "initial_classification_weight": 1.0}
    job = new_job(options | place | changes)
    torch.manual_seed(0)
    trainer = Trainer(dataclasses.replace(job, model=OneFeature(), criterion=OneFeatureLoss()))
    for index in range(12):
        has_box = torch.arange(8) % 2 == index % 2
        images = torch.randint(100, 256, (8, 3, 4, 4)) * has_box[:, None, None, None]
        boxes = F.pad(has_box.nonzero().float(), (0, 5))
        views = torch.where(has_box, view_with_box, 1 - view_with_box)
        batch = {"images": images.byte(), "targets": boxes, "views": views, "paths": ["frame"] * 8}
        trainer.step(0, index, batch, LossMeter(1))
    rows = interference_of(tmp_path / "run")
    assert len(rows) == 2 * 12 and (rows["cosine"] * sign > 0.9).all()
