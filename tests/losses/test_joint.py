"""The view loss skips unknown views; both tasks' losses are named, weighted and read."""

import pytest
import torch
import torch.nn.functional as F

from utils.losses.joint import JointLoss, LossMeter, task_losses, view_loss


def test_view_loss_is_the_mean_over_known_views():
    logits = torch.randn(5, 3)
    views = torch.tensor([0, -1, 2, -1, 1])
    assert torch.equal(
        view_loss(logits, views),
        F.cross_entropy(logits[[0, 2, 4]], views[[0, 2, 4]], reduction="sum") / 3,
    )


def test_view_loss_without_a_known_view_is_zero_and_differentiable():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = view_loss(logits, torch.tensor([-1, -1]))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_task_losses_group_the_named_ones():
    losses = {
        name: torch.tensor(value)
        for name, value in (("box", 1.0), ("obj", 2.0), ("cls", 3.0), ("view", 4.0))
    }
    assert task_losses(losses) == {"detection": 6.0, "classification": 4.0}
    assert task_losses({"view": losses["view"]}) == {"classification": 4.0}


def test_loss_meter_weights_by_images():
    meter = LossMeter(interval=10)
    meter.add(0, {"box": torch.tensor(1.0)}, ["a"])
    meter.add(1, {"box": torch.tensor(4.0)}, ["b", "c"])
    meter.read()
    assert meter.means() == {"box": 3.0}


def test_weights_apply_in_training_only():
    outputs, batch = {"classify": torch.randn(2, 3)}, {"views": torch.tensor([0, 1])}
    plain, weighted = JointLoss(None), JointLoss(None, torch.tensor([5.0, 5.0, 1.0]))
    assert weighted(outputs, batch)["view"] == pytest.approx(5 * plain(outputs, batch)["view"])
    assert weighted.eval()(outputs, batch)["view"] == plain(outputs, batch)["view"]
