"""The rows of clips and patients, by hand."""

import csv
from pathlib import Path

import numpy as np
import pytest
from detections import prediction

from utils.data.dicom_header import Region
from utils.inference.clip_tables import MOST_FRAMES, ClipTables, area_mm2
from utils.inference.predictor import not_scored
from utils.inference.sources import Frame

NAMES, VIEWS = ["AR", "MR"], ["A4C", "PSAX"]
PATIENTS = {"P1_a": "P1", "P1_b": "P1"}
REGIONS = (Region(0, 0, 50, 60, 0.1, 0.25), Region(50, 0, 100, 60, None, None))
IMAGE = np.zeros((60, 100, 3), np.uint8)


def frame(name: str, clip: str | None, number: int | None = None) -> Frame:
    return Frame(IMAGE, Path(f"{name}.png"), Path(name), clip, number)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_clips_row(tmp_path: Path):
    evidence = {"P1_a": np.array([0.25, 0.5]), "P1_b": np.array([0.75, 0.125])}
    tables = ClipTables(tmp_path, NAMES, VIEWS, evidence, 0.5, PATIENTS, {"P1_a": REGIONS})
    boxes = [(0, 0, 10, 20, 0.9, 1), (0, 0, 30, 20, 0.8, 0), (5, 5, 9, 9, 0.4, 1)]
    tables.add(frame("P1_a_1", "P1_a", 1), prediction(boxes[1:], (0.8, 0.2)))
    tables.add(frame("P1_a_2", "P1_a", 2), prediction(boxes[:1], (0.1, 0.9)))
    tables.add(frame("P1_a_3", "P1_a", 3), not_scored(60, 100))
    tables.add(frame("P1_b_1", "P1_b"), prediction((), (0.9, 0.1)))
    tables.add(frame("still", None), prediction(boxes, (0.9, 0.1)))
    tables.close()
    first, second = rows_of(tmp_path / "clips.csv")
    assert first == {
        "clip": "P1_a",
        "patient": "P1",
        "frames": "3",
        "frames_scored": "2",
        "view": "PSAX",
        "p_A4C": "0.450000",
        "p_PSAX": "0.550000",
        "findings": "MR",
        "evidence_AR": "0.250000",
        "evidence_MR": "0.500000",
        "frames_AR": "1",
        "frames_MR": "2; 1",
        "largest_class": "AR",
        "largest_confidence": "0.800000",
        "largest_frame": "1",
        "largest_width_px": "30.00",
        "largest_height_px": "20.00",
        "largest_area_px2": "600.00",
        "largest_area_mm2": "15.00",
    }
    assert (second["frames_AR"], second["largest_class"]) == ("", "")
    assert second["largest_area_mm2"] == ""
    assert rows_of(tmp_path / "patients.csv") == [
        {
            "patient": "P1",
            "clips": "2",
            "frames": "4",
            "frames_scored": "3",
            "findings": "AR; MR",
            "evidence_AR": "0.750000",
            "evidence_MR": "0.500000",
            "best_clip_AR": "P1_b",
            "best_clip_MR": "P1_a",
        }
    ]


@pytest.mark.parametrize(
    ("evidence", "threshold", "findings"),
    [
        ((0.2, 0.4), 0.2, "MR; AR"),
        ((0.2, 0.4), 0.3, "MR"),
        ((0.2, 0.4), 0.5, "none"),
        ((0.2, 0.4), None, ""),
        (None, 0.2, ""),
    ],
)
def test_findings_are_the_classes_whose_evidence_reaches_the_threshold(
    tmp_path: Path, evidence: tuple | None, threshold: float | None, findings: str
):
    known = {}
    if evidence:
        known = {"P1_a": np.array(evidence)}
    tables = ClipTables(tmp_path, NAMES, [], known, threshold, PATIENTS, {})
    tables.add(frame("P1_a_1", "P1_a", 1), prediction(()))
    tables.close()
    for table in ("clips.csv", "patients.csv"):
        assert rows_of(tmp_path / table)[0]["findings"] == findings


@pytest.mark.parametrize(
    ("box_xyxy", "expected"),
    [
        ((0, 0, 10, 20), 5.0),
        ((40, 0, 70, 20), None),  # its middle is in the region without a length
        ((0, 70, 10, 90), None),  # in none
    ],
)
def test_the_scale_is_that_of_the_region_that_the_middle_of_a_box_lies_in(box_xyxy, expected):
    assert area_mm2(np.array(box_xyxy, float), REGIONS) == expected


def test_of_many_frames_the_rest_is_counted(tmp_path: Path):
    tables = ClipTables(tmp_path, NAMES, [], {}, None, PATIENTS, {})
    for number in range(MOST_FRAMES + 5):
        found = prediction([(0, 0, 9, 9, 0.5, 0)])
        tables.add(frame(f"P1_a_{number}", "P1_a", number), found)
    tables.close()
    (row,) = rows_of(tmp_path / "clips.csv")
    assert row["frames_AR"].endswith("; 19; and 5 more") and row["evidence_AR"] == ""
