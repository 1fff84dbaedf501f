"""A stop signal unwinds, waits where it is held back, and is one request if repeated."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from utils.core import signals
from utils.core.files import ROOT
from utils.core.script import run_script
from utils.core.signals import (
    STOP_SIGNALS,
    Interrupted,
    StopSignals,
    signals_held_back,
    stop_if_asked,
    unwound_by_signals,
)


def handlers() -> list:
    return [signal.getsignal(number) for number in STOP_SIGNALS]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_gives_back_what_is_held_and_is_one_line(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture
):
    def main() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            (tmp_path / "given back").touch()

    before = handlers()
    with pytest.raises(SystemExit) as stop:
        run_script(main)
    name = signal.Signals(number).name
    assert stop.value.code == 128 + number and capsys.readouterr().err == f"stopped by {name}\n"
    assert (tmp_path / "given back").exists() and handlers() == before


def test_nothing_on_the_way_takes_it_for_a_fault():
    with pytest.raises(Interrupted), unwound_by_signals():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:
            pytest.fail("swallowed")


def test_what_a_signal_breaks_is_the_signal():
    """As a loader's process that got it as well, which is a RuntimeError here."""
    with pytest.raises(Interrupted, match="stopped by SIGINT"), unwound_by_signals():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            raise RuntimeError("a worker exited unexpectedly")


def test_a_fault_without_a_signal_stays_one():
    with pytest.raises(RuntimeError, match="a fault"), unwound_by_signals():
        raise RuntimeError("a fault")


def test_a_signal_that_something_swallowed_is_found_at_the_next_safe_place():
    with pytest.raises(Interrupted), unwound_by_signals():
        with contextlib.suppress(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        stop_if_asked()
        pytest.fail("forgotten")
    stop_if_asked()  # of a command before it, which is over


def test_a_repeated_signal_is_the_same_request_and_a_later_one_is_not(monkeypatch):
    seen = []
    previous = signal.signal(signal.SIGTERM, lambda *arguments: seen.append(arguments))
    try:
        with pytest.raises(Interrupted), unwound_by_signals():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGINT)
                assert not seen
                monkeypatch.setattr(signals, "SAME_REQUEST_S", 0.0)
                signal.raise_signal(signal.SIGTERM)
                assert len(seen) == 1
    finally:
        signal.signal(signal.SIGTERM, previous)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_that_is_held_back_comes_at_the_end(number: int):
    done = []
    with pytest.raises(Interrupted), unwound_by_signals(), signals_held_back() as held:
        signal.raise_signal(number)
        assert held.received == number
        done.append("whole")
    assert done == ["whole"]


def test_without_anybody_else_a_held_back_signal_acts_as_usual():
    with pytest.raises(KeyboardInterrupt), signals_held_back():
        signal.raise_signal(signal.SIGINT)


def test_a_stop_that_was_agreed_on_is_not_raised_twice():
    with pytest.raises(Interrupted, match="agreed"), unwound_by_signals(), signals_held_back():
        signal.raise_signal(signal.SIGTERM)
        raise Interrupted("agreed", signal.SIGTERM)


def test_in_other_threads_nothing_is_handled():
    before = handlers()
    found = []

    def work() -> None:
        with unwound_by_signals(), signals_held_back(), StopSignals():
            found.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_further_processes_of_a_training_end_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    before = handlers()
    with unwound_by_signals():
        assert set(handlers()) == {signal.SIG_DFL}
    assert handlers() == before


SLEEPER = """
import time
from utils.core.script import run_script
def main():
    print("begun", flush=True)
    time.sleep(2)
run_script(main)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_nohup_is_respected():
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", SLEEPER],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGHUP)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr


def test_a_copy_of_the_process_ends_quietly(capfd: pytest.CaptureFixture):
    """As a loader's process does that gets the signal before it is one."""
    with unwound_by_signals():
        pid = os.fork()
        if pid == 0:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM
    assert capfd.readouterr().err == ""


def test_words_are_added_to_what_is_said():
    stop = Interrupted.by(signal.SIGTERM)
    stop.add("in epoch 2")
    assert str(stop) == "stopped by SIGTERM in epoch 2" and stop.exit_code == 143
