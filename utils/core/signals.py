"""How a command is stopped: Ctrl-C (SIGINT), a batch system (SIGTERM), a closed terminal (SIGHUP).

`unwound_by_signals` is around a whole command. The first signal raises `Interrupted` in the main
thread, wherever it is, so that every `with` and `finally` on the way gives back what is held.
Whatever must not be left half done is done within `signals_held_back`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
STOP_SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
# `timeout`, torchrun and batch systems send a signal to a process and to its group
SAME_REQUEST_S = 2.0

Handler = Callable[[int, object], None] | int | None


class Interrupted(BaseException):
    """A stop signal arrived; `exit_code` is 128 + its number, as shells expect.

    It is no `Exception`, so that nothing on its way takes it for a fault of its own work.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number

    @classmethod
    def by(cls, number: int) -> Interrupted:
        """Of a signal that nothing more is known about."""
        return cls(f"stopped by {signal.Signals(number).name}", number)

    def add(self, words: str) -> None:
        """Say more, such as how to go on."""
        self.args = (f"{self} {words}",)


class StopSignals:
    """Within the context the first stop signal is noted in `received`.

    Those of the next two seconds are the same request; a later one acts as without the context. In
    other threads than the main one nothing is noted: no handler runs there.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._received_at = 0.0
        self._process = os.getpid()
        self._previous: dict[int, Handler] = {}

    def __enter__(self) -> StopSignals:
        self._previous = _handle_by(self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        if os.getpid() != self._process:  # a copy of it, which has not begun its own work
            os._exit(128 + number)
        now = time.monotonic()
        if self.received is None:
            self.received = number
            self._received_at = now
            self._act(number)
        elif now - self._received_at > SAME_REQUEST_S:
            self.__exit__()
            signal.raise_signal(number)

    def _act(self, number: int) -> None:
        """What the first signal does besides."""


class _Unwinding(StopSignals):
    """Within the context the first stop signal raises `Interrupted`."""

    def _act(self, number: int) -> None:
        raise Interrupted.by(number)


def _handle_by(handler: Handler) -> dict[int, Handler]:
    """Install a handler of the stop signals, but for what `nohup` ignores; returns the old ones."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    previous = {}
    for number in STOP_SIGNALS:
        is_hangup = number not in (signal.SIGINT, signal.SIGTERM)
        if is_hangup and signal.getsignal(number) is signal.SIG_IGN:
            continue
        previous[number] = signal.signal(number, handler)
    return previous


def _answering() -> StopSignals | None:
    """The context that stop signals reach now."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(owner, StopSignals):
        return owner
    return None


@contextlib.contextmanager
def signals_held_back() -> Iterator[StopSignals]:
    """Within the context stop signals wait for its end, so that what it begins is whole."""
    signals = StopSignals()
    is_stopping = False
    try:
        with signals:
            yield signals
    except Interrupted:
        is_stopping = True
        raise
    finally:
        if signals.received and not is_stopping:
            signal.raise_signal(signals.received)


@contextlib.contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Within the context the first stop signal is an `Interrupted`.

    So is what a signal breaks, such as a loader's process that got it as well. The further
    processes of a training end at once: they hold nothing, and wait in calls that no handler can
    interrupt.
    """
    if _answering():
        yield
        return
    if os.environ.get("RANK", "0") != "0":
        previous = _handle_by(signal.SIG_DFL)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return
    with _Unwinding() as signals:
        try:
            yield
        except Interrupted:
            raise
        except BaseException as error:
            if signals.received is None:
                raise
            raise Interrupted.by(signals.received) from error


def stop_asked_for() -> Interrupted | None:
    """What a stop signal that arrived, and that something on its way swallowed, is to raise."""
    signals = _answering()
    if signals and signals.received:
        return Interrupted.by(signals.received)
    return None


def stop_if_asked() -> None:
    """Raise it if there is one."""
    stop = stop_asked_for()
    if stop:
        raise stop
