"""What loss weightings share, and the simplest one: fixed weights.

A loss weighting holds `weights` and makes one scalar of the task losses:

    total = balancer.combine(losses)      # sum of w_i L_i, to call backward on
    balancer.observe(losses, gradients)   # after the backward pass; may change the next weights

`wants_gradients` says, before the forward pass, whether `observe` needs the tasks' gradients of
this batch, and `place` where they are to be measured: at the cut ("features") or at the last shared
weight ("weights"). To add one: subclass `LossWeighting`, override `wants_gradients`, `observe` and
the state, and name it in `utils.core.names.BALANCERS` and in the script that offers it.

A balancer with `combines_gradients` makes one gradient of the two at the cut, by its `aggregate`,
rather than one loss. One with `looks_again` is shown the losses of a batch once more after its
step, by its `look_again`.
"""

from __future__ import annotations

from models.gradnorm_balancer import LossWeighting
from utils.core.names import TASKS


def fixed_weights(detection: float, classification: float) -> LossWeighting:
    """The two tasks' weights, never changed."""
    return LossWeighting(dict(zip(TASKS, (detection, classification), strict=True)))
