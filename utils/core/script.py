"""How every script starts and ends: the logger, errors for the user, exit codes."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

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
    with outlets() as output:
        handler = logging.StreamHandler(output)
        handler.setFormatter(PlainFormatter("%(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])
        exit_code = _exit_code(main)
        output.flush()
        if output.problem:
            _complain(f"error: standard output: {output.problem}")
            exit_code = exit_code or 2
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
    with contextlib.suppress(OSError):  # the terminal may be closed
        print(plain(text), file=sys.stderr, flush=True)
