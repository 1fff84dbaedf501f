"""Where the time of an epoch goes, and what a model costs: stages, GFLOPs, latency, a picture."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from utils.core.device import Compute
from utils.plots.style import CLASS_COLOURS, GREY, new_figure

Result = TypeVar("Result")
# Large enough that the call itself is nothing.
MATRIX_SIDES = {"cpu": 2048, "cuda": 8192}
MATRIX_CALLS = 8
LATENCY_CALLS = 50
LATENCY_WARM_UP = 10
TRAINING_STAGES = ("load", "forward", "losses", "backward", "step", "other")
VALIDATION_STAGES = (
    "validation load",
    "validation forward",
    "NMS",
    "COCO evaluation",
    "validation other",
)
COLOURS = (
    *CLASS_COLOURS,
    "#0072B2",
    "#D55E00",
    "#F0E442",
    "#999999",
    "#44AA99",
    "#882255",
    "#DDDDDD",
)


@dataclass
class Stopwatch:
    """Seconds that stages took, the device's work included.

    Attributes:
        device: waited for before and after a stage.
        seconds: stage -> one value a call.
    """

    device: torch.device
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def now(self) -> float:
        """The time when all that was asked of the device is done, seconds."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def timed(self, stage: str, function: Callable[..., Result]) -> Callable[..., Result]:
        """`function`, whose calls are noted as `stage`."""

        def call(*arguments: object, **options: object) -> Result:
            start = self.now()
            result = function(*arguments, **options)
            self.seconds[stage].append(self.now() - start)
            return result

        return call

    def time_method(self, owner: object, name: str, stage: str) -> None:
        """Note every call of a method of the object `owner` as `stage`."""
        setattr(owner, name, self.timed(stage, getattr(owner, name)))

    def total(self, stage: str) -> float:
        """Of all its calls, seconds."""
        return sum(self.seconds[stage])


@dataclass(frozen=True)
class EpochTime:
    """What an epoch takes.

    Attributes:
        images, val_images: an epoch.
        training_s: stage -> seconds an epoch, of all but GradNorm's updates.
        gradnorm_s: of the updates, seconds an epoch; within the stages.
        validation_s: stage -> seconds.
        step_ms: every measured training step, loading included.
        loader_images_per_s: of the loader alone.
        peak_memory_mib: of the process, or on the GPU.
        gflops_per_s, matrix_gflops_per_s: achieved in forward and backward passes, and by the
            machine's matrix multiplication in the same number format.
    """

    images: int
    val_images: int
    training_s: Mapping[str, float]
    gradnorm_s: float
    validation_s: Mapping[str, float]
    step_ms: Sequence[float]
    loader_images_per_s: float
    peak_memory_mib: float
    gflops_per_s: float
    matrix_gflops_per_s: float

    @property
    def epoch_s(self) -> float:
        return sum(self.training_s.values()) + sum(self.validation_s.values())

    @property
    def validation_rest(self) -> float:
        """The share of the epoch that validation takes beside its forward passes."""
        rest_s = sum(self.validation_s.values()) - self.validation_s["validation forward"]
        return rest_s / self.epoch_s

    @property
    def images_per_s(self) -> float:
        """Of training, loading included."""
        return self.images / sum(self.training_s.values())

    def rows(self) -> list[dict[str, object]]:
        """A stage a row: images a second, seconds and share of the epoch."""
        stages = [(stage, s, self.images) for stage, s in self.training_s.items()]
        stages.insert(-1, ("of these GradNorm", self.gradnorm_s, self.images))
        stages += [(stage, s, self.val_images) for stage, s in self.validation_s.items()]
        rows = []
        for stage, seconds, images in stages:
            rate = None
            if seconds:
                rate = images / seconds
            share = seconds / self.epoch_s
            rows.append({"stage": stage, "images_per_s": rate, "epoch_s": seconds, "share": share})
        return rows


def epoch_ratio(a: EpochTime, b: EpochTime, block: int) -> dict[str, float]:
    """a's epoch over b's, whose steps took turns: median over blocks of steps, and quartiles."""
    ratios = _epochs_by_block_s(a, block) / _epochs_by_block_s(b, block)
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return {
        "median": float(middle),
        "quartile_1": float(low),
        "quartile_3": float(high),
        "blocks": len(ratios),
    }


def _epochs_by_block_s(epoch: EpochTime, block: int) -> np.ndarray:
    """Seconds of an epoch, one value a block: as if all its steps took as long as the block's."""
    blocks = len(epoch.step_ms) // block
    block_s = np.reshape(epoch.step_ms[: blocks * block], (blocks, block)).sum(axis=1) / 1000
    training_s = sum(epoch.training_s.values())
    validation_s = sum(epoch.validation_s.values())
    return block_s * training_s / np.median(block_s) + validation_s


def matrix_gflops_per_s(compute: Compute) -> float:
    """10^9 operations a second of a multiplication of two square matrices, the best of a few."""
    side = MATRIX_SIDES[compute.device.type]
    a, b = (torch.randn(side, side, device=compute.device, dtype=compute.dtype) for _ in range(2))
    watch = Stopwatch(compute.device)
    multiply = watch.timed("multiply", torch.mm)
    for _ in range(MATRIX_CALLS):
        multiply(a, b)
    return 2 * side**3 / min(watch.seconds["multiply"]) / 1e9


def plot_epochs(epochs: Mapping[str, EpochTime], path: Path) -> None:
    """A bar a configuration, of the seconds that every stage takes of an epoch."""
    names = list(epochs)
    with new_figure(path, 9, 1.6 + 0.8 * len(names)) as figure:
        ax = figure.subplots()
        left = np.zeros(len(names))
        for stage, colour in zip((*TRAINING_STAGES, *VALIDATION_STAGES), COLOURS, strict=True):
            width = np.array(
                [(dict(e.training_s) | dict(e.validation_s))[stage] for e in epochs.values()]
            )
            ax.barh(
                names, width, left=left, color=colour, label=stage, edgecolor="white", linewidth=0.6
            )
            left += width
        for position, epoch in enumerate(epochs.values()):
            text = f" {epoch.epoch_s:.1f} s, {epoch.images_per_s:.0f} images/s"
            ax.text(left[position], position, text, va="center", fontsize=9, color=GREY)
        ax.set_xlim(0, left.max() * 1.28)
        ax.invert_yaxis()
        ax.grid(axis="x")
        ax.grid(visible=False, axis="y")
        ax.set_xlabel("seconds of an epoch")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def count_gflops(model: nn.Module, image_size: int) -> float:
    """10^9 floating-point operations of a forward pass of one image.

    A multiplication with its addition is two.
    """
    parameter = next(model.parameters())
    image = torch.zeros(
        1, 3, image_size, image_size, device=parameter.device, dtype=parameter.dtype
    )
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        model(image)
    return counter.get_total_flops() / 1e9


@torch.inference_mode()
def measure_latency_ms(
    models: Mapping[str, nn.Module], image_size: int, compute: Compute
) -> dict[str, float]:
    """Name -> median duration of a forward pass of one image, its boxes decoded.

    Non-maximum suppression is not in it. The models take turns, so that whatever else the machine
    does slows all of them alike.
    """
    image = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8)
    times: dict[str, list[float]] = {name: [] for name in models}
    for call in range(LATENCY_WARM_UP + LATENCY_CALLS):
        for name, model in models.items():
            _wait(compute)
            start = time.perf_counter()
            with compute.autocast():
                outputs = model(compute.images(image))
            if "detect" in outputs:
                model.decode(outputs["detect"])
            _wait(compute)
            if call >= LATENCY_WARM_UP:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def _wait(compute: Compute) -> None:
    if compute.device.type == "cuda":
        torch.cuda.synchronize()
