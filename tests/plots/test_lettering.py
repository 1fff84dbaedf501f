"""Words as pixels: where they stand, how wide they are, and in which font."""

import numpy as np
import pytest
from made_up_fonts import add_font, only_own_fonts

from utils.plots import lettering
from utils.plots.lettering import ASCENT, CAPITAL
from utils.plots.lettering import lettering as letters_of
from utils.plots.style import styled_figure

INK = (10, 20, 30)


@pytest.fixture(autouse=True)
def as_nobody_has_been_told(monkeypatch: pytest.MonkeyPatch):
    """And only matplotlib's own fonts are installed."""
    only_own_fonts(monkeypatch)
    forget()
    yield
    forget()


def forget() -> None:
    for remembered in ("lettering", "_files", "_fonts", "_font_number", "_outlines"):
        getattr(lettering, remembered).cache_clear()


@pytest.mark.parametrize("is_bold", [False, True])
@pytest.mark.parametrize("words", ["MR 0.93", "Größe ½", "сердце", "a_b $x$ 50 %"])
def test_words_are_as_wide_as_the_plots_have_them(words: str, is_bold: bool):
    weight = "bold" if is_bold else "normal"
    with styled_figure(9, 2, "none") as figure:
        text = figure.text(0, 0, words, fontsize=28.8, weight=weight)
        expected = text.get_window_extent().width  # 28.8 pt at 150 DPI are 60 px
    assert letters_of(words, 60, is_bold).width == pytest.approx(expected, rel=0.02)


def test_letters_stand_on_one_row_whatever_they_are():
    for words in ("H", "HH", "xH", "gH"):
        found = letters_of(words, 40)
        rows = np.flatnonzero(found.coverage[:, -25:].max(axis=1) > 127)  # of the H
        assert found.baseline == round(ASCENT * 40)
        assert abs(rows[-1] + 1 - found.baseline) <= 1
        assert abs(len(rows) - CAPITAL * 40) <= 1.5


def test_an_installed_font_has_the_letter_that_the_first_lacks(tmp_path, monkeypatch, caplog):
    add_font(tmp_path / "a.ttf", "Han", "心", monkeypatch)
    found = letters_of("H心", 50).coverage
    assert (found[:, -45:-5] > 127).sum() > 40 * 40  # the test's font has black squares
    assert not caplog.messages


def test_a_letter_without_a_font_is_a_box_and_one_line(caplog):
    for words in ("a心", "心b"):
        assert letters_of(words, 30).coverage.any()
    assert len(caplog.messages) == 1 and "no installed font has 心" in caplog.messages[0]


@pytest.mark.parametrize("left", [-30, 0, 7, 60, 200])
@pytest.mark.parametrize("baseline", [-50, 3, 20, 44, 90])
def test_what_does_not_fit_into_a_picture_is_cut_off(left: int, baseline: int):
    """The same as on a page so large that everything fits."""
    words = letters_of("MR 0.9", 20)
    picture = np.full((40, 70, 3), 200, np.uint8)
    page = np.full((400, 700, 3), 200, np.uint8)
    words.write(page, 300 + left, 200 + baseline, INK)
    words.write(picture, left, baseline, INK)
    np.testing.assert_array_equal(picture, page[200:240, 300:370])


def test_ink_covers_what_the_letters_cover():
    words = letters_of("I", 60)
    picture = np.full((90, 40, 3), 200, np.uint8)
    words.write(picture, 5, 70, INK)
    part = picture[70 - words.baseline :, 5:][: len(words.coverage), : words.width]
    covered = words.coverage[: len(part)]
    assert (part[covered == 255] == INK).all() and (part[covered == 0] == 200).all()
    half = part[(covered > 100) & (covered < 155)]
    assert len(half) == 0 or ((half > INK) & (half < 200)).all()
