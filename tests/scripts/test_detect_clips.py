"""detect.py on clips: boxes rescored by their clip, clips.csv, patients.csv, frames without flow."""

import csv
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from detections import rows_of, write_video

import detect
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.core.data_config import load_data_config
from utils.core.script import LOGGER, UserError

NAMES, VIEWS = ["AR", "MR", "PR", "TR"], ["A4C", "PSAX", "PLAX"]
CLIPS = ("--clip-evidence", "--save-csv", "--nosave", "--conf-thres", 0.001)


@pytest.fixture
def frames(tiny_data: Path, tmp_path: Path) -> Path:
    """A folder with the phantom's eight validation frames, two of each of four clips."""
    return Path(shutil.copytree(tiny_data.parent / "frames/images/val", tmp_path / "frames"))


@pytest.fixture
def trained_on(checkpoints, tiny_data: Path, tmp_path: Path) -> Callable[..., Path]:
    """A model that keeps what the phantom's data.yaml says, but for `changes`."""

    def make(
        kind: str = "joint", thresholds: Mapping[str, float] | None = None, **changes: object
    ) -> Path:
        settings = load_data_config(tiny_data).settings() | changes
        content = load_checkpoint(checkpoints[kind]) | {"data": settings}
        if thresholds is not None:
            content["thresholds"] = thresholds
        path = tmp_path / "model.pt"
        save_checkpoint(path, content)
        return path

    return make


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> Callable[..., str]:
    """Run detect.py in this process, with results in `tmp_path/runs/exp`; returns its words."""
    monkeypatch.setattr(LOGGER, "info", print)
    monkeypatch.setattr(LOGGER, "warning", print)

    def call(weights: Path, *arguments: object) -> str:
        place = ("--project", tmp_path / "runs")
        command = ("detect.py", "--weights", weights, *place, *arguments)
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        detect.main()
        return capsys.readouterr().out

    return call


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_clips_and_patients_have_rows_of_the_training_patterns(
    run, said, trained_on, frames: Path, tmp_path: Path, tiny_data: Path
):
    run(trained_on(), "--source", frames, *CLIPS)
    data = load_data_config(tiny_data)
    members = {}
    images = sorted(frames.glob("*.png"))
    for image, found in zip(images, said, strict=True):  # predicted once
        members.setdefault(data.clip_of(image)[0], []).append(found)
    clips = table(tmp_path / "runs/exp/clips.csv")
    assert [row["clip"] for row in clips] == list(members)
    for row in clips:
        own = members[row["clip"]]
        assert (row["frames"], row["frames_scored"]) == ("2", "2")
        mean = np.mean([found.view_probabilities for found in own], axis=0)
        assert row["view"] == VIEWS[mean.argmax()]
        for number, name in enumerate(NAMES):
            highest = [found.scores[found.classes == number].max(initial=0) for found in own]
            assert float(row[f"evidence_{name}"]) == pytest.approx(np.mean(highest), abs=1e-6)
    for row in table(tmp_path / "runs/exp/patients.csv"):
        own = [clip for clip in clips if clip["patient"] == row["patient"]]
        assert int(row["clips"]) == len(own)
        for name in NAMES:
            highest = max(float(clip[f"evidence_{name}"]) for clip in own)
            assert float(row[f"evidence_{name}"]) == highest


@pytest.mark.parametrize("pattern", [True, False])
def test_clip_evidence_is_the_default_of_a_model_trained_on_clips_only(
    run, trained_on, frames: Path, tmp_path: Path, pattern: bool
):
    changes = {}
    if not pattern:
        changes = {"clip_pattern": None}
    run(trained_on(**changes), "--source", frames, "--save-csv", "--nosave")
    assert (tmp_path / "runs/exp/clips.csv").exists() == pattern
    assert (tmp_path / "runs/exp/predictions.csv").exists()


@pytest.mark.parametrize("kind", ["detection", "classification"])
def test_a_model_with_one_task_has_columns_of_that_task(
    run, trained_on, frames: Path, tmp_path: Path, kind: str
):
    run(trained_on(kind), "--source", frames, "--clip-evidence", "--save-csv", "--nosave")
    row = table(tmp_path / "runs/exp/clips.csv")[0]
    assert ("evidence_MR" in row) == ("largest_class" in row) == (kind == "detection")
    assert ("view" in row) == ("p_A4C" in row) == (kind == "classification")


def test_explained_frames_stand_by_themselves(run, trained_on, frames: Path, tmp_path: Path):
    run(trained_on(), "--source", min(frames.glob("*.png")), "--save-csv", "--explain")
    written = sorted(path.suffix for path in (tmp_path / "runs/exp").iterdir())
    assert written == [".csv", ".jpg"]


def test_a_video_without_a_known_patient(run, trained_on, tmp_path: Path):
    video = write_video(tmp_path / "in.mp4", [40, 90, 140])
    out = run(trained_on(), "--source", video, *CLIPS)
    assert not (tmp_path / "runs/exp/patients.csv").exists()
    assert "1 of 1 clips are of no known patient" in out
    (row,) = table(tmp_path / "runs/exp/clips.csv")
    assert (row["clip"], row["patient"], row["frames"]) == ("in", "", "3")


def test_frames_without_flow_colour_are_not_scored(run, trained_on, frames: Path, tmp_path: Path):
    grey = min(frames.glob("*.png"))
    cv2.imwrite(str(grey), cv2.imread(str(grey), cv2.IMREAD_GRAYSCALE))
    out = run(trained_on(needs_colour=True), "--source", frames, *CLIPS)
    assert "8 frames; 1 of them without flow colour are not scored" in out
    rows = [row for row in rows_of(tmp_path / "runs/exp") if row["image"] == str(grey)]
    assert [(row["class"], row["view"]) for row in rows] == [("", "")]
    first = table(tmp_path / "runs/exp/clips.csv")[0]
    assert (first["frames"], first["frames_scored"]) == ("2", "1")


def test_frames_cannot_be_explained_and_pooled(run, trained_on, frames: Path):
    with pytest.raises(UserError, match="--explain shows frames one by one; leave out"):
        run(trained_on(), "--source", frames, "--explain", "--clip-evidence")


def test_findings_and_unknown_views_are_by_the_thresholds_in_the_models_file(
    run, trained_on, frames: Path, tmp_path: Path
):
    kept = {"clip_evidence": 0, "view_probability": 1}
    out = run(trained_on(thresholds=kept), "--source", frames, *CLIPS)
    rows = table(tmp_path / "runs/exp/clips.csv")
    assert {row["view"] for row in rows} == {"unknown"} and "unknown 8" in out
    assert all(len(row["findings"].split("; ")) == len(NAMES) for row in rows)
    run(trained_on(thresholds=kept), "--source", frames, *CLIPS, "--view-thres", 0)
    assert {row["view"] for row in table(tmp_path / "runs/exp2/clips.csv")} <= set(VIEWS)


def test_a_model_without_thresholds_names_no_findings_and_always_a_view(
    run, trained_on, frames: Path, tmp_path: Path
):
    out = run(trained_on(thresholds={}), "--source", frames, *CLIPS)
    assert "findings are not named: the model's file keeps no threshold for clips" in out
    for row in table(tmp_path / "runs/exp/clips.csv"):
        assert row["findings"] == "" and row["view"] in VIEWS


def test_views_below_the_threshold_are_unknown_to_every_output(
    run, trained_on, frames: Path, tmp_path: Path
):
    out = run(trained_on(), "--source", frames, *CLIPS, "--save-txt", "--view-thres", 1)
    assert "views A4C 0, PSAX 0, PLAX 0, unknown 8" in out
    assert {row["view"] for row in table(tmp_path / "runs/exp/clips.csv")} == {"unknown"}
    assert {row["view"] for row in rows_of(tmp_path / "runs/exp")} == {"unknown"}
