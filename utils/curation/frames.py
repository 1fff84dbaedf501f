"""One pass over the files of a data set: what each image and label file holds."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path

import cv2
import imagehash
import numpy as np
from PIL import Image, UnidentifiedImageError

from utils.core.data_config import DataConfig
from utils.core.pixels import largest_value
from utils.core.script import UserError
from utils.core.threads import map_in_threads
from utils.data.images import decode_image, read_bytes, reduce_depth
from utils.data.labels import (
    UNKNOWN_VIEW,
    FrameLabels,
    LabelError,
    doubtful_lines,
    read_label_file,
    read_label_text,
    same_boxes,
    without_repeats,
)
from utils.data.splits import Split, find_images, generate_if_missing, label_path

HASH_SIDE = 16  # bits a side of the perceptual hash of each colour channel

# Of an ordinary image:
SHORTEST_SIDE = 64  # pixels
LONGEST_SIDE = 4096  # pixels
ASPECT_LIMIT = 3  # longer over shorter side


@dataclass(frozen=True)
class Frame:
    """One image of a split, as found.

    Attributes:
        labels: as trainings see them; None where the label file is missing or breaks the format.
        size: width and height, pixels; None where the image cannot be read.
        pixels: digest of the decoded RGB pixels; empty where the image cannot be read.
        largest: value of an image of more than 8 bits a channel; None of others.
        bits: (768,) bool, the perceptual hashes of red, green and blue.
        problems: kind of finding -> detail.
    """

    split: str
    path: Path
    labels: FrameLabels | None
    size: tuple[int, int] | None = None
    pixels: str = ""
    largest: int | None = None
    bits: np.ndarray = field(default_factory=lambda: np.zeros(3 * HASH_SIDE**2, bool))
    problems: dict[str, str] = field(default_factory=dict)


def read_frames(data: DataConfig) -> list[Frame]:
    """Read every label file and decode every image of all splits, with a progress bar.

    Raises:
        UserError: see `find_images`.
    """
    generate_if_missing(data)
    images = []
    splits = []  # of each image
    for name, entries in data.splits.items():
        own = find_images(entries, name, data.source)
        images += own
        splits += [name] * len(own)
    read = partial(_read_frame, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's; a damaged file is reported once, as a finding
        return map_in_threads(read, splits, images, title="checking frames", total=len(images))


def _read_frame(data: DataConfig, split: str, path: Path) -> Frame:
    labels = None
    problems = {}
    file = label_path(path, data)
    try:
        if os.path.lexists(file):
            whole = read_label_file(file, len(data.names), len(data.view_names))
            labels = without_repeats(whole)
            problems = _label_problems(data, file, whole, labels)
        else:
            problems["missing_label"] = f"expected {file}"
    except LabelError as error:
        problems["bad_label"] = str(error)
    fields, image_problems = inspect_image(path, data.bits)
    return Frame(split, path, labels, **fields, problems=problems | image_problems)


def _label_problems(
    data: DataConfig, file: Path, whole: FrameLabels, labels: FrameLabels
) -> dict[str, str]:
    """What is to be doubted in a valid label file: kind of finding -> detail.

    Args:
        whole: all of its rows.
        labels: each row once.
    """
    problems = {}
    if data.view_names and labels.view == UNKNOWN_VIEW:
        problems["missing_view"] = ""
    if whole.cut_boxes:
        problems["cut_box"] = f"{whole.cut_boxes} of {len(whole.boxes)} boxes"
    repeated = len(whole.boxes) - len(labels.boxes)
    if repeated:
        problems["repeated_row"] = f"{repeated} of {len(whole.boxes)} rows"
    pairs = [
        f"{data.names[first]} and {data.names[second]}"
        for first, second in same_boxes(labels.boxes)
    ]
    if pairs:
        problems["two_classes"] = ", ".join(dict.fromkeys(pairs))
    text = read_label_text(file)
    doubts = doubtful_lines(text, len(data.names), len(data.view_names))
    if doubts:
        problems["doubtful_line"] = ", ".join(doubts)
    return problems


def inspect_image(path: Path, bits: int | None) -> tuple[dict[str, object], dict[str, str]]:
    """The fields of `Frame` that an image decides, and its problems: kind of finding -> detail.

    Pillow tells how it is stored and whether it is whole, OpenCV gives the pixels that a training
    sees.

    Args:
        bits: stored in an image of 16 bits a channel, see `utils.core.pixels`.
    """
    try:
        content = read_bytes(path)
        if not content:
            return {}, {"empty_image": ""}
        problems = _storage_problems(content)
        if bits is not None:
            problems.pop("deep_image", None)
        if "damaged_image" in problems:
            return {}, problems
        stored = decode_image(content, path)
        image = reduce_depth(stored, bits, path)
    except UnidentifiedImageError:  # whose text names an object of Python
        return {}, {"unreadable_image": "its content is no image of a known format"}
    except (OSError, UserError, Image.DecompressionBombError) as error:
        return {}, {"unreadable_image": str(error).removeprefix(f"{path}: ")}
    digest = hashlib.sha256(f"{stored.shape}".encode() + stored.tobytes())
    fields = {
        "size": stored.shape[1::-1],
        "pixels": digest.hexdigest(),
        "bits": _hash_bits(image),
        "largest": largest_value(stored),
    }
    return fields, problems


def _hash_bits(image: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8 -> (768,) bool, the perceptual hash of each channel."""
    side = 4 * HASH_SIDE
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    hashes = []
    for channel in cv2.split(small):
        found = imagehash.phash(Image.fromarray(channel), hash_size=HASH_SIDE)
        hashes.append(found.hash)
    return np.ravel(hashes)


def _storage_problems(content: bytes) -> dict[str, str]:
    problems = {}
    with Image.open(io.BytesIO(content)) as image:
        # Pillow's mode may hide 16 bits, the tiles do not.
        stored = " ".join(str(tile[3]) for tile in image.tile)
        if ";16" in stored or image.mode[0] in "IF":
            problems["deep_image"] = f"stored as {image.mode}, {stored}"
        if image.mode in ("1", "L", "LA", "La") or image.mode[0] in "IF":
            problems["grey_image"] = f"stored as {image.mode}"
        if "A" in image.getbands() or "transparency" in image.info:
            problems["alpha_image"] = f"stored as {image.mode}"
        short, long = sorted(image.size)
        if short < SHORTEST_SIDE or long > LONGEST_SIDE or long > ASPECT_LIMIT * short:
            problems["extreme_size"] = f"{image.width}x{image.height} pixels"
        try:
            pages = getattr(image, "n_frames", 1)
            if pages > 1:
                problems["several_pages"] = f"{pages} of them"
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            problems = {"damaged_image": str(error)}
    return problems


def named(path: Path, data: DataConfig) -> dict[str, str | None]:
    """The "group" (patient) and the "clip" in a file name, as far as `data` has patterns for them.

    None where a pattern finds none.
    """
    found = {}
    if data.group_pattern:
        found["group"] = data.found_group(path)
    if data.clip_pattern:
        clip = data.clip_of(path)
        found["clip"] = clip and clip[0]
    return found


def as_split(frames: Iterable[Frame], name: str) -> Split:
    """A split as trainings see it; frames without valid labels are background."""
    own = [frame for frame in frames if frame.split == name]
    return Split(
        name,
        tuple(frame.path for frame in own),
        tuple(frame.labels or FrameLabels() for frame in own),
    )


def class_view_counts(data: DataConfig, frames: Iterable[Frame]) -> np.ndarray:
    """How many frames show a class and a view.

    Returns:
        (classes + 1, views + 1); the last row is of frames without a box, the last column of those
        without a view.
    """
    counts = np.zeros((len(data.names) + 1, len(data.view_names) + 1), int)
    for frame in frames:
        if frame.labels is None:
            continue
        rows = np.unique(frame.labels.boxes[:, 0]).astype(int)
        if not len(rows):
            rows = -1
        counts[rows, frame.labels.view] += 1
    return counts


def with_view(frames: Iterable[Frame]) -> list[Frame]:
    """The frames whose view is known."""
    labelled = [frame for frame in frames if frame.labels is not None]
    return [frame for frame in labelled if frame.labels.view != UNKNOWN_VIEW]


def group_by(items: Iterable, key: Callable) -> dict:
    """Items by what `key` returns of them, in order; where that is None, they are left out."""
    grouped = defaultdict(list)
    for item in items:
        value = key(item)
        if value is not None:
            grouped[value].append(item)
    return grouped


def in_turn(groups: Iterable[Sequence[Frame]]) -> tuple[Path, ...]:
    """The files of the first frame of every group, then of the second of every group, ..."""
    mixed = chain.from_iterable(zip_longest(*groups))
    return tuple(frame.path for frame in mixed if frame)
