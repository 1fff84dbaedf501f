"""From a detector's outputs to boxes in pixels: what evaluation and prediction share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from utils.data.boxes import non_max_suppression
from utils.data.images import Letterbox


def boxes_in_pixels(
    model: nn.Module,
    maps: Sequence[Tensor],
    letterboxes: Sequence[Letterbox],
    sizes: Sequence[tuple[int, int]],
    **limits: object,
) -> list[np.ndarray]:
    """Decode a detector's maps, suppress, and map the boxes back into the original images.

    Args:
        model: with `decode`, the maps' own.
        maps: `outputs["detect"]` of a batch of B images.
        letterboxes: of the B images.
        sizes: height and width of the B original images, pixels.
        limits: of `utils.data.boxes.non_max_suppression`.

    Returns:
        For every image (n, 6) float64, best first: x1, y1, x2, y2 in pixels of the original image
        and clipped to it, confidence, class.
    """
    found = non_max_suppression(model.decode(maps), **limits)
    # One copy to the host for the whole batch
    rows = torch.cat(found).cpu().double().split([len(boxes) for boxes in found])
    detections = []
    for own, letterbox, (height, width) in zip(rows, letterboxes, sizes, strict=True):
        own = own.numpy()
        boxes_xyxy = letterbox.to_original(own[:, :4], height, width)
        detections.append(np.hstack((boxes_xyxy, own[:, 4:])))
    return detections


def no_detections(images: int) -> list[np.ndarray]:
    """What `boxes_in_pixels` returns of so many images without a box, or without a detector."""
    return [np.zeros((0, 6))] * images
