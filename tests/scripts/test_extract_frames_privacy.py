"""extract_frames.py over a made-up patient who is named wherever a name can be: nothing of it is left.

Letters inside the image region are: nobody can tell a name from a measure there, and the user is
told so.
"""

import csv
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cine_clips import BURNT_IN, REGION, cine_frames, regions, ultrasound, write_clip, write_video
from pydicom.dataset import Dataset

import extract_frames
from utils.core.files import ROOT
from utils.data.images import read_image

FOLDER, FILE = "QUIMBYFOLDER", "QUIMBYFILE-19620403"
SECRETS = {
    "PatientName": "QUIMBY^AGATHA",
    "PatientID": "QX77120",
    "PatientBirthDate": "19620403",
    "PatientSex": "F",
    "PatientAddress": "12 Zebra Lane",
    "PatientComments": "neighbour of the mayor",
    "OtherPatientIDs": "OTHERQX9",
    "AccessionNumber": "ACC88213",
    "StudyID": "STUDY4711",
    "StudyDate": "20251103",
    "StudyTime": "101112",
    "StudyDescription": "echo of a violinist",
    "SeriesDescription": "seriesquimby",
    "StudyInstanceUID": "1.2.826.0.1.7788",
    "SeriesInstanceUID": "1.2.826.0.1.7799",
    "SOPInstanceUID": "1.2.826.0.1.7700",
    "InstitutionName": "Saint Zeno Hospital",
    "ReferringPhysicianName": "ZWEIG^DOCTOR",
    "OperatorsName": "OPERETTA^ZUZANA",
    "StationName": "STATIONZ9",
    "DeviceSerialNumber": "SERIALZ00017",
    "Manufacturer": "Philips of Zanzibar",
    "ManufacturerModelName": "MODELZ5",
    "SoftwareVersions": "SOFTZ1.0",
    "ImageComments": "commentquimby",
    "DerivationDescription": "derivedquimby",
}
PRIVATE = "privatequimby"


def add_private(header: Dataset) -> None:
    block = header.private_block(0x0029, "CREATORQUIMBY", create=True)
    block.add_new(0x01, "LO", PRIVATE)
    block.add_new(0x02, "OB", PRIVATE.encode())


def make_clinic(root: Path) -> None:
    """Clips of one patient, named wherever a name can be: readable, broken off, damaged, a video."""
    folder = root / FOLDER
    item = Dataset()
    add_private(item)
    item.PatientName = SECRETS["PatientName"]
    marked = SECRETS | {"SequenceOfUltrasoundRegions": regions(REGION)}
    frames = cine_frames(4, inside="QUIMBY")
    good = write_clip(folder / FILE, frames, ReferencedPatientSequence=[item], **marked)
    content = good.read_bytes().replace(b"1.2.826.0.1.7700", b"1.2.826.0.1.7701")
    (folder / f"{FILE}.cut").write_bytes(content[: -frames[0].size - 100])
    (folder / f"{FILE}.bad").write_bytes(content[:2000])
    (folder / f"{FILE}.QUIMBY").write_bytes(b"words")
    report = ultrasound(frames, **SECRETS | {"Modality": "QUIMBYSR"})
    del report.PixelData
    report.save_as(folder / f"{FILE}4", enforce_file_format=True)
    write_video(folder / f"{FILE}.mp4", cine_frames(5))
    (folder / f"{FILE}2.mp4").write_bytes(b"no video")
    stale = SECRETS | {"SOPInstanceUID": "1.2.826.0.1.7702"}
    stale |= {"SequenceOfUltrasoundRegions": regions((0, 0, 900, 900)), "FrameTime": "-5"}
    write_clip(folder / f"{FILE}3", cine_frames(3), **stale)


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "extracted.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def words() -> list[str]:
    """What must not be found; of a person's name each part."""
    found = [FOLDER, FILE, PRIVATE, "CREATORQUIMBY", BURNT_IN, "QUIMBY"]
    for value in SECRETS.values():
        found += [value, *value.split("^")]
    return [word for word in found if len(word) > 1]


def texts_of(word: str) -> Iterator[bytes]:
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        yield word.lower().encode(encoding)


def chunks_of(png: bytes) -> list[bytes]:
    """The names of a PNG's parts; what is not pixels has other names than these."""
    names, place = [], 8
    while place < len(png):
        length, name = struct.unpack(">I4s", png[place : place + 8])
        names.append(name)
        place += 12 + length
    return names


@dataclass(frozen=True)
class Run:
    """A run of the script over the made-up patient: its folder, and all that it printed."""

    out: Path
    said: bytes


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """In a process of its own, so that what libraries print is seen as well."""
    folder = tmp_path_factory.mktemp("extracted")
    make_clinic(folder / "clinic")
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "extract_frames.py",
            "--source=.",
            "--out=../out",
            "--manufacturer",
        ],
        cwd=folder / "clinic",
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return Run(folder / "out", done.stdout + done.stderr)


def test_nothing_that_is_written_or_printed_names_the_patient(extracted: Run):
    said = extracted.said
    assert said.count(b"warning: P") + said.count(b"warning: file ") >= 4, said
    outputs = {"said": said}
    for path in extracted.out.rglob("*"):
        name = str(path.relative_to(extracted.out))
        outputs[name] = name.encode()
        if path.is_file():
            outputs[name] += path.read_bytes()
    assert len(outputs) > 10
    for name, content in outputs.items():
        lowered = content.lower()
        for word in words():
            assert not any(text in lowered for text in texts_of(word)), (name, word)


def test_the_search_would_find_a_name():
    key = b"P0001_C001,qx77120," + "Quimby".encode("utf-16-le")
    found = [word for word in words() if any(text in key.lower() for text in texts_of(word))]
    assert set(found) == {"QUIMBY", "QX77120"}


def test_pictures_hold_pixels_only_and_black_outside_the_region(extracted: Run):
    pictures = list(extracted.out.rglob("*.png"))
    for path in pictures:
        assert set(chunks_of(path.read_bytes())) == {b"IHDR", b"IDAT", b"IEND"}
    left, top, right, bottom = REGION
    outside = np.ones((240, 320), bool)
    outside[top : bottom + 1, left : right + 1] = False
    by_clip = {(row["patient"], row["clip"]): row["kept"] for row in rows_of(extracted.out)}
    assert set(by_clip.values()) == {"regions", "sector"}
    for path in (extracted.out / "images").iterdir():
        pixels = read_image(path)
        patient, clip, _ = path.stem.split("_")
        if by_clip[patient, clip] == "regions":
            assert not pixels[outside].any()
        assert not pixels[:24].any() and not pixels[:, 290:].any()


def test_letters_inside_the_sector_survive_and_the_user_is_told(extracted: Run):
    row = next(row for row in rows_of(extracted.out) if row["kept"] == "regions")
    name = f"{row['patient']}_{row['clip']}_F0001.png"
    left, top, right, bottom = REGION
    pixels = read_image(extracted.out / "images" / name)[top : bottom + 1, left : right + 1]
    frame = cine_frames(4, inside="QUIMBY")[0, top : bottom + 1, left : right + 1]
    assert np.array_equal(pixels, frame)
    assert b"letters inside the image region are still there" in extracted.said
    assert "Text inside it stays" in extract_frames.__doc__
    assert "Text inside the image region was left" in (extracted.out / "data.yaml").read_text()
