"""The picture of errors by kind."""

from pathlib import Path

import pytest
from made_up_runs import metrics
from pixels import count_of

from utils.plots.errors import plot_errors
from utils.plots.style import CLASS_COLOURS, DETECTION


def test_bars_are_as_long_as_counts_and_gains(tmp_path: Path):
    errors = metrics(names=["AR"])["detection"]["errors"]
    errors["counts"] = dict.fromkeys(errors["counts"], 0) | {"right": 40}
    errors["per_class"] = [{"name": "AR"} | errors["counts"]]
    errors["delta_mAP_0.5"] = dict.fromkeys(errors["delta_mAP_0.5"], 0.0) | {"missed": 0.1}
    plot_errors(errors, 0.3, tmp_path / "one.png")
    errors["counts"]["missed"] = errors["per_class"][0]["missed"] = 20
    errors["delta_mAP_0.5"]["duplicate"] = 0.05
    plot_errors(errors, 0.3, tmp_path / "half_more.png")
    for colour in (CLASS_COLOURS[0], DETECTION):
        one, more = (count_of(tmp_path / f"{name}.png", colour) for name in ("one", "half_more"))
        assert one > 10_000 and more / one == pytest.approx(1.5, abs=0.05)


def test_classes_have_colours_where_there_are_enough(tmp_path: Path):
    for name, names in {"four": ["a" * 40, "b", "c", "d"], "five": list("abcde")}.items():
        plot_errors(metrics(names)["detection"]["errors"], None, tmp_path / f"{name}.png")
    for colour in CLASS_COLOURS:
        assert count_of(tmp_path / "four.png", colour) > 1000
        assert count_of(tmp_path / "five.png", colour) == 0


def test_nothing_counted_and_no_gain_defined(tmp_path: Path):
    errors = metrics()["detection"]["errors"]
    nothing = dict.fromkeys(errors["counts"], 0)
    undefined = dict.fromkeys(errors["delta_mAP_0.5"])
    empty = {"counts": nothing, "per_class": [{"name": "AR"} | nothing], "delta_mAP_0.5": undefined}
    plot_errors(empty, None, tmp_path / "empty.png")
    assert count_of(tmp_path / "empty.png", DETECTION) == 0
