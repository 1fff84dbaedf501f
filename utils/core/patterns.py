"""The one place where a user's regular expressions are compiled, and matched with file names.

Some take longer than anybody waits: with repeats within repeats, such as `(a+)+b`, each further
character of a name doubles the time.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache

from utils.core.script import UserError
from utils.core.terminal import one_line

LONGEST_S = 2.0  # for all names together, beyond `USUAL_S` for each
USUAL_S = 0.001
LONGEST_PATTERN = 1000  # characters
CHUNK = 1000  # names that are searched under one alarm
# What Python raises for an expression that is none, with flags that contradict, numbers that are
# too large, or too many parentheses
COMPILE_ERRORS = (re.error, ValueError, OverflowError, RecursionError, MemoryError)

_late_s: Counter[str] = Counter()  # pattern -> seconds that it took beyond the usual


def check_pattern(pattern: str, groups: int) -> None:
    """Raise a `UserError` for what is no regular expression with at least so many groups."""
    if len(pattern) > LONGEST_PATTERN:
        raise UserError(
            f"has {len(pattern)} characters, expected a regular expression of at most "
            f"{LONGEST_PATTERN}"
        )
    try:
        found = _compiled(pattern).groups
    except COMPILE_ERRORS as error:
        raise UserError(f"{pattern!r} is not a regular expression: {error}") from None
    if found < groups:
        raise UserError(f"{pattern!r} has {found} groups in parentheses, expected {groups}")


@lru_cache(maxsize=2**18)
def search(pattern: str, name: str) -> re.Match | None:
    """The first match of a pattern in a file's name.

    Raises:
        UserError: it takes too long, for this name or for all so far.
    """
    return _search_chunk(pattern, [name])[0]


def search_all(pattern: str, names: Sequence[str]) -> Iterator[re.Match | None]:
    """`search` of every name, without the price of an alarm for each.

    Raises:
        UserError: see `search`.
    """
    for start in range(0, len(names), CHUNK):
        yield from _search_chunk(pattern, names[start : start + CHUNK])


def _search_chunk(pattern: str, names: Sequence[str]) -> list[re.Match | None]:
    usual_s = USUAL_S * len(names)
    start_s = time.thread_time()
    found: list[re.Match | None] = []
    try:
        with _time_limit(LONGEST_S - _late_s[pattern] + usual_s):
            for name in names:
                found.append(_compiled(pattern).search(name))
    except TimeoutError:
        raise UserError(
            f"the pattern {pattern!r} takes more than {LONGEST_S:g} s on the file name "
            f"{one_line(names[len(found)])} and those before; "
            "leave out repeats within repeats, such as (a+)+"
        ) from None
    _late_s[pattern] += max(0.0, time.thread_time() - start_s - usual_s)
    return found


@cache
def _compiled(pattern: str) -> re.Pattern:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a later Python may read otherwise
        return re.compile(pattern)


@contextlib.contextmanager
def _time_limit(limit_s: float) -> Iterator[None]:
    """Within the context a `TimeoutError` comes after `limit_s` of this thread's own time.

    What a busy machine gives to others does not count. Nothing comes where no signal can: in
    other threads than the main one, on Windows, and beside another alarm.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "setitimer") or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return
    end_s = time.thread_time() + limit_s

    def stop(number: int, frame: object) -> None:
        if time.thread_time() >= end_s:
            raise TimeoutError
        set_alarm()

    def set_alarm() -> None:
        left_s = end_s - time.thread_time()
        signal.setitimer(signal.ITIMER_REAL, max(left_s, USUAL_S))  # 0 would be none

    previous = signal.signal(signal.SIGALRM, stop)
    set_alarm()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
