"""Frames that only GDCM decodes, decoded in a process of their own.

GDCM ends the process that it is in, by `std::terminate`, at some damaged frames of JPEG lossless
and JPEG-LS. Here that is the end of one clip, and not of all work. `utils.data.dicom_decoding` is what
runs in the process. For each frame, it writes a line with its type and its shape to standard
output, then its bytes; what went wrong to standard error.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from utils.core.files import ROOT
from utils.core.terminal import one_line

MODULE = "utils.data.dicom_decoding"


class DecodingError(Exception):
    """What the other process says, or that it was ended."""


def frames_by_process(path: Path) -> Iterator[np.ndarray]:
    """The stored frames of a DICOM file, decoded by another process.

    Raises:
        DecodingError: there is a frame that cannot be decoded.
    """
    command = [sys.executable, "-m", MODULE, os.path.abspath(path)]
    with TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            line = process.stdout.readline()
            while line:
                yield _frame_after(line, process.stdout.read)
                line = process.stdout.readline()
            process.wait()
            errors.seek(0)
            said = one_line(errors.read().decode(errors="replace").strip())
        finally:
            process.kill()
            process.communicate()
    if process.returncode < 0:
        said = f"GDCM was ended by it (signal {-process.returncode})"
    raise DecodingError(said or "there are no further frames")


def _frame_after(line: bytes, read: Callable[[int], bytes]) -> np.ndarray:
    """The frame that a line announces."""
    dtype, *shape = line.split()
    sides = [int(side) for side in shape]
    content_type = np.dtype(dtype.decode())
    content = read(math.prod(sides) * content_type.itemsize)
    return np.frombuffer(content, content_type).reshape(sides)


def write_frames(frames: Iterable[np.ndarray]) -> None:
    """In the other process."""
    for frame in frames:
        words = [frame.dtype.str, *map(str, frame.shape)]
        sys.stdout.buffer.write(" ".join(words).encode() + b"\n" + frame.tobytes())
        sys.stdout.buffer.flush()
