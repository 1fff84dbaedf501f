"""Frames as columns: nothing is lost but what is said to be."""

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
from made_up_results import NAMES, VIEWS, image_result, random_results

from utils.core.data_config import DataConfig
from utils.report.records import (
    LEAST_SCORE,
    MOST_BOXES,
    STEPS,
    address_of,
    column,
    frame_set,
)

DATA = DataConfig(
    source=Path("data.yaml"),
    root=Path(),
    splits={},
    names=NAMES,
    view_names=VIEWS,
    clip_pattern=r"^(\d)(\d*)",
)


def read(own: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(own["base64"]), np.dtype(own["type"]).newbyteorder("<"))


def numbered(results):
    return [replace(own, image=f"/data/a/{own.image}") for own in results]


def test_columns_come_back():
    for kind, values in (("uint16", [0, 65535]), ("int16", [-1, 7]), ("float32", [0.5, np.nan])):
        np.testing.assert_array_equal(read(column(values, kind)), values)


def test_a_set_holds_truth_and_the_surest_boxes():
    results = numbered(random_results(40))
    found = frame_set("x", [results], DATA, Path("/data/page.html"), None)
    columns = {name: read(own) for name, own in found["columns"].items()}
    assert found["root"] == "a" and found["names"][3] == "3.jpg" and found["confidence"] == 0.25
    assert [found["patients"][own] for own in columns["patient"]] == [own.group for own in results]
    assert columns["view"].tolist() == [own.true_view for own in results]
    np.testing.assert_allclose(
        columns["said"].reshape(40, 3) / STEPS,
        [own.view_probabilities for own in results],
        atol=1e-5,
    )
    true = np.concatenate([own.true_boxes_xyxy for own in results])
    np.testing.assert_allclose(columns["true_box"].reshape(-1, 4), true, atol=0.5)
    ends = np.cumsum(columns["count"])
    for result, end, count in zip(results, ends, columns["count"], strict=True):
        kept = np.flatnonzero(result.scores >= LEAST_SCORE)[:MOST_BOXES]
        assert count == len(kept)
        scores = columns["score"][end - count : end] / STEPS
        np.testing.assert_allclose(scores, result.scores[kept], atol=1e-5)
        assert columns["class"][end - count : end].tolist() == result.classes[kept].tolist()


def test_networks_without_boxes_or_views_have_empty_columns():
    results = numbered([image_result(name=f"{number}.jpg") for number in range(3)])
    found = frame_set("x", [results], DATA, Path("/data/page.html"), 0.5)
    assert read(found["columns"]["count"]).tolist() == [0, 0, 0]
    assert not read(found["columns"]["said"]).any()


def test_an_address_is_relative_and_quoted():
    assert address_of("/data/a b/c#d", Path("/data/runs")) == "../a%20b/c%23d"
