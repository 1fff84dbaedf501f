"""`GradNormLoss` in other people's loops: what these do around it."""

import pytest
import torch
from three_tasks import TASKS, Net, frames, functions, measured, pairs_of, train
from torch.utils.checkpoint import checkpoint

from models.gradnorm_loss import GradNormLoss


@pytest.mark.parametrize("place", ["features", "weight"])
def test_gradients_are_those_of_the_weighted_sum_and_nothing_else(place: str):
    net, plain_net = Net(), Net()
    loss = GradNormLoss(functions(), interval=1)
    features, outputs = net(frames())
    loss(pairs_of(outputs), shared=features if place == "features" else net.last_weight).backward()
    _, outputs = plain_net(frames())
    sum(functions()[task](*pair) for task, pair in pairs_of(outputs).items()).backward()
    for a, b in zip(net.parameters(), plain_net.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_gradient_accumulation():
    net, loss = Net(), GradNormLoss(functions(), interval=2)
    for step in range(4):
        features, outputs = net(frames(seed=step))
        (loss(pairs_of(outputs), shared=features) / 4).backward()
    assert loss.last_update is not None
    assert loss.balancer.wants_gradients is False


def test_the_graph_may_be_kept():
    net, loss = Net(), GradNormLoss(functions(), interval=1)
    features, outputs = net(frames())
    total = loss(pairs_of(outputs), shared=features)
    total.backward(retain_graph=True)
    first = net.last_weight.grad.clone()
    total.backward()
    torch.testing.assert_close(net.last_weight.grad, 2 * first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_a_scaler_measure_the_norms_of_float32(dtype: torch.dtype):
    norms = {}
    for kind in (torch.float32, dtype):
        net, loss = Net(), GradNormLoss(functions(), interval=1)
        scale = 2.0**16 if kind is torch.float16 else 1.0
        with torch.autocast("cpu", kind, enabled=kind is not torch.float32):
            features, outputs = net(frames())
        outputs = {task: output.float() for task, output in outputs.items()}
        total = loss(pairs_of(outputs), shared=features, loss_scale=scale)
        (total * scale).backward()
        norms[kind] = loss.last_update.norms
        assert features.dtype == kind
    assert norms[dtype] == pytest.approx(norms[torch.float32], rel=0.02)


def test_underflow_in_half_precision_is_what_the_loss_scale_is_for():
    tiny = {task: (lambda o, t: 1e-8 * (o.float() - 1).square().mean()) for task in TASKS}
    start = dict.fromkeys(TASKS, 1e-8)
    found = {}
    for scale in (1.0, 2.0**16):
        net, loss = Net().half(), GradNormLoss(tiny, interval=1, initial_losses=start)
        features, outputs = net(frames().half())
        loss(pairs_of(outputs), shared=features, loss_scale=scale)
        found[scale] = loss.balancer.skipped["zero"]
    assert found == {1.0: 1, 2.0**16: 0}


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(use_reentrant: bool):
    reference = train(Net(), GradNormLoss(functions(), interval=2), place="features")
    assert (
        train(Net(use_reentrant), GradNormLoss(functions(), interval=2), place="features")
        == reference
    )
    if use_reentrant:  # PyTorch cannot measure inside; it is said
        with pytest.raises(ValueError, match="use_reentrant=False"):
            train(Net(True), GradNormLoss(functions(), interval=2), place="weight")
    else:
        weights = train(Net(), GradNormLoss(functions(), interval=2), place="weight")
        assert train(Net(False), GradNormLoss(functions(), interval=2), place="weight") == weights


def test_heads_that_are_checkpointed_with_reentry_are_named():
    net = Net()
    features = net.trunk(frames())
    outputs = {
        task: checkpoint(head, features, use_reentrant=True) for task, head in net.heads.items()
    }
    with pytest.raises(ValueError, match="between the losses and shared"):
        GradNormLoss(functions())(pairs_of(outputs), shared=features)


def test_frozen_parts_of_a_shared_module_are_passed_over():
    net, loss = Net(), GradNormLoss(functions(), interval=1)
    net.trunk[0].requires_grad_(False)
    outputs = net(frames())[1]
    trained = measured(loss, net.trunk, net, outputs)
    last = list(net.trunk[2].parameters())
    assert trained == measured(GradNormLoss(functions(), interval=1), last, net, outputs)
    net.trunk.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing that is trained"):
        loss(pairs_of(outputs), shared=net.trunk)


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("compiled", ["model", "criterion", "both"])
def test_compiled_by_torch(backend: str, compiled: str):
    torch.compiler.reset()
    reference = train(Net(), GradNormLoss(functions(), interval=2), place="weight")
    net, loss = Net(), GradNormLoss(functions(), interval=2)
    if compiled != "criterion":
        net.compile(backend=backend)
    called = torch.compile(loss, backend=backend) if compiled != "model" else loss
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for step, expected in enumerate(reference):
        _, outputs = net(frames(seed=step))
        optimizer.zero_grad()
        called(pairs_of(outputs), shared=net.last_weight).backward()
        optimizer.step()
        assert loss.weights == pytest.approx(expected, rel=1e-4)


def test_features_of_a_compiled_model_are_refused_and_the_weight_is_named():
    torch.compiler.reset()
    net = Net()
    net.compile(backend="aot_eager")
    features, outputs = net(frames())
    with pytest.raises(ValueError, match=r"torch\.compile are copies: pass the last shared weight"):
        GradNormLoss(functions())(pairs_of(outputs), shared=features)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_weights_are_those_of_the_cpu():
    expected = train(Net(), GradNormLoss(functions(), interval=2))
    net, loss = Net().cuda(), GradNormLoss(functions(), interval=2).cuda()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for step, weights in enumerate(expected):
        features, outputs = net(frames(seed=step).cuda())
        pairs = {
            task: (output.cuda(), target.cuda())
            for task, (output, target) in pairs_of(outputs).items()
        }
        optimizer.zero_grad()
        loss(pairs, shared=features).backward()
        optimizer.step()
        assert loss.weights == pytest.approx(weights, rel=1e-3)
