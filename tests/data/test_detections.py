"""Boxes come back to the pixels they were at in the original image, whatever its letterbox."""

import numpy as np
import torch
from torch import nn

from utils.data.detections import boxes_in_pixels, no_detections
from utils.data.images import Letterbox

SIZES = [(120, 200), (64, 48)]
BOXES_XYXY = [[20.0, 30.0, 80.0, 70.0], [4.0, 8.0, 30.0, 50.0]]


class Decoded(nn.Module):
    """A detector whose maps are decoded already."""

    def decode(self, maps: torch.Tensor) -> torch.Tensor:
        return maps


def letterboxed_rows(letterbox: Letterbox, size: tuple[int, int], box_xyxy: list[float]):
    """A sure box and one that it suppresses, as a detector says them.

    Xywh, objectness, two classes.
    """
    height, width = size
    low, high = np.array(box_xyxy[:2]), np.array(box_xyxy[2:])
    xywhn = np.concatenate(((low + high) / 2, high - low)) / [width, height, width, height]
    square = letterbox.height + letterbox.pad_top + letterbox.pad_bottom
    xywh = letterbox.boxes(xywhn[None])[0] * square
    return [[*xywh, 1.0, 0.25, 0.75], [*(xywh + 0.5), 1.0, 0.25, 0.5]]


def test_boxes_return_to_the_original_images_and_overlapping_ones_are_suppressed():
    letterboxes = [Letterbox.fit(*size, 160) for size in SIZES]
    rows = [letterboxed_rows(*own) for own in zip(letterboxes, SIZES, BOXES_XYXY, strict=True)]
    maps = torch.tensor(rows, dtype=torch.float32)
    found = boxes_in_pixels(Decoded(), maps, letterboxes, SIZES, confidence=0.3)
    for own, box_xyxy in zip(found, BOXES_XYXY, strict=True):
        assert own.shape == (1, 6)
        np.testing.assert_allclose(own[0], [*box_xyxy, 0.75, 1], atol=1e-4)
        assert own.dtype == np.float64


def test_without_a_box_there_are_no_rows():
    maps = torch.zeros(2, 5, 7)
    letterboxes = [Letterbox.fit(*size, 160) for size in SIZES]
    found = boxes_in_pixels(Decoded(), maps, letterboxes, SIZES)
    assert [own.shape for own in found] == [own.shape for own in no_detections(2)] == [(0, 6)] * 2
