"""Only regular files are opened, and nothing is waited for."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from utils.core.terminal import one_line
from utils.core.user_file import is_utf8, read_regular, require_regular


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda path: None, "No such file", id="missing"),
        pytest.param(Path.mkdir, "it is a folder", id="folder"),
        pytest.param(os.mkfifo, "it is a named pipe", id="pipe"),
        pytest.param(make_socket, "it is a socket", id="socket"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "it is a device", id="device"),
        pytest.param(lambda path: path.symlink_to(path), "Too many levels", id="link loop"),
        pytest.param(lambda path: path.symlink_to("gone"), "No such file", id="link to nowhere"),
        pytest.param(lambda path: path.write_bytes(bytes(11)), "it has 11 bytes", id="large"),
    ],
)
def test_what_is_no_regular_file_is_said(tmp_path: Path, make: Callable, reason: str):
    path = tmp_path / "file"
    make(path)
    with pytest.raises(OSError) as error:
        read_regular(path, most_bytes=10)
    assert reason in error.value.strerror and error.value.filename == str(path)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_a_name_that_no_file_can_have_is_said(name: str):
    with pytest.raises(OSError, match="no file can have this name"):
        require_regular(name)


def test_links_are_followed(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 7) == b"content"
    assert require_regular(tmp_path / "link") == 7


def test_what_cannot_be_drawn_is_escaped():
    name = os.fsdecode(b"A 4C\xe9\n\xe5\xbf\x83")
    assert one_line(name) == "A 4C\\udce9\\n\u5fc3"
    assert is_utf8("\u5fc3\n") and not is_utf8(name)
