"""Words as pixels, in the letters of the plots, for pictures that are made by the thousand.

Pillow draws them once: matplotlib takes some milliseconds for a text, and OpenCV's own letters are
Latin only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby

import numpy as np
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from utils.plots.fonts import font_families, note_missing

# Shares of the size of the letters
ASCENT = 1.05  # above the line that they stand on, with room for marks above them
DESCENT = 0.3
CAPITAL = 0.73  # height of a capital letter
REMEMBERED = 512  # texts; a label is some kilobytes, of a huge image some hundred


@dataclass(frozen=True)
class Lettering:
    """Words as pixels.

    Attributes:
        coverage: (height, width) uint8, how much of a pixel they cover; not to be written to.
        baseline: the row that the letters stand on.
        size_px: of the letters.
    """

    coverage: np.ndarray
    baseline: int
    size_px: float

    @property
    def width(self) -> int:
        return self.coverage.shape[1]

    def write(
        self, picture: np.ndarray, left: int, baseline: int, colour: tuple[int, int, int]
    ) -> None:
        """Put the words into a picture (h, w, 3) uint8; what does not fit is cut off."""
        top = baseline - self.baseline
        rows = slice(max(0, -top), None)
        columns = slice(max(0, -left), None)
        coverage = self.coverage[rows, columns]
        part = picture[max(0, top) :, max(0, left) :][: len(coverage), : coverage.shape[1]]
        height, width = part.shape[:2]
        opacity = coverage[:height, :width, None] / np.float32(255)
        part[:] = (part * (1 - opacity) + np.float32(colour) * opacity + 0.5).astype(np.uint8)


@lru_cache(REMEMBERED)
def lettering(words: str, size_px: float, is_bold: bool = False) -> Lettering:
    """The words, each letter from the first font that has it.

    Letters that no installed font has become empty boxes, and one line says so.
    """
    numbers = {letter: _font_number(letter, is_bold) for letter in words}
    note_missing([letter for letter, number in numbers.items() if number is None])
    fonts = _fonts(size_px, is_bold)
    parts = []
    for number, letters in groupby(words, key=lambda letter: numbers[letter] or 0):
        parts.append(("".join(letters), fonts[number]))
    lengths = [font.getlength(text) for text, font in parts]
    baseline = round(ASCENT * size_px)
    page = Image.new("L", (max(1, round(sum(lengths))), baseline + round(DESCENT * size_px)))
    pen = ImageDraw.Draw(page)
    x = 0.0
    for (text, font), length in zip(parts, lengths, strict=True):
        pen.text((x, baseline), text, fill=255, font=font, anchor="ls")
        x += length
    return Lettering(np.asarray(page), baseline, size_px)


@cache
def _files(is_bold: bool) -> list[tuple[str, int]]:
    """Files of fonts, each with the number of the font in it; the first has most letters."""
    weight = "normal"
    if is_bold:
        weight = "bold"
    files = []
    for family in font_families():
        file = font_manager.findfont(font_manager.FontProperties(family=family, weight=weight))
        files.append(
            (str(file), getattr(file, "face_index", 0))
        )  # matplotlib before 3.11: the first
    return files


@lru_cache(64)
def _fonts(size_px: float, is_bold: bool) -> list[ImageFont.FreeTypeFont]:
    return [ImageFont.truetype(file, size_px, index) for file, index in _files(is_bold)]


@cache
def _font_number(letter: str, is_bold: bool) -> int | None:
    """The number of the first font that has the letter; None if there is none."""
    for number, outlines in enumerate(_outlines(is_bold)):
        if outlines.get_char_index(ord(letter)):
            return number
    return None


@cache
def _outlines(is_bold: bool) -> list[FT2Font]:
    return [FT2Font(file) for file, _ in _files(is_bold)]
