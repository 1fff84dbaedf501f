"""A DICOM object as a clip: its frames one by one as RGB, their times, the scale of its regions.

What is DICOM is decided by a file's content, since clinics' files are called `IM_0001`. pydicom and
python-gdcm read it (`pip install .[dicom]`). Of the header, only what describes the pixels is used;
nothing that names a patient leaves this module.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from utils.core.script import UserError, errors_in
from utils.core.terminal import one_line
from utils.core.user_file import require_regular
from utils.data.dicom_colour import Rendering, rendering_of
from utils.data.dicom_header import Dataset, Region, frame_times_of, regions_of
from utils.data.dicom_pixels import (
    PIXEL_DATA,
    FramesFound,
    PixelElement,
    compressed_frames,
    frame_bytes_of,
    pixel_element,
)
from utils.data.dicom_process import frames_by_process
from utils.data.dicom_syntax import GDCM, UID, plugin_of, require_readable, stated_or_seen
from utils.data.jpeg_markers import Markers, markers_of

PREAMBLE_BYTES = 128
MAGIC = b"DICM"
# Groups that an object without preamble begins with, in either byte order.
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
DICOMDIR = "1.2.840.10008.1.3.10"
# Objects that hold pixels, but no picture of a patient.
NO_PICTURES = ("RTDOSE", "SEG")
INSTALL = "pip install '.[dicom]'"
PIXEL_KEYS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")
MOST_FRAME_BYTES = 1 << 28
LONGEST_REASON = 200  # characters of what a library says


def is_dicom(path: str | Path) -> bool:
    """Whether a file is DICOM by its content: `DICM` at byte 128, or a header without that.

    The latter is seen only where pydicom is installed.
    """
    try:
        require_regular(path)
        with open(path, "rb") as stream:
            beginning = stream.read(PREAMBLE_BYTES + len(MAGIC))
    except OSError:
        return False
    if beginning[PREAMBLE_BYTES:] == MAGIC:
        return True
    if not beginning.startswith(FIRST_GROUPS) or not has_reader():
        return False
    try:
        header = _read(Path(path)).header
    except UserError:
        return False
    return "SOPClassUID" in header or "Modality" in header


def has_reader() -> bool:
    """Whether pydicom is installed."""
    return importlib.util.find_spec("pydicom") is not None


def other_kind(path: Path) -> str | None:
    """What a DICOM file is that holds no picture, as in "DICOM SR"; None of one that should.

    Where pydicom is not installed, every file is of another kind.
    """
    if not has_reader():
        return f"DICOM (to read it: {INSTALL})"
    try:
        return _read(path).other_kind
    except UserError:
        return None  # damaged; who reads it hears about it


@dataclass(frozen=True)
class DicomClip:
    """The frames of a DICOM object, and what its header says about them.

    Attributes:
        path: of the file.
        frame_count: as stated; a file that holds another number is read as far as it goes, and then
            `frames` raises.
        height, width: of a frame, in pixels.
        frame_times_ms: of every frame that is there, after the first; None where the header says
            nothing.
        regions: those that lie in the picture.
        warnings: what the header says that is not so, a text each.
        held: how many frames are wholly in the file.
    """

    path: Path
    frame_count: int
    height: int
    width: int
    frame_times_ms: tuple[float, ...] | None
    regions: tuple[Region, ...]
    warnings: tuple[str, ...]
    held: int
    _object: _Object
    _photometric: str
    _plugin: str
    _rendering: Rendering

    def frames(self) -> Iterator[np.ndarray]:
        """Every frame in order, (height, width, 3) uint8 RGB; one is in memory at a time.

        Raises:
            UserError: a frame cannot be decoded; or, after the last, the file holds more or fewer
                than it states.
        """
        for number, samples in enumerate(self._stored_frames(), start=1):
            with self._decoding(number):
                picture = self._rendering.convert(samples)
            yield picture
        if self.held < self.frame_count:
            raise UserError(
                f"{self.path}: ends after {self.held} of {self.frame_count} frames; "
                "is the file complete?"
            )
        if self.held > self.frame_count:
            raise UserError(
                f"{self.path}: its NumberOfFrames is {self.frame_count}, but it holds "
                f"{self.held} frames; the others are left out"
            )

    def _stored_frames(self) -> Iterator[np.ndarray]:
        """Decoded, but with the colours that they are stored in."""
        stored = self.decoded_here()
        if self._plugin == GDCM:
            stored = frames_by_process(self.path)
        for number in range(1, min(self.held, self.frame_count) + 1):
            with self._decoding(number):
                samples = next(stored)
            yield samples

    def decoded_here(self) -> Iterator[np.ndarray]:
        """The frames as they are stored, decoded in this process, which GDCM may end."""
        from pydicom.pixels import iter_pixels

        syntax = self._object.syntax
        facts = {
            "number_of_frames": self.held,
            "photometric_interpretation": self._photometric,
            "decoding_plugin": self._plugin,
            "raw": True,
        }
        source = self._object.source()
        if source is self.path:
            facts["transfer_syntax_uid"] = syntax
        runs = (iter_pixels(source, indices=indices, **facts) for indices in self._runs())
        return chain.from_iterable(runs)

    def _decoding(self, number: int) -> AbstractContextManager[None]:
        """What goes wrong in there becomes a `UserError` that names the frame."""
        place = f"frame {number} of {self.frame_count} cannot be decoded"
        return _one_line_errors(self.path, place)

    def _runs(self) -> list[list[int] | None]:
        """The frames that a call of pydicom decodes, from 0; None: all.

        pydicom 3.0 forgets after a frame of YBR_FULL_422 that the next one is thinned out, too; and
        of all frames in one call, it cannot correct the sign of JPEG 2000 samples.
        """
        is_thinned_out = self._photometric == "YBR_FULL_422"
        if is_thinned_out and not self._object.syntax.is_encapsulated:
            return [[index] for index in range(self.held)]
        if self.held == 1:
            return [[0]]
        return [None]


def open_dicom(path: str | Path) -> DicomClip:
    """A DICOM file as a clip; no frame is decoded yet.

    Raises:
        UserError: pydicom is not installed; or the file is none, is damaged, holds no picture, or
            is compressed in a way that is not read here.
    """
    path = Path(path)
    if not is_dicom(path):
        raise UserError(f"{path}: is not DICOM, or encrypted; expected DICM at its byte 128")
    if not has_reader():
        raise UserError(f"{path}: is DICOM, and pydicom is not installed; {INSTALL}")
    found = _read(path)
    other = found.other_kind
    if other:
        raise UserError(f"{path}: is {other}, which holds no picture; expected images or clips")
    with _one_line_errors(path, "its header cannot be understood"):
        return _clip_of(found)


@dataclass(frozen=True)
class _Object:
    """A file's header, and where its pixels are.

    Attributes:
        syntax: the transfer syntax: how elements are written and frames compressed.
        element: None if there are no pixels.
        is_streamed: frames can be read from the file one by one.
        other_kind: what it is if it holds no picture, as in "DICOM SR"; else None.
    """

    path: Path
    header: Dataset
    syntax: UID
    element: PixelElement | None
    is_streamed: bool
    other_kind: str | None

    def source(self) -> Path | Dataset:
        """What pydicom reads the frames from."""
        from pydicom import dcmread

        if self.is_streamed:
            return self.path
        whole = dcmread(self.path, force=True)
        whole.file_meta.TransferSyntaxUID = self.syntax
        return whole


def _read(path: Path) -> _Object:
    """Raises a `UserError` if the header is damaged."""
    from pydicom import dcmread

    _quieten()
    with _one_line_errors(path, "cannot be read as DICOM"), path.open("rb") as stream:
        header = dcmread(stream, stop_before_pixels=True, force=True)
        encoding = header.original_encoding
        syntax = stated_or_seen(header.file_meta.get("TransferSyntaxUID"), encoding)
        is_known = syntax.is_transfer_syntax and not syntax.is_private
        if is_known and syntax.is_deflated:  # its pixels are nowhere in the file as they are
            header = dcmread(path, force=True)
            element = _inflated_element(header)
            is_streamed = False
        else:
            element = pixel_element(stream, *encoding)
            is_streamed = is_known and encoding == (syntax.is_implicit_VR, syntax.is_little_endian)
            if element and not element.is_as_header:
                is_streamed = False
        return _Object(path, header, syntax, element, is_streamed, _other_kind(header, element))


def _inflated_element(header: Dataset) -> PixelElement | None:
    """The pixels of a deflated object, which are in memory."""
    size = len(header.get("PixelData") or b"")
    if not size:
        return None
    return PixelElement(PIXEL_DATA, 0, size, size)


def _other_kind(header: Dataset, element: PixelElement | None) -> str | None:
    """See `_Object`."""
    if header.file_meta.get("MediaStorageSOPClassUID") == DICOMDIR:
        return "DICOMDIR"
    modality = header.get("Modality")
    if element is None or modality in NO_PICTURES:
        return f"DICOM {modality or 'without pixel data'}"
    return None


def _clip_of(found: _Object) -> DicomClip:
    """Raises a `UserError` if there is no frame in it that could be read."""
    header, path = found.header, found.path
    missing = [key for key in PIXEL_KEYS if not header.get(key)]
    if missing:
        raise UserError(f"{path}: has no {', '.join(missing)} in its header; is it damaged?")
    frame_count = int(header.get("NumberOfFrames") or 1)
    if frame_count < 1:
        raise UserError(f"{path}: its NumberOfFrames is {frame_count}, expected at least 1")
    require_readable(found.syntax, header.BitsStored, path)
    _refuse_odd_pixels(found, path)
    photometric, notes = _photometric_of(found, frame_count)
    frames = _frames_in(found, photometric)
    if frames.held < 1:
        raise UserError(f"{path}: ends before its first frame does; is the file complete?")
    markers = markers_of(frames.codestream)
    _refuse_other_size(header, markers, path)
    plugin = plugin_of(found.syntax, header.BitsStored, markers)
    with errors_in(path):
        rendering = rendering_of(header, markers, plugin)
    times_ms, time_notes = frame_times_of(header, min(frames.held, frame_count))
    regions, region_notes = regions_of(header, header.Rows, header.Columns)
    return DicomClip(
        path,
        frame_count,
        header.Rows,
        header.Columns,
        times_ms,
        regions,
        (*notes, *rendering.warnings, *time_notes, *region_notes),
        frames.held,
        found,
        photometric,
        plugin,
        rendering,
    )


def _refuse_odd_pixels(found: _Object, path: Path) -> None:
    if found.element.name != PIXEL_DATA:
        raise UserError(f"{path}: holds floating-point pixels; expected whole numbers")
    if found.syntax.is_encapsulated == (found.element.length is not None):
        raise UserError(
            f"{path}: its transfer syntax is {found.syntax.name}, but its pixels are not stored so"
        )
    frame_bytes = frame_bytes_of(found.header)
    if frame_bytes > MOST_FRAME_BYTES:
        raise UserError(
            f"{path}: its header claims {frame_bytes:.0f} bytes a frame; "
            f"expected at most {MOST_FRAME_BYTES}"
        )


def _refuse_other_size(header: Dataset, markers: Markers, path: Path) -> None:
    """Raise a `UserError` if a JPEG has another size than its header says."""
    stated = (header.Rows, header.Columns, header.SamplesPerPixel)
    if markers.size not in (None, stated):
        sizes = ["{1} x {0} pixels of {2} samples".format(*size) for size in (stated, markers.size)]
        raise UserError(f"{path}: its header says {sizes[0]}, its JPEG has {sizes[1]}")


def _photometric_of(found: _Object, frame_count: int) -> tuple[str, tuple[str, ...]]:
    """How the colours are stored, and a warning where the pixels' number belies the header.

    Many files say YBR_FULL_422 of uncompressed pixels that are not thinned out.
    """
    stated = found.header.get("PhotometricInterpretation")
    if stated != "YBR_FULL_422" or found.syntax.is_encapsulated:
        return stated, ()
    if found.element.length < frame_bytes_of(found.header) * frame_count:
        return stated, ()
    return "YBR_FULL", (f"its header says {stated}, but its pixels are YBR_FULL by their number",)


def _frames_in(found: _Object, photometric: str) -> FramesFound:
    if found.syntax.is_encapsulated:
        with found.path.open("rb") as stream:
            return compressed_frames(stream, found.element)
    frame_bytes = frame_bytes_of(found.header)
    if photometric == "YBR_FULL_422":  # two pixels share their colour
        frame_bytes = frame_bytes * 2 / 3
    return FramesFound(found.element.frames_held(frame_bytes), b"")


@contextmanager
def _one_line_errors(path: Path, what: str) -> Iterator[None]:
    """Whatever a damaged file makes the libraries raise becomes a `UserError` of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: {what}: {_reason_of(error)}") from None


def _reason_of(error: Exception) -> str:
    """The last line of what a library says, without the objects that it names."""
    lines = str(error).splitlines() or [type(error).__name__]
    return one_line(lines[-1].partition(" <")[0].strip())[:LONGEST_REASON]


def _quieten() -> None:
    """Keep pydicom from saying what this module says: its log has a traceback a failed decoder."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="pydicom")
