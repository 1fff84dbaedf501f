"""DICOM files of ultrasound clips, written for a test, and where pydicom keeps its own."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NEEDED = "needs pydicom and python-gdcm: pip install '.[dicom]'"
pydicom = pytest.importorskip("pydicom", reason=NEEDED)
gdcm = pytest.importorskip("gdcm", reason=NEEDED)
uid = pydicom.uid
Dataset = pydicom.Dataset

PYDICOM_FILES = Path(pydicom.__file__).parent / "data/test_files"
HEIGHT = 48
WIDTH = 64
# Transfer syntaxes that the tests' own encoder is GDCM for.
BY_GDCM = {
    uid.JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    uid.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    uid.JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
    uid.JPEGLSNearLossless: gdcm.TransferSyntax.JPEGLSNearLossless,
    uid.JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    uid.JPEG2000: gdcm.TransferSyntax.JPEG2000,
    uid.RLELossless: gdcm.TransferSyntax.RLELossless,
}


def doppler_frames(count: int = 3, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    """Grey speckle with a red and a blue patch that move: (height, width, 3) uint8 RGB each."""
    random = np.random.default_rng(0)
    frames = []
    for number in range(count):
        speckle = random.integers(20, 90, (height // 4, width // 4, 1), dtype=np.uint8)
        frame = np.repeat(np.repeat(np.repeat(speckle, 4, 0), 4, 1), 3, 2)
        frame[8:20, 4 + number : 24 + number] = (220, 40, 20)
        frame[24:40, 30 + number : 50 + number] = (30, 60, 230)
        frames.append(frame)
    return frames


def header_of(
    syntax: str, frames: int, photometric: str = "RGB", planar: int = 0, **changes: object
) -> Dataset:
    """A multi-frame ultrasound object without pixels; `changes` by keyword, None removes one."""
    header = Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.UID(syntax)
    header.SOPClassUID = uid.UltrasoundMultiFrameImageStorage
    header.SOPInstanceUID = uid.generate_uid(entropy_srcs=["frames"])
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.Modality = "US"
    header.NumberOfFrames = frames
    header.FrameTime = "40"
    header.Rows = HEIGHT
    header.Columns = WIDTH
    header.SamplesPerPixel = 3
    header.PhotometricInterpretation = photometric
    header.PlanarConfiguration = planar
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit = 7
    header.PixelRepresentation = 0
    for name, value in changes.items():
        if value is None:
            del header[name]
        else:
            setattr(header, name, value)
    return header


def save(header: Dataset, path: Path) -> Path:
    """A file in its transfer syntax, or, where that is none, as compressed objects are written."""
    syntax = header.file_meta.TransferSyntaxUID
    encoding = {"implicit_vr": False, "little_endian": True}
    if syntax.is_transfer_syntax:
        encoding = {
            "implicit_vr": syntax.is_implicit_VR,
            "little_endian": syntax.is_little_endian,
        }
    header.save_as(path, enforce_file_format=True, **encoding)
    return path


def write_native(
    path: Path,
    frames: Sequence[np.ndarray],
    syntax: str = uid.ExplicitVRLittleEndian,
    photometric: str = "RGB",
    planar: int = 0,
    **changes: object,
) -> Path:
    """Uncompressed frames, their samples as they are."""
    header = header_of(syntax, len(frames), photometric, planar, **changes)
    parts = [np.asarray(frame) for frame in frames]
    if planar:
        parts = [np.moveaxis(part, -1, 0) for part in parts]
    order = "<"
    if not header.file_meta.TransferSyntaxUID.is_little_endian:
        order = ">"
    content = b"".join(part.astype(part.dtype.newbyteorder(order)).tobytes() for part in parts)
    header.PixelData = content + b"\0" * (len(content) % 2)
    header["PixelData"].VR = "OB"
    if header.BitsAllocated > 8:
        header["PixelData"].VR = "OW"
    return save(header, path)


def write_encoded(
    path: Path,
    codestreams: Sequence[bytes],
    syntax: str = uid.JPEGBaseline8Bit,
    photometric: str = "YBR_FULL_422",
    has_offset_table: bool = True,
    **changes: object,
) -> Path:
    """Compressed frames as they are."""
    header = header_of(syntax, len(codestreams), photometric, **changes)
    header.PixelData = pydicom.encaps.encapsulate(list(codestreams), has_bot=has_offset_table)
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    return save(header, path)


def write_by_gdcm(
    path: Path,
    frames: Sequence[np.ndarray],
    syntax: str,
    planar: int = 0,
    photometric: str = "RGB",
    **changes: object,
) -> Path:
    """Frames compressed by GDCM."""
    native = path.with_name(f"{path.name}.native")
    write_native(native, frames, photometric=photometric, planar=planar, **changes)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(native))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(BY_GDCM[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    native.unlink()
    return path


def jpeg(frame: np.ndarray, **options: object) -> bytes:
    """By Pillow: with a JFIF marker, or with APP14 and transform 0 if `keep_rgb`."""
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def jpeg_2000(frame: np.ndarray, **options: object) -> bytes:
    """By Pillow, without losses; with a colour transform of its own if `mct` is 1."""
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "JPEG2000", no_jp2=True, irreversible=False, **options)
    return stream.getvalue()


def with_markers(codestream: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with these segments in place of its first, which names its colours."""
    size = int.from_bytes(codestream[4:6], "big")
    parts = [segment(*known) for known in segments]
    return b"".join([codestream[:2], *parts, codestream[4 + size :]])


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + (len(content) + 2).to_bytes(2, "big") + content


JFIF = (0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def app14(transform: int) -> tuple[int, bytes]:
    return 0xEE, b"Adobe\0d\0\0\0\0" + bytes([transform])


def rgb_to_ybr(frame: np.ndarray) -> np.ndarray:
    """By the matrix of PS3.3 C.7.6.3.1.2."""
    matrix = np.array([[0.2990, 0.5870, 0.1140], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    samples = frame @ matrix.T + [0, 128, 128]
    return samples.round().clip(0, 255).astype(np.uint8)


def thinned_out(ybr: np.ndarray) -> np.ndarray:
    """(height, width, 3) -> a row of bytes as YBR_FULL_422 is stored: Y1 Y2 Cb Cr."""
    pairs = ybr.reshape(-1, 2, 3)
    return np.column_stack((pairs[:, 0, 0], pairs[:, 1, 0], pairs[:, 0, 1:])).astype(np.uint8)


def psnr_db(found: np.ndarray, expected: np.ndarray) -> float:
    error = np.mean((found.astype(float) - expected) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
