"""How the stored samples of a DICOM picture become RGB of 8 bits a channel.

In colour Doppler the hue is the direction of flow, so colours are converted once and never twice.
What a JPEG holds is decided by its own markers (`utils.data.jpeg_markers`), and only where it has
none by the header: objects whose header says RGB and whose JPEG holds YBR are common.

Grey: the modality LUT (or slope and intercept) and the VOI LUT (or window) of the object, the first
where there are several; then the range that values can have is cut into 256 equal steps. Without a
VOI that is the rule of `utils.core.pixels`: the upper 8 of the stored bits. It is the same for
every frame, whatever is in it. MONOCHROME1 is inverted, so that more is brighter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from utils.core.script import UserError
from utils.data.dicom_header import Dataset
from utils.data.dicom_syntax import PILLOW
from utils.data.jpeg_markers import RGB, YBR, Markers

GREYS = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
YBR_TAGS = ("YBR_FULL", "YBR_FULL_422")
# What JPEG 2000 calls its own colour transform, which decoders undo.
RGB_TAGS = (RGB, "YBR_RCT", "YBR_ICT")
READABLE = (*GREYS, PALETTE, *RGB_TAGS, *YBR_TAGS)

DEEPEST_TABLE = 16  # bits; more are computed a frame, not looked up
STEPS = 256

Converter = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rendering:
    """How stored samples become a picture.

    Attributes:
        convert: a frame's samples, (height, width) or (height, width, 3) -> (height, width, 3)
            uint8 RGB.
        warnings: what the header says that is not so.
    """

    convert: Converter
    warnings: tuple[str, ...] = ()


def rendering_of(header: Dataset, markers: Markers, plugin: str) -> Rendering:
    """How a picture is to be shown.

    Args:
        markers: of its first frame.
        plugin: what decodes it, see `utils.data.dicom_syntax.plugin_of`.

    Raises:
        UserError: its colours are of a kind that is not read.
    """
    tag = header.get("PhotometricInterpretation")
    samples = header.get("SamplesPerPixel")
    expected_samples = 3
    if tag in GREYS or tag == PALETTE:
        expected_samples = 1
    if tag not in READABLE or samples != expected_samples:
        raise UserError(
            f"its PhotometricInterpretation is {tag} with {samples} samples a pixel; "
            f"expected 1 with {', '.join(READABLE[:3])}, or 3 with {', '.join(READABLE[3:])}"
        )
    if tag in GREYS:
        _refuse_odd_scale(header)
        return Rendering(_looked_up(lambda stored: _grey(stored, header), header))
    if tag == PALETTE:
        return Rendering(_looked_up(lambda stored: _palette(stored, header), header))
    space, warnings = colour_space(tag, markers)
    if plugin == PILLOW and markers.has_app14:  # then Pillow converts what is YBR
        space = RGB
    bits = header.BitsStored

    def convert(samples: np.ndarray) -> np.ndarray:
        colours = upper_8_bits(samples, bits)
        if space == YBR:
            return ybr_to_rgb(colours)
        return colours

    return Rendering(convert, warnings)


# ---- colour --------------------------------------------------------------------------------------


def colour_space(tag: str, markers: Markers) -> tuple[str, tuple[str, ...]]:
    """What stored samples are, RGB or YBR, and a warning where the header says otherwise.

    Args:
        tag: the header's PhotometricInterpretation.
        markers: of the first frame.
    """
    stated = RGB
    if tag in YBR_TAGS:
        stated = YBR
    found = markers.colours
    if found is None or found == stated:
        return stated, ()
    return found, (f"its header says {tag}, but its pixels are {found} by their {markers.sign}",)


def ybr_to_rgb(colours: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8 full-range Y, Cb, Cr (PS3.3 C.7.6.3.1.2) -> RGB."""
    return cv2.cvtColor(np.ascontiguousarray(colours[:, :, [0, 2, 1]]), cv2.COLOR_YCrCb2RGB)


def upper_8_bits(samples: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned samples -> uint8: the upper 8 of `bits`."""
    if bits > 8:
        samples = samples >> (bits - 8)
    return samples.astype(np.uint8)


# ---- one sample a pixel --------------------------------------------------------------------------


def _looked_up(render: Converter, header: Dataset) -> Converter:
    """The same as `render`, by a table of all values that pixels can have, where it is small."""
    low, high = _stored_range(header)
    if high - low >= 1 << DEEPEST_TABLE:
        return render
    dtype = np.uint16
    if low < 0:
        dtype = np.int16
    table = render(np.arange(low, high + 1).astype(dtype)[None])[0]
    return lambda stored: table[stored.astype(np.int32).clip(low, high) - low]


def _stored_range(header: Dataset) -> tuple[int, int]:
    """The least and the largest value that a pixel can have."""
    bits = header.BitsStored
    if header.get("PixelRepresentation"):
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def _palette(stored: np.ndarray, header: Dataset) -> np.ndarray:
    """Values are rows of a table of colours, whose entries may be of 16 bits."""
    from pydicom.pixels import apply_color_lut

    colours = apply_color_lut(stored, header)
    if colours.max(initial=0) >= STEPS:
        colours = colours >> 8
    return colours.astype(np.uint8)


def _refuse_odd_scale(header: Dataset) -> None:
    """Raise a `UserError` if grey values are scaled by nothing, or without a beginning."""
    if "RescaleSlope" not in header:
        return
    slope = header.RescaleSlope
    intercept = header.get("RescaleIntercept")
    if not slope or intercept is None:
        raise UserError(
            f"its RescaleSlope is {slope} and its RescaleIntercept {intercept}; "
            "expected both, the first not 0"
        )


def _grey(stored: np.ndarray, header: Dataset) -> np.ndarray:
    """See the module's docstring."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    values = apply_modality_lut(stored, header)
    low, high = _stored_range(header)
    step = 1.0
    if "ModalityLUTSequence" in header:
        low, high = 0, _largest_entry(header.ModalityLUTSequence)
    elif "RescaleSlope" in header:
        step = abs(float(header.RescaleSlope))
        ends = [end * header.RescaleSlope + header.RescaleIntercept for end in (low, high)]
        low, high = sorted(map(float, ends))
    if header.get("VOILUTSequence"):
        values = apply_voi_lut(values, header)
        low, high, step = 0, _largest_entry(header.VOILUTSequence), 1.0
    elif header.get("WindowWidth") is not None:
        values = apply_voi_lut(values, header)
    share = (values.astype(float) - low) / (high - low + step)
    grey = np.floor(share * STEPS).clip(0, STEPS - 1).astype(np.uint8)
    if header.PhotometricInterpretation == "MONOCHROME1":
        grey = STEPS - 1 - grey
    return np.repeat(grey[..., None], 3, axis=-1)


def _largest_entry(sequence: object) -> int:
    """That the first of a sequence's look-up tables can have."""
    return (1 << sequence[0].LUTDescriptor[2]) - 1
