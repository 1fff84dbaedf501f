"""Fonts of a few letters, and a machine on which only matplotlib's own are installed."""

from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from utils.plots import fonts


def make_font(path: Path, name: str, letters: str) -> None:
    """A font in which every one of the letters is a black square."""
    builder = FontBuilder(1000, isTTF=True)
    names = {ord(letter): f"letter{number}" for number, letter in enumerate(letters)}
    order = [".notdef", *names.values()]
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder.setupGlyf(dict.fromkeys(order, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(order, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, usWinAscent=900, usWinDescent=100)
    builder.setupPost()
    builder.save(path)


def add_font(path: Path, name: str, letters: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_font(path, name, letters)
    entry = font_manager.ttfFontProperty(font_manager.get_font(path))
    known = [*font_manager.fontManager.ttflist, entry]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", known)


def only_own_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed, and nobody has been told of missing letters."""
    own = [font for font in font_manager.fontManager.ttflist if font.name.startswith("DejaVu")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(fonts, "_missing", set())
