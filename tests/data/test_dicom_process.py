"""Frames decoded by another process are the same, and its end is an error and no end of this one."""

import os
import random
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from dicom_files import PYDICOM_FILES, doppler_frames, uid, write_by_gdcm

from utils.core.script import UserError
from utils.data.dicom import open_dicom
from utils.data.dicom_process import DecodingError, frames_by_process

GDCMS = [uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless]


@pytest.mark.parametrize("syntax", GDCMS, ids=lambda syntax: syntax.keyword)
def test_another_process_decodes_the_same(tmp_path: Path, syntax: str):
    path = write_by_gdcm(tmp_path / "a", doppler_frames(), syntax)
    here = open_dicom(path).decoded_here()
    there = frames_by_process(path)
    for frame in here:
        found = next(there)
        np.testing.assert_array_equal(found, frame)
        assert found.dtype == frame.dtype
    with pytest.raises(DecodingError, match="there are no further frames"):
        next(there)


def test_deep_grey_keeps_its_type():
    path = PYDICOM_FILES / "JPEGLSNearLossless_16.dcm"
    (found,) = list(open_dicom(path).decoded_here())
    assert next(frames_by_process(path)).dtype == found.dtype == np.uint16


def test_a_process_that_is_ended_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_by_gdcm(tmp_path / "a", doppler_frames(200), uid.JPEGLossless)
    started = []
    original = subprocess.Popen
    note = lambda *args, **keywords: started.append(original(*args, **keywords)) or started[-1]  # noqa: E731
    monkeypatch.setattr(subprocess, "Popen", note)
    frames = open_dicom(path).frames()
    next(frames)
    os.kill(started[0].pid, signal.SIGABRT)
    with pytest.raises(UserError, match=r"frame \d+ of 200 cannot be decoded: ") as caught:
        list(frames)
    assert "\n" not in str(caught.value)


def test_a_clip_that_is_not_read_to_its_end_leaves_no_process(tmp_path: Path, monkeypatch):
    path = write_by_gdcm(tmp_path / "a", doppler_frames(200), uid.JPEGLossless)
    started = []
    original = subprocess.Popen
    note = lambda *args, **keywords: started.append(original(*args, **keywords)) or started[-1]  # noqa: E731
    monkeypatch.setattr(subprocess, "Popen", note)
    frames = open_dicom(path).frames()
    next(frames)
    frames.close()
    assert started[0].poll() is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SC_rgb_jpeg_gdcm", "SC_rgb_jls_lossy_line"])
def test_no_damage_ends_this_process(tmp_path: Path, name: str):
    """Files with random bytes; in one process, GDCM ends it within some dozens."""
    chance = random.Random(0)
    content = (PYDICOM_FILES / f"{name}.dcm").read_bytes()
    start = content.index(b"\xff\xd8")
    for _ in range(30):
        damaged = bytearray(content)
        for _ in range(4):
            damaged[chance.randrange(start, len(damaged))] = chance.randrange(256)
        (tmp_path / "a").write_bytes(damaged)
        try:
            list(open_dicom(tmp_path / "a").frames())
        except UserError as error:
            assert "\n" not in str(error)
