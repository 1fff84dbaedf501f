"""What is wrong with a data set, and how good a score on it can be: found before anything is trained.

Levels of findings: an *error* stops a training or contradicts itself; a *leak* makes a score say less about new
data than it seems to; a *doubt* may be right, but a person should look. Nothing is written into the data set.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations, permutations, zip_longest
from pathlib import Path

import cv2
import imagehash
import numpy as np
from PIL import Image
from tqdm import tqdm

from utils.config import DataConfig, read_yaml_mapping
from utils.dataloaders import IMAGE_SUFFIXES, Split, _generate_if_missing, find_images, label_path, read_image
from utils.general import UserError
from utils.labels import UNKNOWN_VIEW, FrameLabels, LabelError, read_label_file
from utils.reference import NeighbourOracle, ViewOracle, agree, neighbour_oracle, view_oracle

KINDS = {  # kind of finding -> its level, and in words
    "bad_label": ("error", "label files that break the format"),
    "unlabelled_split": ("error", "splits without any label file"),
    "empty_image": ("error", "images of 0 bytes"),
    "unreadable_image": ("error", "files that cannot be read as an image"),
    "damaged_image": ("error", "truncated or damaged images"),
    "conflict": ("error", "groups of identical pictures whose class or view differs"),
    "shared_group": ("leak", "groups (patients) in more than one split"),
    "shared_clip": ("leak", "clips in more than one split"),
    "shared_duplicate": ("leak", "groups of identical pictures in more than one split"),
    "shared_near_duplicate": ("leak", "groups of almost identical pictures in more than one split"),
    "missing_view": ("doubt", "labelled frames without a view"),
    "missing_label": ("doubt", "images without a label file (taken as background)"),
    "orphan_label": ("doubt", "label files without an image"),
    "unmatched_name": ("doubt", "file names that group_pattern or clip_pattern does not match"),
    "deep_image": ("doubt", "images of more than 8 bits a channel (cut to 8)"),
    "grey_image": ("doubt", "images without colour channels"),
    "alpha_image": ("doubt", "images with transparency (ignored)"),
    "extreme_size": ("doubt", "images of extreme size or shape"),
    "duplicate": ("doubt", "groups of identical pictures within a split"),
    "near_duplicate": ("doubt", "groups of almost identical pictures within a split"),
    "view_change": ("doubt", "clips whose view changes"),
    "column_order": ("doubt", "orders of the view columns that are more plausible than cls_names"),
    "rare_pair": ("doubt", "pairs of box class and view that are rare enough to be mistakes"),
}
HASH_SIDE = 16  # bits a side of the perceptual hash of each colour channel
NEAR_BITS = 24  # of 3 x 256: a copy stored anew, scaled or brightened differs by less, another frame by more
RARE_SHARE = 0.03  # of a class's frames with a view; a pair below that is suspect
SIDE_LIMITS, ASPECT_LIMIT = (64, 4096), 3  # pixels, and longer over shorter side, of an ordinary image


@dataclass(frozen=True)
class Frame:
    """One image of a split, as found.

    Attributes:
        labels: None where the label file is missing or breaks the format.
        size: width and height, pixels; None where the image cannot be read.
        pixels: digest of the decoded RGB pixels; empty where the image cannot be read.
        bits: (768,) bool, the perceptual hashes of red, green and blue.
        problems: kind of finding -> detail.
    """

    split: str
    path: Path
    labels: FrameLabels | None
    size: tuple[int, int] | None = None
    pixels: str = ""
    bits: np.ndarray = field(default_factory=lambda: np.zeros(3 * HASH_SIDE**2, bool))
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One thing found: what, in which files; `iou` is how well the boxes drawn on duplicates agree."""

    kind: str
    detail: str
    files: tuple[Path, ...] = ()
    iou: float | None = None

    @property
    def level(self) -> str:
        return KINDS[self.kind][0]


@dataclass(frozen=True)
class Overlap:
    """Groups or clips: how many, which are in more than one split, the share of each split's frames these hold."""

    total: int
    shared: tuple[str, ...]
    touched: dict[str, float]


@dataclass(frozen=True)
class Audit:
    """All of it.

    Attributes:
        groups, clips: None without a pattern that matches.
        column_orders: order of the view names -> share of labelled frames that it makes implausible, lowest first.
        neighbour, view: by split other than train; empty without clips.
    """

    data: DataConfig
    frames: tuple[Frame, ...]
    findings: tuple[Finding, ...]
    groups: Overlap | None
    clips: Overlap | None
    column_orders: dict[tuple[str, ...], float]
    neighbour: dict[str, NeighbourOracle]
    view: dict[str, ViewOracle]

    def of_kind(self, kind: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == kind]

    def exit_code(self, strict: bool = False) -> int:
        """1 where there is an error or a leak, with `strict` where there is anything; else 0."""
        return int(any(strict or finding.level != "doubt" for finding in self.findings))


def audit(data: DataConfig, plausible: Mapping[str, Sequence[str]] | None = None) -> Audit:
    """Look at every file of every split once.

    Args:
        plausible: box class -> its plausible views, see `read_plausible`; None leaves the columns' order unjudged.

    Raises:
        UserError: a split's folder, list or listed image does not exist, or it has no image.
    """
    frames = read_frames(data)
    groups, clips = (overlap(data, frames, what) for what in ("group", "clip"))
    orders = score_column_orders(data, frames, plausible) if plausible else {}
    findings = [
        *find_file_faults(data, frames),
        *find_orphans(data, frames),
        *find_duplicates(data, frames),
        *find_shared(data, frames, "group", groups),
        *find_shared(data, frames, "clip", clips),
        *find_view_changes(data, frames),
        *find_rare_pairs(data, frames),
        *find_better_order(data, orders),
    ]
    findings.sort(key=lambda finding: list(KINDS).index(finding.kind))
    train, *others = (as_split(frames, name) for name in data.splits)
    others = others if clips else []
    neighbour = {split.name: neighbour_oracle(data, train, split) for split in others}
    view = {split.name: view_oracle(data, train, split) for split in others if data.view_names}
    return Audit(data, tuple(frames), tuple(findings), groups, clips, orders, neighbour, view)


def quick_warnings(data: DataConfig, train: Split, val: Split) -> str:
    """What file names and labels alone say against a training, in a few lines; empty if nothing."""
    frames = [
        Frame(split.name, path, labels)
        for split in (train, val)
        for path, labels in zip(split.images, split.labels, strict=True)
    ]
    shared = [
        f"{len(found.shared)} of {found.total} {what}s ({found.touched[val.name]:.0%} of {val.name}'s frames)"
        for what in ("group", "clip")
        if (found := overlap(data, frames, what)) and found.shared
    ]
    both = f"in both {train.name} and {val.name}: {', '.join(shared)}; a score says that much less about new ones"
    lines = [both] if shared else []
    by_split = _by(frames, lambda frame: frame.split)
    for meaning, count in (
        ("frames without a view", lambda own: len(own) - len(with_view(own))),
        ("clips whose view changes", lambda own: len(list(find_view_changes(data, own)))),
    ):
        counts = [f"{number} in {name}" for name, own in by_split.items() if (number := count(own))]
        lines += [f"{meaning}: {', '.join(counts)}"] if counts else []
    if not lines:
        return ""
    more = f"more: python check_dataset.py --data {shlex.quote(str(data.source))}"
    return "\n  ".join([f"{data.source}:", *lines, more])


# ---- one pass over the files -------------------------------------------------------------------------------


def read_frames(data: DataConfig) -> list[Frame]:
    """Read every label file and decode every image of all splits, with a progress bar.

    Raises:
        UserError: see `find_images`.
    """
    _generate_if_missing(data)
    jobs = [(name, path) for name, entries in data.splits.items() for path in find_images(entries, name, data.source)]
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's; a damaged file is reported once, as a finding
        found = pool.map(lambda job: _read_frame(data, *job), jobs)
        return list(tqdm(found, "checking frames", len(jobs), unit="img", mininterval=0.5))


def _read_frame(data: DataConfig, split: str, path: Path) -> Frame:
    labels, problems, file = None, {}, label_path(path, data)
    try:
        if os.path.lexists(file):
            labels = read_label_file(file, len(data.names), len(data.view_names))
            if data.view_names and labels.view == UNKNOWN_VIEW:
                problems["missing_view"] = ""
        else:
            problems["missing_label"] = f"expected {file}"
    except LabelError as error:
        problems["bad_label"] = str(error)
    facts, image_problems = inspect_image(path)
    return Frame(split, path, labels, **facts, problems=problems | image_problems)


def inspect_image(path: Path) -> tuple[dict[str, object], dict[str, str]]:
    """What `Frame` says of an image, and its problems: kind of finding -> detail.

    Pillow says how it is stored and whether it is whole, OpenCV gives the pixels that a training sees.
    """
    try:
        if not path.stat().st_size:
            return {}, {"empty_image": ""}
        problems = _storage_problems(path)
        if "damaged_image" in problems:
            return {}, problems
        image = read_image(path)
    except (OSError, UserError, Image.DecompressionBombError) as error:
        return {}, {"unreadable_image": str(error).removeprefix(f"{path}: ")}
    small = cv2.resize(image, (4 * HASH_SIDE,) * 2, interpolation=cv2.INTER_AREA)
    channels = (Image.fromarray(channel) for channel in cv2.split(small))
    bits = np.ravel([imagehash.phash(channel, hash_size=HASH_SIDE).hash for channel in channels])
    pixels = hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()
    return {"size": image.shape[1::-1], "pixels": pixels, "bits": bits}, problems


def _storage_problems(path: Path) -> dict[str, str]:
    problems = {}
    with Image.open(path) as image:
        stored = " ".join(str(tile[3]) for tile in image.tile)  # Pillow's mode may hide 16 bits, the tiles do not
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
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            problems = {"damaged_image": str(error)}
    return problems


# ---- what names and labels say -----------------------------------------------------------------------------


def named(path: Path, data: DataConfig) -> dict[str, str | None]:
    """The "group" (patient) and "clip" in a file name, if `data` has a pattern for them; None where it finds none."""
    found = {}
    if data.group_pattern:
        match = re.search(data.group_pattern, path.name)
        found["group"] = match and match.group(1)
    if data.clip_pattern:
        clip = data.clip_of(path)
        found["clip"] = clip and clip[0]
    return found


def as_split(frames: Iterable[Frame], name: str) -> Split:
    """A split as trainings see it; frames without valid labels are background."""
    own = [frame for frame in frames if frame.split == name]
    return Split(name, tuple(frame.path for frame in own), tuple(frame.labels or FrameLabels() for frame in own))


def class_view_counts(data: DataConfig, frames: Iterable[Frame]) -> np.ndarray:
    """(classes + 1, views + 1) frames that show a class and a view; last row: no box, last column: no view."""
    counts = np.zeros((len(data.names) + 1, len(data.view_names) + 1), int)
    for frame in frames:
        if frame.labels is not None:
            rows = np.unique(frame.labels.boxes[:, 0]).astype(int) if len(frame.labels.boxes) else -1
            counts[rows, frame.labels.view] += 1
    return counts


def with_view(frames: Iterable[Frame]) -> list[Frame]:
    """The frames whose view is known."""
    return [frame for frame in frames if frame.labels is not None and frame.labels.view != UNKNOWN_VIEW]


def _by(items: Iterable, key: Callable) -> dict:
    """Items by what `key` says of them, without those of which it says None, in order."""
    grouped = defaultdict(list)
    for item in items:
        if (value := key(item)) is not None:
            grouped[value].append(item)
    return grouped


def _in_turn(groups: Iterable[Sequence[Frame]]) -> tuple[Path, ...]:
    """The first of every group, then the second of every group, ..., so that what differs comes first."""
    return tuple(frame.path for turn in zip_longest(*groups) for frame in turn if frame)


# ---- findings ----------------------------------------------------------------------------------------------


def find_file_faults(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """What a single frame shows, and splits without label files."""
    for frame in frames:
        for kind, detail in frame.problems.items():
            yield Finding(kind, detail, (frame.path,))
        if None in named(frame.path, data).values():
            yield Finding("unmatched_name", "", (frame.path,))
    for name, own in _by(frames, lambda frame: frame.split).items():
        if all("missing_label" in frame.problems for frame in own):
            yield Finding("unlabelled_split", f"{name}: {own[0].problems['missing_label']}")


def find_orphans(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Label files, in the folders that belong to the frames', beside which no image lies (in any split or none)."""
    folders = {frame.path.parent: label_path(frame.path, data).parent for frame in frames}
    for entry in (entry for entries in data.splits.values() for entry in entries if entry.is_dir()):
        for folder in (entry, *(path for path in entry.rglob("*") if path.is_dir())):
            folders[folder] = label_path(folder / "x.jpg", data).parent
    lists = {entry for entries in data.splits.values() for entry in entries}
    for images, labels in sorted(folders.items()):
        known = {path.stem for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
        for path in sorted(set(labels.glob("*.txt")) - lists):
            if path.stem not in known:
                yield Finding("orphan_label", "", (path,))


def find_duplicates(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Groups of frames with the same pixels, and of frames whose perceptual hashes chain within `NEAR_BITS`."""
    same = list(_by(frames, lambda frame: frame.pixels or None).values())
    chain = np.arange(len(same))
    for first, second in _near_pairs(np.array([own[0].bits for own in same])):
        chain[chain == chain[second]] = chain[first]
    near = _by(range(len(same)), lambda index: chain[index]).values()
    for kind, groups in (
        ("duplicate", [own for own in same if len(own) > 1]),
        ("near_duplicate", [[frame for index in own for frame in same[index]] for own in near if len(own) > 1]),
    ):
        for group in groups:
            is_shared = len({frame.split for frame in group}) > 1
            labels = [frame.labels for frame in group if frame.labels is not None]
            disagree = _disagreement(data, labels)
            agreements = [np.r_[agree(a, b)[0], agree(b, a)[0]] for a, b in combinations([f.boxes for f in labels], 2)]
            iou = min((float(values.mean()) for values in agreements if len(values)), default=None)
            detail = ", ".join(filter(None, [disagree, iou is not None and f"boxes agree to IoU {iou:.2f}"]))
            files = _in_turn(_by(group, lambda frame: frame.split).values())
            yield Finding(f"shared_{kind}" if is_shared else kind, detail, files, iou)
            if kind == "duplicate" and disagree:
                yield Finding("conflict", detail, files, iou)


def _near_pairs(bits: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows of `bits` (n, 768) that differ in at most `NEAR_BITS` bits."""
    signs = bits.astype(np.float32) * 2 - 1  # a product of two rows is bits that agree - bits that differ
    for start in range(0, len(signs), 1024):
        agreement = signs[start : start + 1024] @ signs.T
        for first, second in zip(*np.nonzero(agreement >= bits.shape[1] - 2 * NEAR_BITS), strict=True):
            if start + first < second:
                yield start + first, second


def _disagreement(data: DataConfig, labels: Sequence[FrameLabels]) -> str:
    """How the classes or the known views of frames differ; empty if they do not."""
    views = {frame.view for frame in labels} - {UNKNOWN_VIEW}
    classes = {tuple(sorted(frame.boxes[:, 0])) for frame in labels}
    texts = ["+".join(data.names[int(number)] for number in numbers) or "no box" for numbers in sorted(classes)]
    parts = [f"boxes {' / '.join(texts)}"] if len(classes) > 1 else []
    parts += [f"views {' / '.join(data.view_names[view] for view in sorted(views))}"] if len(views) > 1 else []
    return ", ".join(parts)


def overlap(data: DataConfig, frames: Sequence[Frame], what: str) -> Overlap | None:
    """How groups or clips, as `what` says, lie over splits; None if the file names name none."""
    groups = _by(frames, lambda frame: named(frame.path, data).get(what))
    shared = {name for name, own in groups.items() if len({frame.split for frame in own}) > 1}
    touched = {
        split: float(np.mean([named(frame.path, data).get(what) in shared for frame in own]))
        for split, own in _by(frames, lambda frame: frame.split).items()
    }
    return Overlap(len(groups), tuple(sorted(shared)), touched) if groups else None


def find_shared(data: DataConfig, frames: Sequence[Frame], what: str, found: Overlap | None) -> Iterator[Finding]:
    """The groups or clips in more than one split, and how many of their frames are where."""
    members = _by(frames, lambda frame: named(frame.path, data).get(what))
    for name in found.shared if found else ():
        counts = Counter(frame.split for frame in members[name])
        detail = f"{name}: {', '.join(f'{split} {count}' for split, count in counts.items())}"
        yield Finding(f"shared_{what}", detail, tuple(frame.path for frame in members[name]))


def find_view_changes(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Clips, over all splits, with more than one view; the first files show different ones."""
    clips = _by(with_view(frames), lambda frame: named(frame.path, data).get("clip"))
    for clip, own in sorted(clips.items()):
        by_view = sorted(_by(own, lambda frame: frame.labels.view).items(), key=lambda item: -len(item[1]))
        if len(by_view) > 1:
            detail = f"{clip}: {', '.join(f'{data.view_names[view]} {len(shown)}' for view, shown in by_view)}"
            yield Finding("view_change", detail, _in_turn(shown for _, shown in by_view))


def find_rare_pairs(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Pairs of class and view that are less than `RARE_SHARE` of the class's frames with a view."""
    counts = class_view_counts(data, frames)[:-1, :-1]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, view in np.argwhere((counts > 0) & (shares < RARE_SHARE)):
        shown = [f for f in frames if f.labels is not None and f.labels.view == view and row in f.labels.boxes[:, 0]]
        detail = (
            f"{data.names[row]} in {data.view_names[view]}: {shares[row, view]:.1%} of the {data.names[row]} frames"
        )
        yield Finding("rare_pair", detail, tuple(frame.path for frame in shown))


# ---- the order of the view columns -------------------------------------------------------------------------


def read_plausible(path: str | Path, data: DataConfig) -> dict[str, list[str]]:
    """A YAML file that maps every box class to its plausible views.

    Raises:
        UserError: unreadable, or its names are not those of the data set.
    """
    content = read_yaml_mapping(Path(path), "--plausible takes lines like 'MR: [A4C, PLAX]'")
    if set(content) != set(data.names):
        raise UserError(f"{path}: found classes {sorted(map(str, content))}, expected {list(data.names)}")
    for name, views in content.items():
        if not isinstance(views, list) or not set(map(str, views)) <= set(data.view_names):
            raise UserError(f"{path}: {name} is {views!r}, expected a list of views out of {list(data.view_names)}")
    if len(data.view_names) > 8:
        raise UserError(f"{path}: {len(data.view_names)} views have too many orders; at most 8 are tried")
    return content


def score_column_orders(
    data: DataConfig, frames: Sequence[Frame], plausible: Mapping[str, Sequence[str]]
) -> dict[tuple[str, ...], float]:
    """Order of the view names -> share of frames with box and view that show an implausible pair, lowest first."""
    cost = np.zeros((len(data.view_names),) * 2)  # frames of column i that are implausible if its name is j
    shown = [frame.labels for frame in with_view(frames) if len(frame.labels.boxes)]
    for labels in shown:
        classes = [data.names[int(number)] for number in labels.boxes[:, 0]]
        cost[labels.view] += [any(view not in plausible[name] for name in classes) for view in data.view_names]
    columns = range(len(cost))
    totals = {order: cost[columns, order].sum() / max(len(shown), 1) for order in permutations(columns)}
    ranked = sorted(totals.items(), key=lambda item: item[1])
    return {tuple(data.view_names[index] for index in order): float(share) for order, share in ranked}


def find_better_order(data: DataConfig, orders: Mapping[tuple[str, ...], float]) -> Iterator[Finding]:
    """The best order of the columns, if it makes fewer frames implausible than the one used."""
    best = next(iter(orders), data.view_names)
    if orders and orders[best] < orders[data.view_names]:
        shares = f"{orders[best]:.0%} of the frames implausible rather than {orders[data.view_names]:.0%}"
        yield Finding("column_order", f"cls_names: [{', '.join(best)}] makes {shares}")
