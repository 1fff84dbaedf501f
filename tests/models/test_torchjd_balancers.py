"""The adapters to TorchJD, against the definitions of what they adapt and against plain training."""

import itertools
import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from small_runs import assert_same_run, resume, run, small_options

from models.gradients import FeatureTaps
from models.torchjd_balancers import (
    STCH_SMOOTHING,
    Famo,
    GradientCombiner,
    Scalarised,
    SmoothTchebycheff,
    torchjd_balancer,
)
from utils.comparison.arms import COINCIDING
from utils.core.names import BALANCERS, TASKS, TORCHJD_AGGREGATORS, TORCHJD_SCALARISERS
from utils.core.script import UserError
from utils.losses.joint import task_losses

pytest.importorskip("torchjd", reason="the optional extra torchjd is not installed")


def pairs_of_gradients(count=20):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.logspace(
        -0.5, 0.5, count
    )  # TorchJD's regularisation of UPGrad shows where they differ more
    return [
        torch.randn(2, 6, generator=generator) * torch.tensor([[1.0], [length]])
        for length in lengths
    ]


def test_every_method_has_a_name_in_the_options():
    assert set(BALANCERS) == {"gradnorm", "fixed", *TORCHJD_SCALARISERS, *TORCHJD_AGGREGATORS}


def test_pcgrad_is_twice_upgrad_for_two_tasks():
    """For two tasks each projects off the other once.

    One sums the projections, the other averages them.
    """
    pcgrad, upgrad = GradientCombiner("pcgrad"), GradientCombiner("upgrad")
    conflicts = 0
    for gradients in pairs_of_gradients():
        torch.testing.assert_close(
            pcgrad.aggregate(gradients), 2 * upgrad.aggregate(gradients), rtol=1e-3, atol=1e-3
        )
        conflicts += bool(gradients[0] @ gradients[1] < 0)
    assert 0 < conflicts < 20


def test_only_the_named_methods_coincide():
    """Two methods coincide if they point the same way, whatever the gradients."""
    balancers = {name: GradientCombiner(name) for name in TORCHJD_AGGREGATORS}
    found = [
        pair
        for pair in itertools.combinations(TORCHJD_AGGREGATORS, 2)
        if all(
            F.cosine_similarity(*(balancers[name].aggregate(g) for name in pair), dim=0) > 0.999
            for g in pairs_of_gradients()
        )
    ]
    assert found == list(COINCIDING)


def test_imtl_g_projects_equally_on_both_gradients():
    for gradients in pairs_of_gradients(5):
        direction = GradientCombiner("imtl-g").aggregate(gradients)
        projections = gradients @ direction / gradients.norm(dim=1)
        assert projections[0] == pytest.approx(projections[1].item(), rel=1e-3)


def test_a_gradient_that_is_not_finite_is_passed_on_for_the_step_to_be_skipped():
    gradients = torch.tensor([[1.0, math.inf], [1.0, 2.0]])
    assert GradientCombiner("mgda").aggregate(gradients).tolist() == [2.0, math.inf]


def test_the_trunk_descends_the_aggregate_and_the_heads_their_own_losses():
    torch.manual_seed(0)
    trunk, heads = torch.nn.Linear(4, 3), {task: torch.nn.Linear(3, 1) for task in TASKS}
    x = torch.randn(5, 4)
    taps = FeatureTaps(detached=True)
    features = trunk(x)
    aliases = dict(zip(TASKS, taps.attach({0: features}), strict=True))
    losses = {task: head(aliases[task][0]).square().mean() for task, head in heads.items()}
    sum(losses.values()).backward()
    assert trunk.weight.grad is None
    balancer = GradientCombiner("pcgrad")
    taps.pass_on(balancer.aggregate)

    plain = trunk(x)
    own = {task: head(plain).square().mean() for task, head in heads.items()}
    gradients = [torch.autograd.grad(own[task], plain, retain_graph=True)[0] for task in TASKS]
    expected = balancer.aggregate(torch.stack([g.flatten() for g in gradients])).view_as(plain)
    (by_hand,) = torch.autograd.grad(plain, trunk.weight, expected, retain_graph=True)
    torch.testing.assert_close(trunk.weight.grad, by_hand)
    for task, head in heads.items():
        torch.testing.assert_close(
            head.weight.grad, torch.autograd.grad(own[task], head.weight, retain_graph=True)[0]
        )


def test_summing_the_gradients_trains_as_equal_weights_do(tiny_data, tmp_path, monkeypatch):
    options = small_options(tiny_data, tmp_path) | {"epochs": 1}
    weights = {"initial_detection_weight": 1.0, "initial_classification_weight": 1.0}
    fixed = run(options, tmp_path / "fixed", balancer="fixed", **weights)
    monkeypatch.setattr(GradientCombiner, "aggregate", lambda self, gradients: gradients.sum(dim=0))
    summed = run(options, tmp_path / "summed", balancer="pcgrad")
    states = [
        torch.load(folder / "weights" / "last.pt", weights_only=True)["model"]
        for folder in (fixed, summed)
    ]
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-3, atol=1e-4)


def test_uncertainty_weighting_follows_its_loss():
    balancer = Scalarised("uw")
    losses = {
        "detection": torch.tensor(4.0, requires_grad=True),
        "classification": torch.tensor(0.5, requires_grad=True),
    }
    total = balancer.combine(losses)
    assert total.item() == pytest.approx(0.5 * 4.5)
    assert balancer.weights == {"detection": 0.5, "classification": 0.5}
    total.backward()
    assert losses["detection"].grad.item() == pytest.approx(0.5)
    balancer.observe(losses)
    balancer.combine(losses)
    # d/ds (exp(-s) L + s) / 2 = (1 - L) / 2 at s = 0: the large loss's log-variance grows, the
    # small one's falls
    assert balancer.weights["detection"] < 0.5 < balancer.weights["classification"]


def test_dwa_weighs_by_the_last_two_epochs_and_relives_them_from_its_state():
    balancer, epochs = Scalarised("dwa"), [(1.0, 1.0), (0.5, 0.9)]
    for detection, classification in epochs:
        balancer.combine(
            {
                "detection": torch.tensor(detection, requires_grad=True),
                "classification": torch.tensor(classification),
            }
        )
        balancer.end_epoch()
    restored = Scalarised("dwa")
    restored.load_state_dict(balancer.state_dict())
    rates = (
        torch.tensor([0.5, 0.9]) / 2.0
    )  # the ratio of the last two epochs, over the paper's temperature
    expected = (2 * rates.softmax(dim=0)).tolist()
    for one in (balancer, restored):
        one.combine({task: torch.tensor(1.0, requires_grad=True) for task in TASKS})
        assert list(one.weights.values()) == pytest.approx(expected, rel=1e-6)


def test_smooth_tchebycheff_starts_both_tasks_equal_and_turns_to_the_one_that_lags():
    """Against the definition: mu log sum exp(L_i / (mu L_i(0)))."""
    balancer = SmoothTchebycheff()
    balancer.combine(leaves(4.0, 0.5))
    assert balancer.weights["detection"] * 4 == pytest.approx(
        balancer.weights["classification"] / 2
    )
    losses = leaves(2.0, 0.4)
    total = balancer.combine(losses)
    terms = [math.exp(0.5 / STCH_SMOOTHING), math.exp(0.8 / STCH_SMOOTHING)]
    assert total.item() == pytest.approx(STCH_SMOOTHING * math.log(sum(terms)))
    total.backward()
    shares = [term / sum(terms) for term in terms]
    assert losses["detection"].grad.item() == pytest.approx(shares[0] / 4)
    assert losses["classification"].grad.item() == pytest.approx(shares[1] / 0.5)
    assert list(balancer.weights.values()) == pytest.approx([shares[0] / 4, shares[1] / 0.5])


def leaves(detection: float, classification: float) -> dict[str, torch.Tensor]:
    values = (detection, classification)
    return {
        task: torch.tensor(value, requires_grad=True)
        for task, value in zip(TASKS, values, strict=True)
    }


@pytest.mark.parametrize("name", ["stch", "famo"])
def test_a_batch_without_views_keeps_the_weights_of_the_one_before(name: str):
    balancer = torchjd_balancer(name)
    assert balancer.combine(leaves(4.0, 0.0)).item() == 4.0
    balancer.look_again(leaves(3.0, 0.0))
    assert balancer.weights == {"detection": 1.0, "classification": 1.0}
    fresh = torchjd_balancer(name)
    losses = leaves(4.0, 0.5)
    assert balancer.combine(losses).item() == fresh.combine(losses).item()


def test_famo_descends_a_convex_combination_in_which_a_small_loss_counts_more():
    balancer = Famo()
    losses = leaves(4.0, 0.5)
    balancer.combine(losses).backward()
    weights = [losses[task].grad.item() for task in TASKS]
    assert sum(weights) == pytest.approx(1)
    assert weights[0] * 4.0 == pytest.approx(weights[1] * 0.5)
    assert weights == pytest.approx(list(balancer.weights.values()))


def test_famo_turns_to_the_loss_that_fell_less():
    """By Adam's first step, which is its learning rate, on both logits, in opposite directions."""
    balancer = Famo()
    balancer.combine(leaves(4.0, 0.5))
    balancer.look_again(leaves(2.0, 0.49))
    balancer.combine(leaves(1.0, 1.0))
    share = 1 / (1 + math.exp(2 * 0.025))
    assert balancer.weights["detection"] == pytest.approx(share, rel=1e-4)


def test_what_famo_looks_at_again_is_the_batch_after_its_step(tiny_data, tmp_path, monkeypatch):
    options = small_options(tiny_data, tmp_path) | {"balancer": "famo", "epochs": 1}
    cfg = Path(options["cfg"])
    cfg.write_text(cfg.read_text().replace("- 0.5", "- 0.0"))  # no dropout
    seen = []
    monkeypatch.setattr(Famo, "look_again", lambda self, losses: seen.append(losses))

    def compare(trainer, epoch, index, batch):
        with torch.no_grad():
            outputs = trainer.model(trainer.compute.images(batch["images"]))
            expected = task_losses(trainer.criterion(outputs, batch))
        for task in TASKS:
            assert seen[-1][task].item() == pytest.approx(expected[task].item(), rel=1e-4)
            assert not seen[-1][task].requires_grad

    run(options, tmp_path / "run", on_step=compare)
    assert len(seen) == 3


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("stch", "pcgrad", "config")]


@pytest.mark.parametrize("name", ["uw", "dwa", "famo", *OTHERS])
def test_resume_is_exact(tiny_data, tmp_path, name):
    options = small_options(tiny_data, tmp_path) | {"balancer": name}
    whole = run(options, tmp_path / "whole")
    halves = run(options, tmp_path / "halves", epochs=3, save_period=1)
    (halves / "weights" / "epoch1.pt").replace(halves / "weights" / "last.pt")
    (halves / "summary.json").unlink()
    resume(halves)
    assert_same_run(whole, halves)


def test_without_torchjd_the_message_says_what_to_install(monkeypatch):
    for module in ("torchjd.aggregation", "torchjd.scalarization"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("mgda", "uw", "stch", "famo"):
        with pytest.raises(UserError, match="pip install"):
            torchjd_balancer(name)
