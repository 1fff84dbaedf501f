"""GradNorm around loss functions, for use in anyone's training loop.

`docs/how-to/gradnorm-in-your-loop.md` shows how. Besides `gradnorm.py` and `gradnorm_balancer.py`,
this file imports torch and the standard library only, so that the three can be copied together.

An example, two quadratics that share `x`, one a hundred times as steep; the weights even that out:

    >>> import torch
    >>> x = torch.ones(3, requires_grad=True)
    >>> def flat(x, t): return (x - t).square().sum()
    >>> def steep(x, t): return 100 * (x + t).square().sum()
    >>> wrapped = GradNormLoss(flat, steep, alpha=0.5, interval=1)
    >>> optimizer = torch.optim.SGD([x], lr=1e-4)
    >>> for _ in range(60):
    ...     loss = wrapped(x, torch.zeros(3), x, torch.zeros(3), shared=x)
    ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
    >>> wrapped.weights["detection"] > 1.9
    True
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.gradnorm_balancer import GradNorm, TaskGradients, Update

# As in utils/core/names.py, which this file does without, so that it can be copied; a test compares
# them.
TASKS = ("detection", "classification")

NOT_SHARED = (
    "does not depend on `shared`; pass what every task is computed from: the tensor that goes into "
    "the heads itself, or the last weight that all share. Features that leave a model compiled by "
    "torch.compile are copies: pass the last shared weight instead. Weights inside a region that "
    "is checkpointed with use_reentrant=True are out of reach: use_reentrant=False"
)

LossFunction = Callable[..., Tensor]
Shared = Tensor | nn.Module | Iterable[Tensor]


class GradNormLoss(nn.Module):
    """GradNorm around loss functions, for use in anyone's training loop.

    Two tasks, detection and classification, by position:

        loss = GradNormLoss(detection_loss_fn, classification_loss_fn, alpha=1.5)
        total = loss(maps, true_boxes, logits, true_class, shared=features)

    or any number of tasks by name:

        loss = GradNormLoss({"segmentation": fn, "depth": fn, "normals": fn}, alpha=1.5)
        total = loss({"segmentation": (output, target), "depth": ...}, shared=features)

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
                "alpha is a function; for three tasks or more pass a mapping "
                "{'task': loss_function, ...}"
            )
        functions = _functions_of(detection_loss_fn, classification_loss_fn)
        self.loss_functions = functions
        # Loss functions that are modules move, train and are saved with this one.
        self.loss_modules = nn.ModuleList(f for f in functions.values() if isinstance(f, nn.Module))
        options.setdefault("initial_weights", dict.fromkeys(functions, 1.0))
        if set(options["initial_weights"]) != set(functions):
            found = list(options["initial_weights"])
            raise ValueError(f"initial_weights is of {found}, expected {list(functions)}")
        self.balancer = GradNorm(alpha=alpha, **options)
        self.csv_path: Path | None = None
        if csv_path is not None:
            self.csv_path = Path(csv_path)
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
        if losses:
            # With the weights from before the update, which this batch's gradients may bring about.
            total = self.balancer.combine(losses)
        else:
            total = _nothing(tensors)
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
        has_label: Mapping[str, bool] = {}
        if isinstance(labelled, Mapping):
            has_label = labelled
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
                f"the loss of {task} has shape {tuple(loss.shape)}, expected one number; "
                "take its mean"
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
                    f"shared: a tensor of shape {tuple(tensor.shape)} does not require gradients, "
                    "so no norm can be measured there; pass the trunk's output or a weight that is "
                    "trained"
                )
        for task, loss in losses.items():
            if loss < 0:
                raise ValueError(
                    f"the loss of {task} is {loss.item():g}, expected zero or more: GradNorm "
                    "compares rates L / L(0); add a constant to it"
                )
            if all(gradient is None for gradient in _gradients(loss, tensors)):
                raise ValueError(f"the loss of {task} {NOT_SHARED}")
        self._is_checked = True

    def _observe(
        self,
        losses: dict[str, Tensor],
        tensors: list[Tensor],
        is_whole: bool,
        full: bool,
        loss_scale: float,
    ) -> None:
        """Measure the gradients if they are wanted, and let the balancer see the batch.

        Args:
            is_whole: every task has a loss here.
            full: the batch has the usual number of frames.
        """
        averaged = losses
        if _world_size() > 1:
            averaged, is_whole, full = self._over_ranks(losses, tensors, is_whole, full)
        measured = None
        if self.balancer.wants_gradients and is_whole and full:
            measured = self._measure(losses, tensors, loss_scale)
        row = self.balancer.observe(averaged, measured, is_whole, full)
        if row is not None and self.csv_path is not None and _is_main():
            _append_row(self.csv_path, row)

    def _over_ranks(
        self, losses: Mapping[str, Tensor], tensors: list[Tensor], is_whole: bool, full: bool
    ) -> tuple[dict[str, Tensor], bool, bool]:
        """The losses' means over the ranks that have them; `is_whole` and `full` for all ranks."""
        tasks = list(self.loss_functions)
        table = torch.zeros(3, len(tasks), dtype=torch.float64, device=tensors[0].device)
        for i, task in enumerate(tasks):
            if task in losses:
                table[0, i] = losses[task].detach()
                table[1, i] = 1
        table[2, 0] = not is_whole and len(losses) == len(tasks)
        table[2, 1] = not full
        dist.all_reduce(table)
        sums, counts, (refusals, partial, *_) = table
        means = sums / counts.clamp(min=1)
        is_whole = bool((counts > 0).all()) and not refusals
        return dict(zip(tasks, means.unbind(), strict=True)), is_whole, not partial

    def _measure(
        self, losses: Mapping[str, Tensor], tensors: list[Tensor], loss_scale: float
    ) -> TaskGradients:
        """Every task's norm over all of `tensors`.

        With several ranks: at features, of all ranks' gradients together; at a weight, of their
        mean.
        """
        world = _world_size()
        squares = torch.zeros(
            len(self.loss_functions), dtype=torch.float64, device=tensors[0].device
        )
        for i, task in enumerate(self.loss_functions):
            gradients = [None] * len(tensors)
            if task in losses:
                gradients = _gradients(losses[task] * loss_scale, tensors)
            for tensor, gradient in zip(tensors, gradients, strict=True):
                if gradient is None:
                    gradient = torch.zeros_like(tensor)
                gradient = gradient.detach().double() / loss_scale
                squares[i] += _own_square(gradient, tensor.is_leaf, world)
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
                f"the loss function of {task!r} is a {found}, "
                "expected a function of (output, target)"
            )
    return dict(first)


def _tensors_of(shared: Shared | None) -> list[Tensor]:
    """The tensors at which gradients are measured; of a module its trained parameters."""
    if isinstance(shared, Tensor):
        return [shared]
    if isinstance(shared, nn.Module):
        tensors = [parameter for parameter in shared.parameters() if parameter.requires_grad]
    elif isinstance(shared, Iterable) and not isinstance(shared, str | Mapping):
        tensors = list(shared)
    else:
        found = type(shared).__name__
        raise ValueError(
            f"shared is a {found}, expected a tensor, several, or a module: "
            "what every task depends on"
        )
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
        kinds = sorted({type(tensor).__name__ for tensor in tensors})
        raise ValueError(
            f"shared holds {kinds or 'nothing that is trained'}, "
            "expected tensors that require gradients"
        )
    return tensors


def _gradients(loss: Tensor, tensors: list[Tensor]) -> tuple[Tensor | None, ...]:
    """d loss / d tensor, None where it does not depend on one; the graph is kept for `backward`."""
    try:
        return torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "heckpoint" in str(error):
            raise ValueError(
                "between the losses and shared lies a region that is checkpointed with "
                "use_reentrant=True, through which no gradient can be measured; checkpoint it with "
                "use_reentrant=False"
            ) from error
        if "donated buffer" in str(error):
            raise ValueError(
                "the compiled model gives its buffers away in its backward pass, so no gradient "
                "can be measured before it; set torch._functorch.config.donated_buffer = False "
                "before the model is compiled"
            ) from error
        raise


def _nothing(tensors: list[Tensor]) -> Tensor:
    """Zero, with a graph, so that `backward` may be called on it."""
    return sum(tensor.sum() for tensor in tensors) * 0.0


def _own_square(gradient: Tensor, is_weight: bool, world: int) -> Tensor:
    """A rank's part of the squared norm of what all ranks' gradients are together.

    A weight's gradients are summed over the ranks first; then every rank has an equal part.
    """
    if world == 1 or not is_weight:
        return gradient.square().sum()
    dist.all_reduce(gradient)
    return gradient.square().sum() / world


def _world_size() -> int:
    """How many ranks there are; 1 without `torch.distributed`."""
    if not dist.is_available() or not dist.is_initialized():
        return 1
    return dist.get_world_size()


def _is_main() -> bool:
    return _world_size() == 1 or dist.get_rank() == 0


def _append_row(path: Path, row: Mapping[str, object]) -> None:
    """Add a row to a CSV file, after a header if it is new."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)
