"""Frames in batches; in the order of their sources, whichever is decoded first."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from detections import write_video

from utils.core.script import UserError
from utils.inference import reader
from utils.inference.reader import FrameReader, in_batches
from utils.inference.sources import Frame, Source, find_sources


def test_frames_keep_the_order_of_the_sources_and_problems_too(tmp_path: Path, monkeypatch):
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 12, 3), number, np.uint8))
    for name in ("2a.png", "5a.png"):
        (tmp_path / name).write_bytes(b"no image")
    write_video(tmp_path / "4a.avi", [20, 120], "MJPG")
    original = Source.frames

    def late(self: Source, bits: int | None):
        time.sleep(0.02 * (self.name.name in "036"))
        return original(self, bits)

    monkeypatch.setattr(Source, "frames", late)
    monkeypatch.setattr(reader, "DECODERS", 3)
    found = FrameReader(find_sources([str(tmp_path)]))
    names = [str(frame.name) for frame in found]
    assert names == ["0", "1", "2", "3", "4", "4a_1", "4a_2", "5", "6", "7"]
    assert [Path(problem.split(":")[0]).name for problem in found.problems] == ["2a.png", "5a.png"]


def test_a_clip_is_not_in_memory_as_a_whole(tmp_path: Path, monkeypatch):
    write_video(tmp_path / "a.avi", [20] * 50, "MJPG")
    (source,) = find_sources([str(tmp_path / "a.avi")])
    read = []
    original = Source._frame
    note = lambda self, *parts: read.append(parts[1]) or original(self, *parts)  # noqa: E731
    monkeypatch.setattr(Source, "_frame", note)
    frames = iter(FrameReader([source]))
    next(frames)
    assert read == [1]
    frames.close()


def test_none_at_all_is_an_error(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.png: cannot be read"):
        list(FrameReader(find_sources([str(tmp_path)])))


def of_size(height: int, width: int) -> Frame:
    return Frame(np.broadcast_to(np.uint8(0), (height, width, 3)), Path("a"), Path("a"), None)


def test_batches_are_full_but_for_the_last():
    frames = [of_size(4, 5) for _ in range(10)]
    batches = list(in_batches(iter(frames), 4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert [id(frame) for batch in batches for frame in batch] == list(map(id, frames))


def test_frames_so_large_that_memory_would_fill_are_in_smaller_batches():
    batches = list(in_batches([of_size(6000, 6000)] * 5, 16))
    assert [len(batch) for batch in batches] == [2, 2, 1]
