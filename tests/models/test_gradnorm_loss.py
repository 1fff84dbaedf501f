"""`GradNormLoss`: what people may pass, and what is refused."""

import copy
import csv
import doctest
import math
import re
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from three_tasks import TASKS, Net, frames, functions, measured, pairs_of, train
from torch import Tensor, nn
from torch.nn import functional as F

from models import gradnorm_loss
from models.gradnorm_loss import GradNormLoss

# ---- what may be passed --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
def test_any_number_of_tasks_by_name(count: int):
    chosen = TASKS[:count]
    loss = GradNormLoss({task: functions()[task] for task in chosen}, interval=1)
    net = Net()
    features, outputs = net(frames())
    pairs = {task: pairs_of(outputs)[task] for task in chosen}
    total = loss(pairs, shared=features)
    assert total.item() == pytest.approx(
        sum(functions()[task](*pairs[task]).item() for task in chosen)
    )
    assert tuple(loss.weights) == chosen
    assert sum(loss.weights.values()) == pytest.approx(count)
    assert loss.weights is loss.balancer.weights and set(loss.losses) == set(chosen)


def test_several_shared_tensors_or_a_module_are_measured_all_together():
    net = Net()
    outputs = net(frames())[1]
    parameters = list(net.trunk.parameters())
    expected = {}
    for task, pair in pairs_of(outputs).items():
        found = torch.autograd.grad(functions()[task](*pair), parameters, retain_graph=True)
        expected[task] = math.sqrt(sum(gradient.square().sum().item() for gradient in found))
    for shared in (
        parameters,
        tuple(parameters),
        net.trunk,
        net.trunk.parameters(),
        iter(parameters),
    ):
        norms = measured(GradNormLoss(functions(), interval=1), shared, net, outputs)
        assert norms == pytest.approx(expected)
    one = measured(GradNormLoss(functions(), interval=1), net.last_weight, net, outputs)
    assert one != pytest.approx(expected)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 1, 1)])
def test_a_loss_of_one_element_may_have_any_shape(shape: tuple):
    shaped = {task: (lambda o, t, f=f: f(o, t).reshape(shape)) for task, f in functions().items()}
    net = Net()
    features, outputs = net(frames())
    total = GradNormLoss(shaped, interval=1)(pairs_of(outputs), shared=features)
    assert total.shape == ()
    total.backward()


def test_a_known_start_is_an_argument():
    loss = GradNormLoss(functions(), interval=1, initial_losses={"kind": math.log(3)})
    train(Net(), loss, 1)
    assert loss.balancer.initial_losses["kind"] == math.log(3)
    assert set(loss.balancer.initial_losses) == set(TASKS)


# ---- tasks without a label -----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["left out", "told"])
def test_an_unlabelled_task_is_left_out_of_the_sum_and_the_batch_of_the_balance(how: str):
    net, loss = Net(), GradNormLoss(functions(), interval=1)
    features, outputs = net(frames())
    pairs, labelled = pairs_of(outputs), True
    pairs["kind"] = (outputs["kind"], torch.full((6,), -100))  # PyTorch's cross-entropy is NaN then
    if how == "left out":
        del pairs["kind"]
    else:
        labelled = {"kind": False}
    total = loss(pairs, shared=features, labelled=labelled)
    expected = sum(functions()[task](*pairs[task]).item() for task in ("depth", "edge"))
    assert total.item() == pytest.approx(expected)
    assert loss.balancer.skipped["unlabelled"] == 1 and loss.last_update is None


def test_labelled_false_alone_leaves_out_the_losses_that_are_not_finite():
    x = torch.ones(2, 3, requires_grad=True)
    loss = GradNormLoss(F.mse_loss, F.cross_entropy, interval=1)
    total = loss(x, torch.zeros(2, 3), x, torch.full((2,), -100), shared=x, labelled=False)
    assert total.item() == 1


def test_a_batch_without_any_label_gives_zero_with_a_graph():
    net, loss = Net(), GradNormLoss(functions(), interval=1)
    features, _ = net(frames())
    total = loss({}, shared=features)
    total.backward()
    assert total.item() == 0 and not net.last_weight.grad.any()


# ---- what is refused -----------------------------------------------------------------------------


def plain(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean()


BAD_LOSSES = {
    "has shape (6,), expected one number; take its mean": lambda o, t: (o[:, 0] - t[:, 0]).square(),
    "has shape (6, 3)": lambda o, t: (o - t).square(),
    "has shape (0,)": lambda o, t: (o - t).square()[:0, 0],
    "is a tuple of 2": lambda o, t: (plain(o, t), o),
    "is a list of 1": lambda o, t: [plain(o, t)],
    "is a float; return a tensor with its graph, without .item()": lambda o, t: plain(o, t).item(),
    "is a int": lambda o, t: 3,
    "is a NoneType": lambda o, t: None,
    "has no graph": lambda o, t: plain(o.detach(), t),
    "has no graph, so nothing can learn from it": lambda o, t: torch.tensor(1.0),
    "is -": lambda o, t: -plain(o, t) - 1,
}


@pytest.mark.parametrize("message", BAD_LOSSES)
def test_a_loss_that_is_no_loss_is_named_with_its_task_and_the_fix(message: str):
    net = Net()
    features, outputs = net(frames())
    loss = GradNormLoss({**functions(), "depth": BAD_LOSSES[message]})
    with pytest.raises(ValueError, match=re.escape(f"the loss of depth {message}")):
        loss(pairs_of(outputs), shared=features)


def test_a_loss_that_falls_below_zero_later_is_found_at_the_update():
    net, scale = Net(), [1.0]
    loss = GradNormLoss({**functions(), "edge": lambda o, t: scale[0] * plain(o, t)}, interval=2)
    train(net, loss, 1)
    scale[0] = -9.0
    with pytest.raises(ValueError, match=r"the loss of edge is -.*on average"):
        train(net, loss, 2)


def bad_shared(net: Net, features: Tensor, outputs: dict) -> dict[str, object]:
    unrelated = torch.ones(3, requires_grad=True)
    return {
        "shared is a NoneType": None,
        "shared is a str": "trunk",
        "shared holds nothing": [],
        "shared holds ['int']": [1, 2],
        "shared is a int": 5,
        "does not require gradients": features.detach(),
        "of shape (4,) does not require gradients": [features, torch.ones(4)],
        "the loss of kind does not depend on `shared`": unrelated,
        "the loss of depth does not depend on `shared`": outputs["kind"],
        "copies: pass the last shared weight": features * 1,
        "last weight that all share": net.heads["kind"].weight,
    }


@pytest.mark.parametrize(
    "message", bad_shared(Net(), torch.ones(1, requires_grad=True), dict.fromkeys(TASKS))
)
def test_a_wrong_place_is_found_on_the_first_call_not_the_tenth(message: str):
    net = Net()
    features, outputs = net(frames())
    with pytest.raises(ValueError, match=re.escape(message)):
        GradNormLoss(functions())(
            pairs_of(outputs), shared=bad_shared(net, features, outputs)[message]
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (F.mse_loss, F.mse_loss, F.mse_loss),
            "alpha is a function; for three tasks or more pass a mapping",
        ),
        (({"a": F.mse_loss, "b": F.mse_loss}, F.mse_loss), "a mapping and a second function"),
        ((F.mse_loss,), "the loss function of 'classification' is a NoneType"),
        (({"a": F.mse_loss, "b": 3},), "the loss function of 'b' is a int"),
        (({"a": F.mse_loss},), "two or more"),
        (({},), "two or more"),
    ],
)
def test_wrong_functions_are_refused(arguments: tuple, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        GradNormLoss(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_sum": -2.0}, "weight_sum is -2.0"),
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"interval": 0}, "interval is 0"),
        ({"min_share": 0.4}, "min_share is 0.4, expected below 0.333"),
        ({"initial_weights": {"kind": 1.0}}, "initial_weights is of ['kind']"),
        ({"initial_weights": dict.fromkeys(TASKS, 0.0)}, "initial weight of kind is 0.0"),
        ({"initial_losses": {"view": 1.0}}, "initial_losses has 'view'"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        GradNormLoss(functions(), **options)


def test_a_task_that_does_not_exist_and_a_target_that_is_missing_are_named():
    net = Net()
    features, outputs = net(frames())
    loss = GradNormLoss(functions())
    with pytest.raises(ValueError, match="found the task 'view', expected some of"):
        loss({**pairs_of(outputs), "view": (1, 2)}, shared=features)
    with pytest.raises(ValueError, match="found the task 'view'"):
        loss(pairs_of(outputs), shared=features, labelled={"view": False})
    with pytest.raises(
        ValueError, match=re.escape("kind: found Tensor, expected a tuple (output, target)")
    ):
        loss(outputs, shared=features)
    with pytest.raises(ValueError, match="found Tensor, expected a mapping"):
        loss(outputs["kind"], shared=features)


# ---- loss functions that are modules -------------------------------------------------------------


class Weighted(nn.Module):
    """A loss with a parameter and a buffer."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("offset", torch.tensor(2.0))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self.log_scale.exp() * (output - target).square().mean() + self.offset


def test_loss_modules_are_registered_moved_and_saved():
    loss = GradNormLoss({**functions(), "depth": Weighted()}, interval=1)
    assert [name for name, _ in loss.named_parameters()] == ["loss_modules.1.log_scale"]
    net = Net()
    train(net, loss, 2)
    assert loss.loss_functions["depth"].log_scale.grad is not None
    loss.double()
    assert loss.loss_functions["depth"].offset.dtype == torch.float64
    with torch.no_grad():
        loss.loss_functions["depth"].log_scale.fill_(0.7)
    other = GradNormLoss({**functions(), "depth": Weighted()}, interval=1)
    other.load_state_dict(loss.state_dict())
    assert other.loss_functions["depth"].log_scale.item() == pytest.approx(0.7)
    assert other.weights == loss.weights != dict.fromkeys(TASKS, 1.0)


def test_a_state_of_other_tasks_is_refused():
    state = GradNormLoss(functions()).state_dict()
    with pytest.raises(ValueError, match="the state is of the tasks"):
        GradNormLoss(F.mse_loss, F.mse_loss).load_state_dict(state)


@pytest.mark.parametrize("way", ["deepcopy", "state"])
def test_a_copy_goes_on_identically(way: str):
    net, loss = Net(), GradNormLoss(functions(), interval=2)
    train(net, loss, 5)
    if way == "deepcopy":
        copied = copy.deepcopy(loss)
    else:
        copied = GradNormLoss(functions(), interval=2)
        copied.load_state_dict(copy.deepcopy(loss.state_dict()))
    again = copy.deepcopy(net)
    assert train(again, copied, 5) == train(net, loss, 5)


def test_it_travels_to_another_process_by_pickle():
    net, loss = Net(), GradNormLoss(functions(), interval=2)
    train(net, loss, 5)
    expected = train(
        copy.deepcopy(net), copy.deepcopy(loss), 5
    )  # first, as what arrives shares our memory
    arrived = ForkingPickler.loads(ForkingPickler.dumps(loss))  # what torch.multiprocessing sends
    assert train(net, arrived, 5) == expected


# ---- the balance is shown ------------------------------------------------------------------------


def test_the_last_update_and_a_csv_show_the_balance(tmp_path: Path):
    loss = GradNormLoss(functions(), interval=2, csv_path=tmp_path / "gradnorm.csv")
    assert loss.last_update is None
    weights = train(Net(), loss, 5)
    update = loss.last_update
    assert update.weights == weights[3] == loss.weights
    for values in (update.losses, update.norms, update.targets, update.rates):
        assert set(values) == set(TASKS)
    assert update.at_bound == () and update.skipped["unlabelled"] == 0
    with (tmp_path / "gradnorm.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2
    assert float(rows[1]["weight/depth"]) == update.weights["depth"]


# ---- two tasks by position -----------------------------------------------------------------------


def tiny_network():
    torch.manual_seed(4)
    return nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(8, 3)


def test_gradnorm_loss_trains_heads_and_trunk_with_their_weights_and_touches_no_grad():
    trunk, boxes, views = tiny_network()
    wrapped = GradNormLoss(
        nn.functional.mse_loss, nn.functional.cross_entropy, alpha=1.5, interval=1
    )
    x, box_target, view_target = torch.randn(16, 4), torch.randn(16, 2), torch.randint(0, 3, (16,))
    for _ in range(3):
        weights = dict(wrapped.balancer.weights)
        features = trunk(x).relu()
        total = wrapped(
            boxes(features), box_target, views(features), view_target, shared=trunk.weight
        )
        # The update has happened; no gradient of the network exists yet.
        assert all(p.grad is None for module in (trunk, boxes, views) for p in module.parameters())
        total.backward()
        features = trunk(x).relu()
        expected = weights["detection"] * nn.functional.mse_loss(boxes(features), box_target)
        expected = expected + weights["classification"] * nn.functional.cross_entropy(
            views(features), view_target
        )
        for module in (trunk, boxes, views):
            for p in module.parameters():
                (direct,) = torch.autograd.grad(expected, p, retain_graph=True)
                torch.testing.assert_close(p.grad, direct)
                p.grad = None
        assert wrapped.balancer.weights != weights


def test_gradnorm_loss_carries_its_state_in_state_dict():
    wrapped = GradNormLoss(nn.functional.mse_loss, nn.functional.mse_loss, interval=1)
    x = torch.ones(2, requires_grad=True)
    wrapped(x, torch.zeros(2), 3 * x, torch.zeros(2), shared=x)
    other = GradNormLoss(nn.functional.mse_loss, nn.functional.mse_loss, interval=1)
    other.load_state_dict(wrapped.state_dict())
    assert (
        other.balancer.weights
        == wrapped.balancer.weights
        != {"detection": 1.0, "classification": 1.0}
    )


def test_the_example_in_the_docstring_runs():
    results = doctest.testmod(gradnorm_loss)
    assert results.attempted > 0
    assert results.failed == 0


def test_the_wrapper_is_idle_in_evaluation_and_leaves_out_unlabelled_batches():
    trunk = nn.Linear(3, 4)
    wrapped = GradNormLoss(nn.functional.mse_loss, nn.functional.mse_loss, interval=1)

    def loss(**options: bool) -> torch.Tensor:
        features = trunk(torch.ones(2, 3))
        return wrapped(
            features,
            features.detach() + 1,
            features,
            features.detach() - 2,
            trunk.weight,
            **options,
        )

    expected = loss(labelled=False).item()
    assert wrapped.balancer.skipped["unlabelled"] == 1
    with torch.no_grad():
        assert loss().item() == expected
    wrapped.eval()
    assert loss().item() == expected
    assert wrapped.balancer.initial_losses == {}
    wrapped.train()
    loss()
    assert wrapped.balancer.initial_losses == {"detection": 1, "classification": 4}
