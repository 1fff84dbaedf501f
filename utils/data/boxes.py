"""Box conversions, the IoU family and non-maximum suppression.

A box is `xyxy` (left, top, right, bottom) or `xywh` (centre, size), in pixels unless a name ends in
`n` (fractions of the image).
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from utils.data.nms import batched_nms

EPSILON = 1e-7

Boxes = TypeVar("Boxes", Tensor, np.ndarray)


def xywh_to_xyxy(boxes_xywh: Boxes) -> Boxes:
    """(..., 4) centre and size -> (..., 4) corners."""
    centre = boxes_xywh[..., :2]
    half = boxes_xywh[..., 2:] / 2
    return _side_by_side(centre - half, centre + half)


def xyxy_to_xywh(boxes_xyxy: Boxes) -> Boxes:
    """(..., 4) corners -> (..., 4) centre and size."""
    low = boxes_xyxy[..., :2]
    high = boxes_xyxy[..., 2:]
    return _side_by_side((low + high) / 2, high - low)


def _side_by_side(first: Boxes, second: Boxes) -> Boxes:
    """(..., 2) and (..., 2) -> (..., 4)."""
    if isinstance(first, Tensor):
        return torch.cat((first, second), dim=-1)
    return np.concatenate((first, second), axis=-1)


def pairwise_iou(a_xywh: Tensor, b_xywh: Tensor, kind: str = "iou") -> Tensor:
    """IoU of every row of `a_xywh` (n, 4) with the same row of `b_xywh` (n, 4) -> (n,).

    `kind`: "iou"; "giou" (Rezatofighi et al. 2019); "diou" or "ciou" (Zheng et al. 2020, eqs. 7 and
    10). As in YOLOv5, CIoU's trade-off factor carries no gradient.
    """
    a = xywh_to_xyxy(a_xywh)
    b = xywh_to_xyxy(b_xywh)
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    intersection = _areas(overlap)
    a_size = a_xywh[:, 2:]
    b_size = b_xywh[:, 2:]
    union = _areas(a_size) + _areas(b_size) - intersection + EPSILON
    iou = intersection / union
    if kind == "iou":
        return iou
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    if kind == "giou":
        hull_area = _areas(hull) + EPSILON
        return iou - (hull_area - union) / hull_area
    centre_distance2 = (a_xywh[:, :2] - b_xywh[:, :2]).square().sum(dim=1)
    diou = iou - centre_distance2 / (hull.square().sum(dim=1) + EPSILON)
    if kind == "diou":
        return diou
    assert kind == "ciou", kind
    angle = torch.atan(a_size[:, 0] / (a_size[:, 1] + EPSILON))
    angle_difference = torch.atan(b_size[:, 0] / (b_size[:, 1] + EPSILON)) - angle
    aspect = (4 / math.pi**2) * angle_difference.square()
    with torch.no_grad():
        trade_off = aspect / (aspect - iou + (1 + EPSILON))
    return diou - trade_off * aspect


def _areas(sides: Tensor) -> Tensor:
    """(n,) of the sides (n, 2). `Tensor.prod` would wait for the GPU in its backward pass."""
    return sides[:, 0] * sides[:, 1]


def non_max_suppression(
    decoded: Tensor,
    confidence: float = 0.25,
    iou: float = 0.45,
    several_labels: bool = False,
    max_detections: int = 300,
    max_candidates: int = 30_000,
) -> list[Tensor]:
    """Detections of every image, best first, suppressed class by class.

    Args:
        decoded: (B, N, 5 + nc) float32: xywh in pixels, objectness, class scores, all after the
            sigmoid.
        confidence: lower limit of objectness, and of objectness x class score.
        iou: boxes of one class that overlap more than this are suppressed.
        several_labels: a box may be kept once for every class above `confidence` (as when
            validating), rather than for its best class only.

    Returns:
        A (n, 6) tensor an image: x1, y1, x2, y2, confidence, class.
    """
    found = []
    for rows in decoded:
        rows = rows[rows[:, 4] > confidence]
        candidates = _candidates(rows, confidence, several_labels, max_candidates)
        found.append(_suppress(candidates, iou, max_detections))
    return found


def _candidates(
    rows: Tensor, confidence: float, several_labels: bool, max_candidates: int
) -> Tensor:
    """An image's rows (n, 5 + nc) -> its boxes (m, 6) as detections, best first."""
    scores = rows[:, 5:] * rows[:, 4:5]  # (n, nc)
    if several_labels and scores.shape[1] > 1:
        row, label = (scores > confidence).nonzero(as_tuple=True)
    else:
        best, best_label = scores.max(dim=1)
        row = (best > confidence).nonzero().squeeze(1)
        label = best_label[row]
    score = scores[row, label]
    order = score.argsort(descending=True, stable=True)[:max_candidates]
    boxes_xyxy = xywh_to_xyxy(rows[row[order], :4])
    columns = (boxes_xyxy, score[order, None], label[order, None].to(score.dtype))
    return torch.cat(columns, dim=1)


def _suppress(candidates: Tensor, iou: float, max_detections: int) -> Tensor:
    """Of (m, 6) candidates, best first, those that no better one of their class overlaps."""
    boxes_xyxy = candidates[:, :4]
    score = candidates[:, 4]
    label = candidates[:, 5]
    kept = batched_nms(boxes_xyxy, score, label, iou)[:max_detections]
    return candidates[kept]
