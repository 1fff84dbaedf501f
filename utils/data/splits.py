"""Which frames a split has, and their labels: all files are found and read before anything starts."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.core.data_config import DataConfig
from utils.core.pixels import DEEPEST
from utils.core.script import LOGGER, UserError
from utils.data.images import IMAGE_SUFFIXES, left_out
from utils.data.labels import FrameLabels, LabelError, read_label_file, without_repeats
from utils.data.phantom.generate import generate as generate_echo_phantom

GENERATORS = {"echo_phantom": generate_echo_phantom}


def find_images(entries: Sequence[Path], split: str, source: Path) -> list[Path]:
    """The images of a split's folders (searched to any depth) and .txt lists, sorted within a folder.

    What else lies in the folders is counted by kind in a warning, see `left_out`.

    Raises:
        UserError: an entry or a listed image does not exist, or there is no image at all.
    """
    images: list[Path] = []
    passed_by: list[Path] = []
    for entry in entries:
        if entry.is_dir():
            files = sorted(below(entry))
            images += [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
            passed_by += files
        elif entry.is_file() and entry.suffix == ".txt":
            images += _read_list(entry)
        else:
            raise UserError(
                f"{source}: {split}: no folder or .txt list at {entry}; mend the path in the file"
            )
    others = left_out(passed_by, IMAGE_SUFFIXES)
    if not images:
        found = f"no images in {', '.join(map(str, entries))}" + f" (left out: {others})" * bool(
            others
        )
        raise UserError(
            f"{source}: {split}: {found}; expected at least one of {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    if others:
        LOGGER.warning(f"warning: {source}: {split}: left out: {others}")
    return images


def below(folder: Path) -> Iterator[Path]:
    """Everything below a folder, through symbolic links too; where they lead to a folder again, it is passed by."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (real_parent := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real_parent)
        folders.sort()
        yield from (Path(parent, name) for name in (*folders, *files))


def _read_list(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} is not UTF-8; expected an image's path a line"
        ) from None
    folder = path.parent.resolve()  # so that a line's leading ".." climbs real folders
    images = [Path(os.path.normpath(folder / line)) for line in lines if line]
    missing = [image for image in images if not image.is_file()]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(images)} images do not exist, the first: {missing[0]}"
        )
    return images


def label_path(image: Path, data: DataConfig | None = None) -> Path:
    """Where an image's label file lies, whether or not it exists.

    In `data.labels`, if set, at the image's path below `data.root`; else by YOLOv5's convention:
    the last folder `images` in the path becomes `labels`. The suffix is .txt. A label file has one
    image, see `shared_labels`.

    Raises:
        UserError: `data.labels` is set and the image is not below `data.root`.
    """
    if data is not None and data.labels is not None:
        below_root = Path(os.path.relpath(image, data.root))
        if ".." in below_root.parts:
            raise UserError(
                f"{data.source}: with 'labels', every image lies below path {data.root}; found {image}"
            )
        return (data.labels / below_root).with_suffix(".txt")
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def shared_labels(images: Iterable[Path], data: DataConfig) -> dict[Path, list[Path]]:
    """Label files that exist and belong to several images -> these, so that each would learn the others' boxes."""
    owners = defaultdict(list)
    for image in dict.fromkeys(images):
        owners[label_path(image, data)].append(image)
    return {label: own for label, own in owners.items() if len(own) > 1 and os.path.lexists(label)}


@dataclass(frozen=True)
class Split:
    """One split's images and labels, in order.

    Attributes:
        bits: see `DataConfig`.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[FrameLabels, ...]
    bits: int | None = None

    def fingerprint(self) -> str:
        """A hash of file names, image sizes in bytes, labels and stored bits: the same data gives the same string."""
        digest = hashlib.sha256()
        for image, labels in zip(self.images, self.labels, strict=True):
            digest.update(f"{image.name} {image.stat().st_size} {labels.view}".encode())
            digest.update(labels.boxes.tobytes())
        if self.bits not in (None, DEEPEST):  # those two give the same pixels
            digest.update(f"{self.bits} bits".encode())
        return digest.hexdigest()[:16]


def load_split(data: DataConfig, split: str, skip_bad_labels: bool = False) -> Split:
    """Find a split's images and read every label file; identical rows count once, after a warning.

    Args:
        skip_bad_labels: leave out frames whose label file breaks the format, and say how many.

    Raises:
        UserError: no such split or folder, no label files at all, or bad or shared ones (all of
            them are named).
    """
    generate_if_missing(data)
    if split not in data.splits:
        raise UserError(
            f"{data.source}: no split '{split}'; expected a line '{split}: FOLDER or LIST.txt'"
        )
    images = find_images(data.splits[split], split, data.source)
    shared = shared_labels(images, data)
    errors = [_shared_label_error(label, own) for label, own in shared.items()]
    kept, labels, missing, repeats = [], [], 0, {}
    for image in images:
        path = label_path(image, data)
        if path in shared:
            continue
        try:
            found = os.path.lexists(
                path
            )  # a link to nowhere is an error, not a frame without labels
            frame = (
                read_label_file(path, len(data.names), len(data.view_names))
                if found
                else FrameLabels()
            )
        except LabelError as error:
            errors.append(str(error))
            continue
        missing += not found
        kept.append(image)
        labels.append(without_repeats(frame))
        if labels[-1] is not frame:
            repeats[path] = len(frame.boxes) - len(labels[-1].boxes)
    _report_labels(
        split, len(images), len(kept), missing, errors, label_path(images[0], data), skip_bad_labels
    )
    _report_repeats(split, kept, repeats)
    return Split(split, tuple(kept), tuple(labels), data.bits)


def load_splits(
    data: DataConfig, names: Sequence[str], skip_bad_labels: bool = False
) -> list[Split]:
    """`load_split` for several splits; bad labels of all of them, and what they share, end up in one error."""
    splits, errors = [], []
    for name in names:
        try:
            splits.append(load_split(data, name, skip_bad_labels))
        except LabelError as error:
            errors.append(str(error))
    across = shared_labels((image for split in splits for image in split.images), data)
    errors += [_shared_label_error(label, own) for label, own in across.items()]
    if errors:
        raise LabelError("\n".join(errors))
    return splits


def _shared_label_error(label: Path, images: Sequence[Path]) -> str:
    owners = " and ".join(map(str, images))
    return f"{label}: belongs to {owners}, expected one image; remove one, or rename it and give it its own label file"


def generate_if_missing(data: DataConfig) -> None:
    if data.generate is None or data.root.exists():
        return
    if data.generate not in GENERATORS:
        raise UserError(
            f"{data.source}: generate is '{data.generate}', expected {', '.join(GENERATORS)}"
        )
    LOGGER.info(f"generating {data.generate} in {data.root}")
    GENERATORS[data.generate](data.root)


def _report_labels(
    split: str,
    total: int,
    kept: int,
    missing: int,
    errors: list[str],
    example: Path,
    skip_bad_labels: bool,
) -> None:
    if missing == total:
        raise UserError(
            f"{split}: none of {total} images has a label file; expected e.g. {example}"
        )
    if missing:
        LOGGER.warning(
            f"warning: {split}: {missing} of {total} images have no label file: taken as background"
        )
    if not errors:
        return
    listed = "\n  ".join(errors)
    if skip_bad_labels and kept:
        LOGGER.warning(
            f"warning: {split}: {total - kept} frames with bad labels are left out:\n  {listed}"
        )
    else:
        hint = "mend them, or leave these frames out with --skip-bad-labels"
        raise LabelError(f"{split}: {len(errors)} bad label files ({hint}):\n  {listed}")


def _report_repeats(split: str, images: Sequence[Path], repeated_rows: Mapping[Path, int]) -> None:
    """Warn of rows that were left out, and of images that come more than once, which may be meant."""
    if repeated_rows:
        first, rows = next(iter(repeated_rows)), sum(repeated_rows.values())
        files = f"{rows} identical rows in {len(repeated_rows)} label files count once"
        LOGGER.warning(f"warning: {split}: {files}, the first: {first}")
    listed = [own for own in by_file(images).values() if len(own) > 1]
    if listed:
        times = f"{len(listed)} images are listed {sum(map(len, listed))} times; each counts as often as it is listed"
        LOGGER.warning(f"warning: {split}: {times}, the first: {listed[0][0]}")


def by_file(images: Iterable[Path]) -> dict[str, list[Path]]:
    """Images by the file that they are, whatever links lead to it."""
    found: dict[str, list[Path]] = {}
    for image in images:
        found.setdefault(os.path.realpath(image), []).append(image)
    return found
