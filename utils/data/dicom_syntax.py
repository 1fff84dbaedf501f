"""Transfer syntaxes of DICOM: which are read here, by what, and what would read the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from utils.core.script import UserError

# pydicom's UID; the package is optional.
UID = Any

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


def plugin_of(syntax: UID, bits: int) -> str:
    """Which of pydicom's decoders is used for samples of `bits`; empty: the one that works.

    JPEG is always decoded by GDCM, which leaves the colours as they are stored. Pillow converts
    them or not by the JPEG's markers, and pydicom converts them again. Of 12 bits, GDCM cannot.
    """
    from pydicom import uid

    if syntax == uid.JPEGExtended12Bit and bits != 8:
        return "pylibjpeg"
    if syntax in uid.JPEGTransferSyntaxes or syntax in uid.JPEGLSTransferSyntaxes:
        return "gdcm"
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
