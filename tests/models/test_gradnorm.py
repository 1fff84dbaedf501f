"""The mathematics of GradNorm: targets, the gradient of L_grad, and shares within bounds."""

import doctest

import pytest
import torch
from torch import nn
from two_tasks import EQUAL

from models import gradnorm
from models.gradnorm import (
    TaskGradients,
    balance,
    bounded_shares,
    gradient_of_l_grad,
    shares_to_weights,
)
from models.gradnorm_balancer import GradNorm
from utils.core.names import TASKS


def test_the_example_in_the_docstring_runs():
    results = doctest.testmod(gradnorm)
    assert results.attempted > 0
    assert results.failed == 0


def test_first_order_slope_equals_double_backward():
    """d L_grad / d w_i = sign(G_i - target_i) g_i, against autograd through the gradient norms."""
    torch.manual_seed(0)
    trunk = nn.Linear(6, 5).double()
    heads = [nn.Linear(5, 3).double(), nn.Linear(5, 2).double()]
    features = torch.tanh(trunk(torch.randn(8, 6, dtype=torch.float64)))
    task_losses = [
        head(features).square().mean() * scale
        for head, scale in zip(heads, (1.0, 30.0), strict=True)
    ]
    initial, alpha = [0.5, 9.0], 1.5
    w = torch.tensor([1.2, 0.8], dtype=torch.float64, requires_grad=True)

    norms = [
        torch.autograd.grad(
            w[i] * task_losses[i], trunk.weight, create_graph=True, retain_graph=True
        )[0].norm()
        for i in range(2)
    ]
    relative = torch.stack(
        [loss.detach() / start for loss, start in zip(task_losses, initial, strict=True)]
    )
    rates = relative / relative.mean()
    targets = (torch.stack(norms).mean() * rates**alpha).detach()
    l_grad = sum((norm - target).abs() for norm, target in zip(norms, targets, strict=True))
    (expected,) = torch.autograd.grad(l_grad, w)

    g = [(norm / weight).item() for norm, weight in zip(norms, w, strict=True)]
    ours = balance(
        dict(zip(TASKS, w.tolist(), strict=True)),
        dict(zip(TASKS, g, strict=True)),
        {task: loss.item() for task, loss in zip(TASKS, task_losses, strict=True)},
        dict(zip(TASKS, initial, strict=True)),
        alpha,
    )
    slopes = gradient_of_l_grad(ours, dict(zip(TASKS, g, strict=True)))
    assert list(slopes.values()) == pytest.approx(expected.tolist(), abs=1e-9)
    balancer = GradNorm(dict(zip(TASKS, w.tolist(), strict=True)), alpha=alpha, interval=1)
    balancer.initial_losses = dict(zip(TASKS, initial, strict=True))
    balancer.observe(
        dict(zip(TASKS, task_losses, strict=True)), TaskGradients(dict(zip(TASKS, g, strict=True)))
    )
    assert balancer._w.grad.tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    assert list(ours.targets.values()) == pytest.approx(targets.tolist(), abs=1e-9)


def test_the_exponent_is_plus_alpha_the_slower_task_gets_the_larger_target():
    slow_detection = balance(
        EQUAL,
        {"detection": 1.0, "classification": 1.0},
        {"detection": 0.9, "classification": 0.3},
        EQUAL,
        alpha=1.5,
    )
    assert slow_detection.rates == pytest.approx({"detection": 1.5, "classification": 0.5})
    assert slow_detection.targets["detection"] == pytest.approx(1.5**1.5)
    assert slow_detection.targets["classification"] == pytest.approx(0.5**1.5)


def test_alpha_zero_asks_for_equal_norms():
    norms, now = (
        {"detection": 3.0, "classification": 1.0},
        {"detection": 0.1, "classification": 0.9},
    )
    found = balance(EQUAL, norms, now, EQUAL, alpha=0)
    assert found.targets == {"detection": 2.0, "classification": 2.0}


def test_bounded_shares_of_many_tasks():
    shares = bounded_shares([1e-9, -3.0, 0.6, 0.6, 8.8], 0.05)
    assert shares[:2] == [0.05, 0.05]
    assert sum(shares) == pytest.approx(1)
    assert shares[2] == shares[3] >= 0.05
    assert shares[4] / shares[2] == pytest.approx(8.8 / 0.6)  # those inside keep their ratio
    assert sum(shares_to_weights(shares, 5.0)) == 5.0
    assert bounded_shares([0.0, 0.0], 0.01) == [0.5, 0.5]


def test_three_shares_are_bounded_also_where_clipping_one_pushes_another_below():
    shares = bounded_shares([100.0, 1.015, 0.1], 0.01)
    assert shares == pytest.approx([0.98, 0.01, 0.01])
    assert sum(shares) == pytest.approx(1)
    assert bounded_shares([1.0, 0.0, 0.0], 0.1) == pytest.approx([0.8, 0.1, 0.1])
