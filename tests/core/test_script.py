"""What ends a script is one line."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from utils.core.script import LOGGER, PlainFormatter, UserError, run_script


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


def test_sigterm_gives_back_what_is_held(tmp_path: Path, capsys: pytest.CaptureFixture):
    def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            (tmp_path / "given back").touch()

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == 143 and capsys.readouterr().err == "stopped by SIGTERM\n"
    assert (tmp_path / "given back").exists() and signal.getsignal(signal.SIGTERM) is before


def test_further_processes_of_a_training_end_at_sigterm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    before = signal.getsignal(signal.SIGTERM)
    run_script(lambda: signal.getsignal(signal.SIGTERM) is before or pytest.fail("has a handler"))


def test_an_error_cannot_steer_the_terminal(capsys: pytest.CaptureFixture):
    def main() -> None:
        raise UserError("a.txt:1: found '\x1b[2J\r'")

    with pytest.raises(SystemExit):
        run_script(main)
    assert capsys.readouterr().err == "error: a.txt:1: found '\\x1b[2J\\r'\n"


def test_a_logged_name_cannot_steer_the_terminal():
    record = LOGGER.makeRecord("joint", 20, "", 0, "class \x1b[31m: 0.5", (), None)
    assert PlainFormatter("%(message)s").format(record) == "class \\x1b[31m: 0.5"
