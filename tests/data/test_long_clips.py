"""Clips of thousands of frames are read one frame at a time."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from dicom_files import doppler_frames, jpeg, write_encoded, write_native

from utils.core.files import ROOT

READ_ALL = """
import resource, sys
from utils.data.dicom import open_dicom

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

frames = open_dicom(sys.argv[1]).frames()
for number in range(20):
    next(frames)
before = peak()
count = 20 + sum(1 for _ in frames)
print(count, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("compressed", [False, True])
def test_memory_does_not_grow_with_the_length_of_a_clip(tmp_path: Path, compressed: bool):
    """2,000 frames of 0.9 MB: the last 1,980 take less than ten, libraries in C included."""
    frame = doppler_frames(1, 480, 640)[0]
    path = tmp_path / "a"
    size = {"Rows": 480, "Columns": 640}
    if compressed:
        write_encoded(path, [jpeg(frame)] * 2000, **size)
    else:
        write_native(path, [frame], NumberOfFrames=2000, **size)
        content = path.read_bytes()
        place = content.rindex(struct.pack("<L", frame.nbytes), 0, -frame.nbytes)
        with path.open("wb") as stream:
            stream.write(content[:place] + struct.pack("<L", frame.nbytes * 2000))
            for _ in range(2000):
                stream.write(frame.tobytes())
    command = [sys.executable, "-c", READ_ALL, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    count, grown_kib = map(int, done.stdout.split())
    assert count == 2000 and grown_kib * 1024 < 10 * frame.nbytes
