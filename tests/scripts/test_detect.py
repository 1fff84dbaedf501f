"""detect.py: what it finds, writes and refuses."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from detections import rows_of, write_video

import detect
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.core.data_config import load_data_config
from utils.core.files import ROOT
from utils.core.script import LOGGER, run_script
from utils.data.images import read_image
from utils.data.labels import read_label_file
from utils.inference.drawing import CAPTION, MARGIN, SIDE
from utils.inference.predictor import Predictor
from utils.plots.frames import STRIP

NAMES, VIEWS = ["AR", "MR", "PR", "TR"], ["A4C", "PSAX", "PLAX"]
EVERYTHING = ("--save-txt", "--save-csv", "--save-crop")


@pytest.fixture
def frames(tiny_data: Path, tmp_path: Path) -> Path:
    """A folder with the phantom's eight validation frames, and a file that is no image."""
    shutil.copytree(tiny_data.parent / "frames/images/val", tmp_path / "frames")
    (tmp_path / "frames/notes.txt").write_text("not to be looked at")
    return tmp_path / "frames"


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> Callable[..., str]:
    """Run detect.py in this process, with results in `tmp_path/runs/exp`.

    Frames are predicted one by one unless clips are asked for. Returns what it prints.
    """
    monkeypatch.setattr(LOGGER, "info", print)
    monkeypatch.setattr(LOGGER, "warning", print)

    def call(weights: Path, *arguments: object) -> str:
        place = () if "--project" in arguments else ("--project", tmp_path / "runs")
        clips = () if "--clip-evidence" in arguments else ("--no-clip-evidence",)
        command = ("detect.py", "--weights", weights, *place, *clips, *arguments)
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        detect.main()
        return capsys.readouterr().out

    return call


# ---- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["joint", "dual", "detection", "classification"])
def test_what_is_saved_is_read_back_as_labels(
    run, said, checkpoints, frames: Path, tmp_path: Path, kind: str
):
    run(
        checkpoints[kind],
        "--source",
        frames,
        "--save-txt",
        "--conf-thres",
        0.001,
        "--max-det",
        7,
        "--nosave",
    )
    files = sorted((tmp_path / "runs/exp/labels").iterdir())
    assert [file.stem for file in files] == [image.stem for image in sorted(frames.glob("*.png"))]
    count = sum(len(found.classes) for found in said)
    assert len(said) == 8 and (count == 0 if kind == "classification" else count > 16)
    for file, found in zip(files, said, strict=True):
        labels = read_label_file(file, len(NAMES), len(VIEWS))
        centre, half = labels.boxes[:, 1:3], labels.boxes[:, 3:] / 2
        boxes_xyxy = np.hstack((centre - half, centre + half)) * ([found.width, found.height] * 2)
        np.testing.assert_allclose(boxes_xyxy, found.boxes_xyxy, rtol=0, atol=1e-6)
        assert labels.boxes[:, 0].tolist() == found.classes.tolist()
        assert labels.view == (-1 if kind == "detection" else found.view_probabilities.argmax())


# ---- the predictor -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "given", "expected"),
    [(0.375, (), 0.375), (0.375, ("--conf-thres", 0.5), 0.5), (None, (), 0.25)],
)
def test_the_confidence_is_the_checkpoints(
    run,
    checkpoints,
    monkeypatch,
    frames: Path,
    tmp_path: Path,
    stored: float | None,
    given: tuple,
    expected: float,
):
    save_checkpoint(
        tmp_path / "a.pt", load_checkpoint(checkpoints["joint"]) | {"confidence": stored}
    )
    used, original = [], Predictor.predict
    monkeypatch.setattr(
        Predictor, "predict", lambda self, images: used.append(self) or original(self, images)
    )
    run(
        tmp_path / "a.pt", "--source", min(frames.glob("*.png")), "--nosave", "--max-det", 9, *given
    )
    assert (used[0].confidence, used[0].size, used[0].max_detections) == (expected, 64, 9)


def test_the_averaged_weights_are_used(run, said, checkpoints, frames: Path, tmp_path: Path):
    content = load_checkpoint(checkpoints["joint"])
    average = {name: tensor.clone() for name, tensor in content["model"].items()}
    average["model.25.linear.bias"][:] = torch.tensor([0.0, 99.0, 0.0])
    save_checkpoint(tmp_path / "a.pt", content | {"ema": {"model": average}})
    run(tmp_path / "a.pt", "--source", min(frames.glob("*.png")), "--nosave")
    np.testing.assert_allclose(said[0].view_probabilities, [0, 1, 0], atol=1e-6)


# ---- the script ----------------------------------------------------------------------------------


def test_everything_of_a_folder_and_nothing_beside_it(
    run, said, checkpoints, frames: Path, tmp_path: Path
):
    (frames / "broken.png").write_bytes(b"")
    before = {path: path.stat().st_mtime_ns for path in [frames, *frames.rglob("*")]}
    arguments = (
        "--source",
        frames,
        *EVERYTHING,
        "--conf-thres",
        0.001,
        "--max-det",
        3,
        "--explain",
    )
    out = run(checkpoints["dual"], *arguments)
    assert {path: path.stat().st_mtime_ns for path in [frames, *frames.rglob("*")]} == before
    folder, stems = tmp_path / "runs/exp", sorted(path.stem for path in frames.glob("P*.png"))
    assert sorted(path.stem for path in folder.glob("*.jpg")) == stems
    assert sorted(path.stem for path in (folder / "labels").iterdir()) == stems
    boxes = [(number, found) for found in said for number in range(len(found.classes))]
    assert len(list(folder.glob("crops/*/*.png"))) == len(boxes) > 8
    for row, (number, found) in zip(rows_of(folder), boxes, strict=True):
        assert row["class"] == NAMES[found.classes[number]] and row["view"] == VIEWS[found.view]
        np.testing.assert_allclose(
            [float(row[f"p_{view}"]) for view in VIEWS], found.view_probabilities, atol=1e-6
        )
        assert float(row["confidence"]) == pytest.approx(found.scores[number], abs=1e-6)
        assert row["clip"] == row["clip_view"] == row["frame"] == ""
    height, width = read_image(next(folder.glob("*.jpg"))).shape[:2]
    assert width == 2 * (SIDE + MARGIN) + MARGIN and height > CAPTION
    assert f"warning: {frames / 'broken.png'}: cannot be read as an image" in out
    last = out.strip().splitlines()[-1]
    assert (
        last.startswith(f"8 frames; {len(boxes)} boxes in 8 of them")
        and "1 of 9 files not read" in last
        and str(folder) in last
    )


def test_a_video(run, said, checkpoints, tmp_path: Path):
    video = write_video(tmp_path / "in.mp4", [40, 90, 140, 190, 240])
    out = run(
        checkpoints["joint"], "--source", video, "--save-csv", "--save-txt", "--conf-thres", 0.9
    )
    folder = tmp_path / "runs/exp"
    assert sorted(path.name for path in (folder / "labels").iterdir()) == [
        f"in_{i}.txt" for i in range(1, 6)
    ]
    drawn = cv2.VideoCapture(str(folder / "in.mp4"))
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    pictures = []
    while (picture := drawn.read())[0]:
        pictures.append(picture[1][CAPTION + STRIP + 10 : -STRIP - 10, 20:-20].mean())
    np.testing.assert_allclose(pictures, [40, 90, 140, 190, 240], atol=10)  # encoded twice
    rows, mean = rows_of(folder), np.mean([found.view_probabilities for found in said], axis=0)
    assert [row["frame"] for row in rows] == list("12345") and {row["clip"] for row in rows} == {
        "in"
    }
    assert {row["clip_view"] for row in rows} == {VIEWS[mean.argmax()]}
    np.testing.assert_allclose(
        [float(rows[0][f"clip_p_{view}"]) for view in VIEWS], mean, atol=1e-6
    )
    assert f"clip in: {VIEWS[mean.argmax()]} {mean.max():.2f}\n5 frames; 0 boxes" in out


def test_two_videos_and_an_image(run, checkpoints, tmp_path: Path):
    tmp_path.joinpath("in").mkdir()
    for name, count in (("a", 3), ("b", 2)):
        write_video(tmp_path / f"in/{name}.avi", [100] * count, "MJPG")
    cv2.imwrite(str(tmp_path / "in/c.png"), np.zeros((64, 96, 3), np.uint8))
    run(checkpoints["detection"], "--source", tmp_path / "in", "--conf-thres", 0.9)
    folder = tmp_path / "runs/exp"
    assert sorted(path.name for path in folder.iterdir()) == ["a.mp4", "b.mp4", "c.jpg"]
    counts = [
        cv2.VideoCapture(str(folder / f"{name}.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) for name in "ab"
    ]
    assert counts == [3, 2]


def test_clips_of_images(run, checkpoints, frames: Path, tmp_path: Path, tiny_data: Path):
    run(
        checkpoints["joint"],
        "--source",
        frames,
        "--data",
        tiny_data,
        "--save-csv",
        "--nosave",
        "--conf-thres",
        0.9,
    )
    rows, data = rows_of(tmp_path / "runs/exp"), load_data_config(tiny_data)
    assert [row["clip"] for row in rows] == [data.clip_of(row["image"])[0] for row in rows]
    for row in rows:
        own = [[float(r[f"p_{v}"]) for v in VIEWS] for r in rows if r["clip"] == row["clip"]]
        assert len(own) == 2
        np.testing.assert_allclose(
            [float(row[f"clip_p_{v}"]) for v in VIEWS], np.mean(own, axis=0), atol=2e-6
        )
    assert [path.name for path in (tmp_path / "runs/exp").iterdir()] == ["predictions.csv"]


@pytest.mark.parametrize("kind", ["detection", "classification"])
def test_a_model_with_one_task(run, checkpoints, frames: Path, tmp_path: Path, kind: str):
    out = run(
        checkpoints[kind], "--source", frames, *EVERYTHING, "--conf-thres", 0.001, "--max-det", 2
    )
    row = rows_of(tmp_path / "runs/exp")[0]
    assert (
        bool(row["class"])
        == (tmp_path / "runs/exp/crops").exists()
        == ("boxes in" in out)
        == (kind == "detection")
    )
    assert (
        bool(row["view"]) == ("p_A4C" in row) == ("views A4C" in out) == (kind == "classification")
    )


@pytest.mark.parametrize(
    ("option", "written"),
    [
        ("--save-txt", "labels"),
        ("--save-csv", "predictions.csv"),
        ("--save-coco", "coco.json"),
        ("--save-crop", "crops"),
    ],
)
def test_what_an_option_writes(
    run, checkpoints, frames: Path, tmp_path: Path, option: str, written: str
):
    source = min(frames.glob("*.png"))
    limits = ("--conf-thres", 0.001, "--max-det", 2)
    run(checkpoints["joint"], "--source", source, "--nosave", option, *limits)
    assert [path.name for path in (tmp_path / "runs/exp").iterdir()] == [written]


def test_nothing_is_written_if_nothing_is_wanted(run, checkpoints, frames: Path, tmp_path: Path):
    out = run(checkpoints["joint"], "--source", frames, "--nosave")
    assert (
        not (tmp_path / "runs").exists()
        and "everything is in" not in out
        and out.startswith("8 frames")
    )


# ---- what is refused -----------------------------------------------------------------------------


@pytest.fixture
def refused(run, capsys: pytest.CaptureFixture, tmp_path: Path) -> Callable[..., str]:
    """Run detect.py, expect it to refuse, and return its message."""

    def call(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            run_script(lambda: run(*arguments))
        stderr = capsys.readouterr().err
        assert stop.value.code == 2 and "Traceback" not in stderr and stderr.count("error: ") == 1
        assert not (tmp_path / "runs").exists()
        return stderr.partition("error: ")[2]

    return call


@pytest.mark.parametrize(
    "content",
    [b"", b"no checkpoint\n", b"\x89PNG\r\n\x1a\n", None],
    ids=["0", "text", "png", "torn"],
)
def test_a_file_that_is_no_checkpoint(
    refused, checkpoints, frames: Path, tmp_path: Path, content: bytes | None
):
    torn = checkpoints["joint"].read_bytes()[:50_000]
    (tmp_path / "a.pt").write_bytes(torn if content is None else content)
    message = refused(tmp_path / "a.pt", "--source", frames)
    assert message.startswith(f"{tmp_path / 'a.pt'}: ") and message.count("\n") == 1


def test_a_hostile_checkpoint(refused, hostile_checkpoint: tuple, frames: Path):
    path, marker = hostile_checkpoint
    assert refused(path, "--source", frames).startswith(f"{path}: refused")
    assert not marker.exists()


def test_sources_without_anything_to_see(refused, checkpoints, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("a")
    for path, expected in (
        (tmp_path / "empty", "no image or video in it"),
        (tmp_path / "none.png", "no such file, folder or match"),
        (tmp_path / "*.png", "no such file, folder or match"),
        (tmp_path / "a.txt", "expected an image or a video"),
    ):
        message = refused(checkpoints["joint"], "--source", path)
        assert str(path) in message and expected in message and message.count("\n") == 1


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.png", "a.mkv"])
@pytest.mark.parametrize("content", [b"", b"nothing " * 99])
def test_a_source_that_cannot_be_read(
    refused, checkpoints, tmp_path: Path, name: str, content: bytes
):
    (tmp_path / name).write_bytes(content)
    message = refused(checkpoints["joint"], "--source", tmp_path / name, *EVERYTHING)
    assert message.startswith(f"{tmp_path / name}: cannot be read as") and message.count("\n") == 1


def test_several_sources_none_of_which_can_be_read(refused, checkpoints, tmp_path: Path):
    for name in ("a.png", "b.avi"):
        (tmp_path / name).write_bytes(b"nothing")
    message = refused(checkpoints["joint"], "--source", tmp_path / "a.png", tmp_path / "b.avi")
    assert (
        message.startswith("none of 2 files can be read")
        and "a.png" in message
        and "b.avi" in message
    )


def test_results_beside_the_source(refused, checkpoints, frames: Path):
    for place in (
        ("--project", frames),
        ("--project", frames / "a/b"),
        ("--project", frames.parent, "--exist-ok", "--name", frames.name),
    ):
        source = frames if "--exist-ok" not in place else min(frames.glob("*.png"))
        assert "would lie beside what is looked at" in refused(
            checkpoints["joint"], "--source", source, *place
        )


def test_wrong_options(refused, checkpoints, frames: Path, tmp_path: Path, tiny_data: Path):
    content = yaml.safe_load(tiny_data.read_text())
    del content["clip_pattern"]
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    for kind, arguments, expected in (
        ("joint", ["--conf-thres", 2], "--conf-thres is 2.0, expected 0 to 1"),
        ("joint", ["--iou-thres", -1], "--iou-thres is -1.0"),
        ("joint", ["--max-det", 0], "--max-det is 0, expected at least 1"),
        ("joint", ["--imgsz", 100], "--imgsz"),
        ("joint", ["--device", "nonsense"], "--device is 'nonsense'"),
        ("joint", ["--explain", "--nosave"], "--explain"),
        ("joint", ["--data", tmp_path / "data.yaml"], "'clip_pattern' is missing"),
        ("detection", ["--explain"], f"--explain: {checkpoints['detection']} has no view head"),
    ):
        assert expected in refused(checkpoints[kind], "--source", frames, *arguments)


def test_an_unreadable_video_for_real(checkpoints, tmp_path: Path):
    """One line, and nothing of what FFmpeg and OpenCV have to say."""
    video, place = tmp_path / "clip_01.mp4", tmp_path / "runs"
    video.write_bytes(write_video(tmp_path / "b.mp4", [9] * 9).read_bytes()[:500])
    command = [
        "detect.py",
        "--weights",
        checkpoints["joint"],
        "--source",
        video,
        "--project",
        place,
    ]
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    lines = [
        line
        for line in re.split(r"[\r\n]+", done.stderr)
        if line.strip() and not line.startswith("detect:")
    ]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert lines[0].startswith(f"error: {video}: cannot be read") and not place.exists()
