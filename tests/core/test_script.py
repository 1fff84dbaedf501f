"""What ends a script is one line."""

import errno
import subprocess
import sys

import pytest

from utils.core.files import ROOT
from utils.core.script import LOGGER, Interrupted, PlainFormatter, UserError, run_script


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "a b/c"), "a b/c: Permission denied"),
        (OSError("the cable is out"), "the cable is out"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    capsys: pytest.CaptureFixture, error: OSError, message: str
):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == 2 and capsys.readouterr().err == f"error: {message}\n"


def test_a_user_error_is_one_line(capsys: pytest.CaptureFixture):
    def main() -> None:
        raise UserError("--epochs is 0, expected at least 1")

    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: --epochs is 0, expected at least 1\n"


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("a\nb: no such file", "a\\nb: no such file"),
        ("2 are wrong:\n  c\nd.txt: 1\n  e.txt: 2", "2 are wrong:\n  c\\nd.txt: 1\n  e.txt: 2"),
    ],
)
def test_a_line_break_in_a_name_is_written_out(
    capsys: pytest.CaptureFixture, message: str, printed: str
):
    def main() -> None:
        raise UserError(message)

    with pytest.raises(SystemExit):
        run_script(main)
    assert capsys.readouterr().err == f"error: {printed}\n"


def test_an_error_cannot_steer_the_terminal(capsys: pytest.CaptureFixture):
    def main() -> None:
        raise UserError("a.txt:1: found '\x1b[2J\r'")

    with pytest.raises(SystemExit):
        run_script(main)
    assert capsys.readouterr().err == "error: a.txt:1: found '\\x1b[2J\\r'\n"


def test_a_logged_name_cannot_steer_the_terminal():
    record = LOGGER.makeRecord("joint", 20, "", 0, "class \x1b[31m: 0.5", (), None)
    assert PlainFormatter("%(message)s").format(record) == "class \\x1b[31m: 0.5"


def test_a_closed_terminal_does_not_change_the_exit_code(monkeypatch: pytest.MonkeyPatch):
    def closed(*arguments: object, **options: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def main() -> None:
        raise Interrupted("stopped by SIGHUP", 1)

    monkeypatch.setattr("builtins.print", closed)
    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == 129


ENDS = """
import atexit, signal, sys
from utils.core.script import UserError, run_script

class Teardown:
    def __del__(self):
        print("the interpreter was taken apart")

def main():
    global kept
    kept = Teardown()
    atexit.register(print, "given back")
    if "stop" in sys.argv:
        signal.raise_signal(signal.SIGTERM)
    if "fail" in sys.argv:
        raise UserError("wrong")
    if "crash" in sys.argv:
        raise RuntimeError("a fault of ours")

run_script(main)
"""


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [("return", 0, ""), ("stop", 143, "stopped by SIGTERM\n"), ("fail", 2, "error: wrong\n")],
)
def test_a_process_gives_back_and_ends_at_once(end: str, code: int, said: str):
    done = ended(end)
    assert done.stdout == "given back\n"
    assert done.returncode == code
    assert done.stderr == said


def test_a_crash_shows_where_it_was():
    done = ended("crash")
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: a fault of ours\n")


def ended(end: str) -> subprocess.CompletedProcess:
    """What a process of `ENDS` says and returns."""
    command = [sys.executable, "-c", ENDS, end]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
