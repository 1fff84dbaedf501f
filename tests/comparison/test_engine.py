"""The trainings of a comparison as processes: order, failures, signals, one comparison a folder."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_trainings import made_up_trainings

from utils.comparison import engine
from utils.comparison.engine import LocalEngine, train_all
from utils.core.files import ROOT
from utils.core.script import run_script


@pytest.fixture
def train_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Train arms, each by a script of these lines: name -> the arm it needs, or None."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(engine, "POLL_S", 0.01)

    def run(lines: str, needs: dict[str, str | None], jobs: int = 1) -> None:
        train_all(made_up_trainings(tmp_path, lines, needs), LocalEngine(jobs))

    return run


def test_trainings_wait_for_what_they_need_and_for_a_free_place(
    train_with: Callable, tmp_path: Path
):
    lines = """
(folder / "began").write_text(str(time.time()))
while len(list(folder.parent.glob("*/began"))) < 2:
    time.sleep(0.01)
(folder / "ended").write_text(str(time.time()))
(folder / "summary.json").touch()
"""
    train_with(lines, {"a": None, "c": "b", "b": None, "d": None}, jobs=2)
    began, ended = (
        {n: float((tmp_path / "runs" / n / w).read_text()) for n in "abcd"}
        for w in ("began", "ended")
    )
    assert began["c"] >= ended["b"]
    at_work = [
        sum(began[other] <= began[name] < ended[other] for other in "abcd") for name in "abcd"
    ]
    assert max(at_work) == 2


def test_a_training_that_fails_is_one_line_and_stops_the_others(
    train_with: Callable, tmp_path: Path, capsys
):
    lines = """
if folder.name == "bad":
    while not (folder.parent / "good" / "began").exists():
        time.sleep(0.01)
    print("a line\\nhalf a bar\\rerror: the disc is full")
    sys.exit(7)
wait_for_the_end()
"""
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: train_with(lines, {"bad": None, "good": None, "later": None}, jobs=2))
    (message,) = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")
    ]
    log = tmp_path / "runs/logs/bad.log"
    assert (
        stop.value.code == 2
        and "exit code 7: error: the disc is full (see" in message
        and f"{log})" in message
    )
    assert "--epochs 1" in log.read_text() and "a line" in log.read_text()
    assert (tmp_path / "runs/good/stopped").exists() and not (tmp_path / "runs/later").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_trainings(train_with: Callable, tmp_path: Path, capsys, number: int):
    lines = f"""
if folder.name == "second":
    while not (folder.parent / "first" / "began").exists():
        time.sleep(0.01)
    os.kill(os.getppid(), {int(number)})
wait_for_the_end()
"""
    handler = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: train_with(lines, {"first": None, "second": None}, jobs=2))
    assert stop.value.code == 128 + number and signal.getsignal(number) is handler
    assert "stopped; the same command goes on from here" in capsys.readouterr().err
    assert (tmp_path / "runs/first/stopped").exists()


def test_a_run_that_cannot_be_gone_on_with_is_kept(train_with: Callable, tmp_path: Path):
    for number in (1, 2):
        (tmp_path / "runs/a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs/a/results.csv").write_text(f"of another training {number}")
        train_with("(folder / 'summary.json').touch()", {"a": None})
        kept = tmp_path / f"runs/replaced/a-{number}/results.csv"
        assert (
            kept.read_text() == f"of another training {number}"
            and not (tmp_path / "runs/a/results.csv").exists()
        )


LEFT_BEHIND = """
import sys, time
from pathlib import Path
from utils.core.lock import lock_folder

with lock_folder(Path(sys.argv[1])) as lock:
    print("locked", flush=True)
    time.sleep(1)
    (lock.folder / "results.csv").write_text("by the other one")
"""


def test_a_training_that_was_left_behind_is_waited_for(
    train_with: Callable, tmp_path: Path, caplog
):
    """It goes on undisturbed, though the comparison that started it was killed."""
    caplog.set_level("INFO")
    (tmp_path / "runs/left").mkdir(parents=True)
    command = [sys.executable, "-c", LEFT_BEHIND, str(tmp_path / "runs/left")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as left_behind:
        assert left_behind.stdout.readline() == b"locked\n"
        train_with("(folder / 'summary.json').touch()", {"left": None, "other": None})
    assert "waiting for its end" in caplog.text
    assert (tmp_path / "runs/replaced/left-1/results.csv").read_text() == "by the other one"
    assert (tmp_path / "runs/other/summary.json").exists()


def test_a_training_that_found_another_at_work_is_no_failure(
    train_with: Callable, tmp_path: Path, monkeypatch
):
    """One left behind may lock its folder only after the next comparison has looked."""
    looks = iter([False, False, True])  # at the start, before the training, after it
    monkeypatch.setattr(engine, "is_in_use", lambda folder: next(looks, False))
    lines = """
if (folder.parent / "once").exists():
    (folder / "summary.json").touch()
    sys.exit(0)
(folder.parent / "once").touch()
sys.exit(2)
"""
    train_with(lines, {"late": None})
    assert (tmp_path / "runs/late/summary.json").exists()
