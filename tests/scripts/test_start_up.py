"""The command of docs/performance.md that makes many frames and starts on them."""

import json
import sys
from pathlib import Path

import pytest
from made_up_pages import with_names

from docs import start_up
from utils.core.script import UserError


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch):
    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["start_up", *map(str, arguments)])
        start_up.main()

    return run


def test_it_makes_frames_and_says_what_a_start_on_them_takes(
    call, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = with_names(tiny_data, tmp_path / "copy", [], ["AR", "MR", "PR", "TR"])
    call("--source", source, "--frames", 100, "--out", tmp_path / "many")
    for index in ("rebuild", "auto"):
        call("--data", tmp_path / "many/data.yaml", "--index", index)
        found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
        assert found["frames"] == 100 and found["index"] == index and found["start_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --source and --out"),
        (["--source", "a.yaml"], "give --source and --out"),
        (["--source", "a.yaml", "--out", "here", "--frames", "5"], "--frames is 5, expected at"),
        (["--source", "a.yaml", "--out", "full"], "full: not an empty folder"),
        (["--source", "gone.yaml", "--out", "new"], r"gone\.yaml: no such file"),
    ],
)
def test_what_makes_no_data_set_is_refused(
    call, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full" / "images").mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        call(*arguments)
