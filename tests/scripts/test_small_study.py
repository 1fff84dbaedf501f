"""The small study that is kept in docs/results/small.

Its report is made again from its files and the data.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

import compare_solutions
from utils.commands import compare_solutions as command
from utils.core.files import ROOT

KEPT = ROOT / "docs" / "results" / "small"


@pytest.fixture
def protocol(real_folds: Path, tmp_path: Path) -> Path:
    """The study's protocol beside folds that are made anew."""
    shutil.copytree(real_folds, tmp_path / "folds")
    content = yaml.safe_load((ROOT / "docs" / "small-protocol.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "protocol.yaml"
    path.write_text(yaml.safe_dump(content | {"folds": "folds"}), encoding="utf-8")
    return path


def assert_close(found: object, expected: object, place: str = "") -> None:
    """Plain values are equal, numbers to 1e-6."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for key in expected:
            assert_close(found[key], expected[key], f"{place}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for number, value in enumerate(expected):
            assert_close(found[number], value, f"{place}/{number}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-6), place
    else:
        assert found == expected, place


def test_every_figure_is_recomputed_from_the_committed_files(
    protocol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "small"
    shutil.copytree(KEPT, folder)
    for name in ("comparison_results.json", "report.md", "comparison.csv", "per_patient.csv"):
        (folder / name).unlink()
    monkeypatch.setattr(command, "draw_comparison", lambda folder: None)
    monkeypatch.setattr("sys.argv", ["", f"--rescore={folder}", f"--protocol={protocol}"])
    compare_solutions.main()
    found, expected = (
        json.loads((place / "comparison_results.json").read_text()) for place in (folder, KEPT)
    )
    assert_close(found, expected)
    assert (folder / "report.md").read_text() == (KEPT / "report.md").read_text()
    for name in ("comparison.csv", "per_patient.csv"):
        tables = [pd.read_csv(place / name) for place in (folder, KEPT)]
        pd.testing.assert_frame_equal(*tables, rtol=1e-6)


def test_what_is_kept_has_no_truth_and_no_path_of_a_machine():
    for path in KEPT.rglob("*"):
        assert path.suffix not in (".pt", ".txt", ".jpg")
        if path.suffix in (".json", ".yaml", ".csv", ".md", ".tex"):
            text = path.read_text(encoding="utf-8")
            assert "/work/" not in text and "/home/" not in text, path
