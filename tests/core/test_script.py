"""What ends a script is one line."""

import errno

import pytest

from utils.core.script import Interrupted, UserError, run_script


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


def test_a_closed_terminal_does_not_change_the_exit_code(monkeypatch: pytest.MonkeyPatch):
    def closed(*arguments: object, **options: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def main() -> None:
        raise Interrupted("stopped by SIGHUP", 1)

    monkeypatch.setattr("builtins.print", closed)
    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == 129
