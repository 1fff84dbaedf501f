"""Lists of images: a .txt file with an image's path a line, relative to the list's folder.

Written as UTF-8. Bytes of a name that is not UTF-8, as in archives from other systems, stay as they
are, in both directions. Lines end in LF, CR LF or CR, and nothing else: a name may hold a form feed
or U+2028, but no line break.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable
from pathlib import Path

from utils.core.script import UserError
from utils.core.terminal import one_line
from utils.core.user_file import read_regular, real_path

LINE_BREAK = re.compile(r"\r\n|\n|\r")


def read_image_list(path: Path) -> list[str]:
    """The paths of the images in a list, blank lines left out.

    Raises:
        UserError: it cannot be read, or names an image that does not exist.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a list: {error.strerror}") from None
    text = os.fsdecode(content.removeprefix(codecs.BOM_UTF8))
    lines = [line.strip() for line in LINE_BREAK.split(text)]
    folder = real_path(path.parent)  # so that a line's leading ".." climbs real folders
    images = [os.path.normpath(os.path.join(folder, line)) for line in lines if line]
    missing = [image for image in images if not os.path.exists(image)]
    missing = [image for image in missing if not Path(image).exists()]  # which tells "forbidden"
    if missing:
        first = one_line(missing[0])
        raise UserError(
            f"{path}: {len(missing)} of {len(images)} images do not exist, the first: {first}"
            f"{_hint(content)}"
        )
    return images


def _hint(content: bytes) -> str:
    """What may be wrong with a list whose images do not exist; empty if it is UTF-8."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"; byte {error.start} is not UTF-8; expected an image's path a line, in UTF-8"
    return ""


def list_content(images: Iterable[Path], folder: Path) -> bytes:
    """The content of a list in `folder`, which `read_image_list` reads as these images.

    Raises:
        UserError: a path has a line break.
    """
    lines = []
    for image in images:
        line = relative_name(image, folder)
        if LINE_BREAK.search(line):
            raise UserError(
                f"{one_line(line)}: a line break in the name, which no list of images can hold; "
                "rename it"
            )
        if line != line.strip() or line.startswith("\ufeff"):  # which a reader would take away
            line = f"./{line}"
        lines.append(f"{line}\n")
    return os.fsencode("".join(lines))


def relative_name(path: Path, folder: Path) -> str:
    """The path as seen from the folder, with slashes."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of a Windows machine
        return path.as_posix()
