"""The studies that are kept in docs/results: their reports are made again from files and data."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

import compare_solutions
from utils.commands import compare_solutions as command
from utils.core.files import ROOT

RESULTS = ROOT / "docs" / "results"
FOLDS = {  # a study's folder -> the folds that it was trained on
    "small": [0, 1],
    "verdict/main": [0, 1, 2, 3, 4],
    "verdict/weight-curve": [0, 1, 2],
    "verdict/depth-curve": [0, 1, 2],
}


LARGE = [name for name in FOLDS if name != "small"]


@pytest.fixture(params=["small", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def study(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def protocol(study: str, real_folds: Path, tmp_path: Path) -> Path:
    """A protocol about the study's folds, which are made anew."""
    shutil.copytree(real_folds, tmp_path / "folds")
    content = yaml.safe_load((ROOT / "docs" / "small-protocol.yaml").read_text(encoding="utf-8"))
    content |= {"folds": "folds", "fold_numbers": FOLDS[study], "budget": {"trainings": 10}}
    path = tmp_path / "protocol.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
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
    study: str, protocol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = RESULTS / study
    folder = tmp_path / "study"
    shutil.copytree(kept, folder)
    for name in ("comparison_results.json", "report.md", "comparison.csv", "per_patient.csv"):
        (folder / name).unlink()
    monkeypatch.setattr(command, "draw_comparison", lambda folder: None)
    monkeypatch.setattr("sys.argv", ["", f"--rescore={folder}", f"--protocol={protocol}"])
    compare_solutions.main()
    found, expected = (
        json.loads((place / "comparison_results.json").read_text()) for place in (folder, kept)
    )
    assert_close(found, expected)
    assert (folder / "report.md").read_text() == (kept / "report.md").read_text()
    for name in ("comparison.csv", "per_patient.csv"):
        tables = [pd.read_csv(place / name) for place in (folder, kept)]
        pd.testing.assert_frame_equal(*tables, rtol=1e-6)


def test_what_is_kept_has_no_truth_and_no_path_of_a_machine():
    for path in [path for name in FOLDS for path in (RESULTS / name).rglob("*")]:
        assert path.suffix not in (".pt", ".txt", ".jpg")
        if path.suffix in (".json", ".yaml", ".csv", ".md", ".tex"):
            text = path.read_text(encoding="utf-8")
            assert "/work/" not in text and "/home/" not in text, path
