"""Images and videos: which are found, and their frames."""

import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from deep_images import encoded
from detections import write_video
from small_files import write_image

from utils.core.data_config import DataConfig
from utils.core.files import LONGEST_NAME
from utils.core.script import UserError
from utils.inference.reader import FrameReader
from utils.inference.sources import find_sources, refuse_folder_of_sources


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


def test_linked_folders_are_followed(tree: Path, tmp_path: Path):
    """Once, though links lead in a circle and to the same files twice."""
    (tmp_path / "far").mkdir()
    (tree / "b/c").rename(tmp_path / "far/c")
    (tree / "b/linked").symlink_to(tmp_path / "far/c")
    (tree / "b/linked again").symlink_to(tmp_path / "far/c")
    (tmp_path / "far/c/circle").symlink_to(tree)
    (tree / "x.png").symlink_to("b/x.png")
    assert names_of(tree) == ["a", "b/linked/y", "b/x", "film"]
    (tmp_path / "link").symlink_to(tree)
    assert names_of(tmp_path / "link") == names_of(tree)


@pytest.mark.parametrize("place", ["far/c", "far/c/runs/exp"])
def test_results_beside_what_a_link_leads_to_are_refused(tree: Path, tmp_path: Path, place: str):
    (tmp_path / "far").mkdir()
    (tree / "b/c").rename(tmp_path / "far/c")
    (tree / "linked").symlink_to(tmp_path / "far")
    entries = [str(tree)]
    with pytest.raises(UserError, match="would lie beside what is looked at"):
        refuse_folder_of_sources(tmp_path / place, entries, find_sources(entries))
    refuse_folder_of_sources(tmp_path / "elsewhere", entries, find_sources(entries))


OTHERS = (
    "a.dcm",
    "b/b.DCM",
    "b/IM01",
    "b/c/1.2.840.3",
    "x.jp2",
    "y.heic",
    "list.csv",
    "Thumbs.db",
    ".DS_Store",
)


@pytest.mark.parametrize("pattern", ["", "**/*"])
def test_what_is_left_out_is_said_by_kind(
    tree: Path, caplog: pytest.LogCaptureFixture, pattern: str
):
    for name in OTHERS:
        (tree / name).touch()
    names_of(tree / pattern)
    assert caplog.messages == [
        "warning: --source: left out: 2 .dcm, 2 without suffix, 1 .heic, 1 .jp2"
    ]


def test_what_a_pattern_does_not_ask_for_is_not_left_out(
    tree: Path, caplog: pytest.LogCaptureFixture
):
    (tree / "a.dcm").touch()
    names_of(tree / "*.png", tree / "film.avi")
    assert not caplog.messages


def test_what_is_left_out_is_counted_once(tree: Path, caplog: pytest.LogCaptureFixture):
    (tree / "b/c/x.dcm").touch()
    names_of(tree, tree / "b", tree / "b/c")
    assert caplog.messages == ["warning: --source: left out: 1 .dcm"]


@pytest.mark.parametrize("pattern", ["", "*"])
def test_where_nothing_can_be_read_the_error_says_what_there_is(tmp_path: Path, pattern: str):
    (tmp_path / "scans").mkdir()
    for name in ("a.dcm", "b.dcm", "IM01", "notes.txt"):
        (tmp_path / "scans" / name).touch()
    with pytest.raises(
        UserError, match=r"no image or video in it \(left out: 2 \.dcm, 1 without suffix\)"
    ):
        names_of(tmp_path / "scans" / pattern)


@pytest.mark.parametrize("stem", ["x" * 251, "\u5fc3" * 83])
def test_outputs_of_a_long_name_have_a_shorter_one(tmp_path: Path, stem: str):
    for name in (f"{stem}.png", f"{stem[:-1]}y.png"):
        (tmp_path / name).write_bytes(b"")
    first, second = names_of(tmp_path)
    assert first != second and max(len(name.encode()) for name in (first, second)) <= LONGEST_NAME
    assert first.startswith(stem[:50]) and second.startswith(stem[:50])


def test_a_video_that_is_called_as_a_clip_of_images_is_refused(tree: Path):
    data = DataConfig(tree / "data.yaml", tree, {}, ("AR",), clip_pattern=r"^(.+)_F(\d+)")
    for name in ("other_F1.png", "other_F2.png"):
        shutil.copy(tree / "a.png", tree / name)
    assert [source.clip for source in find_sources([str(tree)], data)] == [
        None,
        None,
        None,
        "film",
        "other",
        "other",
    ]
    shutil.copy(tree / "a.png", tree / "film_F1.png")
    with pytest.raises(UserError, match=r"film_F1\.png and .*film\.avi: both of clip film"):
        find_sources([str(tree)], data)


def test_a_name_with_brackets_is_a_file_and_no_pattern(tree: Path):
    (tree / "a.png").rename(tree / "a[1].png")
    assert names_of(tree / "a[1].png") == ["a[1]"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("b/x.png", "b/x.bmp"), ("film.avi", "film_12.png"), ("film.avi", "film.mp4")],
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


class ShorterVideo:
    """Says that it has five frames."""

    def __init__(self, frames: int):
        self.left = frames

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_COUNT: 5.0, cv2.CAP_PROP_FPS: 25.0}[what]

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.zeros((8, 8, 3), np.uint8)) if self.left >= 0 else (False, None)


@pytest.mark.parametrize("frames", [1, 3, 4])
def test_a_video_that_is_shorter_than_it_says_is_noted(tree: Path, monkeypatch, frames: int):
    """By a single frame, too."""
    monkeypatch.setattr("utils.inference.sources._open_video", lambda path: ShorterVideo(frames))
    reader = FrameReader(find_sources([str(tree / "film.avi")]))
    assert len(list(reader)) == frames
    (problem,) = reader.problems
    assert f"ends after {frames} of 5 frames" in problem


def test_a_video_as_long_as_it_says_is_whole(tree: Path, monkeypatch):
    for frames in (5, 6):
        monkeypatch.setattr(
            "utils.inference.sources._open_video", lambda path, frames=frames: ShorterVideo(frames)
        )
        reader = FrameReader(find_sources([str(tree / "film.avi")]))
        assert len(list(reader)) == frames and not reader.problems


# ---- images of 16 bits ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize(
    ("value", "bits", "expected"),
    [(4095, 12, 255), (800, 10, 200), (800, 16, 3), (51400, None, 200)],
)
def test_stored_bits_are_obeyed(
    tmp_path: Path, value: int, bits: int | None, expected: int, suffix: str
):
    (tmp_path / f"a{suffix}").write_bytes(encoded(suffix, np.full((8, 8), value, np.uint16)))
    (frame,) = FrameReader(find_sources([str(tmp_path)]), bits)
    assert (frame.image == expected).all() and frame.image.dtype == np.uint8


@pytest.mark.parametrize(
    ("value", "bits", "expected"),
    [
        (4095, None, r"is 4095, which fits 12 bits or fewer.*'bits: 12'"),
        (5000, 12, "holds the value 5000, but 'bits: 12'"),
    ],
)
def test_an_image_whose_stored_bits_are_unclear_is_noted(
    tmp_path: Path, value: int, bits: int | None, expected: str
):
    for name, pixels in (
        ("a", np.full((8, 8), value, np.uint16)),
        ("b", np.zeros((8, 8), np.uint8)),
    ):
        (tmp_path / f"{name}.png").write_bytes(encoded(".png", pixels))
    reader = FrameReader(find_sources([str(tmp_path)]), bits)
    assert [frame.name.name for frame in reader] == ["b"]
    (problem,) = reader.problems
    assert re.search(rf"^{re.escape(str(tmp_path / 'a.png'))}: .*{expected}", problem)


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
    assert found == [
        "a",
        "b/c/y",
        "film_1",
        "film_2",
        "film_3",
        *(f"torn_{i + 1}" for i in range(torn)),
    ]
    bad = [str(tree / name) for name in ("b/x.png", "lost.mp4", "torn.avi")]
    assert [problem.partition(": ")[0] for problem in reader.problems] == bad
    assert "cannot be read as a video" in reader.problems[1]
    assert 0 < torn < 60 and f"ends after {torn} of 60 frames" in reader.problems[2]


@pytest.mark.parametrize("brackets", ["frames[1]", "[ab]", "f[!x]", "]["])
@pytest.mark.parametrize(
    "pattern", ["", "/*.png", "/x[1].png", "/**/*.png", "/?[1].*", "/[wx]*.png", "/[x][[]*"]
)
def test_brackets_that_are_there_stand_for_themselves(tmp_path: Path, brackets: str, pattern: str):
    image = write_image(tmp_path / brackets / "x[1].png")
    for other in ("frames1", "a", "fa"):
        write_image(tmp_path / other / "y.png")
    (source,) = find_sources([f"{tmp_path}/{brackets}{pattern}"])
    assert source.path == image


def test_brackets_that_are_not_there_are_a_choice(tmp_path: Path):
    for name in ("a", "b", "c"):
        write_image(tmp_path / name / "x.png")
    found = find_sources([f"{tmp_path}/[ab]/*.png"])
    assert [source.path.parent.name for source in found] == ["a", "b"]


def test_a_video_whose_name_is_not_utf8_is_left_out_and_named(tmp_path: Path):
    write_image(tmp_path / "a.png")
    (tmp_path / os.fsdecode(b"\xe9.mp4")).write_bytes(b"x")
    reader = FrameReader(find_sources([str(tmp_path)]))
    assert len(reader) == 1 and len(list(reader)) == 1
    (problem,) = reader.problems
    assert problem.endswith("cannot be read as a video: its name is not UTF-8; rename it")
