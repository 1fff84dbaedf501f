"""A comparison asks of its data what its arms need."""

import re
from pathlib import Path

import pytest
from small_files import LABEL, make_set, write_yaml

from utils.comparison.arms import ARM_NAMES, expand, find_arm
from utils.comparison.evaluation import fingerprints
from utils.core.script import UserError

BOX = LABEL.splitlines()[0]
VIEWS, NAMES = {"cls_names": ["A4C", "PSAX", "PLAX"]}, {"names": ["AR", "MR", "PR", "TR"]}


def data_of(folder: Path, label: str, **content: object) -> str:
    """A data.yaml whose two images have this label."""
    make_set(folder, {"a.png": label, "b.png": label})
    return str(
        write_yaml(folder, {"path": ".", "train": "images/train", "val": "images/train"} | content)
    )


@pytest.mark.parametrize("arm", [*ARM_NAMES, "ratio-3", "uw", "pcgrad"])
def test_an_arm_needs_what_its_tasks_need(tmp_path: Path, arm: str):
    arms = expand([arm])
    sets = {
        "both": (
            data_of(tmp_path / "both", LABEL, **NAMES, **VIEWS),
            ("detection", "classification"),
        ),
        "boxes": (data_of(tmp_path / "boxes", BOX, **NAMES), ("detection",)),
        "views": (data_of(tmp_path / "views", "0 1 0", names=[], **VIEWS), ("classification",)),
    }
    for path, tasks in sets.values():
        if set(arms[0].tasks) <= set(tasks):
            assert {"train", "val", "names", "cls_names"} <= set(
                fingerprints(path, ("train", "val"), arms)
            )
            continue
        named = ", ".join(own.name for own in arms)
        expected = rf"{re.escape(path)}: .*; arms {named} need it; on these data compare --arms {tasks[0]}-only$"
        with pytest.raises(UserError, match=expected):
            fingerprints(path, ("train", "val"), arms)


def test_all_arms_that_need_views_are_named(tmp_path: Path):
    arms = [find_arm(name) for name in ("gradnorm", "detection-only", "dual", "gradnorm")]
    with pytest.raises(UserError, match=r"'cls_names' is missing.*; arms gradnorm, dual need it"):
        fingerprints(data_of(tmp_path, BOX, **NAMES), ("train",), arms)
