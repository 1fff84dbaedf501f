"""Non-maximum suppression by torchvision's kernel, without the import of torchvision.

That import takes as long as that of torch, since it brings in what compiles models.
"""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

# Boxes from which on it is quicker to look at one class after the other, as in torchvision
MANY = {"cpu": 1000, "cuda": 5000}


def batched_nms(boxes_xyxy: Tensor, score: Tensor, label: Tensor, iou: float) -> Tensor:
    """The numbers of the boxes kept, best first; it is what `torchvision.ops.batched_nms` gives.

    Args:
        boxes_xyxy: (n, 4), best first.
        score: (n,), descending.
        label: (n,) class numbers; only boxes of one class suppress each other.
        iou: boxes that overlap a better one more than this are suppressed.
    """
    _load_kernel()
    nms = torch.ops.torchvision.nms
    if not len(boxes_xyxy):
        return torch.zeros(0, dtype=torch.int64, device=boxes_xyxy.device)
    if len(boxes_xyxy) <= MANY[boxes_xyxy.device.type]:
        apart = label * (boxes_xyxy.max() + 1)  # moves classes so far that they cannot overlap
        return nms(boxes_xyxy + apart[:, None], score, iou)
    is_kept = torch.zeros_like(score, dtype=torch.bool)
    for number in label.unique():
        own = (label == number).nonzero().squeeze(1)
        is_kept[own[nms(boxes_xyxy[own], score[own], iou)]] = True
    return is_kept.nonzero().squeeze(1)


@cache
def _load_kernel() -> None:
    """Let PyTorch know torchvision's compiled functions."""
    package = importlib.util.find_spec("torchvision")
    with suppress(OSError):
        for library in Path(package.origin).parent.glob("_C*"):
            torch.ops.load_library(library)
    if not hasattr(torch.ops.torchvision, "nms"):
        importlib.import_module("torchvision")  # says what is wrong with it
