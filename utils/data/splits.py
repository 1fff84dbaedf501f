"""Which frames a split has, and their labels: all files are read before anything starts."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.pixels import DEEPEST
from utils.core.script import LOGGER, UserError
from utils.data.frame_index import NO_FILE, FrameIndex, file_numbers, read_frames
from utils.data.image_list import read_image_list
from utils.data.images import IMAGE_SUFFIXES, left_out
from utils.data.label_table import LabelTable
from utils.data.labels import FrameLabels, LabelError
from utils.data.phantom.generate import generate as generate_echo_phantom

_SUFFIXES = tuple(IMAGE_SUFFIXES)
_IMAGES = f"{os.sep}images{os.sep}"
_LABELS = f"{os.sep}labels{os.sep}"
GENERATORS = {"echo_phantom": generate_echo_phantom}


def find_images(entries: Sequence[Path], split: str, source: Path) -> list[Path]:
    """The images of a split's folders and .txt lists.

    Folders are searched to any depth, and sorted.
    What else lies in the folders is counted by kind in a warning, see `left_out`.

    Raises:
        UserError: an entry or a listed image does not exist, or there is no image at all.
    """
    return list(map(Path, image_paths(entries, split, source)))


def image_paths(entries: Sequence[Path], split: str, source: Path) -> list[str]:
    """`find_images` as texts, which are made ten times as fast."""
    images: list[str] = []
    passed_by: list[Path] = []
    for entry in entries:
        if entry.is_dir():
            found = list(_texts_below(entry))
            own = [path for path in found if _is_image(path)]
            images += sorted(own, key=_by_parts)
            if len(own) < len(found):
                passed_by += [Path(path) for path in found if not _is_image(path)]
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


def _is_image(path: str) -> bool:
    """Whether the name has an image's suffix; a hidden file called `.png` has none."""
    name = os.path.basename(path).lower()
    return name.endswith(_SUFFIXES) and name not in IMAGE_SUFFIXES


def _by_parts(path: str) -> str:
    """The key that sorts texts as `Path`s are, folder by folder."""
    return os.path.normcase(path).replace(os.sep, "\0")


class Paths(Sequence[Path]):
    """Paths that are kept as texts, which take a third of the room."""

    def __init__(self, texts: list[str]):
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Path:
        """A path; of a slice, a tuple of them."""
        if isinstance(index, slice):
            return tuple(map(Path, self.texts[index]))
        return Path(self.texts[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Paths:
        """The same paths; those that are kept as texts stay as they are."""
        if isinstance(paths, cls):
            return paths
        return cls(list(map(str, paths)))


def below(folder: Path) -> Iterator[Path]:
    """Everything below a folder, through symbolic links too, each folder once."""
    return map(Path, _texts_below(folder))


def _texts_below(folder: Path) -> Iterator[str]:
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real_parent = os.path.realpath(parent)
        if real_parent in seen:
            folders.clear()
            continue
        seen.add(real_parent)
        folders.sort()
        yield from (os.path.join(parent, name) for name in (*folders, *files))


def label_path(image: Path, data: DataConfig | None = None) -> Path:
    """Where an image's label file lies, whether or not it exists.

    In `data.labels`, if set, at the image's path below `data.root`; else by YOLOv5's convention:
    the last folder `images` in the path becomes `labels`. The suffix is .txt. A label file has one
    image, see `shared_labels`.

    Raises:
        UserError: `data.labels` is set and the image is not below `data.root`.
    """
    return Path(label_text(str(image), data))


def label_text(image: str, data: DataConfig | None = None) -> str:
    """`label_path` as a text."""
    if data is not None and data.labels is not None:
        return _with_label_suffix(os.path.join(data.labels, _below_root(image, data)))
    before, found, rest = f"{os.sep}{image}".rpartition(_IMAGES)
    if not found:
        return _with_label_suffix(image)
    return _with_label_suffix(f"{before}{_LABELS}{rest}".removeprefix(os.sep))


def _below_root(image: str, data: DataConfig) -> str:
    root = os.path.join(data.root, "")
    if image.startswith(root) and os.pardir not in image:
        return image.removeprefix(root)
    below_root = os.path.relpath(image, data.root)
    if os.pardir in Path(below_root).parts:
        raise UserError(
            f"{data.source}: with 'labels', every image lies below path {data.root}; found {image}"
        )
    return below_root


def _with_label_suffix(path: str) -> str:
    """As `Path.with_suffix`: a dot at the beginning or the end of a name begins no suffix."""
    begin = path.rfind(os.sep) + 1
    dot = path.rfind(".")
    if begin < dot < len(path) - 1:
        path = path[:dot]
    return f"{path}.txt"


def shared_labels(images: Iterable[str | Path], data: DataConfig) -> dict[Path, list[Path]]:
    """Label files that exist and belong to several images -> these images.

    Each of them would learn the others' boxes.
    """
    texts = list(map(str, images))
    hashes = np.fromiter((hash(label_text(image, data)) for image in texts), np.int64)
    if len(np.unique(hashes)) == len(texts):  # as good as always, and no text is kept
        return {}
    owners = defaultdict(list)
    for image in dict.fromkeys(texts):
        owners[label_text(image, data)].append(Path(image))
    shared = {}
    for label, own in owners.items():
        if len(own) > 1 and os.path.lexists(label):
            shared[Path(label)] = own
    return shared


@dataclass(frozen=True)
class Split:
    """One split's images and labels, in order.

    Attributes:
        images: become `Paths`.
        labels: of each of them; become a `LabelTable`.
        bits: see `DataConfig`.
        known: what is known of the files that the split was loaded from; None if it was not.
        places: (F,) the images' numbers in `known`, where those with bad labels are, too.
    """

    name: str
    images: Sequence[Path]
    labels: Sequence[FrameLabels]
    bits: int | None = None
    known: FrameIndex | None = field(default=None, repr=False)
    places: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", Paths.of(self.images))
        object.__setattr__(self, "labels", LabelTable.of(self.labels))

    def fingerprint(self) -> str:
        """A hash of file names, image sizes in bytes, labels and stored bits."""
        digest = hashlib.sha256()
        table = self.labels
        boxes = table.boxes.tobytes()
        ends = (table.ends * table.boxes.strides[0]).tolist()
        start = 0
        names = map(os.path.basename, self.images.texts)
        rows = zip(names, self._image_bytes(), table.views.tolist(), ends, strict=True)
        for name, size, view, end in rows:
            digest.update(os.fsencode(f"{name} {size} {view}"))
            digest.update(boxes[start:end])
            start = end
        if self.bits not in (None, DEEPEST):  # those two give the same pixels
            digest.update(f"{self.bits} bits".encode())
        return digest.hexdigest()[:16]

    def _image_bytes(self) -> list[int]:
        """How many bytes each image has."""
        sizes = [NO_FILE] * len(self.images)
        if self.known is not None:
            sizes = self.known.rows["image"][self.places, 0].tolist()
        for number, size in enumerate(sizes):
            if size < 0:  # not known; or there was no such file, which is an error here
                sizes[number] = os.stat(self.images.texts[number]).st_size
        return sizes

    @cached_property
    def file_numbers(self) -> np.ndarray:
        """(F,) see `utils.data.frame_index.file_numbers`."""
        if self.known is None:
            return file_numbers(self.images.texts)
        return self.known.rows["file"][self.places]


def load_split(
    data: DataConfig, split: str, skip_bad_labels: bool = False, index: str = "auto"
) -> Split:
    """Find a split's images and read every label file; identical rows count once, after a warning.

    Args:
        skip_bad_labels: leave out frames whose label file breaks the format, and say how many.
        index: one of `INDEX_MODES`; which label files are read, see `utils.data.frame_index`.

    Raises:
        UserError: no such split or folder, no label files at all, or bad or shared ones (all of
            them are named).
    """
    generate_if_missing(data)
    if split not in data.splits:
        raise UserError(
            f"{data.source}: no split '{split}'; expected a line '{split}: FOLDER or LIST.txt'"
        )
    known = read_frames(
        data,
        split,
        index,
        find=partial(image_paths, data.splits[split], split, data.source),
        label_of=partial(label_text, data=data),
    )
    places = _usable(data, split, known, skip_bad_labels)
    images = known.images
    labels = known.labels
    if len(places) < len(images):
        images = [images[place] for place in places.tolist()]
        labels = labels.take(places)
    found = Split(split, Paths(images), labels, data.bits, known, places)
    _report_cut(found)
    _report_repeats(found)
    return found


def _usable(data: DataConfig, split: str, known: FrameIndex, skip_bad_labels: bool) -> np.ndarray:
    """The numbers of the frames that have good labels, or no label file; says what there is.

    Raises:
        LabelError: there are others, and they may not be left out.
    """
    shared = shared_labels(known.images, data)
    is_shared = np.zeros(len(known.images), bool)
    if shared:
        is_shared[:] = [Path(known.label_of(image)) in shared for image in known.images]
    bad = [text for number, text in known.errors.items() if not is_shared[number]]
    errors = _shared_label_errors(shared) + bad
    missing = int((known.rows["label"][~is_shared, 0] == NO_FILE).sum())
    _report_missing(split, known, missing)
    places = np.flatnonzero(~is_shared & ~known.unread)
    if errors:
        _report_bad_labels(split, len(known.images), len(places), errors, skip_bad_labels)
    return places


def _report_missing(split: str, known: FrameIndex, missing: int) -> None:
    """Warn of `missing` label files.

    Raises:
        UserError: none is there.
    """
    total = len(known.images)
    if missing == total:
        example = known.label_of(known.images[0])
        raise UserError(
            f"{split}: none of {total} images has a label file; expected e.g. {example}"
        )
    if missing:
        LOGGER.warning(
            f"warning: {split}: {missing} of {total} images have no label file: taken as background"
        )


def load_splits(
    data: DataConfig, names: Sequence[str], skip_bad_labels: bool = False, index: str = "auto"
) -> list[Split]:
    """`load_split` for several splits; bad and shared labels of all of them end up in one error."""
    splits: list[Split] = []
    errors: list[str] = []
    images: list[str] = []
    for name in names:
        try:
            split = load_split(data, name, skip_bad_labels, index)
        except LabelError as error:
            errors.append(str(error))
            continue
        splits.append(split)
        images += split.images.texts
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


def _report_cut(split: Split) -> None:
    cut = np.flatnonzero(split.labels.cut_boxes)
    if len(cut):
        boxes = split.labels.cut_boxes.sum()
        LOGGER.warning(
            f"warning: {split.name}: {boxes} boxes in {len(cut)} label files reach far "
            f"outside of the image and are cut off at its edges, the first: {_label(split, cut[0])}"
        )


def _report_repeats(split: Split) -> None:
    """Warn of rows that were left out, and of images listed more than once, which may be meant."""
    rows = split.known.rows["repeats"][split.places]
    repeated = np.flatnonzero(rows)
    if len(repeated):
        LOGGER.warning(
            f"warning: {split.name}: {rows.sum()} identical rows in {len(repeated)} label files "
            f"count once, the first: {_label(split, repeated[0])}"
        )
    _, first, times = np.unique(split.file_numbers, return_index=True, return_counts=True)
    listed = times > 1
    if listed.any():
        example = split.images.texts[first[listed].min()]
        LOGGER.warning(
            f"warning: {split.name}: {listed.sum()} images are listed {times[listed].sum()} times; "
            f"each counts as often as it is listed, the first: {example}"
        )


def _label(split: Split, number: int) -> str:
    return split.known.label_of(split.images.texts[number])
