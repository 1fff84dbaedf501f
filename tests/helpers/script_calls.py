"""A script's `main`, called in the test's own process."""

import sys
from types import ModuleType

import pytest

from utils.core.script import run_script


def exit_code_of(
    script: ModuleType, *arguments: object, monkeypatch: pytest.MonkeyPatch
) -> int | str:
    """What a script ends with, given these arguments; 0 where it just returns."""
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, arguments)])
    try:
        run_script(script.main)
    except SystemExit as stop:
        return stop.code
    return 0
