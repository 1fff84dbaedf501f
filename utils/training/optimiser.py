"""One optimiser: its parameter groups, its schedule, and a step with clipping, accumulation and loss scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.graph import LayerGraph
from utils.core.device import Precision
from utils.core.hyperparameters import HyperParameters

GROUP_KEYS = (
    "name",
    "lr",
    "weight_decay",
    "betas",
    "eps",
    "momentum",
    "nesterov",
)  # whichever an optimiser has
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """YOLOv5's groups: biases, weights with decay, weights of norms; only parameters that are trained."""
    groups: dict[str, list[nn.Parameter]] = {"bias": [], "decay": [], "norm": []}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                kind = (
                    "bias" if name == "bias" else "norm" if isinstance(module, NORMS) else "decay"
                )
                groups[kind].append(parameter)
    return [
        {
            "name": kind,
            "params": parameters,
            "weight_decay": weight_decay if kind == "decay" else 0.0,
        }
        for kind, parameters in groups.items()
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
    """Learning rate and momentum of every batch; a pure function of the step, so there is no state to save.

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
        wanted = (
            max(round(self.hyp.warmup_epochs * self.batches), 100) if self.hyp.warmup_epochs else 0
        )
        return min(wanted, self.epochs * self.batches // 3)

    def factor(self, epoch: int) -> float:
        """Learning rate of an epoch relative to lr0, from 1 towards lrf."""
        progress = epoch / self.epochs
        if self.hyp.cos_lr:
            progress = (1 - math.cos(math.pi * progress)) / 2
        return 1 - progress * (1 - self.hyp.lrf)

    def steps_an_epoch(self, batch_size: int) -> float:
        """Optimiser steps an epoch once the warm-up is over; an epoch's last batch always steps."""
        return math.ceil(self.batches / self.accumulate(self.epochs, 0, batch_size))

    def apply(self, optimizer: torch.optim.Optimizer, epoch: int, batch: int) -> None:
        """Set every group's learning rate, and SGD's momentum, for a batch."""
        step = epoch * self.batches + batch
        warm = min(step / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        target = self.hyp.lr0 * self.factor(epoch)
        for group in optimizer.param_groups:
            start = self.hyp.warmup_bias_lr if group["name"] == "bias" else 0.0
            group["lr"] = start + warm * (target - start)
            if "momentum" in group:
                start = self.hyp.warmup_momentum
                group["momentum"] = start + warm * (self.hyp.momentum - start)

    def accumulate(self, epoch: int, batch: int, batch_size: int) -> int:
        """Batches to an optimiser step: nominal over actual batch size, growing from 1 in the warm-up."""
        if self.hyp.nominal_batch_size is None:
            return 1
        full = max(round(self.hyp.nominal_batch_size / batch_size), 1)
        step = epoch * self.batches + batch
        warm = min(step / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        return max(round(1 + warm * (full - 1)), 1)


class Stepper:
    """One optimiser with its schedule, gradient clipping, accumulation and loss scaling.

    Args:
        model: whose parameters it trains; gradients are clipped by part, see
            `LayerGraph.clipped_parts`.
        hyp: optimiser, rates, clipping.
        schedule: see `Schedule`.
        precision: decides whether the loss is scaled.
        batch_size: images a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        hyp: HyperParameters,
        schedule: Schedule,
        precision: Precision,
        batch_size: int,
    ):
        decay = hyp.weight_decay
        if hyp.nominal_batch_size:
            full = max(round(hyp.nominal_batch_size / batch_size), 1)
            decay *= batch_size * full / hyp.nominal_batch_size
        self.schedule, self.batch_size = schedule, batch_size
        self._clipped_parts = (list(model.parameters()),)
        if isinstance(model, LayerGraph):
            self._clipped_parts = model.clipped_parts()
        self.clip = hyp.gradient_clip
        self.optimizer = build_optimizer(model, hyp, decay)
        self.scaler = torch.amp.GradScaler(precision.device.type, enabled=precision.needs_scaler)
        self._accumulated = 0

    def begin(self, epoch: int, batch: int) -> None:
        """Set the rates of a batch."""
        self.schedule.apply(self.optimizer, epoch, batch)

    @property
    def loss_scale(self) -> float:
        return self.scaler.get_scale() if self.scaler.is_enabled() else 1.0

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
        """PyTorch takes state of other shapes, and groups without their rates, and fails in the first step."""
        own = self.optimizer.state_dict()["param_groups"]
        for group, stored in zip(own, state["param_groups"], strict=True):
            if missing := set(GROUP_KEYS) & group.keys() - stored.keys():
                raise ValueError(f"a group of parameters has no {sorted(missing)}")
        parameters = [
            parameter for group in self.optimizer.param_groups for parameter in group["params"]
        ]
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            for name, value in state["state"].get(number, {}).items():
                is_moment = isinstance(value, Tensor) and value.dim() > 0
                if is_moment and value.shape != parameter.shape:
                    raise ValueError(
                        f"{name} is {tuple(value.shape)}, expected {tuple(parameter.shape)}"
                    )
