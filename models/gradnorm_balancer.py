"""GradNorm as a loss weighting: from which batches the weights are updated, and when.

`LossWeighting` is what all weightings share, `models.gradnorm` the mathematics and the symbols.
Besides it, this file imports torch and the standard library only, so that both can be copied into
another project.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from models.gradnorm import (
    PLACES,
    RULES,
    Balance,
    TaskGradients,
    Update,
    balance,
    bounded_shares,
    equilibrium_shares,
    gradient_of_l_grad,
    log_weights,
    shares_to_weights,
)

# As in utils/core/hyperparameters.py; a test compares them.
RANGES = {
    "alpha": (0, 100),
    "interval": (1, 1e9),
    "learning_rate": (1e-12, 1),
    "momentum": (0, 0.9999),
    "kappa": (1e-12, 1),
    "weight_sum": (1e-12, 1e12),
    "min_share": (1e-6, 0.49),
}
SMALLEST_START = 1e-8  # of a loss that can be a start
MANY = 20  # updates on a bound, or batches left out, in a row: worth a warning

LOGGER = logging.getLogger("joint.gradnorm")


class LossWeighting:
    """Fixed weights, and the base of weightings that adapt.

    Args:
        weights: task -> weight, above zero and finite.
    """

    place = "features"
    wants_gradients = False
    combines_gradients = False
    looks_again = False

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

    def look_again(self, losses: Mapping[str, Tensor]) -> None:
        """If `looks_again`: take note of a batch's losses once more, after its step."""

    def end_epoch(self) -> None:
        """Called after the last batch of every epoch."""

    def state_dict(self) -> dict[str, object]:
        return {"weights": dict(self.weights)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take the weights; every other argument stays the one that this object was made with.

        Raises:
            ValueError: the state is of other tasks.
        """
        if set(state["weights"]) != set(self.weights):
            raise ValueError(
                f"the state is of the tasks {list(state['weights'])}, expected {list(self.weights)}"
            )
        self.weights = {task: float(state["weights"][task]) for task in self.weights}


class GradNorm(LossWeighting):
    """GradNorm, by one of the rules of `models.gradnorm`.

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
        if weight_sum is None:
            weight_sum = len(self.tasks)
        self.alpha = alpha
        self.interval = interval
        self.rule = rule
        self.place = place
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.kappa = kappa
        self.weight_sum = weight_sum
        self.min_share = min_share
        self.initial_losses = dict(initial_losses or {})
        self._check()
        self.weight_sum = float(weight_sum)
        self.skipped = dict.fromkeys(("unlabelled", "nonfinite", "partial", "zero"), 0)
        self.last_update: Update | None = None
        self._w = torch.tensor(list(self.weights.values()), dtype=torch.float64, requires_grad=True)
        self._optimizer = torch.optim.Adam([self._w], lr=learning_rate)
        self._on_bound = 0  # updates in a row
        self._left_out = 0  # batches in a row
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
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not low <= value <= high:
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
        self._skipped_since = dict.fromkeys(self.skipped, 0)
        self._forget_measurements()

    def _forget_measurements(self) -> None:
        # (tasks,) on the losses' device, so that no batch waits for it.
        self._loss_sum: Tensor | None = None
        self._batches = 0
        self._log_norms: list[list[float]] = []  # a row a measurement, a column a task

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
        if gradients is not None and not _all_finite(gradients.norms):
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
        if self._loss_sum is not None:
            values = self._loss_sum.to(values.device) + values
        self._loss_sum = values
        self._batches += 1

    def _skip(self, reason: str) -> None:
        self.skipped[reason] += 1
        self._skipped_since[reason] += 1
        self._left_out += 1
        if self._left_out == MANY:
            LOGGER.warning(
                f"warning: GradNorm: the last {MANY} batches were left out ({reason}); "
                "the weights stay as they are"
            )

    def _update_if_losses_allow(self, cosine: float) -> dict[str, object] | None:
        means = (self._loss_sum / self._batches).tolist()
        losses = dict(zip(self.tasks, means, strict=True))
        if not _all_finite(losses):
            self._forget_measurements()
            return self._skip("nonfinite")
        for task, loss in losses.items():
            if loss < 0:
                raise ValueError(
                    f"the loss of {task} is {loss:g} on average; GradNorm compares rates L / L(0), "
                    "for which losses must not be below zero: add a constant to it"
                )
        if not self._know_the_start(losses):
            self._forget_measurements()
            return self._skip("zero")
        return self._update(losses, cosine)

    def _know_the_start(self, losses: Mapping[str, float]) -> bool:
        """Take the unknown L_i(0) from an interval's means; False if one of these is zero."""
        for task in self.tasks:
            if task in self.initial_losses:
                continue
            if losses[task] < SMALLEST_START:
                LOGGER.warning(
                    f"warning: GradNorm: the loss of {task} starts at zero; "
                    "a later interval is its start"
                )
                return False
            self.initial_losses[task] = losses[task]
        return True

    def _update(self, losses: dict[str, float], cosine: float) -> dict[str, object]:
        logs = torch.tensor(self._log_norms, dtype=torch.float64)
        norms = dict(zip(self.tasks, logs.mean(dim=0).exp().tolist(), strict=True))
        before = balance(self.weights, norms, losses, self.initial_losses, self.alpha)
        stepped = self._step(before, norms)
        shares = bounded_shares([stepped[task] for task in self.tasks], self.min_share)
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
        self._left_out = 0
        self._count_on_bound(at_bound)
        self._start_interval()
        return self.last_update.row()

    def _step(self, before: Balance, norms: Mapping[str, float]) -> dict[str, float]:
        """Task -> what its new share of the sum is proportional to, by the rule."""
        if self.rule == "gradient":
            return self._adam_step(gradient_of_l_grad(before, norms))
        if self.rule == "log":
            return log_weights(self.weights, before, self.kappa)
        total = sum(self.weights.values())
        shares = {task: weight / total for task, weight in self.weights.items()}
        return equilibrium_shares(shares, before, norms, self.alpha, self.momentum)

    def _adam_step(self, gradient: Mapping[str, float]) -> dict[str, float]:
        slopes = [gradient[task] for task in self.tasks]
        self._w.grad = torch.tensor(slopes, dtype=torch.float64)
        self._optimizer.step()
        return dict(zip(self.tasks, self._w.tolist(), strict=True))

    def _count_on_bound(self, at_bound: tuple[str, ...]) -> None:
        """Count the updates in a row with a weight on its bound, and warn once of many."""
        if not at_bound:
            self._on_bound = 0
            return
        self._on_bound += 1
        if self._on_bound == MANY:
            LOGGER.warning(
                f"warning: GradNorm: the weight of {at_bound[0]} was on its bound for {MANY} "
                f"updates in a row: the bound (min_share {self.min_share:g}) sets it, not GradNorm"
            )

    def _at_bound(self, shares: list[float]) -> tuple[str, ...]:
        """The tasks on the lower bound; Adam's first moment stops pushing towards any bound."""
        moment = None
        if self.rule == "gradient":
            moment = self._optimizer.state[self._w].get("exp_avg")
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
        loss_sum = self._loss_sum
        if loss_sum is not None:
            loss_sum = loss_sum.cpu()
        return {
            **super().state_dict(),
            "adam": self._optimizer.state_dict(),
            "initial_losses": dict(self.initial_losses),
            "loss_sum": loss_sum,
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
        self._loss_sum = state["loss_sum"]
        self._batches = state["batches"]
        self._log_norms = [list(row) for row in state["log_norms"]]
        self.skipped = dict(state["skipped"])
        self._skipped_since = dict(state["skipped_since"])
        self._on_bound, self._left_out = state["in_a_row"]


def _all_finite(values: Mapping[str, float]) -> bool:
    return all(math.isfinite(value) for value in values.values())
