"""Where does my epoch go? Time of every stage of a training, its share of an epoch, memory, and achieved FLOP/s.

python benchmark.py --data path/to/data.yaml                                     # options as in train_joint_gradnorm.py
python benchmark.py --data path/to/data.yaml --against "--amp off --cache off"   # and a second training, in turns
python benchmark.py --size n --imgsz 160 --against=--rect --steps 100

Steps of both trainings alternate in blocks of ten, one interval of GradNorm, so that whatever else
the machine does slows both; the ratio printed is the median over blocks. The weights are thrown
away. On CUDA every stage is waited for, so their sum is more than an epoch in which they overlap;
peak memory is the process's, so of both trainings.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import shlex
import statistics
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

import train_joint_gradnorm
from models.yolo import YOLOv5WithClassification
from utils.commands.train_joint_gradnorm import build_job
from utils.core import distributed
from utils.core.device import fused_copy, peak_memory_mib
from utils.core.files import markdown_table, write_json
from utils.core.lock import claim_run_folder
from utils.core.options import JointOptions, filled, warn_without_effect
from utils.core.script import LOGGER, UserError, run_script
from utils.data.boxes import non_max_suppression
from utils.evaluation.evaluate import evaluate
from utils.evaluation.metrics import summarise
from utils.losses.joint import LossReader
from utils.training.run import start_run
from utils.training.timing import (
    TRAINING_STAGES,
    VALIDATION_STAGES,
    EpochTime,
    Stopwatch,
    count_gflops,
    epoch_ratio,
    matrix_gflops_per_s,
    plot_epochs,
    time_calls,
)
from utils.training.trainer import Trainer

BLOCK = 10  # steps
WITHOUT_EFFECT = ("exist_ok", "save_period", "noval", "patience", "tensorboard")
BACKWARD_FLOPS = 2  # of the forward pass'


class Measured:
    """A training whose stages are timed."""

    def __init__(self, given: Mapping[str, object], project: str):
        place = {"project": project, "name": "benchmark", "exist_ok": False}
        run = start_run({**given, **place}, YOLOv5WithClassification.kind, JointOptions)
        self.trainer = Trainer(build_job(run))
        self.trainer.model.train()
        self.watch = Stopwatch(self.trainer.precision.device)
        self.updates: list[bool] = []  # whether GradNorm wanted a step's gradients
        self._time_stages()
        self._batches = self._endless_batches()

    def _time_stages(self) -> None:
        trainer, watch = self.trainer, self.watch
        trainer._forward = watch.timed("forward", trainer._forward)
        trainer._backward = watch.timed("backward", trainer._backward)
        time_calls(trainer.criterion, watch, "losses")
        for learner in trainer.learners:
            learner.step = watch.timed("step", learner.step)
        trainer._step = watch.timed("whole step", trainer._step)
        plan = trainer._plan

        def noted(step: int, labelled: bool) -> object:
            planned = plan(step, labelled)
            self.updates.append(planned.wanted_at is not None)
            return planned

        trainer._plan = noted

    def _endless_batches(self) -> Iterator[tuple[int, int, dict]]:
        """Epoch, index and batch, over and over, full batches only."""
        size = self.trainer.options.batch_size
        if distributed.world_size() > 1 or len(self.trainer.job.frames.train) < size:
            raise UserError(
                f"the benchmark needs one process and {size} training frames; lower --batch-size"
            )
        for epoch in itertools.cycle(range(self.trainer.options.epochs)):
            self.trainer.sampler.set_epoch(epoch)
            for index, batch in enumerate(self.trainer.train_loader):
                if len(batch["paths"]) == size:
                    yield epoch, index, batch

    def steps(self, count: int) -> None:
        """Train so many steps."""
        load = self.watch.timed("load", lambda: next(self._batches))
        for _ in range(count):
            epoch, index, batch = load()
            self.trainer._step(epoch, index, batch, LossReader(1))

    def forget(self) -> None:
        """Of the steps so far, which warmed up."""
        self.watch.seconds.clear()
        self.updates.clear()

    def epoch_time(self) -> EpochTime:
        """What the measured steps make of an epoch, and a validation."""
        trainer, seconds = self.trainer, self.watch.seconds
        batches = len(trainer.train_loader)
        training = {
            stage: statistics.mean(seconds[stage]) * batches for stage in TRAINING_STAGES[:-1]
        }
        whole = statistics.mean(seconds["whole step"]) * batches
        training["other"] = whole + training["load"] - sum(training.values())
        steps = [
            load + step for load, step in zip(seconds["load"], seconds["whole step"], strict=True)
        ]
        height, width = trainer.job.frames.train.shape
        flops = (
            count_gflops(trainer.average, trainer.options.imgsz)
            * height
            * width
            / trainer.options.imgsz**2
        )
        flops *= trainer.options.batch_size
        computing = statistics.mean(seconds["forward"]) + statistics.mean(seconds["backward"])
        return EpochTime(
            images=len(trainer.job.frames.train),
            val_images=len(trainer.job.frames.val),
            training_s=training,
            gradnorm_s=self._gradnorm_s(seconds["whole step"]),
            validation_s=self._validation_s(),
            step_ms=[step * 1000 for step in steps],
            loader_images_per_s=self._loader_images_per_s(),
            peak_memory_mib=peak_memory_mib(trainer.precision.device),
            gflops_per_s=flops * (1 + BACKWARD_FLOPS) / computing,
            matrix_gflops_per_s=matrix_gflops_per_s(trainer.precision),
        )

    def _gradnorm_s(self, steps_s: list[float]) -> float:
        """Seconds an epoch: what steps with an update take longer than the others, in the median."""
        times = {
            wanted: [s for s, w in zip(steps_s, self.updates, strict=True) if w is wanted]
            for wanted in (True, False)
        }
        if not all(times.values()):
            return 0.0
        longer = statistics.median(times[True]) - statistics.median(times[False])
        return max(longer, 0.0) * len(times[True]) / len(steps_s) * len(self.trainer.train_loader)

    def _validation_s(self) -> dict[str, float]:
        trainer, data, watch = self.trainer, self.trainer.job.frames.data, self.watch
        watch.seconds.clear()
        model = fused_copy(trainer.average)
        decode, suppress = model.decode, watch.timed("nms", non_max_suppression)

        def decode_and_suppress(maps: list[torch.Tensor]) -> torch.Tensor:
            decoded = decode(maps)
            suppress(
                decoded, confidence=0.001, iou=0.6, several_labels=True
            )  # as evaluate is about to do
            return decoded

        model.decode = decode_and_suppress
        time_calls(model, watch, "forward")
        arguments = (model, trainer.val_loader, trainer.precision, data, trainer.criterion)
        results, _ = watch.timed("evaluate", evaluate)(*arguments)
        names = (data.names, data.view_names)
        watch.timed("coco", summarise)(
            results, *names, view_prior=trainer.prior, intervals=False, tasks=trainer.tasks
        )
        watch.timed("load", deque)(trainer.val_loader, maxlen=0)
        load, forward, nms = (watch.total(stage) for stage in ("load", "forward", "nms"))
        rest = watch.total("evaluate") - load - forward - 2 * nms
        return dict(
            zip(VALIDATION_STAGES, (load, forward, nms, watch.total("coco"), rest), strict=True)
        )

    def _loader_images_per_s(self) -> float:
        self.trainer.sampler.set_epoch(0)
        watch = Stopwatch(torch.device("cpu"))
        batches = watch.timed("load", list)(itertools.islice(self.trainer.train_loader, 4 * BLOCK))
        return sum(len(batch["paths"]) for batch in batches) / watch.total("load")


def main() -> None:
    args, configurations = read_arguments()
    with claim_run_folder(args.project, args.name) as claimed:
        measure(args, configurations, claimed.folder)


def measure(args: argparse.Namespace, configurations: Mapping[str, Mapping], results: Path) -> None:
    """Train in turns, and write into the folder `results` where the time went."""
    with tempfile.TemporaryDirectory() as folder:
        measured = {name: Measured(given, folder) for name, given in configurations.items()}
        for one in measured.values():
            one.steps(BLOCK)
            one.forget()
        for _ in range(args.steps // BLOCK):
            for one in measured.values():
                one.steps(BLOCK)
        epochs = {name: one.epoch_time() for name, one in measured.items()}
    content = {
        name: dataclasses.asdict(epoch) | {"epoch_s": epoch.epoch_s}
        for name, epoch in epochs.items()
    }
    for name, epoch in epochs.items():
        LOGGER.info(f"\n{name}: {measured[name].trainer.precision}\n{describe(epoch)}")
    if len(epochs) > 1:
        content["epoch_ratio"] = ratio = epoch_ratio(*epochs.values(), BLOCK)
        spread = f"quartiles {ratio['quartile_1']:.3f} to {ratio['quartile_3']:.3f} of {ratio['blocks']} blocks"
        LOGGER.info(f"\nwhole epoch, {' over '.join(epochs)}: {ratio['median']:.3f} ({spread})")
    write_json(results / "benchmark.json", content)
    plot_epochs(epochs, results / "benchmark.png")
    LOGGER.info(f"everything is in {results}")


def build_parser() -> argparse.ArgumentParser:
    """The benchmark's own options, beside those of a joint training."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--steps", type=int, default=60, help="to measure, a multiple of 10 (default: 60)"
    )
    parser.add_argument(
        "--against",
        type=filled,
        metavar='"OPTIONS"',
        help="measure a second training, with these too",
    )
    parser.add_argument(
        "--project", default="runs/benchmark", help="folder of results (default: runs/benchmark)"
    )
    parser.add_argument("--name", default="exp", help="name of the result folder (default: exp)")
    return parser


def read_arguments() -> tuple[argparse.Namespace, dict[str, dict[str, object]]]:
    """The benchmark's own arguments, and the options of each training, by name."""
    args, options = build_parser().parse_known_args()
    if args.steps < BLOCK or args.steps % BLOCK:
        raise UserError(
            f"--steps is {args.steps}, expected a multiple of {BLOCK}, such as {6 * BLOCK}"
        )
    training = train_joint_gradnorm.build_parser("a training's options")
    configurations = {"as asked": vars(training.parse_args(options))}
    if args.against:
        configurations[args.against] = vars(
            training.parse_args([*options, *shlex.split(args.against)])
        )
    for given in configurations.values():
        if "resume" in given:
            raise UserError(
                "--resume: the benchmark trains anew and throws the weights away; leave it out"
            )
        warn_without_effect(
            given, dict.fromkeys(WITHOUT_EFFECT, "the benchmark, which trains for --steps only")
        )
    return args, configurations


def describe(epoch: EpochTime) -> str:
    """A table of the stages, and the figures beside it."""
    rows = [
        (
            row["stage"],
            f"{row['images_per_s']:.0f}" if row["images_per_s"] else "-",
            f"{row['epoch_s']:.2f}",
            f"{row['share']:.1%}",
        )
        for row in epoch.rows()
    ]
    table = markdown_table(("stage", "images/s", "seconds an epoch", "share"), rows, numeric=True)
    return (
        f"{table}\nepoch {epoch.epoch_s:.1f} s; training {epoch.images_per_s:.1f} images/s; "
        f"loader alone {epoch.loader_images_per_s:.0f}; peak memory {epoch.peak_memory_mib:.0f} MiB; "
        f"{epoch.gflops_per_s:.0f} GFLOP/s, matrices {epoch.matrix_gflops_per_s:.0f}"
    )


if __name__ == "__main__":
    run_script(main)
