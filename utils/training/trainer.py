"""The training loop. Every training script builds a `Job` and hands it to `train`."""

from __future__ import annotations

import contextlib
import datetime
import math
import platform
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from models.gradients import FeatureTaps, layer_gradients, weight_gradients
from models.gradnorm import GradNorm, LossWeighting, TaskGradients
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.checkpoints.model_file import take_weights
from utils.core import distributed
from utils.core.device import (
    Precision,
    frozen_copy,
    fused_copy,
    peak_memory_mib,
    tune_for,
    verified,
)
from utils.core.files import CsvLog, ProgressFile, write_atomically, write_json
from utils.core.names import GRADNORM_PLACES, TASKS
from utils.core.script import LOGGER, Interrupted, StopSignals, UserError
from utils.core.values import to_mapping
from utils.data.labels import UNKNOWN_VIEW
from utils.data.loader import collate, make_loader
from utils.data.sampling import EpochSampler, sampling_weights
from utils.evaluation.evaluate import evaluate, on_device, write_evaluation
from utils.evaluation.metrics import confidence_of, summarise
from utils.evaluation.predictions import FILE_NAME, Header, write_predictions
from utils.evaluation.results import ViewPrior
from utils.evaluation.tables import format_table
from utils.loggers.balance import balance_facts, describe_balance
from utils.loggers.model_card import model_card
from utils.loggers.tensorboard import Board
from utils.losses.joint import (
    LOSS_READ_INTERVAL,
    JointLoss,
    LossReader,
    averaged_losses,
    loss_counts,
    task_losses,
)
from utils.plots.run import draw_run
from utils.training.learner import Learner, Network
from utils.training.records import (
    GRADNORM_COLUMNS,
    INTERFERENCE_COLUMNS,
    TIME_COLUMNS,
    loss_cells,
    metric_cells,
    rate_columns,
    result_columns,
)
from utils.training.run import Frames, Run, random_states, restore_random_states

PRECISION_CHECK_FRAMES = 4


@dataclass(frozen=True)
class Job:
    """Everything a training needs.

    Attributes:
        networks: the parts of `model` that have an optimiser each.
        balancer: weighs the tasks' losses. One that looks at gradients needs a single network,
            which both tasks share.
        diagnose_interval: batches between two measurements of the tasks' gradients, for
            interference.csv; 0: never.
    """

    run: Run
    frames: Frames
    model: nn.Module
    networks: tuple[Network, ...]
    criterion: JointLoss
    balancer: LossWeighting
    diagnose_interval: int = 0


@dataclass(frozen=True)
class GradientPlan:
    """What is to be known of the tasks' gradients in a batch.

    Attributes:
        labelled: some frame of it has a view, so that there are two tasks.
        full: its norms count, see `UsualBatch`.
        wanted_at: the place where the balancer wants them, or None.
        diagnosed: they go to interference.csv.
        combined: the balancer makes one gradient of them.
    """

    labelled: bool
    full: bool
    wanted_at: str | None
    diagnosed: bool
    combined: bool

    @property
    def is_tapped(self) -> bool:
        return self.diagnosed or self.combined or self.wanted_at == "features"


@dataclass(frozen=True)
class UsualBatch:
    """What a batch holds as a rule, so that the gradient norms of batches can be compared.

    A norm at the cut falls about as 1 / sqrt(frames), frames being those that the loss is a mean
    over. So norms are taken from full batches only: of the usual size, at least half of it with a
    view. Where as a rule fewer have one, every batch is taken, and a norm is multiplied with
    sqrt(frames / usual frames) of its task.

    Attributes:
        frames: of a batch, over all processes.
        labelled: how many of these have a view, on average.
    """

    frames: int
    labelled: float

    @property
    def is_rarely_labelled(self) -> bool:
        return self.labelled < self.frames / 2

    def is_full(self, totals: Mapping[str, float]) -> bool:
        """Whether a batch's norms count; `totals` has its "frames" and those with "views"."""
        if self.is_rarely_labelled:
            return True
        return totals["frames"] >= self.frames and totals["views"] >= totals["frames"] / 2

    def comparable(self, gradients: TaskGradients, totals: Mapping[str, float]) -> TaskGradients:
        """The norms as a usual batch would have them."""
        if not self.is_rarely_labelled:
            return gradients
        factors = {
            "detection": math.sqrt(totals["frames"] / self.frames),
            "classification": math.sqrt(totals["views"] / self.labelled),
        }
        norms = {task: norm * factors[task] for task, norm in gradients.norms.items()}
        return replace(gradients, norms=norms)


def train(job: Job) -> dict[str, object]:
    """Train, validate every epoch, write the run folder, which then is free; returns the content of summary.json."""
    try:
        with job.run:
            return Trainer(job).fit()
    finally:
        distributed.leave()


@contextlib.contextmanager
def _restoring(path: Path, part: str) -> Iterator[None]:
    """Within the context, whatever a state of another shape makes of the libraries that take it is a `UserError`."""
    try:
        yield
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: {part} does not fit this run ({type(error).__name__}: {reason}); the file is damaged or was "
            f"changed, so it cannot be resumed; start a new run with --weights {path}"
        ) from None


class Trainer:
    """The state of a training between batches."""

    def __init__(self, job: Job):
        self.job, self.options = job, job.run.options
        self._make_loaders()
        self._place_model()
        self.learners = [self._learner(network) for network in job.networks]
        frames = job.frames
        self.usual_batch = self._usual_batch()
        self.tasks = [
            task for task in TASKS if any(task in network.tasks for network in job.networks)
        ]
        self.prior = ViewPrior.fit(
            (labels.boxes[:, 0], labels.view) for labels in frames.train.split.labels
        )
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

    def _learner(self, network: Network) -> Learner:
        batches = len(self.train_loader)
        averages = (self.average, self.recorded)
        return Learner(
            network, self.model, *averages, self.precision, batches, self.options.batch_size
        )

    def _make_loaders(self) -> None:
        job, frames, options = self.job, self.job.frames, self.options
        weights = sampling_weights(job.run.hyp, frames.data, frames.train.split)
        self.sampler = EpochSampler(len(frames.train), options.seed, weights)
        size, workers, pin = (
            options.batch_size,
            options.workers,
            job.run.precision.device.type == "cuda",
        )
        self.train_loader = make_loader(
            frames.train, size, workers, pin, self.sampler, job.criterion.matcher
        )
        self.val_loader = make_loader(frames.val, size, workers, pin, match=job.criterion.matcher)

    def _usual_batch(self) -> UsualBatch:
        labels = self.job.frames.train.split.labels
        frames = min(self.options.batch_size, len(labels))
        share = sum(frame.view != UNKNOWN_VIEW for frame in labels) / len(labels)
        usual = UsualBatch(frames, frames * share)
        if usual.is_rarely_labelled and isinstance(self.job.balancer, GradNorm):
            LOGGER.info(
                f"GradNorm: {share:.0%} of the training frames have a view, so no batch is full; "
                "gradient norms are scaled by the square root of the frames they come from"
            )
        return usual

    def _place_model(self) -> None:
        """Model, moving average and losses on the device, in the precision that stands its check."""
        job, wanted = self.job, self.job.run.precision
        tune_for(wanted.device)
        model = job.model
        if self.options.sync_bn and distributed.world_size() > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model = wanted.place(model)
        self.average = frozen_copy(self.model)
        self.recorded = {
            window: frozen_copy(self.model) for window in job.run.hyp.averaging_windows
        }
        self.criterion = job.criterion.to(wanted.device)
        self.precision = self._checked(wanted)
        torch.manual_seed(
            self.options.seed + distributed.rank()
        )  # dropout differs between the processes
        if self.options.compile:
            for network in job.networks:
                self.model.get_submodule(network.path).compile()

    def _checked(self, wanted: Precision) -> Precision:
        """`wanted` if it stands its check in every process, else float32; a resumed run has been through it."""
        if self.job.run.resume:
            fell_back = (
                self.job.run.resume["precision"] == "float32" and wanted.dtype is not torch.float32
            )
            return (
                replace(wanted, dtype=torch.float32, reason="as it began") if fell_back else wanted
            )
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
        row = {"epoch": epoch} | loss_cells("train", losses)
        improved: list[str] = []
        if not self.options.noval or epoch == self.options.epochs - 1:
            row |= self._validate(epoch)
            self._record_averages(epoch)
            improved = self._keep_best(epoch)
            row["best"] = " ".join(improved)
            row |= {
                f"metrics/{ln.network.name}_fitness": ln.fitness
                for ln in self.learners
                if len(self.learners) > 1
            }
        row |= {f"weight/{task}": weight for task, weight in self.job.balancer.weights.items()}
        for learner in self._working(epoch):
            row |= zip(
                rate_columns(learner.network, self.job.networks),
                learner.stepper.learning_rates,
                strict=True,
            )
        row |= zip(TIME_COLUMNS, (trained - start, time.time() - trained), strict=True)
        self._log(self.results_log, row)
        self._save(epoch, is_best=bool(improved))

    def _log(self, log: CsvLog, row: Mapping[str, object]) -> None:
        """Add a row, in the process that writes."""
        if distributed.is_main():
            self.job.run.confirm()
            log.append(row)
            self.board.row(row)

    def _note_progress(self, force: bool = False, **fields: object) -> None:
        if distributed.is_main():
            self.job.run.confirm()
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
        with tqdm(
            self.train_loader,
            title,
            unit="batch",
            mininterval=0.5,
            dynamic_ncols=True,
            disable=quiet,
        ) as bar:
            for index, batch in enumerate(bar):
                self._step(epoch, index, batch, reader)
                bar.set_postfix_str(self._status(epoch, index, reader), refresh=False)
                self._note_progress(
                    state="training", epoch=epoch, batch=index, batches=len(self.train_loader)
                )
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
        plan = self._plan(step, totals)
        taps = FeatureTaps(detached=plan.combined) if plan.is_tapped else None
        outputs = self._forward(learners, batch["images"], {"tap": taps.attach} if taps else {})
        losses = self.criterion(
            outputs,
            on_device(batch, self.precision.device),
            distributed.rank_weights(counts, totals),
        )
        seen = averaged_losses(losses)
        reader.add(index, seen, batch["paths"])
        measured = self._backward(learners, task_losses(losses), plan, taps, totals["frames"])
        if plan.wanted_at:
            measured[plan.wanted_at] = self.usual_batch.comparable(measured[plan.wanted_at], totals)
        self._observe(
            {"step": step, "epoch": epoch, "batch": index}, task_losses(seen), plan, measured
        )
        for learner in learners:
            learner.step(epoch, index)

    def _plan(self, step: int, totals: Mapping[str, float]) -> GradientPlan:
        balancer, interval = self.job.balancer, self.job.diagnose_interval
        labelled, full = totals["views"] > 0, self.usual_batch.is_full(totals)
        return GradientPlan(
            labelled=labelled,
            full=full,
            wanted_at=balancer.place if labelled and full and balancer.wants_gradients else None,
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
            measured["features"] = taps.read(
                {t: weight * frames * scale for t, weight in balancer.weights.items()}
            )
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
        if row := self.job.balancer.observe(
            tasks, measured.get(plan.wanted_at), plan.labelled, plan.full
        ):
            total = sum(weights[task] * loss.item() for task, loss in tasks.items())
            self._log(self.gradnorm_log, {**now, "loss/total": total, **row})
        if plan.diagnosed:
            self._log_interference(now, measured)

    def _log_interference(
        self, now: Mapping[str, int], measured: Mapping[str, TaskGradients]
    ) -> None:
        """Rows of interference.csv: at the cut, of the whole trunk, and of each of its layers."""
        places = {
            "cut": measured["features"],
            **{name: g for name, g in measured.items() if name not in GRADNORM_PLACES},
        }
        for place, gradients in places.items():
            figures = {
                "cosine": gradients.cosine,
                "magnitude_similarity": gradients.magnitude_similarity,
            }
            norms = {f"norm/{task}": norm for task, norm in gradients.norms.items()}
            self._log(self.interference_log, {**now, "place": place, **figures, **norms})

    def _forward(
        self, learners: Sequence[Learner], images_uint8: Tensor, options: Mapping
    ) -> dict[str, object]:
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
        raise Interrupted(
            f"stopped by {name} in epoch {epoch + 1}; go on with --resume {self.last_path}",
            received,
        )

    def _validate(self, epoch: int) -> dict[str, float]:
        """Evaluate the moving average; -> cells of results.csv."""
        data, is_last = self.job.frames.data, epoch == self.options.epochs - 1
        distributed.equalise(
            [*self.model.buffers(), *self.average.buffers()]
        )  # each process has moved its own
        self.results, losses = evaluate(
            fused_copy(self.average), self.val_loader, self.precision, data, self.criterion
        )
        self.metrics = self._summarise(intervals=is_last)
        cells = metric_cells(self.metrics) | loss_cells("val", losses)
        shown = {"mAP50": "mAP_0.5", "mAP50-95": "mAP_0.5:0.95", "view accuracy": "view_accuracy"}
        figures = {label: cells.get(f"metrics/{name}") for label, name in shown.items()}
        figures = [
            f"{label} {'-' if value is None else f'{value:.3f}'}"
            for label, value in figures.items()
        ]
        LOGGER.info(f"epoch {epoch + 1}: {', '.join(figures)}")
        return cells

    def _record_averages(self, epoch: int) -> None:
        """Keep what every average in `record_averages` predicts: predictions/epoch0_ramp.npz, epoch0_0.5.npz, ..."""
        found = {}
        if "ramp" in self.job.run.hyp.record_averages:
            found["ramp"] = self.results
        for window, average in self.recorded.items():
            distributed.equalise(average.buffers())
            evaluated = evaluate(
                fused_copy(average),
                self.val_loader,
                self.precision,
                self.job.frames.data,
                self.criterion,
            )
            found[f"{window:g}"] = evaluated[0]
        if distributed.is_main():
            header = replace(self._header(), confidence=None)  # none was chosen for these
            for name, results in found.items():
                path = self.job.run.folder / "predictions" / f"epoch{epoch}_{name}.npz"
                path.parent.mkdir(exist_ok=True)
                write_predictions(path, results, header)

    def _summarise(self, intervals: bool) -> dict[str, object]:
        data = self.job.frames.data
        return summarise(
            self.results,
            data.names,
            data.view_names,
            view_prior=self.prior,
            intervals=intervals,
            tasks=self.tasks,
        )

    def _keep_best(self, epoch: int) -> list[str]:
        """Put aside the average of every network that is at its best, and the confidence that goes with the boxes.

        Returns:
            The names of those networks.
        """
        improved = [learner for learner in self.learners if learner.judge(self.metrics, epoch)]
        average = self.average.state_dict()
        for learner in improved:
            prefix = f"{learner.network.path}." if learner.network.path else ""
            part = {
                name: tensor.cpu().clone()
                for name, tensor in average.items()
                if name.startswith(prefix)
            }
            self.best["model"] |= part
            if "detection" in learner.network.tasks:
                self.best["confidence"] = confidence_of(self.metrics)
        return [learner.network.name for learner in improved]

    def _out_of_patience(self, epoch: int) -> bool:
        patience = self.job.run.hyp.patience
        settled = patience > 0 and all(
            learner.has_settled(epoch, patience) for learner in self.learners
        )
        if settled:
            LOGGER.info(
                f"nothing better to expect after {patience} epochs of patience ({self._best_epochs()})"
            )
        return settled

    def _best_epochs(self) -> str:
        each = [
            f"{ln.network.name}: epoch {ln.best_epoch + 1}, fitness {ln.best_fitness:.3f}"
            for ln in self.learners
        ]
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
        for pattern in (
            "results.csv",
            "gradnorm.csv",
            "interference.csv",
            "summary.json",
            "predictions*.npz",
        ):
            for path in run.folder.glob(pattern):
                path.unlink()
        for name, content in (("opt", run.options), ("hyp", run.hyp)):
            text = yaml.safe_dump(to_mapping(content), sort_keys=False)
            (run.folder / f"{name}.yaml").write_text(text, encoding="utf-8")

    def _save(self, epoch: int, is_best: bool) -> None:
        states_of_ranks = distributed.gathered([random_states()])
        if not distributed.is_main():
            return
        self.job.run.confirm()
        about = self._description(epoch)
        states = {
            "confidence": confidence_of(self.metrics or {}),
            "model": self.model.state_dict(),
            "ema": {"model": self.average.state_dict()},
            "recorded": {
                str(window): average.state_dict() for window, average in self.recorded.items()
            },
            "networks": {learner.network.name: learner.state_dict() for learner in self.learners},
            "balancer": self.job.balancer.state_dict(),
            "random": states_of_ranks,
        }
        if is_best:
            save_checkpoint(self.last_path.with_name("best.pt"), about | self.best)
        save_checkpoint(self.last_path, about | states)
        if (
            self.options.save_period > 0
            and epoch >= 0
            and (epoch + 1) % self.options.save_period == 0
        ):
            save_checkpoint(self.last_path.with_name(f"epoch{epoch}.pt"), about | states)

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
            "bits": self.job.frames.train.bits or self.job.frames.val.bits,
            "data": data.facts(),
            "view_prior": to_mapping(self.prior) if self.prior else None,
            "fingerprint": self.fingerprint,
            "launch": distributed.launch_id(),
            "precision": str(self.precision.dtype).removeprefix("torch."),
        }

    def _best_figures(self) -> dict[str, dict[str, float]]:
        """Network -> its best epoch, the fitness there, and the parts of that."""
        figures = {}
        for learner in self.learners:
            figures[learner.network.name] = {
                "epoch": learner.best_epoch,
                "fitness": learner.best_fitness,
                "parts": dict(learner.best_parts),
            }
        return figures

    def _restore(self, state: Mapping[str, object]) -> None:
        if state["fingerprint"] != self.fingerprint:
            source = self.job.frames.data.source
            raise UserError(
                f"{source}: images or labels changed since this run started; start a new run instead"
            )
        take_weights(self.model, state["model"], self.last_path)
        take_weights(self.average, state["ema"]["model"], self.last_path)
        for window, average in self.recorded.items():
            take_weights(average, state["recorded"][str(window)], self.last_path)
        for learner in self.learners:
            with _restoring(self.last_path, f"networks.{learner.network.name}"):
                learner.load_state_dict(state["networks"][learner.network.name])
        with _restoring(self.last_path, "balancer"):
            self.job.balancer.load_state_dict(state["balancer"])
        self.first_epoch = state["epoch"] + 1
        if any(learner.best_epoch >= 0 for learner in self.learners):
            # Perhaps of the interrupted epoch already, which then finds nothing better.
            best_path = self.last_path.with_name("best.pt")
            best = load_checkpoint(best_path)
            self.best = {key: best[key] for key in self.best}
            for learner in self.learners:
                with _restoring(best_path, f"best.{learner.network.name}"):
                    figures = best["best"][learner.network.name]
                    learner.best_epoch, learner.best_parts = (
                        figures["epoch"],
                        dict(figures["parts"]),
                    )
        own = distributed.rank() if len(state["random"]) == distributed.world_size() else 0
        with _restoring(self.last_path, f"random.{own}"):
            restore_random_states(state["random"][own])

    def _finish(self, epoch: int) -> dict[str, object]:
        """Write figures, predictions, summary.json and pictures, of the last epoch's average."""
        if self.metrics is None:  # resumed after the last epoch
            self._validate(epoch)
        if not self.metrics["resamples"]:  # stopped early
            self.metrics = self._summarise(intervals=True)
        summary = self._summary(epoch)
        if distributed.is_main():
            self._write_results(summary)
        return summary

    def _header(self) -> Header:
        """Of the predictions that the metrics are of."""
        frames, confidence = self.job.frames, confidence_of(self.metrics)
        prior = to_mapping(self.prior) if self.prior else None
        trained_on = self.fingerprint.partition("-")[0]
        return Header.of(
            frames.data, frames.val, self.tasks, self.precision, confidence, prior, trained_on
        )

    def _summary(self, epoch: int) -> dict[str, object]:
        summary = {
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
            "average_window_epochs": self._average_windows(),
        }
        balancer = self.job.balancer
        if isinstance(balancer, GradNorm):
            summary["gradnorm"] = balance_facts(self.gradnorm_log.path, balancer.skipped)
        return summary

    def _average_windows(self) -> dict[str, float]:
        """Network -> how many epochs' steps its moving average is worth."""
        batches = len(self.train_loader)
        return {ln.network.name: round(ln.ema.window_steps() / batches, 3) for ln in self.learners}

    def _write_results(self, summary: dict[str, object]) -> None:
        folder, frames = self.job.run.folder, self.job.frames
        self.job.run.confirm()
        write_evaluation(folder, self.metrics, self.results)
        write_predictions(folder / FILE_NAME, self.results, self._header())
        card = model_card(
            summary, self.metrics, self.options, frames.data, frames.train.split, frames.val.split
        )
        write_atomically(
            folder / "MODEL_CARD.md", lambda path: path.write_text(card, encoding="utf-8")
        )
        write_json(folder / "summary.json", summary)
        draw_run(folder)
        self.board.finish(summary["epochs"] - 1)
        LOGGER.info(f"\nlast epoch's averaged weights on {self.val_loader.dataset.split.name}:")
        LOGGER.info(format_table(self.metrics))
        if "gradnorm" in summary:
            LOGGER.info(f"\n{describe_balance(summary['gradnorm'])}")
        LOGGER.info(f"\n{self._best_epochs()}\neverything is in {folder}")
