"""Work in threads: the order of `map`, and nothing that goes on after an end."""

import os
import threading
import time

import pytest

from utils.core.threads import map_in_threads


def test_the_results_are_in_the_order_of_the_items():
    found = map_in_threads(lambda a, b: (a, b), range(50), range(50, 100), title="", total=50)
    assert found == list(zip(range(50), range(50, 100), strict=True))


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
