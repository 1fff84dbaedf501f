"""Pixels of every depth become 8 bits by one rule.

Those of 8 bits stay as they were, bit for bit.
"""

import cv2
import numpy as np
import pytest
from deep_images import HEIGHT, WIDTH, by_pillow, encoded, noise, png, tiff
from PIL import Image

from utils.core.pixels import decode, fits_few_bits, largest_value, to_8_bits
from utils.core.script import UserError

# ---- 8 bits --------------------------------------------------------------------------------------

COLOUR = Image.fromarray((noise(8, 4)).astype(np.uint8))
FORMS = {
    "RGB": COLOUR.convert("RGB"),
    "RGBA": COLOUR,
    "grey": COLOUR.convert("L"),
    "grey and alpha": COLOUR.convert("LA"),
    "1 bit": COLOUR.convert("1"),
    "palette": COLOUR.convert("RGB").convert("P"),
    "palette and alpha": COLOUR.quantize(16),
    "CMYK": COLOUR.convert("RGB").convert("CMYK"),
}
ORIENTATION = 0x0112


def shallow() -> dict[str, bytes]:
    """Files of at most 8 bits a channel, in every form that a format has."""
    files = {}
    for form, image in FORMS.items():
        for kind in ("PNG", "JPEG", "BMP", "WEBP", "TIFF"):
            try:
                files[f"{form} {kind}"] = by_pillow(image, kind)
            except OSError:  # a form that the format does not have
                continue
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        for kind in ("PNG", "JPEG", "TIFF"):
            files[f"orientation {orientation} {kind}"] = by_pillow(FORMS["RGB"], kind, exif=exif)
    grey = noise(8).astype(np.uint8).tobytes()
    files |= {
        f"2 pages {kind}": by_pillow(FORMS["RGB"], kind, **PAGES) for kind in ("TIFF", "WEBP")
    }
    files |= {
        f"LZW {form}": by_pillow(FORMS[form], "TIFF", compression="tiff_lzw")
        for form in ("RGB", "grey", "RGBA")
    }
    files["BigTIFF"] = by_pillow(FORMS["RGB"], "TIFF", big_tiff=True)
    files["white is 0"] = tiff(grey, 8, photometric=0)
    files["planar"] = tiff(noise(8, 3).astype(np.uint8).tobytes(), 8, 3, planar=2)
    files["bits a sample unsaid"] = by_pillow(FORMS["1 bit"], "TIFF", compression="group4")
    return files


PAGES = {"save_all": True, "append_images": [FORMS["grey"].convert("RGB")]}
SHALLOW = shallow()


@pytest.mark.parametrize("name", SHALLOW)
def test_8_bits_are_what_opencv_makes_of_them_in_colour(name: str):
    expected = cv2.imdecode(np.frombuffer(SHALLOW[name], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    pixels = decode(SHALLOW[name])
    assert pixels.dtype == np.uint8 and largest_value(pixels) is None
    np.testing.assert_array_equal(pixels, expected)
    for bits in (None, 8, 12, 16):
        assert to_8_bits(pixels, bits) is pixels


# ---- 16 bits -------------------------------------------------------------------------------------

GREY, RGB, RGBA = noise(16), noise(16, 3), noise(16, 4)
TURNED = Image.Exif()
TURNED[ORIENTATION] = 6
DEEP = {
    "PNG grey": (encoded(".png", GREY), GREY),
    "PNG colour": (encoded(".png", RGB[..., ::-1]), RGB),
    "PNG colour and alpha": (png(RGBA, 6), RGBA[..., :3]),
    "PNG grey and alpha": (png(noise(16, 2), 4), noise(16, 2)[..., 0]),
    "PNG with significant bits": (png(GREY, 0, (b"sBIT", b"\x0c")), GREY),
    "PNG with gamma": (png(GREY, 0, (b"gAMA", (45455).to_bytes(4, "big"))), GREY),
    "PNG with a transparent value": (png(GREY, 0, (b"tRNS", b"\0\1")), GREY),
    "PNG turned": (by_pillow(Image.fromarray(GREY), "PNG", exif=TURNED), np.rot90(GREY, -1)),
    "TIFF grey": (tiff(GREY.tobytes(), 16), GREY),
    "TIFF colour": (tiff(RGB.tobytes(), 16, 3), RGB),
    "TIFF of OpenCV": (encoded(".tiff", RGB[..., ::-1]), RGB),
    "TIFF big-endian": (by_pillow(Image.fromarray(GREY.astype(">u2")), "TIFF"), GREY),
    "TIFF LZW": (by_pillow(Image.fromarray(GREY), "TIFF", compression="tiff_lzw"), GREY),
    "TIFF differences": (
        by_pillow(Image.fromarray(GREY), "TIFF", compression="tiff_lzw", tiffinfo={317: 2}),
        GREY,
    ),
    "TIFF turned": (by_pillow(Image.fromarray(GREY), "TIFF", exif=TURNED), np.rot90(GREY, -1)),
    "TIFF one plane": (tiff(GREY.tobytes(), 16, planar=2), GREY),
    "BigTIFF": (by_pillow(Image.fromarray(GREY), "TIFF", big_tiff=True), GREY),
    "TIFF of 2 pages": (
        by_pillow(
            Image.fromarray(GREY),
            "TIFF",
            save_all=True,
            append_images=[Image.fromarray(GREY[::-1].copy())],
        ),
        GREY,
    ),
}


@pytest.mark.parametrize("name", DEEP)
def test_16_bits_are_read_as_stored(name: str):
    content, expected = DEEP[name]
    if expected.ndim == 2:
        expected = np.dstack([expected] * 3)
    pixels = decode(content)
    assert pixels.dtype == np.uint16 and largest_value(pixels) == expected.max()
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(to_8_bits(pixels, None), expected >> 8)


@pytest.mark.parametrize("bits", range(8, 17))
def test_the_upper_8_of_the_stored_bits_are_kept(bits: int):
    ramp = np.arange(1 << bits, dtype=np.uint16)
    found = to_8_bits(ramp, bits)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, ramp // 2 ** (bits - 8))
    assert found[-1] == 255 and (np.bincount(found) == 2 ** (bits - 8)).all()


def test_the_rule_does_not_depend_on_the_frame():
    dark, bright = (np.array([[7, most]], np.uint16) for most in (100, 4095))
    assert to_8_bits(dark << 3, 12)[0, 0] == to_8_bits(np.maximum(bright, 56), 12)[0, 0] == 3


@pytest.mark.parametrize("bits", range(8, 16))
def test_a_value_beyond_the_stored_bits_is_named(bits: int):
    most = (1 << bits) - 1
    to_8_bits(np.array([[most]], np.uint16), bits)
    with pytest.raises(
        UserError, match=rf"holds the value {most + 1}, but 'bits: {bits}' allows {most} at most"
    ):
        to_8_bits(np.array([[0, most + 1]], np.uint16), bits)


@pytest.mark.parametrize(
    ("largest", "few"), [(None, False), (0, True), (255, True), (4095, True), (4096, False)]
)
def test_12_bits_or_fewer_leave_it_open_how_many_are_stored(largest: int | None, few: bool):
    assert fits_few_bits(largest) is few


# ---- what is refused -----------------------------------------------------------------------------

COUNT = HEIGHT * WIDTH
REFUSED = {
    "32-bit floating-point": (
        by_pillow(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
        "32-bit floating-point",
    ),
    "floating-point colour": (encoded(".tiff", RGB.astype(np.float32)), "32-bit floating-point"),
    "64-bit floating-point": (encoded(".tiff", GREY.astype(np.float64)), "64-bit floating-point"),
    "half floats": (tiff(bytes(2 * COUNT), 16, sample_format=3), "16-bit floating-point"),
    "32-bit": (tiff(bytes(4 * COUNT), 32), "32-bit unsigned"),
    "32-bit signed": (tiff(bytes(4 * COUNT), 32, sample_format=2), "32-bit signed"),
    "16-bit signed": (tiff(GREY.tobytes(), 16, sample_format=2), "16-bit signed"),
    "8-bit signed": (tiff(bytes(COUNT), 8, sample_format=2), "read as int8"),
    "10 bits packed": (tiff(bytes(COUNT * 10 // 8), 10), "10-bit unsigned"),
    "12 bits packed": (tiff(bytes(COUNT * 12 // 8), 12), "12-bit unsigned"),
    "14 bits packed": (tiff(bytes(COUNT * 14 // 8), 14), "14-bit unsigned"),
    "white is 0": (tiff(GREY.tobytes(), 16, photometric=0), "photometric interpretation 0"),
    "16-bit palette": (tiff(GREY.tobytes(), 16, photometric=3), "photometric interpretation 3"),
    "16-bit CMYK": (tiff(RGBA.tobytes(), 16, 4, photometric=5), "photometric interpretation 5"),
    "16-bit Lab": (tiff(RGB.tobytes(), 16, 3, photometric=8), "photometric interpretation 8"),
    "planes apart": (tiff(RGB.tobytes(), 16, 3, planar=2), "planar configuration 2"),
    "grey and alpha": (tiff(noise(16, 2).tobytes(), 16, 2), "read as uint8"),
    "radiance": (encoded(".hdr", RGB.astype(np.float32)), "read as float32"),
    "empty": (b"", "cannot be read as an image"),
    "text": (b"no image", "cannot be read as an image"),
    "the beginning of a TIFF": (b"II*\0", "cannot be read as an image"),
    "a TIFF without directory": (b"MM\0*\xff\xff\xff\xff", "cannot be read as an image"),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_as_it_is_is_refused_in_a_line(name: str, capfd: pytest.CaptureFixture):
    content, reason = REFUSED[name]
    with pytest.raises(UserError, match=reason) as error:
        decode(content)
    assert "\n" not in str(error.value)
    assert not capfd.readouterr().err  # OpenCV has nothing to add
