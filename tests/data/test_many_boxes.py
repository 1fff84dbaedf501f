"""Label files of thousands of rows: the same answers as of a few, in a moment."""

import time

import numpy as np
import pytest

from utils.data.labels import FrameLabels, without_repeats


def rows_kept_one_by_one(boxes: np.ndarray) -> list[int]:
    kept: list[int] = []
    for number, row in enumerate(boxes):
        if not any(abs(boxes[other] - row).max() <= 1e-6 for other in kept):
            kept.append(number)
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_rows_count_once_as_when_each_is_compared_with_each(seed: int):
    rng = np.random.default_rng(seed)
    boxes = rng.integers(0, 2, (60, 5)) + rng.integers(0, 4, (60, 5)) * 0.6e-6
    once = without_repeats(FrameLabels(boxes))
    assert once.boxes.tolist() == boxes[rows_kept_one_by_one(boxes)].tolist()


def test_many_boxes_are_read_in_a_moment():
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.integers(0, 4, 20_000), rng.random((20_000, 4))])
    start = time.process_time()
    assert len(without_repeats(FrameLabels(np.vstack([boxes, boxes]))).boxes) == len(boxes)
    assert time.process_time() - start < 5
