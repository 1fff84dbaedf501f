"""The one place where files that a user names are opened: regular ones only, and not too large.

A pipe would be waited for without end, a device may have no end, and both are easily named by
mistake.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from utils.core.terminal import one_line

# Test of a file's mode -> what such a file is
OTHER_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


def require_regular(path: str | Path) -> int:
    """How many bytes a regular file has; links are followed.

    Raises:
        OSError: there is no such file, its name cannot be that of a file, or it is of another kind.
    """
    try:
        found = os.stat(path)
    except ValueError:  # a NUL or half a character in the name
        reason = "no file can have this name"
        raise OSError(errno.EINVAL, reason, one_line(str(path))) from None
    for is_kind, kind in OTHER_KINDS.items():
        if is_kind(found.st_mode):
            raise OSError(errno.EINVAL, f"it is {kind}", str(path))
    return found.st_size


def read_regular(path: str | Path, most_bytes: int | None = None) -> bytes:
    """The content of a regular file.

    Args:
        most_bytes: that it may have; None: any number.

    Raises:
        OSError: see `require_regular`; or the file is larger.
    """
    size = require_regular(path)
    if most_bytes is not None and size > most_bytes:
        reason = f"it has {size} bytes, expected at most {most_bytes}"
        raise OSError(errno.EFBIG, reason, str(path))
    with open(path, "rb") as stream:
        return stream.read()


def real_path(path: str | Path) -> Path:
    """The absolute path without symbolic links; a loop of these stays as it is.

    `Path.resolve` raises a `RuntimeError` there, which nobody expects of a path.
    """
    return Path(os.path.realpath(path))


def is_utf8(text: str | Path) -> bool:
    """Whether the text, or the name of a file, can be stored as UTF-8."""
    try:
        str(text).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
