"""Frames in which there is nothing to find, for the figures of docs/how-to/clips.md."""

import csv
from itertools import islice

import numpy as np

from docs.recipe.negatives import phantoms, turned_grey
from utils.core.files import ROOT
from utils.data.flow_colour import has_flow_colour


def test_phantoms_without_a_jet_still_have_flow_and_are_the_same_every_time():
    frames = list(islice(phantoms(with_jets=False), 9))
    assert sum(map(has_flow_colour, frames)) > 4
    for frame, again in zip(frames, phantoms(with_jets=False, count=9), strict=True):
        np.testing.assert_array_equal(frame, again)


def test_phantoms_with_a_jet_have_more_colour():
    def coloured(with_jets: bool) -> int:
        frames = phantoms(with_jets, count=9)
        return sum((np.ptp(frame.astype(int), axis=2) > 60).sum() for frame in frames)

    assert coloured(True) > 1.5 * coloured(False)


def test_flow_that_was_turned_grey_has_no_colour_left():
    for frame in phantoms(with_jets=True, count=3):
        grey = turned_grey(frame)
        assert not has_flow_colour(grey) and np.ptp(grey.astype(int), axis=2).max() == 0


def test_the_pages_means_are_the_tables():
    page = (ROOT / "docs/how-to/clips.md").read_text(encoding="utf-8")
    rows: dict[str, list[dict[str, str]]] = {}
    with (ROOT / "docs/results/negatives.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            rows.setdefault(row["frames"], []).append(row)
    for kind, own in rows.items():
        boxes = [float(row["boxes_a_frame"]) for row in own]
        coloured = np.mean([float(row["boxes_a_frame_if_coloured"]) for row in own])
        by_fold = ", ".join(f"{value:.3f}" for value in boxes)
        assert f"| {kind} | {by_fold} | {np.mean(boxes):.3f} | {coloured:.3f} |" in page
