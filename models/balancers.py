"""What loss weightings share, and the simplest one: fixed weights.

A loss weighting holds `weights` and makes one scalar of the task losses:

    total = balancer.combine(losses)        # sum of w_i L_i, to call backward on
    balancer.observe(losses, gradients)     # after the backward pass; may change the weights of the next batch

`wants_gradients` says, before the forward pass, whether `observe` needs the tasks' gradients of this batch,
and `place` where they are to be measured: at the cut ("features") or at the last shared weight ("weights").
To add one: subclass `LossWeighting`, override `wants_gradients`, `observe` and the state, and name it in
`utils.config.BALANCERS` and in the script that offers it.

A balancer with `combines_gradients` makes one gradient of the two at the cut, by its `aggregate`, rather than one loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from utils.general import TASKS, UserError


class Gradients(Protocol):
    """What a weighting reads of the tasks' gradients; see `utils.interference.TaskGradients`."""

    norms: dict[str, float]
    cosine: float


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
                raise UserError(f"the initial weight of {task} is {weight}, expected above zero")
        self.weights = {task: float(weight) for task, weight in weights.items()}

    def combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Sum of w_i L_i over the tasks in `losses`."""
        return sum(self.weights[task] * loss for task, loss in losses.items())

    def observe(
        self, losses: Mapping[str, Tensor], gradients: Gradients | None = None, labelled: bool = True
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


def fixed_weights(detection: float, classification: float) -> LossWeighting:
    """The two tasks' weights, never changed."""
    return LossWeighting(dict(zip(TASKS, (detection, classification), strict=True)))
