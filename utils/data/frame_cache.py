"""Letterboxed frames on disk, for `--cache disk`: an image is decoded once, not once an epoch.

A file a frame in the user's cache folder (`$XDG_CACHE_HOME`, or `~/.cache`), never in the data set;
the folder may be deleted at any time. A file is named after its key, a hash of the image file's
content and of whatever else decides the pixels: a changed image has another name, and the same
image in several splits or folds one file. The key is in the file too, so that a copy under another
name is never served. Labels are not kept here; see `utils.data.frame_index`.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils.core.files import write_atomically
from utils.core.script import UserError

VERSION = 2  # of the file format and of the letterboxing: raise it when either changes
CHECKSUM_BYTES = 4  # a file starts with the CRC-32 of all that follows:
HEAD = struct.Struct("<32sIIi")  # key, height, width, largest value, and then the pixels
NO_VALUE = -1  # for a largest value that is None


@dataclass(frozen=True)
class CachedFrame:
    """A letterboxed frame and what is known of its image.

    Attributes:
        pixels: (size, size, 3) uint8 RGB.
        original_size: the image's own height and width.
        largest: value of an image of more than 8 bits a channel; None of others.
    """

    pixels: np.ndarray
    original_size: tuple[int, int]
    largest: int | None


def user_cache_folder() -> Path:
    """Where this project may keep what it can make again."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "yolov5-joint-gradnorm"


class FrameCache:
    """Frames of `image_size` pixels, shared by all processes of the user.

    Raises:
        UserError: its folder cannot be made.
    """

    def __init__(self, image_size: int):
        self.image_size = image_size
        self.folder = user_cache_folder() / "frames"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--cache disk: {self.folder} cannot be made: {error.strerror}; "
                "let XDG_CACHE_HOME name a folder that can be written to, or use --cache off"
            ) from None

    def get(self, content: bytes, bits: int | None, make: Callable[[], CachedFrame]) -> CachedFrame:
        """The frame of an image file with this `content`, from the cache or else from `make`.

        Args:
            bits: that `make` takes as stored in an image of 16 bits a channel.
        """
        made_with = f"{VERSION} {cv2.__version__} {self.image_size} {bits} "
        key = hashlib.sha256(made_with.encode() + content)
        path = self.folder / key.hexdigest()
        found = self._read(path, key.digest())
        if found is None:
            found = make()
            packed = _pack(key.digest(), found)
            write_atomically(path, lambda temporary: temporary.write_bytes(packed))
        return found

    def _read(self, path: Path, key: bytes) -> CachedFrame | None:
        """None where there is no such file, a damaged one, or one of another key."""
        try:
            stored = path.read_bytes()
        except FileNotFoundError:
            return None
        body = memoryview(stored)[CHECKSUM_BYTES:]
        is_whole = len(body) == HEAD.size + self.image_size**2 * 3
        if not is_whole or zlib.crc32(body) != int.from_bytes(stored[:CHECKSUM_BYTES], "little"):
            return None
        stored_key, height, width, largest = HEAD.unpack_from(body)
        if stored_key != key:
            return None
        shape = (self.image_size, self.image_size, 3)
        pixels = np.frombuffer(body[HEAD.size :], np.uint8).reshape(shape)
        if largest == NO_VALUE:
            largest = None
        return CachedFrame(pixels, (height, width), largest)


def _pack(key: bytes, frame: CachedFrame) -> bytes:
    """A file's content: checksum, head, pixels."""
    largest = frame.largest
    if largest is None:
        largest = NO_VALUE
    body = HEAD.pack(key, *frame.original_size, largest) + frame.pixels.tobytes()
    return zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little") + body
