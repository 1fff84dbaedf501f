"""Work in threads: the order of `map`, and nothing that goes on after an end."""

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import closing

import pytest

from utils.core.signals import Interrupted, unwound_by_signals
from utils.core.threads import MOST_WAITING, Behind, ahead, map_in_threads, mapped_ahead


def test_the_results_are_in_the_order_of_the_items():
    found = map_in_threads(lambda a, b: (a, b), range(50), range(50, 100), title="", total=50)
    assert found == list(zip(range(50), range(50, 100), strict=True))


def test_of_many_items_some_wait_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("utils.core.threads.AT_ONCE", 7)
    taken = []
    items = (taken.append(number) or number for number in range(50))
    done_when_taken = map_in_threads(lambda _: len(taken), items, title="", total=50)
    assert done_when_taken[0] == 7 and done_when_taken[-1] == 50


def test_an_early_end_leaves_what_was_not_begun():
    began = []
    is_first = threading.Lock()

    def work(number: int) -> None:
        began.append(number)
        if is_first.acquire(blocking=False):
            raise KeyboardInterrupt
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        map_in_threads(work, range(10_000), title="", total=10_000)
    count = len(began)
    assert count < 1000 + os.cpu_count()
    time.sleep(0.05)
    assert len(began) == count


WAIT_S = 20


def noted(count: int, made: list[int]) -> Generator[int]:
    try:
        for number in range(count):
            made.append(number)
            yield number
    finally:
        made.append("closed")


def test_the_next_item_is_made_while_the_caller_works_on_one():
    made, is_made = [], threading.Event()

    def items() -> Generator[int]:
        yield from noted(1, made)
        is_made.set()
        yield 1

    found = []
    for item in ahead(items()):
        assert is_made.wait(WAIT_S)  # nobody has asked for the second item
        found.append(item)
    assert found == [0, 1]


def test_no_more_than_one_item_is_made_ahead_and_an_early_end_closes():
    made = []
    items = ahead(noted(100, made))
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert made in ([0, 1, "closed"], [0, 1, 2, "closed"])


def test_what_goes_wrong_ahead_is_raised_in_its_place():
    def items() -> Generator[int]:
        yield 1
        raise OSError("no more")

    found = []
    with pytest.raises(OSError, match="no more"):
        found.extend(ahead(items()))
    assert found in ([], [1])


def test_calls_ahead_keep_the_order_of_the_items():
    def work(number: int) -> int:
        time.sleep(0.01 * (number % 3 == 0))
        return number

    assert list(mapped_ahead(work, range(20), 3)) == list(range(20))


def test_calls_ahead_are_few():
    begun = []
    found = mapped_ahead(begun.append, range(100), 3)
    next(found)
    found.close()
    assert len(begun) <= 4


def test_calls_behind_are_made_in_order_while_the_caller_goes_on():
    done, may_begin = [], threading.Event()

    def work(number: int) -> None:
        assert may_begin.wait(WAIT_S)
        done.append(number)

    with Behind() as behind:
        for number in range(MOST_WAITING):
            behind(work, number)
        assert not done
        may_begin.set()
        behind(work, MOST_WAITING)
    assert done == [*range(MOST_WAITING + 1)]


def test_calls_behind_end_before_the_context_whatever_ends_it():
    done = []
    with pytest.raises(KeyboardInterrupt), Behind() as behind:
        behind(lambda: (time.sleep(0.05), done.append(1)))
        behind(done.append, 2)
        raise KeyboardInterrupt
    assert done == [1, 2]


def test_after_a_call_that_fails_no_other_begins():
    done = []

    def fail() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"), Behind() as behind:
        behind(fail)
        for number in range(5):
            behind(done.append, number)
    assert not done


def test_a_stop_signal_waits_for_calls_behind():
    """Else what they write to would be closed under them."""
    done = []

    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.1)
        done.append(1)

    with pytest.raises(Interrupted), unwound_by_signals(), Behind() as behind:
        behind(time.sleep, 0.05)  # until the context has begun to end
        behind(work)
    assert done == [1]


def test_a_stop_signal_waits_for_the_item_that_is_made():
    made, is_begun = [], threading.Event()

    def items() -> Generator[int]:
        try:
            yield 0
            is_begun.set()
            time.sleep(0.05)
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.1)
            made.append(1)
            yield 1
        finally:
            made.append("closed")

    with pytest.raises(Interrupted), unwound_by_signals(), closing(ahead(items())) as found:
        next(found)
        assert is_begun.wait(WAIT_S)
    assert made == [1, "closed"]
