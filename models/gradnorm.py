"""GradNorm: weights for several losses on one trunk, from the sizes of their gradients.

Z. Chen, V. Badrinarayanan, C.-Y. Lee, A. Rabinovich: GradNorm: Gradient Normalization for Adaptive
Loss Balancing in Deep Multitask Networks. ICML 2018, arXiv:1711.02257. Their symbols and ours:

    L_i             losses[task]      loss of task i; here its mean over the batches since the last
                                      update
    w_i             weights[task]     its weight; the network descends  sum_i w_i L_i
    W                                 where gradients are measured: the trunk's outputs ("features",
                                      the cut) or the last shared layer's weight ("weights", as in
                                      the paper)
    g_i             gradients.norms   || grad_W L_i ||_2, unweighted; the geometric mean of those
                                      measured since the last update (in this project's trainings
                                      one batch's)
    G_i = w_i g_i   norm/task         || grad_W w_i L_i ||_2
    L_i(0)          initial_losses    loss at the start
    r_i             rate/task         (L_i / L_i(0)) / mean_j (L_j / L_j(0)), the relative inverse
                                      training rate
    alpha           alpha             how strongly a task that lags is pulled
    target_i        target/task       mean_j G_j  x  r_i ** alpha, held constant     (their eq. 2)
    L_grad                            sum_i | G_i - target_i |                       (their eq. 2)
    T               weight_sum        what the weights sum to after every update

A task that trains slowly has r_i > 1, so its target is larger and its weight grows: the exponent is
+alpha.

Three rules move the weights towards the targets:

"gradient"      The paper's algorithm 1: one step of Adam on w along

                    d L_grad / d w_i = sign(G_i - target_i) g_i

                which is exact because G_i = w_i g_i with g_i >= 0 and the target is constant. No
                second backward pass, no `create_graph`, and nothing reaches any `.grad` of the
                network.
"equilibrium"   The point where every G_i is proportional to r_i ** alpha, in closed form: w_i
                proportional to r_i ** alpha / g_i, approached by a moving average of the weights'
                shares.
"log"           log w_i += kappa clip(log target_i - log G_i, -2.3, 2.3). A step is a ratio:
                whatever the norms are, a weight stays positive, and the ratio of two weights
                changes by at most exp(4.6 kappa), that is 1.58 for kappa = 0.1.

Where they settle. Call m = mean_j r_j ** alpha. The targets sum to m times what the norms sum to.
Unless all r_i are 1, m is 1 for alpha = 0 and for alpha = 1 only; else no weights meet all targets.
"log" and "equilibrium" settle where all G_i miss their targets by the same factor m, the
*equal-ratio point*. "gradient" with two tasks and m > 1 (alpha > 1) settles where the task of the
smaller weight meets its target and the other pulls without effect, since the sum is fixed: its
share of the sum of all G_i is m times that of the equal-ratio point (1.04 to 1.34 times for
alpha = 1.5 and r from 1.33 to 1.92). With noisy norms, of which "equilibrium" averages 1 / g_i, the
weight is too large by what the noise adds to that mean; "log" averages logarithms and is not.
`docs/explanation/gradnorm.md` has figures.

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

Three files can be copied into another project together; they import torch, the standard library
and each other: this one, the mathematics; `gradnorm_balancer.py`, which counts batches and keeps
the weights; `gradnorm_loss.py`, a loss function around both for anyone's training loop.

An example, two tasks of equal loss, one a hundred times as steep: the targets are equal, and L_grad
falls if the steep task's weight does.

    >>> ones = {"flat": 1.0, "steep": 1.0}
    >>> norms = {"flat": 1.0, "steep": 100.0}
    >>> now = balance(ones, norms, losses=ones, initial_losses=ones, alpha=1.5)
    >>> now.targets
    {'flat': 50.5, 'steep': 50.5}
    >>> gradient_of_l_grad(now, norms)
    {'flat': -1.0, 'steep': 100.0}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# As in utils/core/names.py, which this file does without, so that it can be copied; a test compares
# them.
RULES = ("gradient", "equilibrium", "log")
PLACES = ("features", "weights")

LARGEST_LOG_GAP = 2.3  # of the rule "log": a factor of ten
SMALLEST_SUM = 1e-12  # that shares are divided by
SMALLEST_LOSS = 1e-30  # that losses are divided by
SMALLEST_NORM = 1e-300  # that a logarithm is taken of


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
        """2ab / (a^2 + b^2) of the two norms, 0 to 1 for equal ones; NaN for zeros.

        Yu et al. 2020, definition 2.
        """
        a, b = self.norms.values()
        if not a and not b:
            return math.nan
        return 2 * a * b / (a * a + b * b)


@dataclass(frozen=True)
class Balance:
    """Where the tasks stand before a step.

    Attributes:
        norms: task -> G_i.
        rates: task -> r_i.
        targets: task -> target_i.
    """

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
    """G_i = w_i g_i, r_i and target_i = mean(G) r_i ** alpha, of every task.

    Args:
        weights: task -> w_i.
        norms: task -> g_i.
        losses: task -> L_i.
        initial_losses: task -> L_i(0).
    """
    weighted = {task: weights[task] * norms[task] for task in weights}
    relative = {task: losses[task] / max(initial_losses[task], SMALLEST_LOSS) for task in weights}
    mean_relative = max(_mean(relative), SMALLEST_LOSS)
    rates = {task: value / mean_relative for task, value in relative.items()}
    mean_norm = _mean(weighted)
    targets = {task: mean_norm * rate**alpha for task, rate in rates.items()}
    return Balance(weighted, rates, targets)


def gradient_of_l_grad(now: Balance, norms: Mapping[str, float]) -> dict[str, float]:
    """Task -> d L_grad / d w_i = sign(G_i - target_i) g_i, of the rule "gradient"."""
    return {task: _sign(now.norms[task] - now.targets[task]) * norms[task] for task in norms}


def equilibrium_shares(
    shares: Mapping[str, float],
    now: Balance,
    norms: Mapping[str, float],
    alpha: float,
    momentum: float,
) -> dict[str, float]:
    """One step of the rule "equilibrium": task -> the moving average of its share of the sum."""
    ideal = {task: now.rates[task] ** alpha / norms[task] for task in norms}
    total = max(sum(ideal.values()), SMALLEST_SUM)
    return {
        task: momentum * shares[task] + (1 - momentum) * (ideal[task] / total) for task in norms
    }


def log_weights(weights: Mapping[str, float], now: Balance, kappa: float) -> dict[str, float]:
    """One step of the rule "log": task -> w_i exp(kappa clip(log target_i - log G_i))."""
    stepped = {}
    for task, weight in weights.items():
        gap = _log(now.targets[task]) - _log(now.norms[task])
        gap = min(max(gap, -LARGEST_LOG_GAP), LARGEST_LOG_GAP)
        stepped[task] = weight * math.exp(kappa * gap)
    return stepped


def bounded_shares(values: list[float], low: float) -> list[float]:
    """Each value's share of the sum, clipped to [low, 1 - low].

    The shares inside these bounds keep their ratios and divide what the clipped ones leave.
    """
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
            if i in clipped:
                shares[i] = low
            else:
                shares[i] = share * rest / free


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
        row: dict[str, object] = {}
        for name, values in columns.items():
            for task, value in values.items():
                row[f"{name}/{task}"] = value
        for reason, count in self.skipped.items():
            row[f"skipped_{reason}"] = count
        row["cosine"] = self.cosine
        row["at_bound"] = " ".join(self.at_bound)
        return row


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def _sign(value: float) -> float:
    """-1, 0 or 1."""
    if not value:
        return 0.0
    return math.copysign(1.0, value)


def _log(norm: float) -> float:
    return math.log(max(norm, SMALLEST_NORM))
