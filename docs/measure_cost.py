"""What GradNorm and the precision cost: training steps of several variants, interleaved in one process.

    python -m docs.measure_cost --data path/to/data.yaml
    python -m docs.measure_cost --steps 60            # on the phantom

Every round takes the same batch through every variant, so that a machine that slows down slows them all. A block is
ten rounds, one GradNorm interval. Printed is the median over the blocks of a variant's time relative to the
reference's in the same block, with the quartiles. `--only VARIANT` runs one alone and prints its peak memory, which
only a process of its own can tell.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator

import numpy as np

import train_joint_gradnorm
from models.yolo import YOLOv5WithClassification
from utils.engine import LossReader, Trainer, peak_memory_mib
from utils.general import LOGGER, UserError, run_script
from utils.runs import start_run

BLOCK = 10
VARIANTS = {
    "fixed weights": {"balancer": "fixed"},
    "GradNorm, interval 10": {"gradnorm_interval": 10},
    "GradNorm, interval 1": {"gradnorm_interval": 1},
    "GradNorm, interval 10, --amp off": {"gradnorm_interval": 10, "amp": "off"},
}
RATIOS = (
    ("GradNorm, interval 10", "fixed weights"),
    ("GradNorm, interval 1", "fixed weights"),
    ("GradNorm, interval 10", "GradNorm, interval 10, --amp off"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/echo_phantom.yaml", help="data.yaml (default: the phantom)")
    parser.add_argument("--steps", type=int, default=200, help="of every variant, after ten to warm up (default: 200)")
    parser.add_argument("--device", default="auto", help="auto, cpu, or a CUDA device's number (default: auto)")
    parser.add_argument("--only", choices=VARIANTS, help="run one variant and print its peak memory")
    args = parser.parse_args()
    if args.steps < BLOCK:
        raise UserError(f"--steps is {args.steps}, expected at least {BLOCK}")
    names = [args.only] if args.only else list(VARIANTS)
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: build_trainer(args.data, args.device, folder, VARIANTS[name]) for name in names}
        seconds = {name: [] for name in names}
        batches = endless_batches(next(iter(trainers.values())))
        for step in range(args.steps + BLOCK):
            epoch, index, batch = next(batches)
            for name, trainer in trainers.items():
                elapsed_s = timed_step(trainer, epoch, index, batch)
                if step >= BLOCK:
                    seconds[name].append(elapsed_s)
    device = next(iter(trainers.values())).precision.device
    report({name: np.array(times) for name, times in seconds.items()}, peak_memory_mib(device), args.only)


def build_trainer(data: str, device: str, folder: str, changes: dict[str, object]) -> Trainer:
    """A trainer of the joint model at the script's defaults, with `changes`."""
    given = {"data": data, "device": device, "project": folder, "epochs": 20, **changes}
    trainer = Trainer(train_joint_gradnorm.build_job(start_run(given, YOLOv5WithClassification.kind)))
    trainer.job.run.folder.mkdir(parents=True, exist_ok=True)
    trainer.model.train()
    return trainer


def endless_batches(trainer: Trainer) -> Iterator[tuple[int, int, dict]]:
    """Epoch, index and batch, over and over, full batches only."""
    for epoch in itertools.count():
        trainer.sampler.set_epoch(epoch)
        for index, batch in enumerate(trainer.train_loader):
            if len(batch["paths"]) == trainer.options.batch_size:
                yield epoch, index, batch


def timed_step(trainer: Trainer, epoch: int, index: int, batch: dict) -> float:
    """Seconds of one training step, with everything it waits for."""
    start = time.perf_counter()
    reader = LossReader(1)  # reads the loss, so that the device has finished
    trainer._step(epoch, index, batch, reader)
    return time.perf_counter() - start


def report(seconds: dict[str, np.ndarray], memory_mib: float, only: str | None) -> None:
    """Print medians and ratios."""
    blocks = {name: times[: len(times) // BLOCK * BLOCK].reshape(-1, BLOCK).sum(1) for name, times in seconds.items()}
    for name, times in blocks.items():
        LOGGER.info(f"{name:<34} {np.median(times) / BLOCK * 1000:8.1f} ms a step")
    for name, reference in RATIOS:
        if name in blocks and reference in blocks:
            low, middle, high = np.percentile(blocks[name] / blocks[reference], (25, 50, 75))
            spread = f"quartiles {low:.4f} to {high:.4f}; {len(blocks[name])} blocks"
            LOGGER.info(f"{name} / {reference}: {middle:.4f} ({spread})")
    if only:
        LOGGER.info(f"peak memory {memory_mib:.0f} MiB")


if __name__ == "__main__":
    run_script(main)
