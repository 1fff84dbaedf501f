"""The embedded data set.

Repeatable bytes, clean splits, exact boxes, every form of a label file.
"""

import hashlib
import os
import re
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import yaml

from utils.core.files import ROOT
from utils.core.script import UserError
from utils.data.phantom.anatomy import KINDS, VIEWS
from utils.data.phantom.frames import FrameSpec, draw
from utils.data.phantom.generate import (
    FRAMES_PER_CLIP,
    TRAIN_PATIENTS,
    VAL_PATIENTS,
    generate,
    label_text,
)
from utils.data.phantom.patients import new_patient

DATA_YAML = ROOT / "data" / "echo_phantom.yaml"
VIEW_LINE = re.compile(r"^(\[?)([01])(, | )([01])\3([01])(\]?)$")


class Label(NamedTuple):
    boxes: list[tuple[int, np.ndarray]]  # class, (x1, y1, x2, y2) in [0, 1]
    view: int | None
    form: tuple[
        str | None, str | None, bool
    ]  # of the boxes, of the view line, blank line between them


def read_label(text: str) -> Label:
    """An independent, minimal reading of a label file."""
    lines = text.split("\n")
    view = VIEW_LINE.match(lines[-1])
    boxes, box_form = [], None
    for line in filter(None, lines[:-1]):
        kind, *numbers = line.split(" ")
        assert all(len(number.partition(".")[2]) >= 6 for number in numbers)
        x, y, *rest = np.array(numbers, dtype=float)
        if len(rest) == 2:
            box_form, box = (
                "xywh",
                np.array([x - rest[0] / 2, y - rest[1] / 2, x + rest[0] / 2, y + rest[1] / 2]),
            )
        else:
            corners = np.array(numbers, dtype=float).reshape(-1, 2)
            box_form = "corners" if len(corners) == 4 else "outline"
            box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
        boxes.append((int(kind), box))
    view_form = view and view[1] + view[3] + view[6]
    one_hot = view and [int(view[i]) for i in (2, 4, 5)]
    assert view is None or sum(one_hot) == 1
    return Label(boxes, one_hot and one_hot.index(1), (box_form, view_form, "" in lines[:-1]))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default data set."""
    folder = tmp_path_factory.mktemp("phantom") / "set"
    generate(folder)
    return folder


@pytest.fixture(scope="module")
def labels(data_set: Path) -> dict[str, dict[str, Label]]:
    """Split -> file stem -> label."""
    return {
        split: {
            path.stem: read_label(path.read_text())
            for path in sorted((data_set / "labels" / split).glob("*.txt"))
        }
        for split in ("train", "val")
    }


def test_same_seed_same_bytes_whatever_the_threads(tmp_path: Path):
    threads = cv2.getNumThreads()
    generate(tmp_path / "a", train_patients=3, val_patients=2)
    try:
        cv2.setNumThreads(1)
        generate(tmp_path / "b", train_patients=3, val_patients=2)
    finally:
        cv2.setNumThreads(threads)
    first, second = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert len(first) == 2 * 5 * 4 + 1
    assert first == second


def test_a_small_set_is_the_beginning_of_a_large_one(tmp_path: Path, data_set: Path):
    generate(tmp_path / "small", train_patients=2, val_patients=0)
    small, large = digests(tmp_path / "small"), digests(data_set)
    assert all(large[name] == digest for name, digest in small.items())


def test_another_seed_gives_other_pictures_and_boxes(tmp_path: Path, data_set: Path):
    generate(tmp_path / "other", seed=1, train_patients=2, val_patients=0)
    other, default = digests(tmp_path / "other"), digests(data_set)
    assert len(other) == 2 * 2 * 4 + 1
    assert all(default[name] != digest for name, digest in other.items())


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results = iter([True, True, False])
    monkeypatch.setattr(cv2, "imwrite", lambda *_: next(results))
    with pytest.raises(OSError, match="cannot be written"):
        generate(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_half_drawn_is_removed(tmp_path: Path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = (f".set.{ended.pid}.tmp", f".set.{os.getppid()}.tmp", ".set.mine.tmp", ".other.1.tmp")
    dead, *others = [tmp_path / name for name in names]
    for path in (dead, *others):
        (path / "images").mkdir(parents=True)
    generate(tmp_path / "set", train_patients=1, val_patients=0)
    assert not dead.exists() and all(path.exists() for path in others)


def test_an_existing_folder_is_not_touched(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        generate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_patients_and_clips_do_not_cross_splits(labels: dict):
    data = yaml.safe_load(DATA_YAML.read_text())
    patients = {
        split: {re.match(data["group_pattern"], stem)[1] for stem in stems}
        for split, stems in labels.items()
    }
    assert len(patients["train"]) == TRAIN_PATIENTS
    assert len(patients["val"]) == VAL_PATIENTS
    assert not patients["train"] & patients["val"]
    for stems in labels.values():
        frames = [re.match(data["clip_pattern"], stem).groups() for stem in stems]
        assert set(Counter(clip for clip, _ in frames).values()) == {FRAMES_PER_CLIP}


def test_the_yaml_names_what_the_labels_mean(data_set: Path, labels: dict):
    data = yaml.safe_load(DATA_YAML.read_text())
    assert data["nc"] == len(data["names"]) and tuple(data["names"]) == KINDS
    assert data["cls_names"] == list(VIEWS)
    for split, stems in labels.items():
        assert {path.stem for path in (data_set / data[split]).glob("*.png")} == set(stems)
        for stem, label in stems.items():
            assert label.view is None or f"_{data['cls_names'][label.view]}-" in stem
            if label.view is not None:
                possible = VIEWS[data["cls_names"][label.view]].valves
                assert {KINDS[kind] for kind, _ in label.boxes} <= set(possible)


def test_classes_and_views_are_balanced_in_both_splits(labels: dict):
    for stems in labels.values():
        kinds = Counter(kind for label in stems.values() for kind, _ in label.boxes)
        views = Counter(label.view for label in stems.values() if label.view is not None)
        assert len(kinds) == 4 and min(kinds.values()) >= 0.15 * kinds.total()
        assert len(views) == 3 and max(views.values()) <= 0.4 * views.total()
        images = len(stems)
        assert 0.03 <= sum(not label.boxes for label in stems.values()) / images <= 0.08
        assert 0.10 <= sum(len(label.boxes) > 1 for label in stems.values()) / images <= 0.20
        assert 0 < sum(label.view is None for label in stems.values()) / images <= 0.04


def test_every_form_of_a_label_file_occurs(labels: dict):
    forms = {
        label.form for label in labels["train"].values() if label.boxes and label.view is not None
    }
    box_forms, view_forms = {"corners", "xywh", "outline"}, {" ", ", ", "[ ]", "[, ]"}
    assert forms == {
        (box, view, gap) for box in box_forms for view in view_forms for gap in (True, False)
    }


def test_boxes_lie_inside_the_frame_and_have_a_useful_size(data_set: Path, labels: dict):
    for split, stems in labels.items():
        for stem, label in stems.items():
            height, width = cv2.imread(str(data_set / "images" / split / f"{stem}.png")).shape[:2]
            for _, (x1, y1, x2, y2) in label.boxes:
                assert x1 >= 0 and y1 >= 0 and x2 <= 1 and y2 <= 1
                sides_px = np.array([x2 - x1, (y2 - y1) * height / width]) * 320
                assert sides_px.min() >= 18 and sides_px.max() <= 90, (stem, sides_px)


@pytest.mark.parametrize("number", range(6))
def test_boxes_fit_the_coloured_pixels_exactly(number: int, monkeypatch: pytest.MonkeyPatch):
    """Without forward flow and the colour scale, all that is not grey in a frame is its jet."""
    monkeypatch.setattr("utils.data.phantom.frames.FORWARD_FLOW_SHARE", 0.0)
    rng = np.random.default_rng(number)
    patient = replace(new_patient(number, rng), shows_bar=False)
    for index, (name, view) in enumerate(VIEWS.items()):
        for kind in view.valves:
            spec = FrameSpec("", name, (kind,), 3 * number + 8 * index)
            frame, masks = draw(spec, patient, rng)
            assert frame.dtype == np.uint8 and frame.shape == (*patient.size[::-1], 3)
            ((found, box),) = read_label(label_text(spec, masks)).boxes
            rows, columns = np.nonzero(np.ptp(frame.astype(int), axis=-1) > 30)
            expected = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            np.testing.assert_allclose(box * np.tile(patient.size, 2), expected, atol=1e-4)
            assert KINDS[found] == kind


def test_several_jets_do_not_overlap():
    rng = np.random.default_rng(0)
    patient = new_patient(0, rng)
    for view, jets in (("A4C", ("MR", "TR")), ("PSAX", ("AR", "PR")), ("PLAX", ("MR", "MR"))):
        _, masks = draw(FrameSpec("", view, jets, 0), patient, rng)
        assert [kind for kind, _ in masks] == list(jets)
        assert all(mask.any() for _, mask in masks)
        assert not (masks[0][1] & masks[1][1]).any()


def test_colours_do_not_tell_the_kind_of_a_jet_but_the_view_and_the_place_do(
    data_set: Path, labels: dict
):
    colours, places, kinds = ({"train": [], "val": []} for _ in range(3))
    for split, stems in labels.items():
        for stem, label in stems.items():
            frame = cv2.imread(str(data_set / "images" / split / f"{stem}.png"))
            for kind, box in label.boxes:
                x1, y1, x2, y2 = np.round(box * np.tile(frame.shape[1::-1], 2)).astype(int)
                jet = frame[y1:y2, x1:x2].reshape(-1, 3).astype(float)
                colours[split].append(jet[np.ptp(jet, axis=1) > 30].mean(axis=0))
                # A view's number, far apart, beside the centre of the box.
                view = list(VIEWS).index(re.search("_(.+)-", stem)[1])
                places[split].append([10 * view, *(box[:2] + box[2:]) / 2])
                kinds[split].append(kind)

    def nearest_neighbour_accuracy(features: dict) -> float:
        train, val = np.array(features["train"]), np.array(features["val"])
        nearest = np.linalg.norm(val[:, None] - train[None], axis=-1).argmin(axis=1)
        return float(np.mean(np.array(kinds["train"])[nearest] == kinds["val"]))

    assert nearest_neighbour_accuracy(colours) < 0.6
    assert nearest_neighbour_accuracy(places) > 0.95
