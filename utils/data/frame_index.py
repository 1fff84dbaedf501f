"""The frame index: what a split's files held when they were last read, for `--index`.

A start reads only the label files and images that have changed since. The index of a split is one
file in the user's cache folder, never in the data set, which may be deleted at any time: plain
arrays behind a head, which all processes map into memory rather than copy.

A row stands for an image and its label file. It is taken where size, times of the last changes
(mtime, ctime) and inode of the file are what they were; the image's and the label file's part are
taken each by itself. Not taken, and so read again, are files that are wrong, whose message must
come at every start, and those that were changed less than `YOUNG_NS` before they were looked at: a
second change within a clock's tick would not show. What no stat shows, such as a disk that rots, is
found when the image is used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.files import write_atomically
from utils.core.lock import lock_folder, remove_temporaries
from utils.core.script import LOGGER, UserError
from utils.data.frame_cache import user_cache_folder
from utils.data.label_table import LabelTable
from utils.data.labels import (
    FrameLabels,
    LabelError,
    read_label_file,
    without_repeats,
)

VERSION = 1  # of the file's format and of what a label file means: raise it when either changes
YOUNG_NS = 2 * 10**9
NO_FILE = -1  # in place of a file's size, times and inode
DEAD_LINK = -2  # the same of a link that leads nowhere
UNREAD = -2  # in place of a view: the label file is to be read
NO_VALUE = -1  # for a largest value that is None
MOST = 2**63 - 1  # of an inode, as an int64
FILE_NAME = "frames"
ROW = np.dtype(
    [
        ("image", "<i8", (4,)),  # size in bytes, mtime and ctime in ns, inode
        ("label", "<i8", (4,)),
        ("file", "<i8"),  # the same for two paths to one image file, see `file_numbers`
        ("boxes_end", "<i8"),  # the other five are those of `LabelTable`, ...
        ("view", "<i4"),
        ("cut_boxes", "<i4"),
        ("repeats", "<i4"),  # ... the label file's identical rows that do not count, ...
        ("height", "<i4"),  # ... and the image's own, in pixels; 0: it is to be decoded
        ("width", "<i4"),
        ("largest", "<i4"),  # value of an image of more than 8 bits a channel
    ]
)
OF_LABEL = ("label", "view", "cut_boxes", "repeats")
SIZES = ("height", "width", "largest")
OF_IMAGE = ("image", "file", *SIZES)
BOX = np.dtype(("<f8", (5,)))
# A file starts with the CRC-32 of all that follows: key, numbers of frames, boxes and bytes of
# paths; rows, boxes, paths.
START = struct.Struct("<q")
HEAD = struct.Struct("<32sqqq")


@dataclass
class FrameIndex:
    """The frames of a split in memory.

    Attributes:
        images: paths of all images, also of those with bad labels.
        rows: (F,) `ROW`, one an image.
        boxes: (N, 5), see `LabelTable`.
        label_of: an image's path -> that of its label file.
        file: where the index is kept.
        looked_ns: when this process began to look at the files, by the machine's clock.
        errors: number of a frame -> what is wrong with its label file.
        is_trusted: nobody looked at the files, see `check`.
    """

    images: list[str]
    rows: np.ndarray
    boxes: np.ndarray
    label_of: Callable[[str], str]
    file: IndexFile
    looked_ns: int = 0
    errors: dict[int, str] = field(default_factory=dict)
    is_trusted: bool = False

    @classmethod
    def of(cls, images: list[str], label_of: Callable[[str], str], file: IndexFile) -> FrameIndex:
        """Of files that were looked at, and of which none is read yet."""
        looked_ns = time.time_ns()
        rows = np.zeros(len(images), ROW)
        rows["view"] = UNREAD
        rows["image"] = _stats(images)
        rows["label"] = _stats(map(label_of, images))
        return cls(images, rows, np.zeros(0, BOX), label_of, file, looked_ns)

    @property
    def labels(self) -> LabelTable:
        columns = [self.rows[name].astype(np.int64) for name in ("boxes_end", "view", "cut_boxes")]
        return LabelTable(self.boxes, *columns)

    @property
    def unread(self) -> np.ndarray:
        """(F,) bool, whether the frame's label file is to be read."""
        return self.rows["view"] == UNREAD

    @property
    def unmeasured(self) -> np.ndarray:
        """(F,) bool, whether the image is to be decoded."""
        return self.rows["height"] == 0

    @property
    def sizes(self) -> np.ndarray:
        """(F, 3) int64, height and width of every image, and its largest value or `NO_VALUE`."""
        columns = [self.rows[name] for name in SIZES]
        return np.column_stack(columns).astype(np.int64)

    def fill_from(self, kept: FrameIndex | None) -> None:
        """Take what another index knows of files that are not read yet and are what they were."""
        if kept is None:
            return
        places = _places(self.images, kept.images)
        same_label = self.unread & self._is_same("label", kept, places, kept.unread)
        same_image = self.unmeasured & self._is_same("image", kept, places, kept.unmeasured)
        if self.images == kept.images and same_label.all() and same_image.all():
            self.rows, self.boxes = kept.rows, kept.boxes  # mapped, not copied
            return
        numbers = np.arange(len(places))
        numbers[same_label] = len(places) + places[same_label]
        self._set_labels(self.labels.followed_by(kept.labels).take(numbers))
        for names, same in ((OF_LABEL, same_label), (OF_IMAGE, same_image)):
            for name in names:
                self.rows[name][same] = kept.rows[name][places[same]]

    def _is_same(
        self, part: str, kept: FrameIndex, places: np.ndarray, is_idle: np.ndarray
    ) -> np.ndarray:
        """(F,) bool, whether a part of `kept`'s row is of the same file, and not `is_idle`."""
        is_equal = (self.rows[part] == kept.rows[part][places]).all(axis=1)
        return is_equal & (places >= 0) & ~is_idle[places]

    def _set_labels(self, labels: LabelTable) -> None:
        rows = self.rows.copy()  # they may be mapped
        rows["boxes_end"] = labels.ends
        rows["view"] = labels.views
        rows["cut_boxes"] = labels.cut_boxes
        self.rows, self.boxes = rows, labels.boxes

    def read_labels(self, data: DataConfig) -> None:
        """Read the label files that are to be read; those that are wrong stay so."""
        unread = np.flatnonzero(self.unread)
        found = []
        repeats = []
        for number in unread.tolist():
            whole = self._read_label(number, data)
            found.append(without_repeats(whole))
            repeats.append(len(whole.boxes) - len(found[-1].boxes))
        numbers = np.arange(len(self.rows))
        numbers[unread] = len(self.rows) + np.arange(len(unread))
        self._set_labels(self.labels.followed_by(LabelTable.of(found)).take(numbers))
        self.rows["repeats"][unread] = repeats

    def _read_label(self, number: int, data: DataConfig) -> FrameLabels:
        """Of a wrong file, no box and the view `UNREAD`."""
        if self.rows["label"][number, 0] == NO_FILE:
            return FrameLabels()
        path = Path(self.label_of(self.images[number]))
        try:
            return read_label_file(path, len(data.names), len(data.view_names))
        except LabelError as error:
            what = str(error).removeprefix(str(path))
            self.errors[number] = f"{path}{data.said(what)}"
            return FrameLabels(view=UNREAD)

    def number_files(self) -> None:
        """Fill in the column `file` where an image is new."""
        new = np.flatnonzero(self.rows["file"] == 0)
        if len(new):
            self.rows["file"][new] = file_numbers([self.images[number] for number in new])

    def set_sizes(self, numbers: np.ndarray, sizes: np.ndarray) -> None:
        """What decoding has shown of these frames: (n, 3), see `sizes`."""
        rows = self.rows.copy()
        for column, name in enumerate(SIZES):
            rows[name][numbers] = sizes[:, column]
        self.rows = rows

    def lasting_rows(self) -> np.ndarray:
        """The rows as they are kept: files that had just changed are to be read again."""
        rows = self.rows.copy()
        for part, column, unknown in (("label", "view", UNREAD), ("image", "height", 0)):
            changed_ns = rows[part][:, 1:3].max(axis=1)
            rows[column][changed_ns > self.looked_ns - YOUNG_NS] = unknown
        return rows

    def look_again(self) -> None:
        """Look at those files of a trusted index that are to be read."""
        self.looked_ns = time.time_ns()
        unread = np.flatnonzero(self.unread)
        unmeasured = np.flatnonzero(self.unmeasured)
        if not len(unread) and not len(unmeasured):
            return
        self.rows = self.rows.copy()
        self.rows["label"][unread] = _stats(self.label_of(self.images[n]) for n in unread)
        self.rows["image"][unmeasured] = _stats(self.images[n] for n in unmeasured)

    def check(self, number: int) -> None:
        """See that the files of a frame are those that a trusted index is of.

        Raises:
            UserError: one of them has changed.
        """
        image = self.images[number]
        for part, path in (("image", image), ("label", self.label_of(image))):
            if (self.rows[part][number] != _facts(path)).any():
                raise UserError(
                    f"{path}: has changed since the frame index was made, which --index trust "
                    "takes as it is; start anew with --index auto"
                )


def read_frames(
    data: DataConfig,
    split: str,
    mode: str,
    find: Callable[[], list[str]],
    label_of: Callable[[str], str],
) -> FrameIndex:
    """The frames of a split; label files are read as far as the index does not tell them.

    One process reads, others that need the same wait for it.

    Args:
        mode: one of `INDEX_MODES`.
        find: gives the paths of the split's images.
        label_of: an image's path -> that of its label file.
    """
    file = IndexFile.of(data, split, mode)
    kept = file.read(label_of)
    if mode == "trust" and kept is not None:
        index = kept
        index.is_trusted = True
        index.look_again()
    else:
        index = FrameIndex.of(find(), label_of, file)
        index.fill_from(kept)
    index.number_files()
    is_other = kept is None or kept.images != index.images
    if is_other or index.unread.any():
        with file.alone():
            index.fill_from(file.read(label_of))
            index.read_labels(data)
            file.write(index)
    return index


@dataclass(frozen=True)
class IndexFile:
    """The file of a split's index.

    Attributes:
        key: a hash of what decides which files the split has, and what they mean.
        mode: one of `INDEX_MODES`.
    """

    key: bytes
    mode: str

    @classmethod
    def of(cls, data: DataConfig, split: str, mode: str) -> IndexFile:
        entries = [str(entry) for entry in data.splits[split]]
        labels = data.labels and [str(data.labels), str(data.root)]
        facts = [VERSION, entries, labels, len(data.names), len(data.view_names)]
        return cls(hashlib.sha256(json.dumps(facts).encode()).digest(), mode)

    @property
    def folder(self) -> Path:
        return user_cache_folder() / "index" / self.key.hex()[:32]

    @contextlib.contextmanager
    def alone(self, wait: bool = True) -> Iterator[None]:
        """One process at a time, if the folder can be written to.

        Raises:
            FolderInUse: another process is at work there, and `wait` is false.
        """
        lock = contextlib.nullcontext()
        if self.mode != "off":
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = lock_folder(self.folder, wait)
                remove_temporaries(self.folder)
            except (OSError, RuntimeError) as error:
                _say_unwritable(error)
        with lock:
            yield

    def read(self, label_of: Callable[[str], str]) -> FrameIndex | None:
        """None where there is none that may be used, a damaged one, or one of another split."""
        if self.mode not in ("auto", "trust"):
            return None
        try:
            stored = np.memmap(self.folder / FILE_NAME, np.uint8, "r").view(np.ndarray)
        except (OSError, ValueError, RuntimeError):  # ValueError: it is empty
            return None
        begin = START.size + HEAD.size
        if len(stored) < begin or START.unpack_from(stored)[0] != zlib.crc32(stored[START.size :]):
            return None
        key, frames, boxes, path_bytes = HEAD.unpack_from(stored, START.size)
        sizes = [begin, frames * ROW.itemsize, boxes * BOX.itemsize, path_bytes]
        ends = np.cumsum(sizes).tolist()
        if key != self.key or ends[-1] != len(stored):
            return None
        rows = stored[ends[0] : ends[1]].view(ROW)
        boxes_kept = stored[ends[1] : ends[2]].view(np.float64).reshape(-1, 5)
        images = os.fsdecode(stored[ends[2] :].tobytes()).split("\0")
        return FrameIndex(images, rows, boxes_kept, label_of, self)

    def write(self, index: FrameIndex) -> None:
        """Keep an index, whole or not at all; to be called `alone`."""
        if self.mode == "off":
            return
        paths = os.fsencode("\0".join(index.images))
        parts = [
            HEAD.pack(self.key, len(index.rows), len(index.boxes), len(paths)),
            index.lasting_rows().view(np.uint8),
            np.ascontiguousarray(index.boxes).reshape(-1).view(np.uint8),
            paths,
        ]
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)

        def save(temporary: Path) -> None:
            with temporary.open("wb") as stream:
                stream.writelines([START.pack(checksum), *parts])

        try:
            write_atomically(self.folder / FILE_NAME, save)
        except (OSError, RuntimeError) as error:
            _say_unwritable(error)


@functools.cache  # once is enough
def _say(message: str) -> None:
    LOGGER.warning(message)


def _say_unwritable(error: Exception) -> None:
    reason = getattr(error, "strerror", None) or error
    _say(
        f"warning: the frame index cannot be kept ({reason}), so every start reads all files; "
        "let XDG_CACHE_HOME name a folder that can be written to, or use --index off"
    )


def file_numbers(images: Iterable[str | Path]) -> np.ndarray:
    """(F,) int64, the same for images that are one file, whatever symbolic links lead to it.

    They are hashes of the paths without links, never 0.
    """
    real_folder = functools.cache(os.path.realpath)
    numbers = []
    for image in images:
        folder, name = os.path.split(image)
        real = os.path.join(real_folder(folder), name)
        if os.path.islink(real):
            real = os.path.realpath(real)
        digest = hashlib.blake2b(os.fsencode(real), digest_size=8).digest()
        numbers.append(int.from_bytes(digest, "little", signed=True) | 1)
    return np.array(numbers, np.int64)


def _places(images: list[str], kept: list[str]) -> np.ndarray:
    """(F,) where each image is among those that are `kept`; -1 where it is not."""
    if images == kept:
        return np.arange(len(images))
    place_of = {image: place for place, image in enumerate(kept)}
    return np.array([place_of.get(image, -1) for image in images])


def _stats(paths: Iterable[str]) -> np.ndarray:
    """(n, 4) int64, the `_facts` of every file."""
    flat = itertools.chain.from_iterable(map(_facts, paths))
    return np.fromiter(flat, np.int64).reshape(-1, 4)


def _facts(path: str) -> tuple[int, int, int, int]:
    """Size, mtime and ctime in ns, and inode; four times `NO_FILE` or `DEAD_LINK` without them."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        if os.path.lexists(path):
            return (DEAD_LINK,) * 4
        return (NO_FILE,) * 4
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino & MOST
