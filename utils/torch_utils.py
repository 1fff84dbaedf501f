"""Device, precision, parameter groups, one optimiser's step, and the moving average of a model."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from utils import distributed
from utils.config import HyperParameters
from utils.general import LOGGER, UserError

PRECISION_TOLERANCE = 0.1  # of half-precision outputs; YOLOv5s in bf16 is 0.001 to 0.003 away
AMP_MODES = ("auto", "off", "bf16", "fp16")


def select_device(name: str) -> torch.device:
    """ "auto" (CUDA if there is one, each local rank its own), "cpu", or a CUDA device's number such as "0".

    Raises:
        UserError: the device does not exist.
    """
    name = name.strip().lower()
    if name in ("", "auto"):
        if not torch.cuda.is_available():
            return torch.device("cpu")
        name = str(distributed.local_rank())
    elif distributed.is_launched() and distributed.processes_here() > 1 and name != "cpu":
        raise UserError(f"--device {name}: {distributed.processes_here()} processes cannot share it; leave it out")
    if name == "cpu":
        return torch.device("cpu")
    number = name.removeprefix("cuda:")
    if not (number.isascii() and number.isdigit()):
        raise UserError(f"--device is '{name}', expected auto, cpu or a CUDA device's number such as 0")
    if int(number) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu")
    return torch.device(f"cuda:{number}")


@dataclass(frozen=True)
class Precision:
    """How forward passes compute. Losses, box decoding, gradient norms and metrics are always float32.

    Attributes:
        device: where.
        dtype: of the autocast regions; float32 means none.
        channels_last: memory layout of weights and activations.
        reason: why, in words.
    """

    device: torch.device
    dtype: torch.dtype
    channels_last: bool
    reason: str

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context to run forward passes in."""
        if self.dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def place(self, model: nn.Module) -> nn.Module:
        """`model` on the device, in the layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return model.to(self.device, memory_format=layout)

    def images(self, images_uint8: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> float32 in [0, 1] on the device, in the layout."""
        images = images_uint8.to(self.device, non_blocking=True)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.to(torch.float32, memory_format=layout).div_(255)

    @property
    def needs_scaler(self) -> bool:
        """Whether gradients would underflow without loss scaling."""
        return self.dtype is torch.float16

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{str(self.dtype).removeprefix('torch.')}, {layout} on {self.device} ({self.reason})"


def select_precision(mode: str, device: torch.device) -> Precision:
    """Choose by `--amp`: "auto" takes what the hardware is fast at, "off" is float32 and contiguous.

    Raises:
        UserError: an unknown mode, or fp16 on a CPU.
    """
    if mode not in AMP_MODES:
        raise UserError(f"--amp is '{mode}', expected one of {', '.join(AMP_MODES)}")
    on_cuda = device.type == "cuda"
    if mode == "off":
        return Precision(device, torch.float32, False, "--amp off")
    if mode == "bf16":
        return Precision(device, torch.bfloat16, True, "--amp bf16")
    if mode == "fp16":
        if not on_cuda:
            raise UserError("--amp fp16 needs a CUDA device; use --amp auto, bf16 or off on a CPU")
        return Precision(device, torch.float16, True, "--amp fp16")
    if on_cuda and torch.cuda.get_device_capability(device) >= (8, 0):
        return Precision(device, torch.bfloat16, True, "auto: the GPU has bf16")
    if on_cuda:
        return Precision(device, torch.float16, True, "auto: the GPU has no bf16; fp16 with loss scaling")
    if cpu_has_fast_bf16():
        return Precision(device, torch.bfloat16, True, "auto: the CPU has bf16 instructions")
    return Precision(device, torch.float32, True, "auto: the CPU has no bf16 instructions")


@torch.inference_mode()
def verified(precision: Precision, model: nn.Module, images_uint8: Tensor) -> Precision:
    """`precision` if `model`'s outputs for a batch are near those in float32; else float32, with a warning.

    Near: every output tensor is finite and its relative L2 distance is at most `PRECISION_TOLERANCE`.
    """
    if precision.dtype is torch.float32:
        return precision
    images = precision.images(images_uint8)
    expected = _tensors(model(images))
    with precision.autocast():
        found = _tensors(model(images))
    # Not-a-number is not at most anything.
    distances = torch.stack([(a.float() - b).norm() / b.norm() for a, b in zip(found, expected, strict=True)])
    if bool((distances <= PRECISION_TOLERANCE).all()):
        return precision
    name, worst = str(precision.dtype).removeprefix("torch."), distances.max().item()
    LOGGER.warning(f"warning: {name} outputs are {worst:.2g} away from float32's (relative); training in float32")
    reason = f"{name} failed its check against float32"
    return dataclasses.replace(precision, dtype=torch.float32, reason=reason)


def _tensors(outputs: Mapping[str, object]) -> list[Tensor]:
    """A model's outputs as one list."""
    return [tensor for value in outputs.values() for tensor in (value if isinstance(value, list) else [value])]


def cpu_has_fast_bf16() -> bool:
    """Whether this is a Linux machine whose CPU multiplies bf16 (AVX512-BF16 or AMX)."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return False
    flags = next((line.split() for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """YOLOv5's groups: biases, weights with decay, weights of norms; only parameters that are trained."""
    groups: dict[str, list[nn.Parameter]] = {"bias": [], "decay": [], "norm": []}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                kind = "bias" if name == "bias" else "norm" if isinstance(module, NORMS) else "decay"
                groups[kind].append(parameter)
    return [
        {"name": kind, "params": parameters, "weight_decay": weight_decay if kind == "decay" else 0.0}
        for kind, parameters in groups.items()
    ]


def build_optimizer(model: nn.Module, hyp: HyperParameters, weight_decay: float) -> torch.optim.Optimizer:
    """The optimiser named in the hyp file; Adam's beta1 is the momentum, as in YOLOv5.

    Fused: one pass over the memory; measured twice as fast as the plain loop on a CPU too.
    """
    groups = parameter_groups(model, weight_decay)
    if hyp.optimizer == "SGD":
        return torch.optim.SGD(groups, lr=hyp.lr0, momentum=hyp.momentum, nesterov=hyp.momentum > 0, fused=True)
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
        wanted = max(round(self.hyp.warmup_epochs * self.batches), 100) if self.hyp.warmup_epochs else 0
        return min(wanted, self.epochs * self.batches // 3)

    def factor(self, epoch: int) -> float:
        """Learning rate of an epoch relative to lr0, from 1 towards lrf."""
        progress = epoch / self.epochs
        if self.hyp.cos_lr:
            progress = (1 - math.cos(math.pi * progress)) / 2
        return 1 - progress * (1 - self.hyp.lrf)

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
        model: whose parameters it trains.
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
        self.model, self.schedule, self.batch_size = model, schedule, batch_size
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
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
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
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty if it was saved by a run that needed none
            self.scaler.load_state_dict(state["scaler"])


class ModelEMA:
    """Exponential moving average of a model's parameters and buffers, with YOLOv5's ramp.

    The decay of update k is decay x (1 - exp(-k / tau)), so that early weights fade quickly.

    Args:
        model: whose tensors are averaged; they are looked up once, as all changes to them are in place.
        average: a frozen copy of the model as it starts; holds the average from then on.
    """

    def __init__(self, model: nn.Module, average: nn.Module, decay: float = 0.9999, tau: float = 2000.0):
        self._current, self._averaged = floating_tensors(model), floating_tensors(average)
        self.decay, self.tau, self.updates = decay, tau, 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model."""
        self.updates += 1
        keep = self.decay * (1 - math.exp(-self.updates / self.tau))
        torch._foreach_lerp_(self._averaged, self._current, 1 - keep)


def fused_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose batch norms are part of the convolutions before them.

    The same outputs but for rounding; about a sixth faster on a CPU.
    """
    fused = frozen_copy(model)
    for module in fused.modules():
        if isinstance(getattr(module, "bn", None), nn.modules.batchnorm._BatchNorm):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()
    return fused


def tune_for(device: torch.device) -> None:
    """Settings of the process for training on a device.

    CUDA: cuDNN tries its algorithms out, since all batches but the last have one shape. CPU: glibc keeps what is freed
    rather than hand it back and ask for it again, page by page, every batch; see docs/performance.md.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        return
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode that no gradient reaches."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def floating_tensors(model: nn.Module) -> list[Tensor]:
    """The floating-point parameters and buffers of a model's state dict, in its order."""
    return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]


def freeze_layers(model: nn.Module, count: int) -> int:
    """Stop training the first `count` layers of `model.model`; returns how many parameters that holds.

    As in YOLOv5, batch-norm statistics of frozen layers keep moving.

    Raises:
        UserError: there are not that many layers.
    """
    layers: Iterable[nn.Module] = list(model.model)
    if count > len(layers):
        raise UserError(f"--freeze {count}: the model has {len(layers)} layers; expected 0 to {len(layers)}")
    frozen = [p for layer in layers[:count] for p in layer.parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
    return sum(p.numel() for p in frozen)
