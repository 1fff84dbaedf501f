"""extract_frames.py: what it writes and says, and that nobody is named by it."""

import csv
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cine_clips import (
    REGION,
    cine_frames,
    regions,
    write_clip,
    write_video,
)
from PIL import Image

import extract_frames
from utils.core.data_config import load_data_config
from utils.core.script import LOGGER, UserError
from utils.curation.pseudonyms import read_key
from utils.data.splits import find_images, load_splits

DATA_SET = "data.yaml"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Run extract_frames.py in this process and return all that it prints."""

    def call(source: Path, out: Path, *arguments: object) -> str:
        given = ["--source", source, "--out", out, *arguments]
        monkeypatch.setattr(sys, "argv", ["extract_frames.py", *map(str, given)])
        extract_frames.main()
        said = capsys.readouterr()
        return said.out + said.err

    monkeypatch.setattr(LOGGER, "info", print)
    monkeypatch.setattr(LOGGER, "warning", print)
    return call


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients: two with DICOM clips, one with a video."""
    root = tmp_path_factory.mktemp("clinic")
    kept = {"SequenceOfUltrasoundRegions": regions(REGION)}
    write_clip(root / "x/IM_0001", cine_frames(6), PatientID="A", FrameTime="40", **kept)
    flow = cine_frames(4, flow_from=2, seed=1)
    write_clip(root / "y/IM_0001", flow, PatientID="A", Manufacturer="GE Vingmed", **kept)
    write_clip(root / "y/IM_0002", cine_frames(2, seed=2), PatientID="B")
    write_video(root / "z/clip.mp4", cine_frames(5, seed=3))
    (root / "z/notes.docx").write_bytes(b"words")
    write_clip(root / "z/screen", cine_frames(1), PatientID="C")
    return root


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "extracted.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def frames_of(out: Path) -> list[str]:
    return sorted(path.stem for path in (out / "images").iterdir())


# ---- what is written -----------------------------------------------------------------------------


def test_dicom_and_videos_become_frames_sheets_and_a_table(
    clinic: Path, tmp_path: Path, run: Callable
):
    said = run(clinic, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert sorted(int(row["frames"]) for row in rows) == [2, 4, 5, 6]
    assert len({row["patient"] for row in rows}) == 3
    assert len(frames_of(tmp_path / "out")) == 17
    sheets = {path.stem for path in (tmp_path / "out/sheets").iterdir()}
    assert sheets == {f"{row['patient']}_{row['clip']}" for row in rows}
    assert "17 frames of 4 of 4 clips of 3 patients" in said
    assert "left out: 1 of other kinds, 1 single pictures without an image region" in said
    assert "look at every picture" in said and "letters inside the image region" in said
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"images", "sheets", "extracted.csv", DATA_SET, "train.txt", "val.txt"}


def test_the_table_holds_size_time_and_spacing_and_no_more(
    clinic: Path, tmp_path: Path, run: Callable
):
    run(clinic, tmp_path / "out")
    rows = {row["clip_frames"]: row for row in rows_of(tmp_path / "out")}
    timed, video = rows["6"], rows["5"]
    assert list(timed) == [
        *("patient", "clip", "frames", "clip_frames", "width", "height"),
        *("frame_time_ms", "spacing_x_mm", "spacing_y_mm", "kept"),
    ]
    assert (timed["width"], timed["height"], timed["kept"]) == ("320", "240", "regions")
    assert (timed["frame_time_ms"], timed["spacing_x_mm"]) == ("40.000", "0.50000")
    assert (video["frame_time_ms"], video["spacing_x_mm"]) == ("40.000", "")
    assert (rows["2"]["frame_time_ms"], rows["2"]["kept"]) == ("", "sector")


def test_the_make_is_written_where_it_is_wanted(clinic: Path, tmp_path: Path, run: Callable):
    run(clinic, tmp_path / "out", "--manufacturer")
    makes = {row["clip_frames"]: row["manufacturer"] for row in rows_of(tmp_path / "out")}
    assert makes == {"2": "", "4": "GE", "5": "", "6": ""}


def test_every_and_only_colour_choose_frames(clinic: Path, tmp_path: Path, run: Callable):
    run(clinic, tmp_path / "every", "--every", 4)
    numbers = [int(name[-4:]) for name in frames_of(tmp_path / "every")]
    assert sorted(numbers) == [1, 1, 1, 1, 5, 5]
    run(clinic, tmp_path / "colour", "--only-colour")
    assert [int(name[-4:]) for name in frames_of(tmp_path / "colour")] == [3, 4]
    assert load_data_config(tmp_path / "colour/data.yaml").needs_colour
    assert not load_data_config(tmp_path / "every/data.yaml").needs_colour


def test_fps_leaves_out_clips_without_times_and_says_so(
    clinic: Path, tmp_path: Path, run: Callable
):
    said = run(clinic, tmp_path / "out", "--fps", 12.5)
    assert sorted(row["frames"] for row in rows_of(tmp_path / "out")) == ["3", "3"]
    assert len(re.findall(r"warning: P\d+_C\d+: states no frame times", said)) == 2


# ---- a data set ----------------------------------------------------------------------------------


def test_the_data_set_loads_once_it_has_labels_and_names(
    clinic: Path, tmp_path: Path, run: Callable
):
    out = tmp_path / "out"
    run(clinic, out)
    with pytest.raises(UserError, match="has a label file"):
        load_splits(load_data_config(out / DATA_SET), ["train", "val"])
    content = yaml.safe_load((out / DATA_SET).read_text())
    content |= {"nc": 1, "names": ["MR"], "cls_names": ["A4C", "PLAX"]}
    (out / DATA_SET).write_text(yaml.safe_dump(content))
    (out / "labels").mkdir()
    for name in frames_of(out):
        (out / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0\n")
    train, val = load_splits(load_data_config(out / DATA_SET), ["train", "val"])
    assert len(train.images) + len(val.images) == 17
    assert all(len(labels.boxes) == 1 for labels in (*train.labels, *val.labels))


def test_a_gif_is_a_clip(tmp_path: Path, run: Callable):
    pages = [Image.fromarray(frame) for frame in cine_frames(3)]
    (tmp_path / "clinic").mkdir()
    pages[0].save(tmp_path / "clinic/a.gif", save_all=True, append_images=pages[1:], duration=40)
    run(tmp_path / "clinic", tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    assert (row["frames"], row["frame_time_ms"]) == ("3", "40.000")


def test_dicom_without_pydicom_says_what_to_install(
    clinic: Path, tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("utils.data.dicom.has_reader", lambda: False)
    monkeypatch.setattr("utils.commands.extract_frames.has_reader", lambda: False)
    with pytest.raises(UserError, match="pip install"):
        run(clinic, tmp_path / "out")


def test_a_video_is_of_the_patient_whose_dicom_lies_beside_it(tmp_path: Path, run: Callable):
    for folder in ("1", "2"):
        write_clip(tmp_path / "clinic" / folder / "a", cine_frames(2), PatientID=folder)
        write_video(tmp_path / "clinic" / folder / "b.mp4", cine_frames(3))
    run(tmp_path / "clinic", tmp_path / "out")
    patients = [row["patient"] for row in rows_of(tmp_path / "out")]
    assert len(patients) == 4 and len(set(patients)) == 2
    assert patients[0] == patients[1] and patients[2] == patients[3]


def test_no_patient_is_in_two_splits_and_names_tell_patient_and_clip(
    clinic: Path, tmp_path: Path, run: Callable
):
    run(clinic, tmp_path / "out")
    data = load_data_config(tmp_path / "out" / DATA_SET)
    patients = {}
    for split in ("train", "val"):
        images = find_images(data.splits[split], split, data.source)
        patients[split] = {data.group_of(image) for image in images}
        for image in images:
            clip, number = data.clip_of(image)
            assert image.stem == f"{clip}_F{number:04d}"
    assert len(patients["train"]) == 2 and len(patients["val"]) == 1
    assert not patients["train"] & patients["val"]


def test_one_patient_alone_cannot_be_split_and_that_is_said(tmp_path: Path, run: Callable):
    write_clip(tmp_path / "clinic/a", cine_frames(2), PatientID="A")
    said = run(tmp_path / "clinic", tmp_path / "out")
    assert "all frames count as one patient's" in said
    lists = [(tmp_path / "out" / f"{split}.txt").read_text() for split in ("train", "val")]
    assert lists[0] == lists[1] != ""


def test_studies_that_share_an_id_that_names_nobody_are_warned_of(tmp_path: Path, run: Callable):
    for number, patient in enumerate(("ANONYMOUS", "ANONYMOUS", "0815", "0815", "unknown")):
        header = {"PatientID": patient, "StudyInstanceUID": f"1.2.{number}"}
        write_clip(tmp_path / f"clinic/{number}", cine_frames(2, seed=number), **header)
    said = run(tmp_path / "clinic", tmp_path / "out")
    (shared,) = re.findall(r"warning: (P\d+): 2 studies share an ID that names nobody", said)
    patients = [row["patient"] for row in rows_of(tmp_path / "out")]
    assert patients.count(shared) == 2 and len(set(patients)) == 3


# ---- the key -------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_names_and_goes_on_counting(
    clinic: Path, tmp_path: Path, run: Callable
):
    key = tmp_path / "key.csv"
    run(clinic, tmp_path / "first", "--key", key)
    assert {row["patient"] for row in rows_of(tmp_path / "first")} == {"P0001", "P0002", "P0003"}
    more = tmp_path / "more"
    write_clip(more / "1", cine_frames(2, seed=8), PatientID="A")
    write_clip(more / "2", cine_frames(2, seed=9), PatientID="D")
    run(more, tmp_path / "second", "--key", key)
    number_of_a = next(row.name.patient for row in read_key(key) if row.identity.patient == "A")
    second = {(row["patient"], row["clip"]) for row in rows_of(tmp_path / "second")}
    assert second == {(f"P{number_of_a:04d}", "C003"), ("P0004", "C001")}
    run(clinic, tmp_path / "third", "--key", key)
    assert frames_of(tmp_path / "third") == frames_of(tmp_path / "first")
    assert len(read_key(key)) == 6 and stat.S_IMODE(key.stat().st_mode) == 0o600


def test_without_a_key_there_is_no_table_and_no_order(clinic: Path, tmp_path: Path, run: Callable):
    found = set()
    for number in range(3):
        out = tmp_path / "outs" / str(number)
        run(clinic, out, "--every", 100)
        found |= {row["patient"] for row in rows_of(out)}
    assert len(found) > 4
    assert {path.name for path in tmp_path.iterdir()} == {"outs"}


def test_names_that_are_no_utf_8_are_in_the_key_as_they_are(tmp_path: Path, run: Callable):
    path = tmp_path / "clinic" / os.fsdecode(b'caf\xe9,"1"')
    write_clip(path, cine_frames(2))
    run(tmp_path / "clinic", tmp_path / "out", "--key", tmp_path / "key.csv")
    (row,) = read_key(tmp_path / "key.csv")
    assert row.identity.file == str(path)


def test_a_copy_of_a_clip_is_left_out(tmp_path: Path, run: Callable):
    for name in ("1", "2"):
        write_clip(
            tmp_path / "clinic" / name, cine_frames(2), PatientID="A", SOPInstanceUID="1.2.3"
        )
    said = run(tmp_path / "clinic", tmp_path / "out")
    assert re.search(r"file 2 of 2: has the UID of P\d+_C001; taken for a copy", said)
    assert len(frames_of(tmp_path / "out")) == 2


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", "absent", "--out", "out"], "no such folder"),
        (["--source", "clinic", "--out", "clinic/out"], "lies in --source"),
        (["--source", "clinic/x", "--out", "clinic"], "or around it"),
        (["--source", "clinic", "--out", "out", "--key", "out/key.csv"], "lies in --out"),
        (["--source", "clinic", "--out", "clinic_full"], "not an empty folder"),
        (["--source", "empty", "--out", "out"], "no clip among its 0 files"),
        (["--source", "clinic", "--out", "out", "--key", "other.csv"], "first line"),
        (["--source", "clinic", "--out", "out", "--every", "2", "--fps", "2"], "not allowed with"),
        (["--source", "clinic", "--out", "out", "--every", "0"], "--every is 0"),
        (["--source", "clinic", "--out", "out", "--key", ""], "--key is empty"),
    ],
)
def test_what_cannot_go_well_is_refused_and_nothing_is_written(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clinic/x/1", cine_frames(1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "clinic_full").mkdir()
    (tmp_path / "clinic_full/theirs").write_text("theirs")
    (tmp_path / "other.csv").write_text("a,b\n")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["extract_frames.py", *arguments])
    with pytest.raises(UserError, match=said):
        extract_frames.main()
    assert sorted(tmp_path.rglob("*")) == before
