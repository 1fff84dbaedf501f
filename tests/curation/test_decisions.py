"""Decisions on labels: read, checked, and written into copies."""

import json
from math import inf
from pathlib import Path

import numpy as np
import pytest
from made_up_pages import with_names

from utils.core.data_config import DataConfig, load_data_config
from utils.core.script import UserError
from utils.curation.decisions import (
    PERSON,
    Decision,
    corrected,
    decided,
    head,
    image_name,
    read_decisions,
    write_decided,
    write_decisions,
)
from utils.data.labels import parse_labels
from utils.data.splits import label_path, load_split

CONFIG = DataConfig(
    source=Path("data.yaml"), root=Path(), splits={}, names=("a", "b"), view_names=("x", "y", "z")
)
TEXT = b"0 0.5 0.5 0.2 0.2\r\n\r\n1 0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3\r\n[0, 1, 0]\n"
FIRST = (0, 0.5, 0.5, 0.2, 0.2)
SECOND = (1, 0.15, 0.2, 0.1, 0.2)
NEW = (1, 0.7, 0.7, 0.1, 0.1)
HUGE = 10**400  # no float holds it


def after(decision: Decision, content: bytes = TEXT, had_view: bool = True) -> bytes:
    return corrected(content, had_view, decision, CONFIG)


def test_removing_a_box_leaves_all_other_bytes():
    assert after(Decision("", "box", "remove", FIRST)) == TEXT.partition(b"\n")[2]
    rest = b"0 0.5 0.5 0.2 0.2\r\n\r\n[0, 1, 0]\n"
    assert after(Decision("", "box", "remove", SECOND)) == rest  # written as a polygon


def test_a_box_is_added_before_the_view():
    content = after(Decision("", "box", "add", None, NEW))
    labels = parse_labels(content.decode(), 2, 3)
    np.testing.assert_allclose(labels.boxes, [FIRST, SECOND, NEW])
    assert labels.view == 1


@pytest.mark.parametrize("content", [b"", b"0 0.5 0.5 0.2 0.2", b"\n"])
def test_a_box_is_added_to_files_without_a_view_or_an_end(content: bytes):
    found = after(Decision("", "box", "add", None, NEW), content, had_view=False)
    assert tuple(parse_labels(found.decode(), 2, 3).boxes[-1]) == pytest.approx(NEW)
    assert found.startswith(content.rstrip(b"\n"))


def test_a_box_is_replaced_and_a_view_changed():
    found = after(Decision("", "box", "replace", FIRST, NEW))
    found = after(Decision("", "view", "change", 1, 2), found)
    labels = parse_labels(found.decode(), 2, 3)
    np.testing.assert_allclose(labels.boxes, [SECOND, NEW])
    assert labels.view == 2


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> DataConfig:
    classes = ["AR", "MR", "PR", "TR"]
    return load_data_config(with_names(tiny_data, tmp_path / "data", [], classes))


def test_decisions_become_copies_and_the_data_set_stays(data: DataConfig, tmp_path: Path):
    frames = load_split(data, "val")
    before = [label_path(image, data).read_bytes() for image in frames.images]
    places = [number for number, own in enumerate(frames.labels) if len(own.boxes)]
    first, second = places[:2]
    names = [image_name(image, data) for image in frames.images]
    views = [own.view for own in frames.labels]
    decisions = [
        Decision(names[first], "view", "change", views[first], (views[first] + 1) % 3),
        Decision(names[first], "box", "remove", tuple(frames.labels[first].boxes[0])),
        Decision(names[second], "box", "add", None, NEW),
        Decision(names[places[2]], "view", "keep", views[places[2]]),
    ]
    write_decisions(tmp_path / "decisions.json", decisions, data, PERSON)
    decisions = read_decisions(tmp_path / "decisions.json", data)
    wanted, changes = decided(frames, decisions, data)
    write_decided(tmp_path / "labels", data, frames, changes)
    assert [label_path(image, data).read_bytes() for image in frames.images] == before
    for number, image in enumerate(frames.images):
        copy = (tmp_path / "labels" / image.relative_to(data.root)).with_suffix(".txt")
        found = parse_labels(copy.read_text(), 4, 3)
        np.testing.assert_allclose(found.boxes, wanted.labels[number].boxes, atol=1e-6)
        assert found.view == wanted.labels[number].view
        assert (copy.read_bytes() == before[number]) == (number not in (first, second))


def test_labels_that_changed_since_are_refused(data: DataConfig):
    frames = load_split(data, "val")
    name = image_name(frames.images[0], data)
    view = frames.labels[0].view
    for decision, message in (
        (Decision(name, "view", "change", view + 1, 0), "its view is"),
        (Decision(name, "box", "remove", NEW), "not there any more"),
        (Decision("gone.png", "box", "add", None, NEW), "no image gone.png"),
    ):
        with pytest.raises(UserError, match=message):
            decided(frames, [decision], data)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "a", "subject": "view", "decision": "change", "old": 1}, "needs 'new'"),
        ({"image": "a", "subject": "view", "decision": "change", "old": 1, "new": 3}, "0 to 2"),
        ({"image": "a", "subject": "view", "decision": "burn"}, "expected image, subject"),
        ({"image": "a", "subject": "box", "decision": "add", "new": [9, 0, 0, 1, 1]}, "a box"),
        ({"image": "a", "subject": "box", "decision": "add", "new": "x"}, "a box"),
        ({"image": "a", "subject": "box", "decision": "add", "new": [0.7, 0, 0, 1, 1]}, "a box"),
        ({"image": "a", "subject": "box", "decision": "add", "new": [inf, 0, 0, 1, 1]}, "a box"),
        ({"image": "a", "subject": "box", "decision": "add", "new": [0, 0, 0, 1, HUGE]}, "a box"),
        ({"image": "a", "subject": "box", "decision": "add", "old": FIRST, "new": NEW}, "no 'old'"),
        ({"image": "a", "subject": "box", "decision": "remove", "old": FIRST, "new": NEW}, "'new'"),
        ({"image": 3, "subject": "box", "decision": "keep"}, "expected a path"),
        ({"image": "a", "colour": 1}, "expected image, subject"),
        (None, "expected image, subject"),
    ],
)
def test_decisions_that_make_no_sense_are_refused(row: object, message: str, tmp_path: Path):
    path = tmp_path / "decisions.json"
    path.write_text(json.dumps(head(CONFIG, PERSON) | {"decisions": [row]}))
    with pytest.raises(UserError, match=rf"decision 1: .*{message}"):
        read_decisions(path, CONFIG)


def test_other_files_and_other_classes_are_refused(tmp_path: Path):
    path = tmp_path / "decisions.json"
    contents = [head(CONFIG, PERSON) | {"decisions": wrong} for wrong in (None, 5, "abc", {})]
    others = ["[", "[]", "{}", '{"format": "x", "version": 1, "decisions": []}']
    for text in [*others, *map(json.dumps, contents)]:
        path.write_text(text)
        with pytest.raises(UserError, match=r"decisions\.json: "):
            read_decisions(path, CONFIG)
    content = head(CONFIG, PERSON) | {"cls_names": ["q"], "decisions": []}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="cls_names"):
        read_decisions(path, CONFIG)
