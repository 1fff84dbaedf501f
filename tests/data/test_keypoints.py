"""Rows of pose estimation are not taken for outlines in silence, and outlines not for such rows."""

import numpy as np
import pytest

from utils.data.keypoints import keypoints_in
from utils.data.labels import LabelError, doubtful_lines, parse_labels
from utils.data.line_breaks import LineKind


def pose_row(rng: np.random.Generator, count: int, has_marks: bool) -> str:
    """A random box and `count` keypoints in it."""
    size = rng.uniform(0.1, 0.6, 2)
    centre = rng.uniform(size / 2, 1 - size / 2)
    points = centre + size * rng.uniform(-0.5, 0.5, (count, 2))
    rows = points
    if has_marks:
        marks = rng.integers(0, 3, (count, 1))
        marks[0] = 2  # which no outline has
        rows = np.hstack((points * (marks > 0), marks))
    return " ".join(["1", *(f"{value:.6f}" for value in (*centre, *size, *rows.ravel()))])


@pytest.mark.parametrize("views", [0, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17, 18])
def test_keypoints_with_marks_are_refused(count: int, views: int):
    rng = np.random.default_rng(count)
    for _ in range(50):
        row = pose_row(rng, count, has_marks=True)
        with pytest.raises(LabelError, match=rf"<text>:2: found .* a box and {count} keypoints"):
            parse_labels(f"0 .5 .5 .1 .1\n{row}\n", 4, views)


@pytest.mark.parametrize(("count", "allowed"), [(1, 150), (2, 60), (3, 30), (4, 20), (17, 120)])
def test_keypoints_without_marks_are_seldom_taken_for_outlines(count: int, allowed: int):
    rng = np.random.default_rng(count)
    kinds = [keypoints_in(pose_row(rng, count, has_marks=False).split())[0] for _ in range(200)]
    assert kinds.count(LineKind.ONE_LINE) < allowed  # whose `w h` lies in the box, by chance


def ellipse(rng: np.random.Generator, corners: int) -> str:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + rng.uniform(0, 7)
    points = np.stack((np.cos(angles), np.sin(angles)), axis=1) * rng.uniform(0.03, 0.25, 2)
    points += rng.uniform(0.25, 0.75, 2)
    return " ".join(["1", *(f"{value:.6f}" for value in points.ravel())])


@pytest.mark.parametrize("corners", [5, 8, 12, 40])
def test_outlines_are_not_taken_for_keypoints(corners: int):
    rng = np.random.default_rng(corners)
    doubts = 0
    for _ in range(100):
        row = ellipse(rng, corners)
        assert len(parse_labels(row, 4, 3).boxes) == 1
        doubts += bool(doubtful_lines(row, 4, 3))
    assert doubts < 10


@pytest.mark.parametrize(
    "row",
    [
        "1 .5 .5 .2 .2",
        "0 .5 .5 .2 .2 0 1 0",
        "0 .5 .5 .2 .2 0 0 1",
        "0 .5 .5 .2 .2 0 0 0",
        "0 .2 .2 .8 .2 .8 .8 .2 .8",
        "0 .5 .5 0 .2 .5 .5",
        "0 .5 .5 .2 .2 .9 .9 2",
        "0 .5 .4 .6 .5 .5 .6 .4 .5",  # a rectangle on its corner
        "0 .5 .4 .6 .5 .5 .6 .4 .5 .5 .4",  # closed
    ],
)
def test_what_is_no_box_with_keypoints_in_it(row: str):
    assert keypoints_in(row.split())[0] is LineKind.ONE_LINE
