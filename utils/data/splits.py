"""Which frames a split has, and their labels: all files are read before anything starts."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.core.data_config import DataConfig
from utils.core.pixels import DEEPEST
from utils.core.script import LOGGER, UserError
from utils.data.image_list import read_image_list
from utils.data.images import IMAGE_SUFFIXES, left_out
from utils.data.labels import FrameLabels, LabelError, read_label_file, without_repeats
from utils.data.phantom.generate import generate as generate_echo_phantom

GENERATORS = {"echo_phantom": generate_echo_phantom}


def find_images(entries: Sequence[Path], split: str, source: Path) -> list[Path]:
    """The images of a split's folders and .txt lists.

    Folders are searched to any depth, and sorted.
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
            images += read_image_list(entry)
        else:
            raise UserError(
                f"{source}: {split}: no folder or .txt list at {entry}; fix the path in the file"
            )
    others = left_out(passed_by, IMAGE_SUFFIXES)
    if not images:
        found = f"no images in {', '.join(map(str, entries))}"
        if others:
            found += f" (left out: {others})"
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{source}: {split}: {found}; expected at least one of {suffixes}")
    if others:
        LOGGER.warning(f"warning: {source}: {split}: left out: {others}")
    return images


def below(folder: Path) -> Iterator[Path]:
    """Everything below a folder, through symbolic links too, each folder once."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real_parent = os.path.realpath(parent)
        if real_parent in seen:
            folders.clear()
            continue
        seen.add(real_parent)
        folders.sort()
        yield from (Path(parent, name) for name in (*folders, *files))


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
                f"{data.source}: with 'labels', every image lies below path {data.root}; "
                f"found {image}"
            )
        return (data.labels / below_root).with_suffix(".txt")
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def shared_labels(images: Iterable[Path], data: DataConfig) -> dict[Path, list[Path]]:
    """Label files that exist and belong to several images -> these images.

    Each of them would learn the others' boxes.
    """
    owners = defaultdict(list)
    for image in dict.fromkeys(images):
        owners[label_path(image, data)].append(image)
    shared = {}
    for label, own in owners.items():
        if len(own) > 1 and os.path.lexists(label):
            shared[label] = own
    return shared


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
        """A hash of file names, image sizes in bytes, labels and stored bits."""
        digest = hashlib.sha256()
        for image, labels in zip(self.images, self.labels, strict=True):
            facts = f"{image.name} {image.stat().st_size} {labels.view}"
            digest.update(os.fsencode(facts))
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
    found = _read_labels(images, shared, data)
    errors = _shared_label_errors(shared) + found.errors
    example = label_path(images[0], data)
    missing = len(found.unlabelled)
    if missing == len(images):
        raise UserError(
            f"{split}: none of {len(images)} images has a label file; expected e.g. {example}"
        )
    if missing:
        LOGGER.warning(
            f"warning: {split}: {missing} of {len(images)} images have no label file: "
            "taken as background"
        )
    if errors:
        _report_bad_labels(split, len(images), len(found.images), errors, skip_bad_labels)
    _report_cut(split, found.cut)
    _report_repeats(split, found.images, found.repeats)
    return Split(split, tuple(found.images), tuple(found.labels), data.bits)


@dataclass(frozen=True)
class _LabelsRead:
    """What the label files of a split hold.

    Attributes:
        images: those with good labels, or without a label file.
        labels: of these.
        unlabelled: images without a label file.
        errors: a text a bad label file.
        repeats: label file -> identical rows in it that do not count.
        cut: label file -> boxes in it that were cut off at the image's edges.
    """

    images: list[Path] = field(default_factory=list)
    labels: list[FrameLabels] = field(default_factory=list)
    unlabelled: list[Path] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    repeats: dict[Path, int] = field(default_factory=dict)
    cut: dict[Path, int] = field(default_factory=dict)


def _read_labels(images: Sequence[Path], shared: Container[Path], data: DataConfig) -> _LabelsRead:
    """Read every label file but the `shared` ones."""
    found = _LabelsRead()
    for image in images:
        path = label_path(image, data)
        if path in shared:
            continue
        labels = FrameLabels()
        if os.path.lexists(path):  # a link to nowhere is an error, not a frame without labels
            try:
                labels = read_label_file(path, len(data.names), len(data.view_names))
            except LabelError as error:
                what = str(error).removeprefix(str(path))
                found.errors.append(f"{path}{data.said(what)}")
                continue
        else:
            found.unlabelled.append(image)
        distinct = without_repeats(labels)
        if distinct is not labels:
            found.repeats[path] = len(labels.boxes) - len(distinct.boxes)
        if labels.cut_boxes:
            found.cut[path] = labels.cut_boxes
        found.images.append(image)
        found.labels.append(distinct)
    return found


def load_splits(
    data: DataConfig, names: Sequence[str], skip_bad_labels: bool = False
) -> list[Split]:
    """`load_split` for several splits; bad and shared labels of all of them end up in one error."""
    splits: list[Split] = []
    errors: list[str] = []
    images: list[Path] = []
    for name in names:
        try:
            split = load_split(data, name, skip_bad_labels)
        except LabelError as error:
            errors.append(str(error))
            continue
        splits.append(split)
        images += split.images
    errors += _shared_label_errors(shared_labels(images, data))
    if errors:
        raise LabelError("\n".join(errors))
    return splits


def _shared_label_errors(shared: Mapping[Path, Sequence[Path]]) -> list[str]:
    errors = []
    for label, images in shared.items():
        owners = " and ".join(map(str, images))
        errors.append(
            f"{label}: belongs to {owners}, expected one image; remove one, "
            "or rename it and give it its own label file"
        )
    return errors


def generate_if_missing(data: DataConfig) -> None:
    if data.generate is None or data.root.exists():
        return
    if data.generate not in GENERATORS:
        raise UserError(
            f"{data.source}: generate is '{data.generate}', expected {', '.join(GENERATORS)}"
        )
    LOGGER.info(f"generating {data.generate} in {data.root}")
    GENERATORS[data.generate](data.root)


def _report_bad_labels(
    split: str, total: int, kept: int, errors: Sequence[str], skip_bad_labels: bool
) -> None:
    """Warn of `total` - `kept` frames with bad labels, if they may be left out.

    Raises:
        LabelError: they may not, or no other frame is left.
    """
    listed = "\n  ".join(errors)
    if not skip_bad_labels or not kept:
        hint = "fix them, or leave these frames out with --skip-bad-labels"
        raise LabelError(f"{split}: {len(errors)} bad label files ({hint}):\n  {listed}")
    LOGGER.warning(
        f"warning: {split}: {total - kept} frames with bad labels are left out:\n  {listed}"
    )


def _report_cut(split: str, cut: Mapping[Path, int]) -> None:
    if cut:
        LOGGER.warning(
            f"warning: {split}: {sum(cut.values())} boxes in {len(cut)} label files reach far "
            f"outside of the image and are cut off at its edges, the first: {next(iter(cut))}"
        )


def _report_repeats(split: str, images: Sequence[Path], repeated_rows: Mapping[Path, int]) -> None:
    """Warn of rows that were left out, and of images listed more than once, which may be meant."""
    if repeated_rows:
        first = next(iter(repeated_rows))
        rows = sum(repeated_rows.values())
        LOGGER.warning(
            f"warning: {split}: {rows} identical rows in {len(repeated_rows)} label files "
            f"count once, the first: {first}"
        )
    listed = [own for own in by_file(images).values() if len(own) > 1]
    if listed:
        times = sum(len(own) for own in listed)
        LOGGER.warning(
            f"warning: {split}: {len(listed)} images are listed {times} times; "
            f"each counts as often as it is listed, the first: {listed[0][0]}"
        )


def by_file(images: Iterable[Path]) -> dict[str, list[Path]]:
    """Images by the file that they are, whatever links lead to it."""
    found: dict[str, list[Path]] = {}
    for image in images:
        found.setdefault(os.path.realpath(image), []).append(image)
    return found
