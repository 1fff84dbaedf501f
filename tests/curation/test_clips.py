"""One view for a clip, and nothing but the view's line is changed."""

import dataclasses
from pathlib import Path

import pytest
from eight_patients import load_all, make_set
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.core.data_config import load_data_config
from utils.curation.clips import Clip, find_clips, harmonise, replace_view, write_split
from utils.data.labels import parse_labels


@pytest.mark.parametrize(
    ("votes", "view", "undecided"),
    [
        ((5, 0, 0), 0, False),
        ((0, 0, 1), 2, False),
        ((0, 7, 3), 1, False),
        ((61, 39, 0), 0, False),
        ((60, 40, 0), -1, True),  # a near-tie
        ((2, 3, 0), -1, True),
        ((1, 1, 0), -1, True),
        ((5, 3, 2), -1, True),  # the most frequent, but of no more than half
        ((7, 2, 1), 0, False),
        ((0, 0, 0), -1, False),  # nothing to decide
    ],
)
def test_who_decides_a_clip(votes: tuple[int, ...], view: int, undecided: bool):
    clip = Clip("a", tuple(range(sum(votes))), votes)
    assert (clip.view, clip.is_undecided) == (view, undecided)


BOX = st.sampled_from(["0 0.5 0.5 0.25 0.5", "1  .1 .2 .5 .2 .5 .6 .1 .6 ", "\t1 0.5 0.5 1 1"])
VIEW = st.sampled_from(["0 1 0", "[0, 0, 1]", " 1.0 0 0 ", None])
END = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\n \t\r\n"])


@given(
    st.lists(st.tuples(BOX, END), max_size=4),
    VIEW,
    st.sampled_from(["", "\ufeff"]),
    END | st.just(""),
)
@settings(deadline=None)
def test_only_the_view_line_is_replaced(boxes: list, view: str | None, mark: str, end: str):
    lines = "".join(box + after for box, after in boxes)
    before = (lines if boxes else "") + (view or "") + end
    old = parse_labels(before, 2, 3)
    for wanted in range(3):
        after = replace_view((mark + before).encode(), old.view >= 0, wanted, 3).decode("utf-8-sig")
        new = parse_labels(after, 2, 3)
        assert new.view == wanted and (new.boxes == old.boxes).all()
        assert after.startswith(lines if view else before)


def test_clips_are_taken_over_all_splits_and_frames_without_labels_left_alone(tmp_path: Path):
    box, one_hots = "0 0.5 0.5 0.1 0.1\n", ("1 0 0", "1 0 0", "0 1 0", "1 0 0", "")
    frames = {f"P1_V1_F{number}.png": box + one_hot for number, one_hot in enumerate(one_hots)}
    others = {"P1_V1_F5.png": None, "P1_V2_F1.png": box + "0 0 1", "P1_other.png": box + "0 0 1"}
    path = make_set(tmp_path, frames | others)
    data, split = load_data_config(path), load_all(path)
    clips = find_clips(split, data)
    assert [(clip.name, len(clip.frames), clip.votes) for clip in clips] == [
        ("P1_V1", 5, (3, 1, 0)),
        ("P1_V2", 1, (0, 0, 1)),
    ]
    found = dict(
        zip((image.name for image in split.images), harmonise(split, clips).labels, strict=True)
    )
    assert [found[f"P1_V1_F{number}.png"].view for number in range(6)] == [0, 0, 0, 0, 0, -1]


@pytest.mark.parametrize("bits", [None, 12])
def test_a_split_that_is_written_keeps_the_stored_bits(tmp_path: Path, bits: int | None):
    data = dataclasses.replace(load_data_config(make_set(tmp_path / "set")), bits=bits)
    write_split(tmp_path / "split", data, {name: [] for name in ("train", "val")}, "")
    assert load_data_config(tmp_path / "split/data.yaml").bits == bits


@pytest.mark.parametrize("needs_colour", [True, False])
def test_a_split_that_is_written_still_needs_colour(tmp_path: Path, needs_colour: bool):
    made = load_data_config(make_set(tmp_path / "set"))
    data = dataclasses.replace(made, needs_colour=needs_colour)
    write_split(tmp_path / "split", data, {name: [] for name in ("train", "val")}, "")
    assert load_data_config(tmp_path / "split/data.yaml").needs_colour == needs_colour
