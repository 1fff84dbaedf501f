"""What a user gives as a regular expression is one, of limited length and time."""

import signal
import threading
import time

import pytest

from utils.core import patterns
from utils.core.patterns import LONGEST_PATTERN, check_pattern, search, search_all
from utils.core.script import UserError


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        pytest.param("(", "is not a regular expression", id="open"),
        pytest.param("(a", "is not a regular expression", id="open with text"),
        pytest.param("(a)\\", "is not a regular expression", id="backslash at the end"),
        pytest.param("(a{99999999999})", "is not a regular expression", id="a large number"),
        pytest.param("(" * 5000 + ")" * 5000, f"of at most {LONGEST_PATTERN}", id="long"),
        pytest.param("(?a)(?u)(x)", "is not a regular expression", id="flags that contradict"),
        pytest.param("(?L)(x)", "is not a regular expression", id="a flag of bytes"),
        pytest.param("(?P<x>a)(?P<x>b)", "is not a regular expression", id="one name twice"),
        pytest.param("(?<=a+)(b)", "is not a regular expression", id="look-behind"),
        pytest.param("(?(3)a|b)(c)", "is not a regular expression", id="unknown group"),
        pytest.param("[z-a](x)", "is not a regular expression", id="range backwards"),
        pytest.param("(*)", "is not a regular expression", id="nothing to repeat"),
        pytest.param("P\\d+", "has 0 groups in parentheses, expected 1", id="no group"),
        pytest.param("(?:P)", "has 0 groups in parentheses, expected 1", id="none is kept"),
    ],
)
def test_what_is_no_pattern_is_said(pattern: str, found: str):
    with pytest.raises(UserError, match=found) as error:
        check_pattern(pattern, 1)
    assert "\n" not in str(error.value)


def test_a_pattern_is_searched_for():
    check_pattern(r"^(P\d+)_(\d+)", 2)
    assert search(r"(P\d+)_(\d+)", "x P07_13.png").groups() == ("P07", "13")
    assert search(r"(P\d+)", "Q07") is None


def test_many_names_are_searched_as_one_by_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patterns, "CHUNK", 3)
    names = [f"P{number:02}.png" if number % 3 else "other" for number in range(10)]
    found = [match and match.group(1) for match in search_all(r"(P\d+)", names)]
    one_by_one = [search(r"(P\d+)", name) for name in names]
    assert found == [match and match.group(1) for match in one_by_one]
    with pytest.raises(UserError, match=r"on the file name aaaa"):
        monkeypatch.setattr(patterns, "LONGEST_S", 0.2)
        list(search_all("^(a+)+$", ["x.png"] * 4 + ["a" * 200 + "b.png"]))


@pytest.mark.filterwarnings("error")
def test_what_python_may_read_otherwise_one_day_is_no_further_line():
    check_pattern("([[a])", 1)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(.*a){20}!"])
def test_a_pattern_that_takes_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch, pattern: str):
    monkeypatch.setattr(patterns, "LONGEST_S", 0.2)
    before = signal.getsignal(signal.SIGALRM)
    start = time.thread_time()
    with pytest.raises(UserError, match=r"takes more than 0.2 s on the file name aaaa"):
        search(pattern, "a" * 200 + "b.png")
    assert time.thread_time() - start < 5
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_busy_machine_does_not_make_a_pattern_slow(monkeypatch: pytest.MonkeyPatch):
    """Only the time that the search itself takes counts, not that of other processes."""

    class Waiting:
        def search(self, name: str) -> None:
            time.sleep(0.1)

    monkeypatch.setattr(patterns, "LONGEST_S", 0.02)
    monkeypatch.setattr(patterns, "_compiled", lambda pattern: Waiting())
    assert list(search_all("(P)", ["a.png"] * 3)) == [None] * 3
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_pattern_that_is_slow_on_every_name_is_stopped(monkeypatch: pytest.MonkeyPatch):
    """None of the names alone takes long, but a data set has thousands of them."""
    monkeypatch.setattr(patterns, "LONGEST_S", 0.5)
    start = time.thread_time()
    with pytest.raises(UserError, match=r"takes more than 0.5 s on the file name .* those before"):
        for number in range(1000):
            search("^(a+)+$", "a" * 20 + f"{number}.png")
    assert time.thread_time() - start < 5


def test_a_name_is_searched_once(monkeypatch: pytest.MonkeyPatch):
    first = search("(b)", "a name that is asked for twice, b")
    monkeypatch.setattr(patterns, "_compiled", None)
    assert search("(b)", "a name that is asked for twice, b") is first


def test_in_another_thread_it_is_searched_for_as_well():
    found = []
    thread = threading.Thread(target=lambda: found.append(search("(b)", "abc")))
    thread.start()
    thread.join()
    assert found[0].group(1) == "b"
