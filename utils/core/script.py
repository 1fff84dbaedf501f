"""How every script starts and ends: the logger, errors for the user, exit codes."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence

from utils.core.signals import Interrupted, unwound_by_signals
from utils.core.terminal import outlets, plain

LOGGER = logging.getLogger("joint")


class UserError(ValueError):
    """Something the user can fix; scripts print it on one line, no traceback, and exit with 2."""


@contextlib.contextmanager
def errors_in(place: object) -> Iterator[None]:
    """Say of a `UserError` what it belongs to."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; user errors and what the system refuses end in one line, code 2.

    A stop signal ends in one line, too, and code 128 + its number.
    """
    ended_with: list[int] = []  # the exit code, once it is known
    if main.__module__ == "__main__":
        # What is registered first is called last: what packages have to give back is given back.
        atexit.register(_end_at_once, ended_with)
    with outlets() as output:
        handler = logging.StreamHandler(output)
        handler.setFormatter(PlainFormatter("%(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])
        exit_code = _exit_code(main)
        output.flush()
        if output.problem:
            _complain(f"error: standard output: {output.problem}")
            exit_code = exit_code or 2
    if exit_code is None or isinstance(exit_code, int):
        ended_with.append(exit_code or 0)
    if exit_code is not None:
        sys.exit(exit_code)


class PlainFormatter(logging.Formatter):
    """Names and labels in messages may hold any character."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def _exit_code(main: Callable[[], None]) -> object:
    """What `main` ends with, said on standard error; None where it just returns."""
    try:
        with unwound_by_signals():
            main()
    except SystemExit as stop:
        return stop.code
    except UserError as error:
        _complain(f"error: {error}")
        return 2
    except OSError as error:
        place = ""
        if error.filename:
            place = f"{error.filename}: "
        _complain(f"error: {place}{error.strerror or error}")
        return 2
    except Interrupted as stop:
        _complain(str(stop))
        return stop.exit_code
    except KeyboardInterrupt:
        return 130
    return None


def _complain(text: str) -> None:
    """Say on standard error why it ends, on one line and the indented ones of a list."""
    text = re.sub(r"\n(?! )", r"\\n", plain(text))
    with contextlib.suppress(OSError):  # the terminal may be closed
        print(text, file=sys.stderr, flush=True)


def _end_at_once(ended_with: Sequence[int]) -> None:
    """End the process without taking the interpreter apart: of torch, that takes a second."""
    if ended_with:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # None, or closed
                stream.flush()
        os._exit(ended_with[0])
