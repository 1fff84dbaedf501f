"""The taps see exactly what autograd sees at the cut, and change nothing."""

import math

import pytest
import torch
from by_autograd import flat_norms_and_cosine, norms_by_autograd
from small_runs import small_yaml

from models.gradients import FeatureTaps, layer_gradients, task_gradients, weight_gradients
from models.gradnorm import TaskGradients
from models.yolo import YOLOv5WithClassification
from utils.core.names import TASKS
from utils.losses.detection import DetectionLoss, LossGains
from utils.losses.joint import JointLoss, task_losses
from utils.losses.targets import AnchorMatcher

WEIGHTS = {"detection": 1.9, "classification": 0.1}


@pytest.fixture
def step():
    """A joint model, a batch, and a function from outputs to the tasks' losses."""
    torch.manual_seed(0)
    model = YOLOv5WithClassification(small_yaml("yolov5s_joint"), nc=4, views=3).train()
    criterion = JointLoss(DetectionLoss(LossGains(0.05, 0.25, 0.025)))
    images = torch.rand(2, 3, 64, 64)
    boxes = torch.tensor([[0, 1, 0.5, 0.5, 0.3, 0.2], [1, 3, 0.3, 0.6, 0.2, 0.4]])
    matched = AnchorMatcher(model.detect.anchors, model.detect.strides)(boxes, 64, 64)
    batch = {"views": torch.tensor([0, 2]), **matched}
    return model, images, lambda outputs: task_losses(criterion(outputs, batch))


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
    second = tapped(
        model, images, losses_of, {"detection": 0.02, "classification": 1.98}, factor=16 * 1024.0
    )
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
    found = task_gradients(
        {"detection": [gradient], "classification": [gradient * factor]}, dict.fromkeys(TASKS, 2.0)
    )
    assert found.cosine == pytest.approx(cosine, abs=1e-6)
    assert found.norms["classification"] == pytest.approx(
        abs(factor) * gradient.norm().item() / 2, rel=1e-6
    )


def test_orthogonal_and_absent_gradients():
    a, b = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 2, 0])
    scales = dict.fromkeys(TASKS, 1.0)
    assert task_gradients({"detection": [a], "classification": [b]}, scales).cosine == 0
    absent = task_gradients({"detection": [a], "classification": [torch.zeros(3)]}, scales)
    assert math.isnan(absent.cosine)


# ---- layer by layer ------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "cosine"), [(1.0, 1.0), (2.0, 1.0), (-1.0, -1.0), (-0.5, -1.0)])
def test_identical_and_negated_tasks_in_every_layer(factor, cosine):
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    loss = model(torch.randn(5, 4)).square().mean()
    layers = {"first": list(model[0].parameters()), "last": list(model[2].parameters())}
    found = layer_gradients(
        {"detection": loss, "classification": factor * loss}, layers, loss_scale=16.0
    )
    for name, layer in layers.items():
        gradient = torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, layer, retain_graph=True)]
        )
        assert found[name].cosine == pytest.approx(cosine, abs=1e-6)
        assert found[name].norms["detection"] == pytest.approx(gradient.norm().item(), rel=1e-5)
        expected = 2 * abs(factor) / (1 + factor**2)
        assert found[name].magnitude_similarity == pytest.approx(expected, rel=1e-5)


def test_orthogonal_tasks_and_a_layer_that_one_of_them_does_not_reach():
    shared, own = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    losses = {"detection": shared[0] + own.sum(), "classification": 3 * shared[1]}
    found = layer_gradients(losses, {"shared": [shared], "own": [own]})
    assert found["shared"].cosine == 0 and found["shared"].norms == {
        "detection": 1,
        "classification": 3,
    }
    assert math.isnan(found["own"].cosine) and found["own"].magnitude_similarity == 0
    assert math.isnan(TaskGradients(dict.fromkeys(TASKS, 0.0), math.nan).magnitude_similarity)
    assert layer_gradients(losses, {}) == {}


def test_layer_gradients_equal_autograds_and_leave_no_grad(step):
    model, images, losses_of = step
    for parameter in model.model[3].parameters():
        parameter.requires_grad_(False)
    losses, layers = losses_of(model(images)), model.trunk_parameters()
    found = layer_gradients(losses, layers, loss_scale=8.0)
    assert found.keys() == {"trunk", *map(str, model.trunk_layers)} - {
        "3",
        "11",
        "12",
        "15",
        "16",
    }  # no weights
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
