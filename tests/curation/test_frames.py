"""Every fault of a single file is found under its name, and nothing else is."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_audits import found_in, images_of, look, write

from utils.curation.findings import KINDS
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


def test_several_faults_at_once_are_all_named(frames: Path):
    train = images_of(frames)
    for image, spoil in zip(train, (empty, cut, text, grey), strict=False):
        spoil(image)
    kinds = ("empty_image", "damaged_image", "unreadable_image", "grey_image")
    assert found_in(look(frames)) == {kind: [{image.name}] for kind, image in zip(kinds, train, strict=False)}


@pytest.mark.parametrize(
    "content", [b"0 0.5 0.5\n", b"7 0.5 0.5 0.1 0.1\n1 0 0\n", b"1 1 0\n", b"0 nan 0.5 0.1 0.1\n", b"\xff\xfe\n"]
)
def test_a_label_that_breaks_the_format_is_named(frames: Path, content: bytes):
    image = images_of(frames)[2]
    label_path(image).write_bytes(content)
    result = look(frames)
    assert found_in(result) == {"bad_label": [{image.name}]}
    assert label_path(image).name in result.findings[0].detail
