"""The machine: device, number format, random generators, and what makes a model fast on it."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import dataclasses
import platform
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from utils.core import distributed
from utils.core.script import LOGGER, UserError


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


HALF_TOLERANCE = 0.1  # of half-precision outputs; YOLOv5s in bf16 is 0.001 to 0.003 away
AMP_MODES = ("auto", "off", "bf16", "fp16")


def select_device(name: str) -> torch.device:
    """The device that `--device` names: "auto", "cpu", or a CUDA device's number such as "0".

    "auto" is CUDA if there is one, for each local rank its own.

    Raises:
        UserError: the device does not exist.
    """
    name = name.strip().lower()
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        name = str(distributed.local_rank())
    elif distributed.is_launched() and distributed.processes_here() > 1 and name != "cpu":
        raise UserError(
            f"--device {name}: {distributed.processes_here()} processes cannot share it; "
            "leave it out"
        )
    if name == "cpu":
        return torch.device("cpu")
    number = name.removeprefix("cuda:")
    if not (number.isascii() and number.isdigit()):
        raise UserError(
            f"--device is '{name}', expected auto, cpu or a CUDA device's number such as 0"
        )
    if len(number) > 3 or int(number) >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; "
            "use --device cpu"
        )
    return torch.device(f"cuda:{number}")


@dataclass(frozen=True)
class Compute:
    """Where and in which number format forward passes compute.

    Losses, box decoding, gradient norms and metrics are always float32.

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
        return model.to(self.device, memory_format=self._layout)

    def images(self, images_uint8: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> float32 in [0, 1] on the device, in the layout."""
        images = images_uint8.to(self.device, non_blocking=True)
        return images.to(torch.float32, memory_format=self._layout).div_(255)

    @property
    def _layout(self) -> torch.memory_format:
        if self.channels_last:
            return torch.channels_last
        return torch.contiguous_format

    @property
    def needs_scaler(self) -> bool:
        """Whether gradients would underflow without loss scaling."""
        return self.dtype is torch.float16

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return (
            f"{str(self.dtype).removeprefix('torch.')}, {layout} on {self.device} ({self.reason})"
        )


def select_compute(mode: str, device: torch.device) -> Compute:
    """Choose by `--amp`: "auto" takes what the hardware is fast at, "off" float32 and contiguous.

    Raises:
        UserError: an unknown mode, or fp16 on a CPU.
    """
    if mode not in AMP_MODES:
        raise UserError(f"--amp is '{mode}', expected one of {', '.join(AMP_MODES)}")
    on_cuda = device.type == "cuda"
    if mode == "off":
        return Compute(device, torch.float32, False, "--amp off")
    if mode == "bf16":
        return Compute(device, torch.bfloat16, True, "--amp bf16")
    if mode == "fp16":
        if not on_cuda:
            raise UserError("--amp fp16 needs a CUDA device; use --amp auto, bf16 or off on a CPU")
        return Compute(device, torch.float16, True, "--amp fp16")
    if on_cuda and torch.cuda.get_device_capability(device) >= (8, 0):
        return Compute(device, torch.bfloat16, True, "auto: the GPU has bf16")
    if on_cuda:
        return Compute(
            device, torch.float16, True, "auto: the GPU has no bf16; fp16 with loss scaling"
        )
    if cpu_has_fast_bf16():
        return Compute(device, torch.bfloat16, True, "auto: the CPU has bf16 instructions")
    return Compute(device, torch.float32, True, "auto: the CPU has no bf16 instructions")


@torch.inference_mode()
def verified(compute: Compute, model: nn.Module, images_uint8: Tensor) -> Compute:
    """`compute` if `model`'s outputs for a batch are near float32's; else float32, and a warning.

    Near: every output tensor is finite and its relative L2 distance is at most
    `HALF_TOLERANCE`.
    """
    if compute.dtype is torch.float32:
        return compute
    images = compute.images(images_uint8)
    expected = _tensors(model(images))
    with compute.autocast():
        found = _tensors(model(images))
    distances = []
    for half, full in zip(found, expected, strict=True):
        distances.append((half.float() - full).norm() / full.norm())
    distances = torch.stack(distances)
    # Not-a-number is not at most anything.
    if bool((distances <= HALF_TOLERANCE).all()):
        return compute
    name = str(compute.dtype).removeprefix("torch.")
    worst = distances.max().item()
    LOGGER.warning(
        f"warning: {name} outputs are {worst:.2g} away from float32's (relative); "
        "training in float32"
    )
    reason = f"{name} failed its check against float32"
    return dataclasses.replace(compute, dtype=torch.float32, reason=reason)


def _tensors(outputs: Mapping[str, object]) -> list[Tensor]:
    """A model's outputs as one list."""
    tensors = []
    for value in outputs.values():
        if isinstance(value, list):
            tensors += value
        else:
            tensors.append(value)
    return tensors


def cpu_has_fast_bf16() -> bool:
    """Whether this is a Linux machine whose CPU multiplies bf16 (AVX512-BF16 or AMX)."""
    flags = _cpuinfo("flags").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def machine_name(device: torch.device) -> str:
    """The GPU's or CPU's name; the sort of processor where the system has no more to tell."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(key: str) -> str:
    """What Linux tells of the first core under a key; empty where it does not."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return ""
    for line in cpuinfo.read_text().splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return ""


# Parameters of mallopt, from malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


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

    CUDA: cuDNN tries its algorithms out, since all batches but the last have one shape. CPU: see
    `keep_freed_memory`.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    else:
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, for the rest of the process.

    Else it hands a batch's arrays back and asks for them again, page by page; see
    docs/performance.md.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode that no gradient reaches."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def peak_memory_mib(device: torch.device) -> float:
    """The most memory this process has had: on the device if that is CUDA, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource  # absent on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
