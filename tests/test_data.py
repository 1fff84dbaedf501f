"""Finding frames, reading a split, letterboxing, samples, batches and their order."""

import logging
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from utils import dataloaders
from utils.config import DataConfig, load_data_config
from utils.dataloaders import (
    EpochSampler,
    JointDataset,
    Letterbox,
    collate,
    find_images,
    label_path,
    load_split,
    make_loader,
    read_image,
)
from utils.general import UserError

SOURCE = Path("data.yaml")
LABEL = "1 0.5 0.5 0.25 0.5\n0 1 0\n"


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def write_image(path: Path, height: int = 24, width: int = 32, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cv2.imencode(".png", pixels)[1].tofile(path)
    return path


def make_set(folder: Path, labels: dict[str, str | None]) -> DataConfig:
    """A data set with one split: image name -> text of its label file, None for no such file."""
    for number, (name, text) in enumerate(labels.items()):
        image = write_image(folder / "images/train" / name, 24 + number, 32, number)
        if text is not None:
            path = folder / "labels/train" / f"{image.stem}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return DataConfig(
        source=folder / "data.yaml",
        root=folder,
        splits={"train": (folder / "images/train",)},
        names=("AR", "MR", "PR", "TR"),
        view_names=("A4C", "PSAX", "PLAX"),
    )


# ---- finding images and labels -----------------------------------------------------------------------------


def test_folders_are_searched_to_any_depth_in_a_fixed_order(tmp_path: Path):
    names = ["b.png", "a.JPG", "deep/er/c.jpeg", "d.webp", "e.tif", "f.bmp"]
    for name in [*names, "notes.txt", "a.txt", "video.mp4"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_images([tmp_path], "train", SOURCE) == sorted(tmp_path / name for name in names)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_is_relative_to_itself_and_keeps_its_order(tmp_path: Path, encoding: str, end: str):
    images = [write_image(tmp_path / "set/images" / name) for name in ("b.png", "a 1.png", "\u5fc3.png")]
    elsewhere = write_image(tmp_path / "elsewhere/images/c.png")
    lines = ["../set/images/b.png", "", "./../set/images/a 1.png", "../set/images/\u5fc3.png", str(elsewhere)]
    listing = tmp_path / "lists/train.txt"
    listing.parent.mkdir()
    listing.write_bytes(end.join(lines).encode(encoding))
    found = find_images([listing], "train", SOURCE)
    assert [path.resolve() for path in found] == [*images, elsewhere]


def test_entries_are_joined(tmp_path: Path):
    images = [write_image(tmp_path / name / "x.png") for name in ("b", "a")]
    assert find_images([tmp_path / "b", tmp_path / "a"], "train", SOURCE) == images


@pytest.mark.parametrize(
    ("entry", "culprit"),
    [
        pytest.param("missing", "missing", id="missing folder"),
        pytest.param("missing.txt", "missing.txt", id="missing list"),
        pytest.param("empty", "empty", id="empty folder"),
        pytest.param("empty.txt", "empty.txt", id="empty list"),
        pytest.param("gone.txt", "gone.png", id="list of a missing image"),
        pytest.param("binary.txt", "binary.txt", id="list that is not text"),
        pytest.param("a.png", "a.png", id="an image"),
    ],
)
def test_no_images_is_an_error_that_names_the_place(tmp_path: Path, entry: str, culprit: str):
    write_image(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "gone.txt").write_text("a.png\ngone.png\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00a\x00")
    with pytest.raises(UserError, match=re.escape(culprit)):
        find_images([tmp_path / entry], "train", SOURCE)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("set/train/images/a.jpg", "set/train/labels/a.txt"),
        ("set/images/train/a.b.jpg", "set/labels/train/a.b.txt"),
        ("images/set/images/deep/a.PNG", "images/set/labels/deep/a.txt"),
        ("images_2/images.jpg", "images_2/images.txt"),
        ("/images/a b/images/images", "/images/a b/labels/images.txt"),
        ("a.jpg", "a.txt"),
    ],
)
def test_label_lies_where_the_last_folder_images_is_labels(image: str, label: str):
    assert label_path(Path(image)) == Path(label)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/set/train/images/a.b.jpg", "/mended/train/images/a.b.txt"),
        ("/set/a.jpg", "/mended/a.txt"),
        ("/out/../set/images/a.jpg", "/mended/images/a.txt"),
    ],
)
def test_with_the_key_labels_that_folder_mirrors_the_data_sets(image: str, label: str):
    data = DataConfig(SOURCE, Path("/set"), {}, ("AR",), labels=Path("/mended"))
    assert label_path(Path(image), data) == Path(label)
    convention = label_path(Path(image))
    assert label_path(Path(image), replace(data, labels=None)) == convention != Path(label)
    with pytest.raises(UserError, match=r"data\.yaml: with 'labels'.*/set.*/sets/a\.jpg"):
        label_path(Path("/sets/a.jpg"), data)


# ---- a split -----------------------------------------------------------------------------------------------


def test_labels_stand_beside_their_images(tmp_path: Path):
    data = make_set(tmp_path, {"b.png": LABEL, "a.png": "[0, 0, 1]"})
    split = load_split(data, "train")
    assert [path.name for path in split.images] == ["a.png", "b.png"]
    assert [frame.boxes.tolist() for frame in split.labels] == [[], [[1, 0.5, 0.5, 0.25, 0.5]]]
    assert [frame.view for frame in split.labels] == [2, 1]


def test_the_key_labels_replaces_the_labels_beside_the_images(tmp_path: Path):
    data = make_set(tmp_path, {"a.png": LABEL, "b.png": "9"})
    mended = tmp_path / "mended/images/train"
    mended.mkdir(parents=True)
    (mended / "a.txt").write_text("0 0 1")
    (mended / "b.txt").write_text("1 0 0")
    split = load_split(replace(data, labels=tmp_path / "mended"), "train")
    assert [(len(frame.boxes), frame.view) for frame in split.labels] == [(0, 2), (0, 0)]
    with pytest.raises(UserError, match=r"none of 2 images.*gone.images.train.a\.txt"):
        load_split(replace(data, labels=tmp_path / "gone"), "train")


def test_missing_label_files_are_background_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    split = load_split(make_set(tmp_path, {"a.png": None, "b.png": LABEL, "c.png": None}), "train")
    assert [(len(frame.boxes), frame.view) for frame in split.labels] == [(0, -1), (1, 1), (0, -1)]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "2 of 3" in record.message


def test_no_label_file_at_all_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match=r"train: none of 2 images has a label file.*labels"):
        load_split(make_set(tmp_path, {"a.png": None, "b.png": None}), "train")


@pytest.mark.parametrize("count", [2, 25])
def test_every_bad_label_file_is_named_at_once(tmp_path: Path, count: int):
    bad = {f"bad{number:02}.png": "9 0.5 0.5 0.1 0.1" for number in range(count)}
    with pytest.raises(UserError) as error:
        load_split(make_set(tmp_path, {"good.png": LABEL, **bad}), "train")
    message = str(error.value)
    assert f"{count} bad label files" in message and "--skip-bad-labels" in message
    assert sorted(re.findall(r"bad\d\d(?=\.txt:1: found class 9)", message)) == [Path(name).stem for name in bad]
    assert "good" not in message


def test_bad_label_files_can_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    data = make_set(tmp_path, {"a.png": "1 1 0", "b.png": LABEL, "c.png": "x", "d.png": LABEL})
    split = load_split(data, "train", skip_bad_labels=True)
    assert [path.name for path in split.images] == ["b.png", "d.png"] and len(split.labels) == 2
    (record,) = caplog.records
    assert "2 frames" in record.message and "a.txt:1" in record.message and "c.txt:1" in record.message


def test_leaving_out_everything_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match=r"a\.txt:1"):
        load_split(make_set(tmp_path, {"a.png": "1 1 0"}), "train", skip_bad_labels=True)


def test_a_folder_named_like_a_label_file_is_an_error(tmp_path: Path):
    data = make_set(tmp_path, {"a.png": None, "b.png": LABEL})
    (tmp_path / "labels/train/a.txt").mkdir()
    with pytest.raises(UserError, match=r"a\.txt: cannot be read"):
        load_split(data, "train")


def test_an_unknown_split_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match=r"data\.yaml: no split 'test'"):
        load_split(make_set(tmp_path, {"a.png": LABEL}), "test")


@pytest.mark.parametrize(
    "name", ["a b.png", "a+b=c (1).png", "\u5fc3\u81df \u8d85\u97f3\u6ce2.png", "P01_V1-3.F0017.png"]
)
@pytest.mark.parametrize("cache", ["ram", "disk", "off"])
def test_names_with_unusual_characters(tmp_path: Path, name: str, cache: str):
    data = make_set(tmp_path / "\u8cc7\u6599 +1", {name: LABEL})
    _, image, boxes, view, path = JointDataset(load_split(data, "train"), 64, cache)[0]
    assert Path(path).name == name and (len(boxes), view) == (1, 1)
    assert image.std() > 20  # noise, not an empty frame


def test_data_are_generated_where_they_do_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []

    def generate(folder: Path) -> None:
        calls.append(folder)
        make_set(folder, {"a.png": LABEL})

    monkeypatch.setitem(dataloaders.GENERATORS, "stub", generate)
    root = tmp_path / "set"
    data = DataConfig(SOURCE, root, {"train": (root / "images",)}, ("a", "b"), ("A", "B", "C"), generate="stub")
    for _ in range(2):
        assert len(load_split(data, "train").images) == 1
    assert calls == [root]
    with pytest.raises(UserError, match=r"generate is 'no'.*echo_phantom"):
        load_split(replace(data, root=tmp_path / "other", generate="no"), "train")


# ---- fingerprint -------------------------------------------------------------------------------------------


def fingerprint(folder: Path) -> str:
    return load_split(
        replace(make_set(folder / "none", {}), splits={"train": (folder / "images",)}), "train"
    ).fingerprint()


def rename_last(folder: Path) -> None:
    """The order stays; the label file goes along."""
    for name in ("images/train/c.png", "labels/train/c.txt"):
        (folder / name).rename((folder / name).with_stem("d"))


@pytest.fixture
def three_frames(tmp_path: Path) -> Path:
    make_set(tmp_path / "set", {"a.png": LABEL, "b.png": LABEL, "c.png": "0 1 0"})
    return tmp_path / "set"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: (f / "labels/train/a.txt").write_text(LABEL.replace("0.25", "0.26")), id="a box"),
        pytest.param(lambda f: (f / "labels/train/a.txt").write_text(LABEL.replace("1 0.5", "2 0.5")), id="a class"),
        pytest.param(lambda f: (f / "labels/train/a.txt").write_text(LABEL.replace("0 1 0", "1 0 0")), id="a view"),
        pytest.param(lambda f: (f / "labels/train/a.txt").unlink(), id="a label file is gone"),
        pytest.param(lambda f: (f / "images/train/a.png").unlink(), id="an image is gone"),
        pytest.param(rename_last, id="an image is renamed"),
        pytest.param(lambda f: write_image(f / "images/train/a.png", 40, 40), id="an image is another"),
    ],
)  # fmt: skip
def test_fingerprint_changes_with_the_data(three_frames: Path, change):
    before = fingerprint(three_frames)
    change(three_frames)
    assert fingerprint(three_frames) != before


def test_fingerprint_does_not_depend_on_place_or_form(three_frames: Path, tmp_path: Path):
    before = fingerprint(three_frames)
    shutil.copytree(three_frames, tmp_path / "moved")
    (tmp_path / "moved/labels/train/a.txt").write_text("\n1  0.50 0.5 0.25 0.5\r\n[0, 1, 0]\n")
    assert fingerprint(tmp_path / "moved") == before


# ---- letterbox ---------------------------------------------------------------------------------------------


def check_letterbox(case: np.ndarray) -> None:
    """height, width, new height, new width, ratio, half of the padding left + right and top + bottom."""
    height, width, new_height, new_width, ratio, half_x, half_y = case
    letterbox = Letterbox.fit(int(height), int(width), 320)
    assert letterbox.apply(np.zeros((int(height), int(width), 3), np.uint8)).shape == (new_height, new_width, 3)
    assert letterbox.ratio == pytest.approx(ratio, rel=1e-12)
    assert (letterbox.pad_left + letterbox.pad_right) / 2 == half_x
    assert (letterbox.pad_top + letterbox.pad_bottom) / 2 == half_y


@pytest.mark.parametrize("number", range(3))
def test_letterbox_as_the_public_yolov5(golden: dict, number: int):
    check_letterbox(golden[f"letterbox_{number}"])


@pytest.mark.parametrize(
    "case",
    [
        (320, 430, 320, 320, 320 / 430, 0, 41),
        (495, 700, 320, 320, 320 / 700, 0, 47),
        (600, 200, 320, 320, 320 / 600, 106.5, 0),
    ],
)
def test_letterbox_as_the_public_yolov5_from_copied_figures(case: tuple):
    check_letterbox(case)


def test_the_smaller_half_of_an_odd_padding_is_left_and_above():
    assert Letterbox.fit(600, 200, 320).pad_left == 106 and Letterbox.fit(600, 200, 320).pad_right == 107
    assert Letterbox.fit(200, 600, 320).pad_top == 106 and Letterbox.fit(200, 600, 320).pad_bottom == 107


@pytest.mark.parametrize(("height", "width"), [(48, 96), (96, 48), (64, 64), (33, 97), (1, 64), (1, 999), (999, 1)])
def test_letterboxed_frames_are_square_with_grey_borders(height: int, width: int):
    letterbox = Letterbox.fit(height, width, 64)
    frame = letterbox.apply(np.full((height, width, 3), 255, np.uint8))
    assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8
    rows, columns = (frame != 114).all(axis=2).nonzero()
    assert rows.min() == letterbox.pad_top and rows.max() == 63 - letterbox.pad_bottom
    assert columns.min() == letterbox.pad_left and columns.max() == 63 - letterbox.pad_right
    assert (
        frame[letterbox.pad_top : 64 - letterbox.pad_bottom, letterbox.pad_left : 64 - letterbox.pad_right] == 255
    ).all()


SIZES = [(320, 430), (495, 700), (600, 200), (240, 320), (64, 64), (31, 77)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_letterboxed_boxes_lie_on_what_they_mark(height: int, width: int):
    image = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = width // 8, height // 4, width // 2, height * 7 // 8
    image[top:bottom, left:right] = 255
    letterbox = Letterbox.fit(height, width, 320)
    rows, columns = (letterbox.apply(image)[..., 0] > 180).nonzero()
    box = np.array(
        [[(left + right) / width, (top + bottom) / height, 2 * (right - left) / width, 2 * (bottom - top) / height]]
    )
    xc, yc, w, h = letterbox.boxes(box / 2)[0] * 320
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(
        [xc - w / 2, yc - h / 2, xc + w / 2, yc + h / 2], seen, atol=1.01 * max(1, letterbox.ratio / 2)
    )


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_letterboxed_boxes_map_back(height: int, width: int):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.random((50, 2, 2)), axis=1)
    low, high = corners[:, 0], corners[:, 1]
    letterbox = Letterbox.fit(height, width, 320)
    boxes = letterbox.boxes(np.hstack([(low + high) / 2, high - low])) * 320
    boxes_xyxy = np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])
    expected = np.hstack([low, high]) * [width, height, width, height]
    np.testing.assert_allclose(letterbox.restore(boxes_xyxy, height, width), expected, atol=1e-9)


def test_restored_boxes_are_clipped_to_the_image():
    letterbox = Letterbox.fit(320, 430, 320)
    found = letterbox.restore(np.array([[-5.0, 41, 400, 320]]), 320, 430)
    np.testing.assert_allclose(found, [[0, 0, 430, 320]])


# ---- images and samples ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(np.full((6, 8), 200, np.uint8), id="grey"),
        pytest.param(np.full((6, 8), 200 * 257, np.uint16), id="16-bit"),
        pytest.param(np.full((6, 8, 4), 200, np.uint8), id="alpha"),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, pixels: np.ndarray):
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    image = read_image(tmp_path / "a.png")
    assert image.shape == (6, 8, 3) and image.dtype == np.uint8 and (image == 200).all()


def test_channels_are_red_green_blue(tmp_path: Path):
    blue_green_red = np.full((6, 8, 3), (10, 20, 30), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), blue_green_red)
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [30, 20, 10]


NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
UNREADABLE = {
    "empty.png": b"",
    "half.png": cv2.imencode(".png", NOISE)[1].tobytes()[:2000],
    "half.jpg": cv2.imencode(".jpg", NOISE)[1].tobytes()[:2000],
    "text.jpg": b"no image, only words",
    "header.png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_image_is_named(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(UNREADABLE[name])
    with pytest.raises(UserError, match=re.escape(str(tmp_path / name))):
        read_image(tmp_path / name)


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
    monkeypatch.setattr(dataloaders, "free_memory_bytes", lambda: free_bytes)
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


# ---- batches and their order -------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> JointDataset:
    """Two boxes and a view; no box and a view; one box and no view."""
    texts = [LABEL.replace("\n", "\n0 0.25 0.5 0.1 0.2\n", 1), "1 0 0", "3 0.5 0.5 0.5 0.5"]
    data = make_set(tmp_path, {f"{number}.png": text for number, text in enumerate(texts)})
    return JointDataset(load_split(data, "train"), 64)


def test_batch(mixed: JointDataset):
    batch = collate([mixed[2], mixed[1], mixed[0]])
    assert batch["images"].shape == (3, 3, 64, 64) and batch["images"].dtype == torch.uint8
    np.testing.assert_array_equal(batch["images"][2].permute(1, 2, 0), mixed[0][1])
    assert batch["boxes"].dtype == torch.float32
    assert batch["boxes"][:, :2].tolist() == [[0, 3], [2, 1], [2, 0]]  # image, class
    np.testing.assert_array_equal(batch["boxes"][:, 2:], np.vstack([mixed[2][2], mixed[0][2]])[:, 1:])
    assert batch["views"].dtype == torch.int64 and batch["views"].tolist() == [-1, 0, 1]
    assert batch["indices"].tolist() == [2, 1, 0]
    assert [Path(path).name for path in batch["paths"]] == ["2.png", "1.png", "0.png"]


def test_batch_without_boxes(mixed: JointDataset):
    batch = collate([mixed[1]])
    assert batch["boxes"].shape == (0, 6) and batch["boxes"].dtype == torch.float32


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_gives_every_frame_once_in_the_samplers_order(mixed: JointDataset, workers: int):
    mixed = mixed if workers == 0 else JointDataset(mixed.split, 64, "off")
    sampler = EpochSampler(3, seed=5)
    batches = list(make_loader(mixed, 2, workers, False, sampler))
    assert [len(batch["paths"]) for batch in batches] == [2, 1]
    assert torch.cat([batch["indices"] for batch in batches]).tolist() == list(sampler)


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(100, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    orders = {(seed, epoch): order(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert all(sorted(numbers) == list(range(100)) for numbers in orders.values())
    assert len(set(map(tuple, orders.values()))) == 9
    torch.manual_seed(99)
    random.seed(99)
    torch.rand(7)
    before = torch.get_rng_state()
    assert order(1, 2) == orders[1, 2]
    assert torch.equal(torch.get_rng_state(), before)
    assert len(EpochSampler(100, 0)) == 100


def test_an_interrupted_epoch_is_the_same_again():
    sampler = EpochSampler(50, 0)
    sampler.set_epoch(3)
    half = iter(sampler)
    started = [next(half) for _ in range(25)]
    assert list(sampler)[:25] == started
