"""A split's frames: letterboxed, cached or not, cut with --rect, and unreadable ones named."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from deep_images import encoded, noise
from small_files import LABEL, UNREADABLE, make_set, write_image

from utils.core.data_config import load_data_config
from utils.core.hyperparameters import HyperParameters
from utils.core.script import UserError
from utils.data.boxes import xywh_to_xyxy, xyxy_to_xywh
from utils.data.dataset import JointDataset
from utils.data.images import Letterbox, read_image
from utils.data.labels import FrameLabels
from utils.data.loader import make_loader
from utils.data.splits import Split, label_path, load_split


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


# ---- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["a b.png", "a+b=c (1).png", "\u5fc3\u81df \u8d85\u97f3\u6ce2.png", "P01_V1-3.F0017.png"],
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
    assert (
        cached.cached is (cache == "ram")
        and not uncached.cached
        and len(cached) == len(uncached) == 8
    )
    assert (cached.scaled_sizes == uncached.scaled_sizes).all() and (
        cached.original_sizes == uncached.original_sizes
    ).all()
    for one, other in zip(cached, uncached, strict=False):
        assert one[0] == other[0] and one[3:] == other[3:]
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])


@pytest.mark.parametrize(("free_bytes", "cached"), [(10**9, True), (0, False)])
def test_automatic_cache_asks_for_free_memory(
    tmp_path: Path, monkeypatch, free_bytes: int, cached: bool
):
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


# ---- images of 16 bits ---------------------------------------------------------------------------


def deep_split(
    folder: Path, *pixels: np.ndarray, suffix: str = ".png", bits: int | None = None
) -> Split:
    """A split of these images, (height, width) or (height, width, 3) RGB."""
    paths = [folder / f"{number}{suffix}" for number in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        path.write_bytes(encoded(suffix, image if image.ndim == 2 else image[..., ::-1]))
    return Split("train", tuple(paths), (FrameLabels(),) * len(paths), bits)


@pytest.mark.parametrize("cache", ["ram", "disk", "off"])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_images_and_their_upper_8_bits_are_the_same_frames(
    tmp_path: Path, bits: int, suffix: str, cache: str
):
    """Beside one of 8 bits, which stays as it is."""
    deep, colour, shallow = (
        noise(bits),
        noise(bits, 3, seed=1),
        noise(8, 3, seed=2).astype(np.uint8),
    )
    found = JointDataset(
        deep_split(tmp_path, deep, colour, shallow, suffix=suffix, bits=bits), 64, cache
    )
    (tmp_path / "8").mkdir()
    upper = [(image >> (bits - 8)).astype(np.uint8) for image in (deep, colour)]
    expected = JointDataset(deep_split(tmp_path / "8", *upper, shallow), 64, "off")
    assert found.bits == bits and expected.bits is None
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("cache", ["ram", "disk", "off"])
@pytest.mark.parametrize("largest", [0, 1, 255, 256, 1023, 4095])
def test_a_split_that_fits_12_bits_has_to_say_so(tmp_path: Path, largest: int, cache: str):
    """And is read once it does, though its frames may be cached."""
    images = [np.full((8, 9), value, np.uint16) for value in (0, largest)]
    split = deep_split(tmp_path, *images, noise(8).astype(np.uint8))
    for _ in range(2):
        expected = (
            rf"^train: the largest value of its 2 images of 16 bits is {largest}, .*'bits: 12'"
        )
        with pytest.raises(UserError, match=expected) as error:
            JointDataset(split, 64, cache)
        assert "\n" not in str(error.value)
    told = JointDataset(replace(split, bits=12), 64, cache)
    assert told[1][1][32, 32].tolist() == [largest >> 4] * 3


@pytest.mark.parametrize("largest", [4096, 16383, 65535])
def test_a_split_that_needs_more_than_12_bits_has_16(tmp_path: Path, largest: int):
    """And its dark frames are read as its bright ones."""
    dataset = JointDataset(
        deep_split(tmp_path, *(np.full((8, 8), v, np.uint16) for v in (256, largest))), 64
    )
    assert dataset.bits == 16
    assert [dataset[index][1][0, 0, 0] for index in range(2)] == [1, largest >> 8]


def test_values_beyond_the_bits_that_were_said_are_named(tmp_path: Path):
    split = deep_split(tmp_path, noise(12), noise(13), bits=12)
    with pytest.raises(
        UserError, match=r"1 images cannot be read:\n  .*1\.png: holds the value 8191.*'bits: 12'"
    ):
        JointDataset(split, 64)


def test_the_bits_that_a_data_set_names_are_obeyed(tmp_path: Path):
    data = make_set(tmp_path, {"a.png": LABEL})
    (tmp_path / "images/train/a.png").write_bytes(encoded(".png", np.full((8, 8), 800, np.uint16)))
    frame = JointDataset(load_split(replace(data, bits=10), "train"), 64)[0][1]
    assert (frame == 200).all()


# ---- images that change while they are used ------------------------------------------------------


@pytest.mark.parametrize("rect", [False, True])
@pytest.mark.parametrize("cache", ["disk", "off"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (32, 24), (24, 33), (23, 32)])
def test_an_image_of_another_size_does_not_keep_its_boxes(
    tmp_path: Path, height: int, width: int, cache: str, rect: bool
):
    dataset = JointDataset(
        load_split(make_set(tmp_path, {"a.png": LABEL}), "train"), 64, cache, rect
    )
    image = tmp_path / "images/train/a.png"
    dataset.augment(HyperParameters(fliplr=0.5), seed=0)
    before = [dataset[key][1] for key in (0, (1, 0))]
    write_image(image, height, width)
    expected = re.escape(f"{image}: {width}x{height} pixels, expected 32x24 as at the start")
    for key in (0, (1, 0)):
        with pytest.raises(UserError, match=expected):
            dataset[key]
        assert isinstance(dataset.__getitems__([key]), UserError)
    write_image(image)  # put back
    for key, frame in zip((0, (1, 0)), before, strict=True):
        np.testing.assert_array_equal(dataset[key][1], frame)


# ---- links and folders ---------------------------------------------------------------------------


def test_links_to_nowhere_are_named(tiny_data: Path, tmp_path: Path):
    shutil.copytree(tiny_data.parent, tmp_path / "set")
    config = load_data_config(tmp_path / "set/data.yaml")
    image, other, *_ = load_split(config, "train").images
    image.unlink()
    image.symlink_to("gone.png")
    with pytest.raises(
        UserError, match=rf"{re.escape(str(image))}: cannot be read as an image: No such file"
    ):
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
    with pytest.raises(
        UserError, match=rf"{re.escape(str(folder))}: cannot be read as an image: it is a folder"
    ):
        JointDataset(load_split(load_data_config(tmp_path / "set/data.yaml"), "train"), 64)


# ---- --rect --------------------------------------------------------------------------------------


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
        restored = xyxy_to_xywh(
            torch.from_numpy(rect.letterbox(index).to_original(corners, *size))
        ).numpy()
        np.testing.assert_allclose(
            restored / np.tile(size[::-1], 2), labels.boxes[:, 1:], atol=1e-5
        )


@pytest.mark.parametrize(
    ("height", "width", "sides"),
    [(320, 430, (256, 320)), (556, 800, (224, 320)), (90, 30, (320, 128))],
)
def test_rect_sides_are_the_next_multiples_of_32(monkeypatch, height, width, sides):
    dataset = JointDataset.__new__(JointDataset)
    dataset.image_size = 320
    rows, columns = dataset._common_margins([Letterbox.fit(height, width, 320)] * 2)
    assert (320 - 2 * rows, 320 - 2 * columns) == sides
