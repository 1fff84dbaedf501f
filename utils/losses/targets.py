"""Which anchors answer for which boxes, matched ahead of time so that the loss need not wait."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOURS = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))  # cells, x and y


@dataclass(frozen=True)
class LevelTargets:
    """The targets matched to one level's anchors; n matches.

    Attributes:
        index: (n,) int64 each: image, anchor, row, column, where in the raw map (B, anchors, H, W,
            ...).
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
        numbers = torch.stack((*self.index, self.class_number), dim=1)
        # As float32 they are exact, being far below 2^24.
        return torch.cat((numbers.float(), self.boxes_xywh, self.anchor_sizes), dim=1)

    @classmethod
    def of_rows(cls, rows: Tensor) -> LevelTargets:
        """What `rows` made of it."""
        *index, class_number = rows[:, :5].long().unbind(dim=1)
        return cls(tuple(index), class_number, rows[:, 5:9], rows[:, 9:])


def match_anchors(
    boxes: Tensor, anchors: Tensor, height: int, width: int, anchor_t: float
) -> LevelTargets:
    """Which anchors of one level answer for which boxes.

    Args:
        boxes: (n, 6) image, class, xc, yc, w, h as fractions of the image.
        anchors: (anchors, 2) in cells.
        height, width: the level's size in cells.
        anchor_t: the largest ratio of box side to anchor side, either way, that still matches.
    """
    grid = boxes.new_tensor([width, height])
    xy = boxes[:, 2:4] * grid
    wh = boxes[:, 4:6] * grid
    ratio = wh[None] / anchors[:, None]  # (anchors, n, 2)
    fits = torch.maximum(ratio, 1 / ratio).amax(dim=2) < anchor_t
    anchor, box = fits.nonzero(as_tuple=True)
    offset = _chosen_neighbours(xy[box], grid)  # (5, matches)
    neighbour, match = offset.nonzero(as_tuple=True)
    anchor = anchor[match]
    box = box[match]
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
    """(n, 2) centres in cells -> (5, n) bool: which of `NEIGHBOURS` answer for them.

    Their own cell does, and the nearest of left and right and of up and down.
    """
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
            "targets": (matches, 11) float32, `LevelTargets.rows` of all levels, and
            "target_counts": how many of them are each level's.
        """
        levels = [
            match_anchors(boxes, anchors, height // stride, width // stride, self.anchor_t)
            for anchors, stride in zip(self.anchors, self.strides, strict=True)
        ]
        return {
            "targets": torch.cat([level.rows() for level in levels]),
            "target_counts": [len(level) for level in levels],
        }
