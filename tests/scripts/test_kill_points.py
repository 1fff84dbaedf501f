"""A training that is killed at any of its file operations is finished by `--resume`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from forked_runs import Forge
from small_runs import assert_same_run, small_options

from utils.core.lock import LOCK_NAME

KILL_POINTS = 64
EVERY_FEW = 39  # two of them are quick


@pytest.fixture(scope="module")
def arguments(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    options = small_options(tiny_data, tmp_path_factory.mktemp("cfg"))
    options |= {"epochs": 2, "save_period": 1}
    return [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]


@pytest.fixture(scope="module")
def whole(forge: Forge, arguments: list[str], tmp_path_factory) -> tuple[Path, int]:
    """The folder of a run that nobody disturbs, and how many file operations it takes."""
    project = tmp_path_factory.mktemp("whole")
    ended = forge.run([*arguments, f"--project={project}"], project / "notes")
    assert ended.code == 0, ended.stderr
    return project / "exp", ended.file_operations


def files_of(folder: Path) -> set[str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)) for path in paths}


def point(number: int) -> object:
    marks = ()
    if number % EVERY_FEW:
        marks = pytest.mark.slow
    return pytest.param(number, marks=marks)


@pytest.mark.parametrize("number", [point(number) for number in range(KILL_POINTS)])
def test_a_killed_run_is_finished_by_resume(
    forge: Forge, arguments: list[str], whole: tuple[Path, int], tmp_path: Path, number: int
):
    reference, operations = whole
    place = 1 + number * (operations - 1) // (KILL_POINTS - 1)
    folder, notes = tmp_path / "exp", tmp_path / "notes"
    same_command = [*arguments, f"--project={tmp_path}", "--resume=auto"]
    killed = forge.run(same_command, notes, file_operation=place)
    assert killed.code == -9, killed.stderr
    has_checkpoint = (folder / "weights/last.pt").exists()
    was_finished = (folder / "summary.json").exists()
    resumed = forge.run([f"--resume={folder}"], notes)
    if was_finished:
        assert resumed.code == 2 and f"{folder}: this run is finished" in resumed.stderr
    elif has_checkpoint:
        assert resumed.code == 0, resumed.stderr
    else:
        assert resumed.code == 2 and "--download" not in resumed.stderr
        if folder.exists():
            assert "ended before its first checkpoint; start it anew" in resumed.stderr
        begun_anew = forge.run(same_command, notes)
        assert begun_anew.code == 0, begun_anew.stderr
    left = {LOCK_NAME} if was_finished else set()
    assert files_of(folder) - left == files_of(reference)
    assert json.loads((folder / "progress.json").read_text())["state"] == "finished"
    assert_same_run(folder, reference)
