"""Letterboxed frames on disk, for `--cache disk`: an image is decoded once, not once an epoch.

A file a frame in the user's cache folder (`$XDG_CACHE_HOME`, or `~/.cache`), never in the data set; the folder may be
deleted at any time. A file is named after a hash of the image file's content and of whatever else decides the
pixels: a changed image has another name, and the same image in several splits or folds one file. Labels are not
kept at all, since every start reads them from the label files.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from utils.core.files import write_atomically
from utils.core.script import UserError

VERSION = 1  # of the file format and of the letterboxing: raise it when either changes
CHECKSUM_BYTES = 4  # a file starts with the CRC-32 of all that follows:
ORIGINAL_SIZE = struct.Struct("<II")  # the image's own height and width, and then the pixels


def user_cache_folder() -> Path:
    """Where this project may keep what it can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yolov5-joint-gradnorm"


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

    def get(
        self, content: bytes, make: Callable[[], tuple[np.ndarray, tuple[int, int]]]
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """The frame of an image file with this `content`, from the cache or else from `make`.

        Returns:
            (size, size, 3) uint8 RGB, and the image's own height and width.
        """
        made_with = f"{VERSION} {cv2.__version__} {self.image_size} "
        path = self.folder / hashlib.sha256(made_with.encode() + content).hexdigest()
        found = self._read(path)
        if found is None:
            found = make()
            write_atomically(path, lambda temporary: temporary.write_bytes(_pack(*found)))
        return found

    def _read(self, path: Path) -> tuple[np.ndarray, tuple[int, int]] | None:
        """None where there is no such file, or a damaged one."""
        try:
            stored = path.read_bytes()
        except FileNotFoundError:
            return None
        body = memoryview(stored)[CHECKSUM_BYTES:]
        is_whole = len(body) == ORIGINAL_SIZE.size + self.image_size**2 * 3
        if not is_whole or zlib.crc32(body) != int.from_bytes(stored[:CHECKSUM_BYTES], "little"):
            return None
        pixels = np.frombuffer(body[ORIGINAL_SIZE.size :], np.uint8)
        return pixels.reshape(self.image_size, self.image_size, 3), ORIGINAL_SIZE.unpack_from(body)


def _pack(frame: np.ndarray, original_size: tuple[int, int]) -> bytes:
    body = ORIGINAL_SIZE.pack(*original_size) + frame.tobytes()
    return zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little") + body
