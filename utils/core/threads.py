"""Work that releases Python's lock, such as decoding images, on all cores."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
AT_ONCE = 4096  # calls that wait for a thread: a million of them would fill the memory


def map_in_threads(
    work: Callable[..., T], *items: Iterable, title: str, total: int, is_quiet: bool = False
) -> list[T]:
    """What `map` gives, by as many threads as there are cores, with a progress bar.

    Whatever ends it early, such as a stop signal, ends it: what was not begun is left.

    Args:
        title: in front of the bar.
        total: how many calls there are.
        is_quiet: whether there is no bar.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        found = _map_in_slices(pool, work, zip(*items, strict=False))
        return list(tqdm(found, title, total, unit="img", mininterval=0.5, disable=is_quiet))
    finally:
        pool.shutdown(cancel_futures=True)


def _map_in_slices(
    pool: ThreadPoolExecutor, work: Callable[..., T], calls: Iterator[tuple]
) -> Iterator[T]:
    while True:
        some = list(itertools.islice(calls, AT_ONCE))
        if not some:
            return
        yield from pool.map(work, *zip(*some, strict=True))
