"""GradNorm: weights for several losses on one trunk, from the sizes of their gradients.

Z. Chen, V. Badrinarayanan, C.-Y. Lee, A. Rabinovich: GradNorm: Gradient Normalization for Adaptive
Loss Balancing in Deep Multitask Networks. ICML 2018, arXiv:1711.02257. Their symbols and ours:

    L_i             losses[task]        loss of task i; here its mean over the batches since the last update
    w_i             weights[task]       its weight; the network descends  sum_i w_i L_i
    W                                   where gradients are measured: the trunk's outputs ("features", the cut)
                                        or the last shared layer's weight ("weights", as in the paper)
    g_i             gradients.norms     || grad_W L_i ||_2, unweighted; the geometric mean of those measured since
                                        the last update (in this project's trainings one batch's)
    G_i = w_i g_i   norm/task           || grad_W w_i L_i ||_2
    L_i(0)          initial_losses      loss at the start
    r_i             rate/task           relative inverse training rate  (L_i / L_i(0)) / mean_j (L_j / L_j(0))
    alpha           alpha               how strongly a task that lags is pulled
    target_i        target/task         mean_j G_j  x  r_i ** alpha, held constant               (their eq. 2)
    L_grad                              sum_i | G_i - target_i |                                 (their eq. 2)
    T               weight_sum          what the weights sum to after every update

A task that trains slowly has r_i > 1, so its target is larger and its weight grows: the exponent is
+alpha.

Three rules move the weights towards the targets:

"gradient"      The paper's algorithm 1: one step of Adam on w along

                    d L_grad / d w_i = sign(G_i - target_i) g_i

                which is exact because G_i = w_i g_i with g_i >= 0 and the target is constant. No second backward
                pass, no `create_graph`, and nothing reaches any `.grad` of the network.
"equilibrium"   The point where every G_i is proportional to r_i ** alpha, in closed form: w_i proportional to
                r_i ** alpha / g_i, approached by a moving average of the weights' shares.
"log"           log w_i += kappa clip(log target_i - log G_i, -2.3, 2.3). A step is a ratio: whatever the norms are,
                a weight stays positive, and the ratio of two weights changes by at most exp(4.6 kappa), that is
                1.58 for kappa = 0.1.

Where they rest. Call m = mean_j r_j ** alpha. The targets sum to m times what the norms sum to.
Unless all r_i are 1, m is 1 for alpha = 0 and for alpha = 1 only; else no weights meet all targets.
"log" and "equilibrium" rest where all G_i miss their targets by the same factor m, the *equal-ratio
point*. "gradient" with two tasks and m > 1 (alpha > 1) rests where the task of the smaller weight
meets its target and the other pulls without effect, since the sum is fixed: its share of the sum of
all G_i is m times that of the equal-ratio point (1.04 to 1.34 times for alpha = 1.5 and r from 1.33
to 1.92). With noisy norms, of which "equilibrium" averages 1 / g_i, its weight is too large by what
the noise adds to that mean; "log" averages logarithms and is not. `docs/explanation/gradnorm.md`
has figures.

Where this deviates from the paper, and why:

- An update every `interval` batches rather than every batch: the losses are less noisy, the cost a
  tenth.
- L_i(0) is given where the start of a loss is known, such as log(number of classes) for a
  cross-entropy, as in the paper; else it is the mean over the first interval, since YOLO's losses
  have no known start. A start of (nearly) zero says nothing about rates: the first interval whose
  mean is above zero is taken, and it is logged.
- L_i is a training loss, as in the paper. A small data set is memorised: the loss of the task that
  is learnt by heart goes to zero, its r_i ** alpha with it, and so does its weight, whatever the
  task still needs on new data.
- At "features" a norm is of the stacked gradients of all frames, between which nothing cancels; at
  a weight frames do cancel. The tasks' ratio differs: where one run of this project had 8:1 at the
  cut, it had 18:1 over the trunk's weights, which GradNorm does not see (`--diagnose-interval`
  writes both).
- A norm depends on the batch's size (roughly as 1 / sqrt(frames)), so it is measured on full
  batches only.
- With alpha > 1 the targets can sum to more than the norms, and a step of 0.025 from 0.01 can cross
  zero. After every step each weight's share of the sum is kept in [min_share, 1 - min_share] and
  the sum made exact; Adam's first moment does not go on pushing against a bound. While a weight
  lies on its bound, the bound sets it, not GradNorm.
- A batch in which a task has no label, or a gradient or loss is not finite, says nothing about the
  balance, nor does a gradient of exactly zero. It is left out and counted; a due update waits for
  the next batch that will do.
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
    >>> wrapped.weights["detection"] > 1.9
    True
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

# As in utils/core/names.py, which this file does without, so that it can be copied alone; a test
# compares them.
TASKS = ("detection", "classification")
RULES = ("gradient", "equilibrium", "log")
PLACES = ("features", "weights")

_TINY, _HUGE = 1e-12, 1e12
# As in utils/core/hyperparameters.py; a test compares them.
RANGES = {
    "alpha": (0, 100),
    "interval": (1, 1e9),
    "learning_rate": (_TINY, 1),
    "momentum": (0, 0.9999),
    "kappa": (_TINY, 1),
    "weight_sum": (_TINY, _HUGE),
    "min_share": (1e-6, 0.49),
}
SMALLEST_START = 1e-8  # of a loss that can be a start
LARGEST_LOG_GAP = 2.3  # of the rule "log": a factor of ten
MANY = 20  # updates on a bound, or batches left out, in a row: worth a warning

LOGGER = logging.getLogger("joint.gradnorm")


@dataclass(frozen=True)
class TaskGradients:
    """The tasks' gradients at the shared place, as a weighting reads them.

    Attributes:
        norms: task -> L2 norm of the gradient of its unweighted, unscaled loss (mean per image).
        cosine: of the angle between the gradients of two tasks, -1 to 1; NaN if one is zero, or it
            was not measured. Below zero they conflict (Yu et al. 2020, definition 1).
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
        weights: task -> weight, above zero and finite.
    """

    place = "features"
    wants_gradients = False
    combines_gradients = False

    def __init__(self, weights: Mapping[str, float]):
        for task, weight in weights.items():
            if not 0 < weight < math.inf:
                raise ValueError(
                    f"the initial weight of {task} is {weight}, expected a number above zero"
                )
        self.weights = {task: float(weight) for task, weight in weights.items()}

    def combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Sum of w_i L_i over the tasks in `losses`."""
        return sum(self.weights[task] * loss for task, loss in losses.items())

    def observe(
        self,
        losses: Mapping[str, Tensor],
        gradients: TaskGradients | None = None,
        labelled: bool = True,
        full: bool = True,
    ) -> dict[str, object] | None:
        """Take note of a batch; returns a row for the log if the weights were updated.

        Args:
            losses: task -> unweighted loss.
            gradients: measured in this batch's backward pass if `wants_gradients`.
            labelled: whether the batch has a label of every task.
            full: whether it has the usual number of frames, so that its norms compare with other
                batches'.
        """
        return None

    def end_epoch(self) -> None:
        """Called after the last batch of every epoch."""

    def state_dict(self) -> dict[str, object]:
        return {"weights": dict(self.weights)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take the weights; how it goes on from them is decided by the arguments that this object was made with.

        Raises:
            ValueError: the state is of other tasks.
        """
        if set(state["weights"]) != set(self.weights):
            raise ValueError(
                f"the state is of the tasks {list(state['weights'])}, expected {list(self.weights)}"
            )
        self.weights = {task: float(state["weights"][task]) for task in self.weights}


@dataclass(frozen=True)
class Update:
    """What an update saw, and what followed.

    Attributes:
        losses: task -> L_i, the mean over the batches since the last update.
        weights: task -> w_i after the update.
        norms: task -> G_i, with the weight before the update.
        targets, rates: task -> target_i, r_i.
        cosine: of the angle between the gradients of two tasks, in the last batch.
        at_bound: tasks whose weight lies on the lower bound now, the floor.
        skipped: reason -> batches left out since the last update.
    """

    losses: dict[str, float]
    weights: dict[str, float]
    norms: dict[str, float]
    targets: dict[str, float]
    rates: dict[str, float]
    cosine: float
    at_bound: tuple[str, ...]
    skipped: dict[str, int]

    def row(self) -> dict[str, object]:
        """A row of gradnorm.csv."""
        columns = {
            "loss": self.losses,
            "weight": self.weights,
            "norm": self.norms,
            "target": self.targets,
            "rate": self.rates,
        }
        row = {
            f"{name}/{task}": value
            for name, values in columns.items()
            for task, value in values.items()
        }
        row |= {f"skipped_{reason}": count for reason, count in self.skipped.items()}
        return row | {"cosine": self.cosine, "at_bound": " ".join(self.at_bound)}


class GradNorm(LossWeighting):
    """See the module's docstring.

    Args:
        initial_weights: task -> weight until the first update; two tasks or more.
        alpha: strength of the pull towards equal training rates; 0 makes the gradient norms equal.
        interval: batches from one update to the next.
        rule: "gradient" (the paper's), "equilibrium" or "log".
        place: where gradients are measured, "features" or "weights".
        learning_rate: of Adam on the weights (rule "gradient").
        momentum: of the moving average of the weights' shares (rule "equilibrium").
        kappa: the share of a gap that a step closes (rule "log").
        weight_sum: what the weights sum to after an update; the number of tasks if None.
        min_share: the smallest share of the sum that a weight may have.
        initial_losses: task -> L_i(0), of the losses whose start is known.

    Attributes:
        weights: task -> weight.
        initial_losses: task -> L_i(0), as far as known.
        last_update: an `Update`; None before the first.
        skipped: reason -> number of batches left out so far: "unlabelled", "nonfinite", "partial",
            "zero".

    Raises:
        ValueError: an argument is out of its range; the message has the range.
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
        kappa: float = 0.1,
        weight_sum: float | None = None,
        min_share: float = 0.01,
        initial_losses: Mapping[str, float] | None = None,
    ):
        super().__init__(initial_weights)
        self.tasks = tuple(self.weights)
        self.alpha, self.interval, self.rule, self.place = alpha, interval, rule, place
        self.learning_rate, self.momentum, self.kappa = learning_rate, momentum, kappa
        self.weight_sum = len(self.tasks) if weight_sum is None else weight_sum
        self.min_share = min_share
        self.initial_losses = dict(initial_losses or {})
        self._check()
        self.weight_sum = float(self.weight_sum)
        self.skipped = dict.fromkeys(("unlabelled", "nonfinite", "partial", "zero"), 0)
        self.last_update: Update | None = None
        self._w = torch.tensor(list(self.weights.values()), dtype=torch.float64, requires_grad=True)
        self._optimizer = torch.optim.Adam([self._w], lr=learning_rate)
        self._on_bound = self._left_out = 0  # in a row
        self._start_interval()

    def _check(self) -> None:
        if len(self.tasks) < 2:
            raise ValueError(
                f"GradNorm: the tasks are {list(self.tasks)}, expected two or more to balance"
            )
        for name, allowed in (("rule", RULES), ("place", PLACES)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"GradNorm: {name} is {getattr(self, name)!r}, expected one of {allowed}"
                )
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not low <= value <= high
            ):
                raise ValueError(
                    f"GradNorm: {name} is {value!r}, expected a number from {low} to {high}"
                )
        if self.interval != int(self.interval):
            raise ValueError(
                f"GradNorm: interval is {self.interval}, expected a whole number of batches"
            )
        if self.min_share >= 1 / len(self.tasks):
            raise ValueError(
                f"GradNorm: min_share is {self.min_share}, expected below {1 / len(self.tasks):g}"
            )
        for task, loss in self.initial_losses.items():
            if task not in self.tasks or not SMALLEST_START <= loss < math.inf:
                expected = f"expected one of {self.tasks} and a loss above zero"
                raise ValueError(f"GradNorm: initial_losses has {task!r}: {loss}, {expected}")

    def _start_interval(self) -> None:
        self._loss_sum: Tensor | None = (
            None  # (tasks,) on the losses' device: no wait for it every batch
        )
        self._batches = 0
        self._log_norms: list[list[float]] = []  # a row a measurement, a column a task
        self._skipped_since = dict.fromkeys(self.skipped, 0)

    @property
    def wants_gradients(self) -> bool:
        """Whether the next batch, if usable, completes an interval."""
        return self._batches + 1 >= self.interval

    def observe(
        self,
        losses: Mapping[str, Tensor],
        gradients: TaskGradients | None = None,
        labelled: bool = True,
        full: bool = True,
    ) -> dict[str, object] | None:
        """Count a batch and, when an interval is complete, update the weights for the next one."""
        if not labelled:
            return self._skip("unlabelled")
        if gradients is not None and not all(
            math.isfinite(norm) for norm in gradients.norms.values()
        ):
            return self._skip("nonfinite")
        self._add(losses)
        if self._batches < self.interval:
            return None
        if not full:
            return self._skip("partial")
        if gradients is None:
            return None
        if min(gradients.norms.values()) <= 0:
            return self._skip("zero")
        self._log_norms.append([math.log(gradients.norms[task]) for task in self.tasks])
        return self._update_if_losses_allow(gradients.cosine)

    def _add(self, losses: Mapping[str, Tensor]) -> None:
        values = torch.stack([losses[task].detach().double() for task in self.tasks])
        self._loss_sum = (
            values if self._loss_sum is None else self._loss_sum.to(values.device) + values
        )
        self._batches += 1

    def _skip(self, reason: str) -> None:
        self.skipped[reason] += 1
        self._skipped_since[reason] += 1
        self._left_out += 1
        if self._left_out == MANY:
            LOGGER.warning(
                f"warning: GradNorm: the last {MANY} batches were left out ({reason}); the weights rest"
            )

    def _update_if_losses_allow(self, cosine: float) -> dict[str, object] | None:
        means = (self._loss_sum / self._batches).tolist()
        losses = dict(zip(self.tasks, means, strict=True))
        if not all(math.isfinite(mean) for mean in means):
            self._loss_sum, self._batches, self._log_norms = None, 0, []
            return self._skip("nonfinite")
        for task, loss in losses.items():
            if loss < 0:
                raise ValueError(
                    f"the loss of {task} is {loss:g} on average; GradNorm compares rates L / L(0), "
                    "for which losses must not be below zero: add a constant to it"
                )
        if not self._know_the_start(losses):
            self._loss_sum, self._batches, self._log_norms = None, 0, []
            return self._skip("zero")
        return self._update(losses, cosine)

    def _know_the_start(self, losses: Mapping[str, float]) -> bool:
        """Take the L_i(0) that are not known yet from an interval's means, where these are above zero."""
        for task in self.tasks:
            if task in self.initial_losses:
                continue
            if losses[task] < SMALLEST_START:
                LOGGER.warning(
                    f"warning: GradNorm: the loss of {task} starts at zero; a later interval is its start"
                )
                return False
            self.initial_losses[task] = losses[task]
        return True

    def _update(self, losses: dict[str, float], cosine: float) -> dict[str, object]:
        logs = torch.tensor(self._log_norms, dtype=torch.float64)
        norms = dict(zip(self.tasks, logs.mean(dim=0).exp().tolist(), strict=True))
        before = balance(self.weights, norms, losses, self.initial_losses, self.alpha)
        step = {
            "gradient": self._gradient_step,
            "equilibrium": self._equilibrium_step,
            "log": self._log_step,
        }
        shares = bounded_shares(step[self.rule](before, norms), self.min_share)
        self._set_weights(shares_to_weights(shares, self.weight_sum))
        at_bound = self._at_bound(shares)
        self.last_update = Update(
            losses=losses,
            weights=dict(self.weights),
            norms=before.norms,
            targets=before.targets,
            rates=before.rates,
            cosine=cosine,
            at_bound=at_bound,
            skipped=dict(self._skipped_since),
        )
        self._on_bound = self._on_bound + 1 if at_bound else 0
        self._left_out = 0
        if self._on_bound == MANY:
            LOGGER.warning(
                f"warning: GradNorm: the weight of {at_bound[0]} was on its bound for {MANY} updates in a row: "
                f"the bound (min_share {self.min_share:g}) sets it, not GradNorm"
            )
        self._start_interval()
        return self.last_update.row()

    def _gradient_step(self, before: Balance, norms: Mapping[str, float]) -> list[float]:
        slopes = []
        for task in self.tasks:
            gap = before.norms[task] - before.targets[task]
            slopes.append(_sign(gap) * norms[task])  # d L_grad / d w_i
        self._w.grad = torch.tensor(slopes, dtype=torch.float64)
        self._optimizer.step()
        return self._w.tolist()

    def _equilibrium_step(self, before: Balance, norms: Mapping[str, float]) -> list[float]:
        ideal = {task: before.rates[task] ** self.alpha / norms[task] for task in self.tasks}
        ideal_total, total = max(sum(ideal.values()), _TINY), sum(self.weights.values())
        shares = []
        for task in self.tasks:
            old, new = self.weights[task] / total, ideal[task] / ideal_total
            shares.append(self.momentum * old + (1 - self.momentum) * new)
        return shares

    def _log_step(self, before: Balance, norms: Mapping[str, float]) -> list[float]:
        weights = []
        for task in self.tasks:
            gap = math.log(max(before.targets[task], 1e-300)) - math.log(
                max(before.norms[task], 1e-300)
            )
            gap = min(max(gap, -LARGEST_LOG_GAP), LARGEST_LOG_GAP)
            weights.append(self.weights[task] * math.exp(self.kappa * gap))
        return weights

    def _at_bound(self, shares: list[float]) -> tuple[str, ...]:
        """The tasks on the lower bound; what Adam's first moment would go on pushing to a bound is forgotten."""
        moment = self._optimizer.state[self._w].get("exp_avg") if self.rule == "gradient" else None
        found = []
        for i, (task, share) in enumerate(zip(self.tasks, shares, strict=True)):
            is_low = math.isclose(share, self.min_share, rel_tol=1e-9)
            is_high = math.isclose(share, 1 - self.min_share, rel_tol=1e-9)
            if is_low:
                found.append(task)
            if moment is not None and is_low:
                moment[i].clamp_(max=0)
            if moment is not None and is_high:
                moment[i].clamp_(min=0)
        return tuple(found)

    def _set_weights(self, weights: list[float]) -> None:
        self.weights = dict(zip(self.tasks, weights, strict=True))
        with torch.no_grad():
            self._w.copy_(torch.tensor(weights, dtype=torch.float64))

    def state_dict(self) -> dict[str, object]:
        return {
            **super().state_dict(),
            "adam": self._optimizer.state_dict(),
            "initial_losses": dict(self.initial_losses),
            "loss_sum": None if self._loss_sum is None else self._loss_sum.cpu(),
            "batches": self._batches,
            "log_norms": [list(row) for row in self._log_norms],
            "skipped": dict(self.skipped),
            "skipped_since": dict(self._skipped_since),
            "in_a_row": [self._on_bound, self._left_out],
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take weights, L_i(0), Adam's moments and what the running interval has seen.

        The learning rate and every other argument stay those that this object was made with.

        Raises:
            ValueError: the state is of other tasks.
        """
        super().load_state_dict(state)
        self._set_weights([self.weights[task] for task in self.tasks])
        self._optimizer.load_state_dict(state["adam"])
        self._optimizer.param_groups[0]["lr"] = self.learning_rate
        self.initial_losses = dict(state["initial_losses"])
        self._loss_sum, self._batches = state["loss_sum"], state["batches"]
        self._log_norms = [list(row) for row in state["log_norms"]]
        self.skipped, self._skipped_since = dict(state["skipped"]), dict(state["skipped_since"])
        self._on_bound, self._left_out = state["in_a_row"]


def _sign(value: float) -> float:
    """-1, 0 or 1."""
    return math.copysign(1.0, value) if value else 0.0


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
    if not sum(positive):
        return [1 / len(values)] * len(values)
    shares = [value / sum(positive) for value in positive]
    clipped: set[int] = set()
    while True:
        too_low = {i for i, share in enumerate(shares) if share < low} - clipped
        if not too_low:
            return [min(share, 1 - low) for share in shares]
        clipped |= too_low
        rest = 1 - low * len(clipped)
        free = sum(share for i, share in enumerate(shares) if i not in clipped)
        for i, share in enumerate(shares):
            shares[i] = low if i in clipped else share * rest / free


def shares_to_weights(shares: list[float], weight_sum: float) -> list[float]:
    """Weights in the ratio of `shares` that sum to `weight_sum` exactly.

    All are multiples of the sum's last binary digit, so no addition rounds; the largest takes what
    is left.
    """
    quantum = math.ulp(weight_sum)
    weights = [round(share * weight_sum / quantum) * quantum for share in shares]
    largest = weights.index(max(weights))
    weights[largest] = weight_sum - sum(weight for i, weight in enumerate(weights) if i != largest)
    return weights


LossFunction = Callable[..., Tensor]
Shared = Tensor | nn.Module | Iterable[Tensor]


class GradNormLoss(nn.Module):
    """GradNorm around loss functions, for use in anyone's training loop.

    Two tasks, detection and classification, by position:

        loss = GradNormLoss(detection_loss_fn, classification_loss_fn, alpha=1.5) total =
        loss(detection_output, detection_target, class_output, class_target, shared=features)

    or any number of tasks by name:

        loss = GradNormLoss({"segmentation": fn, "depth": fn, "normals": fn}, alpha=1.5) total =
        loss({"segmentation": (output, target), "depth": (output, target), ...}, shared=features)

    `total` is what to call `backward` on. Every `interval` calls in training mode the weights of
    the next call are updated, for which each task's gradient at `shared` is measured by a backward
    pass of its own that ends there; no `.grad` is touched. In evaluation mode, or without
    gradients, the total is the weighted sum and nothing else. Where `torch.distributed` is
    initialised, losses and gradients are those of all ranks, and so are the weights.

    Args:
        detection_loss_fn: (output, target) -> loss; or a mapping of task -> loss function.
        classification_loss_fn: (output, target) -> loss; left out with a mapping.
        alpha: see `GradNorm`.
        csv_path: a file that gets a row an update.
        options: other arguments of `GradNorm`; the initial weights are 1 by default.

    Attributes:
        balancer: the `GradNorm`.
        losses: task -> last loss, detached.

    Raises:
        ValueError: arguments, losses or `shared` that GradNorm cannot work with; the message says
            which and the fix.
    """

    def __init__(
        self,
        detection_loss_fn: LossFunction | Mapping[str, LossFunction],
        classification_loss_fn: LossFunction | None = None,
        alpha: float = 1.5,
        csv_path: str | Path | None = None,
        **options: object,
    ):
        super().__init__()
        self.takes_mapping = isinstance(detection_loss_fn, Mapping)
        if callable(alpha):
            raise ValueError(
                "alpha is a function; for three tasks or more pass a mapping {'task': loss_function, ...}"
            )
        functions = _functions_of(detection_loss_fn, classification_loss_fn)
        self.loss_functions = functions
        # Loss functions that are modules move, train and are saved with this one.
        self.loss_modules = nn.ModuleList(f for f in functions.values() if isinstance(f, nn.Module))
        options.setdefault("initial_weights", dict.fromkeys(functions, 1.0))
        if set(options["initial_weights"]) != set(functions):
            raise ValueError(
                f"initial_weights is of {list(options['initial_weights'])}, expected {list(functions)}"
            )
        self.balancer = GradNorm(alpha=alpha, **options)
        self.csv_path = None if csv_path is None else Path(csv_path)
        self.losses: dict[str, Tensor] = {}
        self._is_checked = False

    @property
    def weights(self) -> dict[str, float]:
        """Task -> weight of the next call."""
        return self.balancer.weights

    @property
    def last_update(self) -> Update | None:
        """What the last update saw, and what followed; None before the first."""
        return self.balancer.last_update

    @torch.compiler.disable
    def forward(
        self,
        detection_output: object,
        detection_target: object = None,
        classification_output: object = None,
        classification_target: object = None,
        shared: Shared | None = None,
        labelled: bool | Mapping[str, bool] = True,
        full: bool = True,
        loss_scale: float = 1.0,
    ) -> Tensor:
        """The weighted sum of the losses, a scalar, to call `backward` on.

        Args:
            detection_output: of the first task; or a mapping of task -> (output, target), from
                which a task that has no label in this batch may be left out.
            shared: where the tasks meet: the trunk's output or outputs, the last shared weight, or
                a module whose parameters are shared. With several tensors the norm is over all of
                them.
            labelled: whether the batch has a label of every task, or task -> whether it has. A task
                without is left out of the sum, and the batch out of the balance. False alone leaves
                out the losses that are not finite.
            full: whether the batch has the usual number of frames; an update that is due waits for
                one that has.
            loss_scale: what the measured losses are multiplied with against underflow in half
                precision, such as `scaler.get_scale()`; the norms are divided by it again.
        """
        if self.takes_mapping:
            pairs = detection_output
        else:
            detection, classification = TASKS
            pairs = {
                detection: (detection_output, detection_target),
                classification: (classification_output, classification_target),
            }
        tensors = _tensors_of(shared)
        losses = self._losses_of(pairs, labelled)
        # With the weights from before the update, which this batch's gradients may bring about.
        total = self.balancer.combine(losses) if losses else _nothing(tensors)
        if self.training and torch.is_grad_enabled():
            self._check_once(losses, tensors)
            is_whole = labelled is not False and len(losses) == len(self.loss_functions)
            self._observe(losses, tensors, is_whole, full, loss_scale)
        self.losses = {task: loss.detach() for task, loss in losses.items()}
        return total

    def _losses_of(
        self, pairs: Mapping[str, tuple], labelled: bool | Mapping[str, bool]
    ) -> dict[str, Tensor]:
        """Task -> loss, of the tasks that have a label."""
        if not isinstance(pairs, Mapping):
            raise ValueError(
                f"found {type(pairs).__name__}, expected a mapping of task -> (output, target)"
            )
        has_label = labelled if isinstance(labelled, Mapping) else {}
        for name in (*pairs, *has_label):
            if name not in self.loss_functions:
                raise ValueError(
                    f"found the task {name!r}, expected some of {list(self.loss_functions)}"
                )
        losses = {}
        for task in self.loss_functions:
            if task not in pairs or not has_label.get(task, True):
                continue
            loss = self._loss_of(task, pairs[task])
            if labelled is not False or loss.isfinite():
                losses[task] = loss
        return losses

    def _loss_of(self, task: str, pair: tuple) -> Tensor:
        if not isinstance(pair, tuple | list):
            raise ValueError(
                f"{task}: found {type(pair).__name__}, expected a tuple (output, target)"
            )
        loss = self.loss_functions[task](*pair)
        if isinstance(loss, tuple | list):
            fix = "return the one number that is minimised"
            raise ValueError(f"the loss of {task} is a {type(loss).__name__} of {len(loss)}; {fix}")
        if not isinstance(loss, Tensor):
            fix = "return a tensor with its graph, without .item()"
            raise ValueError(f"the loss of {task} is a {type(loss).__name__}; {fix}")
        if loss.numel() != 1:
            raise ValueError(
                f"the loss of {task} has shape {tuple(loss.shape)}, expected one number; take its mean"
            )
        if self.training and torch.is_grad_enabled() and not loss.requires_grad:
            fix = f"compute it from the model's output, or pass labelled={{{task!r}: False}}"
            raise ValueError(
                f"the loss of {task} has no graph, so nothing can learn from it; {fix}"
            )
        return loss.reshape(())

    def _check_once(self, losses: Mapping[str, Tensor], tensors: list[Tensor]) -> None:
        """On the first call with all losses: each is above zero and depends on `shared`."""
        if self._is_checked or len(losses) < len(self.loss_functions):
            return
        for tensor in tensors:
            if not tensor.requires_grad:
                raise ValueError(
                    f"shared: a tensor of shape {tuple(tensor.shape)} does not require gradients, so no norm can be "
                    "measured there; pass the trunk's output or a weight that is trained"
                )
        for task, loss in losses.items():
            if loss < 0:
                raise ValueError(
                    f"the loss of {task} is {loss.item():g}, expected zero or more: GradNorm compares rates L / L(0); "
                    "add a constant to it"
                )
            if all(gradient is None for gradient in _gradients(loss, tensors)):
                raise ValueError(
                    f"the loss of {task} does not depend on `shared`; pass what every task is computed from: the "
                    "tensor that goes into the heads itself, or the last weight that all share. Features that leave a "
                    "model compiled by torch.compile are copies: pass the last shared weight instead. Weights inside a "
                    "region that is checkpointed with use_reentrant=True are out of reach: use_reentrant=False"
                )
        self._is_checked = True

    def _observe(
        self,
        losses: dict[str, Tensor],
        tensors: list[Tensor],
        is_whole: bool,
        full: bool,
        loss_scale: float,
    ) -> None:
        if not _has_several_ranks():
            seen = losses
        else:
            seen, is_whole, full = self._over_ranks(losses, tensors, is_whole, full)
        measured = None
        if self.balancer.wants_gradients and is_whole and full:
            measured = self._measure(losses, tensors, loss_scale)
        row = self.balancer.observe(seen, measured, is_whole, full)
        if row is not None and self.csv_path is not None and _is_main():
            _append_row(self.csv_path, row)

    def _over_ranks(
        self, losses: Mapping[str, Tensor], tensors: list[Tensor], is_whole: bool, full: bool
    ) -> tuple[dict[str, Tensor], bool, bool]:
        """The losses' means over the ranks that have them; whether every task has a label and no rank says no."""
        tasks = list(self.loss_functions)
        table = torch.zeros(3, len(tasks), dtype=torch.float64, device=tensors[0].device)
        for i, task in enumerate(tasks):
            if task in losses:
                table[0, i], table[1, i] = losses[task].detach(), 1
        table[2, 0], table[2, 1] = not is_whole and len(losses) == len(tasks), not full
        dist.all_reduce(table)
        sums, counts, (refusals, partial, *_) = table
        means = sums / counts.clamp(min=1)
        is_whole = bool((counts > 0).all()) and not refusals
        return dict(zip(tasks, means.unbind(), strict=True)), is_whole, not partial

    def _measure(
        self, losses: Mapping[str, Tensor], tensors: list[Tensor], loss_scale: float
    ) -> TaskGradients:
        """Every task's norm over all of `tensors`: of features all ranks' together, of a weight their mean's."""
        world = dist.get_world_size() if _has_several_ranks() else 1
        squares = torch.zeros(
            len(self.loss_functions), dtype=torch.float64, device=tensors[0].device
        )
        for i, task in enumerate(self.loss_functions):
            gradients = [None] * len(tensors)
            if task in losses:
                gradients = _gradients(losses[task] * loss_scale, tensors)
            for tensor, gradient in zip(tensors, gradients, strict=True):
                gradient = torch.zeros_like(tensor) if gradient is None else gradient
                gradient = gradient.detach().double() / loss_scale
                if world > 1 and tensor.is_leaf:
                    dist.all_reduce(gradient)
                squares[i] += gradient.square().sum() / (world if tensor.is_leaf else 1)
        if world > 1:
            dist.all_reduce(squares)
        norms = squares.sqrt() / world
        return TaskGradients(dict(zip(self.loss_functions, norms.tolist(), strict=True)))

    def get_extra_state(self) -> dict[str, object]:
        return self.balancer.state_dict()

    def set_extra_state(self, state: Mapping[str, object]) -> None:
        self.balancer.load_state_dict(state)


def _functions_of(
    first: LossFunction | Mapping[str, LossFunction], second: LossFunction | None
) -> dict[str, LossFunction]:
    """Task -> loss function."""
    if not isinstance(first, Mapping):
        first = dict(zip(TASKS, (first, second), strict=True))
    elif second is not None:
        raise ValueError(
            "found a mapping and a second function; put all loss functions into the mapping"
        )
    for task, function in first.items():
        if not callable(function):
            found = type(function).__name__
            raise ValueError(
                f"the loss function of {task!r} is a {found}, expected a function of (output, target)"
            )
    return dict(first)


def _tensors_of(shared: Shared | None) -> list[Tensor]:
    """The tensors at which gradients are measured; of a module those of its parameters that are trained."""
    if isinstance(shared, Tensor):
        return [shared]
    if isinstance(shared, nn.Module):
        tensors = [parameter for parameter in shared.parameters() if parameter.requires_grad]
    elif isinstance(shared, Iterable) and not isinstance(shared, str | Mapping):
        tensors = list(shared)
    else:
        found = type(shared).__name__
        raise ValueError(
            f"shared is a {found}, expected a tensor, several, or a module: what every task depends on"
        )
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
        kinds = sorted({type(tensor).__name__ for tensor in tensors})
        raise ValueError(
            f"shared holds {kinds or 'nothing that is trained'}, expected tensors that require gradients"
        )
    return tensors


def _gradients(loss: Tensor, tensors: list[Tensor]) -> tuple[Tensor | None, ...]:
    """d loss / d tensor, None where it does not depend on one; the graph is kept for `backward`."""
    try:
        return torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "heckpoint" in str(error):
            raise ValueError(
                "between the losses and shared lies a region that is checkpointed with use_reentrant=True, through "
                "which no gradient can be measured; checkpoint it with use_reentrant=False"
            ) from error
        if "donated buffer" in str(error):
            raise ValueError(
                "the compiled model gives its buffers away in its backward pass, so no gradient can be measured before "
                "it; set torch._functorch.config.donated_buffer = False before the model is compiled"
            ) from error
        raise


def _nothing(tensors: list[Tensor]) -> Tensor:
    """Zero, with a graph, so that `backward` may be called on it."""
    return sum(tensor.sum() for tensor in tensors) * 0.0


def _has_several_ranks() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _is_main() -> bool:
    return not _has_several_ranks() or dist.get_rank() == 0


def _append_row(path: Path, row: Mapping[str, object]) -> None:
    """Add a row to a CSV file, after a header if it is new."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)
