"""A split's frames: letterboxed, cached or not, cut with --rect, and unreadable ones named."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_files import LABEL, UNREADABLE, make_set

from utils.core.data_config import load_data_config
from utils.core.script import UserError
from utils.data.boxes import xywh_to_xyxy, xyxy_to_xywh
from utils.data.dataset import JointDataset
from utils.data.images import Letterbox, read_image
from utils.data.loader import make_loader
from utils.data.splits import label_path, load_split


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


# ---- samples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a b.png", "a+b=c (1).png", "\u5fc3\u81df \u8d85\u97f3\u6ce2.png", "P01_V1-3.F0017.png"]
)
@pytest.mark.parametrize("cache", ["ram", "disk", "off"])
def test_names_with_unusual_characters(tmp_path: Path, name: str, cache: str):
    data = make_set(tmp_path / "\u8cc7\u6599 +1", {name: LABEL})
    _, image, boxes, view, path = JointDataset(load_split(data, "train"), 64, cache)[0]
    assert Path(path).name == name and (len(boxes), view) == (1, 1)
    assert image.std() > 20  # noise, not an empty frame


@pytest.mark.parametrize("cache", ["ram", "disk", "off", "auto"])
def test_unreadable_images_are_found_before_training_and_all_named(tmp_path: Path, cache: str):
    data = make_set(tmp_path, {"a.png": LABEL, **dict.fromkeys(UNREADABLE, LABEL)})
    for name, content in UNREADABLE.items():
        (tmp_path / "images/train" / name).write_bytes(content)
    split = load_split(data, "train")
    with pytest.raises(UserError) as error:
        JointDataset(split, 64, cache)
    assert f"{len(UNREADABLE)} images" in str(error.value) and "a.png" not in str(error.value)
    assert all(name in str(error.value) for name in UNREADABLE)


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_samples_are_the_same_with_and_without_the_cache(tiny_data: Path, cache: str):
    split = load_split(load_data_config(tiny_data), "val")
    cached, uncached = JointDataset(split, 96, cache), JointDataset(split, 96, "off")
    assert cached.cached is (cache == "ram") and not uncached.cached and len(cached) == len(uncached) == 8
    assert cached.letterboxes == uncached.letterboxes and cached.original_sizes == uncached.original_sizes
    for one, other in zip(cached, uncached, strict=False):
        assert one[0] == other[0] and one[3:] == other[3:]
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])


@pytest.mark.parametrize(("free_bytes", "cached"), [(10**9, True), (0, False)])
def test_automatic_cache_asks_for_free_memory(tmp_path: Path, monkeypatch, free_bytes: int, cached: bool):
    monkeypatch.setattr("utils.data.dataset.free_memory_bytes", lambda: free_bytes)
    split = load_split(make_set(tmp_path, {"a.png": LABEL}), "train")
    assert JointDataset(split, 64, "auto").cached is cached


def test_sample_is_the_letterboxed_frame_with_its_labels(tmp_path: Path):
    split = load_split(make_set(tmp_path, {"a.png": LABEL}), "train")  # 24 high, 32 wide
    index, image, boxes, view, path = JointDataset(split, 64)[0]
    assert (index, view, path) == (0, 1, str(tmp_path / "images/train/a.png"))
    np.testing.assert_array_equal(image, Letterbox.fit(24, 32, 64).apply(read_image(Path(path))))
    np.testing.assert_allclose(boxes, [[1, 0.5, 0.5, 0.25, 0.375]])


def test_nothing_is_written_into_the_data_set(tmp_path: Path):
    data = make_set(tmp_path, {"a.png": LABEL, "b.png": None, "c.png": "x"})

    def state() -> dict:
        return {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}

    before = state()
    for cache in ("ram", "disk", "off"):
        split = load_split(data, "train", skip_bad_labels=True)
        split.fingerprint()
        assert len(list(make_loader(JointDataset(split, 64, cache), 1, 0, pin_memory=False))) == 2
    assert state() == before


# ---- links and folders -------------------------------------------------------------------------------------


def test_links_to_nowhere_are_named(tiny_data: Path, tmp_path: Path):
    shutil.copytree(tiny_data.parent, tmp_path / "set")
    config = load_data_config(tmp_path / "set/data.yaml")
    image, other, *_ = load_split(config, "train").images
    image.unlink()
    image.symlink_to("gone.png")
    with pytest.raises(UserError, match=rf"{re.escape(str(image))}: cannot be read as an image: No such file"):
        JointDataset(load_split(config, "train"), 64)
    label = label_path(other)
    label.unlink()
    label.symlink_to("gone.txt")
    with pytest.raises(UserError, match=rf"{re.escape(str(label))}: cannot be read: No such file"):
        load_split(config, "train")


def test_a_folder_named_like_an_image_is_named(tiny_data: Path, tmp_path: Path):
    shutil.copytree(tiny_data.parent, tmp_path / "set")
    folder = tmp_path / "set/frames/images/train/P99_A4C-1_F0001.jpg"
    folder.mkdir()
    with pytest.raises(UserError, match=rf"{re.escape(str(folder))}: cannot be read as an image: Is a directory"):
        JointDataset(load_split(load_data_config(tmp_path / "set/data.yaml"), "train"), 64)


# ---- --rect ------------------------------------------------------------------------------------------------


@pytest.fixture
def split(tiny_data: Path):
    return load_split(load_data_config(tiny_data), "train")


@pytest.mark.parametrize("cache", ["ram", "off"])
def test_rect_cuts_nothing_but_border(split, cache):
    square, rect = JointDataset(split, 128, cache), JointDataset(split, 128, cache, rect=True)
    (height, width), (rows, columns) = rect.shape, rect.margins
    assert (rows, columns) != (0, 0) and height % 32 == width % 32 == 0
    for index, labels in enumerate(split.labels):
        (frame, boxes), (cut, moved) = square.plain(index), rect.plain(index)
        assert cut.shape == (height, width, 3)
        assert (cut == frame[rows : 128 - rows, columns : 128 - columns]).all()
        border = np.delete(frame, np.s_[rows : 128 - rows], axis=0)
        assert (border == 114).all()
        in_square, in_cut = boxes[:, 1:] * 128, moved[:, 1:] * (width, height, width, height)
        np.testing.assert_allclose(in_square - (columns, rows, 0, 0), in_cut, atol=1e-3)
        size = rect.original_sizes[index]
        corners = xywh_to_xyxy(torch.from_numpy(in_cut)).numpy()
        restored = xyxy_to_xywh(torch.from_numpy(rect.letterboxes[index].restore(corners, *size))).numpy()
        np.testing.assert_allclose(restored / np.tile(size[::-1], 2), labels.boxes[:, 1:], atol=1e-5)


@pytest.mark.parametrize(
    ("height", "width", "sides"), [(320, 430, (256, 320)), (556, 800, (224, 320)), (90, 30, (320, 128))]
)
def test_rect_sides_are_the_next_multiples_of_32(monkeypatch, height, width, sides):
    dataset = JointDataset.__new__(JointDataset)
    dataset.image_size, dataset.letterboxes = 320, (Letterbox.fit(height, width, 320),) * 2
    rows, columns = dataset._common_margins()
    assert (320 - 2 * rows, 320 - 2 * columns) == sides
