"""The frames that `--cache disk` keeps: those of the images as they are now, whatever happened to
the files.
"""

import multiprocessing
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.core.script import UserError
from utils.data.dataset import JointDataset
from utils.data.frame_cache import FrameCache, user_cache_folder
from utils.data.labels import FrameLabels
from utils.data.loader import make_loader
from utils.data.splits import Split

SIZE = 64


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return user_cache_folder() / "frames"


def write_image(path: Path, seed: int) -> None:
    """An uncompressed one: its bytes are as many, whatever it shows."""
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    cv2.imencode(".bmp", pixels)[1].tofile(path)


@pytest.fixture
def split(tmp_path: Path) -> Split:
    images = [tmp_path / "set" / f"{number}.bmp" for number in range(4)]
    for number, path in enumerate(images):
        write_image(path, number)
    return Split("train", tuple(images), (FrameLabels(),) * len(images))


def frames_of(split: Split, cache: str = "disk") -> np.ndarray:
    dataset = JointDataset(split, SIZE, cache)
    assert dataset.original_sizes.tolist() == [[24, 32]] * len(split.images)
    return np.stack([dataset[index][1] for index in range(len(dataset))])


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "utils.data.dataset.decode_image", lambda *_: pytest.fail("an image is decoded")
    )


def test_the_second_start_decodes_nothing(split: Split, cache_folder: Path, monkeypatch):
    expected = frames_of(split, "off")
    assert not cache_folder.exists()
    assert (frames_of(split) == expected).all()
    no_decoding(monkeypatch)
    assert (frames_of(split) == expected).all()
    assert len(list(cache_folder.iterdir())) == len(split.images)


def test_the_same_image_in_another_place_is_found(
    split: Split, tmp_path: Path, cache_folder: Path, monkeypatch
):
    frames_of(split)
    moved = [path.rename(path.with_stem(f"moved {path.stem}")) for path in split.images]
    no_decoding(monkeypatch)
    frames_of(Split("val", tuple(moved), split.labels))


def test_a_changed_image_is_never_served_stale(split: Split):
    """Neither at the next start nor within a run, though size and times of the file are as before."""
    running, before = JointDataset(split, SIZE, "disk"), frames_of(split)
    changed = split.images[2]
    times = os.stat(changed).st_atime_ns, os.stat(changed).st_mtime_ns
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x55")  # one colour of one pixel
    os.utime(changed, ns=times)
    expected = frames_of(split, "off")
    assert (frames_of(split) == expected).all()
    assert (running[2][1] == expected[2]).all()
    assert (expected != before).any()


def test_another_image_size_has_frames_of_its_own(split: Split):
    frames_of(split)
    other = JointDataset(split, 96, "disk")
    assert (other[0][1] == JointDataset(split, 96, "off")[0][1]).all()


def test_frames_of_two_sizes_are_kept_side_by_side(split: Split, cache_folder: Path, monkeypatch):
    """Neither takes the other's place, so that runs of two sizes do not decode everything over and
    over.
    """
    for size in (SIZE, 96):
        JointDataset(split, size, "disk")
    no_decoding(monkeypatch)
    for size in (SIZE, 96):
        JointDataset(split, size, "disk")
    assert len(list(cache_folder.iterdir())) == 2 * len(split.images)


def test_frames_of_other_stored_bits_are_kept_side_by_side(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", np.full((8, 8), 1000, np.uint16))[1].tobytes())
    for _ in range(2):
        for bits in (10, 12, 16):
            (sample,) = JointDataset(Split("train", (path,), (FrameLabels(),), bits), SIZE, "disk")
            assert (sample[1] == 1000 >> (bits - 8)).all()
        no_decoding(monkeypatch)


@pytest.mark.parametrize("swap", ["one for another", "all round"])
def test_a_whole_file_under_another_name_is_not_served(
    split: Split, cache_folder: Path, swap: str, monkeypatch
):
    expected = frames_of(split)
    files = sorted(cache_folder.iterdir())
    contents = [path.read_bytes() for path in files]
    moved = contents[1:] + contents[:1] if swap == "all round" else contents[:1] * len(files)
    for path, content in zip(files, moved, strict=True):
        path.write_bytes(content)
    assert (frames_of(split) == expected).all()
    assert [path.read_bytes() for path in files] == contents  # made anew
    no_decoding(monkeypatch)
    assert (frames_of(split) == expected).all()


def flipped(position: int) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        damaged = bytearray(content)
        damaged[position % len(content)] ^= 1 << position % 8
        return bytes(damaged)

    return flip


DAMAGE = {
    "empty": lambda content: b"",
    "a byte": lambda content: content[:1],
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"0",
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"no frame",
    "a pickle": lambda content: b"\x80\x04N." + content[4:],
    **{
        f"bit {n} flipped": flipped(n)
        for n in (0, 3, 4, 8, 12, -1, *random.Random(0).sample(range(12000), 10))
    },
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_anew(split: Split, cache_folder: Path, damage: str, monkeypatch):
    expected = frames_of(split, "off")
    frames_of(split)
    for path in cache_folder.iterdir():
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert (frames_of(split) == expected).all()
    no_decoding(monkeypatch)
    assert (frames_of(split) == expected).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_frames_that_are_lost_while_running_are_made_anew(
    split: Split, cache_folder: Path, workers: int
):
    loader = make_loader(JointDataset(split, SIZE, "disk"), 4, workers, pin_memory=False)
    for path in sorted(cache_folder.iterdir())[:2]:
        path.unlink()
    sorted(cache_folder.iterdir())[0].write_bytes(b"")
    (batch,) = loader
    assert (batch["images"].permute(0, 2, 3, 1).numpy() == frames_of(split, "off")).all()
    assert len(list(cache_folder.iterdir())) == 4


def test_an_image_that_cannot_be_read_is_not_kept(split: Split, cache_folder: Path):
    split.images[1].write_bytes(b"no image")
    with pytest.raises(UserError, match=r"1 images cannot be read:\n  .*1\.bmp"):
        JointDataset(split, SIZE, "disk")
    assert len(list(cache_folder.iterdir())) == 3


def test_equal_images_share_a_file(split: Split, cache_folder: Path):
    for path in split.images:
        write_image(path, seed=5)
    assert (frames_of(split) == frames_of(split, "off")).all()
    assert len(list(cache_folder.iterdir())) == 1


FORK = multiprocessing.get_context("fork")


@pytest.mark.parametrize(
    ("worker", "barrier"),
    [(threading.Thread, threading.Barrier), (FORK.Process, FORK.Barrier)],
    ids=["threads", "processes"],
)
def test_several_may_write_the_same_frame_at_the_same_time(
    split: Split, cache_folder: Path, monkeypatch, worker: Callable, barrier: Callable
):
    """Each is held up when it has written and not yet renamed its file, until the other has got
    there too.
    """
    both, flush, results = barrier(2), os.fsync, FORK.Queue()
    monkeypatch.setattr(os, "fsync", lambda descriptor: (flush(descriptor), both.wait(timeout=60)))
    one = Split("train", split.images[:1], split.labels[:1])
    workers = [worker(target=lambda: results.put(frames_of(one).tobytes())) for _ in range(2)]
    for started in workers:
        started.start()
    for started in workers:
        started.join(timeout=60)
    found = [results.get(timeout=5) for _ in workers]
    assert found == [frames_of(one, "off").tobytes()] * 2
    assert len(list(cache_folder.iterdir())) == 1  # and no temporary file


def test_a_folder_that_cannot_be_made_is_named_with_the_mend(tmp_path: Path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"--cache disk: .*file.*XDG_CACHE_HOME.*--cache off"):
        FrameCache(SIZE)


def test_the_folder_is_the_users(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in (None, ""):
        monkeypatch.setenv("XDG_CACHE_HOME", value) if value is not None else monkeypatch.delenv(
            "XDG_CACHE_HOME"
        )
        assert user_cache_folder() == tmp_path / ".cache/yolov5-joint-gradnorm"
