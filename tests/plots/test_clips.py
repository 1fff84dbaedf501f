"""The pictures of clips and patients."""

from pathlib import Path

import pytest
from pixels import count_of, pixels

from utils.plots.clips import plot_clip_calibration, plot_clip_roc
from utils.plots.style import CLASS_COLOURS, CLASSIFICATION, DETECTION


def level(*curves: dict) -> dict:
    rows = [{"name": name} for name in ("any finding", "AR", "MR")]
    calibration = {"said": [0.1, None], "true": [0.5, None], "count": [4, 0]}
    return {"count": 12, "rows": rows, "roc": list(curves), "calibration": calibration}


def curve(name: str, sensitivity: float) -> dict:
    points = {"false_positive_rate": [0, 0.2, 1], "sensitivity": [0, sensitivity, 1]}
    return {"name": name, "auroc": 0.8, **points}


def clips(by_clip: dict | None, by_patient: dict | None = None) -> dict:
    view = {"calibration": {"said": [0.3, 0.9], "true": [0.4, 0.8], "count": [2, 9]}}
    return {"by_clip": by_clip, "by_patient": by_patient, "view": view}


@pytest.mark.parametrize("patients", [True, False])
def test_a_class_has_a_roc_curve_of_its_colour_where_it_has_one(tmp_path: Path, patients: bool):
    path = tmp_path / "a.png"
    by_patient = None
    if patients:
        by_patient = level(curve("AR", 0.9))
    plot_clip_roc(clips(level(curve("AR", 0.6), curve("any finding", 0.9)), by_patient), path)
    assert count_of(path, CLASS_COLOURS[0]) > 500
    assert count_of(path, CLASS_COLOURS[1]) == 0
    assert (pixels(path).shape[1] > 1200) == patients


def test_calibration_has_a_line_for_evidence_and_one_for_the_view(tmp_path: Path):
    plot_clip_calibration(clips(level()), tmp_path / "both.png")
    plot_clip_calibration(clips(None), tmp_path / "view.png")
    assert count_of(tmp_path / "both.png", DETECTION) > 100
    assert count_of(tmp_path / "view.png", DETECTION) == 0
    assert count_of(tmp_path / "view.png", CLASSIFICATION) > 500
