"""One optimiser: parameter groups, schedule, a step with clipping, accumulation, loss scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.graph import LayerGraph
from utils.core.device import Compute
from utils.core.hyperparameters import HyperParameters

# Of a parameter group, whichever an optimiser has.
GROUP_KEYS = ("name", "lr", "weight_decay", "betas", "eps", "momentum", "nesterov")
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """YOLOv5's groups: biases, weights with decay, weights of norms; of trained parameters only."""
    biases: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    norms: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if name == "bias":
                biases.append(parameter)
            elif isinstance(module, NORMS):
                norms.append(parameter)
            else:
                decayed.append(parameter)
    return [
        {"name": "bias", "params": biases, "weight_decay": 0.0},
        {"name": "decay", "params": decayed, "weight_decay": weight_decay},
        {"name": "norm", "params": norms, "weight_decay": 0.0},
    ]


def build_optimizer(
    model: nn.Module, hyp: HyperParameters, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimiser named in the hyp file; Adam's beta1 is the momentum, as in YOLOv5.

    Fused: one pass over the memory; measured twice as fast as the plain loop on a CPU too.
    """
    groups = parameter_groups(model, weight_decay)
    if hyp.optimizer == "SGD":
        return torch.optim.SGD(
            groups, lr=hyp.lr0, momentum=hyp.momentum, nesterov=hyp.momentum > 0, fused=True
        )
    kind = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[hyp.optimizer]
    return kind(groups, lr=hyp.lr0, betas=(hyp.momentum, 0.999), fused=True)


@dataclass(frozen=True)
class Schedule:
    """Learning rate and momentum of every batch.

    They are pure functions of the step, so there is no state to save.

    Attributes:
        hyp: lr0, lrf, cos_lr, warm-up.
        epochs: of the whole training.
        batches: an epoch.
    """

    hyp: HyperParameters
    epochs: int
    batches: int

    @property
    def warmup_steps(self) -> int:
        """YOLOv5's, at least 100 batches, but at most a third of a short training."""
        if not self.hyp.warmup_epochs:
            return 0
        wanted = max(round(self.hyp.warmup_epochs * self.batches), 100)
        return min(wanted, self.epochs * self.batches // 3)

    def warmth(self, epoch: int, batch: int) -> float:
        """How much of the warm-up is over at a batch: from 0 to 1."""
        if not self.warmup_steps:
            return 1.0
        step = epoch * self.batches + batch
        return min(step / self.warmup_steps, 1.0)

    def factor(self, epoch: int) -> float:
        """Learning rate of an epoch relative to lr0, from 1 towards lrf."""
        progress = epoch / self.epochs
        if self.hyp.cos_lr:
            progress = (1 - math.cos(math.pi * progress)) / 2
        return 1 - progress * (1 - self.hyp.lrf)

    def apply(self, optimizer: torch.optim.Optimizer, epoch: int, batch: int) -> None:
        """Set every group's learning rate, and SGD's momentum, for a batch."""
        warm = self.warmth(epoch, batch)
        target = self.hyp.lr0 * self.factor(epoch)
        for group in optimizer.param_groups:
            start = 0.0
            if group["name"] == "bias":
                start = self.hyp.warmup_bias_lr
            group["lr"] = start + warm * (target - start)
            if "momentum" in group:
                start = self.hyp.warmup_momentum
                group["momentum"] = start + warm * (self.hyp.momentum - start)

    def accumulate(self, epoch: int, batch: int, batch_size: int) -> int:
        """Batches to an optimiser step: nominal over actual size; grows from 1 in the warm-up."""
        if self.hyp.nominal_batch_size is None:
            return 1
        full = max(round(self.hyp.nominal_batch_size / batch_size), 1)
        return max(round(1 + self.warmth(epoch, batch) * (full - 1)), 1)


class Stepper:
    """One optimiser with its schedule, gradient clipping, accumulation and loss scaling.

    Args:
        model: whose parameters it trains; gradients are clipped by part, see
            `LayerGraph.clipped_parts`.
        hyp: optimiser, rates, clipping.
        schedule: see `Schedule`.
        compute: its number format decides whether the loss is scaled.
        batch_size: images a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        hyp: HyperParameters,
        schedule: Schedule,
        compute: Compute,
        batch_size: int,
    ):
        decay = hyp.weight_decay
        if hyp.nominal_batch_size:
            full = max(round(hyp.nominal_batch_size / batch_size), 1)
            decay *= batch_size * full / hyp.nominal_batch_size
        self.schedule = schedule
        self.batch_size = batch_size
        self._clipped_parts = (list(model.parameters()),)
        if isinstance(model, LayerGraph):
            self._clipped_parts = model.clipped_parts()
        self.clip = hyp.gradient_clip
        self.optimizer = build_optimizer(model, hyp, decay)
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.needs_scaler)
        self._accumulated = 0

    def begin(self, epoch: int, batch: int) -> None:
        """Set the rates of a batch."""
        self.schedule.apply(self.optimizer, epoch, batch)

    @property
    def loss_scale(self) -> float:
        if not self.scaler.is_enabled():
            return 1.0
        return self.scaler.get_scale()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`."""
        self.scaler.scale(loss).backward()

    def step(self, epoch: int, batch: int) -> bool:
        """Clip and apply the gradients if enough batches have gathered; returns whether it did.

        An epoch's last batch always steps, so that nothing pending has to survive a resume.
        """
        self._accumulated += 1
        enough = self._accumulated >= self.schedule.accumulate(epoch, batch, self.batch_size)
        if not enough and batch < self.schedule.batches - 1:
            return False
        self._accumulated = 0
        self.scaler.unscale_(self.optimizer)
        for part in self._clipped_parts:
            torch.nn.utils.clip_grad_norm_(part, self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return True

    @property
    def learning_rates(self) -> list[float]:
        """Of biases, decayed weights and norms, as YOLOv5's x/lr0..2."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, object]:
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping) -> None:
        self._check_optimizer(state["optimizer"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty if it was saved by a run that needed none
            self.scaler.load_state_dict(state["scaler"])

    def _check_optimizer(self, state: Mapping) -> None:
        """Raise a `ValueError` for what PyTorch takes and then fails at in the first step.

        That is state of other shapes, and groups without their rates.
        """
        for group, stored in zip(self.optimizer.param_groups, state["param_groups"], strict=True):
            missing = set(GROUP_KEYS) & group.keys() - stored.keys()
            if missing:
                raise ValueError(f"a group of parameters has no {sorted(missing)}")
            for number, parameter in zip(stored["params"], group["params"], strict=True):
                _check_moments(state["state"].get(number, {}), parameter)


def _check_moments(moments: Mapping[str, object], parameter: nn.Parameter) -> None:
    for name, value in moments.items():
        is_moment = isinstance(value, Tensor) and value.dim() > 0
        if is_moment and value.shape != parameter.shape:
            raise ValueError(f"{name} is {tuple(value.shape)}, expected {tuple(parameter.shape)}")
