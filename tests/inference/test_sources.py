"""Images and videos: which are found, and their frames."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from detections import write_video

from utils.core.script import UserError
from utils.inference.sources import FrameReader, find_sources


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """b/x.png, b/c/y.JPG, a.png, film.avi and text.txt, each image of another shade."""
    folder = tmp_path / "tree"
    (folder / "b/c").mkdir(parents=True)
    for shade, name in enumerate(("a.png", "b/x.png", "b/c/y.JPG")):
        cv2.imwrite(str(folder / name), np.full((8, 12, 3), 50 * shade, np.uint8))
    write_video(folder / "film.avi", [20, 120, 220], "MJPG")
    (folder / "text.txt").write_text("a")
    return folder


def names_of(*entries: object) -> list[str]:
    return [source.name.as_posix() for source in find_sources([str(entry) for entry in entries])]


def test_what_is_found(tree: Path):
    assert names_of(tree) == ["a", "b/c/y", "b/x", "film"]
    assert names_of(tree / "b") == ["c/y", "x"]
    assert names_of(tree / "b/x.png") == ["x"]
    assert names_of(tree / "*") == ["a", "film"]
    assert names_of(tree / "**/*.png") == ["a", "b/x"]
    assert names_of(tree / "b/*.png") == ["x"]
    assert names_of(tree / "a.png", tree / "film.avi", tree / "*.png") == ["a", "film"]


def test_a_name_with_brackets_is_a_file_and_no_pattern(tree: Path):
    (tree / "a.png").rename(tree / "a[1].png")
    assert names_of(tree / "a[1].png") == ["a[1]"]


@pytest.mark.parametrize(
    ("first", "second"), [("b/x.png", "b/x.bmp"), ("film.avi", "film_12.png"), ("film.avi", "film.mp4")]
)
def test_outputs_of_one_name_are_refused(tree: Path, first: str, second: str):
    shutil.copy(tree / first, tree / second)
    with pytest.raises(UserError, match="their outputs would have the same name"):
        find_sources([str(tree)])
    assert len(names_of(tree / first)) == 1


def test_numbered_videos_share_no_name(tree: Path):
    shutil.copy(tree / "film.avi", tree / "film_2.avi")
    assert names_of(tree) == ["a", "b/c/y", "b/x", "film", "film_2"]


def test_frames_of_images_and_videos(tree: Path):
    reader = FrameReader(find_sources([str(tree)]))
    assert len(reader) == 6
    found = list(reader)
    assert [x.name.as_posix() for x in found] == ["a", "b/c/y", "b/x", "film_1", "film_2", "film_3"]
    assert [x.number for x in found] == [None, None, None, 1, 2, 3]
    assert [x.clip for x in found] == [None, None, None, "film", "film", "film"]
    np.testing.assert_allclose([x.image.mean() for x in found], [0, 100, 50, 20, 120, 220], atol=3)
    assert found[-1].rate == pytest.approx(12.5) and found[-1].image.shape == (64, 96, 3)
    assert not reader.problems


def test_colours_of_a_video_are_red_green_blue(tmp_path: Path):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (32, 32))
    writer.write(np.full((32, 32, 3), (0, 0, 250), np.uint8))  # OpenCV: blue, green, red
    writer.release()
    (found,) = FrameReader(find_sources([str(tmp_path)]))
    np.testing.assert_allclose(found.image.mean(axis=(0, 1)), [250, 0, 0], atol=8)


def test_what_cannot_be_read_is_left_out_and_noted(tree: Path):
    (tree / "b/x.png").write_bytes(b"no image")
    content = write_video(tree / "torn.avi", [9] * 60, "MJPG").read_bytes()
    (tree / "torn.avi").write_bytes(content[: len(content) * 3 // 4])
    (tree / "lost.mp4").write_bytes(b"no video" * 50)
    reader = FrameReader(find_sources([str(tree)]))
    found = [x.name.as_posix() for x in reader]
    torn = len(found) - 5
    assert found == ["a", "b/c/y", "film_1", "film_2", "film_3", *(f"torn_{i + 1}" for i in range(torn))]
    bad = [str(tree / name) for name in ("b/x.png", "lost.mp4", "torn.avi")]
    assert [problem.partition(": ")[0] for problem in reader.problems] == bad
    assert "cannot be read as a video" in reader.problems[1]
    assert 0 < torn < 60 and f"ends after {torn} of 60 frames" in reader.problems[2]
