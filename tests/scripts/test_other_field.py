"""A made-up set of another field goes through the commands, and nobody reads of views."""

import csv
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from script_calls import exit_code_of
from small_runs import run, small_options

import check_dataset
import detect
import split_dataset
import val
from utils.core.data_config import load_data_config
from utils.core.files import ROOT
from utils.core.title import titled
from utils.data.splits import load_split

write_set = runpy.run_path(str(ROOT / "docs/how-to/made_up_set.py"))["write_set"]
OTHER = "\N{SNOWMAN}"


def lines_on_views(text: str) -> list[str]:
    """Those that would be in other words if the title were another one."""
    return [line for line in text.splitlines() if titled(line, OTHER) != line]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"), boxes=8)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    return run(small_options(data, folder), folder / "run", epochs=1)


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, caplog, capfd, tmp_path: Path, no_pictures: None
) -> Callable[..., tuple[int, str]]:
    """Run a script; returns its exit code, and what it said."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")

    def run_with(script: ModuleType, line: str) -> tuple[int, str]:
        code = exit_code_of(script, *shlex.split(line), monkeypatch=monkeypatch)
        return code, caplog.text + "".join(capfd.readouterr())

    return run_with


def test_a_line_on_views_would_be_seen():
    assert lines_on_views("no view\nfloor\nViews: 3\n--view-thres\nview_accuracy") == [
        "no view",
        "Views: 3",
    ]


def test_the_set_is_checked_in_its_own_words(data: Path, call, tmp_path: Path):
    code, said = call(check_dataset, f"--data {data} --out audit")
    assert code in (0, 1)
    report = (tmp_path / "audit/audit.md").read_text()
    assert "## Frames by box class and floor" in report
    assert "floor bright" in report
    assert lines_on_views(said + report) == []


def test_its_folds_keep_title_and_pairs(data: Path, call, tmp_path: Path):
    code, said = call(split_dataset, f"--data {data} --folds 2 --out folds")
    assert code == 0
    assert "floor dark" in said
    assert lines_on_views(said) == []
    whole = load_data_config(data)
    fold = load_data_config(tmp_path / "folds/fold0/data.yaml")
    assert (fold.cls_title, fold.flip_pairs) == (whole.cls_title, whole.flip_pairs)


def test_a_run_and_its_evaluation_speak_of_floors(data: Path, trained: Path, call, tmp_path: Path):
    card = (trained / "MODEL_CARD.md").read_text()
    assert "names the floor: bright, dark" in card
    assert "floor: accuracy" in card
    code, said = call(
        val, f"--weights {trained}/weights/last.pt --device cpu --project . --name val"
    )
    assert code == 0
    assert "\nfloors " in said
    assert "view_accuracy" in (trained / "results.csv").read_text()  # scripts rely on it
    assert lines_on_views(said + card) == []


def test_its_model_names_a_floor_in_the_table(data: Path, trained: Path, call, tmp_path: Path):
    source = data.parent / "images/val"
    line = f"--weights {trained}/weights/last.pt --source {source} --save-csv --device cpu"
    code, said = call(detect, f"{line} --project . --name found")
    assert code == 0
    assert "floors bright" in said
    with (tmp_path / "found/predictions.csv").open() as stream:
        columns = next(csv.reader(stream))
    floor = ["floor", "p_bright", "p_dark"]
    assert columns[-7:] == [*floor, "clip", *(f"clip_{name}" for name in floor)]


def test_a_picture_shows_a_pair_of_shoes_the_left_one_on_the_left(data: Path):
    split = load_split(load_data_config(data), "train")
    assert {labels.view for labels in split.labels} == {0, 1}
    for labels in split.labels:
        assert labels.boxes[:, 0].tolist() == [0, 1]
        assert labels.boxes[0, 1] < labels.boxes[1, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"flip_pairs": [["left_shoe", "rigth_shoe"]]}, "flip_pairs: 'rigth_shoe' is no class"),
        ({"flip_pairs": "left_shoe"}, "flip_pairs is 'left_shoe', expected a list of pairs"),
        ({"cls_names": []}, "cls_names is [], expected at least two names"),
        ({"cls_names": ["bright"]}, "cls_names is ['bright'], expected at least two names"),
        ({"cls_title": ["floor"]}, "cls_title is ['floor'], expected text"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    change: dict, said: str, data: Path, call, tmp_path: Path
):
    content = yaml.safe_load(data.read_text()) | {"path": str(data.parent)} | change
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(content))
    code, text = call(split_dataset, f"--data {path} --folds 2 --out folds")
    assert code == 2
    assert f"{path}: {said}" in text
    assert "Traceback" not in text
