"""What a file is taken for, and how what is left out is counted."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from dicom_files import PYDICOM_FILES, doppler_frames, uid, write_by_gdcm, write_native
from PIL import Image
from small_files import write_image

from utils.core.script import UserError
from utils.inference.kinds import Content, Kind, content_of, left_out_by_kind
from utils.inference.reader import FrameReader
from utils.inference.sources import find_sources


@pytest.mark.parametrize("name", ["IM_0001", "a.dcm", "a.png", "a.mp4", "1.2.840.7", "a.txt"])
def test_dicom_is_seen_by_content_whatever_it_is_called(tmp_path: Path, name: str):
    path = write_native(tmp_path / name, doppler_frames(2))
    assert content_of(path) == Content(Kind.DICOM, 2)


@pytest.mark.parametrize("name", ["a.dcm", "IM_0001"])
def test_what_is_only_called_dicom_is_none(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"text")
    assert content_of(tmp_path / name).kind is None


def test_a_damaged_object_is_one_so_that_reading_says_what_is_wrong(tmp_path: Path):
    path = write_native(tmp_path / "a", doppler_frames(1))
    path.write_bytes(path.read_bytes()[:5000])
    assert content_of(path) == Content(Kind.DICOM, 0)


def test_folders_and_what_is_not_there_are_nothing_to_look_at(tmp_path: Path):
    assert content_of(tmp_path).kind is None
    assert content_of(tmp_path / "none.txt").kind is None


def test_without_pydicom_dicom_is_left_out_and_the_command_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("utils.data.dicom.has_reader", lambda: False)
    path = write_native(tmp_path / "IM_0001", doppler_frames(1))
    contents = {path: content_of(path)}
    assert left_out_by_kind(contents) == "1 DICOM (to read it: pip install '.[dicom]')"
    with pytest.raises(UserError, match=r"is DICOM \(to read it: pip install"):
        find_sources([str(path)])


def test_a_study_is_counted_by_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for number, name in enumerate(("reportsi", "test-SR", "waveform_ecg", "rtdose")):
        (tmp_path / f"IM{number}").write_bytes((PYDICOM_FILES / f"{name}.dcm").read_bytes())
    index = (PYDICOM_FILES / "dicomdirtests/DICOMDIR").read_bytes()
    (tmp_path / "DICOMDIR").write_bytes(index)
    (tmp_path / "viewer.exe").touch()
    write_native(tmp_path / "IM9", doppler_frames(2))
    (source,) = find_sources([str(tmp_path)])
    assert source.path.name == "IM9" and source.count() == 2
    assert caplog.messages == [
        "warning: --source: left out: 2 DICOM SR, 1 DICOM ECG, 1 DICOM RTDOSE, 1 DICOMDIR, 1 .exe"
    ]


def test_where_a_study_holds_no_picture_the_error_says_what_there_is(tmp_path: Path):
    (tmp_path / "IM1").write_bytes((PYDICOM_FILES / "reportsi.dcm").read_bytes())
    with pytest.raises(UserError, match=r"no image or video in it \(left out: 1 DICOM SR\)"):
        find_sources([str(tmp_path)])
    with pytest.raises(UserError, match=r"IM1: is DICOM SR; expected a picture or a clip"):
        find_sources([str(tmp_path / "IM1")])


# ---- frames of what was found --------------------------------------------------------------------


def test_frames_of_a_clip_have_numbers_times_and_a_rate(tmp_path: Path):
    frames = doppler_frames(3)
    write_by_gdcm(tmp_path / "1.2.840.1", frames, uid.JPEG2000Lossless)
    write_native(tmp_path / "1.2.840.2", frames[:1])
    found = list(FrameReader(find_sources([str(tmp_path)])))
    names = [frame.name.name for frame in found]
    assert names == ["1.2.840.1_1", "1.2.840.1_2", "1.2.840.1_3", "1.2.840.2"]
    assert [frame.number for frame in found] == [1, 2, 3, None]
    assert [frame.clip for frame in found] == ["1.2.840.1"] * 3 + [None]
    assert [frame.time_ms for frame in found[:3]] == [0, 40, 80] and found[0].rate == 25
    np.testing.assert_array_equal([frame.image for frame in found[:3]], frames)


def test_a_gif_and_a_tiff_of_pages_are_clips(tmp_path: Path):
    images = [Image.fromarray(frame) for frame in doppler_frames(3)]
    options = {"save_all": True, "append_images": images[1:]}
    images[0].save(tmp_path / "a.gif", duration=50, **options)
    images[0].save(tmp_path / "b.tif", **options)
    images[0].save(tmp_path / "c.tif")
    reader = FrameReader(find_sources([str(tmp_path)]))
    assert len(reader) == 7
    found = list(reader)
    names = ["a_1", "a_2", "a_3", "b_1", "b_2", "b_3", "c"]
    assert [frame.name.name for frame in found] == names
    assert [frame.time_ms for frame in found[:3]] == [0, 50, 100] and found[0].rate == 20
    assert found[3].time_ms is None and found[3].rate == 0
    np.testing.assert_array_equal(found[5].image, doppler_frames(3)[2])
    assert [frame.clip for frame in found[-2:]] == ["b", None]


def test_what_is_wrong_with_a_header_is_said_once_for_all_files(tmp_path: Path):
    for name in ("a", "b"):
        write_native(tmp_path / name, doppler_frames(2), FrameTime=None)
    write_native(tmp_path / "c", doppler_frames(2))
    reader = FrameReader(find_sources([str(tmp_path)]))
    assert len(list(reader)) == 6 and not reader.problems
    first = tmp_path / "a"
    expected = f"2 files, the first {first}: its header does not say when its frames were taken"
    assert reader.notes() == [expected]


def test_an_image_called_as_a_frame_of_a_clip_is_refused(tmp_path: Path):
    write_native(tmp_path / "IM_7", doppler_frames(2))
    write_image(tmp_path / "IM_7_2.png")
    with pytest.raises(UserError, match="their outputs would have the same name"):
        find_sources([str(tmp_path)])


def test_of_a_folder_with_damaged_files_the_rest_is_read(tmp_path: Path):
    """Cut off, of an unknown syntax, of a wrong number of frames: a line each."""
    frames = doppler_frames(4)
    write_native(tmp_path / "good", frames)
    write_native(tmp_path / "many", frames, NumberOfFrames=3)
    for name, size in (("cut", 30_000), ("torn", 2000), ("header", 200)):
        content = write_native(tmp_path / name, frames).read_bytes()
        (tmp_path / name).write_bytes(content[:size])
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "12bit").write_bytes((PYDICOM_FILES / "JPGExtended.dcm").read_bytes())
    reader = FrameReader(find_sources([str(tmp_path)]))
    assert Counter(frame.path.name for frame in reader) == {"cut": 3, "good": 4, "many": 3}
    lines = {problem.partition(": ")[0]: problem for problem in reader.problems}
    assert set(lines) == {str(tmp_path / name) for name in ("12bit", "cut", "many", "torn")}
    assert not any("\n" in line for line in lines.values())
