"""Every fault of a single file is found under its name, and nothing else is."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from deep_images import deepen
from PIL import Image
from small_audits import TRAIN, VAL, found_in, images_of, look, write

from utils.curation.kinds import KINDS
from utils.data.images import read_image
from utils.data.splits import label_path


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("0 0.5 0.5 0.1 0.1\n")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def deep(path: Path) -> None:
    write(path, read_image(path)[..., ::-1].astype(np.uint16) * 257)


def transparent(path: Path) -> None:
    write(path, cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGRA))


def grey(path: Path) -> None:
    write(path, cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY))


def tiny(path: Path) -> None:
    write(path, cv2.resize(read_image(path)[..., ::-1], (60, 45)))


def long(path: Path) -> None:
    write(path, cv2.resize(read_image(path)[..., ::-1], (700, 100)))


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (empty, "empty_image"),
        (text, "unreadable_image"),
        (folder, "unreadable_image"),
        (cut, "damaged_image"),
        (deep, "deep_image"),
        (transparent, "alpha_image"),
        (grey, "grey_image"),
        (tiny, "extreme_size"),
        (long, "extreme_size"),
    ],
)
def test_an_image_with_a_fault_is_named(frames: Path, spoil: Callable[[Path], None], kind: str):
    image = images_of(frames)[4]
    spoil(image)
    result = look(frames)
    assert found_in(result) == {kind: [{image.name}]}
    assert result.exit_code() == (KINDS[kind][0] == "error")
    assert result.exit_code(strict=True) == 1


def test_a_truncated_jpeg_is_named_though_opencv_reads_it(frames: Path):
    image = images_of(frames)[0]
    target = image.with_suffix(".jpg")
    write(target, read_image(image)[..., ::-1])
    image.unlink()
    assert found_in(look(frames)) == {}
    cut(target)
    assert found_in(look(frames)) == {"damaged_image": [{target.name}]}


def test_grey_of_16_bits_is_both(frames: Path):
    image = images_of(frames)[0]
    write(image, cv2.cvtColor(read_image(image), cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257)
    assert found_in(look(frames)) == {"deep_image": [{image.name}], "grey_image": [{image.name}]}


def test_stored_bits_that_are_said_are_no_doubt(frames: Path):
    for path in images_of(frames):
        deep(path)
    assert found_in(look(frames)) == {"deep_image": [{path.name} for path in images_of(frames)]}
    assert found_in(look(frames, bits=16)) == {}


def test_a_split_that_does_not_say_its_stored_bits_is_named(frames: Path):
    largest = deepen(frames / TRAIN, 12)
    result = look(frames)
    (finding,) = result.of_kind("unknown_bits")
    assert f"train: the largest value of its 12 images of 16 bits is {largest}" in finding.detail
    assert set(finding.files) == set(images_of(frames)) and result.exit_code() == 1
    assert found_in(look(frames, bits=12)) == {}


def test_an_image_with_more_than_the_bits_that_are_said_is_named(frames: Path):
    deepen(frames / TRAIN, 12)
    found = found_in(look(frames, bits=10))
    assert found == {"unreadable_image": [{path.name} for path in images_of(frames)]}


def test_pages_that_are_ignored_are_named(frames: Path):
    image = images_of(frames)[0]
    pages = [Image.open(path).convert("RGB") for path in images_of(frames)[:3]]
    pages[0].save(image.with_suffix(".tif"), save_all=True, append_images=pages[1:])
    image.unlink()
    result = look(frames)
    assert found_in(result) == {"several_pages": [{image.with_suffix(".tif").name}]}
    assert result.findings[0].detail == "3 of them"


@pytest.mark.parametrize(("split", "other"), [(TRAIN, TRAIN), (TRAIN, VAL)])
def test_images_that_share_a_label_file_are_named(frames: Path, split: str, other: str):
    image = images_of(frames, split)[0]
    twin = frames / split / f"{image.stem}.bmp"
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    write(twin, pixels)
    changes = {}
    if other != split:  # the twin is in the other split, by lists
        train = [path for path in images_of(frames, split) if path != twin]
        lists = {"train": train, "val": [*images_of(frames, other), twin]}
        for name, paths in lists.items():
            (frames / f"{name}.txt").write_text("\n".join(map(str, paths)))
        changes["splits"] = {name: (frames / f"{name}.txt",) for name in lists}
    result = look(frames, **changes)
    (finding,) = result.of_kind("shared_label")
    assert set(finding.files) == {image, twin} and str(label_path(image)) in finding.detail
    assert result.exit_code() == 1


def test_several_faults_at_once_are_all_named(frames: Path):
    train = images_of(frames)
    for image, spoil in zip(train, (empty, cut, text, grey), strict=False):
        spoil(image)
    kinds = ("empty_image", "damaged_image", "unreadable_image", "grey_image")
    assert found_in(look(frames)) == {
        kind: [{image.name}] for kind, image in zip(kinds, train, strict=False)
    }


@pytest.mark.parametrize(
    "content",
    [
        b"0 0.5 0.5\n",
        b"7 0.5 0.5 0.1 0.1\n1 0 0\n",
        b"1 1 0\n",
        b"0 nan 0.5 0.1 0.1\n",
        b"\xff\xfe\n",
    ],
)
def test_a_label_that_breaks_the_format_is_named(frames: Path, content: bytes):
    image = images_of(frames)[2]
    label_path(image).write_bytes(content)
    result = look(frames)
    assert found_in(result) == {"bad_label": [{image.name}]}
    assert label_path(image).name in result.findings[0].detail
