"""What ends a script is one line."""

import errno

import pytest

from utils.core.script import run_script


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "a b/c"), "a b/c: Permission denied"),
        (OSError("the cable is out"), "the cable is out"),
    ],
)
def test_what_the_system_refuses_is_one_line(capsys: pytest.CaptureFixture, error: OSError, message: str):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == 2 and capsys.readouterr().err == f"error: {message}\n"
