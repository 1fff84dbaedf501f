"""How every script starts, fails and is stopped: the logger, errors for the user, and signals."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

LOGGER = logging.getLogger("joint")


class UserError(ValueError):
    """Something the user can fix; scripts print it on one line, no traceback, and exit with 2."""


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived; `exit_code` is 128 + the signal's number, as shells expect."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class StopSignals:
    """Within the context the first SIGINT or SIGTERM is noted in `received`.

    A second one acts as usual.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.received = number
        self.__exit__()


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Within the context SIGINT and SIGTERM wait for its end, so that what it begins is whole.

    In other threads than the main one this does nothing: no handler runs there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = StopSignals()
    try:
        with signals:
            yield
    finally:
        if signals.received:
            signal.raise_signal(signals.received)


@contextlib.contextmanager
def unwound_by_sigterm() -> Iterator[None]:
    """Within the context SIGTERM is an `Interrupted`, so that what a process holds is given back.

    Not in the further processes of a training, which hold nothing and wait in calls that no handler
    can interrupt.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted(f"stopped by {signal.Signals(number).name}", number)


def escape_half_characters() -> None:
    """Let what is printed have names of files that are not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; user errors and what the system refuses end in one line, code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    escape_half_characters()
    try:
        with unwound_by_sigterm():
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
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
