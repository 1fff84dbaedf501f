"""The training loop. Every training script builds a `Job` and hands it to `train`.

`Trainer.run_epoch` is an epoch, `Trainer.step` a batch. What they use:

- `Setup` (setup.py): what is trained, on the device
- `Learner` (learner.py): an optimiser with its schedule and moving averages
- `GradientProbe` (gradient_probe.py): the backward pass, and what is measured in it
- `RunRecords` (utils/loggers/records.py): the tables
- validation.py, state.py, finish.py: an evaluation, the checkpoints, the end of a run
"""

from __future__ import annotations

import contextlib
import datetime
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from models.gradnorm import TaskGradients
from utils.core import distributed
from utils.core.lock import remove_temporaries
from utils.core.script import LOGGER, UserError
from utils.core.signals import (
    Interrupted,
    StopSignals,
    signals_held_back,
    stop_if_asked,
    unwound_by_signals,
)
from utils.data.loader import Batch
from utils.evaluation.evaluate import on_device
from utils.loggers.records import (
    TIME_COLUMNS,
    RunRecords,
    loss_cells,
    rate_columns,
)
from utils.losses.joint import (
    LOSS_READ_INTERVAL,
    LossMeter,
    averaged_losses,
    loss_counts,
    task_losses,
)
from utils.training.finish import finish
from utils.training.gradient_probe import (
    GradientPlan,
    GradientProbe,
    UsualBatch,
    interference_rows,
)
from utils.training.learner import Learner, describe_best
from utils.training.setup import Job, Setup
from utils.training.state import keep_best, restore, save
from utils.training.validation import validate

StepCallback = Callable[["Trainer", int, int, Batch], None]


def train(job: Job, on_step: StepCallback | None = None) -> dict[str, object]:
    """Train, validate every epoch, write the run folder, which then is free.

    Args:
        on_step: see `Trainer`.

    Returns:
        The content of summary.json.
    """
    try:
        # A command's run, too, which builds the job within it; a second end does nothing.
        with unwound_by_signals(), job.run:
            return Trainer(job, on_step).fit()
    finally:
        distributed.leave()


class Trainer(Setup):
    """The loop over epochs and batches.

    Args:
        on_step: called after every step with the trainer, the epoch, the batch's index in it and
            the batch.
    """

    def __init__(self, job: Job, on_step: StepCallback | None = None):
        super().__init__(job)
        self.on_step = on_step
        self.part_names = [part.name for part in job.parts]
        labels = job.frames.train.split.labels
        self.probe = GradientProbe(
            job.balancer,
            self.model,
            UsualBatch.of(labels, self.options.batch_size),
            job.diagnose_interval,
        )
        self.records = RunRecords(
            job.run.folder,
            self.part_names,
            self.options.epochs,
            self.options.tensorboard,
            job.run.confirm,
        )
        self.signals = StopSignals()  # of an epoch of several processes, see `_stopping_together`
        self.is_stopping = False
        self.start_time = time.time()
        if job.run.resume:
            restore(self, job.run.resume)

    # ---- a run -----------------------------------------------------------------------------------

    def fit(self) -> dict[str, object]:
        """All epochs, then the end of the run; returns the content of summary.json."""
        self.open_folder()
        self.start_time = time.time()
        epoch = self.first_epoch - 1
        try:
            while epoch + 1 < self.options.epochs and not self.is_out_of_patience(epoch):
                epoch += 1
                self.run_epoch(epoch)
            return finish(self, self.records, epoch, self.start_time)
        except (UserError, OSError):  # an image that cannot be read any more, a full disk
            hint = f"once the error below is fixed, resume with --resume {self.last_path}"
            LOGGER.info(f"stopped in epoch {epoch + 1}; {hint}")
            raise

    def open_folder(self) -> None:
        """Make the run folder ready.

        A new run writes a first checkpoint, so that it can be resumed if its first epoch fails.
        """
        batches = len(self.train_loader)
        if distributed.is_main():
            self.last_path.parent.mkdir(parents=True, exist_ok=True)
            remove_temporaries(self.job.run.folder)
        self.records.progress("training", self.first_epoch)
        if self.job.run.resume:
            self.records.cut_back(self.first_epoch, batches)
        else:
            self.records.begin(batches, {"opt": self.options, "hyp": self.job.run.hyp})
            save(self, epoch=-1, is_best=False)

    def is_out_of_patience(self, epoch: int) -> bool:
        """Whether no part can be expected to get better after `epoch`."""
        patience = self.job.run.hyp.patience
        if patience <= 0:
            return False
        if not all(learner.has_settled(epoch, patience) for learner in self.learners):
            return False
        best = describe_best(self.learners)
        LOGGER.info(f"nothing better to expect after {patience} epochs of patience ({best})")
        return True

    # ---- an epoch --------------------------------------------------------------------------------

    def run_epoch(self, epoch: int) -> None:
        """Train on every batch, validate, record, save."""
        start = time.time()
        losses = self._train_batches(epoch)
        trained = time.time()
        row = {"epoch": epoch} | loss_cells("train", losses)
        improved: list[str] = []
        if not self.options.noval or epoch == self.options.epochs - 1:
            row |= validate(self, epoch)
            improved = keep_best(self, epoch)
            row |= self._fitness_cells(improved)
        row |= self._weight_and_rate_cells(epoch)
        row |= zip(TIME_COLUMNS, (trained - start, time.time() - trained), strict=True)
        self.records.epoch(row)
        save(self, epoch, is_best=bool(improved))

    def active_learners(self, epoch: int) -> list[Learner]:
        """Those whose parts train in an epoch; the others are idle."""
        return [learner for learner in self.learners if learner.trains(epoch)]

    def _train_batches(self, epoch: int) -> dict[str, float]:
        """All batches of an epoch -> mean losses by name."""
        self.criterion.train()
        for learner in self.learners:
            learner.module.train(learner.trains(epoch))
        self.sampler.set_epoch(epoch)
        interval = LOSS_READ_INTERVAL
        if self.compute.device.type == "cpu":
            interval = 1
        meter = LossMeter(interval)
        batches = len(self.train_loader)
        self.records.progress("training", epoch)
        with self._stopping_together(), self._progress_bar(epoch) as bar:
            for index, batch in enumerate(bar):
                self.step(epoch, index, batch, meter)
                if self.on_step:
                    self.on_step(self, epoch, index, batch)
                bar.set_postfix_str(self._status(epoch, index, meter), refresh=False)
                self.records.progress("training", epoch, batch=index, batches=batches)
                self._stop_if_asked()
        meter.read()
        self.job.balancer.end_epoch()
        return meter.means()

    def _progress_bar(self, epoch: int) -> tqdm:
        return tqdm(
            self.train_loader,
            f"epoch {epoch + 1}/{self.options.epochs}",
            unit="batch",
            mininterval=0.5,
            dynamic_ncols=True,
            disable=not distributed.is_main(),
        )

    def _status(self, epoch: int, index: int, meter: LossMeter) -> str:
        """Beside the progress bar: losses, the tasks' weights where they matter, time left."""
        text = " ".join(f"{name} {value:.4f}" for name, value in meter.last.items())
        if len(self.learners) == 1:
            weights = self.job.balancer.weights.values()
            text += f" | weights {'/'.join(f'{weight:.3f}' for weight in weights)}"
        batches = len(self.train_loader)
        done = (epoch - self.first_epoch) * batches + index + 1
        total = (self.options.epochs - self.first_epoch) * batches
        left_s = (time.time() - self.start_time) / done * (total - done)
        return f"{text} | left {datetime.timedelta(seconds=round(left_s))}"

    @contextlib.contextmanager
    def _stopping_together(self) -> Iterator[None]:
        """Within the context several processes hear of a signal to one of them.

        They do so in `_count_over_processes`. All stop after the same batch then; none is left
        waiting for what another sends.
        """
        if distributed.world_size() == 1:
            yield
            return
        with signals_held_back() as self.signals:
            yield

    def _stop_if_asked(self) -> None:
        if distributed.world_size() == 1:
            stop_if_asked()
        elif self.is_stopping:
            raise Interrupted.by(self.signals.received or signal.SIGTERM)

    def _fitness_cells(self, improved: list[str]) -> dict[str, object]:
        """Which parts are at their best, and of several parts each one's fitness."""
        cells: dict[str, object] = {"best": " ".join(improved)}
        if len(self.learners) > 1:
            for learner in self.learners:
                cells[f"metrics/{learner.part.name}_fitness"] = learner.fitness
        return cells

    def _weight_and_rate_cells(self, epoch: int) -> dict[str, float]:
        """The tasks' weights, and the learning rates of the parts that train."""
        weights = self.job.balancer.weights
        cells = {f"weight/{task}": weight for task, weight in weights.items()}
        for learner in self.active_learners(epoch):
            columns = rate_columns(learner.part.name, self.part_names)
            cells |= zip(columns, learner.stepper.learning_rates, strict=True)
        return cells

    # ---- a step ----------------------------------------------------------------------------------

    def step(self, epoch: int, index: int, batch: Batch, meter: LossMeter) -> None:
        """One batch: forward, losses, backward, the balancer's update, optimisers.

        The losses are weighted with the weights that earlier batches led to; an update is for the
        next batch. What is to be measured of the gradients is decided before the forward pass.
        """
        learners = self._begin_step(epoch, index)
        totals, rank_weights = self._count_over_processes(batch)
        plan = self.probe.plan(self._step_number(epoch, index), totals)
        losses = self.losses(learners, batch, plan, rank_weights)
        averaged = averaged_losses(losses)
        meter.add(index, averaged, batch["paths"])
        gradients = self.probe.backward(learners, task_losses(losses), plan, totals)
        self._observe(epoch, index, task_losses(averaged), plan, gradients)
        for learner in learners:
            learner.step(epoch, index)
        if self.job.balancer.looks_again:
            self._look_again(learners, batch, plan, rank_weights)

    def _step_number(self, epoch: int, index: int) -> int:
        return epoch * len(self.train_loader) + index

    def _begin_step(self, epoch: int, index: int) -> list[Learner]:
        """The parts that train, their learning rates set."""
        learners = self.active_learners(epoch)
        for learner in learners:
            learner.begin(epoch, index)
        return learners

    def _count_over_processes(self, batch: Batch) -> tuple[dict[str, float], dict[str, float]]:
        """What a batch holds over all processes, and this process's weight in each mean.

        The same exchange tells all processes whether one of them has got a signal to stop.
        """
        counts = loss_counts(batch) | {"stop": self.signals.received is not None}
        totals = distributed.totals(counts)
        self.is_stopping = totals["stop"] > 0
        return totals, distributed.rank_weights(counts, totals)

    def losses(
        self,
        learners: Sequence[Learner],
        batch: Batch,
        plan: GradientPlan,
        rank_weights: Mapping[str, float],
    ) -> dict[str, Tensor]:
        """The named losses of the parts that train."""
        outputs = self.forward(learners, batch["images"], plan)
        return self.criterion(outputs, on_device(batch, self.compute.device), rank_weights)

    def forward(
        self, learners: Sequence[Learner], images_uint8: Tensor, plan: GradientPlan
    ) -> dict[str, object]:
        """The outputs of the parts that train; the batch is moved once for all of them."""
        outputs: dict[str, object] = {}
        with self.compute.autocast():
            images = self.compute.images(images_uint8)
            for learner in learners:
                outputs |= learner.forward(images, **plan.forward_options)
        return outputs

    @torch.no_grad()
    def _look_again(
        self,
        learners: Sequence[Learner],
        batch: Batch,
        plan: GradientPlan,
        rank_weights: Mapping[str, float],
    ) -> None:
        """Show the balancer the batch's losses after the step."""
        losses = self.losses(learners, batch, replace(plan, taps=None), rank_weights)
        self.job.balancer.look_again(task_losses(losses))

    def _observe(
        self,
        epoch: int,
        index: int,
        losses: Mapping[str, Tensor],
        plan: GradientPlan,
        gradients: Mapping[str, TaskGradients],
    ) -> None:
        """Let the balancer see the batch; record what it did and what was measured."""
        balancer = self.job.balancer
        now = {"step": self._step_number(epoch, index), "epoch": epoch, "batch": index}
        weights = dict(balancer.weights)
        wanted = gradients.get(plan.wanted_at)
        update = balancer.observe(losses, wanted, plan.labelled, plan.full)
        if update:
            total = sum(weights[task] * loss.item() for task, loss in losses.items())
            self.records.update(now | {"loss/total": total} | update)
        if plan.diagnosed:
            self.records.interference(now | row for row in interference_rows(gradients))
