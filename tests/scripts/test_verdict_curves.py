"""docs/verdict/curves.py: the dose, the gaps and the pictures of made-up comparisons."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from docs.verdict import curves
from docs.verdict.methods import Gap, Method, gap, read_methods
from utils.core.names import TASKS
from utils.core.script import UserError

NORMS = {"detection": 0.002, "classification": 0.05}  # at the cut: a ratio of 25
LEVEL = {0: 0.30, 1: 0.50, 2: 0.40}  # of mAP50 on each fold, for all arms


COMMON = {"size": "n", "imgsz": 320, "epochs": 20, "batch_size": 16, "hyp": "hyp/joint.yaml"}


def write_comparison(
    folder: Path,
    arms: Mapping[str, Mapping],
    folds: int = 3,
    seed: int = 0,
    millions: float = 1.77,
    imgsz: int = 320,
) -> Path:
    """A kept comparison, as far as it is read.

    Args:
        arms: name -> "loss" (what mAP50 is lower by), and perhaps "weight" (of the view), "layers"
            (shared), "balancer" and "figures" of its own.
    """
    trainings = []
    runs = {}
    for name, arm in arms.items():
        for fold in range(folds):
            run = f"fold{fold}-{name}-seed{seed}"
            entry = {"arm": name, "data": fold, "seed": seed, "folder": run}
            trainings.append(entry)
            runs.setdefault(name, []).append(result_of(arm, fold, seed, millions))
            write_run(folder / run, arm)
    record = {
        "arms": dict.fromkeys(arms),
        "data": [f"fold{fold}/data.yaml" for fold in range(folds)],
        "common": COMMON | {"imgsz": imgsz},
        "trainings": trainings,
    }
    results = {"arms": {}}
    for name, own in runs.items():
        results["arms"][name] = {"runs": own, "about": f"about {name}"}
    (folder / "trainings.json").write_text(json.dumps(record))
    (folder / "comparison_results.json").write_text(json.dumps(results))
    return folder


def result_of(arm: Mapping, fold: int, seed: int, millions: float) -> dict[str, object]:
    figures = {
        "mAP50": LEVEL[fold] - arm["loss"] * (1 + fold / 10),
        "view_balanced_accuracy": 0.6 + 0.02 * fold - arm["loss"] / 3,
        "parameters_millions": millions,
    }
    if arm.get("has_no_boxes"):
        del figures["mAP50"]
    return {"unit": [fold, seed], "figures": figures, "costs": {"latency_ms": 12.5}}


def write_run(run: Path, arm: Mapping) -> None:
    run.mkdir(parents=True)
    weights = {"epoch": [0, 1], "weight/detection": 1.0}
    weights["weight/classification"] = arm.get("weight", 1.0)
    pd.DataFrame(weights).to_csv(run / "results.csv", index=False)
    (run / "hyp.yaml").write_text(yaml.safe_dump({"balancer": arm.get("balancer", "fixed")}))
    if "layers" not in arm:
        return
    places = ["cut", "trunk", *map(str, range(arm["layers"]))]
    rows = pd.DataFrame({"place": places * 2, "epoch": [0] * len(places) + [1] * len(places)})
    for task in TASKS:
        rows[f"norm/{task}"] = NORMS[task]
    rows.loc[rows["place"] == "trunk", "norm/detection"] = 100.0  # not where a dose is taken
    rows.to_csv(run / "interference.csv", index=False)


WEIGHTS = {
    "ratio-1": {"loss": 0.15, "weight": 1.0, "layers": 18},
    "ratio-10": {"loss": 0.06, "weight": 0.1, "layers": 18},
    "ratio-100": {"loss": 0.01, "weight": 0.01, "layers": 18},
    "ratio-1000": {"loss": 0.0, "weight": 0.001, "layers": 18},
    "stop-gradient": {"loss": 0.0},
}
DEPTHS = {
    "depth-4": {"loss": 0.04, "layers": 5},
    "depth-9": {"loss": 0.08, "layers": 10},
    "dual": {"loss": 0.0},
    "classification-only": {"loss": 0.0, "has_no_boxes": True},
}
RIVALS = {
    "gradnorm": {"loss": 0.02, "weight": 0.03, "layers": 18, "balancer": "gradnorm"},
    "uw": {"loss": 0.05, "weight": 0.5, "layers": 18, "balancer": "uw"},
    "mgda": {"loss": 0.09, "layers": 0, "balancer": "mgda"},
    "pcgrad": {"loss": 0.11, "layers": 0, "balancer": "pcgrad"},
    "config": {"loss": 0.1, "layers": 0, "balancer": "config"},
}
APART = ("stop-gradient", "dual", "classification-only")


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [
        write_comparison(tmp_path / "weights", WEIGHTS),
        write_comparison(tmp_path / "depths", DEPTHS),
        write_comparison(tmp_path / "rivals", RIVALS, folds=2),
    ]


def test_the_dose_is_the_ratio_of_weighted_norms_at_the_cut(folders: list[Path]):
    methods = read_methods(folders, APART)
    for name in ("ratio-1", "ratio-10", "ratio-100", "ratio-1000", "gradnorm"):
        weight = (WEIGHTS | RIVALS)[name]["weight"]
        assert methods[name].dose == pytest.approx(25 * weight)
    assert [methods[name].dose for name in APART] == [0, 0, 0]
    assert methods["mgda"].dose is None
    assert [methods[name].last_shared for name in ("ratio-1", "depth-9", "depth-4")] == [17, 9, 4]
    assert methods["dual"].last_shared is None


def test_a_dose_is_the_geometric_mean_over_batches_with_both_gradients(tmp_path: Path):
    folder = write_comparison(tmp_path / "one", {"ratio-1": WEIGHTS["ratio-1"]}, folds=1)
    path = folder / "fold0-ratio-1-seed0" / "interference.csv"
    rows = pd.DataFrame({"place": "cut", "epoch": 0, "norm/detection": [1.0, 1.0, 1.0, 0.0]})
    rows["norm/classification"] = [4.0, 9.0, 0.0, 5.0]
    rows.to_csv(path, index=False)
    assert read_methods([folder], ())["ratio-1"].dose == pytest.approx(6)


def test_a_gap_pairs_folds_so_that_their_level_does_not_matter(folders: list[Path]):
    methods = read_methods(folders, APART)
    found = gap(methods["ratio-1"], methods["stop-gradient"], "mAP50")
    assert found.by_fold == pytest.approx([-0.15, -0.165, -0.18])
    half = 4.302653 * 0.015 / 3**0.5  # t with two degrees of freedom
    assert found.interval == pytest.approx([-0.165 - half, -0.165 + half])
    two_folds = gap(methods["mgda"], methods["stop-gradient"], "mAP50")
    assert len(two_folds.by_fold) == 2 and two_folds.interval is None


def test_folds_are_paired_by_name_and_not_by_number():
    own = Method("a", {"mAP50": {("fold1/data.yaml", 0): 0.3}}, 1.0, 1.0)
    other = Method("b", {"mAP50": {("fold0/data.yaml", 0): 0.9, ("fold1/data.yaml", 0): 0.4}}, 1, 1)
    assert gap(own, other, "mAP50").by_fold == pytest.approx([-0.1])
    assert gap(own, other, "view_balanced_accuracy") is None


def test_methods_without_a_dose_stand_beside_the_others():
    doses = {"weak": 0.01, "strong": 10.0, "apart": 0.0, "combined": None}
    methods = {name: Method(name, {}, 1, 1, dose) for name, dose in doses.items()}
    places = curves.positions(methods)
    assert (places["weak"], places["strong"]) == (-2, 1)
    assert places["apart"] < places["weak"] and places["combined"] > places["strong"]


def test_methods_of_one_dose_stand_side_by_side_in_their_order():
    found = curves.side_by_side({"c": 0.05, "a": 0.0, "b": 0.0, "d": 1.0})
    step = curves.NARROWEST
    assert found == pytest.approx({"a": 0, "b": step, "c": 2 * step, "d": 1})


@pytest.mark.parametrize("doses", [(0.098, 100.0), (0.03, 0.03), (3.2, 40.0)])
def test_the_axis_has_powers_of_ten_apart_from_other_words(doses: tuple[float, float]):
    named = dict(zip("ab", doses, strict=True)) | {"apart": 0.0, "combined": None}
    methods = {name: Method(name, {}, 1, 1, dose) for name, dose in named.items()}
    ax = Figure().subplots()
    curves.mark_doses(ax, methods, curves.positions(methods))
    ticks = sorted(ax.get_xticks())
    words = {label.get_text() for label in ax.get_xticklabels()}
    assert len(ticks) > 2 and min(b - a for a, b in itertools.pairwise(ticks)) >= 0.5
    assert {"none reaches\nthe detector", "one gradient\nmade of both"} < words


def test_the_pictures(folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said = []
    monkeypatch.setattr(
        curves.Axes, "text", lambda ax, x, y, text, **options: said.append(text), raising=True
    )
    words = [*map(str, folders), "--out", str(tmp_path / "out"), "--reference", "stop-gradient"]
    words += ["--apart", *APART, "--depth", "ratio-1", "dual", "depth-9", "depth-4"]
    curves.main(words)
    assert set(said) >= {*WEIGHTS, *DEPTHS, *RIVALS}  # every method by its name
    for name in ("weight_curve.png", "depth_curve.png"):
        assert matplotlib.image.imread(tmp_path / "out" / name).std() > 0.05


def test_a_depth_names_what_is_shared_and_what_it_costs():
    method = Method("depth-9", {}, 1.925, 12.34, last_shared=9)
    shared = "layers 0 to 9 get both gradients"
    assert curves.describe(method) == f"depth-9\n{shared}\n1.93 M parameters\n12.3 ms"


def test_the_key_says_what_every_method_is_and_on_how_many_folds(folders: list[Path]):
    lines = curves.key_lines(read_methods(folders, APART))
    assert "ratio-10: about ratio-10 (3 folds)" in lines
    assert "mgda: about mgda (2 folds)" in lines
    assert len(lines) == len({*WEIGHTS, *DEPTHS, *RIVALS})


def test_the_line_of_a_name_ends_at_a_point_if_only_in_the_panel_below():
    axes = Figure().subplots(2, 1)
    boxes = {"ratio-1": Gap((-0.2, -0.1), None)}
    views = {"ratio-1": Gap((0.1,), None), "classification-only": Gap((0.3, 0.5), None)}
    curves.name_points(axes, [boxes, views], {"ratio-1": 1.0, "classification-only": -1.0})
    above, below = ([line.xy2 for line in ax.patches] for ax in axes)
    assert above == [(1.0, pytest.approx(-0.15))]
    assert below == [(-1.0, pytest.approx(0.4))]
    assert {text.get_text() for text in axes[0].texts} == {"ratio-1", "classification-only"}


def test_an_arm_of_two_comparisons_has_the_seeds_of_both(tmp_path: Path):
    arm = {"ratio-1": WEIGHTS["ratio-1"]}
    weaker = {"ratio-1": arm["ratio-1"] | {"weight": 0.01}}
    one = write_comparison(tmp_path / "one", arm, folds=3)
    other = write_comparison(tmp_path / "other", weaker, folds=1, seed=1)
    found = read_methods([one, other], ())["ratio-1"]
    seeds = [(f"fold{fold}/data.yaml", 0) for fold in range(3)]
    assert found.figures["mAP50"].keys() == {*seeds, ("fold0/data.yaml", 1)}
    assert found.dose == pytest.approx(25 * 0.01 ** (1 / 4))  # one of four trainings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"other: arm 'ratio-1' is in another folder, too, with fold0/data\.yaml and seed 0"),
        (
            {"seed": 1, "millions": 7.0},
            "is in another folder, too, with another number of parameters",
        ),
        ({"seed": 1, "imgsz": 160}, "imgsz is 160, in the first folder 320; draw them apart"),
    ],
    ids=["the same trainings", "another network", "another image size"],
)
def test_comparisons_that_cannot_be_drawn_as_one_are_refused(
    changes: dict, message: str, tmp_path: Path
):
    arm = {"ratio-1": WEIGHTS["ratio-1"]}
    one = write_comparison(tmp_path / "one", arm)
    other = write_comparison(tmp_path / "other", arm, **changes)
    with pytest.raises(UserError, match=message):
        read_methods([one, other], ())


def test_mistakes_are_named(folders: list[Path], tmp_path: Path):
    with pytest.raises(UserError, match=r"interference\.csv: no such file; train with"):
        read_methods(folders, ())
    with pytest.raises(UserError, match="expected the folder of a finished comparison"):
        read_methods([tmp_path], ())
    words = [str(folders[0]), "--out", str(tmp_path), "--apart", "stop-gradient"]
    with pytest.raises(UserError, match="no arm 'fixed'; found ratio-1"):
        curves.main([*words, "--reference", "fixed"])
