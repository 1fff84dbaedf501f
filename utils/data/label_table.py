"""The labels of many frames as arrays, so that a million of them need no million objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from utils.data.labels import FrameLabels


@dataclass(frozen=True, eq=False)
class LabelTable(Sequence[FrameLabels]):
    """The labels of F frames with N boxes in all; `table[index]` are those of a frame.

    Attributes:
        boxes: (N, 5) float64, see `FrameLabels`, of the frames one after the other.
        ends: (F,) int64, how many of the boxes are those of a frame and of the ones before it.
        views: (F,) int64, -1 where unknown.
        cut_boxes: (F,) int64, see `FrameLabels`.
    """

    boxes: np.ndarray
    ends: np.ndarray
    views: np.ndarray
    cut_boxes: np.ndarray

    @classmethod
    def of(cls, labels: Iterable[FrameLabels]) -> LabelTable:
        """The same labels; a table stays as it is."""
        if isinstance(labels, cls):
            return labels
        frames = list(labels)
        counts = [len(frame.boxes) for frame in frames]
        return cls(
            np.concatenate([np.zeros((0, 5)), *(frame.boxes for frame in frames)]),
            np.cumsum(counts, dtype=np.int64),
            np.array([frame.view for frame in frames], np.int64),
            np.array([frame.cut_boxes for frame in frames], np.int64),
        )

    @property
    def counts(self) -> np.ndarray:
        """(F,) how many boxes each frame has."""
        return np.diff(self.ends, prepend=0)

    @property
    def frames(self) -> np.ndarray:
        """(N,) the number of the frame that each box is on."""
        return np.repeat(np.arange(len(self)), self.counts)

    def take(self, numbers: np.ndarray) -> LabelTable:
        """The labels of the frames with these numbers, in this order."""
        counts = self.counts[numbers]
        ends = counts.cumsum()
        ends_here = self.ends[numbers]
        places = np.arange(counts.sum()) + np.repeat(ends_here - ends, counts)
        return LabelTable(self.boxes[places], ends, self.views[numbers], self.cut_boxes[numbers])

    def followed_by(self, other: LabelTable) -> LabelTable:
        return LabelTable(
            np.concatenate([self.boxes, other.boxes]),
            np.concatenate([self.ends, len(self.boxes) + other.ends]),
            np.concatenate([self.views, other.views]),
            np.concatenate([self.cut_boxes, other.cut_boxes]),
        )

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> FrameLabels:
        """A frame's labels; of a slice, a tuple of them."""
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        number = range(len(self))[index]  # as a list's: negative ones count from the end
        boxes = self.boxes[self.slice_of(number)]
        return FrameLabels(boxes, int(self.views[number]), int(self.cut_boxes[number]))

    def slice_of(self, number: int) -> slice:
        """Where the boxes of a frame are among all."""
        start = 0
        if number:
            start = self.ends[number - 1]
        return slice(start, self.ends[number])
