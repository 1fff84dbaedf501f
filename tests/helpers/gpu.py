"""The GPU that the tests in tests/gpu compute on, and how near its results are to others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch

DEVICE = "cuda:0"  # tests/gpu runs on "cpu" as well, if that is written here, to try the tests


def is_there() -> bool:
    """Whether the device is."""
    return DEVICE == "cpu" or torch.cuda.is_available()


class Found(Protocol):
    """What a network says of a frame."""

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    view_probabilities: np.ndarray


def share_without_partner(
    some: Iterable[Found], others: Iterable[Found], most_px: float, most_score: float
) -> float:
    """Of the boxes of `some` frames, the share that those of `others` do not have.

    A partner is of the same frame and class, with every side within `most_px` and the score within
    `most_score`.
    """
    alone = 0
    boxes = 0
    for own, other in zip(some, others, strict=True):
        boxes += len(own.scores)
        distance_px = np.abs(own.boxes_xyxy[:, None] - other.boxes_xyxy).max(axis=2)
        is_partner = distance_px <= most_px
        is_partner &= np.abs(own.scores[:, None] - other.scores) <= most_score
        is_partner &= own.classes[:, None] == other.classes
        alone += int((~is_partner.any(axis=1)).sum())
    assert boxes, "no box to compare"
    return alone / boxes


def largest_view_difference(some: Sequence[Found], others: Sequence[Found]) -> float:
    """Of any view's probability in any frame."""
    pairs = zip(some, others, strict=True)
    return max(np.abs(a.view_probabilities - b.view_probabilities).max() for a, b in pairs)


def losses_of(folder: Path) -> pd.DataFrame:
    """The losses and weights of every epoch of a run."""
    table = pd.read_csv(folder / "results.csv")
    return table.filter(regex="_loss$|^weight/").dropna(axis="columns")


def largest_relative_difference(some: pd.DataFrame, others: pd.DataFrame) -> float:
    """Of any figure in two tables of positive ones."""
    assert some.shape == others.shape and list(some) == list(others)
    return float((some / others - 1).abs().to_numpy().max())
