"""Box conversions, the IoU family and non-maximum suppression.

A box is `xyxy` (left, top, right, bottom) or `xywh` (centre, size), in pixels unless a name ends in
`n` (fractions of the image).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import batched_nms

EPSILON = 1e-7


def xywh_to_xyxy(boxes_xywh: Tensor) -> Tensor:
    """(..., 4) centre and size -> (..., 4) corners."""
    centre, half = boxes_xywh[..., :2], boxes_xywh[..., 2:] / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def xyxy_to_xywh(boxes_xyxy: Tensor) -> Tensor:
    """(..., 4) corners -> (..., 4) centre and size."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def pairwise_iou(a_xywh: Tensor, b_xywh: Tensor, kind: str = "iou") -> Tensor:
    """IoU of every row of `a_xywh` (n, 4) with the same row of `b_xywh` (n, 4) -> (n,).

    `kind`: "iou"; "giou" (Rezatofighi et al. 2019); "diou" or "ciou" (Zheng et al. 2020, eqs. 7 and
    10). As in YOLOv5, CIoU's trade-off factor carries no gradient.
    """
    a, b = xywh_to_xyxy(a_xywh), xywh_to_xyxy(b_xywh)
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    intersection = overlap.prod(dim=1)
    a_size, b_size = a_xywh[:, 2:], b_xywh[:, 2:]
    union = a_size.prod(dim=1) + b_size.prod(dim=1) - intersection + EPSILON
    iou = intersection / union
    if kind == "iou":
        return iou
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    if kind == "giou":
        hull_area = hull.prod(dim=1) + EPSILON
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
    return [
        _suppress(
            rows[rows[:, 4] > confidence],
            confidence,
            iou,
            several_labels,
            max_detections,
            max_candidates,
        )
        for rows in decoded
    ]


def _suppress(
    rows: Tensor,
    confidence: float,
    iou: float,
    several_labels: bool,
    max_detections: int,
    max_candidates: int,
) -> Tensor:
    scores = rows[:, 5:] * rows[:, 4:5]  # (n, nc)
    if several_labels and scores.shape[1] > 1:
        row, label = (scores > confidence).nonzero(as_tuple=True)
        score = scores[row, label]
    else:
        score, label = scores.max(dim=1)
        row = (score > confidence).nonzero().squeeze(1)
        score, label = score[row], label[row]
    order = score.argsort(descending=True, stable=True)[:max_candidates]
    row, score, label = row[order], score[order], label[order]
    boxes_xyxy = xywh_to_xyxy(rows[row, :4])
    kept = batched_nms(boxes_xyxy, score, label, iou)[:max_detections]
    return torch.cat(
        (boxes_xyxy[kept], score[kept, None], label[kept, None].to(score.dtype)), dim=1
    )
