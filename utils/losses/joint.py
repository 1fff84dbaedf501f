"""The losses of both tasks, by name: made of a model's outputs, summed for each task, and averaged over an epoch."""

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
from utils.losses.detection import ALONE, DetectionLoss, LossGains
from utils.losses.targets import AnchorMatcher


def view_loss(logits: Tensor, views: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of (B, views) logits, the mean over the frames whose view is known; zero if none is.

    Args:
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
        self.detection_loss, self.matcher = detection_loss, matcher
        self.register_buffer("view_weights", view_weights)

    def forward(
        self,
        outputs: Mapping[str, object],
        batch: Mapping[str, object],
        shares: Mapping[str, float] = ALONE,
    ) -> dict[str, Tensor]:
        """-> {"box", "obj", "cls", "view"} scalars; those whose output the model lacks are left out.

        "view_beside" is the sum over the view heads that are trained beside the first.

        Args:
            shares: as for `DetectionLoss`, and "views"; see `utils.core.distributed`.
        """
        losses = {}
        if "detect" in outputs:
            losses |= self.detection_loss(outputs["detect"], batch, shares)
        if "classify" in outputs:
            losses["view"] = self._view_loss(outputs["classify"], batch, shares)
        if "classify_beside" in outputs:
            losses["view_beside"] = sum(
                self._view_loss(own, batch, shares) for own in outputs["classify_beside"]
            )
        return losses

    def _view_loss(
        self, logits: Tensor, batch: Mapping[str, object], shares: Mapping[str, float]
    ) -> Tensor:
        weights = self.view_weights if self.training else None
        return view_loss(logits, batch["views"], weights) * shares.get("views", 1.0)


def loss_counts(batch: Mapping[str, object]) -> dict[str, float]:
    """Over how many things a batch's losses are means: frames, frames with a view, every level's matches."""
    matches = {
        f"matches{level}": count for level, count in enumerate(batch.get("target_counts", ()))
    }
    return {
        "frames": len(batch["views"]),
        "views": int((batch["views"] != UNKNOWN_VIEW).sum()),
        **matches,
    }


def joint_loss(
    detect: nn.Module | None,
    hyp: HyperParameters,
    image_size: int,
    view_weights: Tensor | None = None,
) -> JointLoss:
    """The hyp file's losses for a detection layer (None: there is none), an image size (pixels) and views' weights."""
    if detect is None:
        return JointLoss(None, view_weights)
    gains = LossGains.scaled(hyp, len(detect.anchors), detect.class_count, image_size)
    matcher = AnchorMatcher(detect.anchors.detach().cpu().clone(), detect.strides, hyp.anchor_t)
    return JointLoss(
        DetectionLoss(gains, hyp.cls_pw, hyp.obj_pw, hyp.label_smoothing), view_weights, matcher
    )


def task_losses(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named losses -> {"detection": box + obj + cls, "classification": view (+ beside)}, of the tasks present."""
    tasks = {}
    if "box" in losses:
        tasks["detection"] = sum(losses[name] for name in DETECTION_LOSSES)
    if "view" in losses:
        tasks["classification"] = losses["view"]
    if "view_beside" in losses:
        tasks["classification"] = tasks["classification"] + losses["view_beside"]
    return tasks


LOSS_READ_INTERVAL = (
    10  # batches between two reads of the losses on CUDA, so that the host never waits
)


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
        self._pending.append(
            (batch_index, paths, torch.stack([loss.detach() for loss in losses.values()]))
        )
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
        total = sum(sums for _, sums, images in seen if images) / sum(
            images for _, _, images in seen
        )
        return dict(zip(names, total.tolist(), strict=True))


def averaged_losses(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The losses of the whole batch, of which every process has its share; detached."""
    stacked = torch.stack([loss.detach() for loss in losses.values()])
    return dict(zip(losses, distributed.averaged(stacked).unbind(), strict=True))
