"""The process that decodes a DICOM file: what it writes and what it says."""

import subprocess
import sys
from pathlib import Path

from dicom_files import doppler_frames, uid, write_by_gdcm

from utils.core.files import ROOT


def decoded(path: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "utils.data.dicom_decoding", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True)


def test_each_frame_is_a_line_and_its_bytes(tmp_path: Path):
    frames = doppler_frames(2)
    done = decoded(write_by_gdcm(tmp_path / "a", frames, uid.JPEGLSLossless))
    expected = b"".join(b"|u1 48 64 3\n" + frame.tobytes() for frame in frames)
    assert done.returncode == 0 and done.stdout == expected


def test_what_is_wrong_is_said_in_a_line(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"text")
    done = decoded(tmp_path / "a")
    assert done.returncode == 1 and not done.stdout
    assert b"is not DICOM" in done.stderr and done.stderr.count(b"\n") == 1
