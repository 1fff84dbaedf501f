"""Who a clip is of, by its header or its folder; and makes, of which only a few words are written."""

from pathlib import Path

import pytest
from cine_clips import cine_frames, write_clip
from pydicom import dcmread

from utils.curation.identity import (
    MANUFACTURERS,
    OTHER_MANUFACTURER,
    dicom_identity,
    file_identity,
    manufacturer_class,
    names_nobody,
)

FRAMES = cine_frames(1)


def test_a_patient_is_the_id_and_a_clip_its_uid(tmp_path: Path):
    path = write_clip(tmp_path / "a/IM_1", FRAMES, PatientID=" 0815 ", SOPInstanceUID="1.2.3")
    found = dicom_identity(path, tmp_path)
    assert (found.patient, found.clip, found.file) == ("0815", "1.2.3", str(path))


def test_without_an_id_the_study_and_then_the_folder_stands_for_the_patient(tmp_path: Path):
    study = write_clip(tmp_path / "a/1", FRAMES, PatientID="", StudyInstanceUID="1.2.9")
    neither = write_clip(tmp_path / "a/b/2", FRAMES)
    assert dicom_identity(study, tmp_path).patient == "1.2.9"
    assert dicom_identity(neither, tmp_path).patient == str(tmp_path / "a")


@pytest.mark.parametrize("text", ["ANONYMOUS", "Anonymized^Patient", "unknown", "0000", "N/A"])
def test_a_word_that_anonymised_files_share_names_nobody(text: str):
    assert names_nobody(text)


@pytest.mark.parametrize("text", ["ANON012", "0815", "DOE^JANE", "1.2.840", "/clinic/anonymous"])
def test_a_pseudonym_and_any_other_id_name_somebody(text: str):
    assert not names_nobody(text)


def test_videos_of_one_folder_are_one_patients_and_loose_ones_are_not(tmp_path: Path):
    paths = ("a/1.mp4", "a/b/2.mp4", "c.mp4", "d.mp4")
    found = [file_identity(tmp_path / path, tmp_path) for path in paths]
    patients = [own.patient for own in found]
    assert patients[0] == patients[1] and len(set(patients)) == 3
    assert len({own.clip for own in found}) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GE Vingmed Ultrasound", "GE"),
        ("G.E. Medical Systems", "GE"),
        ("Philips Medical Systems", "Philips"),
        ("SonoSite, Inc.", "Fujifilm"),
        ("TOSHIBA_MEC", "Canon"),
        ("Georg's private echo lab", OTHER_MANUFACTURER),
        ("", ""),
    ],
)
def test_a_make_is_one_of_a_few_words(text: str, expected: str, tmp_path: Path):
    path = write_clip(tmp_path / "a", FRAMES, Manufacturer=text)
    assert manufacturer_class(path) == expected
    assert expected in {*MANUFACTURERS.values(), OTHER_MANUFACTURER, ""}


def test_pydicoms_warnings_which_repeat_the_header_are_kept_back(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
):
    path = write_clip(tmp_path / "a", FRAMES, StudyInstanceUID="1.2.3.44")
    path.write_bytes(path.read_bytes().replace(b"1.2.3.44", b"DOE^JANE"))
    with pytest.warns(UserWarning, match="DOE"):
        str(dcmread(path).StudyInstanceUID)
    recwarn.clear()
    caplog.clear()
    assert dicom_identity(path, tmp_path).patient == "DOE^JANE"
    assert not recwarn.list and not caplog.records
