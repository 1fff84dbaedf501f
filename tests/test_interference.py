"""The taps see exactly what autograd sees at the cut, and change nothing."""

import copy
import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from small_runs import assert_same_run, new_job, resume, run, small_options

from models.yolo import YOLOv5WithClassification
from utils import plots
from utils.checkpoint import load_checkpoint
from utils.engine import LossReader, Trainer
from utils.general import TASKS
from utils.interference import FeatureTaps, TaskGradients, layer_gradients, weight_gradients
from utils.loss import AnchorMatcher, DetectionLoss, JointLoss, LossGains, task_losses

WEIGHTS = {"detection": 1.9, "classification": 0.1}


@pytest.fixture
def step():
    """A joint model, a batch, and a function from outputs to the tasks' losses."""
    torch.manual_seed(0)
    model = YOLOv5WithClassification("models/yolov5s_joint.yaml", nc=4, views=3).train()
    criterion = JointLoss(DetectionLoss(LossGains(0.05, 0.25, 0.025)))
    images = torch.rand(2, 3, 64, 64)
    boxes = torch.tensor([[0, 1, 0.5, 0.5, 0.3, 0.2], [1, 3, 0.3, 0.6, 0.2, 0.4]])
    matched = AnchorMatcher(model.detect.anchors, model.detect.strides)(boxes, 64, 64)
    batch = {"views": torch.tensor([0, 2]), **matched}
    return model, images, lambda outputs: task_losses(criterion(outputs, batch))


def flat_norms_and_cosine(losses, tensors):
    flat = {}
    for task in TASKS:
        found = torch.autograd.grad(losses[task], tensors, retain_graph=True, allow_unused=True)
        filled = [torch.zeros_like(y) if g is None else g for g, y in zip(found, tensors, strict=True)]
        flat[task] = torch.cat([g.flatten() for g in filled]).double()
    norms = {task: gradient.norm().item() for task, gradient in flat.items()}
    return norms, torch.cosine_similarity(*flat.values(), dim=0).item()


def norms_by_autograd(model, images, losses_of):
    """The oracle: the gradients of the tasks' losses with respect to what the heads are given."""
    features = {i: x.detach().requires_grad_() for i, x in model.trunk(images).items()}
    return flat_norms_and_cosine(losses_of(model.heads(features)), list(features.values()))


def tapped(model, images, losses_of, weights, factor=1.0) -> TaskGradients:
    taps = FeatureTaps()
    losses = losses_of(model(images, tap=taps.attach))
    (sum(weights[task] * losses[task] for task in TASKS) * factor).backward()
    return taps.read({task: weight * factor for task, weight in weights.items()})


def freeze_randomness(model):
    """So that two forward passes of one model are the same function."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.Dropout):
            module.eval()


def test_tapped_norms_and_cosine_equal_autograds_at_the_cut(step):
    model, images, losses_of = step
    freeze_randomness(model)
    assert model.cut == (10, 14, 17)
    norms, cosine = norms_by_autograd(model, images, losses_of)
    found = tapped(model, images, losses_of, WEIGHTS, factor=16.0)
    assert found.norms == pytest.approx(norms, rel=1e-4)
    assert found.cosine == pytest.approx(cosine, abs=1e-5)


def test_measuring_at_the_detection_layers_inputs_would_be_something_else(step):
    """[17, 20, 23] is what the detection layer reads, but the tasks part at 17, 14 and 10."""
    model, images, losses_of = step
    freeze_randomness(model)
    kept = {}
    for i in (17, 20, 23):
        model.model[i].register_forward_hook(lambda module, x, y, i=i: kept.__setitem__(i, y))
    wrong, _ = flat_norms_and_cosine(losses_of(model(images)), list(kept.values()))
    found = tapped(model, images, losses_of, WEIGHTS)
    assert found.norms["detection"] != pytest.approx(wrong["detection"], rel=0.01)


def test_the_network_learns_the_same_with_and_without_taps(step):
    model, images, losses_of = step
    freeze_randomness(model)
    losses = losses_of(model(images))
    sum(WEIGHTS[task] * losses[task] for task in TASKS).backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    tapped(model, images, losses_of, WEIGHTS)
    for p, expected in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(p.grad, expected, rtol=1e-4, atol=1e-7)


def test_norms_do_not_depend_on_weights_batch_factor_or_loss_scale(step):
    model, images, losses_of = step
    freeze_randomness(model)
    first = tapped(model, images, losses_of, WEIGHTS)
    second = tapped(model, images, losses_of, {"detection": 0.02, "classification": 1.98}, factor=16 * 1024.0)
    assert second.norms == pytest.approx(first.norms, rel=1e-4)


def test_weight_gradients_equal_autograd_and_leave_no_grad(step):
    model, images, losses_of = step
    losses = losses_of(model(images))
    shared = model.last_shared_parameter()
    assert shared is model.model[17].cv3.conv.weight
    found = weight_gradients(losses, shared, loss_scale=8.0)
    for task in TASKS:
        (gradient,) = torch.autograd.grad(losses[task], shared, retain_graph=True)
        assert found.norms[task] == pytest.approx(gradient.norm().item(), rel=1e-5)
    assert all(p.grad is None for p in model.parameters())
    sum(losses.values()).backward()  # the graph is still there


@pytest.mark.parametrize(("factor", "cosine"), [(1.0, 1.0), (3.0, 1.0), (-1.0, -1.0)])
def test_identical_and_negated_tasks(factor, cosine):
    gradient = torch.randn(3, 4)
    found = TaskGradients.between(
        {"detection": [gradient], "classification": [gradient * factor]}, dict.fromkeys(TASKS, 2.0)
    )
    assert found.cosine == pytest.approx(cosine, abs=1e-6)
    assert found.norms["classification"] == pytest.approx(abs(factor) * gradient.norm().item() / 2, rel=1e-6)


def test_orthogonal_and_absent_gradients():
    a, b = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 2, 0])
    scales = dict.fromkeys(TASKS, 1.0)
    assert TaskGradients.between({"detection": [a], "classification": [b]}, scales).cosine == 0
    absent = TaskGradients.between({"detection": [a], "classification": [torch.zeros(3)]}, scales)
    assert math.isnan(absent.cosine)


# ---- layer by layer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "cosine"), [(1.0, 1.0), (2.0, 1.0), (-1.0, -1.0), (-0.5, -1.0)])
def test_identical_and_negated_tasks_in_every_layer(factor, cosine):
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    loss = model(torch.randn(5, 4)).square().mean()
    layers = {"first": list(model[0].parameters()), "last": list(model[2].parameters())}
    found = layer_gradients({"detection": loss, "classification": factor * loss}, layers, loss_scale=16.0)
    for name, layer in layers.items():
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, layer, retain_graph=True)])
        assert found[name].cosine == pytest.approx(cosine, abs=1e-6)
        assert found[name].norms["detection"] == pytest.approx(gradient.norm().item(), rel=1e-5)
        expected = 2 * abs(factor) / (1 + factor**2)
        assert found[name].magnitude_similarity == pytest.approx(expected, rel=1e-5)


def test_orthogonal_tasks_and_a_layer_that_one_of_them_does_not_reach():
    shared, own = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    losses = {"detection": shared[0] + own.sum(), "classification": 3 * shared[1]}
    found = layer_gradients(losses, {"shared": [shared], "own": [own]})
    assert found["shared"].cosine == 0 and found["shared"].norms == {"detection": 1, "classification": 3}
    assert math.isnan(found["own"].cosine) and found["own"].magnitude_similarity == 0
    assert math.isnan(TaskGradients(dict.fromkeys(TASKS, 0.0), math.nan).magnitude_similarity)
    assert layer_gradients(losses, {}) == {}


def test_layer_gradients_equal_autograds_and_leave_no_grad(step):
    model, images, losses_of = step
    for parameter in model.model[3].parameters():
        parameter.requires_grad_(False)
    losses, layers = losses_of(model(images)), model.trunk_parameters()
    found = layer_gradients(losses, layers, loss_scale=8.0)
    assert found.keys() == {"trunk", *map(str, model.trunk_layers)} - {"3", "11", "12", "15", "16"}  # no weights
    for name, parameters in layers.items():
        norms, cosine = flat_norms_and_cosine(losses, parameters)
        assert found[name].norms == pytest.approx(norms, rel=1e-4)
        assert found[name].cosine == pytest.approx(cosine, abs=1e-5)
    assert all(p.grad is None for p in model.parameters())
    sum(losses.values()).backward()  # the graph is still there


def test_a_frozen_trunk_has_no_layers_to_measure(step):
    model, *_ = step
    model.requires_grad_(False)
    model.model[24].requires_grad_(True)
    assert model.trunk_parameters() == {}


# ---- in a training ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def options(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return small_options(tiny_data, tmp_path_factory.mktemp("cfg")) | {"noval": True, "epochs": 2}


def interference_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "interference.csv", dtype={"place": str})


def test_a_diagnosed_training_learns_the_same_and_resumes_exactly(options, tmp_path, monkeypatch):
    """The rest is rounding: the taps add the tasks' gradients in another order."""
    monkeypatch.setattr(plots, "draw_run", lambda folder: [])
    plain = run(options, tmp_path / "plain")
    whole = run(options, tmp_path / "whole", diagnose_interval=2)
    assert not (plain / "interference.csv").exists()
    left, right = (load_checkpoint(folder / "weights/last.pt")["model"] for folder in (plain, whole))
    for name, tensor in left.items():
        torch.testing.assert_close(right[name], tensor, rtol=1e-3, atol=5e-5)
    rows = interference_of(whole)
    assert rows["step"].unique().tolist() == [0, 2, 4] and len(rows) == 3 * 16  # cut, trunk, 14 layers with weights
    assert (rows["step"] == 3 * rows["epoch"] + rows["batch"]).all() and rows["cosine"].abs().le(1).all()

    def failing_step(self, epoch, index, *rest):
        return 1 / 0 if (epoch, index) == (1, 2) else step(self, epoch, index, *rest)

    step = Trainer._step
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Trainer, "_step", failing_step)
        run(options, tmp_path / "broken", diagnose_interval=2)
    resume(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", whole)
    pd.testing.assert_frame_equal(interference_of(tmp_path / "broken"), rows, check_exact=True)


@pytest.mark.parametrize("freeze", [0, 4, 18])
def test_the_logged_figures_are_autograds(options, tmp_path, freeze):
    """Of the first batch: on a copy of the model, with the same dropout."""
    place = {"project": str(tmp_path), "name": "run", "freeze": freeze, "diagnose_interval": 1}
    trainer = Trainer(new_job(options | place))
    model, batch = copy.deepcopy(trainer.model).train(), next(iter(trainer.train_loader))
    (tmp_path / "run").mkdir()
    trainer.model.train()
    torch.manual_seed(3)
    trainer._step(0, 0, batch, LossReader(1))
    images = trainer.precision.images(batch["images"])
    torch.manual_seed(3)
    expected = {"cut": norms_by_autograd(model, images, lambda outputs: task_losses(trainer.criterion(outputs, batch)))}
    torch.manual_seed(3)
    losses = task_losses(trainer.criterion(model(images), batch))
    expected |= {name: flat_norms_and_cosine(losses, found) for name, found in model.trunk_parameters().items()}
    rows = interference_of(tmp_path / "run").set_index("place")
    assert len(rows) == len(expected) and set(rows.index) == set(expected)
    assert ("trunk" in expected) == (freeze < 18) and ("3" in expected) == (freeze < 4)
    for name, (norms, cosine) in expected.items():
        assert rows.loc[name, [f"norm/{task}" for task in TASKS]].tolist() == pytest.approx(list(norms.values()), 1e-3)
        assert rows.loc[name, "cosine"] == pytest.approx(cosine, abs=1e-4)
        a, b = norms.values()
        assert rows.loc[name, "magnitude_similarity"] == pytest.approx(2 * a * b / (a * a + b * b), rel=1e-3)


class OneFeature(torch.nn.Module):
    """A trunk of one number a pixel; one head says whether there is a box, the other names one of two views."""

    kind, cut = "one feature", (0,)

    def __init__(self):
        super().__init__()
        self.trunk = torch.nn.Conv2d(3, 1, 1, bias=False)

    def forward(self, images, tap=None):
        features = {0: self.trunk(images)}
        detection, classification = (seen[0].mean((1, 2, 3)) for seen in (tap(features) if tap else [features] * 2))
        return {"detect": detection, "classify": torch.stack((-classification, classification), 1)}

    def trunk_parameters(self):
        return {"trunk": list(self.trunk.parameters())}


class OneFeatureLoss(torch.nn.Module):
    matcher = None

    def forward(self, outputs, batch, shares):
        has_box = torch.zeros_like(outputs["detect"]).index_fill(0, batch["targets"][:, 0].long(), 1.0)
        zero = outputs["detect"].sum() * 0
        found = F.binary_cross_entropy_with_logits(outputs["detect"], has_box)
        return {"box": zero, "obj": found, "cls": zero, "view": F.cross_entropy(outputs["classify"], batch["views"])}


@pytest.mark.parametrize(("view_with_box", "sign"), [(0, -1), (1, 1)])
def test_data_built_to_conflict_show_it_in_training(options, tmp_path, view_with_box, sign):
    """Bright frames have a box, which asks for a high feature, and a view that asks for a low one, or a high one."""
    place = {"project": str(tmp_path), "name": "run", "diagnose_interval": 1, "balancer": "fixed"}
    changes = {"initial_detection_weight": 1.0, "initial_classification_weight": 1.0}
    job = new_job(options | place | changes)
    torch.manual_seed(0)
    trainer = Trainer(dataclasses.replace(job, model=OneFeature(), criterion=OneFeatureLoss()))
    (tmp_path / "run").mkdir()
    for index in range(12):
        has_box = torch.arange(8) % 2 == index % 2
        images = torch.randint(100, 256, (8, 3, 4, 4)) * has_box[:, None, None, None]
        boxes = F.pad(has_box.nonzero().float(), (0, 5))
        views = torch.where(has_box, view_with_box, 1 - view_with_box)
        batch = {"images": images.byte(), "targets": boxes, "views": views, "paths": ["frame"] * 8}
        trainer._step(0, index, batch, LossReader(1))
    rows = interference_of(tmp_path / "run")
    assert len(rows) == 2 * 12 and (rows["cosine"] * sign > 0.9).all()
