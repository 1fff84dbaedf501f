"""A comparison's report: tables, CSV, LaTeX, pictures."""

import io
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from small_comparisons import (
    ARMS,
    PICTURES,
    Compared,
    results_of,
)

from utils.comparison import pictures
from utils.comparison.arms import JOINT, expand
from utils.comparison.report import to_csv, to_latex, to_markdown
from utils.plots import interference


@pytest.fixture
def results(compared: Compared) -> dict:
    return results_of(compared.folder)


def tables_of(markdown: str) -> dict[str, list[list[str]]]:
    """Heading -> the rows of the table below it, the header first, as cells."""
    sections = re.split(r"^## (.*)$", markdown, flags=re.MULTILINE)[1:]
    return {
        heading: [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in text.splitlines()
            if line.startswith("| ") and "---" not in line
        ]
        for heading, text in zip(sections[::2], sections[1::2], strict=True)
    }


def test_the_files_of_the_report_follow_from_the_results(compared: Compared, results: dict):
    for name, write in (
        ("report.md", to_markdown),
        ("comparison.csv", to_csv),
        ("comparison.tex", to_latex),
    ):
        assert (compared.folder / name).read_text(encoding="utf-8") == write(results)


def test_every_arm_is_in_every_table(results: dict):
    tables, arms = tables_of(to_markdown(results)), [f"`{arm}`" for arm in results["arms"]]
    assert {*ARMS} <= set(results["arms"]) and len(arms) == 8
    for heading in ("Accuracy", "Training", "Cost"):
        assert [row[0] for row in tables[heading][1:]] == arms
    assert all(len(row) == len(rows[0]) for rows in tables.values() for row in rows)
    assert {row[0] for row in tables["Interference"][1:]} == {
        f"`{arm.name}`" for arm in expand(ARMS) if arm.script == JOINT and len(arm.tasks) == 2
    }
    pairs = {row[0] for row in tables["Differences"][1:]}
    assert {"`gradnorm` - `fixed`", "`gradnorm` - `ratio-15`", "`dual` - `gradnorm`"} <= pairs
    assert {f"{arm} - `detection-only`" for arm in arms if "only" not in arm} <= pairs
    assert [row[2] for row in tables["The claims"][1:]] == [
        claim["verdict"] for claim in results["claims"]
    ]


def test_what_is_missing_is_a_dash(results: dict):
    tables = tables_of(to_markdown(results))
    header, *rows = tables["Accuracy"]
    views = [
        index
        for index, heading in enumerate(header)
        if heading in ("view acc.", "balanced", "macro F1", "ECE")
    ]
    boxes = [index for index in range(1, len(header)) if index not in views]
    cells = {row[0]: row for row in rows}
    assert {cells["`detection-only`"][index] for index in views} == {"-"}
    assert {cells["`classification-only`"][index] for index in boxes} == {"-"}
    assert "-" not in cells["`dual`"] and not re.search(
        r"None|nan", to_markdown(results) + to_latex(results)
    )


def test_means_have_a_deviation_where_there_are_several_trainings(results: dict):
    results["arms"]["dual"]["figures"]["mAP50"] = [0.51234, 0.0126]
    (cells,) = [row for row in tables_of(to_markdown(results))["Accuracy"] if row[0] == "`dual`"]
    assert cells[1] == "0.512 ± 0.013"


def test_the_csv_file_reads_back(results: dict):
    table = pd.read_csv(io.StringIO(to_csv(results))).set_index("arm")
    assert list(table.index) == list(results["arms"]) and table.columns.is_unique
    for name, arm in results["arms"].items():
        (run,) = arm["runs"]
        for key, value in (run["figures"] | run["costs"]).items():
            assert table.loc[name, key] == pytest.approx(
                np.nan if value is None else value, rel=1e-12, nan_ok=True
            )
    assert np.isnan(table.loc["detection-only", "view_accuracy"])


def test_the_latex_table_has_a_cell_for_every_column(results: dict):
    results["arms"]["some_arm"] = results["arms"]["dual"]
    text = to_latex(results)
    (columns,) = re.findall(r"\\begin{tabular}{(\w+)}", text)
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + len(results["arms"])
    assert all(line.count("&") == len(columns) - 1 for line in lines)
    body = text.partition("\n")[2]
    assert text.startswith("% ") and not re.search(r"(?<!\\)[%_#$]|±", body.replace(r"$\pm$", ""))
    assert [line.partition(" &")[0].replace("\\_", "_") for line in lines[1:]] == list(
        results["arms"]
    )
    assert re.findall(r"^\\(\w+)", body, re.MULTILINE) == [
        "begin",
        "toprule",
        "midrule",
        "bottomrule",
        "end",
    ]


def test_pictures_show_something_and_are_drawn_again_from_the_folder(
    compared: Compared, linked: Path
):
    before = {name: (compared.folder / name).read_bytes() for name in PICTURES}
    for name in PICTURES:
        (linked / name).unlink()
    pictures.main([str(linked)])
    assert {name: (linked / name).read_bytes() for name in PICTURES} == before
    for name in PICTURES:
        if name.endswith("png"):
            assert cv2.imread(str(linked / name)).std() > 20
        else:
            assert before[name].startswith(b"%PDF") and len(before[name]) > 10_000


def test_the_picture_leaves_out_what_is_undefined(results: dict, tmp_path: Path):
    arm = results["arms"]["dual"]
    arm["runs"].append(
        {
            "unit": [0, 1],
            "figures": dict.fromkeys(arm["runs"][0]["figures"]),
            "costs": arm["runs"][0]["costs"],
        }
    )
    del results["arms"]["detection-only"]["figures"]["mAP50"]
    pictures.plot_solutions(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").exists()


def test_arms_of_one_cost_stand_within_their_panel():
    (column,) = (own for own in pictures.COLUMNS if own.key == "gflops")
    arms = {name: {"figures": {"gflops": [1.04, 0.0]}} for name in ("fixed", "gradnorm")}
    ax = Figure().subplots()
    pictures._plot_column(ax, arms, column, "GFLOPs")
    left, right = ax.get_xlim()
    assert left == 0 and right > 1.1


def test_interference_without_layers_and_in_some_epochs_only(compared: Compared, tmp_path: Path):
    """At the cut alone where one combined gradient descends the trunk.

    Every tenth batch of an epoch of three.
    """
    rows = pd.read_csv(compared.folder / "fixed-seed0/interference.csv", dtype={"place": str})
    cut, gap = rows[rows["place"] == "cut"], rows.assign(epoch=rows["epoch"] * 3)
    for number, tables in enumerate(({"pcgrad": cut}, {"pcgrad": cut, "fixed": gap})):
        interference.plot_interference(tables, tmp_path / f"{number}.png")
        assert cv2.imread(str(tmp_path / f"{number}.png")).std() > 20
    table = interference._layer_map(gap)
    assert (
        list(table.columns) == [0, 1, 2, 3]
        and table[[1, 2]].isna().all().all()
        and table[3].notna().all()
    )
    assert list(table.index[:5]) == ["0", "1", "2", "3", "4"] and table.index[-1] == "17"


def test_interference_is_drawn_of_this_comparisons_trainings(
    linked: Path, monkeypatch: pytest.MonkeyPatch
):
    drawn = {}
    monkeypatch.setattr(pictures, "plot_interference", lambda tables, path: drawn.update(tables))
    monkeypatch.setattr(pictures, "plot_solutions", lambda *args: None)
    shutil.copytree(
        linked / "fixed-seed0", linked / "fixed-seed1"
    )  # of an earlier comparison of more seeds
    pictures.draw_comparison(linked)
    expected = pd.read_csv(linked / "fixed-seed0/interference.csv", dtype={"place": str})
    pd.testing.assert_frame_equal(drawn["fixed"], expected)
    assert set(drawn) == {"fixed", "equal", "gradnorm"}
