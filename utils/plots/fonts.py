"""Fonts for the letters that names are written in, and one word where none is installed.

Matplotlib brings DejaVu Sans: Latin, Greek, Cyrillic, Arabic, Hebrew, and no letter of Asia's east
and south.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from utils.core.script import LOGGER

OWN = "DejaVu Sans"
# Letters that it lacks: of all Han writing, of China's, Taiwan's and Japan's alone, then of others
SAMPLES = "心脏臟込かカ한กअঅਅઅଅஅఅಅഅංመကខཀ"
PREFERRED = (  # where several have a letter
    "Noto Sans CJK TC",
    "Noto Sans TC",
    "Microsoft JhengHei",
    "PingFang TC",
    "WenQuanYi Zen Hei",
)
MISSING = re.compile(r"Glyph (\d+) .*missing from")

_missing: set[str] = set()  # letters that no font has, so that it is said once


def font_families() -> list[str]:
    """Matplotlib's own font, then installed ones that have letters which it lacks."""
    families = [OWN]
    wanted = set(SAMPLES)
    for font in _installed():
        found = wanted & _samples_in(font.fname)
        if found:
            families.append(font.name)
            wanted -= found
    return families


def _installed() -> list[font_manager.FontEntry]:
    """Upright fonts but matplotlib's own, one of which has an empty box for every letter."""
    own_folder = matplotlib.get_data_path()
    fonts = []
    for font in font_manager.fontManager.ttflist:
        if font.style == "normal" and not font.fname.startswith(own_folder):
            fonts.append(font)
    return sorted(fonts, key=_rank)


def _rank(font: font_manager.FontEntry) -> tuple:
    return font.name not in PREFERRED, "Sans" not in font.name, font.name, font.fname


@cache
def _samples_in(path: str) -> frozenset[str]:
    """Those of `SAMPLES` that a font's file has."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # removed since, or with pictures in place of outlines
        return frozenset()
    return frozenset(letter for letter in SAMPLES if font.get_char_index(ord(letter)))


@contextmanager
def quiet_drawing() -> Iterator[None]:
    """Within the context matplotlib warns of nothing; letters without a font are named once."""
    with warnings.catch_warnings(record=True) as caught, _silent(logging.getLogger("matplotlib")):
        warnings.simplefilter("always")
        yield
    letters = []
    for warning in caught:
        found = MISSING.match(str(warning.message))
        if found:
            letters.append(chr(int(found[1])))
        elif not issubclass(warning.category, UserWarning):  # matplotlib's are
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    note_missing(letters)


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Within the context a logger tells of errors only; matplotlib's tells of its caches."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def note_missing(letters: list[str]) -> None:
    """Say once in a process that pictures lack letters."""
    if letters and not _missing:
        some = " ".join(dict.fromkeys(letters))
        LOGGER.warning(
            f"warning: no installed font has {some}: pictures show boxes in their place; "
            "install a font that has them, such as Noto Sans CJK"
        )
    _missing.update(letters)
