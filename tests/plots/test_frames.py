"""Frames side by side with their boxes, labels and views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_runs import NAMES, VIEWS, val_batch
from pixels import count_of, pixels

from utils.plots.frames import (
    GAP,
    LABEL,
    MOST_BOXES,
    MOST_LABELS,
    STRIP,
    TILE,
    _overlaps,
    _view_caption,
    best_first,
    draw_frame,
    label_corner,
    plot_mosaic,
)
from utils.plots.style import PALE, styled_figure


def test_lost_and_broken_images_become_grey_tiles(tmp_path: Path):
    records = val_batch(tmp_path, 5)
    Path(records[0]["path"]).unlink()
    Path(records[1]["path"]).write_bytes(b"")
    Path(records[2]["path"]).write_bytes(b"not an image")
    for predicted in (False, True):
        plot_mosaic(records, NAMES, VIEWS, tmp_path / "mosaic.png", predicted=predicted)
        one_tile = TILE * TILE * 0.6
        assert 3 * one_tile < count_of(tmp_path / "mosaic.png", PALE) < 4 * TILE**2


@pytest.mark.parametrize(
    ("view", "probabilities", "true_words", "predicted_words"),
    [
        (1, [0.1, 0.7, 0.2], "PSAX", "PSAX 0.70, right"),
        (2, [0.1, 0.7, 0.2], "PLAX", "PSAX 0.70, wrong, is PLAX"),
        (-1, [0.1, 0.7, 0.2], "view unlabelled", "PSAX 0.70, unlabelled"),
        (0, [], "A4C", "view not predicted"),
    ],
)
def test_words_of_the_view(
    view: int, probabilities: list[float], true_words: str, predicted_words: str
):
    record = {"truth": {"view": view}, "prediction": {"view_probabilities": probabilities}}
    assert _view_caption(record, VIEWS, predicted=False)[0] == true_words
    assert _view_caption(record, VIEWS, predicted=True)[0] == predicted_words


def test_a_caption_is_in_the_words_of_its_data():
    unknown = {"truth": {"view": -1}, "prediction": {}}
    said = [_view_caption(unknown, VIEWS, predicted, "projection")[0] for predicted in (0, 1)]
    assert said == ["projection unlabelled", "projection not predicted"]


def test_labels_stay_in_their_tile_and_off_their_box_and_each_other():
    rng, area = np.random.default_rng(4), (20, 100, 450, 500)
    frame = np.array([20, 100 + STRIP, 450, 500 - STRIP])
    for _ in range(300):
        corners = np.sort(rng.uniform(frame[:2], frame[2:], (2, 2)), axis=0).ravel()
        for box in (corners, frame, np.where(rng.random(4) < 0.5, corners, frame)):
            size = np.array([rng.uniform(20, 200), LABEL])
            first = label_corner(box, size, [box], [], area)
            second = label_corner(box, size, [box], [[*first, *(first + size)]], area)
            for corner in (first, second):
                assert (corner >= area[:2]).all() and (corner + size <= area[2:]).all()
                assert _overlaps(np.array([[*corner, *(corner + size)]]), [box]) == 0
            assert (
                _overlaps(np.array([[*first, *(first + size)]]), [[*second, *(second + size)]]) == 0
            )


def test_long_names_and_few_frames(tmp_path: Path):
    names, views = (
        ["severe eccentric mitral regurgitation, $a$ $b"] * 4,
        ["apical four chamber, zoomed in"] * 3,
    )
    records = val_batch(tmp_path, 3)
    plot_mosaic(records, names, views, tmp_path / "mosaic.png", predicted=True)
    image = pixels(tmp_path / "mosaic.png")
    assert (image[:, -GAP // 2 :] == 255).all()


def crowd(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of a frame of 640 x 480 px, and scores, in no order."""
    rng = np.random.default_rng(5)
    corners = rng.uniform(0, 400, (count, 2))
    return np.hstack([corners, corners + rng.uniform(1, 60, (count, 2))]), rng.random(count)


@pytest.mark.parametrize("count", [0, 1, MOST_LABELS])
def test_boxes_stay_in_their_order_where_all_have_labels(count: int):
    boxes, scores = crowd(count)
    assert list(best_first(boxes, scores)) == list(best_first(boxes, None)) == [*range(count)]


@pytest.mark.parametrize("count", [MOST_LABELS + 1, 1000, 10_000])
def test_more_boxes_go_from_the_surest_or_largest_on(count: int):
    boxes, scores = crowd(count)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for worth, found in ((scores, best_first(boxes, scores)), (areas, best_first(boxes, None))):
        assert sorted(found) == [*range(count)]
        assert (np.diff(worth[found]) <= 0).all()


@pytest.mark.parametrize("count", [3, MOST_LABELS, MOST_BOXES, MOST_BOXES + 1, 1000, 100_000])
def test_a_frame_has_few_labels_and_counts_the_boxes_that_it_does_not_show(count: int):
    boxes, scores = crowd(count)
    drawn = {"boxes_xyxy": boxes, "scores": scores, "classes": np.zeros(count, int)}
    with styled_figure(6, 5, "none") as figure:
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, 640), ylim=(540, 0))
        draw_frame(ax, (0, 0, 640, 540), np.zeros((480, 640, 3), np.uint8), drawn, NAMES)
    words = [text.get_text() for text in ax.texts]
    rest = [f"{count - MOST_BOXES} more boxes"] * (count > MOST_BOXES)
    labels = min(count, MOST_LABELS)
    assert [word for word in words if word.endswith("more boxes")] == rest
    assert len(words) == labels + len(rest)
    assert len(ax.artists + ax.patches) == labels + min(count, MOST_BOXES)
