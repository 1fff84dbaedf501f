"""Labels that contradict each other, for the figures of docs/how-to/labels.md."""

import csv
from pathlib import Path

import numpy as np
import pytest
from made_up_results import CLIP_DATA, image_result

from docs.recipe.labels import TABLES, agreements, box_figures, clip_figures, precision_at_count
from utils.core.files import ROOT
from utils.curation.frames import Frame
from utils.curation.held_out import HeldOut
from utils.data.labels import FrameLabels
from utils.data.splits import Split

LABEL = (0, 20, 20, 60, 60)


def test_precision_is_of_as_many_as_are_true():
    truth = np.array([True, False, True, False])
    assert precision_at_count(truth, [0.9, 0.8, 0.7, 0.1]) == 0.5
    assert precision_at_count(truth, [0.9, 0.1, 0.7, 0.8]) == 0.5
    assert precision_at_count(truth, [0.9, 0.1, 0.8, 0.7]) == 1


def frame(name: str, pixels: str, x: float) -> Frame:
    labels = FrameLabels(np.array([[0, x, 0.5, 0.4, 0.4]]), 0)
    return Frame("val", Path(name), labels, pixels=pixels)


def test_boxes_agree_or_not_on_pictures_that_are_there_again():
    """Boxes of a width of 0.4 that lie 0.1 apart: 0.3 of 0.5 are common."""
    frames = [frame("a", "x", 0.5), frame("b", "y", 0.5), frame("c", "x", 0.6)]
    assert agreements(frames) == pytest.approx({Path("a"): 0.6, Path("c"): 0.6})


def test_contradictory_boxes_are_found_where_the_network_sees_nothing():
    good = image_result([LABEL], [(0.9, *LABEL)])
    results = [good, good, image_result([LABEL]), good]
    images = tuple(map(Path, "abcd"))
    split = Split("val", images, tuple(FrameLabels() for _ in images))
    held_out = HeldOut(Path("predictions.npz"), CLIP_DATA, split, results, None)
    found = box_figures([held_out], {Path("b"): 0.9, Path("c"): 0.5})
    assert (found["frames"], found["identical"], found["contradictory"]) == (4, 2, 1)
    assert found["area"] == found["area_among_identical"] == found["precision"] == 1
    assert box_figures([held_out], {Path("b"): 0.5, Path("c"): 0.9})["precision"] == 0


def test_clips_with_two_views_are_found_where_the_network_contradicts():
    pytest.importorskip("cleanlab", reason="pip install '.[labels]'")
    results = []
    for clip, views in enumerate(([0, 0, 0], [1, 1, 2], [2, 2, 2])):
        said = np.full(3, 0.05)
        said[clip] = 0.9
        for number, view in enumerate(views):
            name = f"P1_C{clip}_F{number}.png"
            results.append(image_result(view=view, probabilities=said, name=name))
    found = clip_figures(results, CLIP_DATA)
    assert found["doubt"] == {"clips": 3, "contradictory": 1, "area": 1, "precision": 1}
    assert found["length"]["area"] == pytest.approx(1 / 3)


def rows_of(file: str) -> list[dict[str, str]]:
    with (TABLES / file).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_pages_figures_are_the_tables():
    page = (ROOT / "docs/how-to/labels.md").read_text(encoding="utf-8")
    for row in rows_of("labels.csv"):
        assert f"| {float(row['area']):.3f} | {float(row['precision']):.3f} |" in page
    for row in rows_of("labels_boxes.csv"):
        areas = [f"{float(row[key]):.2f}" for key in ("area", "area_among_identical")]
        assert f"| {' | '.join(areas)} | {float(row['precision']):.3f} |" in page
