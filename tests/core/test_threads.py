"""Work in threads: the order of `map`, and nothing that goes on after an end."""

import os
import threading
import time

import pytest

from utils.core.threads import map_in_threads


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
