"""The label file's contract, sentence by sentence, and that what is written is read back."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from utils.core.script import UserError
from utils.data.boxes import xyxy_to_xywh
from utils.data.labels import (
    TOLERANCE,
    UNKNOWN_VIEW,
    FrameLabels,
    LabelError,
    label_text,
    parse_labels,
    read_label_file,
    same_boxes,
    without_repeats,
)

CLASSES, VIEWS = 4, 3
SOURCE = "labels/P01.txt"
BOX = "2 0.5 0.4 0.2 0.1"
BOX_ROW = [2, 0.5, 0.4, 0.2, 0.1]


def parse(text: str, views: int = VIEWS) -> FrameLabels:
    return parse_labels(text, CLASSES, views, SOURCE)


@pytest.mark.parametrize(
    ("text", "boxes", "view"),
    [
        pytest.param(f"{BOX}\n0 1 0", [BOX_ROW], 1, id="a box and a view"),
        pytest.param(f"{BOX}\n0 0.1 0.2 0.1 0.1\n{BOX}\n0 0 1", [BOX_ROW, [0, 0.1, 0.2, 0.1, 0.1], BOX_ROW], 2, id="3"),
        pytest.param("1 0 0", [], 0, id="no detection line: a true negative"),
        pytest.param(BOX, [BOX_ROW], UNKNOWN_VIEW, id="no view line: detection only"),
        pytest.param("", [], UNKNOWN_VIEW, id="empty file"),
        pytest.param(" \n\t\n\r\n", [], UNKNOWN_VIEW, id="blank lines only"),
        pytest.param(f"\n  \n{BOX}\n\n0 1 0\n\n \n", [BOX_ROW], 1, id="blank lines are skipped"),
        pytest.param(f"  {BOX.replace(' ', chr(9))}  \n 0  1\t0 ", [BOX_ROW], 1, id="tabs and several spaces"),
        pytest.param(f"{BOX}\r\n0 1 0\r\n", [BOX_ROW], 1, id="CRLF"),
        pytest.param(f"{BOX}\r0 1 0\r", [BOX_ROW], 1, id="CR"),
        pytest.param(f"{BOX}\n[0, 1, 0]", [BOX_ROW], 1, id="view with brackets and commas"),
        pytest.param("[0 0 1]", [], 2, id="view with brackets"),
        pytest.param("0,0,1", [], 2, id="view with commas"),
        pytest.param("( 0, 0, 1 )", [], 2, id="view with round brackets"),
        pytest.param("0 1 1 1 1", [[0, 0.75, 0.75, 0.5, 0.5]], UNKNOWN_VIEW, id="zeros and ones, but five"),
        pytest.param("+1 .5 5e-1 2.5E-1 0.250", [[1, 0.5, 0.5, 0.25, 0.25]], UNKNOWN_VIEW, id="ways to write a number"),
        pytest.param("3 0.1 0.2 0.5 0.3 0.4 0.8", [[3, 0.3, 0.5, 0.4, 0.6]], UNKNOWN_VIEW, id="three corners"),
        pytest.param("3 0.1 0.2 0.5 0.2 0.5 0.8 0.1 0.8", [[3, 0.3, 0.5, 0.4, 0.6]], UNKNOWN_VIEW, id="four"),
        pytest.param("0 0.5 0.2 0.1 0.2 0.1 0.8 0.5 0.8 0.3 0.5", [[0, 0.3, 0.5, 0.4, 0.6]], UNKNOWN_VIEW, id="five"),
        pytest.param("0 -0.001 0.2 0.5 0.2 0.5 1.001", [[0, 0.25, 0.6, 0.5, 0.8]], UNKNOWN_VIEW, id="on the tolerance"),
        pytest.param("0 1.001 0.5 0.2 0.2", [[0, 0.95, 0.5, 0.1, 0.2]], UNKNOWN_VIEW, id="centre 0.001 outside"),
        pytest.param("0 0.5 0.5 1.001 0.2", [[0, 0.5, 0.5, 1, 0.2]], UNKNOWN_VIEW, id="width 0.001 too large"),
        pytest.param("0 0.05 0.5 0.2 0.4", [[0, 0.075, 0.5, 0.15, 0.4]], UNKNOWN_VIEW, id="left edge outside"),
        pytest.param("0 0.9 0.1 0.4 0.6", [[0, 0.85, 0.2, 0.3, 0.4]], UNKNOWN_VIEW, id="two edges outside"),
    ],
)  # fmt: skip
def test_valid(text: str, boxes: list, view: int):
    labels = parse(text)
    assert labels.boxes.shape == (len(boxes), 5) and labels.boxes.dtype == np.float64
    np.testing.assert_allclose(labels.boxes, np.reshape(boxes, (-1, 5)), rtol=0, atol=1e-12)
    assert labels.view == view


def test_a_box_inside_the_image_keeps_its_numbers_bit_for_bit():
    text = "1 0.123456789012345 0.3333333333333333 0.1 0.6\n0 0.25 0.5 0.5 1\n"
    assert parse(text).boxes.tolist() == [
        [1, 0.123456789012345, 0.3333333333333333, 0.1, 0.6],
        [0, 0.25, 0.5, 0.5, 1],
    ]


@pytest.mark.parametrize(
    ("text", "views", "boxes", "view"),
    [
        pytest.param("0 0 0 1 0", 5, 0, 3, id="five views"),
        pytest.param("0 1 0 0 0 0 0", 7, 0, 1, id="seven views, not three corners"),
        pytest.param("0 1 1 1 1\n0 0 1 0 0", 5, 1, 2, id="only the last line can be the view"),
        pytest.param("0 0.5 0.5 1 1", 5, 1, UNKNOWN_VIEW, id="not zeros and ones only"),
        pytest.param("1", 1, 0, 0, id="one view"),
        pytest.param("0 1 1 1 1", 0, 1, UNKNOWN_VIEW, id="a data set without views"),
    ],
)
def test_a_line_that_could_be_box_and_view_is_the_view(
    text: str, views: int, boxes: int, view: int
):
    labels = parse(text, views)
    assert (len(labels.boxes), labels.view) == (boxes, view)


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        pytest.param(f"{BOX}\n1 1 0", 2, "2 ones", id="two ones"),
        pytest.param(f"{BOX}\n[1, 1, 0]", 2, "2 ones", id="two ones in brackets"),
        pytest.param("0 0 0", 1, "0 ones", id="no one"),
        pytest.param("[0, 1]", 1, "'[0, 1]'", id="view of two"),
        pytest.param("[0, 1, 0, 0]", 1, "'[0, 1, 0, 0]'", id="view of four"),
        pytest.param("[0, 0.5, 0.5]", 1, "'[0, 0.5, 0.5]'", id="view of shares"),
        pytest.param("0 2 0", 1, "3 values", id="a two in the view"),
        pytest.param(f"0 1 0\n{BOX}", 1, "3 values", id="view first"),
        pytest.param("0 1 0\n0 1 0", 1, "3 values", id="two views"),
        pytest.param("4 0.5 0.5 0.1 0.1", 1, "class 4", id="class too large"),
        pytest.param("-1 0.5 0.5 0.1 0.1", 1, "class -1", id="class negative"),
        pytest.param("1.5 0.5 0.5 0.1 0.1", 1, "class 1.5", id="class not whole"),
        pytest.param("1e999 0.5 0.5 0.1 0.1", 1, "class 1e999", id="class infinite"),
        pytest.param("MR 0.5 0.5 0.1 0.1", 1, "'MR'", id="letters"),
        pytest.param("0 0.5 O.5 0.1 0.1", 1, "'O.5'", id="an O for a zero"),
        pytest.param("0 nan 0.5 0.1 0.1", 1, "'nan'", id="nan"),
        pytest.param("0 0.5 0.5 NaN 0.1", 1, "'NaN'", id="NaN"),
        pytest.param("0 0.5 inf 0.1 0.1", 1, "'inf'", id="inf"),
        pytest.param("0 0.5 0.5 -Infinity 0.1", 1, "'-Infinity'", id="-Infinity"),
        pytest.param("0 0.5 0.5 0.1 1e999", 1, "1e999", id="overflow"),
        pytest.param("0 0.5 0.5 0.1 0_1", 1, "'0_1'", id="underscore"),
        pytest.param("0 0.5 0.5 0.1 0x1", 1, "'0x1'", id="hexadecimal"),
        pytest.param("0 0.5 0.5 0.1 \u0661", 1, "'\u0661'", id="digit that is not ASCII"),
        pytest.param("0 0,5 0,5 0,1 0,1", 1, "'0,5'", id="decimal comma"),
        pytest.param("0", 1, "1 value", id="class only"),
        pytest.param("0 0.5 0.5 0.1", 1, "4 values", id="three numbers"),
        pytest.param("0 0.5 0.5 0.1 0.1 0.9", 1, "6 values", id="with a confidence"),
        pytest.param("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", 1, "8 values", id="half a corner"),
        pytest.param("0 1.002 0.5 0.1 0.1", 1, "1.002", id="0.002 right"),
        pytest.param("0 0.5 -0.002 0.1 0.1", 1, "-0.002", id="0.002 above"),
        pytest.param("0 0.5 0.5 -0.002 0.1", 1, "-0.002", id="negative width"),
        pytest.param("0 0.1 0.1 0.5 1.002 0.3 0.3", 1, "1.002", id="corner 0.002 below"),
        pytest.param("0 160 120 32 24", 1, "160", id="pixels"),
        pytest.param("0 0.5 0.5 0 0.1", 1, "0 wide", id="no width"),
        pytest.param("0 0.5 0.5 0.1 -0.0005", 1, "0 high", id="height clipped to nothing"),
        pytest.param("0 0.1 0.3 0.2 0.3 0.4 0.3", 1, "0 high", id="corners on a line"),
        pytest.param("0 1 0.1 1.0005 0.2 1 0.3", 1, "0 wide", id="corners on the edge"),
        pytest.param(f"{BOX}\n\n{BOX}\n0 0.5\n0 1 0", 4, "2 values", id="the line's number counts blank lines"),
        pytest.param(f"{BOX}\r\n\r\n9 0.5 0.5 0.1 0.1\r\n", 3, "class 9", id="CRLF is one line break"),
    ],
)  # fmt: skip
def test_invalid_names_file_line_found_and_expected(text: str, line: int, found: str):
    with pytest.raises(LabelError) as error:
        parse(text)
    message = str(error.value)
    assert re.match(rf"{SOURCE}:{line}: found .*expected ", message), message
    assert found in message.partition("expected")[0]


def test_a_view_in_a_data_set_without_views_is_an_error():
    with pytest.raises(LabelError, match=":1: found 3 values"):
        parse("0 1 0", views=0)


def test_a_long_line_is_refused_quickly_and_shortened():
    start = time.perf_counter()
    with pytest.raises(LabelError) as error:
        parse("0 0.5 0.5 0.1 " + "1" * 5000 + "x")
    assert time.perf_counter() - start < 1
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("token", ["7" * 5000, "0 " + "7" * 5000], ids=["class", "coordinate"])
def test_a_long_number_is_shortened_in_the_message(token: str):
    with pytest.raises(LabelError) as error:
        parse(" ".join(f"{token} 0.5 0.5 0.5 0.5".split()[:5]))
    assert len(str(error.value)) < 300


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        f"{BOX}\n0 1 0\n".encode(),
        f"{BOX}\r\n[0, 1, 0]\r\n".encode(),
        f"{BOX}\n0 1 0".encode("utf-8-sig"),
    ],
    ids=["LF", "CRLF", "BOM"],
)
def test_file(tmp_path: Path, content: bytes):
    path = tmp_path / "\u5fc3\u81df 1.txt"
    path.write_bytes(content)
    labels = read_label_file(path, CLASSES, VIEWS)
    assert (labels.boxes.tolist(), labels.view) == ([BOX_ROW], 1)


@pytest.mark.parametrize(
    "content",
    [f"{BOX}\n0 1 0".encode("utf-16"), b"\xff\xd8\xff\xe0", f"{BOX} \u00e9".encode("latin-1")],
    ids=["UTF-16", "JPEG", "Latin-1"],
)
def test_file_that_is_not_utf8(tmp_path: Path, content: bytes):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(LabelError, match=f"{re.escape(str(path))}:1: found .*not UTF-8.*expected"):
        read_label_file(path, CLASSES, VIEWS)


def test_the_line_of_a_byte_that_is_not_utf8(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(f"{BOX}\r\n{BOX}\n\n0 \u00e9".encode("latin-1"))
    with pytest.raises(
        LabelError,
        match=rf"{re.escape(str(path))}:4: found a byte that is not UTF-8, 0xe9, expected",
    ):
        read_label_file(path, CLASSES, VIEWS)


def test_file_that_is_missing_or_a_folder(tmp_path: Path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(LabelError, match=f"{re.escape(str(path))}: cannot be read"):
            read_label_file(path, CLASSES, VIEWS)


def test_a_label_error_is_a_user_error():
    assert issubclass(LabelError, UserError)


# ---- any text ------------------------------------------------------------------------------------


# The same examples every time, so that a failure is everybody's.
SETTINGS = settings(max_examples=300, deadline=None, derandomize=True, database=None)
TOKENS = st.one_of(
    st.sampled_from(
        [
            "0",
            "1",
            "0.5",
            "[0,",
            "1]",
            "-0.001",
            "1.001",
            "nan",
            "-inf",
            "1e999",
            "1_0",
            "",
            ",",
            "\ufeff",
        ]
    ),
    st.floats().map(repr),
    st.floats(0, 1).map(repr),
    st.integers().map(str),
)
LINES = st.lists(TOKENS, max_size=9).map(" ".join)
TEXTS = st.one_of(
    st.text(),
    st.text("01 .-+eE_[](),\n\r\t"),
    st.tuples(
        st.sampled_from(["\n", "\r\n", "\r", "\x0b", "\u2028"]), st.lists(LINES, max_size=5)
    ).map(lambda pair: pair[0].join(pair[1])),
)


@SETTINGS
@given(TEXTS, st.integers(1, 9), st.integers(0, 9))
@example("0 1 1e-320 1 1e-320", 1, 0)
@example("-0 0.5 0.5 1 1", 1, 5)
def test_any_text_gives_valid_labels_or_one_error_with_its_line(
    text: str, classes: int, views: int
):
    try:
        labels = parse_labels(text, classes, views, SOURCE)
    except LabelError as error:
        assert_one_error_with_its_line(error, SOURCE, len(re.split(r"\r\n|\r|\n", text)))
        return
    kind, xy, wh = labels.boxes[:, 0], labels.boxes[:, 1:3], labels.boxes[:, 3:]
    assert np.isin(kind, range(classes)).all()
    assert (wh > 0).all()
    assert (xy - wh / 2 >= -1e-12).all() and (xy + wh / 2 <= 1 + 1e-12).all()
    assert labels.view in range(-1, views)
    assert_nothing_is_guessed(text, labels)


def assert_one_error_with_its_line(error: LabelError, source: str, line_count: int) -> None:
    place = re.match(rf"{re.escape(source)}:(\d+): found .*expected ", str(error), re.DOTALL)
    assert place, str(error)
    assert 1 <= int(place[1]) <= line_count


def assert_nothing_is_guessed(text: str, labels: FrameLabels) -> None:
    """Every line is a box or, the last, the view, and says what was made of it."""
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    if labels.view != UNKNOWN_VIEW:
        numbers = [float(token) for token in re.split(r"[\s\[\](),]+", lines.pop()) if token]
        assert numbers == [float(column == labels.view) for column in range(len(numbers))]
    assert len(lines) == len(labels.boxes)
    for line, (kind, *box) in zip(lines, labels.boxes, strict=True):
        number, *coordinates = map(float, line.split())
        points = np.clip(coordinates, 0, 1).reshape(-1, 2)
        if len(points) == 2:
            points = points[0] + np.outer([-0.5, 0.5], points[1])
        low, high = points.min(axis=0).clip(0, 1), points.max(axis=0).clip(0, 1)
        assert (
            kind == number
            and np.abs(np.subtract(coordinates, np.clip(coordinates, 0, 1))).max()
            <= TOLERANCE + 1e-12
        )
        np.testing.assert_allclose(box, [*(low + high) / 2, *(high - low)], rtol=0, atol=1e-12)


# Bytes as they come, and texts of the parser's own alphabet with a byte put in
FILES = st.one_of(
    st.binary(),
    TEXTS.map(str.encode),
    st.tuples(TEXTS.map(str.encode), st.binary(max_size=1), st.integers(0, 50)).map(
        lambda parts: parts[0][: parts[2]] + parts[1] + parts[0][parts[2] :]
    ),
)


@SETTINGS
@given(FILES)
@example(b"\xef\xbb\xbf0 1 0\n\xff")
def test_any_file_gives_what_its_text_gives_or_one_error_with_its_line(
    tmp_path_factory, content: bytes
):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(content)
    try:
        labels = read_label_file(path, CLASSES, VIEWS)
    except LabelError as error:
        assert_one_error_with_its_line(error, str(path), len(re.split(rb"\r\n|\r|\n", content)))
        return
    assert_nothing_is_guessed(content.decode("utf-8-sig"), labels)


@st.composite
def boxes_inside(draw: st.DrawFn) -> tuple[float, ...]:
    """class, xc, yc, w, h with every edge inside the image."""
    centre = [draw(st.floats(0.001, 0.999)) for _ in range(2)]
    half = [draw(st.floats(1e-9, min(c, 1 - c))) for c in centre]
    return (draw(st.integers(0, CLASSES - 1)), *centre, *(2 * h for h in half))


@SETTINGS
@given(
    st.lists(boxes_inside(), max_size=5),
    st.integers(UNKNOWN_VIEW, 4),
    st.sampled_from(["{}", "[{}]", "({})"]),
    st.sampled_from([" ", ", ", ","]),
    st.sampled_from(["\n", "\r\n", "\n\n", " \r\n\t\r\n"]),
)
def test_what_is_written_is_read_back(boxes: list, view: int, brackets: str, comma: str, end: str):
    lines = [" ".join(map(repr, box)) for box in boxes]
    if view != UNKNOWN_VIEW:
        lines.append(
            brackets.format(comma.join("1" if column == view else "0" for column in range(5)))
        )
    labels = parse("".join(line + end for line in lines), views=5)
    assert labels.boxes.tolist() == [list(map(float, box)) for box in boxes]
    assert labels.view == view


@SETTINGS
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=12))
def test_corners_become_their_bounding_box(corners: list):
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    text = "1 " + " ".join(f"{x!r} {y!r}" for x, y in corners)
    if (high <= low).any():
        with pytest.raises(LabelError, match="expected an area above zero"):
            parse(text)
        return
    ((kind, *box),) = parse(text).boxes
    assert kind == 1
    np.testing.assert_allclose(box, [*(low + high) / 2, *(high - low)], rtol=0, atol=1e-15)


EDGES = (
    st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True)
    .map(sorted)
    .filter(lambda x: x[1] - x[0] > 1e-9)
)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 3), EDGES, EDGES), max_size=4), st.integers(-1, 4))
def test_label_text_is_read_back(boxes: list, view: int):
    xyxy = torch.tensor(
        [(x[0], y[0], x[1], y[1]) for _, x, y in boxes], dtype=torch.float64
    ).reshape(-1, 4)
    labels = FrameLabels(
        np.column_stack(([number for number, *_ in boxes], xyxy_to_xywh(xyxy).numpy())), view
    )
    read = parse_labels(label_text(labels, view_count=5), class_count=4, view_count=5)
    np.testing.assert_allclose(read.boxes, labels.boxes, rtol=0, atol=1e-15)
    assert read.view == view


# ---- identical rows ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        pytest.param([BOX, BOX], [0], id="twice"),
        pytest.param([BOX] * 5, [0], id="five times"),
        pytest.param(
            [BOX, "0 0.1 0.2 0.1 0.1", BOX, "0 0.1 0.2 0.1 0.1"], [0, 1], id="two boxes in turns"
        ),
        pytest.param([BOX, "2 .50 4e-1 0.2000 +0.1"], [0], id="written in another way"),
        pytest.param([BOX, "2 0.4 0.35 0.6 0.35 0.6 0.45 0.4 0.45"], [0], id="as corners"),
        pytest.param(
            [BOX, "2 0.6 0.45 0.4 0.45 0.4 0.35 0.6 0.35 0.5 0.4"], [0], id="as other corners"
        ),
        pytest.param([BOX, "2 0.5000009 0.4 0.2 0.1"], [0], id="the last digit"),
        pytest.param([BOX, "2 0.500002 0.4 0.2 0.1"], [0, 1], id="more than the last digit"),
        pytest.param(
            ["1 0.1234565 0.5 0.1 0.1", "1 0.12345650001 0.5 0.1 0.1"],
            [0],
            id="rounded up and down",
        ),
        pytest.param([BOX, BOX.replace("2", "3", 1)], [0, 1], id="two classes"),
        pytest.param([BOX, "2 0.5 0.4 0.1 0.2"], [0, 1], id="another shape"),
        pytest.param(
            ["0 0.05 0.5 0.2 0.4", "0 0.075 0.5 0.15 0.4"], [0], id="the same within the image"
        ),
        pytest.param([BOX], [0], id="once"),
        pytest.param([], [], id="none"),
    ],
)
@pytest.mark.parametrize("end", ["", "0 1 0"])
def test_identical_rows_count_once(rows: list[str], kept: list[int], end: str):
    labels = parse("\n".join([*rows, end]))
    once = without_repeats(labels)
    assert once.view == labels.view and once.boxes.dtype == np.float64
    assert (
        once.boxes.tolist() == labels.boxes[kept].tolist() if kept else once.boxes.shape == (0, 5)
    )
    assert (once is labels) == (len(kept) == len(rows))


@pytest.mark.parametrize(
    ("rows", "pairs"),
    [
        ([BOX, BOX.replace("2", "3", 1)], [(2, 3)]),
        ([BOX, "0 .5 .5 .1 .1", "0 0.4 0.35 0.6 0.35 0.6 0.45 0.4 0.45"], [(2, 0)]),
        ([BOX, "1 0.5 0.4 0.2 0.1", "0 0.5 0.4 0.2 0.1"], [(2, 1), (2, 0), (1, 0)]),
        ([BOX, "1 0.5 0.4 0.2 0.11"], []),
        ([BOX], []),
        ([], []),
    ],
)
def test_one_box_in_two_classes(rows: list[str], pairs: list):
    assert same_boxes(parse("\n".join(rows)).boxes) == pairs
