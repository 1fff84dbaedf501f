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
from itertools import chain

import torch
from torch import Tensor

from models.gradnorm import TaskGradients
from utils.core import distributed
from utils.core.names import TASKS

Features = dict[int, Tensor]


def task_gradients(
    gradients: Mapping[str, list[Tensor]], scales: Mapping[str, float], sharded: bool = False
) -> TaskGradients:
    """Norms of each task's gradients, and the cosine between them.

    Args:
        gradients: task -> a gradient a tensor, the same tensors for every task.
        scales: task -> the factor by which its gradients are too large.
        sharded: every process has the gradients of other frames, and the whole is what they are
            together.
    """
    a, b = (gradients[task] for task in TASKS)
    products = torch.stack([_inner(a, a), _inner(b, b), _inner(a, b)])
    products = products.tolist()  # the only wait for the device
    if sharded:
        products = distributed.summed(products)
    *squares, product = products
    lengths = [math.sqrt(square) for square in squares]
    cosine = math.nan
    if all(0 < length < math.inf for length in lengths):
        cosine = max(-1.0, min(1.0, product / math.prod(lengths)))
    norms = {task: n / scales[task] for task, n in zip(TASKS, lengths, strict=True)}
    return TaskGradients(norms, cosine)


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
        self._features = dict(features)
        self._gradients = {}
        detection, classification = (self._aliases(task) for task in TASKS)
        return detection, classification

    def _aliases(self, task: str) -> Features:
        return {index: self._alias(task, index) for index in self._features}

    def _alias(self, task: str, index: int) -> Tensor:
        alias = self._features[index].view_as(self._features[index])
        # Where the trunk up to here is frozen, the tasks' gradients are still of interest.
        if self.detached or not alias.requires_grad:
            alias = alias.detach().requires_grad_()

        def keep(gradient: Tensor) -> None:
            self._gradients[task, index] = gradient.detach()

        alias.register_hook(keep)
        return alias

    def pass_on(self, aggregate: Callable[[Tensor], Tensor]) -> None:
        """Backward through the trunk from one gradient made of the tasks'.

        Args:
            aggregate: (2, n) the tasks' gradients at all features -> (n,) one gradient, float32.
        """
        features = list(self._features.values())
        if not any(feature.requires_grad for feature in features):
            return
        rows = torch.stack([self._flat_gradient(task) for task in TASKS])
        parts = aggregate(rows).split([feature.numel() for feature in features])
        roots, gradients = [], []
        for feature, part in zip(features, parts, strict=True):
            if feature.requires_grad:
                roots.append(feature)
                gradients.append(part.view_as(feature).to(feature.dtype))
        torch.autograd.backward(roots, gradients)

    def _flat_gradient(self, task: str) -> Tensor:
        """(n,) the task's gradient at all features, one after the other, float32."""
        return torch.cat([part.float().flatten() for part in self._of_task(task)])

    def _of_task(self, task: str) -> list[Tensor]:
        """The task's gradient at every feature; zeros where it has none."""
        found = []
        for index, feature in self._features.items():
            found.append(self._gradients.get((task, index), torch.zeros_like(feature)))
        return found

    def read(self, scales: Mapping[str, float]) -> TaskGradients:
        """After the backward pass: norms and cosine.

        Args:
            scales: task -> what its mean loss was multiplied with (weight x batch size x loss
                scale).
        """
        gradients = {task: self._of_task(task) for task in TASKS}
        self._features = {}
        self._gradients = {}
        # Each process' losses are as many times too large as there are processes; see
        # `utils.core.distributed`.
        scales = {task: scale * distributed.world_size() for task, scale in scales.items()}
        return task_gradients(gradients, scales, sharded=True)


def weight_gradients(
    losses: Mapping[str, Tensor], shared: Tensor, loss_scale: float = 1.0
) -> TaskGradients:
    """Norms and cosine of the tasks' gradients at a shared weight; no `.grad` is touched.

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
    parameters = list(chain.from_iterable(layers.values()))
    if not parameters:
        return {}
    gradients = {task: _mean_gradients(losses[task] * loss_scale, parameters) for task in TASKS}
    scales = dict.fromkeys(TASKS, loss_scale)
    found = {}
    start = 0
    for name, layer in layers.items():
        end = start + len(layer)
        of_layer = {task: gradients[task][start:end] for task in TASKS}
        found[name] = task_gradients(of_layer, scales)
        start = end
    return found


def _mean_gradients(loss: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    """d loss / d parameter, the mean over the processes; zeros where it does not depend on one."""
    own = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    means = []
    for parameter, gradient in zip(parameters, own, strict=True):
        if gradient is None:
            gradient = torch.zeros_like(parameter)
        means.append(distributed.averaged(gradient))
    return means
