"""Work that releases Python's lock, such as decoding images, on all cores or beside other work."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from tqdm import tqdm

from utils.core.signals import signals_held_back

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 4096  # calls that wait for a thread: a million of them would fill the memory
MOST_WAITING = 2  # calls of `Behind`, so that memory does not grow where they are slow
END = object()


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


def ahead(items: Generator[T]) -> Iterator[T]:
    """The same items; while the caller works on one, a thread makes the next.

    When it is closed, it waits for the item that is being made, and closes `items`.
    """
    pool = ThreadPoolExecutor(1)
    with closing(items):
        try:
            item = pool.submit(next, items, END).result()
            while item is not END:
                coming = pool.submit(next, items, END)
                yield item
                item = coming.result()
        finally:
            _end(pool)


def mapped_ahead(work: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """What `map` gives; so many calls go on at a time, in threads, ahead of the caller."""
    coming: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(count)
    try:
        for item in items:
            coming.append(pool.submit(work, item))
            if len(coming) > count:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        _end(pool)


def _end(pool: ThreadPoolExecutor, *, leaves_rest: bool = True) -> None:
    """Wait for what the threads do; a signal waits, too, so that nothing goes on unseen."""
    with signals_held_back():
        pool.shutdown(cancel_futures=leaves_rest)


class Behind:
    """A context whose calls are made by a thread, one after the other, while the caller goes on.

    The context ends when all of them have ended, whatever ends it. After one that fails no further
    one begins; its error is raised by the next call, or at the end if nothing else is.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future] = deque()
        self._has_failed = False

    def __enter__(self) -> Behind:
        return self

    def __call__(self, work: Callable[..., object], *arguments: object) -> None:
        """Let the thread call `work`; waits where too many calls wait already."""
        self._waiting.append(self._pool.submit(self._call, work, *arguments))
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft().result()

    def _call(self, work: Callable[..., object], *arguments: object) -> None:
        if self._has_failed:
            return
        try:
            work(*arguments)
        except BaseException:
            self._has_failed = True
            raise

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        _end(self._pool, leaves_rest=False)
        if kind is None:
            for call in self._waiting:
                call.result()
