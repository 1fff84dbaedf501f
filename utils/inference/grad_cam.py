"""Where in an image the view was found: Grad-CAM on the view head's input.

Selvaraju et al., ICCV 2017, arXiv:1610.02391. Their eq. 1: a channel's weight is the mean, over the
map, of the gradient of the chosen view's logit. Their eq. 2: the map is the sum of the channels
times their weights, with what is below zero left out. The gradient needs the head run again, and
not the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from utils.data.images import Letterbox


@contextmanager
def inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """A list that takes what `layer` reads while the block runs."""
    read: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    try:
        yield read
    finally:
        hook.remove()


def grad_cam(head: nn.Module, features: Tensor, views: Tensor) -> Tensor:
    """How much each place of the head's input raises a view's logit.

    Args:
        head: (B, C, H, W) -> (B, views) logits, an image independent of the others.
        features: (B, C, H, W) what it read.
        views: (B,) int64, the view to explain.

    Returns:
        (B, H, W) float32, at least 0; in units of the logit.
    """
    features = features.detach().float().requires_grad_()
    with torch.enable_grad():
        logits = head(features).gather(1, views[:, None])
        (gradient,) = torch.autograd.grad(logits.sum(), features)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * features.detach()).sum(dim=1).relu()


def to_image(cells: np.ndarray, letterbox: Letterbox, size: tuple[int, int]) -> np.ndarray:
    """A map over the letterboxed square -> one over the image, (height, width) float32 in [0, 1].

    1 is the square's largest value, which may lie in the letterbox's border; a map of zeros stays
    one.

    Args:
        cells: (h, w) float32, at least 0.
        size: height and width of the image.
    """
    height, width = size
    side = letterbox.width + letterbox.pad_left + letterbox.pad_right
    square = cv2.resize(cells / max(cells.max(), np.finfo(np.float32).tiny), (side, side))
    rows = slice(letterbox.pad_top, letterbox.pad_top + letterbox.height)
    columns = slice(letterbox.pad_left, letterbox.pad_left + letterbox.width)
    inside = square[rows, columns]
    return cv2.resize(inside, (width, height)).clip(0, 1)
