"""The frame index: a start reads what has changed, and finds what a start without one finds."""

import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_files import LABEL, UNREADABLE, make_set

from utils.core.data_config import DataConfig, load_data_config
from utils.core.lock import LOCK_NAME, Holder
from utils.core.script import UserError
from utils.core.values import to_mapping
from utils.curation.audit import quick_warnings
from utils.curation.frames import read_frames
from utils.data import dataset as dataset_module
from utils.data import frame_index
from utils.data.dataset import JointDataset
from utils.data.frame_cache import user_cache_folder
from utils.data.frame_index import file_numbers
from utils.data.images import Letterbox
from utils.data.labels import FrameLabels
from utils.data.splits import Split, label_path, load_split, load_splits

SIZE = 64
OTHER_LABEL = "2 0.5 0.5 0.25 0.5\n0 0 1\n"  # as many bytes


@pytest.fixture(autouse=True)
def nothing_is_young(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache folder of its own; files count as old, as a test has just written them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(frame_index, "YOUNG_NS", -(10**18))


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Four frames: a box and a view, a box twice and another, a view alone, no label file."""
    twice = "0 0.5 0.5 0.25 0.5\n" * 2 + "1 0.25 0.25 0.7 0.2\n"
    labels = {"a.png": LABEL, "b.png": twice, "c.png": "1 0 0\n", "d.png": None}
    return make_set(tmp_path / "set", labels)


class Reads:
    """The names of label files and images that are read from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.labels: list[str] = []
        self.images: list[str] = []
        read_label_file = frame_index.read_label_file
        decode_image = dataset_module.decode_image

        def read(path: Path, *counts: int) -> object:
            self.labels.append(path.name)
            return read_label_file(path, *counts)

        def decode(content: bytes, path: Path) -> np.ndarray:
            self.images.append(path.name)
            return decode_image(content, path)

        monkeypatch.setattr(frame_index, "read_label_file", read)
        monkeypatch.setattr(dataset_module, "decode_image", decode)


def start(data: DataConfig, index: str = "auto", cache: str = "off") -> JointDataset:
    return JointDataset(load_split(data, "train", index=index), SIZE, cache)


def assert_same(one: JointDataset, other: JointDataset) -> None:
    """Two data sets have the same frames, boxes, views and fingerprints."""
    assert one.split.images == other.split.images
    assert one.split.fingerprint() == other.split.fingerprint()
    assert (one.split.labels.cut_boxes == other.split.labels.cut_boxes).all()
    assert (one.original_sizes == other.original_sizes).all()
    for mine, theirs in zip(one, other, strict=True):
        assert mine[0] == theirs[0] and mine[3:] == theirs[3:]
        np.testing.assert_array_equal(mine[1], theirs[1])
        np.testing.assert_array_equal(mine[2], theirs[2])


def files_below(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


# ---- what a second start reads -------------------------------------------------------------------


@pytest.mark.parametrize("index", ["auto", "trust"])
def test_the_second_start_reads_nothing_and_finds_the_same(data: DataConfig, monkeypatch, index):
    expected = start(data, "off")
    start(data)
    reads = Reads(monkeypatch)
    found = start(data, index)
    assert not reads.labels and not reads.images
    assert_same(found, expected)


@pytest.mark.parametrize("index", ["rebuild", "off"])
def test_rebuild_and_off_read_everything(data: DataConfig, monkeypatch, index: str):
    expected = start(data)
    reads = Reads(monkeypatch)
    found = start(data, index)
    assert sorted(reads.labels) == ["a.txt", "b.txt", "c.txt"]
    assert sorted(reads.images) == ["a.png", "b.png", "c.png", "d.png"]
    assert_same(found, expected)


def test_off_keeps_nothing(data: DataConfig):
    start(data, "off")
    assert not user_cache_folder().exists()


@pytest.mark.parametrize("cache", ["off", "ram", "disk"])
def test_every_cache_fills_the_index(data: DataConfig, monkeypatch, cache: str):
    start(data, cache=cache)
    reads = Reads(monkeypatch)
    start(data)
    assert not reads.labels and not reads.images


def test_without_a_cache_no_frame_is_resized_at_the_start(data: DataConfig, monkeypatch):
    monkeypatch.setattr(Letterbox, "apply", lambda *_: pytest.fail("a frame is resized"))
    start(data)


def test_files_that_have_just_changed_are_read_again(data: DataConfig, monkeypatch):
    monkeypatch.setattr(frame_index, "YOUNG_NS", 2 * 10**9)
    start(data)
    reads = Reads(monkeypatch)
    start(data)
    assert len(reads.labels) == 3 and len(reads.images) == 4


def test_an_audit_decodes_whatever_the_index_says(data: DataConfig, monkeypatch):
    start(data)
    decoded = []

    def decode(content: bytes, path: Path) -> np.ndarray:
        decoded.append(path.name)
        return dataset_module.decode_image(content, path)

    monkeypatch.setattr("utils.curation.frames.decode_image", decode)
    frames = read_frames(data)
    assert sorted(decoded) == [frame.path.name for frame in frames] and len(frames) == 4


# ---- what has changed ----------------------------------------------------------------------------


def edit_label(image: Path) -> None:
    label_path(image).write_text(OTHER_LABEL)


def edit_label_and_set_the_clock_back(image: Path) -> None:
    edit_label(image)
    os.utime(label_path(image), (0, 0))


def remove_label(image: Path) -> None:
    label_path(image).unlink()


def add_label(image: Path) -> None:
    label_path(image.with_name("d.png")).write_text(LABEL)


def turn_image(image: Path) -> None:
    """Another size in pixels, the same in bytes and the same time, in the same file."""
    was = image.stat()
    content = turned(image.read_bytes())
    image.write_bytes(content)
    assert len(content) == was.st_size
    os.utime(image, ns=(was.st_atime_ns, was.st_mtime_ns))


def replace_image(image: Path) -> None:
    """The same by another file."""
    was = image.stat()
    other = image.with_suffix(".new")
    other.write_bytes(turned(image.read_bytes()))
    os.utime(other, ns=(was.st_atime_ns, was.st_mtime_ns))
    other.replace(image)


def turned(content: bytes) -> bytes:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".bmp", pixels.transpose(1, 0, 2))[1].tobytes()


def add_image(image: Path) -> None:
    shutil.copy(image, image.with_name("0.png"))


def remove_image(image: Path) -> None:
    image.unlink()


@pytest.mark.parametrize(
    "change",
    [
        edit_label,
        edit_label_and_set_the_clock_back,
        remove_label,
        add_label,
        turn_image,
        replace_image,
        add_image,
        remove_image,
    ],
)
def test_what_has_changed_is_found(data: DataConfig, change: Callable, monkeypatch):
    image = data.root / "images/train/a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image.write_bytes(cv2.imencode(".bmp", pixels)[1].tobytes())  # of a size that pixels decide
    before = start(data)
    change(image)
    reads = Reads(monkeypatch)
    found = start(data)
    assert len(reads.labels) + len(reads.images) < 3
    expected = start(data, "off")
    assert_same(found, expected)
    with pytest.raises(AssertionError):
        assert_same(before, expected)


def test_an_image_that_rots_is_found_at_its_first_use(data: DataConfig, monkeypatch):
    start(data)
    rotten = start(data)
    monkeypatch.setattr(dataset_module, "read_bytes", lambda path: b"no image any more")
    with pytest.raises(UserError, match=r"a\.png: cannot be read as an image"):
        rotten.plain(0)


# ---- trust ---------------------------------------------------------------------------------------


def test_trust_looks_at_no_file(data: DataConfig, monkeypatch):
    start(data)
    looked = []

    def note(call: Callable) -> Callable:
        def noted(path: object, *args: object, **options: object) -> object:
            looked.append(os.fspath(path))
            return call(path, *args, **options)

        return noted

    for name in ("stat", "lstat", "scandir"):
        monkeypatch.setattr(os, name, note(getattr(os, name)))
    split = load_split(data, "train", index="trust")
    JointDataset(split, SIZE, "off")
    split.fingerprint()
    own = str(data.root)
    assert not [path for path in looked if path.startswith(own)]


@pytest.mark.parametrize("change", [edit_label, turn_image, replace_image, remove_image])
def test_trust_finds_a_change_at_the_first_use(data: DataConfig, change: Callable):
    start(data)
    image = data.root / "images/train/a.png"
    if change in (turn_image, replace_image):
        image.write_bytes(turned(image.read_bytes()))
        start(data)
    change(image)
    trusting = start(data, "trust")
    trusting.plain(1)
    with pytest.raises(UserError, match=r"a\.(png|txt): has changed since the frame index"):
        trusting.plain(0)


def test_trust_reads_what_the_index_does_not_know(data: DataConfig, monkeypatch):
    load_split(data, "train")  # without the images
    reads = Reads(monkeypatch)
    found = start(data, "trust")
    assert not reads.labels and len(reads.images) == 4
    assert_same(found, start(data, "off"))


# ---- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["auto", "trust"])
def test_bad_labels_have_their_messages_at_every_start(data: DataConfig, index: str):
    bad = data.root / "labels/train/c.txt"
    bad.write_text("9 0.5 0.5 0.1 0.1\n")
    messages = []
    for mode in ("off", "auto", index, index):
        with pytest.raises(UserError, match=r"c\.txt:1: found class 9") as error:
            load_split(data, "train", index=mode)
        messages.append(str(error.value))
    assert len(set(messages)) == 1
    assert len(load_split(data, "train", skip_bad_labels=True, index=index).images) == 3


@pytest.mark.parametrize("index", ["auto", "trust"])
def test_unreadable_images_are_named_at_every_start(data: DataConfig, index: str):
    for name, content in UNREADABLE.items():
        (data.root / "images/train" / name).write_bytes(content)
    messages = []
    for mode in ("off", "auto", index):
        with pytest.raises(UserError, match=f"{len(UNREADABLE)} images") as error:
            start(data, mode)
        messages.append(str(error.value))
    assert len(set(messages)) == 1


def test_warnings_are_the_same_at_the_second_start(data: DataConfig, caplog):
    (data.root / "labels/train/a.txt").write_text("0 0.9 0.5 0.6 0.5\n")  # cut off at the edge
    (data.root / "labels/train/c.txt").write_text("no label\n")
    os.symlink(data.root / "images/train/d.png", data.root / "images/train/e.png")
    caplog.set_level(logging.WARNING, logger="joint")
    texts = []
    for index in ("off", "auto", "auto", "trust"):
        caplog.clear()
        split = load_split(data, "train", skip_bad_labels=True, index=index)
        texts.append((caplog.text, quick_warnings(data, split, replace(split, name="val"))))
    for word in ("no label file", "bad labels", "cut off", "identical rows", "are listed 2 times"):
        assert word in texts[0][0]
    assert "the same image files" in texts[0][1]
    assert len(set(texts)) == 1


# ---- the file ------------------------------------------------------------------------------------


def index_file() -> Path:
    (path,) = (user_cache_folder() / "index").glob("*/frames")
    return path


def flip_a_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "garbage": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "a bit of a row": lambda path: flip_a_bit(path, 100),
    "the last bit": lambda path: flip_a_bit(path, -1),
    "text": lambda path: path.write_text("frames\n" * 100),
}


@pytest.mark.parametrize("index", ["auto", "trust"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_is_made_again(data: DataConfig, monkeypatch, damage: str, index: str):
    expected = start(data)
    DAMAGE[damage](index_file())
    reads = Reads(monkeypatch)
    assert_same(start(data, index), expected)
    assert len(reads.labels) == 3
    reads = Reads(monkeypatch)
    load_split(data, "train")
    assert not reads.labels


def test_the_index_of_another_split_is_not_taken(data: DataConfig, tmp_path: Path, monkeypatch):
    start(data)
    foreign = index_file().read_bytes()
    shutil.rmtree(user_cache_folder())
    more = replace(data, names=(*data.names, "one more"))  # under which labels mean something else
    load_split(more, "train")
    index_file().write_bytes(foreign)
    reads = Reads(monkeypatch)
    load_split(more, "train")
    assert len(reads.labels) == 3


def test_the_index_lies_outside_of_the_data_set(data: DataConfig):
    before = files_below(data.root)
    for index in ("auto", "auto", "rebuild", "trust"):
        start(data, index)
    assert files_below(data.root) == before
    assert user_cache_folder() in index_file().parents


def test_a_cache_folder_that_cannot_be_written_costs_one_line(
    tiny_data: Path, tmp_path: Path, monkeypatch, caplog
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    data = load_data_config(tiny_data)
    caplog.set_level(logging.WARNING, logger="joint")
    frame_index._say.cache_clear()
    found = load_splits(data, ("train", "val"))
    datasets = [JointDataset(split, SIZE, "off") for split in found]
    assert caplog.text.count("the frame index cannot be kept") == 1
    expected = load_splits(data, ("train", "val"), index="off")
    for dataset, split in zip(datasets, expected, strict=True):
        assert_same(dataset, JointDataset(split, SIZE, "off"))


def test_no_home_is_no_error(data: DataConfig, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert len(start(data)) == 4


# ---- several processes ---------------------------------------------------------------------------


def start_together(data: DataConfig, barrier: object, results: object) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        reads = Reads(monkeypatch)
        barrier.wait()
        found = start(data)
        sizes = found.original_sizes.tolist()
    results.put((found.split.fingerprint(), sizes, len(reads.labels), len(reads.images)))


def test_of_four_processes_on_a_cold_index_each_file_is_read_by_one(data: DataConfig):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    results = context.Queue()
    processes = [
        context.Process(target=start_together, args=(data, barrier, results)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    expected = start(data, "off")
    assert sum(labels for *_, labels, _ in found) == 3
    assert sum(images for *_, images in found) == 4
    for fingerprint, sizes, *_ in found:
        assert fingerprint == expected.split.fingerprint()
        assert sizes == expected.original_sizes.tolist()


def test_a_split_reaches_other_processes_whole(data: DataConfig):
    start(data)
    split = load_split(data, "train")  # of a mapped index
    receiver, sender = multiprocessing.Pipe(duplex=False)
    sender.send(split)
    again = receiver.recv()
    assert_same(JointDataset(again, SIZE, "off"), JointDataset(split, SIZE, "off"))
    assert again.file_numbers.tolist() == split.file_numbers.tolist()


def test_who_keeps_the_pixels_waits_for_nobody(data: DataConfig):
    load_split(data, "train")
    lock = index_file().with_name(LOCK_NAME)
    other = replace(Holder.this_process(), host="another machine")
    lock.write_text(json.dumps(to_mapping(other)))
    assert len(start(data, cache="ram")) == 4


# ---- which file an image is ----------------------------------------------------------------------


def test_links_to_one_image_have_its_number(tmp_path: Path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "1.png").touch()
    os.link(folder / "1.png", folder / "2.png")  # a name of its own: another file
    os.symlink(folder / "1.png", folder / "3.png")
    os.symlink(folder, tmp_path / "b")
    paths = [folder / "1.png", folder / "2.png", folder / "3.png", tmp_path / "b" / "1.png"]
    one, two, three, four = file_numbers(map(str, paths)).tolist()
    assert one == three == four != two
    split = Split("train", tuple(paths), (FrameLabels(),) * 4)
    assert split.file_numbers.tolist() == [one, two, three, four]
