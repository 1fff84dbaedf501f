"""The detection loss as named scalars: `box`, `obj` and `cls`, whose sum it is.

The detection loss is YOLOv5's: targets go to every anchor whose size is within a factor `anchor_t`
of theirs, in their own cell and the two nearest neighbours; CIoU for boxes; binary cross-entropy
for classes and for objectness, whose target is the predicted box's IoU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.core.hyperparameters import HyperParameters
from utils.core.names import DETECTION_LOSSES
from utils.data.boxes import pairwise_iou
from utils.data.loader import Batch
from utils.losses.targets import LevelTargets

# Weight of each level's objectness, from the finest to the coarsest.
LEVEL_BALANCE = {3: (4.0, 1.0, 0.4), 5: (4.0, 1.0, 0.25, 0.06, 0.02)}
ALONE: Mapping[str, float] = {}  # the rank weights of a process that trains alone: all 1


@dataclass(frozen=True)
class LossGains:
    """What the means of the three detection losses are multiplied with."""

    box: float
    obj: float
    cls: float

    @classmethod
    def scaled(
        cls, hyp: HyperParameters, levels: int, class_count: int, image_size: int
    ) -> LossGains:
        """The hyp file's gains, scaled as YOLOv5's trainer does.

        Args:
            levels: of the model.
            image_size: side in pixels.
        """
        return cls(
            box=hyp.box * 3 / levels,
            obj=hyp.obj * (image_size / 640) ** 2 * 3 / levels,
            cls=hyp.cls * class_count / 80 * 3 / levels,
        )


class DetectionLoss(nn.Module):
    """YOLOv5's detection loss.

    Args:
        gains: what the means are multiplied with.
        cls_pw, obj_pw: weights of the positives in the two cross-entropies.
        label_smoothing: class targets become 1 - s/2 and s/2.
    """

    def __init__(
        self,
        gains: LossGains,
        cls_pw: float = 1.0,
        obj_pw: float = 1.0,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        self.register_buffer("cls_pw", torch.tensor([cls_pw]))
        self.register_buffer("obj_pw", torch.tensor([obj_pw]))
        self.gains = gains
        self.positive = 1 - label_smoothing / 2
        self.negative = label_smoothing / 2

    def forward(
        self,
        raw_maps: list[Tensor],
        batch: Batch,
        rank_weights: Mapping[str, float] = ALONE,
    ) -> dict[str, Tensor]:
        """The mean losses of a batch.

        Args:
            raw_maps: (B, anchors, H, W, 5 + nc) a level.
            batch: with what `AnchorMatcher` adds to it.
            rank_weights: "frames", "matches0", "matches1", ...: what this process's means are
                multiplied with; 1 if absent.

        Returns:
            {"box", "obj", "cls"} float32 scalars.
        """
        levels = _level_targets(batch)
        total = dict.fromkeys(DETECTION_LOSSES, 0.0)
        balance = LEVEL_BALANCE[len(raw_maps)]
        frames = rank_weights.get("frames", 1.0)
        for number, (raw, targets) in enumerate(zip(raw_maps, levels, strict=True)):
            losses = self._elements(raw.float(), targets)
            means = {name: _mean_or_zero(elements) for name, elements in losses.items()}
            matches = rank_weights.get(f"matches{number}", 1.0)
            total["box"] = total["box"] + self.gains.box * means["box"] * matches
            total["obj"] = total["obj"] + self.gains.obj * balance[number] * means["obj"] * frames
            total["cls"] = total["cls"] + self.gains.cls * means["cls"] * matches
        return total

    def of_frames(self, raw_maps: list[Tensor], batch: Batch) -> Tensor:
        """(B,) box + obj + cls of every frame, as if it were a batch of its own.

        Arguments as for `forward`.
        """
        levels = _level_targets(batch)
        balances = LEVEL_BALANCE[len(raw_maps)]
        total = 0.0
        for raw, targets, balance in zip(raw_maps, levels, balances, strict=True):
            losses = self._elements(raw.float(), targets)
            image = targets.index[0]
            box = _frame_means(losses["box"].mean(dim=1), image, len(raw))
            cls = _frame_means(losses["cls"].mean(dim=1), image, len(raw))
            obj = losses["obj"].mean(dim=(1, 2, 3))
            total = total + self.gains.obj * balance * obj
            total = total + self.gains.box * box
            total = total + self.gains.cls * cls
        return total

    def _elements(self, raw: Tensor, targets: LevelTargets) -> dict[str, Tensor]:
        """What the losses are means of.

        Returns:
            "box" (n, 1) and "cls" (n, nc) of the n matches, "obj" (B, anchors, H, W).
        """
        objectness = torch.zeros_like(raw[..., 4])
        predicted = raw[targets.index]  # (n, 5 + nc)
        xy = predicted[:, :2].sigmoid() * 2 - 0.5
        wh = (predicted[:, 2:4].sigmoid() * 2).square() * targets.anchor_sizes
        iou = pairwise_iou(torch.cat((xy, wh), dim=1), targets.boxes_xywh, "ciou")
        if len(targets):
            objectness = _scatter_iou(objectness, targets.index, iou.detach().clamp(min=0))
        obj_loss = F.binary_cross_entropy_with_logits(
            raw[..., 4], objectness, pos_weight=self.obj_pw, reduction="none"
        )
        cls_loss = self._class_loss(predicted[:, 5:], targets.class_number)
        return {"box": (1 - iou)[:, None], "obj": obj_loss, "cls": cls_loss}

    def _class_loss(self, logits: Tensor, class_number: Tensor) -> Tensor:
        if logits.shape[1] == 1:  # of a single class, objectness is the score
            return torch.zeros_like(logits)
        target = torch.full_like(logits, self.negative)
        target.scatter_(1, class_number[:, None], self.positive)
        return F.binary_cross_entropy_with_logits(
            logits, target, pos_weight=self.cls_pw, reduction="none"
        )


def _level_targets(batch: Batch) -> list[LevelTargets]:
    """A batch's targets, level for level."""
    rows_of_levels = batch["targets"].split(batch["target_counts"])
    return [LevelTargets.of_rows(rows) for rows in rows_of_levels]


def _mean_or_zero(elements: Tensor) -> Tensor:
    """Their mean; 0, with its graph, if there are none."""
    if len(elements) == 0:
        return elements.sum()
    return elements.mean()


def _frame_means(values: Tensor, frame: Tensor, frames: int) -> Tensor:
    """(frames,) means of the values (n,) by the frame (n,) that they belong to.

    A frame without any has 0.
    """
    owned = frame == torch.arange(frames, device=frame.device)[:, None]  # (frames, n)
    return (owned * values).sum(dim=1) / owned.sum(dim=1).clamp(min=1)


def _scatter_iou(objectness: Tensor, index: tuple[Tensor, ...], iou: Tensor) -> Tensor:
    """Write each match's IoU where it belongs: the same on every device.

    Of several matches in one place the last counts.

    Args:
        objectness: (B, anchors, H, W).
        index: (n,) int64 each, where in `objectness`.
        iou: (n,).
    """
    shape = objectness.shape
    flat = index[0]
    for size, part in zip(shape[1:], index[1:], strict=True):
        flat = flat * size + part
    order = torch.arange(len(flat), device=flat.device)
    last = torch.full((objectness.numel(),), -1, device=flat.device)
    last.scatter_reduce_(0, flat, order, "amax")
    written = torch.where(last >= 0, iou[last.clamp(min=0)], objectness.view(-1))
    return written.view(shape)
