"""What one optimiser trains.

That is a *part* of a model: all of the joint model, with two tasks; of the dual backbone each
network, with a task each. `Part` says which and when, `Learner` holds what its training has come
to: optimiser, schedule, clipping, loss scale, moving average, best epoch. Outside its epochs a part
is idle: it is neither run nor stepped, so that its parameters, batch-norm statistics and average
stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from utils.core import distributed
from utils.core.device import Compute
from utils.core.hyperparameters import HyperParameters
from utils.core.script import UserError
from utils.evaluation.metrics import fitness, fitness_parts
from utils.evaluation.summary import Summary
from utils.training.optimiser import Schedule, Stepper

EPOCHS_AFTER_WARMUP = 3  # before an epoch can be the best; the last one always can


@dataclass(frozen=True)
class Ramp:
    """YOLOv5's: update k keeps decay x (1 - exp(-k / tau)), so that early weights fade quickly."""

    decay: float = 0.9999
    tau: float = 2000.0

    def keep(self, updates: np.ndarray) -> np.ndarray:
        """What updates number k, from 1, keep of the average."""
        return self.decay * (1 - np.exp(-updates / self.tau))


YOLOV5_RAMP = Ramp()


class ModelEMA:
    """Exponential moving average of a model's parameters and buffers.

    Args:
        model: whose tensors are averaged; they are looked up once, as all changes to them are in
            place.
        average: a frozen copy of the model as it starts; holds the average from then on.
        course: what an update keeps of the average.
    """

    def __init__(self, model: nn.Module, average: nn.Module, course: Ramp = YOLOV5_RAMP):
        self._current = floating_tensors(model)
        self._averaged = floating_tensors(average)
        self.course = course
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model."""
        self.updates += 1
        keep = float(self.course.keep(np.float64(self.updates)))
        torch._foreach_lerp_(self._averaged, self._current, 1 - keep)

    def window_steps(self) -> float:
        """How many steps' weights the average is worth: 1 / sum of all squared weights."""
        if not self.updates:
            return 0.0
        keep = self.course.keep(np.arange(1.0, self.updates + 1))
        # What all updates that follow keep of a step.
        later = np.append(np.cumprod(keep[:0:-1])[::-1], 1.0)
        weights = (1 - keep) * later
        return 1 / float(np.square(weights).sum())


def floating_tensors(model: nn.Module) -> list[Tensor]:
    """The floating-point parameters and buffers of a model's state dict, in its order."""
    return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]


@dataclass(frozen=True)
class Part:
    """A part of a model, or all of it, that is trained by an optimiser of its own.

    Attributes:
        name: in files and messages.
        path: of the part in the model, as for `nn.Module.get_submodule`; "" is the model itself.
        tasks: whose losses it descends.
        hyp: its optimiser's hyper-parameters.
        epochs: in which it trains; in the others it is idle.
    """

    name: str
    path: str
    tasks: tuple[str, ...]
    hyp: HyperParameters
    epochs: range


class Learner:
    """A part's training between batches.

    `learner.forward(images)` is the module's, whose backward pass in several processes averages
    their gradients.

    Args:
        part: what to train, and when.
        model: which it is a part of, on its device.
        average: a frozen copy of `model`, whose part becomes the moving average.
        batches: an epoch.
        batch_size: images a batch.

    Raises:
        UserError: the part is to train, but all its layers are frozen.
    """

    def __init__(
        self,
        part: Part,
        model: nn.Module,
        average: nn.Module,
        compute: Compute,
        batches: int,
        batch_size: int,
    ):
        self.part = part
        self.module = model.get_submodule(part.path)
        self.forward = self.module
        if part.epochs:
            self._refuse_frozen()
            self.forward = distributed.data_parallel(self.module)
        schedule = Schedule(part.hyp, len(part.epochs), batches)
        self.stepper = Stepper(self.module, part.hyp, schedule, compute, batch_size)
        self.ema = ModelEMA(self.module, average.get_submodule(part.path))
        warmup_epochs = math.ceil(schedule.warmup_steps / batches)
        self.first_best_epoch = part.epochs.start + warmup_epochs + EPOCHS_AFTER_WARMUP
        self.scores: dict[str, float] = {}  # what the fitness is made of
        self.best_scores: dict[str, float] = {}
        self.highest_detection = 0.0
        self.best_epoch = -1

    def _refuse_frozen(self) -> None:
        if not any(parameter.requires_grad for parameter in self.module.parameters()):
            raise UserError(
                f"--freeze leaves nothing to train of the {self.part.name} network; "
                "freeze fewer layers"
            )

    def trains(self, epoch: int) -> bool:
        return epoch in self.part.epochs

    def begin(self, epoch: int, batch: int) -> None:
        """Set the rates of a batch."""
        self.stepper.begin(epoch - self.part.epochs.start, batch)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`."""
        self.stepper.backward(loss)

    def step(self, epoch: int, batch: int) -> None:
        """Apply the gradients if enough batches have gathered, and move the average."""
        if self.stepper.step(epoch - self.part.epochs.start, batch):
            self.ema.update()

    @property
    def fitness(self) -> float:
        """Of the last evaluation."""
        return fitness(self.scores)

    @property
    def best_fitness(self) -> float:
        """Of the epoch that best.pt keeps."""
        return fitness(self.best_scores)

    def note_evaluation(self, metrics: Summary, epoch: int) -> bool:
        """Take note of an epoch's evaluation; returns whether best.pt keeps this part as it is now.

        The last epoch of the schedule is kept whatever its fitness: on five folds of new patients
        the epoch with the best fitness had 0.025 less mAP50 (docs/recipe.md). Before it, epochs are
        compared, with the detection's part in units of the highest so far, for a training that
        runs out of patience or is stopped. No epoch up to two after the warm-up is kept so.
        """
        self.scores = fitness_parts(metrics, self.part.tasks)
        self.highest_detection = max(self.highest_detection, self.scores.get("detection", 0.0))
        if epoch == self.part.epochs.stop - 1:
            is_best = True
        elif epoch < self.first_best_epoch:
            is_best = False
        else:
            is_best = self.best_epoch < 0 or self._beats_the_best()
        if is_best:
            self.best_scores = self.scores
            self.best_epoch = epoch
        return is_best

    def _beats_the_best(self) -> bool:
        scale = self.highest_detection or 1.0
        return fitness(self.scores, scale) > fitness(self.best_scores, scale)

    def has_settled(self, epoch: int, patience: int) -> bool:
        """Whether its epochs are over, or `patience` of them brought nothing better."""
        if epoch + 1 >= self.part.epochs.stop:
            return True
        since = max(self.best_epoch, self.part.epochs.start - 1)
        return self.best_epoch >= 0 and epoch - since >= patience

    def state_dict(self) -> dict[str, object]:
        """Everything but the tensors of module and average, which are the model's."""
        return {
            "stepper": self.stepper.state_dict(),
            "ema_updates": self.ema.updates,
            "best_parts": dict(self.best_scores),
            "best_epoch": self.best_epoch,
            "highest_detection": self.highest_detection,
        }

    def load_state_dict(self, state: Mapping) -> None:
        self.stepper.load_state_dict(state["stepper"])
        self.ema.updates = state["ema_updates"]
        self.best_scores = dict(state["best_parts"])
        self.best_epoch = state["best_epoch"]
        self.highest_detection = state["highest_detection"]


def describe_best(learners: Sequence[Learner]) -> str:
    """Which epoch of every part best.pt keeps, and the fitness there, in a line."""
    texts = []
    for learner in learners:
        best = f"epoch {learner.best_epoch + 1}, fitness {learner.best_fitness:.3f}"
        texts.append(f"{learner.part.name}: {best}")
    return f"best.pt keeps {'; '.join(texts)}"
