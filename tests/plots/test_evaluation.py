"""The pictures of an evaluation: curves and confusion matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_runs import metrics
from pixels import count_of, pixels

from utils.plots.evaluation import (
    MOST_NAMES,
    _named_places,
    plot_confusion_matrix,
    plot_froc_curve,
    plot_pr_curve,
)
from utils.plots.style import CLASS_COLOURS, DETECTION


def test_a_class_without_boxes_has_no_curve(tmp_path: Path):
    detection = metrics()["detection"]
    plot_pr_curve(detection, tmp_path / "all.png")
    for absent in ([-1.0] * 101, [None] * 101, None):
        detection["pr_curve"]["precision"][1], detection["per_class"][1]["AP_0.5"] = absent, None
        plot_pr_curve(detection, tmp_path / "absent.png")
        assert count_of(tmp_path / "all.png", CLASS_COLOURS[1]) > 500
        assert count_of(tmp_path / "absent.png", CLASS_COLOURS[1]) == 0
    froc = detection["froc"]
    plot_froc_curve(froc, tmp_path / "all.png")
    froc["curve"]["sensitivity"][1], froc["per_class"][1]["mean"] = [None] * 121, None
    plot_froc_curve(froc, tmp_path / "absent.png")
    assert count_of(tmp_path / "all.png", CLASS_COLOURS[1]) > 500
    assert count_of(tmp_path / "absent.png", CLASS_COLOURS[1]) == 0


def test_shares_of_a_matrix_are_of_the_side_that_holds_the_truth(tmp_path: Path):
    matrix = [
        [8, 0],
        [2, 0],
    ]  # by row both counts are all there is, by column they are 80 % and 20 %
    for side in ("row", "column"):
        plot_confusion_matrix(
            matrix, "ab", "ab", "r", "c", "t", tmp_path / f"{side}.png", share_of=side
        )
    assert count_of(tmp_path / "row.png", DETECTION) > 10_000
    assert count_of(tmp_path / "column.png", DETECTION) == 0


def test_matrices_with_long_names_many_classes_or_nothing_counted(tmp_path: Path):
    long = ["severe eccentric mitral regurgitation with Coanda effect", "$x_1$ {50 %} \\frac"]
    for number, (matrix, names) in enumerate(
        [
            ([[1, 2], [3, 40_000]], long),
            (np.eye(60), [f"class {i}" for i in range(60)]),
            ([[0]], ["one"]),
        ]
    ):
        path = tmp_path / f"{number}.png"
        plot_confusion_matrix(matrix, names, names, "true", "predicted", "Title", path)
        assert max(pixels(path).shape) < 4000


@pytest.mark.parametrize("count", [1, 5, MOST_NAMES])
def test_every_row_of_a_matrix_has_a_name_where_there_is_room(count: int):
    assert list(_named_places(count)) == [*range(count)]


@pytest.mark.parametrize("count", [MOST_NAMES + 1, 250, 2001])
def test_of_many_rows_every_nth_and_the_last_have_a_name(count: int):
    places = _named_places(count)
    assert len(places) <= MOST_NAMES and places[-1] == count - 1
    assert len(set(np.diff(places))) == 1
