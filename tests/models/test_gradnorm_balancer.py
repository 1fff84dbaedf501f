"""Every point of the GradNorm contract: rules, bounds, what counts as a batch, and the state."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from two_tasks import EQUAL, MISSION, losses

from models.gradnorm import RULES, TaskGradients
from models.gradnorm_balancer import RANGES, GradNorm
from utils.commands.train_joint_gradnorm import build_balancer
from utils.core.hyperparameters import HYP_RANGES, HyperParameters
from utils.core.names import TASKS
from utils.data.sampling import inverse_frequencies
from utils.losses.joint import view_loss


def gradients(detection: float, classification: float) -> TaskGradients:
    return TaskGradients(dict(zip(TASKS, (detection, classification), strict=True)), cosine=0.0)


def every_batch(initial=EQUAL, **options) -> GradNorm:
    return GradNorm(initial, interval=1, **options)


# ---- the rules, by hand --------------------------------------------------------------------------


def test_a_task_that_lags_gains_weight():
    balancer = every_batch()
    balancer.observe(losses(1, 1), gradients(1, 1))
    balancer.observe(losses(0.9, 0.3), gradients(1, 1))
    assert balancer.weights["detection"] > balancer.weights["classification"]


def test_three_updates_by_hand():
    """Adam with constant-sign gradients, worked out on paper: see the comments."""
    balancer = every_batch(alpha=1.0)
    # 1: r = (1, 1), G = (4, 1), targets 2.5: slopes (+4, -1). Adam's first step is 0.025 against
    # each sign.
    balancer.observe(losses(1, 1), gradients(4, 1))
    assert balancer.weights == pytest.approx(
        {"detection": 0.975, "classification": 1.025}, abs=1e-6
    )
    # 2: the same norms and losses: G = (3.9, 1.025), the same signs and slopes, again a full step.
    balancer.observe(losses(1, 1), gradients(4, 1))
    assert balancer.weights == pytest.approx({"detection": 0.95, "classification": 1.05}, abs=1e-6)
    # 3: detection lags: L = (1, 0.5), r = (4/3, 2/3); g = (1, 1): G = (0.95, 1.05), targets (4/3,
    # 2/3): slopes (-1, +1). Adam: m = 0.9 m + 0.1 g, v = 0.999 v + 0.001 g^2, bias-corrected.
    expected = []
    for w, slopes in ((0.95, (4, 4, -1)), (1.05, (-1, -1, 1))):
        m = v = 0.0
        for slope in slopes:
            m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        expected.append(w - 0.025 * (m / (1 - 0.9**3)) / (math.sqrt(v / (1 - 0.999**3)) + 1e-8))
    expected = [2 * w / sum(expected) for w in expected]
    balancer.observe(losses(1, 0.5), gradients(1, 1))
    assert list(balancer.weights.values()) == pytest.approx(expected, abs=1e-9)


def test_equilibrium_is_the_fixed_point_of_the_gradient_rule():
    """With norms and rates held constant both rules end at w_i ~ r_i ** alpha / g_i."""
    g, now, alpha = {"detection": 3.0, "classification": 1.0}, losses(0.6, 0.5), 0.7
    relative = [0.6, 0.5]
    ideal = [
        (r / (sum(relative) / 2)) ** alpha / norm
        for r, norm in zip(relative, g.values(), strict=True)
    ]
    ideal = [2 * value / sum(ideal) for value in ideal]
    for options, tolerance in (
        ({"rule": "equilibrium"}, 1e-9),
        ({"rule": "gradient", "learning_rate": 0.002}, 0.01),
    ):
        balancer = every_batch(alpha=alpha, **options)
        balancer.observe(losses(1, 1), gradients(1, 1))
        for _ in range(1500):
            balancer.observe(now, gradients(**g))
        assert list(balancer.weights.values()) == pytest.approx(ideal, abs=tolerance)


# ---- weights: sum, bounds, start -----------------------------------------------------------------


@pytest.mark.parametrize("rule", ["gradient", "equilibrium"])
@pytest.mark.parametrize("weight_sum", [None, 4.0, 0.3])
def test_sum_is_exact_and_weights_stay_inside_their_bounds(rule, weight_sum):
    rng = random.Random(1)
    balancer = every_batch(MISSION, rule=rule, weight_sum=weight_sum, learning_rate=0.3)
    total = 2.0 if weight_sum is None else weight_sum
    for _ in range(10_000):
        values = [10 ** rng.uniform(-4, 4) for _ in range(4)]
        balancer.observe(losses(*values[:2]), gradients(*values[2:]))
        assert sum(balancer.weights.values()) == total
        for weight in balancer.weights.values():
            assert 0.01 * total * (1 - 1e-12) <= weight <= 0.99 * total * (1 + 1e-12)


def test_weights_from_the_missions_start_stay_positive_and_are_used_as_given_until_the_first_update():
    balancer = GradNorm(MISSION, interval=10)
    for _ in range(9):
        assert balancer.observe(losses(1, 1), None) is None
        assert balancer.weights == MISSION
    # A linear step of 0.025 from 0.01 would be negative.
    row = balancer.observe(losses(1, 1), gradients(0.1, 50))
    assert balancer.weights["classification"] == pytest.approx(0.02)
    assert row["at_bound"] == "classification"
    assert sum(balancer.weights.values()) == 2.0


def test_weight_sum_four_reproduces_the_reports_convention():
    """Their code divided the weights by their mean and multiplied by the number of tasks."""
    four, two = every_batch(weight_sum=4.0), every_batch()
    for balancer in (four, two):
        balancer.observe(losses(1, 1), gradients(2, 1))
    stepped = [1 - 0.025, 1 + 0.025]
    reported = [w / (sum(stepped) / 2) * 2 for w in stepped]
    assert list(four.weights.values()) == pytest.approx(reported, abs=1e-6)
    assert list(two.weights.values()) == pytest.approx([w / 2 for w in reported], abs=1e-6)


# ---- what counts as a batch ----------------------------------------------------------------------


def test_losses_are_means_since_the_last_update_and_the_first_interval_is_the_start():
    balancer = GradNorm(EQUAL, interval=4)
    for detection in (1.0, 2.0, 3.0, 6.0):
        wanted = balancer.wants_gradients
        row = balancer.observe(losses(detection, 1), gradients(1, 1) if wanted else None)
    assert wanted
    assert row["loss/detection"] == 3.0
    assert balancer.initial_losses == {"detection": 3.0, "classification": 1.0}
    for detection in (1.0, 1.0, 2.0, 2.0):
        row = balancer.observe(
            losses(detection, 1), gradients(1, 1) if balancer.wants_gradients else None
        )
    assert row["loss/detection"] == 1.5
    assert row["rate/detection"] == pytest.approx(0.5 / 0.75)
    assert balancer.initial_losses["detection"] == 3.0


def test_an_unlabelled_or_non_finite_batch_is_left_out_and_counted():
    balancer = GradNorm(EQUAL, interval=2)
    balancer.observe(losses(1, 1), None)
    assert balancer.wants_gradients
    assert balancer.observe(losses(9, 0), None, labelled=False) is None
    assert balancer.observe(losses(9, 9), gradients(math.inf, 1)) is None
    assert balancer.observe(losses(9, 9), gradients(1, math.nan)) is None
    assert balancer.wants_gradients  # the due update waits for a batch that will do
    assert balancer.weights == EQUAL
    row = balancer.observe(losses(3, 1), gradients(1, 1))
    assert row["loss/detection"] == 2.0
    assert (row["skipped_unlabelled"], row["skipped_nonfinite"]) == (1, 2)
    assert balancer.skipped == {"unlabelled": 1, "nonfinite": 2, "partial": 0, "zero": 0}


def test_a_due_update_waits_for_a_full_batch_and_for_norms_above_zero():
    balancer = GradNorm(EQUAL, interval=2)
    assert (
        balancer.observe(losses(1, 1), None, full=False) is None
    )  # no update is due yet: nothing is left out
    assert balancer.observe(losses(2, 2), None, full=False) is None
    assert balancer.observe(losses(3, 3), gradients(0, 1)) is None
    assert balancer.wants_gradients and balancer.weights == EQUAL
    row = balancer.observe(losses(6, 6), gradients(1, 1))
    assert row["loss/detection"] == 3  # the losses of all four batches count
    assert (row["skipped_partial"], row["skipped_zero"]) == (1, 1)


def test_a_task_whose_gradient_died_does_not_take_all_weight():
    balancer = every_batch(rule="equilibrium")
    for _ in range(100):
        assert balancer.observe(losses(1, 1), gradients(1, 0)) is None
    assert balancer.weights == EQUAL and balancer.skipped["zero"] == 100


@pytest.mark.parametrize("rule", RULES)
def test_several_measurements_of_an_interval_count_by_their_geometric_mean(rule: str):
    one, several = (GradNorm(EQUAL, interval=2, rule=rule) for _ in range(2))
    one.observe(losses(1, 1), None)
    several.observe(losses(1, 1), None)
    several.observe(losses(math.nan, 1), gradients(9, 9))  # the interval begins anew
    several.observe(losses(1, 1), None)
    assert one.observe(losses(1, 1), gradients(2, 6)) == several.observe(
        losses(1, 1), gradients(2, 6)
    ) | {"skipped_nonfinite": 0}


# ---- trajectories, against an independent implementation by double backward ----------------------


class DoubleBackward:
    """GradNorm as the paper writes it.

    W is a tensor with a graph, and L_grad is differentiated through the norms.
    """

    def __init__(self, count: int, rule: str, alpha: float):
        self.w = torch.ones(count, dtype=torch.float64, requires_grad=True)
        self.adam = torch.optim.Adam([self.w], lr=0.025)
        self.rule, self.alpha, self.start = rule, alpha, None

    def step(self, task_losses: list[torch.Tensor], shared: torch.Tensor) -> None:
        values = torch.stack(task_losses)
        self.start = values.detach() if self.start is None else self.start
        weighted = [self.w[i] * loss for i, loss in enumerate(task_losses)]
        norms = torch.stack(
            [torch.autograd.grad(loss, shared, create_graph=True)[0].norm() for loss in weighted]
        )
        rates = values.detach() / self.start
        rates = rates / rates.mean()
        targets = norms.detach().mean() * rates**self.alpha
        with torch.no_grad():
            if self.rule == "log":
                self.w.mul_((0.1 * (targets / norms).log().clamp(-2.3, 2.3)).exp())
        if self.rule == "gradient":
            self.w.grad = torch.autograd.grad((norms - targets).abs().sum(), self.w)[0]
            self.adam.step()
        with torch.no_grad():
            self.w.mul_(len(self.w) / self.w.sum())


@pytest.mark.parametrize("alpha", [0.0, 1.5, 3.0])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("rule", ["gradient", "log"])
def test_trajectories_are_those_of_an_independent_implementation(
    rule: str, count: int, alpha: float
):
    torch.manual_seed(0)
    trunk = nn.Linear(6, 5).double()
    heads = [nn.Linear(5, 2).double() for _ in range(count)]
    x = torch.randn(8, 6, dtype=torch.float64)
    oracle = DoubleBackward(count, rule, alpha)
    names = [f"task{i}" for i in range(count)]
    balancer = GradNorm(dict.fromkeys(names, 1.0), alpha, interval=1, rule=rule, min_share=1e-6)
    optimizer = torch.optim.SGD(
        [*trunk.parameters(), *(p for head in heads for p in head.parameters())], lr=0.005
    )
    for _ in range(40):
        features = torch.tanh(trunk(x))
        task_losses = [
            (3**i) * (head(features) - i).square().mean() for i, head in enumerate(heads)
        ]
        norms = [
            torch.autograd.grad(loss, trunk.weight, retain_graph=True)[0].norm().item()
            for loss in task_losses
        ]
        named = dict(zip(names, task_losses, strict=True))
        total = balancer.combine(named)
        oracle.step(task_losses, trunk.weight)
        balancer.observe(named, TaskGradients(dict(zip(names, norms, strict=True))))
        assert list(balancer.weights.values()) == pytest.approx(oracle.w.tolist(), rel=1e-8)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()


# ---- where it starts -----------------------------------------------------------------------------


def test_a_known_start_is_used_and_the_other_is_the_first_intervals_mean():
    balancer = GradNorm(EQUAL, interval=2, initial_losses={"classification": math.log(3)})
    balancer.observe(losses(4, 3), None)
    row = balancer.observe(losses(2, 1), gradients(1, 1))
    assert balancer.initial_losses == {"classification": math.log(3), "detection": 3.0}
    relative = 1.0, 2 / math.log(3)
    assert row["rate/classification"] == pytest.approx(relative[1] / (sum(relative) / 2))


def test_a_start_of_zero_is_not_taken(caplog: pytest.LogCaptureFixture):
    balancer = every_batch()
    for loss in (0.0, 1e-9):
        assert balancer.observe(losses(1, loss), gradients(1, 1)) is None
    assert "the loss of classification starts at zero" in caplog.text
    assert balancer.observe(losses(1, 0.5), gradients(1, 1))
    assert balancer.initial_losses["classification"] == 0.5
    assert balancer.skipped["zero"] == 2


@pytest.mark.parametrize("weighted", [False, True])
def test_an_untrained_view_loss_is_the_logarithm_of_the_number_of_views(weighted: bool):
    """Also with class weights, whose mean over the frames is 1."""
    views = torch.tensor([0] * 6 + [1] * 3 + [2] * 3)
    weights = inverse_frequencies(views.tolist())
    weights = torch.tensor([weights[view] for view in range(3)]) if weighted else None
    assert view_loss(torch.zeros(12, 3), views, weights).item() == pytest.approx(math.log(3))


def test_this_projects_trainings_know_the_views_start():
    balancer = build_balancer(HyperParameters(), TASKS, views=5)
    assert balancer.initial_losses == {"classification": math.log(5)}
    assert build_balancer(HyperParameters(), TASKS, views=1).initial_losses == {}


# ---- where the rules rest ------------------------------------------------------------------------


def settled_share(
    rule: str, rates: tuple[float, float], norms: tuple[float, float], alpha: float
) -> float:
    """The second weight's share of the sum of all G_i, after many small steps without noise."""
    options = {"learning_rate": 1e-4, "kappa": 0.02, "momentum": 0.9, "min_share": 1e-6}
    balancer = every_batch(
        rule=rule, alpha=alpha, initial_losses=dict(zip(TASKS, (1.0, 1.0), strict=True)), **options
    )
    tail = []
    for step in range(20_000 if rule == "gradient" else 2_000):
        row = balancer.observe(losses(*rates), gradients(*norms))
        if step % 1000 >= 500:
            tail.append(
                row["norm/classification"] / (row["norm/detection"] + row["norm/classification"])
            )
    return sum(tail[-500:]) / 500


@pytest.mark.parametrize("rates", [(1.0, 1.0), (1.33, 0.67), (0.5, 1.5)])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("rule", ["equilibrium", "log"])
def test_equilibrium_and_log_rest_where_norms_are_in_the_ratio_of_the_targets(
    rule: str, alpha: float, rates: tuple
):
    powers = [rate**alpha for rate in rates]
    assert settled_share(rule, rates, (1, 5), alpha) == pytest.approx(
        powers[1] / sum(powers), rel=1e-3
    )


@pytest.mark.parametrize("rates", [(1.33, 0.67), (1.67, 0.33)])
@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_the_papers_rule_rests_at_m_times_that_ratio(alpha: float, rates: tuple):
    """m = mean of r ** alpha; the task of the smaller weight, here the second, meets its target."""
    powers = [rate**alpha for rate in rates]
    m = sum(powers) / 2
    assert settled_share("gradient", rates, (1, 25), alpha) == pytest.approx(
        m * powers[1] / sum(powers), rel=0.02
    )


# ---- noise ---------------------------------------------------------------------------------------


def noisy_run(
    seed: int, ratio: float, start: tuple[float, float], rates: tuple[float, float]
) -> np.ndarray:
    """The second weight's share in 400 updates of the rule log, relative to r ** alpha / g.

    Lognormal noise, SD 0.5.
    """
    rng = np.random.default_rng(seed)
    initial = dict(zip(TASKS, start, strict=True))
    options = {"min_share": 1e-4, "initial_losses": dict.fromkeys(TASKS, 1.0)}
    balancer = GradNorm(initial, interval=1, rule="log", **options)
    ideal = np.array(rates) ** balancer.alpha / (1, ratio)
    shares = []
    for _ in range(400):
        before = balancer.weights
        noise = np.exp(0.5 * rng.standard_normal(2))
        balancer.observe(losses(*rates), gradients(noise[0], ratio * noise[1]))
        after = balancer.weights
        step = math.log(
            after["detection"]
            / before["detection"]
            * before["classification"]
            / after["classification"]
        )
        assert abs(step) <= 4.6 * balancer.kappa + 1e-9  # the largest step, as the docstring says
        shares.append(after["classification"] / sum(after.values()))
    return np.array(shares) / (ideal[1] / ideal.sum())


@pytest.mark.parametrize("rates", [(1.0, 1.0), (1.33, 0.67)])
@pytest.mark.parametrize("start", [(1, 1), (100, 1)])
@pytest.mark.parametrize("ratio", [1, 25, 90])
def test_the_log_rule_is_right_amid_noise(ratio: float, start: tuple, rates: tuple):
    runs = [noisy_run(seed, ratio, start, rates)[100:] for seed in range(5)]
    assert np.mean([np.median(run) for run in runs]) == pytest.approx(1, abs=0.06)
    assert max(np.log(run).std() for run in runs) < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("rates", [(1.0, 1.0), (1.33, 0.67)])
@pytest.mark.parametrize("start", [(1, 1), (100, 1)])
@pytest.mark.parametrize("ratio", [1, 25, 90])
def test_the_log_rule_is_right_amid_noise_over_fifty_seeds(
    ratio: float, start: tuple, rates: tuple
):
    runs = [noisy_run(seed, ratio, start, rates)[100:] for seed in range(50)]
    assert np.mean([np.median(run) for run in runs]) == pytest.approx(1, abs=0.03)
    assert np.mean([np.log(run).std() for run in runs]) < 0.2


# ---- bounds --------------------------------------------------------------------------------------


def test_adams_moment_does_not_wind_up_on_a_bound():
    """However long a weight lay on the floor, it leaves it at once when it is pulled up."""
    for updates in (80, 800):
        balancer = every_batch(alpha=0.0)
        for _ in range(updates):
            balancer.observe(losses(1, 1), gradients(1, 1000))
        assert balancer.weights["classification"] == pytest.approx(0.02)
        balancer.observe(losses(1, 1), gradients(1000, 1))
        assert balancer.weights["classification"] > 0.0202


def test_a_weight_that_stays_on_its_bound_is_warned_of_once(caplog: pytest.LogCaptureFixture):
    balancer = every_batch(alpha=0.0)
    for _ in range(100):
        balancer.observe(losses(1, 1), gradients(1, 1000))
    assert caplog.text.count("was on its bound") == 1
    assert "classification" in caplog.text


def test_batches_that_are_left_out_for_long_are_warned_of_once(caplog: pytest.LogCaptureFixture):
    balancer = every_batch()
    for _ in range(100):
        balancer.observe(losses(1, 1), labelled=False)
    assert caplog.text.count("were left out (unlabelled)") == 1


def test_a_non_finite_loss_does_not_reach_the_weights():
    balancer = every_batch()
    assert balancer.observe(losses(math.nan, 1), gradients(1, 1)) is None
    assert balancer.skipped["nonfinite"] == 1
    assert balancer.observe(losses(1, 1), gradients(2, 1))["loss/detection"] == 1.0


# ---- state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_state_dict_round_trip_goes_on_identically(rule, tmp_path):
    rng = random.Random(2)
    sequence = [[rng.uniform(0.1, 2) for _ in range(4)] for _ in range(40)]

    def feed(balancer, rows):
        for a, b, c, d in rows:
            balancer.observe(losses(a, b), gradients(c, d) if balancer.wants_gradients else None)
        return balancer

    whole = feed(GradNorm(MISSION, interval=3, rule=rule), sequence)
    half = feed(GradNorm(MISSION, interval=3, rule=rule), sequence[:17])
    torch.save(half.state_dict(), tmp_path / "state.pt")
    other = GradNorm(EQUAL, interval=3, rule=rule)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert feed(other, sequence[17:]).weights == whole.weights


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "other"}, "rule is 'other'"),
        ({"place": "nowhere"}, "place is 'nowhere'"),
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"alpha": math.nan}, "alpha is nan"),
        ({"alpha": "1.5"}, "alpha is '1.5'"),
        ({"interval": 0}, "interval is 0"),
        ({"interval": 2.5}, "interval is 2.5"),
        ({"weight_sum": -2.0}, "weight_sum is -2.0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"kappa": 0.0}, "kappa is 0.0"),
        ({"learning_rate": True}, "learning_rate is True"),
        ({"initial_losses": {"depth": 1.0}}, "initial_losses has 'depth'"),
        ({"initial_losses": {"detection": 0.0}}, "initial_losses has 'detection': 0.0"),
        ({"initial_weights": {"detection": 1.0}}, "two or more"),
        (
            {"initial_weights": {"detection": math.inf, "classification": 1.0}},
            "initial weight of detection is inf",
        ),
        ({"min_share": 0.5}, "min_share is 0.5"),
        (
            {"initial_weights": {"detection": 0.0, "classification": 1.0}},
            "initial weight of detection is 0.0",
        ),
    ],
)
def test_a_wrong_option_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        GradNorm(**{"initial_weights": EQUAL, **options})


def test_the_ranges_are_those_of_the_hyper_parameters():
    names = {"learning_rate": "gradnorm_lr", "weight_sum": "weight_sum"}
    assert {
        names.get(name, f"gradnorm_{name}"): limits for name, limits in RANGES.items()
    }.items() <= HYP_RANGES.items()


def test_a_state_of_other_tasks_is_refused_and_arguments_stay():
    state = every_batch(learning_rate=0.5).state_dict()
    balancer = every_batch(learning_rate=0.1)
    balancer.load_state_dict(state)
    assert balancer._optimizer.param_groups[0]["lr"] == 0.1
    with pytest.raises(
        ValueError, match=r"the state is of the tasks \['detection', 'classification'\]"
    ):
        GradNorm({"a": 1.0, "b": 1.0}).load_state_dict(state)
