"""docs/second_domain/tables.py: figures of finished comparisons, the others named."""

import json
import re
from pathlib import Path

import pytest

from docs.second_domain.tables import LABELS, PAGE, TABLES, fill
from utils.core.files import ROOT
from utils.core.script import UserError

COMMIT = "0123456"


def write_comparison(runs: Path, name: str, arms: list[str], reference: str = "") -> None:
    """A comparison_results.json, whose figures tell the arm."""
    found = {}
    for number, arm in enumerate(arms):
        values = [0.1 * number + step for step in (0.0, 0.1 * number, 0.2)]
        figures = {
            "mAP50": [0.1 * number + 0.1, 0.01],
            "mAP50-95": [0.1 * number + 0.2, 0.03],
            "view_balanced_accuracy": [0.1 * number + 0.5, 0.02],
        }
        runs_of_arm = []
        for fold, value in enumerate(values):
            runs_of_arm.append({"unit": [fold, 0], "figures": dict.fromkeys(figures, value)})
        found[arm] = {"figures": figures, "runs": runs_of_arm}
    other = {"reference": reference, "metric": "mAP50", "value": 0.1, "low": -0.05, "high": 0.25}
    differences = [{"arm": arm, "word": "not shown", **other} for arm in arms if arm != reference]
    folder = runs / name
    folder.mkdir(parents=True)
    content = {"arms": found, "differences": differences}
    (folder / "comparison_results.json").write_text(json.dumps(content))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A copy of the page, before anything is filled in."""
    copy = tmp_path / "docs" / PAGE.name
    (copy.parent / "second_domain").mkdir(parents=True)
    copy.write_text(PAGE.read_text())
    return copy


def test_without_a_comparison_the_page_stays_as_it_is(page: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"runs: no finished comparison in it, .* interference"):
        fill(page, tmp_path / "runs", COMMIT)
    assert page.read_text() == PAGE.read_text()


def test_a_finished_comparison_stands_in_its_table_and_the_rest_is_missing(
    page: Path, tmp_path: Path
):
    write_comparison(tmp_path / "runs", "transfer-chest", ["scratch", "echo"], "scratch")
    write_comparison(tmp_path / "runs", "labels-10", ["gradnorm", "stop-gradient"])
    missing = fill(page, tmp_path / "runs", COMMIT)
    assert set(missing) == {*TABLES, *LABELS} - {"transfer-chest", "labels-10"}
    text = page.read_text()
    assert text.count("**Missing**") == len(TABLES)  # two tables, and one line for the curve
    half = 4.302653 * 0.1 / 3  # t(0.975, 2) times the error of the differences 0.1, 0.2 and 0.1
    fine = f"0.300 ± 0.030 | +0.133 [{0.4 / 3 - half:+.3f}, {0.4 / 3 + half:+.3f}]"
    coarse = "0.200 ± 0.010 | +0.100 [-0.050, +0.250] | not shown"
    assert f"| `echo` | {coarse} | {fine} | 0.600 ± 0.020 |" in text
    assert "| `scratch` | 0.100 ± 0.010 | - | - | 0.200 ± 0.030 | - | 0.500 ± 0.020 |" in text
    assert "| 10 | 0.100 ± 0.010 | 0.200 ± 0.010 | 0.500 ± 0.020 | 0.600 ± 0.020 |" in text
    assert f"`{COMMIT}`" in text


def test_filling_twice_is_filling_once_and_the_curve_is_drawn(page: Path, tmp_path: Path):
    for name in LABELS:
        write_comparison(tmp_path / "runs", name, ["gradnorm", "stop-gradient"])
    fill(page, tmp_path / "runs", COMMIT)
    once = page.read_text()
    fill(page, tmp_path / "runs", COMMIT)
    assert page.read_text() == once
    (picture,) = re.findall(r"!\[[^]]*\]\(([^)]*)\)", once)
    assert (page.parent / picture).stat().st_size > 0


def test_a_page_without_a_place_for_a_table_is_refused(page: Path, tmp_path: Path):
    write_comparison(tmp_path / "runs", "labels-10", ["gradnorm", "stop-gradient"])
    page.write_text("# Another page\n")
    with pytest.raises(UserError, match="the page has no <!-- transfer-chest -->"):
        fill(page, tmp_path / "runs", COMMIT)


def test_the_page_has_the_figures_that_are_kept(page: Path):
    kept = ROOT / "docs" / "results" / "second-domain"
    (commit,) = set(re.findall(r"Trained at `(\w+)`", page.read_text()))
    assert fill(page, kept, commit) == []
    assert page.read_text() == PAGE.read_text()
