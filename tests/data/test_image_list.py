"""A list that is written is read back as the same images, whatever they are called."""

import os
import re
from pathlib import Path

import pytest
from small_files import write_image

from utils.core.script import UserError
from utils.data.image_list import list_content, read_image_list

ODD_NAMES = [
    pytest.param(b"a b", id="space within"),
    pytest.param(b" a", id="space before"),
    pytest.param(b"\xa4\xa4", id="Big5"),
    pytest.param(b"\xe9cho", id="Latin-1"),
    pytest.param("\u2028x".encode(), id="line separator first"),
    pytest.param("x\u2029y\x85z".encode(), id="other separators"),
    pytest.param(b"x\x0cy\x0bz\x1c", id="form feed"),
    pytest.param("\ufeffx".encode(), id="byte order mark"),
    pytest.param("\u3000x".encode(), id="ideographic space"),
    pytest.param(b"#x", id="number sign"),
    pytest.param(b"a[1]*?", id="glob"),
]


@pytest.mark.parametrize("part", ["folder", "file"])
@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_come_back(tmp_path: Path, name: bytes, part: str):
    name = os.fsdecode(name)
    image = tmp_path / f"{name}.png"
    if part == "folder":
        image = tmp_path / name / "x.png"
    write_image(image)
    other = write_image(tmp_path / "other.png")
    listing = tmp_path / "train.txt"
    listing.write_bytes(list_content([image, other, image], tmp_path))
    assert read_image_list(listing) == [str(image), str(other), str(image)]


@pytest.mark.parametrize("name", ["a\nb.png", "a\rb.png", "folder\n/a.png"])
def test_a_line_break_in_a_name_is_refused(tmp_path: Path, name: str):
    with pytest.raises(UserError, match="a line break in the name") as error:
        list_content([tmp_path / name], tmp_path)
    assert "\n" not in str(error.value) and "rename it" in str(error.value)


def test_a_line_break_above_the_list_is_none_in_it(tmp_path: Path):
    folder = tmp_path / "a\nb"
    image = write_image(folder / "x.png")
    (folder / "train.txt").write_bytes(list_content([image], folder))
    assert read_image_list(folder / "train.txt") == [str(image)]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "big5"])
def test_a_list_in_another_encoding_is_named(tmp_path: Path, encoding: str):
    name = {"latin-1": "\xe9"}.get(encoding, "\u5fc3")
    write_image(tmp_path / f"{name}.png")
    listing = tmp_path / "train.txt"
    listing.write_bytes(f"{name}.png\n".encode(encoding))
    with pytest.raises(UserError, match=r"do not exist, the first: .*is not UTF-8") as error:
        read_image_list(listing)
    assert "\0" not in str(error.value)


def test_an_empty_line_is_none_and_a_missing_image_is_named(tmp_path: Path):
    listing = tmp_path / "train.txt"
    listing.write_bytes(b"\xef\xbb\xbf\r\n\r\na.png\rgone\0.png\n")
    write_image(tmp_path / "a.png")
    with pytest.raises(UserError, match=re.escape("1 of 2 images do not exist")) as error:
        read_image_list(listing)
    assert str(error.value).isprintable()
