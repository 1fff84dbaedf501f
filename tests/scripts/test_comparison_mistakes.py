"""What a comparison refuses: wrong options, and data that cannot be compared on or have changed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from utils.comparison import evaluation
from utils.comparison.trainings import check_fingerprints


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--arms", "fixed", "best"], "--arms: no arm 'best'; expected some of fixed, "),
        (["--arms", "ratio-0"], "--arms: 'ratio-0': expected a number above zero after 'ratio-'"),
        (["--seeds", "1", "1"], "--seeds has 1 more than once; give each once"),
        (["--seeds", "-1"], "--seeds is -1, expected at least 0"),
        (["--epochs", "0"], "--epochs is 0, expected at least 1"),
        (["--jobs", "0"], "--jobs is 0, expected 1 to 64"),
        (["--folds", "missing"], "--folds: missing: 0 folds; expected DIR/*/data.yaml"),
        (["--device", "nonsense"], "--device is 'nonsense'"),
        (["--amp", "nonsense"], "--amp is 'nonsense'"),
        (["--data", "missing.yaml"], "missing.yaml: no such file"),
        (
            ["--engine", "ray", "--device", "0"],
            "--device 0: --engine ray chooses the GPU; use auto",
        ),
        (["--test"], "no split 'test'; expected a line 'test: FOLDER or LIST.txt'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options(refused: Callable, tmp_path: Path, given: list[str], message: str):
    found = refused(tmp_path / "compared", *given)
    assert message in found and "\n" not in found and not (tmp_path / "compared").exists()


def test_without_ray_a_line_says_how_to_get_it(
    refused: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # is taken back at the end
    found = refused(tmp_path / "compared", "--engine", "ray")
    assert found.startswith("--engine ray: ") and found.endswith("pip install '.[ray]'")
    assert "\n" not in found and not (tmp_path / "compared").exists()


def test_data_that_cannot_be_compared_on(refused: Callable, data: Path, tmp_path: Path):
    content = yaml.safe_load(data.read_text())
    for spoilt, message in (
        (
            {key: value for key, value in content.items() if key != "cls_names"},
            "key 'cls_names' is missing",
        ),
        (content | {"val": "images/none"}, "val: no images in"),
    ):
        (data.parent / "frames/images/none").mkdir(exist_ok=True)
        data.write_text(yaml.safe_dump(spoilt))
        found = refused(tmp_path / "compared", "--data", data)
        assert message in found and "\n" not in found
    data.write_text(yaml.safe_dump(content))
    label = min((data.parent / "frames/labels/train").iterdir())
    label.write_text("0 0.5 0.5 0.1 0.1\n[1, 1, 0]\n")
    assert f"{label}:2: found 2 ones" in refused(tmp_path / "compared", "--data", data)
    assert not (tmp_path / "compared").exists()


def test_data_that_changed_between_two_halves(refused: Callable, data: Path, tmp_path: Path):
    folder = tmp_path / "compared"
    folder.mkdir()
    (folder / "comparison_results.json").write_text("of the first half")
    check_fingerprints(folder, {str(data): evaluation.fingerprints(str(data), ("train", "val"))})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    label = min((data.parent / "frames/labels/val").iterdir())
    text = label.read_text()
    label.write_text("3 0.5 0.5 0.1 0.1\n0 1 0\n")
    found = refused(folder, "--data", data)
    assert (
        found.startswith(f"{data}: images or labels changed since {folder} was begun")
        and "\n" not in found
    )
    assert {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"
    } == before
    label.write_text(text)
    check_fingerprints(folder, {str(data): evaluation.fingerprints(str(data), ("train", "val"))})
