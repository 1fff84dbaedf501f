"""Image files of many depths and arrangements, as bytes."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

HEIGHT = 20
WIDTH = 30
TIFF_TAGS = {
    "ImageWidth": 256,
    "ImageLength": 257,
    "BitsPerSample": 258,
    "Compression": 259,
    "PhotometricInterpretation": 262,
    "StripOffsets": 273,
    "SamplesPerPixel": 277,
    "RowsPerStrip": 278,
    "StripByteCounts": 279,
    "PlanarConfiguration": 284,
    "SampleFormat": 339,
}


def noise(bits: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """uint16 of (HEIGHT, WIDTH, channels) or, of one channel, (HEIGHT, WIDTH).

    Its largest value is 2**bits - 1.
    """
    shape = (HEIGHT, WIDTH)
    if channels > 1:
        shape = (HEIGHT, WIDTH, channels)
    values = np.random.default_rng(seed).integers(0, 1 << bits, shape, dtype=np.uint16)
    values.flat[0] = (1 << bits) - 1
    return values


def encoded(suffix: str, pixels: np.ndarray) -> bytes:
    """By OpenCV; channels in its order, blue first."""
    return cv2.imencode(suffix, pixels)[1].tobytes()


def deepen(folder: Path, bits: int) -> int:
    """Store a folder's PNGs in 16 bits a channel, of which `bits` are used.

    The upper 8 of these are the old ones.

    Returns:
        The largest value.
    """
    largest = 0
    for path in folder.rglob("*.png"):
        pixels = cv2.imread(str(path)).astype(np.uint16) << (bits - 8)
        pixels |= np.uint16((1 << (bits - 8)) - 1)
        path.write_bytes(encoded(".png", pixels))
        largest = max(largest, int(pixels.max()))
    return largest


def by_pillow(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(data: bytes, bits: int, channels: int = 1, **tags: int) -> bytes:
    """An uncompressed TIFF, little-endian, of HEIGHT x WIDTH.

    Args:
        tags: photometric, sample_format and planar.
    """
    parts = 1
    if tags.get("planar") == 2:
        parts = channels
    size = len(data) // parts
    is_rgb = channels >= 3
    directory = ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
    directory[TIFF_TAGS["ImageWidth"]] = WIDTH
    directory[TIFF_TAGS["ImageLength"]] = HEIGHT
    directory[TIFF_TAGS["RowsPerStrip"]] = HEIGHT
    directory[TIFF_TAGS["BitsPerSample"]] = (bits,) * channels
    directory[TIFF_TAGS["SamplesPerPixel"]] = channels
    directory[TIFF_TAGS["Compression"]] = 1
    directory[TIFF_TAGS["PhotometricInterpretation"]] = tags.get("photometric", 1 + is_rgb)
    directory[TIFF_TAGS["PlanarConfiguration"]] = tags.get("planar", 1)
    directory[TIFF_TAGS["SampleFormat"]] = (tags.get("sample_format", 1),) * channels
    directory[TIFF_TAGS["StripByteCounts"]] = (size,) * parts
    # Pillow adds where the data begin.
    directory[TIFF_TAGS["StripOffsets"]] = tuple(size * part for part in range(parts))
    return b"II*\0\x08\0\0\0" + directory.tobytes(8) + data


def png(pixels: np.ndarray, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits with the samples as they are, and further chunks before its data."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour_type, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum
