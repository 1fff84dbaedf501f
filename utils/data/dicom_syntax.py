"""Transfer syntaxes of DICOM: which are read here, by what, and what would read the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from utils.core.script import UserError
from utils.data.jpeg_markers import COMPONENT_NAMES, Markers

# pydicom's UID; the package is optional.
UID = Any

# Names of pydicom's plugins
PILLOW = "pillow"
GDCM = "gdcm"

VIDEO_HINT = "take the video out, as gdcmraw of the package libgdcm-tools does, and give that"
# Part of a syntax's name -> what reads it, where the extra `dicom` does not.
OTHER_READERS = {
    "MPEG": VIDEO_HINT,
    "HEVC": VIDEO_HINT,
    "High-Throughput": "pip install pylibjpeg pylibjpeg-openjpeg reads it",
    "JPEG Extended": "pip install pylibjpeg pylibjpeg-libjpeg (GPL) reads 12 bits",
    "JPEG": "pip install '.[dicom]' reads it by python-gdcm",
}
UNKNOWN_HINT = "convert it, as gdcmconv --raw of the package libgdcm-tools may do"


def stated_or_seen(stated: UID | None, encoding: tuple[bool, bool]) -> UID:
    """The transfer syntax that a file states, or the one that its header is seen to be written in.

    Args:
        encoding: of the header: implicit types, little endian.
    """
    from pydicom import uid

    if stated:
        return stated
    seen = {
        (True, True): uid.ImplicitVRLittleEndian,
        (False, True): uid.ExplicitVRLittleEndian,
        (False, False): uid.ExplicitVRBigEndian,
    }
    return seen[encoding]


def plugin_of(syntax: UID, bits: int, markers: Markers | None = None) -> str:
    """Which of pydicom's decoders is used for samples of `bits`; empty: the one that works.

    GDCM ends the whole process at some damaged pictures, so it decodes only what nothing else does.
    What Pillow does with colours, see `utils.data.dicom_colour.rendering_of`;
    pydicom asks it for YBR where there is no APP14, which libjpeg does not make of RGB. Some JP2
    files within DICOM, where they should not be, Pillow refuses.

    Args:
        markers: of the first frame, once they are known.
    """
    from pydicom import uid

    if markers and (markers.is_jp2 or markers.sign == COMPONENT_NAMES):
        return GDCM

    by_plugin = {
        PILLOW: [uid.JPEGBaseline8Bit],
        GDCM: [uid.JPEGLossless, uid.JPEGLosslessSV1, *uid.JPEGLSTransferSyntaxes],
    }
    if bits <= 8:
        by_plugin[PILLOW] += [uid.JPEGExtended12Bit, *uid.JPEG2000TransferSyntaxes]
    else:
        by_plugin["pylibjpeg"] = [uid.JPEGExtended12Bit]
    for plugin, syntaxes in by_plugin.items():
        if syntax in syntaxes:
            return plugin
    return ""


def require_readable(syntax: UID, bits: int, path: Path) -> None:
    """Raise a `UserError` if frames of `bits` in this syntax cannot be decoded."""
    from pydicom.pixels import get_decoder

    plugin = plugin_of(syntax, bits)
    try:
        plugins = get_decoder(syntax).available_plugins
        is_readable = not syntax.is_encapsulated or bool(plugins)
    except NotImplementedError:
        plugins = ()
        is_readable = False
    if plugin:
        is_readable = plugin in plugins
    if is_readable:
        return
    hints = [hint for part, hint in OTHER_READERS.items() if part in syntax.name]
    raise UserError(
        f"{path}: its transfer syntax is {syntax.name} ({syntax}), which is not read here; "
        f"{[*hints, UNKNOWN_HINT][0]}"
    )
