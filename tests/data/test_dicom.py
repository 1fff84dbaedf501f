"""DICOM clips: the frames that were written come back, and what is wrong with a file is one line."""

import itertools
import struct
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from dicom_files import (
    PYDICOM_FILES,
    doppler_frames,
    header_of,
    jpeg,
    psnr_db,
    pydicom,
    rgb_to_ybr,
    save,
    thinned_out,
    uid,
    write_by_gdcm,
    write_encoded,
    write_native,
)

from utils.core.script import UserError
from utils.data.dicom import is_dicom, open_dicom, other_kind

NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
LOSSLESS = (
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.RLELossless,
)


def frames_of(path: Path) -> np.ndarray:
    clip = open_dicom(path)
    found = np.stack(list(clip.frames()))
    assert found.shape == (clip.frame_count, clip.height, clip.width, 3)
    assert found.dtype == np.uint8
    return found


def problem_of(path: Path) -> str:
    """What is wrong with a file, in a line that begins with its path."""
    with pytest.raises(UserError) as caught:
        frames_of(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


# ---- what was written comes back -----------------------------------------------------------------


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.keyword)
def test_uncompressed_frames_come_back(tmp_path: Path, syntax: str, planar: int):
    frames = doppler_frames()
    path = write_native(tmp_path / "IM_0001", frames, syntax, planar=planar)
    np.testing.assert_array_equal(frames_of(path), frames)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_losslessly_compressed_frames_come_back(tmp_path: Path, syntax: str, planar: int):
    frames = doppler_frames()
    path = write_by_gdcm(tmp_path / "IM_0001", frames, syntax, planar)
    np.testing.assert_array_equal(frames_of(path), frames)


@pytest.mark.parametrize("syntax", [uid.JPEGLSNearLossless, uid.JPEG2000], ids=lambda s: s.keyword)
def test_frames_compressed_with_losses_are_close(tmp_path: Path, syntax: str):
    frames = doppler_frames()
    path = write_by_gdcm(tmp_path / "IM_0001", frames, syntax)
    assert psnr_db(frames_of(path), np.stack(frames)) > 40


@pytest.mark.parametrize("has_offset_table", [True, False])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_frames_of_jpeg_are_close(tmp_path: Path, subsampling: int, has_offset_table: bool):
    frames = doppler_frames()
    codestreams = [jpeg(frame, subsampling=subsampling) for frame in frames]
    path = write_encoded(tmp_path / "a", codestreams, has_offset_table=has_offset_table)
    assert psnr_db(frames_of(path), np.stack(frames)) > (38, 27, 25)[subsampling]
    assert not open_dicom(path).warnings


def test_a_frame_of_several_fragments_is_one(tmp_path: Path):
    frames = doppler_frames()
    header = header_of(uid.JPEGBaseline8Bit, len(frames), "YBR_FULL_422")
    codestreams = [jpeg(frame, subsampling=0) for frame in frames]
    header.PixelData = pydicom.encaps.encapsulate(codestreams, fragments_per_frame=3, has_bot=False)
    header["PixelData"].VR = "OB"
    found = frames_of(save(header, tmp_path / "a"))
    assert psnr_db(found, np.stack(frames)) > 38


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.keyword)
def test_uncompressed_ybr_becomes_rgb(tmp_path: Path, syntax: str, planar: int):
    """To the rounding of both directions."""
    frames = doppler_frames()
    ybr = [rgb_to_ybr(frame) for frame in frames]
    found = frames_of(write_native(tmp_path / "a", ybr, syntax, "YBR_FULL", planar))
    np.testing.assert_allclose(found.astype(int), frames, atol=2)


def test_thinned_out_ybr_becomes_rgb(tmp_path: Path):
    """Exact where pairs of pixels have one colour."""
    frames = [np.repeat(frame[:, ::2], 2, axis=1) for frame in doppler_frames()]
    stored = [thinned_out(rgb_to_ybr(frame)) for frame in frames]
    path = write_native(tmp_path / "a", stored, photometric="YBR_FULL_422")
    np.testing.assert_allclose(frames_of(path).astype(int), frames, atol=2)


def test_an_object_without_preamble_is_read(tmp_path: Path):
    frames = doppler_frames()
    path = write_native(tmp_path / "a", frames)
    header = pydicom.dcmread(path)
    header.file_meta = pydicom.dataset.FileMetaDataset()
    for implicit in (True, False):
        header.save_as(
            path,
            enforce_file_format=False,
            implicit_vr=implicit,
            little_endian=True,
            overwrite=True,
        )
        content = path.read_bytes().removeprefix(b"\0" * 128 + b"DICM")
        path.write_bytes(content)
        assert is_dicom(path)
        np.testing.assert_array_equal(frames_of(path), frames)


# ---- real files, which come with pydicom ---------------------------------------------------------

READABLE = sorted(
    path.name
    for pattern in (
        "SC_*.dcm",
        "examples_*.dcm",
        "MR_small*.dcm",
        "JPEGLS*.dcm",
        "ExplVR_BigEnd.dcm",
    )
    for path in PYDICOM_FILES.glob(pattern)
)


@pytest.mark.parametrize("name", READABLE)
def test_pydicoms_own_pictures_are_what_pydicom_makes_of_them(name: str):
    """Of 8 bits and colour; of others, that they can be read."""
    found = frames_of(PYDICOM_FILES / name)
    header = pydicom.dcmread(PYDICOM_FILES / name)
    if header.SamplesPerPixel == 3 and header.BitsStored == 8:
        np.testing.assert_allclose(found, header.pixel_array.reshape(found.shape), atol=1)
    assert found.std() > 0


def test_the_same_picture_is_the_same_in_every_compression():
    """Eight bars: pure colours, black, white; the files differ in colour space and compression."""
    expected = frames_of(PYDICOM_FILES / "SC_rgb_rle.dcm")[0]
    for name in READABLE:
        is_variant = name.startswith(("SC_rgb_dcmtk", "SC_rgb_gdcm", "SC_rgb_jls", "SC_rgb_rle"))
        if is_variant or name in ("SC_rgb_jpeg_gdcm.dcm", "SC_ybr_full_422_uncompressed.dcm"):
            found = frames_of(PYDICOM_FILES / name)[0]
            assert psnr_db(found, expected) > 22, name


def test_a_real_cine_is_what_another_decoder_makes_of_its_jpegs():
    path = PYDICOM_FILES / "examples_ybr_color.dcm"
    found = frames_of(path)
    assert found.shape == (30, 240, 320, 3)
    encoded = pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=30)
    for frame, codestream in zip(found, encoded, strict=True):
        pixels_bgr = cv2.imdecode(np.frombuffer(codestream, np.uint8), cv2.IMREAD_COLOR)
        assert psnr_db(frame, pixels_bgr[:, :, ::-1]) > 45
    assert np.ptp(found.astype(int), axis=3).max() > 50  # it has flow in it


def test_a_jp2_file_within_dicom_has_its_colours():
    """The words "red", "green" and "blue", each in its colour, on grey."""
    (found,) = frames_of(PYDICOM_FILES / "GDCMJ2K_TextGBR.dcm").astype(int)
    for channel, rows in enumerate((slice(30, 120), slice(130, 230), slice(235, 310))):
        others = np.delete(found[rows], channel, axis=2).max(axis=2)
        is_pure = (found[rows, :, channel] > 240) & (others < 20)
        assert is_pure.sum() > 1000
    assert not ((found[120:130] > 140) | (found[120:130] < 110)).any()


def test_every_file_that_the_project_promises_to_read_is_among_them():
    promised = {"examples_ybr_color", "examples_rgb_color", "examples_palette", "examples_jpeg2k"}
    promised |= {"ExplVR_BigEnd", "SC_rgb_rle_2frame", "SC_rgb_jpeg_gdcm", "SC_rgb_jpeg_app14_dcmd"}
    promised |= {f"SC_rgb_dcmtk_+eb+cy+{variant}" for variant in ("n1", "n2", "np", "s2", "s4")}
    promised |= {"SC_ybr_full_422_uncompressed", "SC_rgb_gdcm_KY"}
    assert {f"{name}.dcm" for name in promised} <= set(READABLE)


def test_stale_regions_of_real_files_are_not_used():
    for name in ("examples_ybr_color.dcm", "examples_palette.dcm"):
        clip = open_dicom(PYDICOM_FILES / name)
        assert not clip.regions
        assert any("do not fit its picture" in warning for warning in clip.warnings)


def test_a_palette_is_applied():
    """The rows of its three tables, whose entries are of 16 bits, by hand."""
    path = PYDICOM_FILES / "examples_palette.dcm"
    header = pydicom.dcmread(path)
    names = [f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")]
    table = np.stack([np.frombuffer(header[name].value, "<u2") >> 8 for name in names], axis=1)
    stored = np.frombuffer(header.PixelData, np.uint8).reshape(header.Rows, header.Columns)
    np.testing.assert_array_equal(frames_of(path)[0], table[stored])


# ---- what is DICOM -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dicomdirtests/DICOMDIR", "DICOMDIR"),
        ("reportsi.dcm", "DICOM SR"),
        ("waveform_ecg.dcm", "DICOM ECG"),
        ("rtdose.dcm", "DICOM RTDOSE"),
        ("badVR.dcm", "DICOM RTDOSE"),
        ("liver_1frame.dcm", "DICOM SEG"),
        ("ExplVR_LitEndNoMeta.dcm", "DICOM RTPLAN"),
        ("examples_rgb_color.dcm", None),
    ],
)
def test_other_objects_are_named(name: str, kind: str | None):
    path = PYDICOM_FILES / name
    assert is_dicom(path) and other_kind(path) == kind
    if kind:
        assert f"is {kind}, which holds no picture" in problem_of(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x08\x00", b"\0" * 132, bytes(range(256)) * 9])
def test_what_is_not_dicom_is_seen(tmp_path: Path, content: bytes):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    assert not is_dicom(path)
    assert "is not DICOM" in problem_of(path)


# ---- what is wrong with a file -------------------------------------------------------------------


def cut_off(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_a_clip_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path, compressed: bool):
    frames = doppler_frames(6)
    path = write_native(tmp_path / "a", frames)
    if compressed:
        path = write_by_gdcm(tmp_path / "a", frames, uid.JPEG2000Lossless)
    clip = open_dicom(cut_off(path, 0.6))
    found = []
    with pytest.raises(UserError, match=r"ends after 3 of 6 frames; is the file complete\?"):
        found.extend(clip.frames())
    np.testing.assert_array_equal(found, frames[:3])


def test_a_clip_that_is_cut_off_in_its_first_frame_has_none(tmp_path: Path):
    assert "ends before its first frame" in problem_of(PYDICOM_FILES / "MR_truncated.dcm")
    path = write_encoded(tmp_path / "a", [jpeg(doppler_frames()[0])])
    assert "ends before its first frame" in problem_of(cut_off(path, 0.7))


@pytest.mark.parametrize("has_offset_table", [True, False])
@pytest.mark.parametrize("stated", [1, 2, 9])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_wrong_number_of_frames_is_said(
    tmp_path: Path, compressed: bool, stated: int, has_offset_table: bool
):
    frames = doppler_frames(4)
    path = write_native(tmp_path / "a", frames, NumberOfFrames=stated)
    if compressed:
        codestreams = [jpeg(frame, keep_rgb=True, subsampling=0) for frame in frames]
        path = write_encoded(
            path, codestreams, photometric="RGB", has_offset_table=has_offset_table,
            NumberOfFrames=stated,
        )  # fmt: skip
    clip = open_dicom(path)
    found = list(itertools.islice(clip.frames(), min(stated, 4)))
    assert psnr_db(np.stack(found), np.stack(frames[:stated])) > 38
    expected = f"its NumberOfFrames is {stated}, but it holds 4 frames"
    if stated > 4:
        expected = "ends after 4 of 9 frames"
    assert expected in problem_of(path)


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        (uid.JPEGExtended12Bit, r"JPEG Extended .*pylibjpeg-libjpeg"),
        (uid.HTJ2KLossless, r"High-Throughput .*pylibjpeg-openjpeg"),
        (uid.MPEG4HP41, r"MPEG-4 .*gdcmraw"),
        (uid.HEVCMP51, r"HEVC.*gdcmraw"),
        (uid.UID("1.2.3.4"), r"1\.2\.3\.4.*gdcmconv"),
    ],
)
def test_a_syntax_that_is_not_read_is_named_and_who_reads_it(
    tmp_path: Path, syntax: str, expected: str
):
    path = write_encoded(tmp_path / "a", [b"\xff\xd8"], syntax, BitsStored=12, BitsAllocated=16)
    with pytest.raises(UserError, match=f"its transfer syntax is .*{expected}"):
        open_dicom(path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Rows": 65535, "Columns": 65535}, "claims 12884508675 bytes a frame"),
        ({"Rows": 0}, "has no Rows in its header"),
        ({"BitsStored": None}, "has no BitsStored in its header"),
        ({"PhotometricInterpretation": "CMYK"}, "its PhotometricInterpretation is CMYK with 3"),
        ({"SamplesPerPixel": 4}, "is RGB with 4 samples a pixel"),
        ({"NumberOfFrames": -3}, "its NumberOfFrames is -3, expected at least 1"),
        ({"NumberOfFrames": 10**9}, "ends after 2 of 1000000000 frames"),
    ],
)
def test_what_is_wrong_with_a_header_is_said(tmp_path: Path, changes: dict, expected: str):
    assert expected in problem_of(write_native(tmp_path / "a", doppler_frames(2), **changes))


def test_a_length_that_the_file_does_not_have_takes_no_memory(tmp_path: Path):
    """Four gigabytes of pixels, or of a piece of them, that are only claimed."""
    path = write_encoded(tmp_path / "a", [jpeg(doppler_frames()[0])], has_offset_table=False)
    content = path.read_bytes()
    place = content.index(b"\xff\xd8") - 4
    path.write_bytes(content[:place] + struct.pack("<L", 0xFFFFFFF0) + content[place + 4 :])
    tracemalloc.start()
    assert "ends before its first frame" in problem_of(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_an_element_of_the_header_that_claims_four_gigabytes_takes_no_memory(tmp_path: Path):
    path = write_native(tmp_path / "a", doppler_frames(1), uid.ImplicitVRLittleEndian)
    content = path.read_bytes()
    place = content.index(struct.pack("<HHL", 0x0008, 0x0060, 2)) + 4
    path.write_bytes(content[:place] + struct.pack("<L", 0xFFFFFFF0) + content[place + 4 :])
    assert problem_of(path)


def test_damaged_pixels_are_one_line(tmp_path: Path):
    frames = doppler_frames(2)
    codestreams = [jpeg(frame) for frame in frames]
    codestreams[1] = codestreams[1][:20] + b"\0" * 400
    path = write_encoded(tmp_path / "a", codestreams)
    found = []
    with pytest.raises(UserError, match=r"frame 2 of 2 cannot be decoded") as caught:
        found.extend(open_dicom(path).frames())
    assert len(found) == 1 and "\n" not in str(caught.value)


def test_any_beginning_of_a_file_is_read_or_said_to_be_damaged(tmp_path: Path):
    content = (PYDICOM_FILES / "examples_ybr_color.dcm").read_bytes()
    path = tmp_path / "a"
    for size in range(140, 3000, 190):
        path.write_bytes(content[:size])
        assert problem_of(path)
