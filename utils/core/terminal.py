"""What scripts print: text that cannot steer a terminal, to streams that may go away."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import unicodedata
from collections.abc import Iterator

# Controls, formats, halves of surrogate pairs, line and paragraph separators
STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
KEPT = "\n\t\u200c\u200d"  # the last two join and part letters of Persian and Hindi


def plain(text: str) -> str:
    """The text with what steers a terminal, or turns writing round, written out: `\\x1b`."""
    return "".join(map(_written_out, text))


def one_line(text: str) -> str:
    """`plain`, with breaks and tabs written out, too."""
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


def _written_out(character: str) -> str:
    if character in KEPT or unicodedata.category(character) not in STEERING:
        return character
    return character.encode("unicode_escape").decode("ascii")


class Outlet:
    """A standard stream that may be lost: then nothing more is printed, and the work goes on.

    It is lost when its reader has gone (`| head -1`) or the disk is full that it goes to. Where it
    was closed from the start, it is lost, too.

    Attributes:
        is_lost: whether nothing more is printed.
        problem: what the system said; empty where the reader has gone, as readers may.
    """

    def __init__(self, stream: io.TextIOBase | None):
        self.is_lost = stream is None
        self.problem = ""
        self._stream = stream or _nowhere()
        if hasattr(stream, "reconfigure"):  # what its encoding lacks is written out
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        """Let the stream lead nowhere, for child processes and Python's last flush as well."""
        self.is_lost = True
        if not isinstance(error, BrokenPipeError):
            self.problem = error.strerror or str(error)
        nowhere = _nowhere()
        with contextlib.suppress(OSError):  # a test's stream has no number
            os.dup2(nowhere.fileno(), self._stream.fileno())
        self._stream = nowhere


def _nowhere() -> io.TextIOBase:
    return open(os.devnull, "w", encoding="utf-8")


@contextlib.contextmanager
def outlets() -> Iterator[Outlet]:
    """Within the context the standard streams are `Outlet`s; gives that of standard output."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(Outlet, before)
    try:
        yield sys.stdout
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def is_output_lost() -> bool:
    """Whether what is printed reaches nobody any more."""
    return isinstance(sys.stdout, Outlet) and sys.stdout.is_lost
