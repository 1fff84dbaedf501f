"""What is wrong with labels and data.yaml, met by scripts: one line and exit code 2."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import yaml
from script_calls import exit_code_of
from small_audits import VAL, images_of
from small_runs import run, small_options

import check_dataset
import train_joint_gradnorm
from utils.data.splits import label_path


@pytest.fixture
def frames(clean_folder: Path, tmp_path: Path) -> Path:
    """The folder of a clean data set that may be spoilt; its data.yaml lies beside it."""
    shutil.copytree(clean_folder, tmp_path / "set")
    return tmp_path / "set/frames"


def rewrite(frames: Path, change: Callable[[str], str]) -> None:
    path = frames.parent / "data.yaml"
    path.write_text(change(path.read_text()))


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> Callable[..., tuple[int, str, str]]:
    """Run a script with arguments; returns its exit code, messages and stderr."""
    caplog.set_level("INFO")
    monkeypatch.setattr("utils.training.finish.draw_run", lambda folder: [])

    def run_with(script: ModuleType, *arguments: object) -> tuple[int, str, str]:
        code = exit_code_of(script, *arguments, monkeypatch=monkeypatch)
        return code, caplog.text, capfd.readouterr().err

    return run_with


def training_arguments(frames: Path) -> list[str]:
    options = small_options(frames.parent / "data.yaml", frames.parent)
    options |= {"epochs": 1, "project": frames.parent, "name": "run"}
    return [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]


def only_views(frames: Path) -> None:
    for path in (label_path(image) for image in images_of(frames)):
        path.write_text(path.read_text().splitlines()[-1])


def join_lines(frames: Path) -> None:
    """Two boxes and the view, all on one line."""
    path = label_path(images_of(frames)[0])
    path.write_text(f"0 .5 .5 .2 .2 1 .3 .4 .1 .25 {path.read_text().splitlines()[-1]}")


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        pytest.param(only_views, "no training frame has a box", id="no box"),
        pytest.param(join_lines, "can only be 2 boxes and a view", id="lost line breaks"),
        pytest.param(
            lambda f: rewrite(f, lambda t: t.replace("- AR", "- No")),
            "names: entry 1 is False",
            id="No",
        ),
    ],
)
def test_a_training_is_refused_in_one_line(
    call, frames: Path, spoil: Callable[[Path], None], found: str
):
    spoil(frames)
    code, _, stderr = call(train_joint_gradnorm, *training_arguments(frames))
    assert code == 2
    (message,) = re.findall(r"^error: (.*)\Z", stderr.strip(), re.MULTILINE | re.DOTALL)
    assert re.search(found, message)
    assert len(message.splitlines()) == 1 + message.count("bad label files")
    assert not (frames.parent / "run").exists()


def test_a_training_warns_of_what_there_is_twice(call, frames: Path):
    image, other = images_of(frames)[0], images_of(frames, VAL)[0]
    text = label_path(image).read_text()
    label_path(image).write_text(text.splitlines()[0] + "\n" + text)
    shutil.copy(label_path(image), label_path(other).with_stem("link"))
    (frames / VAL / "link.png").symlink_to(image)
    code, messages, _ = call(train_joint_gradnorm, *training_arguments(frames))
    assert code == 0
    assert "warning: train: 1 identical rows in 1 label files count once, the first: " in messages
    assert "the same image files in train and val: 1 of val's 9, the first: " in messages


@pytest.mark.parametrize(
    ("change", "arguments", "found"),
    [
        ({"train": []}, (), "train is [], expected a folder or .txt list"),
        ({}, ("--plausible", "plausible.yaml"), "key is 0, expected text; put it in quotes"),
    ],
)
def test_an_audit_is_refused_in_one_line(
    call, frames: Path, change: dict, arguments: tuple, found: str
):
    (frames / "plausible.yaml").write_text("{0: [A4C], 1: [A4C], 2: [A4C], 3: [A4C]}")
    rewrite(frames, lambda text: yaml.safe_dump(yaml.safe_load(text) | change))
    arguments = [frames / word if word.endswith(".yaml") else word for word in arguments]
    code, _, stderr = call(check_dataset, "--data", frames.parent / "data.yaml", *arguments)
    assert code == 2 and stderr.startswith("error: ") and stderr.count("\n") == 1
    assert found in stderr


@pytest.mark.parametrize(
    "pattern", [r"^(P0[0-2])?", r"^(?:(P01)|P\d+)_", r"^(P\d+)?(_x)?", r"^()", r"(?P<who>Q)?"]
)
def test_a_run_whose_pattern_finds_no_group_in_some_names_comes_to_its_end(
    frames: Path, tmp_path: Path, pattern: str
):
    rewrite(frames, lambda text: yaml.safe_dump(yaml.safe_load(text) | {"group_pattern": pattern}))
    options = small_options(frames.parent / "data.yaml", tmp_path)
    folder = run(options, tmp_path / "run", epochs=1)
    assert len(pd.read_csv(folder / "results.csv")) == 1
    assert "| frames |" in (folder / "MODEL_CARD.md").read_text()
