"""What a training consists of: a `Job`, and the `Setup` that is made of it on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.gradnorm_balancer import LossWeighting
from utils.core import distributed
from utils.core.device import Compute, frozen_copy, tune_for, verified
from utils.core.names import TASKS
from utils.core.script import LOGGER
from utils.data.loader import collate, make_loader
from utils.data.sampling import EpochSampler, sampling_weights
from utils.evaluation.results import ImageResult, ViewPrior
from utils.evaluation.summary import Summary
from utils.losses.joint import JointLoss
from utils.training.frames import Frames
from utils.training.learner import Learner, Part
from utils.training.run import Run

CHECK_FRAMES = 4


@dataclass(frozen=True)
class Job:
    """Everything a training needs.

    Attributes:
        parts: of `model`, each with an optimiser of its own.
        balancer: weighs the tasks' losses. One that looks at gradients needs a single part, which
            both tasks share.
        diagnose_interval: batches between two measurements of the tasks' gradients, for
            interference.csv; 0: never.
    """

    run: Run
    frames: Frames
    model: nn.Module
    parts: tuple[Part, ...]
    criterion: JointLoss
    balancer: LossWeighting
    diagnose_interval: int = 0


@torch.no_grad()
def least_batch(model: nn.Module, shape: tuple[int, int]) -> int:
    """How many frames of height x width `shape` a network can train on, at the least.

    Batch norm refuses a single value a channel: a map of one cell of a single frame.
    """
    cells = []
    hooks = []

    def note(layer: nn.Module, maps: tuple[Tensor]) -> None:
        cells.append(maps[0][0, 0].numel())

    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            hooks.append(layer.register_forward_pre_hook(note))
    was_training = model.training
    parameter = next(model.parameters())
    model.eval()(parameter.new_zeros(1, 3, *shape))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    if 1 in cells:
        return 2
    return 1


class Setup:
    """A job's model, losses, loaders and learners on the device, and what its epochs have come to.

    Attributes:
        model, ema_model: what is trained, and its moving average, which is evaluated.
        criterion, compute: losses; device and number format of forward passes.
        sampler, train_loader, val_loader: batches of the two splits.
        learners: one a part, in the job's order.
        tasks: that some part is trained for, in the order of `TASKS`.
        prior: how the training split's views go with its classes; None if nothing can be counted.
        fingerprint: of both splits.
        first_epoch: where the loop begins; above 0 in a resumed run.
        results, metrics: of the last evaluation; None before the first one. Rank 0 alone has
            results.
        best: what best.pt holds of the weights: every part as of its best epoch, and the
            confidence and thresholds that go with them.
    """

    def __init__(self, job: Job):
        self.job = job
        self.options = job.run.options
        self._make_loaders()
        self._place_model()
        self.learners = [self._learner(part) for part in job.parts]
        self.tasks = [task for task in TASKS if any(task in part.tasks for part in job.parts)]
        train, val = job.frames.train.split, job.frames.val.split
        self.prior = ViewPrior.fit(train.labels)
        self.fingerprint = f"{train.fingerprint()}-{val.fingerprint()}"
        self.first_epoch = 0
        self.results: list[ImageResult] | None = None
        self.metrics: Summary | None = None
        self.best: dict[str, object] = {"model": {}, "confidence": None, "thresholds": {}}

    @property
    def last_path(self) -> Path:
        """Of the checkpoint that a run is resumed from."""
        return self.job.run.folder / "weights" / "last.pt"

    def _make_loaders(self) -> None:
        hyp, frames, options = self.job.run.hyp, self.job.frames, self.options
        weights = sampling_weights(hyp, frames.data, frames.train.split)
        self.sampler = EpochSampler(len(frames.train), options.seed, weights)
        usual = (options.batch_size, options.workers, self.job.run.compute.device.type == "cuda")
        matcher = self.job.criterion.matcher
        least = self._least_frames()
        self.train_loader = make_loader(frames.train, *usual, self.sampler, matcher, least)
        self.val_loader = make_loader(frames.val, *usual, match=matcher)

    def _least_frames(self) -> int:
        """How many frames of a batch a process needs."""
        frames, size = self.job.frames.train, self.options.batch_size
        ranks = distributed.world_size()
        rest = len(frames) % size
        if 1 not in (size // ranks, rest // ranks) or (self.options.sync_bn and ranks > 1):
            return 1  # no process is ever alone with a frame
        least = least_batch(self.job.model, frames.shape)
        if rest and rest < ranks * least:
            LOGGER.warning(
                f"warning: an epoch's last batch, of {rest}, is left out: "
                f"batch norm needs {ranks * least} frames where a map has one cell"
            )
        return least

    def _place_model(self) -> None:
        """Model, averages and losses on the device, in a number format that passes its check."""
        wanted = self.job.run.compute
        tune_for(wanted.device)
        model = self.job.model
        if self.options.sync_bn and distributed.world_size() > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model = wanted.place(model)
        self.ema_model = frozen_copy(self.model)
        self.criterion = self.job.criterion.to(wanted.device)
        self.compute = self._checked_compute(wanted)
        # Dropout differs between the processes.
        torch.manual_seed(self.options.seed + distributed.rank())
        if self.options.compile:
            for part in self.job.parts:
                self.model.get_submodule(part.path).compile()

    def _checked_compute(self, wanted: Compute) -> Compute:
        """`wanted` if it passes its check in every process, else float32.

        A resumed run was checked when it began.
        """
        resumed = self.job.run.resume
        if resumed:
            if resumed["precision"] == "float32" and wanted.dtype is not torch.float32:
                return replace(wanted, dtype=torch.float32, reason="as it began")
            return wanted
        frames = self.job.frames.val
        count = min(CHECK_FRAMES, len(frames))
        images = collate([frames[index] for index in range(count)])["images"]
        for found in distributed.gathered([verified(wanted, self.ema_model, images)]):
            if found.dtype is torch.float32:
                return found
        return wanted

    def _learner(self, part: Part) -> Learner:
        return Learner(
            part,
            self.model,
            self.ema_model,
            self.compute,
            batches=len(self.train_loader),
            batch_size=self.options.batch_size,
        )
