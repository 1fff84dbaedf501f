"""detect.py in batches: the same as one by one, few frames in memory, nothing lost by a stop."""

import shutil
import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from detections import rows_of, write_video

import detect
from utils.commands.detect import batches_of, write_frames
from utils.core.script import run_script
from utils.core.threads import MOST_WAITING
from utils.inference import outputs
from utils.inference.predictor import Prediction, Predictor, not_scored
from utils.inference.reader import FrameReader
from utils.inference.sources import Frame, frame_count

BATCH = 4


@pytest.fixture
def frames(tiny_data: Path, tmp_path: Path) -> Path:
    """A folder with the phantom's eight validation frames."""
    return Path(shutil.copytree(tiny_data.parent / "frames/images/val", tmp_path / "frames"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Run detect.py in this process on every box; returns the folder of the run."""

    def call(weights: Path, name: str, *arguments: object) -> Path:
        place = ("--project", tmp_path / "runs", "--name", name, "--device", "cpu")
        limits = ("--conf-thres", 0.001, "--max-det", 5, "--save-csv", "--save-txt")
        command = ("detect.py", "--weights", weights, *place, *limits, *arguments)
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        run_script(detect.main)
        return tmp_path / "runs" / name

    return call


@pytest.mark.parametrize("clips", ["--no-clip-evidence", "--clip-evidence"])
def test_batches_change_nothing(run, checkpoints, frames: Path, clips: str):
    """Here on a CPU without bf16, or where it is as fast, in float32; rows are in one order."""
    write_video(frames / "clip.mp4", [40, 90, 140, 190, 240])
    (frames / "P99_broken.png").write_bytes(b"no image")
    folders = [
        run(checkpoints["joint"], f"by{size}", "--source", frames, "--batch-size", size, clips)
        for size in (1, BATCH, 16)
    ]
    alone, *together = map(rows_of, folders)
    assert len(alone) > 13
    for rows in together:
        for row, expected in zip(rows, alone, strict=True):
            for key in ("image", "frame", "clip", "view", "clip_view"):
                assert row[key] == expected[key]
    pictures = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert pictures[0] == pictures[1] == pictures[2]
    assert {frame_count(folder / "clip.mp4") for folder in folders} == {5}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_loses_nothing_that_was_predicted(
    run, checkpoints, tmp_path: Path, monkeypatch, capsys, number: int
):
    """And the video that was begun can be played."""
    video = write_video(tmp_path / "clip.mp4", [100] * 20)
    original = Predictor.predict
    calls = []

    def predict(self: Predictor, images: list[np.ndarray]) -> list[Prediction]:
        calls.append(len(images))
        if len(calls) == 4:
            signal.raise_signal(number)
        return original(self, images)

    monkeypatch.setattr(Predictor, "predict", predict)
    arguments = ("--source", video, "--batch-size", BATCH, "--no-clip-evidence")
    with pytest.raises(SystemExit) as stop:
        run(checkpoints["joint"], "exp", *arguments)
    folder = tmp_path / "runs/exp"
    assert stop.value.code == 128 + number
    assert capsys.readouterr().err.splitlines()[-1].endswith(signal.Signals(number).name)
    predicted = 3 * BATCH
    assert {int(row["frame"]) for row in rows_of(folder)} == {*range(1, predicted + 1)}
    assert len(list((folder / "labels").iterdir())) == predicted
    assert frame_count(folder / "clip.mp4") == predicted
    assert not list(folder.rglob(".*"))


class Endless(FrameReader):
    """Small frames, of which it counts those that somebody holds."""

    def __init__(self, count: int):
        super().__init__([])
        self.count = count
        self.alive: weakref.WeakSet[Frame] = weakref.WeakSet()
        self.most = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Frame]:
        for number in range(1, self.count + 1):
            frame = Counted(np.zeros((6, 8, 3), np.uint8), Path("a"), Path(f"a_{number}"), "a")
            self.alive.add(frame)
            self.most = max(self.most, len(self.alive))
            yield frame


class Counted(Frame):
    __hash__ = object.__hash__


class Blind(Predictor):
    def predict(self, images: list[np.ndarray]) -> list[Prediction]:
        return [not_scored(6, 8) for _ in images]


def test_few_frames_are_in_memory_however_many_there_are(tmp_path: Path):
    reader = Endless(40 * BATCH)
    predictor = Blind(None, None, 64, 0.5)
    table = outputs.Table(tmp_path, ["AR"], ["A4C"])
    with batches_of(reader, BATCH, "") as batches:
        write_frames(batches, predictor, None, [table])
    assert len(rows_of(tmp_path)) == 40 * BATCH
    assert reader.most <= BATCH * (MOST_WAITING + 5)
