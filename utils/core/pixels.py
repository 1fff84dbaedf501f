"""The pixels of an image file, and how those of more than 8 bits a channel become 8.

An image of 16 bits a channel (PNG, TIFF) seldom uses all of them: a scanner of 12 bits stores 0 to
4095. How many are used, the *stored bits* (DICOM: BitsStored), no pixel tells; `bits` in the
data.yaml does. The upper 8 of the stored bits are kept, value >> (bits - 8), which rounds down. The
rule is the same for every frame, so that brightness means the same in all of them. An image of 8
bits stays as it is.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import cv2
import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from utils.core.script import UserError

DEEPEST = 16  # bits a channel
FEW_BITS = 12  # values that fit them do not look like 16 stored bits

TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
# Tags of TIFF, and values of PHOTOMETRIC
BITS_PER_SAMPLE = 258
PHOTOMETRIC = 262
SAMPLES = 277
PLANAR = 284
SAMPLE_FORMAT = 339
TAGS = (BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES, PLANAR, SAMPLE_FORMAT)
BLACK_IS_ZERO = 1
RGB = 2
EXPECTED = (
    f"unsigned samples of 8 or {DEEPEST} bits, grey or RGB, black as 0, a pixel's channels together"
)
SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point"}


def decode(content: bytes, page: int = 0) -> np.ndarray:
    """An image file's content -> (height, width, 3) RGB.

    It is uint8, or uint16 if the file has more than 8 bits a channel. Grey becomes three equal
    channels, transparency is left out, EXIF's orientation is applied.

    Args:
        page: which one of a TIFF of several, from 0.

    Raises:
        UserError: it is not an image, or its pixels are of a type that cannot be read as they are.
    """
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the errors below are enough
    tags = _tiff_tags(content, page)
    _refuse_odd_tiff(tags)
    pixels = _decoded(content, page)
    if pixels is None:
        raise UserError(
            f"cannot be read as an image (of {len(content)} bytes); replace or remove it"
        )
    was_cut = pixels.dtype == np.uint8 and tags.get(BITS_PER_SAMPLE, 1) > 8
    if was_cut or pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"has pixels that can only be read as {pixels.dtype}; expected {EXPECTED}")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decoded(content: bytes, page: int) -> np.ndarray | None:
    """The pixels as OpenCV gives them, blue first; None if it cannot."""
    buffer = np.frombuffer(content, np.uint8)
    how = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        if page == 0:
            return cv2.imdecode(buffer, how)
        pages = cv2.imdecodemulti(buffer, how, range=(page, page + 1))[1]
        return next(iter(pages), None)
    except cv2.error:  # of a file of 0 bytes
        return None


def _tiff_tags(content: bytes, page: int) -> dict[int, int]:
    """Tag -> value, the largest of all channels, of a TIFF's page.

    Empty for other or damaged files.
    """
    if not content.startswith(TIFF_BEGINNINGS):
        return {}
    stream = io.BytesIO(content)
    header_bytes = 8
    if content[:4] in TIFF_BEGINNINGS[2:]:
        header_bytes = 16
    try:
        tags = ImageFileDirectory_v2(stream.read(header_bytes))
        for _ in range(page + 1):
            stream.seek(tags.next)
            tags.load(stream)
        return {tag: int(np.max(tags[tag])) for tag in TAGS if tag in tags}
    except Exception:  # a damaged file can raise anything; decoding reports it
        return {}


def _refuse_odd_tiff(tags: Mapping[int, int]) -> None:
    """Raise a `UserError` for a TIFF of more than 8 bits that OpenCV cannot read, or misreads.

    It scales samples of 10, 12 and 14 bits, takes white for black, and mixes channels that are
    stored apart.
    """
    depth = tags.get(BITS_PER_SAMPLE, 1)
    sample_format = tags.get(SAMPLE_FORMAT, 1)
    if depth <= 8:
        return
    if depth != DEEPEST or sample_format != 1:
        kind = SAMPLE_FORMATS.get(sample_format, "unknown")
        raise UserError(f"is a TIFF of {depth}-bit {kind} samples; expected {EXPECTED}")
    is_apart = tags.get(PLANAR, 1) != 1 and tags.get(SAMPLES, 1) > 1
    if is_apart or tags.get(PHOTOMETRIC) not in (BLACK_IS_ZERO, RGB):
        arrangement = (
            f"photometric interpretation {tags.get(PHOTOMETRIC)}, "
            f"planar configuration {tags.get(PLANAR, 1)}"
        )
        raise UserError(f"is a TIFF of {depth} bits with {arrangement}; expected {EXPECTED}")


def largest_value(pixels: np.ndarray) -> int | None:
    """The largest value of pixels of more than 8 bits a channel; None of others."""
    if pixels.dtype != np.uint16:
        return None
    return int(pixels.max())


def fits_few_bits(largest: int | None) -> bool:
    """Whether images of 16 bits leave open how many bits they store, by their largest value."""
    return largest is not None and largest < 1 << FEW_BITS


def unknown_bits(split: str, images: int, largest: int) -> str:
    """What is wrong with a split whose images fit few bits, where the key `bits` is missing.

    Args:
        images: the number of the split's images of 16 bits a channel.
        largest: their largest value.
    """
    return (
        f"{split}: the largest value of its {images} images of {DEEPEST} bits is {largest}, "
        f"which fits {FEW_BITS} bits or fewer; "
        f"say in data.yaml how many are stored, as 'bits: {FEW_BITS}' (DICOM: BitsStored)"
    )


def to_8_bits(pixels: np.ndarray, bits: int | None) -> np.ndarray:
    """uint16 pixels -> uint8, by the rule of the module's docstring; uint8 ones as they are.

    Args:
        bits: that are stored; None: all 16.

    Raises:
        UserError: a value has more bits.
    """
    largest = largest_value(pixels)
    bits = bits or DEEPEST
    if largest is None:
        return pixels
    if largest >> bits:
        raise UserError(
            f"holds the value {largest}, but 'bits: {bits}' allows {(1 << bits) - 1} at most; "
            "fix 'bits'"
        )
    return (pixels >> (bits - 8)).astype(np.uint8)
