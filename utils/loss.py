"""Detection and view losses, as named scalars: `box`, `obj`, `cls` (their sum is the detection loss), `view`.

The detection loss is YOLOv5's: targets go to every anchor whose size is within a factor `anchor_t` of theirs,
in their own cell and the two nearest neighbours; CIoU for boxes; binary cross-entropy for classes and for
objectness, whose target is the predicted box's IoU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.boxes import pairwise_iou
from utils.config import HyperParameters
from utils.labels import UNKNOWN_VIEW

DETECTION_LOSSES = ("box", "obj", "cls")
# Weight of each level's objectness, from the finest to the coarsest.
LEVEL_BALANCE = {3: (4.0, 1.0, 0.4), 5: (4.0, 1.0, 0.25, 0.06, 0.02)}
ALONE: Mapping[str, float] = {}  # the shares of a process that trains alone: all 1
NEIGHBOURS = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))  # cells, x and y


@dataclass(frozen=True)
class LossGains:
    """What the means of the three detection losses are multiplied with."""

    box: float
    obj: float
    cls: float

    @classmethod
    def scaled(cls, hyp: HyperParameters, levels: int, class_count: int, image_size: int) -> LossGains:
        """The hyp file's gains, scaled as YOLOv5's trainer does for a model and an image size (pixels)."""
        return cls(
            box=hyp.box * 3 / levels,
            obj=hyp.obj * (image_size / 640) ** 2 * 3 / levels,
            cls=hyp.cls * class_count / 80 * 3 / levels,
        )


@dataclass(frozen=True)
class LevelTargets:
    """The targets matched to one level's anchors; n matches.

    Attributes:
        index: (n,) int64 each: image, anchor, row, column, where in the raw map (B, anchors, H, W, ...).
        class_number: (n,) int64.
        boxes_xywh: (n, 4) in cells, the centre relative to the cell's corner.
        anchor_sizes: (n, 2) in cells.
    """

    index: tuple[Tensor, Tensor, Tensor, Tensor]
    class_number: Tensor
    boxes_xywh: Tensor
    anchor_sizes: Tensor

    def __len__(self) -> int:
        return len(self.class_number)

    def rows(self) -> Tensor:
        """(n, 11) float32: everything in one tensor, which travels to a device at once."""
        whole = torch.stack((*self.index, self.class_number), dim=1).float()  # exact, being far below 2^24
        return torch.cat((whole, self.boxes_xywh, self.anchor_sizes), dim=1)

    @classmethod
    def of_rows(cls, rows: Tensor) -> LevelTargets:
        """What `rows` made of it."""
        *index, class_number = rows[:, :5].long().unbind(dim=1)
        return cls(tuple(index), class_number, rows[:, 5:9], rows[:, 9:])


def match_anchors(boxes: Tensor, anchors: Tensor, height: int, width: int, anchor_t: float) -> LevelTargets:
    """Which anchors of one level answer for which boxes.

    Args:
        boxes: (n, 6) image, class, xc, yc, w, h as fractions of the image.
        anchors: (anchors, 2) in cells.
        height, width: the level's size in cells.
        anchor_t: the largest ratio of box side to anchor side, either way, that still matches.
    """
    grid = boxes.new_tensor([width, height])
    xy, wh = boxes[:, 2:4] * grid, boxes[:, 4:6] * grid
    ratio = wh[None] / anchors[:, None]  # (anchors, n, 2)
    fits = torch.maximum(ratio, 1 / ratio).amax(dim=2) < anchor_t
    anchor, box = fits.nonzero(as_tuple=True)
    offset = _chosen_neighbours(xy[box], grid)  # (5, matches)
    neighbour, match = offset.nonzero(as_tuple=True)
    anchor, box = anchor[match], box[match]
    # Half a cell towards the neighbour, so that truncation lands in it.
    shift = boxes.new_tensor(NEIGHBOURS)[neighbour] * 0.5
    cell = torch.minimum((xy[box] - shift).long().clamp(min=0), grid.long() - 1)
    return LevelTargets(
        index=(boxes[box, 0].long(), anchor, cell[:, 1], cell[:, 0]),
        class_number=boxes[box, 1].long(),
        boxes_xywh=torch.cat((xy[box] - cell, wh[box]), dim=1),
        anchor_sizes=anchors[anchor],
    )


def _chosen_neighbours(xy: Tensor, grid: Tensor) -> Tensor:
    """(n, 2) centres in cells -> (5, n) bool: own cell, and the nearest of left/right and of up/down."""
    near_left, near_up = ((xy % 1 < 0.5) & (xy > 1)).T
    from_end = grid - xy
    near_right, near_down = ((from_end % 1 < 0.5) & (from_end > 1)).T
    own = torch.ones_like(near_left)
    return torch.stack((own, near_left, near_up, near_right, near_down))


@dataclass(frozen=True)
class AnchorMatcher:
    """Matches a batch's boxes to the anchors of every level, on the CPU.

    Attributes:
        anchors: (levels, anchors, 2) in stride units.
        strides: pixels a cell of each level.
        anchor_t: see `match_anchors`.
    """

    anchors: Tensor
    strides: tuple[int, ...]
    anchor_t: float = 4.0

    def __call__(self, boxes: Tensor, height: int, width: int) -> dict[str, object]:
        """Boxes (n, 6) of images of height x width pixels -> entries of a batch.

        Returns:
            "targets": (matches, 11) float32, `LevelTargets.rows` of all levels, and "target_counts": how many of
            them are each level's.
        """
        levels = [
            match_anchors(boxes, anchors, height // stride, width // stride, self.anchor_t)
            for anchors, stride in zip(self.anchors, self.strides, strict=True)
        ]
        return {
            "targets": torch.cat([level.rows() for level in levels]),
            "target_counts": [len(level) for level in levels],
        }


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
        self.positive, self.negative = 1 - label_smoothing / 2, label_smoothing / 2

    def forward(
        self, raw_maps: list[Tensor], batch: Mapping[str, object], shares: Mapping[str, float] = ALONE
    ) -> dict[str, Tensor]:
        """The mean losses of a batch.

        Args:
            raw_maps: (B, anchors, H, W, 5 + nc) a level.
            batch: with what `AnchorMatcher` adds to it.
            shares: "frames", "matches0", "matches1", ...: what this process's means are multiplied with; 1 if absent.

        Returns:
            {"box", "obj", "cls"} float32 scalars.
        """
        levels = [LevelTargets.of_rows(rows) for rows in batch["targets"].split(batch["target_counts"])]
        total = dict.fromkeys(DETECTION_LOSSES, 0.0)
        balance = LEVEL_BALANCE[len(raw_maps)]
        for number, (raw, targets) in enumerate(zip(raw_maps, levels, strict=True)):
            losses = self._level(raw.float(), targets)
            matches = shares.get(f"matches{number}", 1.0)
            total["box"] = total["box"] + self.gains.box * losses["box"] * matches
            total["obj"] = total["obj"] + self.gains.obj * balance[number] * losses["obj"] * shares.get("frames", 1.0)
            total["cls"] = total["cls"] + self.gains.cls * losses["cls"] * matches
        return total

    def _level(self, raw: Tensor, targets: LevelTargets) -> dict[str, Tensor]:
        objectness = torch.zeros_like(raw[..., 4])
        box_loss = cls_loss = raw.new_zeros(())
        if len(targets):
            predicted = raw[targets.index]  # (n, 5 + nc)
            xy = predicted[:, :2].sigmoid() * 2 - 0.5
            wh = (predicted[:, 2:4].sigmoid() * 2).square() * targets.anchor_sizes
            iou = pairwise_iou(torch.cat((xy, wh), dim=1), targets.boxes_xywh, "ciou")
            box_loss = (1 - iou).mean()
            objectness = _scatter_iou(objectness, targets.index, iou.detach().clamp(min=0))
            cls_loss = self._class_loss(predicted[:, 5:], targets.class_number)
        obj_loss = F.binary_cross_entropy_with_logits(raw[..., 4], objectness, pos_weight=self.obj_pw)
        return {"box": box_loss, "obj": obj_loss, "cls": cls_loss}

    def _class_loss(self, logits: Tensor, class_number: Tensor) -> Tensor:
        if logits.shape[1] == 1:  # with a single class, objectness says it all
            return logits.new_zeros(())
        target = torch.full_like(logits, self.negative)
        target.scatter_(1, class_number[:, None], self.positive)
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.cls_pw)


def _scatter_iou(objectness: Tensor, index: tuple[Tensor, ...], iou: Tensor) -> Tensor:
    """Write each match's IoU where it belongs; of several in one place the last counts, on every device."""
    shape = objectness.shape
    flat = index[0]
    for size, part in zip(shape[1:], index[1:], strict=True):
        flat = flat * size + part
    order = torch.arange(len(flat), device=flat.device)
    last = torch.full((objectness.numel(),), -1, device=flat.device).scatter_reduce_(0, flat, order, "amax")
    return torch.where(last >= 0, iou[last.clamp(min=0)], objectness.view(-1)).view(shape)


def view_loss(logits: Tensor, views: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of (B, views) logits, the mean over the frames whose view is known; zero if none is.

    Args:
        weights: (views,) what a view's frames are multiplied with. The mean is still over frames, not over weights,
            so that a batch of frequent views has a smaller loss than one of rare views.
    """
    summed = F.cross_entropy(logits.float(), views, weights, ignore_index=UNKNOWN_VIEW, reduction="sum")
    return summed / (views != UNKNOWN_VIEW).sum().clamp(min=1)


class JointLoss(nn.Module):
    """Both tasks' losses from a model's outputs and a batch.

    Args:
        view_weights: see `view_loss`. They apply in training mode only, so that validation losses can be compared
            whatever was trained with.
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
        self, outputs: Mapping[str, object], batch: Mapping[str, object], shares: Mapping[str, float] = ALONE
    ) -> dict[str, Tensor]:
        """-> {"box", "obj", "cls", "view"} scalars; those whose output the model lacks are left out.

        Args:
            shares: as for `DetectionLoss`, and "views"; see `utils.distributed`.
        """
        losses = {}
        if "detect" in outputs:
            losses |= self.detection_loss(outputs["detect"], batch, shares)
        if "classify" in outputs:
            weights = self.view_weights if self.training else None
            losses["view"] = view_loss(outputs["classify"], batch["views"], weights) * shares.get("views", 1.0)
        return losses


def loss_counts(batch: Mapping[str, object]) -> dict[str, float]:
    """Over how many things a batch's losses are means: frames, frames with a view, every level's matches."""
    matches = {f"matches{level}": count for level, count in enumerate(batch.get("target_counts", ()))}
    return {"frames": len(batch["views"]), "views": int((batch["views"] != UNKNOWN_VIEW).sum()), **matches}


def joint_loss(
    detect: nn.Module | None, hyp: HyperParameters, image_size: int, view_weights: Tensor | None = None
) -> JointLoss:
    """The hyp file's losses for a detection layer (None: there is none), an image size (pixels) and views' weights."""
    if detect is None:
        return JointLoss(None, view_weights)
    gains = LossGains.scaled(hyp, len(detect.anchors), detect.class_count, image_size)
    matcher = AnchorMatcher(detect.anchors.detach().cpu().clone(), detect.strides, hyp.anchor_t)
    return JointLoss(DetectionLoss(gains, hyp.cls_pw, hyp.obj_pw, hyp.label_smoothing), view_weights, matcher)


def task_losses(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named losses -> {"detection": box + obj + cls, "classification": view}, of the tasks present."""
    tasks = {}
    if "box" in losses:
        tasks["detection"] = sum(losses[name] for name in DETECTION_LOSSES)
    if "view" in losses:
        tasks["classification"] = losses["view"]
    return tasks
