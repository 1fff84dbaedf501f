"""What each task's gradient is where the two tasks meet: norms and cosine, from one backward pass.

`FeatureTaps` gives each task its own alias of every tensor at the cut, that is of all that the
heads are given. Backward sums the aliases' gradients into the tensor's, so the network learns
exactly what it would have learnt; a hook on an alias sees one task's share of it on the way. That
share is weighted and scaled as the backward pass was, so `read` divides by that.

`weight_gradients` measures the same at a shared weight, the place the GradNorm paper uses, with one
`autograd.grad` a task before the backward pass. `layer_gradients` does so for every layer of the
trunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import islice

import torch
from torch import Tensor

from models.gradnorm import TaskGradients
from utils.core import distributed
from utils.core.names import TASKS

Features = dict[int, Tensor]


def task_gradients(
    gradients: Mapping[str, list[Tensor]], scales: Mapping[str, float], sharded: bool = False
) -> TaskGradients:
    """Norms and cosine of each task's gradients, tensor for tensor, and the factors they are too large by.

    Args:
        sharded: every process has the gradients of other frames, and the whole is what they are
            together.
    """
    squares = [_inner(gradients[task], gradients[task]) for task in TASKS]
    products = torch.stack([*squares, _inner(*(gradients[task] for task in TASKS))])
    products = products.tolist()  # the only wait for the device
    *squares, product = distributed.summed(products) if sharded else products
    lengths = [math.sqrt(square) for square in squares]
    defined = all(0 < length < math.inf for length in lengths)
    cosine = max(-1.0, min(1.0, product / math.prod(lengths))) if defined else math.nan
    return TaskGradients(
        {task: n / scales[task] for task, n in zip(TASKS, lengths, strict=True)}, cosine
    )


def _inner(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Inner product of two lists of tensors as two long vectors, in float32."""
    return torch.stack([torch.sum(x.float() * y.float()) for x, y in zip(a, b, strict=True)]).sum()


class FeatureTaps:
    """Sees each task's gradient at the cut during one backward pass.

    >>> taps = FeatureTaps()
    >>> outputs = model(images, tap=taps.attach)
    >>> (w_d * detection_loss + w_c * view_loss).backward()
    >>> gradients = taps.read({"detection": w_d, "classification": w_c})

    Args:
        detached: backward ends at the aliases; `pass_on` sends one gradient made of the two into
            the trunk.
    """

    def __init__(self, detached: bool = False) -> None:
        self.detached = detached
        self._features: Features = {}
        self._gradients: dict[tuple[str, int], Tensor] = {}

    def attach(self, features: Features) -> tuple[Features, Features]:
        """The cut's outputs -> one alias of each for every task, in the order of `TASKS`."""
        self._features, self._gradients = dict(features), {}
        detection, classification = ({i: self._alias(task, i) for i in features} for task in TASKS)
        return detection, classification

    def _alias(self, task: str, index: int) -> Tensor:
        alias = self._features[index].view_as(self._features[index])
        if (
            self.detached or not alias.requires_grad
        ):  # the trunk up to here is frozen; the tasks' gradients are still of interest
            alias = alias.detach().requires_grad_()

        def keep(gradient: Tensor) -> None:
            self._gradients[task, index] = gradient.detach()

        alias.register_hook(keep)
        return alias

    def pass_on(self, aggregate: Callable[[Tensor], Tensor]) -> None:
        """Backward through the trunk from `aggregate` of the tasks' gradients: (2, n) -> (n,), float32."""
        features = [feature for feature in self._features.values() if feature.requires_grad]
        if not features:
            return
        rows = [
            torch.cat([part.float().flatten() for part in self._of_task(task).values()])
            for task in TASKS
        ]
        parts = aggregate(torch.stack(rows)).split(
            [feature.numel() for feature in self._features.values()]
        )
        shaped = [
            p.view_as(f).to(f.dtype)
            for p, f in zip(parts, self._features.values(), strict=True)
            if f.requires_grad
        ]
        torch.autograd.backward(features, shaped)

    def _of_task(self, task: str) -> Features:
        """The task's gradient at every feature; zeros where it has none."""
        return {
            i: self._gradients.get((task, i), torch.zeros_like(x))
            for i, x in self._features.items()
        }

    def read(self, scales: Mapping[str, float]) -> TaskGradients:
        """After the backward pass: norms and cosine.

        Args:
            scales: task -> what its mean loss was multiplied with (weight x batch size x loss
                scale).
        """
        gradients = {task: list(self._of_task(task).values()) for task in TASKS}
        self._features, self._gradients = {}, {}
        # Each process' losses are as many times too large as there are processes; see
        # `utils.core.distributed`.
        scales = {task: scale * distributed.world_size() for task, scale in scales.items()}
        return task_gradients(gradients, scales, sharded=True)


def weight_gradients(
    losses: Mapping[str, Tensor], shared: Tensor, loss_scale: float = 1.0
) -> TaskGradients:
    """Norms and cosine of the tasks' gradients with respect to a shared weight; no `.grad` is touched.

    Args:
        losses: task -> unweighted loss with graph; the graph is kept for the backward pass.
        shared: the weight W of the last shared layer.
        loss_scale: factor against underflow in half precision.
    """
    return layer_gradients(losses, {"shared": [shared]}, loss_scale)["shared"]


def layer_gradients(
    losses: Mapping[str, Tensor], layers: Mapping[str, list[Tensor]], loss_scale: float = 1.0
) -> dict[str, TaskGradients]:
    """Norms and cosine of the tasks' gradients, layer for layer; no `.grad` is touched.

    Args:
        losses: task -> unweighted loss with graph; the graph is kept for the backward pass.
        layers: name -> its parameters, all of which require gradients.
        loss_scale: factor against underflow in half precision.
    """
    parameters = [parameter for layer in layers.values() for parameter in layer]
    if not parameters:
        return {}
    gradients = {}
    for task in TASKS:
        found = torch.autograd.grad(
            losses[task] * loss_scale, parameters, retain_graph=True, allow_unused=True
        )
        whole = (
            torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)
        )
        gradients[task] = iter([distributed.averaged(gradient) for gradient in whole])
    scales = dict.fromkeys(TASKS, loss_scale)
    return {
        name: task_gradients(
            {task: list(islice(gradients[task], len(layer))) for task in TASKS}, scales
        )
        for name, layer in layers.items()
    }
