"""How every script starts and ends: the logger, errors for the user, exit codes."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence

from utils.core.signals import Interrupted, unwound_by_signals

LOGGER = logging.getLogger("joint")


class UserError(ValueError):
    """Something the user can fix; scripts print it on one line, no traceback, and exit with 2."""


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; user errors and what the system refuses end in one line, code 2.

    A stop signal ends in one line, too, and code 128 + its number.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    stops: list[Interrupted] = []
    if main.__module__ == "__main__":
        # What is registered first is called last: what packages have to give back is given back.
        atexit.register(_end_at_once, stops)
    try:
        with unwound_by_signals():
            main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        place = ""
        if error.filename:
            place = f"{error.filename}: "
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stop:
        with contextlib.suppress(OSError):  # the terminal may be closed
            print(stop, file=sys.stderr, flush=True)
        stops.append(stop)
        sys.exit(stop.exit_code)


def _end_at_once(stops: Sequence[Interrupted]) -> None:
    """End a stopped process without taking the interpreter apart: of torch, that takes seconds."""
    if stops:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(stops[0].exit_code)
