"""The losses of both tasks, by name: of a batch, of each task, and their means over an epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.core import distributed
from utils.core.hyperparameters import HyperParameters
from utils.core.names import DETECTION_LOSSES
from utils.core.script import UserError
from utils.data.labels import UNKNOWN_VIEW
from utils.data.loader import Labels
from utils.losses.detection import ALONE, DetectionLoss, LossGains
from utils.losses.targets import AnchorMatcher


def view_loss(logits: Tensor, views: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy, the mean over the frames whose view is known; zero if none is.

    Args:
        logits: (B, views).
        views: (B,) int64, -1 where unknown.
        weights: (views,) what a view's frames are multiplied with. The mean is still over frames,
            not over weights, so that a batch of frequent views has a smaller loss than one of rare
            views.
    """
    summed = F.cross_entropy(
        logits.float(), views, weights, ignore_index=UNKNOWN_VIEW, reduction="sum"
    )
    return summed / (views != UNKNOWN_VIEW).sum().clamp(min=1)


class JointLoss(nn.Module):
    """Both tasks' losses from a model's outputs and a batch.

    Args:
        view_weights: see `view_loss`. They apply in training mode only, so that validation losses
            can be compared whatever was trained with.
        matcher: what the loader needs, so that batches have what the detection loss reads.
    """

    def __init__(
        self,
        detection_loss: DetectionLoss | None,
        view_weights: Tensor | None = None,
        matcher: AnchorMatcher | None = None,
    ):
        super().__init__()
        self.detection_loss = detection_loss
        self.matcher = matcher
        self.register_buffer("view_weights", view_weights)

    def forward(
        self,
        outputs: Mapping[str, object],
        batch: Labels,
        rank_weights: Mapping[str, float] = ALONE,
    ) -> dict[str, Tensor]:
        """The named losses of a batch, scalars; those whose output the model lacks are left out.

        They are "box", "obj", "cls" and "view".

        Args:
            rank_weights: as for `DetectionLoss`, and "views"; see `utils.core.distributed`.
        """
        losses = {}
        if "detect" in outputs:
            losses |= self.detection_loss(outputs["detect"], batch, rank_weights)
        weight = rank_weights.get("views", 1.0)
        if "classify" in outputs:
            losses["view"] = self._view_loss(outputs["classify"], batch) * weight
        return losses

    def _view_loss(self, logits: Tensor, batch: Labels) -> Tensor:
        if self.training:
            return view_loss(logits, batch["views"], self.view_weights)
        return view_loss(logits, batch["views"])


def loss_counts(batch: Labels) -> dict[str, float]:
    """Over how many things a batch's losses are means.

    Returns:
        "frames", "views" (frames with a view), and every level's matches: "matches0", ...
    """
    counts = {
        "frames": len(batch["views"]),
        "views": int((batch["views"] != UNKNOWN_VIEW).sum()),
    }
    for level, count in enumerate(batch.get("target_counts", ())):
        counts[f"matches{level}"] = count
    return counts


def joint_loss(
    detect: nn.Module | None,
    hyp: HyperParameters,
    image_size: int,
    view_weights: Tensor | None = None,
) -> JointLoss:
    """The hyp file's losses.

    Args:
        detect: the model's detection layer; None if it has none.
        image_size: side in pixels.
        view_weights: see `view_loss`.
    """
    if detect is None:
        return JointLoss(None, view_weights)
    gains = LossGains.scaled(hyp, len(detect.anchors), detect.class_count, image_size)
    matcher = AnchorMatcher(detect.anchors.detach().cpu().clone(), detect.strides, hyp.anchor_t)
    detection_loss = DetectionLoss(gains, hyp.cls_pw, hyp.obj_pw, hyp.label_smoothing)
    return JointLoss(detection_loss, view_weights, matcher)


def task_losses(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named losses -> the loss of each task that there is.

    Returns:
        "detection": box + obj + cls; "classification": view.
    """
    tasks = {}
    if "box" in losses:
        tasks["detection"] = sum(losses[name] for name in DETECTION_LOSSES)
    if "view" in losses:
        tasks["classification"] = losses["view"]
    return tasks


# Batches between two reads of the losses on CUDA: the host waits for each.
LOSS_READ_INTERVAL = 10


class LossMeter:
    """Means of the named losses over an epoch, read from the device every `interval` batches.

    Raises:
        UserError: at the first read after a loss that is not finite.
    """

    def __init__(self, interval: int):
        self.interval = interval
        self.last: dict[str, float] = {}
        self._pending: list[tuple[int, list[str], Tensor]] = []
        self._names: tuple[str, ...] = ()
        self._sum = np.zeros(0)
        self._images = 0

    def add(self, batch_index: int, losses: Mapping[str, Tensor], paths: list[str]) -> None:
        """Take note of a batch's losses."""
        self._names = tuple(losses)
        values = torch.stack([loss.detach() for loss in losses.values()])
        self._pending.append((batch_index, paths, values))
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
                    f"the loss is not finite at batch {index}: {named}; "
                    f"images: {', '.join(paths)}. The last checkpoint is intact; "
                    "try a lower lr0 or --amp off, or check these labels"
                )
            if not self._images:
                self._sum = np.zeros(len(row))
            self._sum = self._sum + row * len(paths)
            self._images += len(paths)
        self.last = named
        self._pending = []

    def means(self) -> dict[str, float]:
        """Loss -> mean over the images that all processes have seen."""
        seen = distributed.gathered([(self._names, self._sum, self._images)])
        busy = [entry for entry in seen if entry[2]]  # a process may have had nothing to do
        names = busy[0][0]
        total = sum(sums for _, sums, _ in busy)
        images = sum(images for _, _, images in busy)
        return dict(zip(names, (total / images).tolist(), strict=True))


def averaged_losses(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The losses of the whole batch, of which every process has its share; detached."""
    stacked = torch.stack([loss.detach() for loss in losses.values()])
    return dict(zip(losses, distributed.averaged(stacked).unbind(), strict=True))
