"""Letters of every script are drawn where a font has them; where none has, one line says so."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from made_up_fonts import add_font, only_own_fonts
from pixels import pixels

from utils.plots import fonts
from utils.plots.fonts import OWN, SAMPLES, font_families
from utils.plots.style import new_figure, shorten

SCRIPTS = {
    "Chinese": "心脏瓣膜",
    "Taiwanese": "心臟瓣膜",
    "Japanese": "心臓のひだ",
    "Korean": "심장판막",
    "Hindi": "हृदय",
    "Thai": "หัวใจ",
    "emoji": "heart \U0001fac0",
    "nobody's": "\ue123\U0010fffd",
}


@pytest.fixture(autouse=True)
def as_nobody_has_been_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only matplotlib's own fonts are installed."""
    only_own_fonts(monkeypatch)


def draw(path: Path, *texts: str) -> None:
    with new_figure(path, 4, 2) as figure:
        for row, text in enumerate(texts):
            figure.text(0.1, 0.1 + 0.2 * row, shorten(text, 20)).get_window_extent()


@pytest.mark.parametrize("script", SCRIPTS)
def test_letters_without_a_font_are_one_line(tmp_path: Path, caplog, script: str):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in ("a", "b"):
            draw(tmp_path / f"{name}.png", "plain", *[SCRIPTS[script]] * 3)
    assert not caught and len(caplog.messages) == 1
    assert caplog.messages[0].startswith("warning: no installed font has ")
    assert all(letter in caplog.messages[0] for letter in SCRIPTS[script] if letter > "\u2000")


@pytest.mark.parametrize(
    "text", ["Größe ½ é ñ ç", "сердце", "καρδιά", "קלב", "قلب", "a_b $x$ 50 %"]
)
def test_letters_that_matplotlib_has_are_drawn_without_a_word(tmp_path: Path, caplog, text: str):
    draw(tmp_path / "a.png", text)
    assert not caplog.messages


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\rb", "a\x00b\x7f", "a\u202eb", "\udc80"])
def test_what_is_no_letter_is_written_out(tmp_path: Path, caplog, text: str):
    draw(tmp_path / "a.png", text)
    assert not caplog.messages


@pytest.mark.parametrize("letter", SAMPLES)
def test_an_installed_font_is_found_by_what_it_has(
    tmp_path: Path, monkeypatch, caplog, letter: str
):
    name = f"Letter {ord(letter):x}"  # matplotlib remembers where a font of that name is
    add_font(tmp_path / "a.ttf", name, letter, monkeypatch)
    assert font_families() == [OWN, name]
    draw(tmp_path / "a.png", letter)
    assert not caplog.messages


def test_the_letters_of_an_installed_font_are_drawn(tmp_path: Path, monkeypatch):
    draw(tmp_path / "boxes.png", "心")
    add_font(tmp_path / "a.ttf", "Han", "心", monkeypatch)
    draw(tmp_path / "letters.png", "心")
    dark = [int((pixels(tmp_path / f"{name}.png") < 80).sum()) for name in ("boxes", "letters")]
    assert dark[1] > 2 * dark[0] > 0


def test_fonts_without_a_new_letter_are_left_out(tmp_path: Path, monkeypatch):
    add_font(tmp_path / "a.ttf", "A Sans", SAMPLES, monkeypatch)
    add_font(tmp_path / "b.ttf", "B Sans", SAMPLES[:3], monkeypatch)
    assert font_families() == [OWN, "A Sans"]


def test_a_font_that_cannot_be_read_is_passed_by(tmp_path: Path, monkeypatch):
    add_font(tmp_path / "a.ttf", "A Sans", SAMPLES, monkeypatch)
    (tmp_path / "a.ttf").write_bytes(b"no font")
    assert font_families() == [OWN]


def test_other_warnings_are_passed_on():
    with pytest.warns(RuntimeWarning, match="mean of nothing"), fonts.quiet_drawing():
        warnings.warn("mean of nothing", RuntimeWarning, stacklevel=1)
