"""What benchmark.py does: trainings in turns, and the time of their stages."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from models.yolo import YOLOv5WithClassification
from utils.commands.train_joint_gradnorm import build_job
from utils.core import distributed
from utils.core.device import fused_copy, peak_memory_mib
from utils.core.files import markdown_table, write_json
from utils.core.lock import claim_run_folder
from utils.core.names import BENCHMARK_BLOCK
from utils.core.options import JointOptions
from utils.core.script import LOGGER, UserError
from utils.data.boxes import non_max_suppression
from utils.evaluation.evaluate import evaluate
from utils.losses.joint import LossMeter
from utils.training.gradient_probe import GradientPlan
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
)
from utils.training.trainer import Trainer
from utils.training.validation import summarise_results

BACKWARD_FLOPS = 2  # of the forward pass'


def run(args: argparse.Namespace) -> None:
    with claim_run_folder(args.project, args.name) as claimed:
        measure(args, args.configurations, claimed.folder)


def measure(args: argparse.Namespace, configurations: Mapping[str, Mapping], results: Path) -> None:
    """Train in turns, and write into the folder `results` where the time went."""
    with tempfile.TemporaryDirectory() as folder:
        measured = {name: Measured(given, folder) for name, given in configurations.items()}
        for one in measured.values():
            one.steps(BENCHMARK_BLOCK)
            one.forget()
        for _ in range(args.steps // BENCHMARK_BLOCK):
            for one in measured.values():
                one.steps(BENCHMARK_BLOCK)
        epochs = {name: one.epoch_time() for name, one in measured.items()}
    content = {}
    for name, epoch in epochs.items():
        content[name] = dataclasses.asdict(epoch) | {"epoch_s": epoch.epoch_s}
        LOGGER.info(f"\n{name}: {measured[name].trainer.compute}\n{describe(epoch)}")
    if len(epochs) > 1:
        ratio = epoch_ratio(*epochs.values(), BENCHMARK_BLOCK)
        content["epoch_ratio"] = ratio
        quartiles = f"{ratio['quartile_1']:.3f} to {ratio['quartile_3']:.3f}"
        spread = f"quartiles {quartiles} of {ratio['blocks']} blocks"
        LOGGER.info(f"\nwhole epoch, {' over '.join(epochs)}: {ratio['median']:.3f} ({spread})")
    write_json(results / "benchmark.json", content)
    plot_epochs(epochs, results / "benchmark.png")
    LOGGER.info(f"everything is in {results}")


class Measured:
    """A training whose stages are timed."""

    def __init__(self, given: Mapping[str, object], project: str):
        place = {"project": project, "name": "benchmark", "exist_ok": False}
        run = start_run({**given, **place}, YOLOv5WithClassification.kind, JointOptions)
        self.trainer = Trainer(build_job(run))
        self.trainer.model.train()
        self.watch = Stopwatch(self.trainer.compute.device)
        self.updates: list[bool] = []  # whether GradNorm wanted a step's gradients
        self._time_stages()
        self._batches = self._endless_batches()

    def _time_stages(self) -> None:
        trainer, watch = self.trainer, self.watch
        watch.time_method(trainer, "forward", "forward")
        watch.time_method(trainer.criterion, "forward", "losses")
        watch.time_method(trainer.probe, "backward", "backward")
        for learner in trainer.learners:
            watch.time_method(learner, "step", "step")
        watch.time_method(trainer, "step", "whole step")
        plan = trainer.probe.plan

        def plan_and_note(step: int, totals: Mapping[str, float]) -> GradientPlan:
            planned = plan(step, totals)
            self.updates.append(planned.wanted_at is not None)
            return planned

        trainer.probe.plan = plan_and_note

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
            self.trainer.step(epoch, index, batch, LossMeter(1))

    def forget(self) -> None:
        """Of the steps so far, which warmed up."""
        self.watch.seconds.clear()
        self.updates.clear()

    def epoch_time(self) -> EpochTime:
        """What the measured steps make of an epoch, and a validation."""
        trainer = self.trainer
        loads, steps = self.watch.seconds["load"], self.watch.seconds["whole step"]
        step_ms = [(load + step) * 1000 for load, step in zip(loads, steps, strict=True)]
        # Before the validation, whose stages the watch takes next.
        training_s = self._training_s()
        gradnorm_s = self._gradnorm_s(steps)
        gflops_per_s = self._gflops_per_s()
        return EpochTime(
            images=len(trainer.job.frames.train),
            val_images=len(trainer.job.frames.val),
            training_s=training_s,
            gradnorm_s=gradnorm_s,
            validation_s=self._validation_s(),
            step_ms=step_ms,
            loader_images_per_s=self._loader_images_per_s(),
            peak_memory_mib=peak_memory_mib(trainer.compute.device),
            gflops_per_s=gflops_per_s,
            matrix_gflops_per_s=matrix_gflops_per_s(trainer.compute),
        )

    def _training_s(self) -> dict[str, float]:
        """Stage -> seconds an epoch."""
        mean_s = {stage: statistics.mean(each) for stage, each in self.watch.seconds.items()}
        batches = len(self.trainer.train_loader)
        training = {stage: mean_s[stage] * batches for stage in TRAINING_STAGES[:-1]}
        whole = mean_s["whole step"] * batches
        training["other"] = whole + training["load"] - sum(training.values())
        return training

    def _gflops_per_s(self) -> float:
        """Achieved in forward and backward passes."""
        options, seconds = self.trainer.options, self.watch.seconds
        height, width = self.trainer.job.frames.train.shape
        frame_share = height * width / options.imgsz**2
        gflops = count_gflops(self.trainer.ema_model, options.imgsz) * frame_share
        computing_s = statistics.mean(seconds["forward"]) + statistics.mean(seconds["backward"])
        return gflops * options.batch_size * (1 + BACKWARD_FLOPS) / computing_s

    def _gradnorm_s(self, steps_s: list[float]) -> float:
        """Seconds an epoch: how much longer steps with an update take, in the median."""
        with_update: list[float] = []
        without: list[float] = []
        for step_s, is_update in zip(steps_s, self.updates, strict=True):
            if is_update:
                with_update.append(step_s)
            else:
                without.append(step_s)
        if not with_update or not without:
            return 0.0
        longer = statistics.median(with_update) - statistics.median(without)
        share = len(with_update) / len(steps_s)
        return max(longer, 0.0) * share * len(self.trainer.train_loader)

    def _validation_s(self) -> dict[str, float]:
        """Stage -> seconds of a validation."""
        trainer, watch = self.trainer, self.watch
        data = trainer.job.frames.data
        watch.seconds.clear()
        model = watch.timed("fuse", fused_copy)(trainer.ema_model)
        self._suppress_twice(model)
        watch.time_method(model, "forward", "forward")
        trainer.results, _ = watch.timed("evaluate", evaluate)(
            model, trainer.val_loader, trainer.compute, data, trainer.criterion
        )
        watch.timed("coco", summarise_results)(trainer, intervals=False)
        watch.timed("load", deque)(trainer.val_loader, maxlen=0)
        parts_s = {stage: watch.total(stage) for stage in ("load", "forward", "nms", "coco")}
        known_s = parts_s["load"] + parts_s["forward"] + 2 * parts_s["nms"]
        parts_s["other"] = watch.total("fuse") + watch.total("evaluate") - known_s
        return dict(zip(VALIDATION_STAGES, parts_s.values(), strict=True))

    def _suppress_twice(self, model: torch.nn.Module) -> None:
        """Time non-maximum suppression where `model` decodes; `evaluate` then does it once more."""
        decode = model.decode
        suppress = self.watch.timed("nms", non_max_suppression)

        def decode_and_suppress(maps: list[torch.Tensor]) -> torch.Tensor:
            decoded = decode(maps)
            suppress(decoded, confidence=0.001, iou=0.6, several_labels=True)
            return decoded

        model.decode = decode_and_suppress

    def _loader_images_per_s(self) -> float:
        self.trainer.sampler.set_epoch(0)
        watch = Stopwatch(torch.device("cpu"))
        batches = watch.timed("load", list)(
            itertools.islice(self.trainer.train_loader, 4 * BENCHMARK_BLOCK)
        )
        return sum(len(batch["paths"]) for batch in batches) / watch.total("load")


def describe(epoch: EpochTime) -> str:
    """A table of the stages, and the measurements beside it."""
    rows = []
    for row in epoch.rows():
        rate = "-"
        if row["images_per_s"]:
            rate = f"{row['images_per_s']:.0f}"
        rows.append((row["stage"], rate, f"{row['epoch_s']:.2f}", f"{row['share']:.1%}"))
    table = markdown_table(("stage", "images/s", "seconds an epoch", "share"), rows, numeric=True)
    return (
        f"{table}\nepoch {epoch.epoch_s:.1f} s; training {epoch.images_per_s:.1f} images/s; "
        f"loader alone {epoch.loader_images_per_s:.0f}; "
        f"validation but its forward passes {epoch.validation_rest:.2%} of the epoch; "
        f"peak memory {epoch.peak_memory_mib:.0f} MiB; "
        f"{epoch.gflops_per_s:.0f} GFLOP/s, matrices {epoch.matrix_gflops_per_s:.0f}"
    )
