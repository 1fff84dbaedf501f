"""Pictures of predictions: boxes, views, attention."""

import cv2
import numpy as np
import pytest
from detections import prediction
from matplotlib.colors import to_rgb

from utils.inference.drawing import CAPTION, MARGIN, OPACITY, SIDE, draw_prediction, tint
from utils.plots.frames import STRIP
from utils.plots.style import CLASS_COLOURS, CLASSIFICATION

NAMES, VIEWS = ["AR", "MR", "PR", "TR"], ["A4C", "PSAX", "PLAX"]


def colour(code: str) -> np.ndarray:
    return np.round(255 * np.array(to_rgb(code)))


def test_a_picture_shows_the_image_its_boxes_and_its_view():
    image = np.full((300, 400, 3), (0, 0, 200), np.uint8)
    plain = draw_prediction(image, prediction(view=(0.2, 0.5, 0.3), size=(300, 400)), NAMES, VIEWS)
    top = CAPTION + STRIP
    panel = plain[top : top + 480, MARGIN : MARGIN + SIDE]
    assert plain.shape == (480 + CAPTION + 2 * STRIP, SIDE + 2 * MARGIN, 3)
    assert (panel == (0, 0, 200)).all(axis=-1).mean() > 0.99
    assert (plain[:CAPTION] < 100).any() and (
        plain[CAPTION:top] == 255
    ).all()  # words, then room for labels
    boxes = [(100, 100, 200, 200, 0.75, number) for number in range(4)]
    for number, box in enumerate(boxes):
        drawn = draw_prediction(image, prediction([box], (0.2, 0.5, 0.3), (300, 400)), NAMES, VIEWS)
        y, x = np.nonzero((np.abs(drawn - colour(CLASS_COLOURS[number])) < 3).all(axis=-1))
        edges = np.array([100, 200]) * 1.6
        assert np.abs(x.min() - MARGIN - edges[0]) < 8 and np.abs(y.max() - top - edges[1]) < 8
        assert (drawn[:CAPTION] == plain[:CAPTION]).all()
        inside = slice(top + 170, top + 310), slice(MARGIN + 170, MARGIN + 310)
        assert (drawn[inside] == plain[inside]).all()  # no label on the box
    no_view = draw_prediction(image, prediction(size=(300, 400)), NAMES, [])
    assert (no_view[:top] == 255).all() and no_view.shape == plain.shape


@pytest.mark.parametrize("size", [(1, 9), (9, 9), (64, 500), (1200, 900)])
def test_pictures_of_any_size(size: tuple[int, int]):
    image = np.zeros((*size, 3), np.uint8)
    drawn = draw_prediction(
        image, prediction([(0, 0, size[1], size[0], 0.9, 0)], (1.0,), size), NAMES, ["long " * 9]
    )
    scale = max(SIDE, *size) / max(size)
    assert min(drawn.shape[:2]) >= scale * min(size) and max(drawn.shape[:2]) >= scale * max(size)


def test_attention_is_drawn_beside_the_image():
    image, attention = np.full((300, 400, 3), 100, np.uint8), np.zeros((300, 400), np.float32)
    attention[:, 200:] = 1
    plain = draw_prediction(image, prediction(view=(0.2, 0.8, 0), size=(300, 400)), NAMES, VIEWS)
    both = draw_prediction(
        image, prediction(view=(0.2, 0.8, 0), size=(300, 400), attention=attention), NAMES, VIEWS
    )
    assert both.shape == (plain.shape[0], 2 * (SIDE + MARGIN) + MARGIN, 3)
    np.testing.assert_array_equal(both[:, : SIDE + MARGIN], plain[:, : SIDE + MARGIN])
    cold, hot = both[300, SIDE + 2 * MARGIN + 160], both[300, SIDE + 2 * MARGIN + 480]
    np.testing.assert_allclose(cold, 100, atol=1)
    np.testing.assert_allclose(hot, (1 - OPACITY) * 100 + OPACITY * colour(CLASSIFICATION), atol=1)


def test_tint_is_grey_where_nothing_was_looked_at():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    grey = tint(image, np.zeros((5, 6), np.float32))
    np.testing.assert_array_equal(
        grey, np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1)
    )


def test_a_label_that_is_wider_than_the_image_has_smaller_letters():
    image = np.full((400, 40, 3), (0, 0, 200), np.uint8)
    found = prediction([(4, 100, 36, 300, 0.9, 0)], (1.0,), (400, 40))
    drawn = draw_prediction(image, found, ["a very long name", *NAMES[1:]], VIEWS)
    label = (drawn == colour(CLASS_COLOURS[0])).all(axis=-1)
    columns = np.flatnonzero(label.any(axis=0))
    assert columns[0] >= MARGIN and columns[-1] < drawn.shape[1] - MARGIN


def test_boxes_have_sharp_edges_of_the_same_width():
    image = np.zeros((480, 640, 3), np.uint8)
    found = prediction([(100.2, 100.4, 300.7, 300.1, 0.9, 1)], size=(480, 640))
    drawn = draw_prediction(image, found, NAMES, VIEWS)
    row = drawn[CAPTION + STRIP + 200]
    own = np.flatnonzero((row == colour(CLASS_COLOURS[1])).all(axis=-1))
    left, right = np.split(own - MARGIN, [len(own) // 2])
    assert len(left) == len(right) == 4
    assert abs(left.mean() - 100.2) < 1 and abs(right.mean() - 300.7) < 1


def test_boxes_that_are_too_many_are_counted_in_words():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 300, (130, 2))
    rows = [(*low, *(low + 40), 0.5, 2) for low in corners]
    image = np.zeros((340, 640, 3), np.uint8)
    below = slice(-STRIP + 6, None), slice(-160, -MARGIN)
    few, many = (
        draw_prediction(image, prediction(rows[:count], size=(340, 640)), NAMES, VIEWS)[below]
        for count in (100, 130)
    )
    assert (few == 255).all() and (many < 100).any()
