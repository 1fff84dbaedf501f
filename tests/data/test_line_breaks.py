"""Lines whose breaks were lost are refused or doubted.

Drawn outlines, and the real label files, are read as before.
"""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.data.labels import LabelError, doubtful_lines, parse_labels, read_label_file, view_line
from utils.data.line_breaks import crosses_itself, is_rectangle

BOX = "0 .5 .5 .2 .2"
OTHER = "1 .3 .4 .1 .25"
RECTANGLE = "1 0.38 0.41 0.52 0.41 0.52 0.57 0.38 0.57"


def parse(text: str, views: int = 2) -> list:
    return parse_labels(text, 2, views).boxes.tolist()


@pytest.mark.parametrize(
    ("text", "views", "what"),
    [
        pytest.param(f"{BOX} 0 1", 2, "a box and a view", id="box, view of two"),
        pytest.param(f"{BOX} 1 0", 2, "a box and a view", id="the other view"),
        pytest.param(f"{OTHER}\n{BOX} 0 1\n\n", 2, "a box and a view", id="in the last of two lines"),
        pytest.param("0 0.05 0.5 0.2 0.4 0 1", 2, "a box and a view", id="box that sticks out of the image"),
        pytest.param("0 .5 .5 1 1 0 1", 2, "a box and a view", id="box as large as the image"),
        pytest.param(f"{BOX} 0 0 1 0", 4, "a box and a view", id="view of four"),
        pytest.param(f"{BOX} 0 0 0 0 0 1", 6, "a box and a view", id="view of six"),
        pytest.param(f"{BOX}0 1 0", 3, "a box and a view", id="view of three, no space either"),
        pytest.param(f"{BOX}1 0 0", 3, "a box and a view", id="first view of three, no space either"),
        pytest.param(f"{BOX}0 0 0 1 0", 5, "a box and a view", id="view of five, no space either"),
        pytest.param(f"{RECTANGLE} 0 1", 2, "a box and a view", id="corners, view of two"),
        pytest.param(f"{RECTANGLE}0 0 1", 3, "a box and a view", id="corners, view of three, no space"),
        pytest.param("0 .2 .3 .4 .2 .5 .5 .3 .6 .2 .5 1 0", 2, "an outline and a view", id="outline and view"),
        pytest.param(f"{BOX} {OTHER} {BOX}", 2, "3 boxes", id="three boxes"),
        pytest.param(f"{BOX} {OTHER} {BOX} {OTHER} {BOX}", 0, "5 boxes", id="five boxes, no views"),
        pytest.param(f"{BOX} {OTHER} {BOX}\n0 1", 2, "3 boxes", id="three boxes, then the view"),
        pytest.param(f"{BOX} {OTHER} {BOX}\n{OTHER}", 2, "3 boxes", id="three boxes, then one"),
        pytest.param(f"{BOX} {OTHER} 0 1 0", 3, "2 boxes and a view", id="the whole file on a line"),
        pytest.param(f"{BOX} {OTHER} {BOX} 0 1", 2, "3 boxes and a view", id="the whole file, two views"),
        pytest.param(f"{BOX} {OTHER} 1", 1, "2 boxes and a view", id="the whole file, one view"),
        pytest.param(f"{RECTANGLE} {RECTANGLE} {RECTANGLE}", 3, "3 boxes", id="three times corners"),
        pytest.param(f"{RECTANGLE} {RECTANGLE} 0 1 0", 3, "2 boxes and a view", id="twice corners, and the view"),
        pytest.param(f"{RECTANGLE} {BOX} 0 1 0", 3, "2 boxes and a view", id="corners, box and view"),
        pytest.param(" ".join([BOX] * 301), 2, "301 boxes", id="hundreds"),
    ],
)  # fmt: skip
def test_what_can_only_be_several_lines_is_refused(text: str, views: int, what: str):
    with pytest.raises(
        LabelError, match=rf":\d+: found what can only be {what} in '.*', expected a line for each"
    ):
        parse(text, views)


@pytest.mark.parametrize(
    ("text", "views", "box"),
    [
        pytest.param("0 0.5 0 0.5 1 0 1 0 0", 4, [0.25, 0.5, 0.5, 1], id="the image's left half"),
        pytest.param("0 1 0.5 0 0.5 0 0 1 0", 4, [0.5, 0.25, 1, 0.5], id="its upper half"),
        pytest.param("0 0 0.7 0.3 1 0 1", 2, [0.15, 0.85, 0.3, 0.3], id="a triangle in the lower left corner"),
        pytest.param("0 0.7 0 1 0.4 1 0", 2, [0.85, 0.2, 0.3, 0.4], id="a triangle in the upper right corner"),
        pytest.param("0 0 .5 .5 .5 .5 1 0 1", 2, [0.25, 0.75, 0.5, 0.5], id="a rectangle in a corner"),
        pytest.param("0 0 1 0 .5 .5 .5 .5 1 0 1", 2, [0.25, 0.75, 0.5, 0.5], id="that comes back to its first corner"),
        pytest.param("0 0 .5 .5 .4 .6 .6 .5 1 0 1", 2, [0.3, 0.7, 0.6, 0.6], id="an outline in a corner"),
        pytest.param(f"{BOX} 0.0 1.0", 2, [0.25, 0.6, 0.5, 0.8], id="not written as a view is"),
        pytest.param(f"{BOX} 0 1\n0 1", 2, [0.25, 0.6, 0.5, 0.8], id="with a view of its own"),
        pytest.param(f"{BOX} 0 1\n{BOX}", 2, [0.25, 0.6, 0.5, 0.8], id="in a line that is not the last"),
        pytest.param(f"{BOX} 0 1", 0, [0.25, 0.6, 0.5, 0.8], id="in data without views"),
        pytest.param(f"{BOX} 0 1", 3, [0.25, 0.6, 0.5, 0.8], id="with another number of views"),
        pytest.param("0 0 .2 .4 .1 1 .3 .9 .8 .6 1 .2 .9 .1 .5", 0, [0.5, 0.55, 1, 0.9], id="at three edges"),
    ],
)  # fmt: skip
def test_what_may_be_an_outline_is_one(text: str, views: int, box: list):
    np.testing.assert_allclose(parse(text, views)[0][1:], box, rtol=0, atol=1e-12)


def outline_in_image(rng: np.random.Generator) -> str:
    """An ellipse as a polygon, what of it lies in the image, begun anywhere.

    Whole numbers without a point.
    """
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 40)))
    radii, turn = rng.uniform(0.05, 0.8, 2), rng.uniform(0, np.pi)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii
    points = points @ [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]] + rng.uniform(
        -0.1, 1.1, 2
    )
    image = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    _, inside = cv2.intersectConvexConvex(points.astype(np.float32), image)
    if inside is None or len(inside) < 3 or inside.min() < 0 or inside.max() > 1:
        return ""
    corners = np.roll(inside[:, 0].astype(float).round(6), rng.integers(len(inside)), axis=0)
    area = np.ptp(corners, axis=0).prod()
    return (
        f"{rng.integers(2)} " + " ".join(f"{value:g}" for value in corners.ravel())
        if area > 1e-3
        else ""
    )


@pytest.mark.parametrize("views", range(7))
def test_outlines_of_what_the_image_cuts_off_are_read(views: int):
    rng = np.random.default_rng(views)
    texts = [text for text in (outline_in_image(rng) for _ in range(400)) if text]
    ends = [text for text in texts if text.split()[-1] in "01" and text.split()[-2] in "01"]
    assert len(texts) > 200 and len(ends) > 3  # some end in a corner of the image
    for text in texts:
        values = np.array(text.split(), float)[1:].reshape(-1, 2)
        low, high = values.min(axis=0), values.max(axis=0)
        np.testing.assert_allclose(
            parse(text, views)[0][1:], [*(low + high) / 2, *(high - low)], atol=1e-12
        )


def random_line(rng: np.random.Generator, is_rectangle: bool) -> str:
    width, height = rng.uniform(0.05, 0.7, 2).round(4)
    x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    corners = (x, y, x + width, y, x + width, y + height, x, y + height)
    numbers = corners if is_rectangle else (x + width / 2, y + height / 2, width, height)
    return f"{rng.integers(2)} " + " ".join(f"{value:.6f}" for value in numbers)


@pytest.mark.parametrize("views", range(7))
@pytest.mark.parametrize("rectangles", [False, True])
def test_a_file_all_on_one_line_is_never_read_in_silence(views: int, rectangles: bool):
    rng = np.random.default_rng(views)
    for _ in range(100):
        rows = [random_line(rng, rectangles) for _ in range(rng.integers(1, 6))]
        rows += [view_line(rng.integers(views), views)] if views and rng.random() < 0.7 else []
        if len(rows) == 1:
            continue
        assert len(parse("\n".join(rows), views)) == len(rows) - (rows[-1].count(".") == 0)
        with pytest.raises(LabelError, match=r"found .*expected "):
            parse(" ".join(rows), views)


@pytest.mark.parametrize(
    ("text", "views", "doubt"),
    [
        ("0 .5 .5 1 .4 1 .7 .6 .9 .3 1 .2 .6 .3 .3", 2, "line 1 may be 3 boxes on one line"),
        ("0 .5 .5 .2 .2 .3 .3 .25 1 0 1", 2, "line 1 may be an outline and a view on one line"),
        (f"{BOX}\n1 .2 .2 .8 .8 .8 .2 .2 .7 .5 .9", 0, "line 2: the outline crosses itself"),
        ("0 .5 .5 .2 .2 .3 .1 .6 .2", 0, None),
        ("1 .2 .2 .8 .8 .8 .2 .2 .8", 0, None),
        (RECTANGLE, 2, None),
        (f"{BOX}\n0 1", 2, None),
        ("", 2, None),
    ],
)
def test_what_may_be_several_lines_is_a_doubt(text: str, views: int, doubt: str | None):
    assert parse(text, views) or not text
    assert doubtful_lines(text, 2, views) == ([doubt] if doubt else [])


def test_rectangles_and_crossings():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    bow_tie = square[[0, 2, 1, 3]]
    assert is_rectangle(square) and is_rectangle(bow_tie) and is_rectangle(square[::-1] / 7 + 0.3)
    assert not is_rectangle(square[:3]) and not is_rectangle(square[[0, 1, 2, 2]])
    assert not is_rectangle(square @ [[0.8, 0.6], [-0.6, 0.8]])
    assert crosses_itself(bow_tie) and not crosses_itself(square)
    star = np.array([[np.cos(a), np.sin(a)] for a in np.arange(5) * 4 * np.pi / 5])
    assert crosses_itself(star) and not crosses_itself(star[[0, 3, 1, 4, 2]])
    round_shape = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, 6, 300)])
    assert not crosses_itself(round_shape) and crosses_itself(
        round_shape[[0, 9, 8, *range(10, 300)]]
    )


@pytest.mark.parametrize(
    ("name", "classes", "files", "boxes", "digest"),
    [
        ("regurgitation", 4, 1225, 1225, "47904d3327b0bed2"),
        ("chest-xray", 2, 246, 492, "f0b8e82cd16b14ea"),
    ],
)
def test_the_real_label_files_are_read_as_before(
    shared_dir: Path, name: str, classes: int, files: int, boxes: int, digest: str
):
    """The digest is that of the parser which knew nothing of lost line breaks."""
    folder, found = shared_dir / name, hashlib.sha256()
    paths = sorted(folder.rglob("labels/*.txt"))
    labels = [read_label_file(path, classes, 3) for path in paths]
    for path, frame in zip(paths, labels, strict=True):
        found.update(
            f"{path.relative_to(folder).as_posix()} {frame.view} ".encode() + frame.boxes.tobytes()
        )
        assert doubtful_lines(path.read_text(), classes, 3) == []
    assert (len(paths), sum(len(frame.boxes) for frame in labels)) == (files, boxes)
    assert found.hexdigest()[:16] == digest
