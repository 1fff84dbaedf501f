"""Frames as columns: nothing is lost but what is said to be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from made_up_pages import unpacked
from made_up_results import clip_data, image_result, random_results

from utils.report.records import (
    LEAST_SCORE,
    MOST_BOXES,
    STEPS,
    address_of,
    frame_set,
)

DATA = clip_data(r"^(\d)(\d*)")


def numbered(results):
    return [replace(own, image=f"/data/a/{own.image}") for own in results]


def test_a_set_holds_truth_and_the_surest_boxes():
    results = numbered(random_results(40))
    found = frame_set("x", [results], DATA, Path("/data/page.html"), None)
    columns = unpacked(found["packed"])
    assert found["root"] == "a" and found["confidence"] == 0.25 and found["frames"] == 40
    assert columns["names"][3] == "3.jpg"
    patients = [columns["patients"][own] for own in columns["patient"]]
    assert patients == [own.group for own in results]
    assert columns["view"] == [own.true_view for own in results]
    np.testing.assert_allclose(
        np.reshape(columns["said"], (40, 3)) / STEPS,
        [own.view_probabilities for own in results],
        atol=1e-5,
    )
    true = np.concatenate([own.true_boxes_xyxy for own in results])
    np.testing.assert_allclose(np.reshape(columns["true_box"], (-1, 4)), true, atol=0.5)
    ends = np.cumsum(columns["count"])
    for result, end, count in zip(results, ends, columns["count"], strict=True):
        kept = np.flatnonzero(result.scores >= LEAST_SCORE)[:MOST_BOXES]
        assert count == len(kept)
        scores = np.array(columns["score"][end - count : end]) / STEPS
        np.testing.assert_allclose(scores, result.scores[kept], atol=1e-5)
        assert columns["class"][end - count : end] == result.classes[kept].tolist()


def test_networks_without_boxes_or_views_have_empty_columns():
    results = numbered([image_result(name=f"{number}.jpg") for number in range(3)])
    found = frame_set("x", [results], DATA, Path("/data/page.html"), 0.5)
    columns = unpacked(found["packed"])
    assert columns["count"] == [0, 0, 0] and not any(columns["said"])
    assert columns["box"] == columns["true_box"] == []


def test_boxes_outside_of_the_picture_and_unknown_losses_are_numbers_that_a_page_reads():
    result = image_result([(0, -3, 2, 40, 50.6)], [(0.9, 0, -2, 2, 40, 50)], name="/data/a/0.jpg")
    results = [result, replace(result, image="/data/a/1.jpg", detection_loss=0.123456)]
    columns = unpacked(frame_set("x", [results], DATA, Path("/data/page.html"), 0.5)["packed"])
    assert columns["true_box"][:4] == [0, 2, 40, 51] and columns["box"][:4] == [0, 2, 40, 50]
    assert columns["loss"] == [None, 0.1235] and columns["meant"] == [0, 0]


def test_an_address_is_relative_and_quoted():
    assert address_of("/data/a b/c#d", Path("/data/runs")) == "../a%20b/c%23d"
