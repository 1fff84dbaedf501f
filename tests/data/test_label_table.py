"""Labels as arrays are the labels that they were made of, frame by frame."""

import numpy as np
import pytest

from utils.data.label_table import LabelTable
from utils.data.labels import FrameLabels


def made_up(counts: tuple[int, ...]) -> list[FrameLabels]:
    draw = np.random.default_rng(0)
    frames = []
    for number, count in enumerate(counts):
        frames.append(FrameLabels(draw.random((count, 5)), number - 1, number % 2))
    return frames


def assert_equal(found: LabelTable, expected: list[FrameLabels]) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine.boxes, theirs.boxes)
        assert (mine.view, mine.cut_boxes) == (theirs.view, theirs.cut_boxes)


COUNTS = [(), (0,), (3,), (0, 2, 0, 0, 5, 1, 0)]


@pytest.mark.parametrize("counts", COUNTS)
def test_a_table_gives_back_what_it_was_made_of(counts: tuple[int, ...]):
    frames = made_up(counts)
    table = LabelTable.of(frames)
    assert_equal(table, frames)
    assert table.counts.tolist() == list(counts)
    assert table.frames.tolist() == np.repeat(np.arange(len(counts)), counts).tolist()
    assert LabelTable.of(table) is table


def test_frames_are_counted_as_in_a_list():
    frames = made_up((1, 0, 2))
    table = LabelTable.of(frames)
    np.testing.assert_array_equal(table[-1].boxes, frames[-1].boxes)
    assert [labels.view for labels in table[1:]] == [0, 1]
    with pytest.raises(IndexError):
        table[3]


@pytest.mark.parametrize("numbers", [[], [1], [4, 1, 1, 0, 6], [0, 1, 2, 3, 4, 5, 6]])
def test_frames_are_taken_in_any_order(numbers: list[int]):
    frames = made_up((0, 2, 0, 0, 5, 1, 0))
    table = LabelTable.of(frames).take(np.array(numbers, int))
    assert_equal(table, [frames[number] for number in numbers])


def test_two_tables_follow_each_other():
    frames = made_up((1, 0, 2, 3, 0))
    joined = LabelTable.of(frames[:2]).followed_by(LabelTable.of(frames[2:]))
    assert_equal(joined, frames)
