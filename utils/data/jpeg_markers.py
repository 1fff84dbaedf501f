"""What the segments before a JPEG's data say of it: its colours and its size.

JPEG and JPEG lossless: ITU-T T.81; JPEG-LS: T.87; JPEG 2000: T.800. Colours are found in the order
of libjpeg:

1. JFIF: YBR.
2. Adobe's APP14: RGB if its transform is 0, else YBR.
3. Components called R, G, B: RGB.
4. Components of different resolution: YBR, since nobody thins out red or blue.
"""

from __future__ import annotations

from dataclasses import dataclass

RGB = "RGB"
YBR = "YBR"

COMPONENT_NAMES = "JPEG's component names"  # a sign, see `Markers`

APP0 = 0xE0
APP14 = 0xEE
ADOBE_BYTES = 12  # of an APP14; shorter ones are not Adobe's
START_OF_SCAN = 0xDA
NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # among 0xC0 to 0xCF, which else begin a frame
START_OF_FRAME_LS = 0xF7
FRAME = 0xC0  # the key of a frame's header here, whichever of its markers it has
J2K_BEGINNING = b"\xff\x4f\xff\x51"
J2K_CODING = 0x52
J2K_DATA = (0x90, 0x93)


@dataclass(frozen=True)
class Markers:
    """What was found.

    Attributes:
        colours: RGB, YBR, or None if nothing says so.
        sign: which marker says so.
        has_app14: Adobe's marker is there, whatever it says.
        size: (height, width, components), of JPEG and JPEG-LS; None of others.
        is_jp2: a JPEG 2000 codestream lies within a JP2 file.
    """

    colours: str | None = None
    sign: str = ""
    has_app14: bool = False
    size: tuple[int, int, int] | None = None
    is_jp2: bool = False


def markers_of(codestream: bytes) -> Markers:
    """Of a compressed frame, of which the beginning is enough; empty of what is no JPEG."""
    if J2K_BEGINNING in codestream:
        begin = codestream.index(J2K_BEGINNING)
        return _of_jpeg_2000(codestream[begin:], is_jp2=begin > 0)
    segments = _segments_of(codestream)
    adobe = segments.get(APP14, b"")
    has_app14 = adobe.startswith(b"Adobe") and len(adobe) >= ADOBE_BYTES
    frame = segments.get(FRAME, b"")
    size = None
    if len(frame) >= 6:
        sides = (int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"))
        size = (*sides, frame[5])
    colours, sign = _colours_of(segments, frame, has_app14)
    return Markers(colours, sign, has_app14, size)


def _of_jpeg_2000(codestream: bytes, is_jp2: bool) -> Markers:
    """Decoders undo the colour transform of its own, so that it is RGB then."""
    coding = _segments_of(codestream).get(J2K_CODING, b"")
    if coding[4:5] == b"\x01":
        return Markers(RGB, "JPEG 2000 colour transform", is_jp2=is_jp2)
    return Markers(is_jp2=is_jp2)


def _colours_of(
    segments: dict[int, bytes], frame: bytes, has_app14: bool
) -> tuple[str | None, str]:
    if segments.get(APP0, b"").startswith(b"JFIF"):
        return YBR, "JFIF marker"
    if has_app14:
        colours = YBR
        if segments[APP14][ADOBE_BYTES - 1] == 0:
            colours = RGB
        return colours, "APP14 marker"
    components = [frame[6 + 3 * number : 9 + 3 * number] for number in range(3)]
    names = b"".join(component[:1] for component in components)
    if names.upper() == b"RGB":
        return RGB, COMPONENT_NAMES
    if len({component[1:2] for component in components}) > 1:
        return YBR, "JPEG's thinned-out components"
    return None, ""


def _segments_of(codestream: bytes) -> dict[int, bytes]:
    """Marker -> content of the segments before the data, the first of each."""
    segments: dict[int, bytes] = {}
    position = 2
    while codestream[position : position + 1] == b"\xff" and position + 4 <= len(codestream):
        marker = codestream[position + 1]
        if marker == START_OF_SCAN or marker in J2K_DATA:
            break
        length = int.from_bytes(codestream[position + 2 : position + 4], "big")
        content = codestream[position + 4 : position + 2 + length]
        is_frame = 0xC0 <= marker <= 0xCF and marker not in NOT_FRAMES
        if is_frame or marker == START_OF_FRAME_LS:
            marker = FRAME
        segments.setdefault(marker, content)
        position += 2 + length
    return segments
