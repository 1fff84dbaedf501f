"""Colours of DICOM pictures: what a JPEG's markers say counts, once; grey by the stated rule."""

from pathlib import Path

import numpy as np
import pytest
from dicom_files import (
    HEIGHT,
    JFIF,
    WIDTH,
    Dataset,
    app14,
    doppler_frames,
    jpeg,
    jpeg_2000,
    psnr_db,
    pydicom,
    rgb_to_ybr,
    segment,
    uid,
    with_markers,
    write_by_gdcm,
    write_encoded,
    write_native,
)

from utils.core.script import UserError
from utils.data.dicom import open_dicom
from utils.data.dicom_colour import ybr_to_rgb

TAGS = ("RGB", "YBR_FULL", "YBR_FULL_422")
FRAME = doppler_frames(1)[0]
HOLDS_YBR = jpeg(FRAME, subsampling=0)
HOLDS_RGB = jpeg(FRAME, subsampling=0, keep_rgb=True)
HOLDS_THIN_YBR = jpeg(np.repeat(FRAME[:, ::2], 2, axis=1), subsampling=1)


def first_frame(path: Path) -> np.ndarray:
    return next(open_dicom(path).frames())


# ---- what a JPEG holds ---------------------------------------------------------------------------

SAYING_YBR = {
    "JFIF marker": with_markers(HOLDS_YBR, JFIF),
    "APP14 marker": with_markers(HOLDS_YBR, app14(1)),
    "JFIF marker, and APP14": with_markers(HOLDS_YBR, JFIF, app14(1)),
    "JPEG's thinned-out components": with_markers(HOLDS_THIN_YBR),
}
SAYING_RGB = {
    "APP14 marker": with_markers(HOLDS_RGB, app14(0)),
    "JPEG's component names": with_markers(HOLDS_RGB),
}


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("sign", SAYING_YBR)
def test_ybr_by_its_markers_is_converted_once_whatever_the_header_says(
    tmp_path: Path, sign: str, tag: str
):
    path = write_encoded(tmp_path / "a", [SAYING_YBR[sign]], photometric=tag)
    assert psnr_db(first_frame(path), FRAME) > 25
    expected = ()
    if tag == "RGB":
        reason = sign.partition(",")[0]
        expected = (f"its header says RGB, but its pixels are YBR by their {reason}",)
    assert open_dicom(path).warnings == expected


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("sign", SAYING_RGB)
def test_rgb_by_its_markers_is_not_converted_whatever_the_header_says(
    tmp_path: Path, sign: str, tag: str
):
    path = write_encoded(tmp_path / "a", [SAYING_RGB[sign]], photometric=tag)
    assert psnr_db(first_frame(path), FRAME) > 38
    expected = ()
    if tag != "RGB":
        expected = (f"its header says {tag}, but its pixels are RGB by their {sign}",)
    assert open_dicom(path).warnings == expected


@pytest.mark.parametrize("tag", TAGS)
def test_without_markers_the_header_decides(tmp_path: Path, tag: str):
    codestream = with_markers(HOLDS_YBR)
    if tag == "RGB":
        codestream = (
            with_markers(HOLDS_RGB).replace(b"R\x11", b"\1\x11").replace(b"G\x11", b"\2\x11")
        )
        codestream = codestream.replace(b"B\x11", b"\3\x11")
        start = codestream.index(b"\xff\xda")
        scan = codestream[start : start + 14]
        renamed = scan.replace(b"R", b"\1").replace(b"G", b"\2").replace(b"B", b"\3")
        codestream = codestream.replace(scan, renamed)
    path = write_encoded(tmp_path / "a", [codestream], photometric=tag)
    assert psnr_db(first_frame(path), FRAME) > 38
    assert not open_dicom(path).warnings


def test_red_flow_stays_red_and_blue_blue(tmp_path: Path):
    """Of the lie that hospitals hold most: the header says RGB, the JPEG holds YBR."""
    found = first_frame(write_encoded(tmp_path / "a", [HOLDS_YBR], photometric="RGB"))
    red, blue = found[14, 12].astype(int), found[32, 40].astype(int)
    assert red[0] - red[2] > 150 and blue[2] - blue[0] > 150


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless])
@pytest.mark.parametrize("tag", ["RGB", "YBR_FULL"])
def test_losslessly_compressed_colours_are_what_the_header_says(
    tmp_path: Path, syntax: str, tag: str
):
    stored = FRAME
    if tag == "YBR_FULL":
        stored = rgb_to_ybr(FRAME)
    path = write_by_gdcm(tmp_path / "a", [stored], syntax, photometric=tag)
    np.testing.assert_allclose(first_frame(path).astype(int), FRAME, atol=2)


@pytest.mark.parametrize("tag", ["RGB", "YBR_FULL"])
def test_lossless_jpeg_obeys_its_markers_too(tmp_path: Path, tag: str):
    """GDCM leaves its colours as they are, where Pillow would convert them."""
    path = write_by_gdcm(
        tmp_path / "a", [rgb_to_ybr(FRAME)], uid.JPEGLosslessSV1, photometric="YBR_FULL"
    )
    encoded = pydicom.encaps.get_frame(pydicom.dcmread(path).PixelData, 0, number_of_frames=1)
    marked = encoded[:2] + segment(*app14(1)) + encoded[2:]
    write_encoded(path, [marked], uid.JPEGLosslessSV1, tag)
    np.testing.assert_allclose(first_frame(path).astype(int), FRAME, atol=2)
    assert bool(open_dicom(path).warnings) == (tag == "RGB")


@pytest.mark.parametrize("tag", ["RGB", "YBR_RCT", "YBR_FULL"])
def test_jpeg_2000_that_undoes_its_own_transform_gives_rgb(tmp_path: Path, tag: str):
    codestream = jpeg_2000(FRAME, mct=1)
    path = write_encoded(tmp_path / "a", [codestream], uid.JPEG2000Lossless, tag)
    np.testing.assert_array_equal(first_frame(path), FRAME)
    assert bool(open_dicom(path).warnings) == (tag == "YBR_FULL")


@pytest.mark.parametrize("tag", ["RGB", "YBR_FULL"])
def test_jpeg_2000_without_a_transform_is_what_the_header_says(tmp_path: Path, tag: str):
    stored = FRAME
    if tag == "YBR_FULL":
        stored = rgb_to_ybr(FRAME)
    codestream = jpeg_2000(stored, mct=0)
    path = write_encoded(tmp_path / "a", [codestream], uid.JPEG2000Lossless, tag)
    np.testing.assert_allclose(first_frame(path).astype(int), FRAME, atol=2)
    assert not open_dicom(path).warnings


def test_pixels_that_are_not_thinned_out_as_the_header_says(tmp_path: Path):
    path = write_native(tmp_path / "a", [rgb_to_ybr(FRAME)] * 2, photometric="YBR_FULL_422")
    np.testing.assert_allclose(list(open_dicom(path).frames())[1].astype(int), FRAME, atol=2)
    (warning,) = open_dicom(path).warnings
    assert warning == "its header says YBR_FULL_422, but its pixels are YBR_FULL by their number"


def test_ybr_to_rgb_is_the_standards_matrix():
    random = np.random.default_rng(0)
    ybr = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    expected = pydicom.pixels.convert_color_space(ybr, "YBR_FULL", "RGB")
    np.testing.assert_allclose(ybr_to_rgb(ybr).astype(int), expected, atol=1)


def test_colours_of_16_bits_keep_the_upper_8_of_the_stored_ones(tmp_path: Path):
    stored = FRAME.astype(np.uint16) * 16 + 15
    bits = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    for syntax in (uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        path = write_native(tmp_path / "a", [stored], syntax, **bits)
        np.testing.assert_array_equal(first_frame(path), FRAME)


# ---- grey ----------------------------------------------------------------------------------------

RAMP = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)


def grey_of(path: Path, stored: np.ndarray, **changes: object) -> np.ndarray:
    """What becomes of one grey frame: (height, width) int."""
    bits = 8 * stored.dtype.itemsize
    known = {"BitsAllocated": bits, "BitsStored": bits, "SamplesPerPixel": 1}
    known |= {"PixelRepresentation": int(stored.dtype.kind == "i"), "PlanarConfiguration": None}
    known |= changes
    tag = known.pop("tag", "MONOCHROME2")
    write_native(path, [stored], photometric=tag, HighBit=known["BitsStored"] - 1, **known)
    found = first_frame(path)
    assert (found == found[:, :, :1]).all()
    return found[:, :, 0].astype(int)


def test_grey_of_8_bits_stays_as_it_is(tmp_path: Path):
    stored = (RAMP % 256).astype(np.uint8)
    np.testing.assert_array_equal(grey_of(tmp_path / "a", stored), stored)
    inverted = grey_of(tmp_path / "a", stored, tag="MONOCHROME1")
    np.testing.assert_array_equal(inverted, 255 - stored.astype(int))


@pytest.mark.parametrize("bits", [9, 10, 12, 16])
def test_deeper_grey_keeps_the_upper_8_of_the_stored_bits(tmp_path: Path, bits: int):
    """As images of 16 bits do, see `utils.core.pixels`."""
    stored = (RAMP * 21 % (1 << bits)).astype(np.uint16)
    np.testing.assert_array_equal(
        grey_of(tmp_path / "a", stored, BitsStored=bits), stored >> (bits - 8)
    )


def test_signed_grey_begins_at_its_least_value(tmp_path: Path):
    stored = (RAMP - 1500).astype(np.int16)
    found = grey_of(tmp_path / "a", stored, BitsStored=12)
    np.testing.assert_array_equal(found, (stored.astype(int) + 2048) >> 4)


def test_the_rescaling_alone_changes_nothing(tmp_path: Path):
    stored = (RAMP % 4096).astype(np.uint16)
    found = grey_of(
        tmp_path / "a", stored, BitsStored=12, RescaleSlope="0.5", RescaleIntercept="-1024"
    )
    np.testing.assert_array_equal(found, stored >> 4)


@pytest.mark.parametrize(("slope", "intercept"), [("0", "5"), ("2", None)])
def test_a_rescaling_to_nothing_or_from_nowhere_is_refused(
    tmp_path: Path, slope: str, intercept: str | None
):
    changes = {"RescaleSlope": slope}
    if intercept:
        changes["RescaleIntercept"] = intercept
    with pytest.raises(UserError, match=f"a: its RescaleSlope is {slope} and its RescaleInter"):
        grey_of(tmp_path / "a", RAMP.astype(np.uint16), BitsStored=12, **changes)


def test_a_window_is_spread_over_the_greys(tmp_path: Path):
    """PS3.3 C.11.2.1.2.1 by hand: black to 999.5 - 199.5, white from 1199."""
    stored = RAMP.astype(np.uint16)
    found = grey_of(tmp_path / "a", stored, BitsStored=12, WindowCenter="1000", WindowWidth="400")
    share = ((stored - 999.5) / 399 + 0.5).clip(0, 1)
    np.testing.assert_allclose(found, (share * 4095 / 16).astype(int), atol=1)
    assert found[stored <= 800].max() == 0 and found[stored >= 1200].min() == 255


def test_a_look_up_table_of_the_values_of_interest(tmp_path: Path):
    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.LUTData = (np.arange(256)[::-1] * 257).tolist()
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    stored = (RAMP % 256).astype(np.uint8)
    found = grey_of(tmp_path / "a", stored, VOILUTSequence=[table])
    np.testing.assert_array_equal(found, 255 - stored.astype(int))


def test_the_rule_is_the_same_for_every_frame(tmp_path: Path):
    """A dark frame stays dark."""
    frames = [np.full((HEIGHT, WIDTH), shade, np.uint16) for shade in (16, 160, 1600)]
    path = write_native(
        tmp_path / "a",
        frames,
        photometric="MONOCHROME2",
        SamplesPerPixel=1,
        PlanarConfiguration=None,
        BitsAllocated=16,
        BitsStored=12,
        HighBit=11,
    )
    assert [int(frame.max()) for frame in open_dicom(path).frames()] == [1, 10, 100]


# ---- palettes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry_bits", [8, 16])
def test_a_palettes_entries_may_have_8_or_16_bits(tmp_path: Path, entry_bits: int):
    table = np.random.default_rng(0).integers(0, 256, (256, 3))
    changes = {}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        entries = table[:, channel].astype("<u2")
        if entry_bits == 16:
            entries = entries * 256 + 7
        changes[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        changes[f"{name}PaletteColorLookupTableData"] = entries.astype("<u2").tobytes()
    stored = (RAMP % 256).astype(np.uint8)
    path = write_native(
        tmp_path / "a",
        [stored],
        photometric="PALETTE COLOR",
        SamplesPerPixel=1,
        PlanarConfiguration=None,
        **changes,
    )
    np.testing.assert_array_equal(first_frame(path), table[stored])
