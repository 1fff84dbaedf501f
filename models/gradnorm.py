"""GradNorm: weights for several losses on one trunk, from the sizes of their gradients.

Z. Chen, V. Badrinarayanan, C.-Y. Lee, A. Rabinovich: GradNorm: Gradient Normalization for Adaptive Loss
Balancing in Deep Multitask Networks. ICML 2018, arXiv:1711.02257. Their symbols and ours:

    L_i             losses[task]        loss of task i; here its mean over the batches since the last update
    w_i             weights[task]       its weight; the network descends  sum_i w_i L_i
    W                                   where gradients are measured: the trunk's outputs ("features", the cut)
                                        or the last shared layer's weight ("weights", as in the paper)
    g_i             gradients.norms     || grad_W L_i ||_2, unweighted
    G_i = w_i g_i   norm/task           || grad_W w_i L_i ||_2
    L_i(0)          initial_losses      loss at the start; here the mean over the first `interval` batches
    r_i             rate/task           relative inverse training rate  (L_i / L_i(0)) / mean_j (L_j / L_j(0))
    alpha           alpha               how strongly a task that lags is pulled
    target_i        target/task         mean_j G_j  x  r_i ** alpha, held constant               (their eq. 2)
    L_grad                              sum_i | G_i - target_i |                                 (their eq. 2)
    T               weight_sum          what the weights sum to after every update

A task that trains slowly has r_i > 1, so its target is larger and its weight grows: the exponent is +alpha.

Rule "gradient" (the paper's algorithm 1): one step of Adam on w along

    d L_grad / d w_i = sign(G_i - target_i) g_i

which is exact because G_i = w_i g_i with g_i >= 0 and the target is constant. No second backward pass, no
`create_graph`, and nothing reaches any `.grad` of the network. Rule "equilibrium": the fixed point of that
descent in closed form, G_i proportional to r_i ** alpha, so w_i proportional to r_i ** alpha / g_i, approached
by a moving average of the weights' shares.

Where this deviates from the paper, and why:

- An update every `interval` batches rather than every batch: the losses are less noisy, the cost a tenth.
- L_i(0) is a mean rather than log(number of classes) or the first batch: YOLO's losses have no known start.
- With alpha > 1 the targets can sum to more than the norms, and a step of 0.025 from 0.01 can cross zero. After
  every step each weight's share of the sum is kept in [min_share, 1 - min_share] and the sum made exact.
- A batch in which a task has no label, or a gradient is not finite, says nothing about the balance. It is
  left out and counted; a due update waits for the next batch that will do.
- The initial weights are used as given until the first update, whatever they sum to.

An example, two quadratics that share `x`, one a hundred times as steep; the weights even that out:

    >>> import torch
    >>> x = torch.ones(3, requires_grad=True)
    >>> wrapped = GradNormLoss(lambda x, t: (x - t).square().sum(), lambda x, t: 100 * (x + t).square().sum(),
    ...                        alpha=0.5, interval=1)
    >>> optimizer = torch.optim.SGD([x], lr=1e-4)
    >>> for _ in range(60):
    ...     loss = wrapped(x, torch.zeros(3), x, torch.zeros(3), shared=x)
    ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
    >>> wrapped.balancer.weights["detection"] > 1.9
    True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# As in utils/core/names.py, which this file does without, so that it can be copied alone; a test compares them.
TASKS = ("detection", "classification")
RULES = ("gradient", "equilibrium")
PLACES = ("features", "weights")


@dataclass(frozen=True)
class TaskGradients:
    """The tasks' gradients at the shared place, as a weighting reads them.

    Attributes:
        norms: task -> L2 norm of the gradient of its unweighted, unscaled loss (mean per image).
        cosine: of the angle between the two gradients, -1 to 1; NaN if one is zero or it was not measured.
            Below zero they conflict (Yu et al. 2020, definition 1).
    """

    norms: dict[str, float]
    cosine: float = math.nan

    @property
    def magnitude_similarity(self) -> float:
        """2ab / (a^2 + b^2) of the two norms, 0 to 1 for equal ones (Yu et al. 2020, definition 2); NaN for zeros."""
        a, b = self.norms.values()
        return 2 * a * b / (a * a + b * b) if a or b else math.nan


class LossWeighting:
    """Fixed weights, and the base of weightings that adapt.

    Args:
        weights: task -> weight, positive.
    """

    place = "features"
    wants_gradients = False
    combines_gradients = False

    def __init__(self, weights: Mapping[str, float]):
        for task, weight in weights.items():
            if not weight > 0:
                raise ValueError(f"the initial weight of {task} is {weight}, expected above zero")
        self.weights = {task: float(weight) for task, weight in weights.items()}

    def combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Sum of w_i L_i over the tasks in `losses`."""
        return sum(self.weights[task] * loss for task, loss in losses.items())

    def observe(
        self, losses: Mapping[str, Tensor], gradients: TaskGradients | None = None, labelled: bool = True
    ) -> dict[str, object] | None:
        """Take note of a batch; returns a row for the log if the weights were updated.

        Args:
            losses: task -> unweighted loss.
            gradients: measured in this batch's backward pass if `wants_gradients`.
            labelled: whether the batch has a label of every task.
        """
        return None

    def end_epoch(self) -> None:
        """Called after the last batch of every epoch."""

    def state_dict(self) -> dict[str, object]:
        return {"weights": dict(self.weights)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        self.weights = {task: float(state["weights"][task]) for task in self.weights}


class GradNorm(LossWeighting):
    """See the module's docstring.

    Args:
        initial_weights: task -> weight until the first update.
        alpha: strength of the pull towards equal training rates; 0 makes the gradient norms equal.
        interval: batches from one update to the next.
        rule: "gradient" (the paper's) or "equilibrium".
        place: where gradients are measured, "features" or "weights".
        learning_rate: of Adam on the weights (rule "gradient").
        momentum: of the moving average of the weights' shares (rule "equilibrium").
        weight_sum: what the weights sum to after an update; the number of tasks if None.
        min_share: the smallest share of the sum that a weight may have.

    Attributes:
        weights: task -> weight.
        initial_losses: task -> L_i(0), once known.
        skipped: reason -> number of batches left out so far ("unlabelled", "nonfinite").
    """

    def __init__(
        self,
        initial_weights: Mapping[str, float],
        alpha: float = 1.5,
        interval: int = 10,
        rule: str = "gradient",
        place: str = "features",
        learning_rate: float = 0.025,
        momentum: float = 0.9,
        weight_sum: float | None = None,
        min_share: float = 0.01,
    ):
        super().__init__(initial_weights)
        if rule not in RULES or place not in PLACES:
            raise ValueError(f"GradNorm: rule '{rule}', place '{place}'; expected one of {RULES} and {PLACES}")
        if not 0 < min_share < 1 / len(self.weights):
            raise ValueError(f"GradNorm: min_share is {min_share}, expected 0 to {1 / len(self.weights):g}")
        self.alpha, self.interval, self.rule, self.place = alpha, interval, rule, place
        self.momentum, self.min_share = momentum, min_share
        self.weight_sum = float(len(self.weights) if weight_sum is None else weight_sum)
        self.tasks = tuple(self.weights)
        self.initial_losses: dict[str, float] | None = None
        self.skipped = {"unlabelled": 0, "nonfinite": 0}
        self._w = torch.tensor(list(self.weights.values()), dtype=torch.float64, requires_grad=True)
        self._optimizer = torch.optim.Adam([self._w], lr=learning_rate)
        self._start_interval()

    def _start_interval(self) -> None:
        self._loss_sum: Tensor | None = None  # (tasks,) on the losses' device: no wait for it every batch
        self._batches = 0
        self._skipped_since = dict.fromkeys(self.skipped, 0)

    @property
    def wants_gradients(self) -> bool:
        """Whether the next batch, if usable, completes an interval."""
        return self._batches + 1 >= self.interval

    def observe(
        self, losses: Mapping[str, Tensor], gradients: TaskGradients | None = None, labelled: bool = True
    ) -> dict[str, object] | None:
        """Count a batch and, when an interval is complete, update the weights for the next one."""
        if not labelled:
            return self._skip("unlabelled")
        if gradients is not None and not all(math.isfinite(n) for n in gradients.norms.values()):
            return self._skip("nonfinite")
        values = torch.stack([losses[task].detach().double() for task in self.tasks])
        self._loss_sum = values if self._loss_sum is None else self._loss_sum.to(values.device) + values
        self._batches += 1
        if gradients is None or self._batches < self.interval:
            return None
        means = (self._loss_sum / self._batches).tolist()
        if not all(math.isfinite(mean) for mean in means):
            self._loss_sum, self._batches = None, 0
            return self._skip("nonfinite")
        return self._update(dict(zip(self.tasks, means, strict=True)), gradients)

    def _skip(self, reason: str) -> None:
        self.skipped[reason] += 1
        self._skipped_since[reason] += 1

    def _update(self, losses: dict[str, float], gradients: TaskGradients) -> dict[str, object]:
        if self.initial_losses is None:
            self.initial_losses = losses
        before = balance(self.weights, gradients.norms, losses, self.initial_losses, self.alpha)
        step = self._gradient_step if self.rule == "gradient" else self._equilibrium_step
        proposal = step(before, gradients.norms)
        shares = bounded_shares(proposal, self.min_share)
        self._set_weights(shares_to_weights(shares, self.weight_sum))
        bounds = (self.min_share, 1 - self.min_share)
        at_bound = [
            task
            for task, share in zip(self.tasks, shares, strict=True)
            if any(math.isclose(share, bound, rel_tol=1e-9) for bound in bounds)
        ]
        row = self._row(losses, before, gradients.cosine, at_bound)
        self._start_interval()
        return row

    def _gradient_step(self, before: Balance, norms: Mapping[str, float]) -> list[float]:
        signs = [before.norms[task] - before.targets[task] for task in self.tasks]
        slopes = [math.copysign(norms[t], s) if s else 0.0 for t, s in zip(self.tasks, signs, strict=True)]
        self._w.grad = torch.tensor(slopes, dtype=torch.float64)
        self._optimizer.step()
        return self._w.tolist()

    def _equilibrium_step(self, before: Balance, norms: Mapping[str, float]) -> list[float]:
        ideal = [before.rates[task] ** self.alpha / max(norms[task], 1e-30) for task in self.tasks]
        total, ideal_total = sum(self.weights.values()), sum(ideal)
        return [
            self.momentum * self.weights[task] / total + (1 - self.momentum) * value / ideal_total
            for task, value in zip(self.tasks, ideal, strict=True)
        ]

    def _set_weights(self, weights: list[float]) -> None:
        self.weights = dict(zip(self.tasks, weights, strict=True))
        with torch.no_grad():
            self._w.copy_(torch.tensor(weights, dtype=torch.float64))

    def _row(self, losses: dict[str, float], before: Balance, cosine: float, at_bound: list[str]) -> dict[str, object]:
        """A row of gradnorm.csv: the losses and norms seen, and the weights that follow from them."""
        columns = {
            "loss": losses,
            "weight": self.weights,
            "norm": before.norms,
            "target": before.targets,
            "rate": before.rates,
        }
        row = {f"{name}/{task}": values[task] for name, values in columns.items() for task in self.tasks}
        skipped = {f"skipped_{reason}": count for reason, count in self._skipped_since.items()}
        return row | skipped | {"cosine": cosine, "at_bound": " ".join(at_bound)}

    def state_dict(self) -> dict[str, object]:
        return {
            **super().state_dict(),
            "adam": self._optimizer.state_dict(),
            "initial_losses": self.initial_losses,
            "loss_sum": None if self._loss_sum is None else self._loss_sum.cpu(),
            "batches": self._batches,
            "skipped": dict(self.skipped),
            "skipped_since": dict(self._skipped_since),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        super().load_state_dict(state)
        self._set_weights([self.weights[task] for task in self.tasks])
        self._optimizer.load_state_dict(state["adam"])
        self.initial_losses = state["initial_losses"]
        self._loss_sum, self._batches = state["loss_sum"], state["batches"]
        self.skipped, self._skipped_since = dict(state["skipped"]), dict(state["skipped_since"])


@dataclass(frozen=True)
class Balance:
    """G_i, r_i and target_i of every task."""

    norms: dict[str, float]
    rates: dict[str, float]
    targets: dict[str, float]


def balance(
    weights: Mapping[str, float],
    norms: Mapping[str, float],
    losses: Mapping[str, float],
    initial_losses: Mapping[str, float],
    alpha: float,
) -> Balance:
    """G_i = w_i g_i, r_i and target_i = mean(G) r_i ** alpha from w_i, g_i, L_i, L_i(0) and alpha."""
    weighted = {task: weights[task] * norms[task] for task in weights}
    relative = {task: losses[task] / max(initial_losses[task], 1e-30) for task in weights}
    mean_relative = max(sum(relative.values()) / len(relative), 1e-30)
    rates = {task: value / mean_relative for task, value in relative.items()}
    mean_norm = sum(weighted.values()) / len(weighted)
    return Balance(weighted, rates, {task: mean_norm * rate**alpha for task, rate in rates.items()})


def bounded_shares(values: list[float], low: float) -> list[float]:
    """Shares of their sum, each in [low, 1 - low]; those inside share what the clipped ones leave."""
    positive = [max(value, 0.0) for value in values]
    shares = [value / sum(positive) for value in positive] if sum(positive) else [1 / len(values)] * len(values)
    clipped: set[int] = set()
    while too_low := {i for i, share in enumerate(shares) if share < low and i not in clipped}:
        clipped |= too_low
        rest = 1 - low * len(clipped)
        free = sum(share for i, share in enumerate(shares) if i not in clipped)
        shares = [low if i in clipped else share * rest / free for i, share in enumerate(shares)]
    return [min(share, 1 - low) for share in shares]


def shares_to_weights(shares: list[float], weight_sum: float) -> list[float]:
    """Weights in the ratio of `shares` that sum to `weight_sum` exactly.

    All are multiples of the sum's last binary digit, so no addition rounds; the largest takes what is left.
    """
    quantum = math.ulp(weight_sum)
    weights = [round(share * weight_sum / quantum) * quantum for share in shares]
    largest = weights.index(max(weights))
    weights[largest] = weight_sum - sum(weight for i, weight in enumerate(weights) if i != largest)
    return weights


class GradNormLoss(nn.Module):
    """GradNorm around two loss functions, for use in anyone's training loop.

    Args:
        detection_loss_fn, classification_loss_fn: (output, target) -> scalar loss.
        alpha: see `GradNorm`.
        options: other arguments of `GradNorm`; the initial weights are 1 and 1 by default.

    Attributes:
        balancer: the `GradNorm`, with `weights` and the state.
        losses: task -> last loss, detached.
    """

    def __init__(
        self,
        detection_loss_fn: Callable[[object, object], Tensor],
        classification_loss_fn: Callable[[object, object], Tensor],
        alpha: float = 1.5,
        **options: object,
    ):
        super().__init__()
        self.loss_functions = dict(zip(TASKS, (detection_loss_fn, classification_loss_fn), strict=True))
        options.setdefault("initial_weights", dict.fromkeys(TASKS, 1.0))
        self.balancer = GradNorm(alpha=alpha, **options)
        self.losses: dict[str, Tensor] = {}

    def forward(
        self,
        detection_output: object,
        detection_target: object,
        classification_output: object,
        classification_target: object,
        shared: Tensor,
        labelled: bool = True,
    ) -> Tensor:
        """The weighted sum to call `backward` on; every `interval` calls the weights of the next are updated.

        In evaluation mode, or without gradients, it is the weighted sum and nothing else.

        Args:
            shared: where the tasks meet: the last shared layer's weight, or the trunk's output.
            labelled: whether the batch has a label of every task; if not, it is left out and counted.
        """
        pairs = ((detection_output, detection_target), (classification_output, classification_target))
        losses = {task: self.loss_functions[task](*pair) for task, pair in zip(TASKS, pairs, strict=True)}
        total = self.balancer.combine(losses)
        if self.training and torch.is_grad_enabled():
            measure = self.balancer.wants_gradients and labelled
            self.balancer.observe(losses, _norms_at(losses, shared) if measure else None, labelled)
        self.losses = {task: loss.detach() for task, loss in losses.items()}
        return total

    def get_extra_state(self) -> dict[str, object]:
        return self.balancer.state_dict()

    def set_extra_state(self, state: Mapping[str, object]) -> None:
        self.balancer.load_state_dict(state)


def _norms_at(losses: Mapping[str, Tensor], shared: Tensor) -> TaskGradients:
    gradients = {t: torch.autograd.grad(loss, shared, retain_graph=True)[0] for t, loss in losses.items()}
    return TaskGradients({task: gradient.float().norm().item() for task, gradient in gradients.items()})
