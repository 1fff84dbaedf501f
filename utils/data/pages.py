"""Files of several pictures that are no videos: animated GIFs, and TIFFs of several pages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from utils.core.script import UserError
from utils.core.terminal import one_line
from utils.core.user_file import require_regular
from utils.data.images import read_bytes, to_rgb_of_8_bits

GIF = ".gif"
PAGED_SUFFIXES = {GIF, ".tif", ".tiff"}


def page_count(path: Path) -> int:
    """How many pictures a file has; 1 where that cannot be told, which reading it reports."""
    try:
        require_regular(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return image.n_frames
    except Exception:  # a damaged file can raise anything
        return 1


def gif_times_ms(path: Path) -> list[float]:
    """Since when each frame of a GIF is shown; empty if it says nothing, or cannot be read."""
    times_ms = [0.0]
    try:
        with Image.open(path, formats=["GIF"]) as image:
            for number in range(image.n_frames):
                image.seek(number)
                times_ms.append(times_ms[-1] + image.info.get("duration", 0))
    except Exception:  # a damaged file can raise anything; reading its frames reports it
        return []
    if times_ms[-1] == 0:
        return []
    return times_ms[:-1]


def gif_frames(path: Path) -> Iterator[np.ndarray]:
    """Each frame of a GIF as it is shown, (height, width, 3) uint8 RGB.

    Raises:
        UserError: the file is none, or ends early.
    """
    try:
        require_regular(path)
        with Image.open(path, formats=["GIF"]) as image:
            for number in range(image.n_frames):
                image.seek(number)
                yield np.asarray(image.convert("RGB"))
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{path}: cannot be read as a GIF: {one_line(str(error))}") from None


def tiff_pages(path: Path, bits: int | None = None) -> Iterator[np.ndarray]:
    """Each page, (height, width, 3) uint8 RGB.

    Args:
        bits: stored in pages of 16 bits a channel, see `utils.data.images.read_image`.

    Raises:
        UserError: a page cannot be read, or has another size than the first.
    """
    content = read_bytes(path)
    size = None
    for number in range(page_count(path)):
        picture = to_rgb_of_8_bits(content, bits, path, number)
        size = size or picture.shape
        if picture.shape != size:
            raise UserError(
                f"{path}: page {number + 1} has {picture.shape[1]} x {picture.shape[0]} pixels, "
                f"the first {size[1]} x {size[0]}; expected pages of one size"
            )
        yield picture
