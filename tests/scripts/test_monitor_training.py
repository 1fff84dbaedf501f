"""monitor_training.py: which runs it shows and follows, and that it touches nothing."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up_runs import log_epochs, set_progress
from small_runs import EPOCHS, run, small_options

import monitor_training
from utils.core.files import ROOT, write_json
from utils.core.script import run_script
from utils.loggers.monitor import describe, find_runs, read_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty run folder."""
    path = tmp_path / "exp"
    path.mkdir()
    return path


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Run the script in this process and return what it printed."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["monitor_training.py", *map(str, arguments)])
        run_script(monitor_training.main)
        return capsys.readouterr().out

    return call


@pytest.fixture
def after_sleep(monkeypatch: pytest.MonkeyPatch):
    """Put functions in the place of the pauses between two looks, one a pause.

    Another pause fails the test.
    """

    def plan(*events) -> None:
        left = list(events)
        monkeypatch.setattr(
            time,
            "sleep",
            lambda seconds: left.pop(0)() if left else pytest.fail("follows for ever"),
        )

    return plan


@pytest.fixture(scope="module")
def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# ---- which runs ----------------------------------------------------------------------------------


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A folder with the finished runs `a` (no progress) and `b` (no rows), something else, and a
    run too deep.
    """
    for name in ("b", "a", "pictures", "pictures/deep"):
        (tmp_path / "several" / name).mkdir(parents=True)
    log_epochs(tmp_path / "several/a")
    os.utime(tmp_path / "several/a/results.csv", (1000.0, 1000.0))
    write_json(
        tmp_path / "several/b/progress.json",
        {"pid": 1, "updated": 1000.0, "state": "finished", "epoch": 0},
    )
    log_epochs(tmp_path / "several/pictures/deep")
    (tmp_path / "several/report.md").write_text("text\n")
    return tmp_path / "several"


def test_a_folder_of_runs(several: Path, monitor):
    assert find_runs(several) == [several / "a", several / "b"]
    assert find_runs(several / "b") == [several / "b"]
    blocks = [
        line.partition(":")[0]
        for line in monitor(several, several / "a", "--once").splitlines()[::5]
    ]
    assert blocks == [str(several / name) for name in ("a", "b", "a")]


def test_what_trains_comes_last(several: Path, monitor):
    set_progress(several / "a")
    states = [
        line.partition(": ")[2].split()[0] for line in monitor(several, "--once").splitlines()[::5]
    ]
    assert states == ["finished,", "training"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["missing"], "missing: found nothing; expected the folder of a run"),
        (["exp", "exp/results.csv"], "exp/results.csv: found a file; expected the folder of a run"),
        (["empty"], "empty: found no progress.json and no results.csv"),
        (["broken"], "broken/progress.json: found no JSON"),
        (["exp", "--interval", "0"], "--interval is 0.0, expected above 0, at most 86400"),
        (["exp", "--interval", "nan"], "--interval is nan, expected above 0, at most 86400"),
        (["exp", "--interval", "inf"], "--interval is inf, expected above 0, at most 86400"),
        (["exp", "--interval", "1e300"], "--interval is 1e+300, expected above 0, at most 86400"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_followed(
    folder: Path, monkeypatch, monitor, capsys, arguments: list[str], expected: str
):
    log_epochs(folder)
    monkeypatch.chdir(folder.parent)
    Path("empty/below").mkdir(parents=True)
    Path("broken").mkdir()
    Path("broken/progress.json").write_text("{")
    with pytest.raises(SystemExit) as stop:
        monitor(*arguments)
    printed = capsys.readouterr()
    assert stop.value.code == 2 and printed.out == ""
    assert printed.err.startswith(f"error: {expected}") and printed.err.count("\n") == 1


# ---- following -----------------------------------------------------------------------------------


def test_follows_until_the_end_and_prints_what_changed(
    folder: Path, tmp_path: Path, monitor, after_sleep
):
    other = tmp_path / "other"
    other.mkdir()
    log_epochs(other)
    set_progress(folder, batch=0, batches=10)
    after_sleep(
        lambda: set_progress(folder, batch=5, batches=10),
        lambda: None,
        lambda: set_progress(folder, "finished", epoch=9),
    )
    heads = [line for line in monitor(folder, other).splitlines() if not line.startswith(" ")]
    assert [line.partition(", ")[0] for line in heads] == [
        f"{other}: no process known",
        f"{folder}: training (process {os.getpid()})",
        f"{folder}: training (process {os.getpid()})",
        f"{folder}: finished",
    ]


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_run_that_has_ended_is_not_waited_for(folder: Path, monitor, after_sleep, state: str):
    set_progress(folder, state)
    after_sleep()
    assert f"{folder}: {state}" in monitor(folder)


def test_a_dead_run_is_not_waited_for(folder: Path, gone: int, monitor, after_sleep):
    write_json(
        folder / "progress.json",
        {"pid": gone, "updated": time.time(), "state": "training", "epoch": 0},
    )
    after_sleep()
    assert f"{folder}: dead" in monitor(folder)


def test_the_next_run_of_a_folder_is_waited_for(several: Path, monitor, after_sleep):
    set_progress(several / "b", "finished")

    def next_run() -> None:
        (several / "c").mkdir()
        set_progress(several / "c", epoch=1)

    def long_over() -> None:
        for name in "bc":
            write_json(
                several / name / "progress.json",
                {"pid": 1, "updated": 1000.0, "state": "finished", "epoch": 9},
            )

    after_sleep(lambda: None, next_run, long_over)
    assert f"{several / 'c'}: training" in monitor(several)


def test_a_folder_of_old_runs_is_not_waited_for(several: Path, monitor, after_sleep):
    after_sleep()
    assert f"{several / 'b'}: finished" in monitor(several)


@pytest.mark.parametrize(("size", "height"), [((200, 50), 10), ((30, 8), 7)])
def test_a_terminal_is_redrawn_in_place(
    several: Path, monkeypatch, monitor, after_sleep, size: tuple, height: int
):
    set_progress(several / "b", batch=0, batches=10)
    run_b = several / "b"
    after_sleep(
        lambda: set_progress(run_b, batch=5, batches=10), lambda: set_progress(run_b, "stopped")
    )
    monkeypatch.setattr(
        monitor_training.shutil, "get_terminal_size", lambda **_: os.terminal_size(size)
    )
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    drawn = monitor(several / "a", several / "b").split(f"\x1b[{height}A\x1b[J")
    assert len(drawn) == 3
    for text in drawn:
        assert text.count("\n") == height
        assert max(map(len, text.split("\n"))) < size[0]
    assert "batch 1/10" in drawn[0] and "batch 6/10" in drawn[1] and "batch -" in drawn[2]


# ---- for real ------------------------------------------------------------------------------------


def fingerprint(folder: Path) -> str:
    """Of all names, contents and times of change below `folder`."""
    paths = sorted(folder.rglob("*"))
    parts = [
        (str(path), path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in paths
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def test_a_real_run(tiny_data: Path, tmp_path: Path, monitor):
    folder = run(small_options(tiny_data, tmp_path), tmp_path / "runs" / "exp")
    before = fingerprint(tmp_path)
    status = read_run(folder)
    assert (status.state, status.pid, status.epoch, status.epochs) == (
        "finished",
        os.getpid(),
        EPOCHS,
        EPOCHS,
    )
    assert all(
        value > 0
        for value in (
            *status.losses.values(),
            *status.weights.values(),
            status.epoch_s,
            status.ratio,
        )
    )
    assert list(status.losses) == ["box", "obj", "cls", "view"]
    assert None not in status.metrics.values()
    command = [sys.executable, ROOT / "monitor_training.py", folder.parent, "--once"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == describe(status, 0.0)[1:]
    assert monitor(folder).startswith(f"{folder}: finished")
    assert fingerprint(tmp_path) == before


# ---- broken runs, and readers that go away -------------------------------------------------------


BREAKAGES = (b"", b"{", b"[]", b"\xff", b'{"pid": -1, "state": "training"}', b"[" * 50_000)


@pytest.mark.parametrize("content", BREAKAGES, ids=lambda content: repr(content[:20]))
def test_a_broken_run_hides_no_other(several: Path, monitor, content: bytes):
    (several / "0 broken").mkdir()
    (several / "0 broken/progress.json").write_bytes(content)
    text = monitor(several, "--once")
    shown = [line.partition(":")[0] for line in text.splitlines() if not line.startswith(" ")]
    assert shown == [str(several / name) for name in ("0 broken", "a", "b")]
    assert "0 broken: no process known" in text


def test_a_run_that_is_removed_stops_no_other(folder: Path, tmp_path: Path, monitor, after_sleep):
    other = tmp_path / "other"
    other.mkdir()
    for path in (folder, other):
        set_progress(path)
    after_sleep(
        lambda: shutil.rmtree(other),
        lambda: set_progress(folder, "finished", epoch=9),
    )
    assert monitor(folder, other).count(f"{folder}: finished") == 1


@pytest.mark.parametrize("pace", ["--interval 0.01", "--once"])
@pytest.mark.parametrize("ending", ["| head -1", "| true", ">&-"])
def test_nobody_reads_any_more(folder: Path, pace: str, ending: str):
    """The run trains for ever: without a reader there is nothing to follow it for."""
    script = ROOT / "monitor_training.py"
    set_progress(folder)
    shell = f"{sys.executable} {script} {folder} {pace} {ending}"
    with subprocess.Popen([sys.executable, "-c", TRAINS, str(folder)], cwd=ROOT) as training:
        time.sleep(0.5)
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True, timeout=60
        )
        training.kill()
    assert done.returncode == 0 and done.stderr == ""


# Writes another batch into progress.json again and again
TRAINS = """
import sys, time
from itertools import count
from pathlib import Path
from utils.core.files import ProgressFile

progress = ProgressFile(Path(sys.argv[1]) / "progress.json", interval_s=0)
for batch in count():
    progress.update(state="training", epoch=0, epochs=1, batch=batch, batches=10**8)
    time.sleep(0.01)
"""


def test_a_name_cannot_steer_the_terminal(tmp_path: Path, monitor):
    odd = tmp_path / "red \x1b[31m\r"
    odd.mkdir()
    log_epochs(odd)
    assert "red \\x1b[31m\\r: no process known" in monitor(odd, "--once")
