"""One pass over the files of a data set: what each image and label file holds."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import cv2
import imagehash
import numpy as np
from PIL import Image
from tqdm import tqdm

from utils.core.data_config import DataConfig
from utils.core.pixels import largest_value
from utils.core.script import UserError
from utils.data.images import decode_image, reduce_depth
from utils.data.labels import (
    UNKNOWN_VIEW,
    FrameLabels,
    LabelError,
    doubtful_lines,
    read_label_file,
    same_boxes,
    without_repeats,
)
from utils.data.splits import Split, find_images, generate_if_missing, label_path

HASH_SIDE = 16  # bits a side of the perceptual hash of each colour channel

SIDE_LIMITS, ASPECT_LIMIT = (
    (64, 4096),
    3,
)  # pixels, and longer over shorter side, of an ordinary image


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
    jobs = [
        (name, path)
        for name, entries in data.splits.items()
        for path in find_images(entries, name, data.source)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's; a damaged file is reported once, as a finding
        found = pool.map(lambda job: _read_frame(data, *job), jobs)
        return list(tqdm(found, "checking frames", len(jobs), unit="img", mininterval=0.5))


def _read_frame(data: DataConfig, split: str, path: Path) -> Frame:
    labels, problems, file = None, {}, label_path(path, data)
    try:
        if os.path.lexists(file):
            whole = read_label_file(file, len(data.names), len(data.view_names))
            labels = without_repeats(whole)
            problems = _label_problems(data, file, whole, labels)
        else:
            problems["missing_label"] = f"expected {file}"
    except LabelError as error:
        problems["bad_label"] = str(error)
    facts, image_problems = inspect_image(path, data.bits)
    return Frame(split, path, labels, **facts, problems=problems | image_problems)


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
    repeated = len(whole.boxes) - len(labels.boxes)
    if repeated:
        problems["repeated_row"] = f"{repeated} of {len(whole.boxes)} rows"
    pairs = [
        f"{data.names[first]} and {data.names[second]}"
        for first, second in same_boxes(labels.boxes)
    ]
    if pairs:
        problems["two_classes"] = ", ".join(dict.fromkeys(pairs))
    doubts = doubtful_lines(
        file.read_text(encoding="utf-8-sig"), len(data.names), len(data.view_names)
    )
    if doubts:
        problems["doubtful_line"] = ", ".join(doubts)
    return problems


def inspect_image(path: Path, bits: int | None) -> tuple[dict[str, object], dict[str, str]]:
    """What `Frame` says of an image, and its problems: kind of finding -> detail.

    Pillow says how it is stored and whether it is whole, OpenCV gives the pixels that a training
    sees.

    Args:
        bits: stored in an image of 16 bits a channel, see `utils.core.pixels`.
    """
    try:
        if not path.stat().st_size:
            return {}, {"empty_image": ""}
        problems = _storage_problems(path)
        if bits is not None:
            problems.pop("deep_image", None)
        if "damaged_image" in problems:
            return {}, problems
        stored = decode_image(path.read_bytes(), path)
        image = reduce_depth(stored, bits, path)
    except (OSError, UserError, Image.DecompressionBombError) as error:
        return {}, {"unreadable_image": str(error).removeprefix(f"{path}: ")}
    small = cv2.resize(image, (4 * HASH_SIDE,) * 2, interpolation=cv2.INTER_AREA)
    channels = (Image.fromarray(channel) for channel in cv2.split(small))
    hashes = np.ravel([imagehash.phash(channel, hash_size=HASH_SIDE).hash for channel in channels])
    pixels = hashlib.sha256(f"{stored.shape}".encode() + stored.tobytes()).hexdigest()
    facts = {
        "size": stored.shape[1::-1],
        "pixels": pixels,
        "bits": hashes,
        "largest": largest_value(stored),
    }
    return facts, problems


def _storage_problems(path: Path) -> dict[str, str]:
    problems = {}
    with Image.open(path) as image:
        stored = " ".join(
            str(tile[3]) for tile in image.tile
        )  # Pillow's mode may hide 16 bits, the tiles do not
        if ";16" in stored or image.mode[0] in "IF":
            problems["deep_image"] = f"stored as {image.mode}, {stored}"
        if image.mode in ("1", "L", "LA", "La") or image.mode[0] in "IF":
            problems["grey_image"] = f"stored as {image.mode}"
        if "A" in image.getbands() or "transparency" in image.info:
            problems["alpha_image"] = f"stored as {image.mode}"
        short, long = sorted(image.size)
        if short < SIDE_LIMITS[0] or long > SIDE_LIMITS[1] or long > ASPECT_LIMIT * short:
            problems["extreme_size"] = f"{image.width}x{image.height} pixels"
        try:
            if (pages := getattr(image, "n_frames", 1)) > 1:
                problems["several_pages"] = f"{pages} of them"
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            problems = {"damaged_image": str(error)}
    return problems


def named(path: Path, data: DataConfig) -> dict[str, str | None]:
    """The "group" (patient) and "clip" in a file name, if `data` has a pattern for them; None where it finds none."""
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
    """(classes + 1, views + 1) frames that show a class and a view; last row: no box, last column: no view."""
    counts = np.zeros((len(data.names) + 1, len(data.view_names) + 1), int)
    for frame in frames:
        if frame.labels is not None:
            rows = (
                np.unique(frame.labels.boxes[:, 0]).astype(int) if len(frame.labels.boxes) else -1
            )
            counts[rows, frame.labels.view] += 1
    return counts


def with_view(frames: Iterable[Frame]) -> list[Frame]:
    """The frames whose view is known."""
    return [
        frame for frame in frames if frame.labels is not None and frame.labels.view != UNKNOWN_VIEW
    ]


def group_by(items: Iterable, key: Callable) -> dict:
    """Items by what `key` says of them, without those of which it says None, in order."""
    grouped = defaultdict(list)
    for item in items:
        if (value := key(item)) is not None:
            grouped[value].append(item)
    return grouped


def in_turn(groups: Iterable[Sequence[Frame]]) -> tuple[Path, ...]:
    """The first of every group, then the second of every group, ..., so that what differs comes first."""
    return tuple(frame.path for turn in zip_longest(*groups) for frame in turn if frame)
