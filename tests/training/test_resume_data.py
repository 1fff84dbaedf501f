"""A run goes on with the data it began with: classes, views, patterns.

Or one line says which key changed.
"""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from small_runs import new_job, small_options

from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.core.options import JointOptions
from utils.core.script import UserError
from utils.training.run import read_data, start_run
from utils.training.trainer import Trainer


@pytest.fixture(scope="module")
def begun(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a data set, and in it `run`, a training that was killed in its first epoch."""
    folder = tmp_path_factory.mktemp("begun")
    shutil.copytree(tiny_data.parent, folder, dirs_exist_ok=True)
    place = {"project": str(folder), "name": "run"}
    job = new_job(small_options(folder / "data.yaml", folder) | place)
    with job.run:
        Trainer(job).open_folder()
    return folder


@pytest.fixture
def data(begun: Path):
    """The data.yaml of the run, which may be spoilt."""
    path = begun / "data.yaml"
    text = path.read_text()
    yield path
    path.write_text(text)


def resumed(begun: Path) -> None:
    with start_run({"resume": str(begun / "run/weights/last.pt")}, "joint", JointOptions) as run:
        read_data(run)


CHANGES = {
    "swapped classes": ("names", lambda c: c | {"names": ["MR", "AR", "PR", "TR"]}),
    "swapped views": ("cls_names", lambda c: c | {"cls_names": ["PSAX", "A4C", "PLAX"]}),
    "a renamed class": ("names", lambda c: c | {"names": ["AR", "MR", "PR", "XR"]}),
    "a renamed view": ("cls_names", lambda c: c | {"cls_names": ["A2C", "PSAX", "PLAX"]}),
    "another case": ("names", lambda c: c | {"names": ["ar", "MR", "PR", "TR"]}),
    "an added class": ("names", lambda c: c | {"names": ["AR", "MR", "PR", "TR", "AS"], "nc": 5}),
    "an added view": ("cls_names", lambda c: c | {"cls_names": ["A4C", "PSAX", "PLAX", "A2C"]}),
    "a class less": ("names", lambda c: c | {"names": ["AR", "MR", "PR"], "nc": 3}),
    "no views": ("cls_names", lambda c: c | {"cls_names": None}),
    "names by other numbers": (
        "names",
        lambda c: c | {"names": {0: "MR", 1: "AR", 2: "PR", 3: "TR"}},
    ),
    "another group": ("group_pattern", lambda c: c | {"group_pattern": r"^(P\d)"}),
    "no group": ("group_pattern", lambda c: {k: v for k, v in c.items() if k != "group_pattern"}),
    "another clip": ("clip_pattern", lambda c: c | {"clip_pattern": r"^(P\d+)_.+_F(\d+)"}),
    "no clip": ("clip_pattern", lambda c: {k: v for k, v in c.items() if k != "clip_pattern"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_said(begun: Path, data: Path, change: str):
    key, changed = CHANGES[change]
    content = yaml.safe_load(data.read_text())
    data.write_text(yaml.safe_dump(changed(content)))
    with pytest.raises(UserError) as refused:
        resumed(begun)
    message = str(refused.value)
    assert message.startswith(f"{data}: {key} is ")
    assert message.endswith(", as this run started with; put it back, or start a new run")
    assert repr(content[key]) in message and "\n" not in message
    assert [path.name for path in begun.glob("run/.lock*")] == []


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content,
        lambda content: content | {"names": dict(enumerate(content["names"]))},
        lambda content: {key: content[key] for key in reversed(content)},
        lambda content: {key: value for key, value in content.items() if key != "nc"},
        lambda content: content | {"test": "images/val"},
    ],
    ids=["nothing", "names with numbers", "other order of keys", "no nc", "a test split"],
)
def test_what_says_the_same_is_gone_on_with(begun: Path, data: Path, change):
    data.write_text(yaml.safe_dump(change(yaml.safe_load(data.read_text())), sort_keys=False))
    resumed(begun)


def test_a_data_yaml_that_is_gone(begun: Path, data: Path):
    data.rename(data.with_name("elsewhere.yaml"))
    with pytest.raises(UserError) as refused:
        resumed(begun)
    data.with_name("elsewhere.yaml").rename(data)
    assert str(refused.value).startswith(
        f"{data}: no such file (seen from {Path.cwd()}); the run started with it"
    )


def test_an_older_run_that_noted_no_patterns_is_compared_in_what_it_noted(begun: Path, data: Path):
    path = begun / "run/weights/last.pt"
    content = load_checkpoint(path)
    save_checkpoint(path, {key: value for key, value in content.items() if key != "data"})
    try:
        resumed(begun)
        data.write_text(data.read_text().replace("- AR", "- XR"))
        with pytest.raises(UserError, match="names is"):
            resumed(begun)
    finally:
        save_checkpoint(path, content)


def test_a_checkpoint_notes_plain_values(begun: Path):
    noted = load_checkpoint(begun / "run/weights/last.pt")["data"]
    patterns = {"group_pattern", "clip_pattern"}
    others = {"bits", "needs_colour", "cls_title", "flip_pairs"}
    assert set(noted) == {"names", "cls_names"} | patterns | others
    assert not any(isinstance(value, torch.Tensor | tuple) for value in noted.values())
