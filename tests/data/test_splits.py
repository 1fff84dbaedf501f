"""Finding a split's frames and labels, and the fingerprint of both."""

import logging
import re
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from small_files import LABEL, SOURCE, make_set, write_image

from utils.core.data_config import DataConfig, load_data_config
from utils.core.script import UserError
from utils.data.splits import (
    GENERATORS,
    find_images,
    label_path,
    load_split,
    load_splits,
    shared_labels,
)

# ---- finding images and labels -------------------------------------------------------------------


def test_folders_are_searched_to_any_depth_in_a_fixed_order(tmp_path: Path):
    names = ["b.png", "a.JPG", "deep/er/c.jpeg", "d.webp", "e.tif", "f.bmp"]
    for name in [*names, "notes.txt", "a.txt", "video.mp4"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_images([tmp_path], "train", SOURCE) == sorted(tmp_path / name for name in names)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_is_relative_to_itself_and_keeps_its_order(tmp_path: Path, encoding: str, end: str):
    images = [
        write_image(tmp_path / "set/images" / name) for name in ("b.png", "a 1.png", "\u5fc3.png")
    ]
    elsewhere = write_image(tmp_path / "elsewhere/images/c.png")
    lines = [
        "../set/images/b.png",
        "",
        "./../set/images/a 1.png",
        "../set/images/\u5fc3.png",
        str(elsewhere),
    ]
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


# ---- a split -------------------------------------------------------------------------------------


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


def test_missing_label_files_are_background_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
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
    assert sorted(re.findall(r"bad\d\d(?=\.txt:1: found class 9)", message)) == [
        Path(name).stem for name in bad
    ]
    assert "good" not in message


def test_bad_label_files_can_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    data = make_set(tmp_path, {"a.png": "1 1 0", "b.png": LABEL, "c.png": "x", "d.png": LABEL})
    split = load_split(data, "train", skip_bad_labels=True)
    assert [path.name for path in split.images] == ["b.png", "d.png"] and len(split.labels) == 2
    (record,) = caplog.records
    assert (
        "2 frames" in record.message and "a.txt:1" in record.message and "c.txt:1" in record.message
    )


def test_leaving_out_everything_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match=r"a\.txt:1"):
        load_split(make_set(tmp_path, {"a.png": "1 1 0"}), "train", skip_bad_labels=True)


def test_a_folder_named_like_a_label_file_is_an_error(tmp_path: Path):
    data = make_set(tmp_path, {"a.png": None, "b.png": LABEL})
    (tmp_path / "labels/train/a.txt").mkdir()
    with pytest.raises(UserError, match=r"a\.txt: cannot be read"):
        load_split(data, "train")


# ---- one label file, one image -------------------------------------------------------------------

PAIRS = [
    ("a.png", "a.jpg"),
    ("a.png", "a.PNG"),
    ("a.b.tif", "a.b.tiff"),
    ("\u5fc3.png", "\u5fc3.bmp"),
    ("deep/er/a.png", "deep/er/a.jpeg"),
]


def make_twins(folder: Path, first: str, second: str) -> tuple[DataConfig, Path]:
    """A set with two images of one label file, and a third; and that label file."""
    data = make_set(folder, dict.fromkeys((first, second, "good.png")))
    label = label_path(folder / "images/train" / first)
    for path in (label, folder / "labels/train/good.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(LABEL)
    return data, label


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_images_that_share_a_label_file_are_an_error(tmp_path: Path, first: str, second: str):
    data, label = make_twins(tmp_path, first, second)
    with pytest.raises(UserError, match=r"train: 1 bad label files") as error:
        load_split(data, "train")
    (line,) = str(error.value).split("\n")[1:]
    assert (
        str(label) in line and first in line and second in line and "good" not in str(error.value)
    )


def test_the_key_labels_can_make_images_share_a_label_file(tmp_path: Path):
    data = make_set(tmp_path, {"a.png": LABEL, "a.jpg": None, "b.png": None, "b.webp": None})
    mended = tmp_path / "mended/images/train"
    mended.mkdir(parents=True)
    for name in ("a.txt", "b.txt"):
        (mended / name).write_text(LABEL)
    with pytest.raises(UserError, match=r"2 bad label files") as error:
        load_split(replace(data, labels=tmp_path / "mended"), "train")
    assert all(str(mended / name) in str(error.value) for name in ("a.txt", "b.txt"))


def test_an_image_in_the_folder_of_labels_shares_them(tmp_path: Path):
    data = make_set(tmp_path, {"a.png": LABEL})
    write_image(tmp_path / "labels/train/a.png")
    both = {"train": (tmp_path / "images/train", tmp_path / "labels/train")}
    with pytest.raises(
        UserError,
        match=r"labels.train.a\.txt: belongs to .*images.train.a\.png and .*labels.train.a\.png",
    ):
        load_split(replace(data, splits=both), "train")


def test_images_that_share_a_label_file_can_be_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    data, label = make_twins(tmp_path, "a.png", "a.jpg")
    split = load_split(data, "train", skip_bad_labels=True)
    assert [path.name for path in split.images] == ["good.png"]
    (record,) = caplog.records
    assert "2 frames" in record.message and str(label) in record.message


def test_images_of_two_splits_that_share_a_label_file_are_an_error(tmp_path: Path):
    data = make_set(tmp_path, {"a.png": LABEL, "a.jpg": None, "b.png": LABEL})
    for name, images in (("train", "a.png"), ("val", "a.jpg")):
        (tmp_path / f"{name}.txt").write_text(f"images/train/{images}\nimages/train/b.png\n")
    lists = {name: (tmp_path / f"{name}.txt",) for name in ("train", "val")}
    data = replace(data, splits=lists)
    assert len(load_split(data, "val").images) == 2  # alone it is in no doubt
    with pytest.raises(UserError, match=r"a\.txt: belongs to .*a\.png and .*a\.jpg") as error:
        load_splits(data, ("train", "val"))
    assert "b.txt" not in str(error.value)  # an image in both splits is something else


def test_images_of_one_name_without_a_label_file_are_background(tmp_path: Path):
    data = make_set(tmp_path, {"a.png": None, "a.jpg": None, "b.png": LABEL})
    assert len(load_split(data, "train").images) == 3


# ---- what is left out ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["a.dcm", "b.DCM", "c.gif", "IM0001", "1.2.840.10008.55"],
            "2 .dcm, 2 without suffix, 1 .gif",
        ),
        (["a.heic"], "1 .heic"),
        (["a.nii.gz", "deep/b.mha"], "1 .gz, 1 .mha"),
        (
            [
                "a.txt",
                "b.yaml",
                "c.csv",
                "d.json",
                ".DS_Store",
                "Thumbs.db",
                "labels.cache",
                ".hidden.dcm",
            ],
            "",
        ),
        (["a.mp4"], "1 .mp4"),
        (
            [f"a.k{n}" for n in range(9)],
            f"{', '.join(f'1 .k{n}' for n in range(6))}, 3 of other kinds",
        ),
    ],
)
def test_other_kinds_of_files_are_counted(tmp_path: Path, caplog, names: list[str], expected: str):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.dcm").mkdir()
    with pytest.raises(UserError, match="no images in") as error:
        find_images([tmp_path], "train", SOURCE)
    assert (f"(left out: {expected})" in str(error.value)) == bool(expected)
    (tmp_path / "z.png").touch()
    assert find_images([tmp_path], "train", SOURCE) == [tmp_path / "z.png"]
    assert caplog.messages == (
        [f"warning: data.yaml: train: left out: {expected}"] if expected else []
    )


def test_an_unknown_split_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match=r"data\.yaml: no split 'test'"):
        load_split(make_set(tmp_path, {"a.png": LABEL}), "test")


def test_data_are_generated_where_they_do_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = []

    def generate(folder: Path) -> None:
        calls.append(folder)
        make_set(folder, {"a.png": LABEL})

    monkeypatch.setitem(GENERATORS, "stub", generate)
    root = tmp_path / "set"
    data = DataConfig(
        SOURCE, root, {"train": (root / "images",)}, ("a", "b"), ("A", "B", "C"), generate="stub"
    )
    for _ in range(2):
        assert len(load_split(data, "train").images) == 1
    assert calls == [root]
    with pytest.raises(UserError, match=r"generate is 'no'.*echo_phantom"):
        load_split(replace(data, root=tmp_path / "other", generate="no"), "train")


# ---- fingerprint ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("bits", "differs"), [(None, False), (16, False), (12, True), (8, True)])
def test_fingerprint_changes_with_the_stored_bits(
    three_frames: Path, bits: int | None, differs: bool
):
    """16 are what is taken where the data set does not say."""
    split = load_split(replace(make_set(three_frames, {}), bits=bits), "train")
    assert (split.fingerprint() != replace(split, bits=None).fingerprint()) == differs


def test_fingerprint_does_not_depend_on_place_or_form(three_frames: Path, tmp_path: Path):
    before = fingerprint(three_frames)
    shutil.copytree(three_frames, tmp_path / "moved")
    (tmp_path / "moved/labels/train/a.txt").write_text("\n1  0.50 0.5 0.25 0.5\r\n[0, 1, 0]\n")
    assert fingerprint(tmp_path / "moved") == before


# ---- symbolic links ------------------------------------------------------------------------------


def test_symbolic_links_are_what_they_lead_to(tiny_data: Path, tmp_path: Path):
    """Links to files, to a split's folder, to a folder below it, and in a circle."""
    expected = load_split(load_data_config(tiny_data), "train")
    frames = tmp_path / "linked"
    (frames / "images/real").mkdir(parents=True)
    (frames / "labels/real").mkdir(parents=True)
    for number, image in enumerate(expected.images):
        part = "real" if number < 6 else "elsewhere"
        for file in (image, label_path(image)):
            target = (
                frames / file.relative_to(tiny_data.parent / "frames").parts[0] / part / file.name
            )
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(file)
    for kind in ("images", "labels"):
        (frames / kind / "elsewhere").rename(tmp_path / f"{kind} elsewhere")
        (frames / kind / "real/site B").symlink_to(tmp_path / f"{kind} elsewhere")
        (frames / kind / "train").symlink_to("real")
    (frames / "images/real/circle").symlink_to(frames / "images")
    config = load_data_config(tiny_data)
    linked = load_split(
        type(config)(
            config.source,
            frames,
            {"train": (frames / "images/train",)},
            config.names,
            config.view_names,
        ),
        "train",
    )
    assert [path.name for path in linked.images] == [path.name for path in expected.images]
    for one, other in zip(linked.labels, expected.labels, strict=True):
        assert one.view == other.view and (one.boxes == other.boxes).all()


# ---- what comes twice ----------------------------------------------------------------------------


def test_identical_rows_count_once_after_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    box, view = "1 0.5 0.5 0.25 0.5\n", "0 1 0"
    data = make_set(
        tmp_path,
        {"a.png": box * 3 + view, "b.png": LABEL, "c.png": box + box + "2 0.5 0.5 0.25 0.5\n"},
    )
    split = load_split(data, "train")
    assert [frame.boxes[:, 0].tolist() for frame in split.labels] == [[1], [1], [1, 2]]
    assert [frame.view for frame in split.labels] == [1, 1, -1]
    (record,) = caplog.records
    first = tmp_path / "labels/train/a.txt"
    expected = f"warning: train: 3 identical rows in 2 label files count once, the first: {first}"
    assert (record.levelno, record.message) == (logging.WARNING, expected)


def test_the_fingerprint_is_of_what_is_learnt(three_frames: Path):
    before = fingerprint(three_frames)
    label = three_frames / "labels/train/a.txt"
    label.write_text(LABEL.splitlines()[0] + "\n" + LABEL)
    assert fingerprint(three_frames) == before


@pytest.mark.parametrize(
    "kind", ["the path", "another way to it", "a link to the file", "a link to its folder"]
)
def test_an_image_that_is_listed_twice_stays_so_after_a_warning(tmp_path: Path, caplog, kind: str):
    data = make_set(tmp_path, {"a.png": LABEL, "b.png": LABEL})
    again = {
        "the path": "images/train/a.png",
        "another way to it": "images/../images/train/a.png",
        "a link to the file": "images/train/link.png",
        "a link to its folder": "images/linked/a.png",
    }
    (tmp_path / "images/train/link.png").symlink_to("a.png")
    (tmp_path / "images/linked").symlink_to("train")
    listing = tmp_path / "list.txt"
    listing.write_text(f"images/train/a.png\nimages/train/b.png\n{again[kind]}\n")
    shutil.copy(tmp_path / "labels/train/a.txt", tmp_path / "labels/train/link.txt")
    (tmp_path / "labels/linked").symlink_to("train")
    split = load_split(replace(data, splits={"train": (listing,)}), "train")
    assert len(split.images) == 3
    (record,) = caplog.records
    assert (
        "train: 1 images are listed 2 times; each counts as often as it is listed, the first:"
        in record.message
    )
    assert record.message.endswith("images/train/a.png")


def test_a_folder_within_another_lists_its_images_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    data = make_set(tmp_path, {"a.png": LABEL, "b.png": LABEL})
    folders = (tmp_path / "images", tmp_path / "images/train")
    assert len(load_split(replace(data, splits={"train": folders}), "train").images) == 4
    assert "2 images are listed 4 times" in caplog.text


def test_no_label_path_is_kept_to_see_that_none_is_shared(tmp_path: Path):
    data = make_set(tmp_path, {"a.png": LABEL})
    images = [f"/many/images/{number:06}.png" for number in range(20_000)]
    tracemalloc.start()
    assert not shared_labels(images, data)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 60 * len(images)
