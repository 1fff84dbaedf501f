"""detect.py on DICOM: what it finds in the frames themselves, and nothing of the header."""

import csv
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from detections import rows_of
from dicom_files import (
    HEIGHT,
    PYDICOM_FILES,
    WIDTH,
    doppler_frames,
    jpeg,
    pydicom,
    uid,
    write_by_gdcm,
    write_encoded,
    write_native,
)
from script_processes import run_script_process

import detect
from utils.core.data_config import load_data_config
from utils.core.files import ROOT
from utils.core.script import LOGGER
from utils.data.images import read_image
from utils.data.splits import find_images

BY_FRAME = ("--no-clip-evidence", "--save-csv", "--nosave")
FEW_BOXES = (*BY_FRAME, "--conf-thres", "0.001", "--max-det", "5")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """Run detect.py in this process, with results in `tmp_path/runs/NAME`; returns its messages."""

    def call(weights: Path, source: Path, name: str, *arguments: str) -> list[str]:
        said: list[str] = []
        monkeypatch.setattr(LOGGER, "info", said.append)
        monkeypatch.setattr(LOGGER, "warning", said.append)
        command = ["detect.py", "--weights", weights, "--source", source, *arguments]
        place = ["--project", tmp_path / "runs", "--name", name]
        monkeypatch.setattr(sys, "argv", [str(word) for word in [*command, *place]])
        detect.main()
        return said

    return call


def figures_of(folder: Path) -> list[tuple[str, list[float]]]:
    """Of every box of predictions.csv: its class; confidence, corners and view probabilities."""
    found = []
    for row in rows_of(folder):
        numbers = [float(row[key]) for key in ("confidence", "x1", "y1", "x2", "y2")]
        numbers += [float(value) for key, value in row.items() if key.startswith("p_")]
        found.append((row["class"], numbers))
    return found


def assert_same_figures(folder: Path, other: Path) -> None:
    first, second = figures_of(folder), figures_of(other)
    assert len(first) == len(second) > 0
    assert [name for name, _ in first] == [name for name, _ in second]
    np.testing.assert_allclose([x for _, x in first], [x for _, x in second], atol=1e-3)


def write_both(frames: list[np.ndarray], folder: Path, syntax: str) -> tuple[Path, Path]:
    """The frames as one DICOM object, and as images."""
    rows, columns = frames[0].shape[:2]
    (folder / "study").mkdir(parents=True)
    (folder / "images").mkdir()
    write_by_gdcm(folder / "study/IM_0001", frames, syntax, Rows=rows, Columns=columns)
    for number, frame in enumerate(frames, start=1):
        path = folder / f"images/IM_0001_{number:04}.png"
        assert cv2.imwrite(str(path), frame[:, :, ::-1])
    return folder / "study", folder / "images"


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEG2000Lossless, uid.RLELossless])
def test_a_lossless_clip_is_what_its_frames_are(run, checkpoints, tmp_path: Path, syntax: str):
    study, images = write_both(doppler_frames(3), tmp_path, syntax)
    run(checkpoints["joint"], study, "dicom", *FEW_BOXES)
    run(checkpoints["joint"], images, "images", *FEW_BOXES)
    assert_same_figures(tmp_path / "runs/dicom", tmp_path / "runs/images")
    assert {row["clip"] for row in rows_of(tmp_path / "runs/dicom")} == {"IM_0001"}


def test_real_clips_as_dicom_are_what_their_frames_are(
    run, checkpoints, shared_dir: Path, tmp_path: Path
):
    data = load_data_config(shared_dir / "regurgitation/data.yaml")
    clips = defaultdict(list)
    for path in find_images(data.splits["val"], "val", data.source):
        clips[data.clip_of(path.name)[0]].append(path)
    longest = sorted(clips.values(), key=len)[-2:]
    for number, paths in enumerate(longest):
        frames = [read_image(path) for path in paths]
        same = [frame for frame in frames if frame.shape == frames[0].shape][:4]
        study, images = write_both(same, tmp_path / str(number), uid.JPEG2000Lossless)
        run(checkpoints["joint"], study, f"dicom{number}", *FEW_BOXES)
        run(checkpoints["joint"], images, f"images{number}", *FEW_BOXES)
        assert_same_figures(tmp_path / f"runs/dicom{number}", tmp_path / f"runs/images{number}")


def region(spacing_cm: float) -> pydicom.Dataset:
    """The whole picture, in cm."""
    item = pydicom.Dataset()
    item.RegionLocationMinX0 = item.RegionLocationMinY0 = 0
    item.RegionLocationMaxX1 = WIDTH - 1
    item.RegionLocationMaxY1 = HEIGHT - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = spacing_cm
    return item


def test_a_dicom_clip_has_a_row_with_mm2_where_it_has_a_scale(run, checkpoints, tmp_path: Path):
    """By default: clips.csv is written of DICOM whatever the model was trained on."""
    study = tmp_path / "study"
    study.mkdir()
    scale = {"SequenceOfUltrasoundRegions": [region(0.05)]}
    write_native(study / "IM_0001", doppler_frames(3), **scale)
    write_native(study / "IM_0002", doppler_frames(2))
    run(checkpoints["joint"], study, "exp", "--save-csv", "--nosave", "--conf-thres", "0.001")
    with (tmp_path / "runs/exp/clips.csv").open(newline="", encoding="utf-8") as stream:
        with_scale, without = csv.DictReader(stream)
    assert (with_scale["clip"], with_scale["frames"], without["frames"]) == ("IM_0001", "3", "2")
    area_px2 = float(with_scale["largest_area_px2"])
    assert float(with_scale["largest_area_mm2"]) == pytest.approx(area_px2 * 0.25, rel=1e-2)
    assert without["largest_area_px2"] and not without["largest_area_mm2"]


def test_patients_are_told_apart_by_their_headers_and_not_named(run, checkpoints, tmp_path: Path):
    """Where group_pattern finds none; a file without an ID counts by its study."""
    study = tmp_path / "study"
    study.mkdir()
    for number, patient in enumerate(("QX9", "QX1", "QX9", ""), start=1):
        name = study / f"IM_{number}"
        write_native(name, doppler_frames(2), PatientID=patient, StudyInstanceUID="1.2.77")
    said = run(checkpoints["joint"], study, "exp", "--save-csv", "--nosave")
    rows = {}
    for name in ("clips", "patients"):
        content = (tmp_path / f"runs/exp/{name}.csv").read_text(encoding="utf-8")
        assert "QX" not in content and "1.2.77" not in content
        rows[name] = list(csv.DictReader(content.splitlines()))
    assert [row["patient"] for row in rows["clips"]] == [f"patient {n}" for n in (1, 2, 1, 3)]
    assert [row["clips"] for row in rows["patients"]] == ["2", "1", "1"]
    assert not any("of no known patient" in line for line in said)


def test_a_clip_whose_name_or_rate_no_video_can_have_is_drawn_all_the_same(
    run, checkpoints, tmp_path: Path
):
    study = tmp_path / "study"
    study.mkdir()
    write_native(study / "never", doppler_frames(2), FrameTime="1e200")
    os.rename(study / "never", os.fsencode(study) + b"/M\xfcller")
    run(checkpoints["joint"], study, "exp")
    assert [path.name for path in (tmp_path / "runs/exp").glob("*.mp4")] == ["M\\udcfcller.mp4"]


def test_a_study_becomes_annotated_videos_and_the_rest_is_counted(run, checkpoints, tmp_path: Path):
    study = tmp_path / "study"
    study.mkdir()
    write_by_gdcm(study / "IM_0001", doppler_frames(3), uid.RLELossless)
    write_encoded(study / "IM_0002", [jpeg(doppler_frames()[0])] * 2, photometric="RGB")
    for name in ("reportsi.dcm", "JPGExtended.dcm"):
        shutil.copy(PYDICOM_FILES / name, study)
    said = run(checkpoints["joint"], study, "exp", "--save-txt")
    folder = tmp_path / "runs/exp"
    assert sorted(path.name for path in folder.glob("*.mp4")) == ["IM_0001.mp4", "IM_0002.mp4"]
    assert cv2.VideoCapture(str(folder / "IM_0001.mp4")).get(cv2.CAP_PROP_FPS) == 25
    assert sorted(path.name for path in (folder / "labels").iterdir()) == [
        "IM_0001_1.txt",
        "IM_0001_2.txt",
        "IM_0001_3.txt",
        "IM_0002_1.txt",
        "IM_0002_2.txt",
    ]
    text = "\n".join(said)
    assert "warning: --source: left out: 1 DICOM SR" in text
    assert "its header says RGB, but its pixels are YBR by their JFIF marker" in text
    assert "JPGExtended.dcm: its transfer syntax is JPEG Extended" in text
    assert "5 frames; " in text and "1 of 3 files not read to their end" in text


def test_every_damaged_file_is_one_line_and_the_rest_is_done(checkpoints, tmp_path: Path):
    """In a process of its own, since libraries print where Python does not see it."""
    study = tmp_path / "study"
    study.mkdir()
    frames = doppler_frames(3)
    write_by_gdcm(study / "good", frames, uid.JPEGLSLossless)
    for name in ("MR_truncated.dcm", "JPGExtended.dcm"):
        shutil.copy(PYDICOM_FILES / name, study)
    write_encoded(study / "torn", [jpeg(frames[0]), jpeg(frames[1])[:40] + b"\0" * 300])
    write_encoded(study / "unknown", [b"\0\0"], "1.2.3.4")
    write_native(study / "more", frames, NumberOfFrames=2)
    write_native(study / "negative", frames, NumberOfFrames=-2)
    write_native(study / "vast", frames, Rows=60000, Columns=60000)
    shutil.copy(PYDICOM_FILES / "dicomdirtests/DICOMDIR", study)
    shutil.copy(PYDICOM_FILES / "no_meta_group_length.dcm", study)  # has no pixels
    (study / "empty.dcm").touch()
    (study / "encrypted.dcm").write_bytes(np.random.default_rng(0).bytes(9000))
    arguments = ("--weights", checkpoints["joint"], "--source", study, "--nosave")
    done = run_script_process("detect.py", *arguments, "--project", tmp_path / "runs")
    assert done.returncode == 0
    said = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    said = [line.removeprefix("warning: ").removeprefix(f"{study}/") for line in said]
    assert [line.partition(":")[0] for line in said] == [
        "--source",
        "JPGExtended.dcm",
        "MR_truncated.dcm",
        "more",
        "negative",
        "torn",
        "unknown",
        "vast",
    ]
    assert "left out: 1 DICOM without pixel data, 1 DICOMDIR, 2 .dcm" in said[0]
    assert "6 frames; " in done.stdout and "7 of 8 files not read to their end" in done.stdout
    assert [
        line for line in done.stderr.splitlines() if "detect: " not in line and line.strip()
    ] == []


PEAK_OF_DETECT = """
import re, sys
from pathlib import Path
import detect
detect.main()
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


@pytest.mark.slow
def test_a_clip_of_2000_frames_takes_less_than_a_gigabyte(checkpoints, tmp_path: Path):
    """1.8 GB of pixels through the whole command, libraries included; Linux counts in KiB."""
    frame = doppler_frames(1, 480, 640)[0]
    (tmp_path / "study").mkdir()
    write_encoded(tmp_path / "study/IM_0001", [jpeg(frame)] * 2000, Rows=480, Columns=640)
    options = ("--imgsz", "32", "--nosave", "--save-csv", "--project", tmp_path / "runs")
    command = [sys.executable, "-c", PEAK_OF_DETECT, "--weights", checkpoints["joint"], *options]
    command += ["--source", tmp_path / "study"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stderr.split()[-1]) < 1 << 20
    with (tmp_path / "runs/exp/clips.csv").open(newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["frames"] == "2000"


def test_nothing_of_the_header_is_written_or_said(run, checkpoints, tmp_path: Path):
    secrets = {
        "PatientName": "MADEUP^PERSON",
        "PatientID": "ID5550123",
        "InstitutionName": "NOWHERE CLINIC",
        "StudyDescription": "SECRET STUDY",
    }
    (tmp_path / "study").mkdir()
    path = tmp_path / "study/IM_0001"
    write_by_gdcm(path, doppler_frames(2), uid.RLELossless, **secrets)
    everything = ("--save-txt", "--save-csv", "--save-crop", "--conf-thres", "0.001")
    said = run(checkpoints["joint"], tmp_path / "study", "exp", *everything, "--max-det", "2")
    files = [file for file in (tmp_path / "runs/exp").rglob("*") if file.is_file()]
    contents = [file.read_bytes() for file in files]
    contents.append("\n".join([*said, *map(str, files)]).encode())
    assert len(contents) > 4
    for secret in secrets.values():
        assert not any(secret.encode() in content for content in contents)
        assert secret.encode() in path.read_bytes()
