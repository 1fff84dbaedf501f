"""How every script starts, fails and is stopped: the logger, errors for the user, and signals."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

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


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; user errors and what the system refuses end in one line, code 2."""
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
        with unwound_by_sigterm():
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
    print(plain(text), file=sys.stderr)
