"""The training loop and the evaluation loop. Every script builds a `Job` and hands it to `train`."""

from __future__ import annotations

import datetime
import platform
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from utils import checkpoint, distributed, plots
from utils.board import Board
from utils.boxes import non_max_suppression
from utils.config import DataConfig, to_mapping
from utils.dataloaders import EpochSampler, JointDataset, collate, make_loader
from utils.general import (
    LOGGER,
    TASKS,
    CsvLog,
    Interrupted,
    ProgressFile,
    StopSignals,
    UserError,
    write_atomically,
    write_json,
)
from utils.imbalance import sampling_weights
from utils.interference import FeatureTaps, TaskGradients, layer_gradients, weight_gradients
from utils.learner import Learner, Network
from utils.loss import DETECTION_LOSSES, JointLoss, loss_counts, task_losses
from utils.metrics import ImageResult, ViewPrior, summarise
from utils.model_card import model_card
from utils.runs import Frames, Run
from utils.tables import format_table
from utils.torch_utils import Precision, frozen_copy, fused_copy, tune_for, verified

LOSSES = (*DETECTION_LOSSES, "view")
RESULT_COLUMNS = (
    "epoch",
    *(f"train/{name}_loss" for name in LOSSES),
    "metrics/precision",
    "metrics/recall",
    "metrics/mAP_0.5",
    "metrics/mAP_0.5:0.95",
    "metrics/mAP_0.3",
    "metrics/view_accuracy",
    "metrics/view_balanced_accuracy",
    "metrics/view_macro_f1",
    "metrics/fitness",
    *(f"val/{name}_loss" for name in LOSSES),
    *(f"weight/{task}" for task in TASKS),
)
TIME_COLUMNS = ("time/epoch_s", "time/val_s")
GRADNORM_COLUMNS = (
    "step",
    "epoch",
    "batch",
    *(f"loss/{name}" for name in (*TASKS, "total")),
    *(f"{kind}/{task}" for kind in ("weight", "norm", "target", "rate") for task in TASKS),
    "cosine",
    "skipped_unlabelled",
    "skipped_nonfinite",
    "at_bound",
)
INTERFERENCE_COLUMNS = (
    *("step", "epoch", "batch", "place", "cosine", "magnitude_similarity"),
    *(f"norm/{task}" for task in TASKS),
)
PLACES = ("features", "weights")  # where a balancer may want the gradients
MOSAIC_FRAMES = 16
PRECISION_CHECK_FRAMES = 4
LOSS_READ_INTERVAL = 10  # batches between two reads of the losses on CUDA, so that the host never waits


class Balancer(Protocol):
    """What the loop needs of a loss weighting; see `models.balancers`."""

    place: str
    wants_gradients: bool
    combines_gradients: bool
    weights: dict[str, float]

    def combine(self, losses: Mapping[str, Tensor]) -> Tensor: ...
    def observe(
        self, losses: Mapping[str, Tensor], gradients: TaskGradients | None, labelled: bool
    ) -> dict[str, object] | None: ...
    def end_epoch(self) -> None: ...
    def state_dict(self) -> dict[str, object]: ...
    def load_state_dict(self, state: Mapping[str, object]) -> None: ...


@dataclass(frozen=True)
class Job:
    """Everything a training needs.

    Attributes:
        networks: the parts of `model` that have an optimiser each.
        balancer: weighs the tasks' losses. One that looks at gradients needs a single network, which both tasks share.
        diagnose_interval: batches between two measurements of the tasks' gradients, for interference.csv; 0: never.
    """

    run: Run
    frames: Frames
    model: nn.Module
    networks: tuple[Network, ...]
    criterion: JointLoss
    balancer: Balancer
    diagnose_interval: int = 0


@dataclass(frozen=True)
class GradientPlan:
    """What is to be known of the tasks' gradients in a batch.

    Attributes:
        labelled: some frame of it has a view, so that there are two tasks.
        wanted_at: the place where the balancer wants them, or None.
        diagnosed: they go to interference.csv.
        combined: the balancer makes one gradient of them.
    """

    labelled: bool
    wanted_at: str | None
    diagnosed: bool
    combined: bool

    @property
    def is_tapped(self) -> bool:
        return self.diagnosed or self.combined or self.wanted_at == "features"


def train(job: Job) -> dict[str, object]:
    """Train, validate every epoch, write the run folder; returns the content of summary.json."""
    try:
        return Trainer(job).fit()
    finally:
        distributed.leave()


class Trainer:
    """The state of a training between batches."""

    def __init__(self, job: Job):
        self.job, self.options = job, job.run.options
        self._make_loaders()
        self._place_model()
        self.learners = [
            Learner(network, self.model, self.average, self.precision, len(self.train_loader), self.options.batch_size)
            for network in job.networks
        ]
        frames = job.frames
        self.tasks = [task for task in TASKS if any(task in network.tasks for network in job.networks)]
        self.prior = ViewPrior.fit((labels.boxes[:, 0], labels.view) for labels in frames.train.split.labels)
        self.results_log = CsvLog(job.run.folder / "results.csv", result_columns(job.networks))
        self.gradnorm_log = CsvLog(job.run.folder / "gradnorm.csv", GRADNORM_COLUMNS)
        self.interference_log = CsvLog(job.run.folder / "interference.csv", INTERFERENCE_COLUMNS)
        self.board = Board(job.run.folder, self.options.tensorboard and distributed.is_main())
        self.progress = ProgressFile(job.run.folder / "progress.json")
        self.signals, self.is_stopping = StopSignals(), False
        self.first_epoch = 0
        self.best: dict[str, object] = {"model": {}, "confidence": None}
        self.metrics: dict[str, object] | None = None
        self.fingerprint = f"{frames.train.split.fingerprint()}-{frames.val.split.fingerprint()}"
        if job.run.resume:
            self._restore(job.run.resume)

    def _make_loaders(self) -> None:
        job, frames, options = self.job, self.job.frames, self.options
        weights = sampling_weights(job.run.hyp, frames.data, frames.train.split)
        self.sampler = EpochSampler(len(frames.train), options.seed, weights)
        size, workers, pin = options.batch_size, options.workers, job.run.precision.device.type == "cuda"
        self.train_loader = make_loader(frames.train, size, workers, pin, self.sampler, job.criterion.matcher)
        self.val_loader = make_loader(frames.val, size, workers, pin, match=job.criterion.matcher)

    def _place_model(self) -> None:
        """Model, moving average and losses on the device, in the precision that stands its check."""
        job, wanted = self.job, self.job.run.precision
        tune_for(wanted.device)
        model = job.model
        if self.options.sync_bn and distributed.world_size() > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model = wanted.place(model)
        self.average = frozen_copy(self.model)
        self.criterion = job.criterion.to(wanted.device)
        self.precision = self._checked(wanted)
        torch.manual_seed(self.options.seed + distributed.rank())  # dropout differs between the processes
        if self.options.compile:
            for network in job.networks:
                self.model.get_submodule(network.path).compile()

    def _checked(self, wanted: Precision) -> Precision:
        """`wanted` if it stands its check in every process, else float32; a resumed run has been through it."""
        if self.job.run.resume:
            fell_back = self.job.run.resume["precision"] == "float32" and wanted.dtype is not torch.float32
            return replace(wanted, dtype=torch.float32, reason="as it began") if fell_back else wanted
        frames = self.job.frames.val
        some = collate([frames[index] for index in range(min(PRECISION_CHECK_FRAMES, len(frames)))])
        found = distributed.gathered([verified(wanted, self.average, some["images"])])
        return next((each for each in found if each.dtype is torch.float32), wanted)

    @property
    def last_path(self) -> Path:
        return self.job.run.folder / "weights" / "last.pt"

    def fit(self) -> dict[str, object]:
        """All epochs, then the final evaluation and the pictures."""
        self._open_folder()
        self.start_time = time.time()
        epoch = self.first_epoch - 1
        try:
            with self.signals:
                while epoch + 1 < self.options.epochs and not self._out_of_patience(epoch):
                    epoch += 1
                    self._run_epoch(epoch)
                summary = self._finish(epoch)
        except (UserError, OSError):  # an image that cannot be read any more, a full disk
            hint = f"once the error below is mended, go on with --resume {self.last_path}"
            LOGGER.info(f"stopped in epoch {epoch + 1}; {hint}")
            raise
        self._note_progress(force=True, state="finished", epoch=epoch)
        return summary

    def _run_epoch(self, epoch: int) -> None:
        start = time.time()
        losses = self._train_epoch(epoch)
        trained = time.time()
        row = {"epoch": epoch, **{f"train/{name}_loss": value for name, value in losses.items()}}
        is_best = False
        if not self.options.noval or epoch == self.options.epochs - 1:
            row |= self._validate(epoch)
            is_best = self._keep_best(epoch)
            row |= {f"metrics/{ln.network.name}_fitness": ln.fitness for ln in self.learners if len(self.learners) > 1}
        row |= {f"weight/{task}": weight for task, weight in self.job.balancer.weights.items()}
        for learner in self._working(epoch):
            row |= zip(rate_columns(learner.network, self.job.networks), learner.stepper.learning_rates, strict=True)
        row |= zip(TIME_COLUMNS, (trained - start, time.time() - trained), strict=True)
        self._log(self.results_log, row)
        self._save(epoch, is_best)

    def _log(self, log: CsvLog, row: Mapping[str, object]) -> None:
        """Add a row, in the process that writes."""
        if distributed.is_main():
            log.append(row)
            self.board.row(row)

    def _note_progress(self, force: bool = False, **fields: object) -> None:
        if distributed.is_main():
            self.progress.update(force, epochs=self.options.epochs, **fields)

    def _working(self, epoch: int) -> list[Learner]:
        """The networks that train in an epoch; the others rest."""
        return [learner for learner in self.learners if learner.trains(epoch)]

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        self.criterion.train()
        for learner in self.learners:
            learner.module.train(learner.trains(epoch))
        self.sampler.set_epoch(epoch)
        reader = LossReader(1 if self.precision.device.type == "cpu" else LOSS_READ_INTERVAL)
        title = f"epoch {epoch + 1}/{self.options.epochs}"
        quiet = not distributed.is_main()
        with tqdm(self.train_loader, title, unit="batch", mininterval=0.5, dynamic_ncols=True, disable=quiet) as bar:
            for index, batch in enumerate(bar):
                self._step(epoch, index, batch, reader)
                bar.set_postfix_str(self._status(epoch, index, reader), refresh=False)
                self._note_progress(state="training", epoch=epoch, batch=index, batches=len(self.train_loader))
                self._stop_if_asked(epoch)
        reader.read()
        self.job.balancer.end_epoch()
        return reader.means()

    def _step(self, epoch: int, index: int, batch: dict, reader: LossReader) -> None:
        """One batch: forward, backward, what the balancer wants to know, a step of every network at work."""
        learners = self._working(epoch)
        for learner in learners:
            learner.begin(epoch, index)
        counts = loss_counts(batch) | {"stop": self.signals.received is not None}
        totals = distributed.totals(counts)
        self.is_stopping = totals["stop"] > 0
        step = epoch * len(self.train_loader) + index
        plan = self._plan(step, labelled=totals["views"] > 0)
        taps = FeatureTaps(detached=plan.combined) if plan.is_tapped else None
        outputs = self._forward(learners, batch["images"], {"tap": taps.attach} if taps else {})
        losses = self.criterion(outputs, on_device(batch, self.precision.device), distributed.shares(counts, totals))
        seen = averaged_losses(losses)
        reader.add(index, seen, batch["paths"])
        measured = self._backward(learners, task_losses(losses), plan, taps, totals["frames"])
        self._observe({"step": step, "epoch": epoch, "batch": index}, task_losses(seen), plan, measured)
        for learner in learners:
            learner.step(epoch, index)

    def _plan(self, step: int, labelled: bool) -> GradientPlan:
        balancer, interval = self.job.balancer, self.job.diagnose_interval
        return GradientPlan(
            labelled=labelled,
            wanted_at=balancer.place if labelled and balancer.wants_gradients else None,
            diagnosed=labelled and bool(interval) and step % interval == 0,
            combined=labelled and balancer.combines_gradients,
        )

    def _backward(
        self,
        learners: Sequence[Learner],
        tasks: Mapping[str, Tensor],
        plan: GradientPlan,
        taps: FeatureTaps | None,
        frames: float,
    ) -> dict[str, TaskGradients]:
        """The gradients of the balanced losses, and on the way what `plan` asks of each task's: place -> those."""
        balancer = self.job.balancer
        # On CUDA with fp16 the scale has to be waited for.
        scale = learners[0].stepper.loss_scale if plan.is_tapped or plan.wanted_at else 1.0
        measured: dict[str, TaskGradients] = {}
        if plan.wanted_at == "weights":
            measured["weights"] = weight_gradients(tasks, self.model.last_shared_parameter(), scale)
        if plan.diagnosed and not plan.combined:  # a combined gradient has no parts in the trunk
            measured |= layer_gradients(tasks, self.model.trunk_parameters(), scale)
        for learner in learners:
            total = balancer.combine({task: tasks[task] for task in learner.network.tasks})
            learner.backward(total * frames)
        if plan.combined:
            taps.pass_on(balancer.aggregate)
        if taps:
            measured["features"] = taps.read({t: weight * frames * scale for t, weight in balancer.weights.items()})
        return measured

    def _observe(
        self,
        now: Mapping[str, int],
        tasks: Mapping[str, Tensor],
        plan: GradientPlan,
        measured: Mapping[str, TaskGradients],
    ) -> None:
        """Let the balancer see the batch, and log what it did and what was measured."""
        weights = dict(self.job.balancer.weights)
        if row := self.job.balancer.observe(tasks, measured.get(plan.wanted_at), plan.labelled):
            total = sum(weights[task] * loss.item() for task, loss in tasks.items())
            self._log(self.gradnorm_log, {**now, "loss/total": total, **row})
        if plan.diagnosed:
            self._log_interference(now, measured)

    def _log_interference(self, now: Mapping[str, int], measured: Mapping[str, TaskGradients]) -> None:
        """Rows of interference.csv: at the cut, of the whole trunk, and of each of its layers."""
        places = {"cut": measured["features"], **{name: g for name, g in measured.items() if name not in PLACES}}
        for place, gradients in places.items():
            figures = {"cosine": gradients.cosine, "magnitude_similarity": gradients.magnitude_similarity}
            norms = {f"norm/{task}": norm for task, norm in gradients.norms.items()}
            self._log(self.interference_log, {**now, "place": place, **figures, **norms})

    def _forward(self, learners: Sequence[Learner], images_uint8: Tensor, options: Mapping) -> dict[str, object]:
        """The outputs of the networks at work; the batch is moved once for all of them."""
        outputs: dict[str, object] = {}
        with self.precision.autocast():
            images = self.precision.images(images_uint8)
            for learner in learners:
                outputs |= learner.forward(images, **options)
        return outputs

    def _status(self, epoch: int, index: int, reader: LossReader) -> str:
        losses = " ".join(f"{name} {value:.4f}" for name, value in reader.last.items())
        weights = "/".join(f"{weight:.3f}" for weight in self.job.balancer.weights.values())
        balanced = f" | weights {weights}" if len(self.learners) == 1 else ""
        done = (epoch - self.first_epoch) * len(self.train_loader) + index + 1
        total = (self.options.epochs - self.first_epoch) * len(self.train_loader)
        left_s = (time.time() - self.start_time) / done * (total - done)
        return f"{losses}{balanced} | left {datetime.timedelta(seconds=round(left_s))}"

    def _stop_if_asked(self, epoch: int) -> None:
        if not self.is_stopping:
            return
        self._note_progress(force=True, state="stopped", epoch=epoch)
        received = self.signals.received or signal.SIGTERM  # it may have come to another process
        name = signal.Signals(received).name
        raise Interrupted(f"stopped by {name} in epoch {epoch + 1}; go on with --resume {self.last_path}", received)

    def _validate(self, epoch: int) -> dict[str, float]:
        """Evaluate the moving average; -> cells of results.csv."""
        data, is_last = self.job.frames.data, epoch == self.options.epochs - 1
        distributed.equalise([*self.model.buffers(), *self.average.buffers()])  # each process has moved its own
        self.results, losses = evaluate(fused_copy(self.average), self.val_loader, self.precision, data, self.criterion)
        self.metrics = self._summarise(intervals=is_last)
        cells = metric_cells(self.metrics) | {f"val/{name}_loss": value for name, value in losses.items()}
        shown = {"mAP50": "mAP_0.5", "mAP50-95": "mAP_0.5:0.95", "view accuracy": "view_accuracy"}
        figures = {label: cells.get(f"metrics/{name}") for label, name in shown.items()}
        figures = [f"{label} {'-' if value is None else f'{value:.3f}'}" for label, value in figures.items()]
        LOGGER.info(f"epoch {epoch + 1}: {', '.join(figures)}")
        return cells

    def _summarise(self, intervals: bool) -> dict[str, object]:
        data = self.job.frames.data
        return summarise(
            self.results, data.names, data.view_names, view_prior=self.prior, intervals=intervals, tasks=self.tasks
        )

    def _keep_best(self, epoch: int) -> bool:
        """Put aside the average of every network that is at its best, and the confidence that goes with the boxes."""
        improved = [learner for learner in self.learners if learner.judge(self.metrics, epoch)]
        average = self.average.state_dict()
        for learner in improved:
            prefix = f"{learner.network.path}." if learner.network.path else ""
            part = {name: tensor.cpu().clone() for name, tensor in average.items() if name.startswith(prefix)}
            self.best["model"] |= part
            if "detection" in learner.network.tasks:
                self.best["confidence"] = confidence_of(self.metrics)
        return bool(improved)

    def _out_of_patience(self, epoch: int) -> bool:
        patience = self.job.run.hyp.patience
        settled = patience > 0 and all(learner.has_settled(epoch, patience) for learner in self.learners)
        if settled:
            LOGGER.info(f"nothing better to expect after {patience} epochs of patience ({self._best_epochs()})")
        return settled

    def _best_epochs(self) -> str:
        each = [f"{ln.network.name}: epoch {ln.best_epoch + 1}, fitness {ln.best_fitness:.3f}" for ln in self.learners]
        return f"best {'; '.join(each)}"

    def _open_folder(self) -> None:
        if distributed.is_main():
            self._prepare_files()
        if not self.job.run.resume:
            # So that a run killed in its first epoch can be resumed like any other.
            self._save(-1, is_best=False)

    def _prepare_files(self) -> None:
        run = self.job.run
        (run.folder / "weights").mkdir(parents=True, exist_ok=True)
        self.board.start(self.first_epoch, len(self.train_loader))
        if run.resume:
            self.results_log.keep_before(self.first_epoch)
            self.gradnorm_log.keep_before(self.first_epoch)
            self.interference_log.keep_before(self.first_epoch)
            return
        for name in ("results.csv", "gradnorm.csv", "interference.csv", "summary.json"):
            (run.folder / name).unlink(missing_ok=True)
        for name, content in (("opt", run.options), ("hyp", run.hyp)):
            text = yaml.safe_dump(to_mapping(content), sort_keys=False)
            (run.folder / f"{name}.yaml").write_text(text, encoding="utf-8")

    def _save(self, epoch: int, is_best: bool) -> None:
        random_states = distributed.gathered([checkpoint.random_states()])
        if not distributed.is_main():
            return
        about = self._description(epoch)
        states = {
            "confidence": confidence_of(self.metrics or {}),
            "model": self.model.state_dict(),
            "ema": {"model": self.average.state_dict()},
            "networks": {learner.network.name: learner.state_dict() for learner in self.learners},
            "balancer": self.job.balancer.state_dict(),
            "random": random_states,
        }
        if is_best:
            checkpoint.save_checkpoint(self.last_path.with_name("best.pt"), about | self.best)
        checkpoint.save_checkpoint(self.last_path, about | states)
        if self.options.save_period > 0 and epoch >= 0 and (epoch + 1) % self.options.save_period == 0:
            checkpoint.save_checkpoint(self.last_path.with_name(f"epoch{epoch}.pt"), about | states)

    def _description(self, epoch: int) -> dict[str, object]:
        data = self.job.frames.data
        return {
            "kind": self.model.kind,
            "arguments": self.model.arguments(),
            "epoch": epoch,
            "best": self._best_figures(),
            "options": to_mapping(self.options),
            "hyp": to_mapping(self.job.run.hyp),
            "names": list(data.names),
            "view_names": list(data.view_names),
            "view_prior": to_mapping(self.prior) if self.prior else None,
            "fingerprint": self.fingerprint,
            "launch": distributed.launch_id(),
            "precision": str(self.precision.dtype).removeprefix("torch."),
        }

    def _best_figures(self) -> dict[str, dict[str, float]]:
        """Network -> its best epoch and fitness."""
        return {ln.network.name: {"epoch": ln.best_epoch, "fitness": ln.best_fitness} for ln in self.learners}

    def _restore(self, state: Mapping[str, object]) -> None:
        if state["fingerprint"] != self.fingerprint:
            source = self.job.frames.data.source
            raise UserError(f"{source}: images or labels changed since this run started; start a new run instead")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["ema"]["model"])
        for learner in self.learners:
            learner.load_state_dict(state["networks"][learner.network.name])
        self.job.balancer.load_state_dict(state["balancer"])
        self.first_epoch = state["epoch"] + 1
        if any(learner.best_epoch >= 0 for learner in self.learners):
            # Perhaps of the interrupted epoch already, which then finds nothing better.
            best = checkpoint.load_checkpoint(self.last_path.with_name("best.pt"))
            self.best = {key: best[key] for key in self.best}
            for learner in self.learners:
                figures = best["best"][learner.network.name]
                learner.best_epoch, learner.best_fitness = figures["epoch"], figures["fitness"]
        own = distributed.rank() if len(state["random"]) == distributed.world_size() else 0
        checkpoint.restore_random_states(state["random"][own])

    def _finish(self, epoch: int) -> dict[str, object]:
        """Write metrics.json, val_batch.json, summary.json and the pictures, of the last epoch's average."""
        if self.metrics is None:  # resumed after the last epoch
            self._validate(epoch)
        if not self.metrics["resamples"]:  # stopped early
            self.metrics = self._summarise(intervals=True)
        summary = self._summary(epoch)
        if distributed.is_main():
            self._write_results(summary)
        return summary

    def _summary(self, epoch: int) -> dict[str, object]:
        return {
            "epochs": epoch + 1,
            "best": self._best_figures(),
            "last": metric_cells(self.metrics),
            "weights": self.job.balancer.weights,
            "seconds": time.time() - self.start_time,
            "peak_memory_mib": peak_memory_mib(self.precision.device),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "precision": str(self.precision),
            "torch": torch.__version__,
            "machine": platform.platform(),
            "processes": distributed.world_size(),
            "fingerprint": self.fingerprint,
        }

    def _write_results(self, summary: dict[str, object]) -> None:
        folder, frames = self.job.run.folder, self.job.frames
        write_evaluation(folder, self.metrics, self.results)
        card = model_card(summary, self.metrics, self.options, frames.data, frames.train.split, frames.val.split)
        write_atomically(folder / "MODEL_CARD.md", lambda path: path.write_text(card, encoding="utf-8"))
        write_json(folder / "summary.json", summary)
        plots.draw_run(folder)
        self.board.finish(summary["epochs"] - 1)
        LOGGER.info(f"\nlast epoch's averaged weights on {self.val_loader.dataset.split.name}:")
        LOGGER.info(format_table(self.metrics))
        LOGGER.info(f"\n{self._best_epochs()}\neverything is in {folder}")


def result_columns(networks: Sequence[Network]) -> tuple[str, ...]:
    """The columns of results.csv; several networks have a fitness and rates each."""
    fitness = [f"metrics/{network.name}_fitness" for network in networks if len(networks) > 1]
    rates = [column for network in networks for column in rate_columns(network, networks)]
    return (*RESULT_COLUMNS, *fitness, *rates, *TIME_COLUMNS)


def rate_columns(network: Network, networks: Sequence[Network]) -> list[str]:
    """Where the learning rates of a network's biases, weights and norms go: YOLOv5's columns if it is the only one."""
    prefix = "" if len(networks) == 1 else f"{network.name}_"
    return [f"x/{prefix}lr{group}" for group in range(3)]


class LossReader:
    """Means of the named losses over an epoch, read from the device every `interval` batches.

    Raises:
        UserError: at the first read after a loss that is not finite.
    """

    def __init__(self, interval: int):
        self.interval = interval
        self.last: dict[str, float] = {}
        self._pending: list[tuple[int, list[str], Tensor]] = []
        self._names: tuple[str, ...] = ()
        self._sum, self._images = np.zeros(0), 0

    def add(self, batch_index: int, losses: Mapping[str, Tensor], paths: list[str]) -> None:
        """Take note of a batch's losses."""
        self._names = tuple(losses)
        self._pending.append((batch_index, paths, torch.stack([loss.detach() for loss in losses.values()])))
        if len(self._pending) >= self.interval:
            self.read()

    def read(self) -> None:
        """Wait for the device and take in what is pending."""
        if not self._pending:
            return
        values = torch.stack([entry[2] for entry in self._pending]).double().cpu().numpy()
        for (index, paths, _), row in zip(self._pending, values, strict=True):
            named = dict(zip(self._names, row.tolist(), strict=True))
            if not np.isfinite(row).all():
                raise UserError(
                    f"the loss is not finite at batch {index}: {named}; images: {', '.join(paths)}. "
                    "The last checkpoint is intact; try a lower lr0 or --amp off, or check these labels"
                )
            self._sum = row * len(paths) if not self._images else self._sum + row * len(paths)
            self._images += len(paths)
        self.last = named
        self._pending = []

    def means(self) -> dict[str, float]:
        """Loss -> mean over the images that all processes have seen."""
        seen = distributed.gathered([(self._names, self._sum, self._images)])
        names = max(names for names, _, _ in seen)  # a process may have had nothing to do
        total = sum(sums for _, sums, images in seen if images) / sum(images for _, _, images in seen)
        return dict(zip(names, total.tolist(), strict=True))


def averaged_losses(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The losses of the whole batch, of which every process has its share; detached."""
    stacked = torch.stack([loss.detach() for loss in losses.values()])
    return dict(zip(losses, distributed.averaged(stacked).unbind(), strict=True))


def on_device(batch: Mapping[str, object], device: torch.device) -> dict[str, object]:
    """What the losses read of a batch, its tensors on `device`."""
    read = {key: batch[key] for key in ("views", "targets", "target_counts") if key in batch}
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in read.items()}


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: DataLoader,
    precision: Precision,
    data: DataConfig,
    criterion: JointLoss | None = None,
    iou: float = 0.6,
) -> tuple[list[ImageResult], dict[str, float]]:
    """Predict every frame of `loader` and set it beside its labels; of several processes each takes its batches.

    Args:
        criterion: if given, the mean losses are returned too.
        iou: threshold of non-maximum suppression.

    Returns:
        One result a frame, boxes in pixels of the original image, down to confidence 0.001 and at most 300;
        and loss name -> mean over the batches, weighted by their images.
    """
    model.eval()
    if criterion:
        criterion.eval()
    numbered: list[tuple[int, ImageResult]] = []
    reader = LossReader(LOSS_READ_INTERVAL)
    quiet = not distributed.is_main()
    for index, batch in enumerate(tqdm(loader, loader.dataset.split.name, unit="batch", leave=False, disable=quiet)):
        with precision.autocast():
            outputs = model(precision.images(batch["images"]))
        if criterion:
            reader.add(index, criterion(outputs, on_device(batch, precision.device)), batch["paths"])
        detections, probabilities = _predictions(model, outputs, len(batch["paths"]), iou)
        for number, boxes, views in zip(batch["indices"].tolist(), detections, probabilities, strict=True):
            numbered.append((number, _image_result(loader.dataset, number, boxes, views, data)))
    reader.read()
    results = [result for _, result in sorted(distributed.gathered(numbered), key=itemgetter(0))]
    return results, reader.means() if criterion else {}


def _predictions(
    model: nn.Module, outputs: Mapping[str, object], images: int, iou: float
) -> tuple[Sequence[Tensor], Sequence[np.ndarray]]:
    """Boxes (n, 6) after NMS and view probabilities (views,) of every image; empty without the head for them."""
    detections, probabilities = [torch.zeros(0, 6)] * images, [np.zeros(0)] * images
    if "detect" in outputs:
        decoded = model.decode(outputs["detect"])
        found = non_max_suppression(decoded, confidence=0.001, iou=iou, several_labels=True)
        # One copy to the host for the whole batch.
        detections = torch.cat(found).cpu().split([len(boxes) for boxes in found])
    if "classify" in outputs:
        probabilities = outputs["classify"].float().softmax(dim=1).cpu().numpy()
    return detections, probabilities


def _image_result(
    dataset: JointDataset, index: int, detections: Tensor, probabilities: np.ndarray, data: DataConfig
) -> ImageResult:
    height, width = dataset.original_sizes[index]
    letterbox, labels = dataset.letterboxes[index], dataset.split.labels[index]
    path = dataset.split.images[index]
    boxes_xyxy = letterbox.restore(detections[:, :4].double().numpy(), height, width)
    centre, half = labels.boxes[:, 1:3], labels.boxes[:, 3:5] / 2
    true_boxes_xyxy = np.concatenate((centre - half, centre + half), axis=1) * [width, height, width, height]
    return ImageResult(
        image=str(path),
        group=data.group_of(path),
        height=height,
        width=width,
        true_boxes_xyxy=true_boxes_xyxy,
        true_classes=labels.boxes[:, 0].astype(int),
        true_view=labels.view,
        boxes_xyxy=boxes_xyxy,
        scores=detections[:, 4].numpy(),
        classes=detections[:, 5].numpy().astype(int),
        view_probabilities=probabilities,
    )


def confidence_of(metrics: Mapping[str, dict]) -> float | None:
    """The threshold of a `summarise` result's boxes, if it has any."""
    return metrics["detection"]["confidence"] if "detection" in metrics else None


def metric_cells(metrics: Mapping[str, dict]) -> dict[str, float]:
    """The columns of results.csv that a `summarise` result fills."""
    cells = {"metrics/fitness": metrics["fitness"]}
    if "detection" in metrics:
        names = ("precision", "recall", "mAP_0.5", "mAP_0.5:0.95", "mAP_0.3")
        cells |= {f"metrics/{name}": metrics["detection"][name] for name in names}
    if "views" in metrics:
        names = ("accuracy", "balanced_accuracy", "macro_f1")
        cells |= {f"metrics/view_{name}": metrics["views"].get(name) for name in names}
    return cells


def write_evaluation(folder: Path, metrics: Mapping, results: Sequence[ImageResult]) -> None:
    """Write metrics.json and val_batch.json, from which the evaluation's pictures are drawn."""
    write_json(folder / "metrics.json", metrics)
    confidence = confidence_of(metrics) or 0.0
    write_json(folder / "val_batch.json", [_mosaic_record(r, confidence) for r in _spread(results)])


def write_coco_predictions(path: Path, results: Sequence[ImageResult]) -> None:
    """Every detection in COCO's result format: image, category, [left, top, width, height] in pixels, score."""
    rows = [
        {
            "image_id": Path(result.image).stem,
            "category_id": int(category),
            "bbox": [round(float(v), 3) for v in (left, top, right - left, bottom - top)],
            "score": round(float(score), 5),
        }
        for result in results
        for (left, top, right, bottom), score, category in zip(
            result.boxes_xyxy, result.scores, result.classes, strict=True
        )
    ]
    write_json(path, rows)


def _spread(results: Sequence[ImageResult]) -> list[ImageResult]:
    """At most `MOSAIC_FRAMES` results, evenly spaced, so that a mosaic shows more than one patient."""
    count = min(MOSAIC_FRAMES, len(results))
    return [results[i * len(results) // count] for i in range(count)]


def _mosaic_record(result: ImageResult, confidence: float) -> dict[str, object]:
    kept = result.scores >= confidence
    return {
        "path": result.image,
        "truth": {
            "boxes_xyxy": result.true_boxes_xyxy.round(2).tolist(),
            "classes": result.true_classes.tolist(),
            "view": int(result.true_view),
        },
        "prediction": {
            "boxes_xyxy": result.boxes_xyxy[kept].round(2).tolist(),
            "scores": result.scores[kept].round(4).tolist(),
            "classes": result.classes[kept].tolist(),
            "view_probabilities": result.view_probabilities.round(4).tolist(),
        },
    }


def peak_memory_mib(device: torch.device) -> float:
    """The most memory this process has had: on the device if that is CUDA, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource  # absent on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
