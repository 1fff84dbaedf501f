"""What is wrong with a data set: a function for each kind of finding.

Levels of findings: an *error* stops a training or contradicts itself; a *leak* makes a score say
less about new data than it seems to; a *doubt* may be right, but a person should look.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, permutations
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.pixels import fits_few_bits, unknown_bits
from utils.core.title import plural
from utils.curation.frames import (
    Frame,
    as_split,
    class_view_counts,
    group_by,
    in_turn,
    named,
    with_view,
)
from utils.curation.kinds import KINDS
from utils.curation.reference import agree
from utils.data.images import IMAGE_SUFFIXES
from utils.data.labels import UNKNOWN_VIEW, FrameLabels
from utils.data.splits import Split, below, label_path, shared_labels

# Of 3 x 256 bits: a copy stored anew, scaled or brightened differs by less, another frame by more.
NEAR_BITS = 24
RARE_SHARE = 0.03  # of a class's frames with a view; a pair below that is suspect


@dataclass(frozen=True)
class Finding:
    """One thing found: what, and in which files.

    Attributes:
        kind: one of `KINDS`.
        iou: how well the boxes drawn on duplicates agree; None where there are none.
    """

    kind: str
    detail: str
    files: tuple[Path, ...] = ()
    iou: float | None = None

    @property
    def level(self) -> str:
        return KINDS[self.kind][0]


@dataclass(frozen=True)
class Overlap:
    """How groups or clips lie over the splits.

    Attributes:
        total: how many there are.
        shared: names of those in more than one split.
        touched: split -> share of its frames that are in one of `shared`.
    """

    total: int
    shared: tuple[str, ...]
    touched: dict[str, float]


def find_file_faults(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """What a single frame shows, and splits without label files."""
    for frame in frames:
        for kind, detail in frame.problems.items():
            yield Finding(kind, detail, (frame.path,))
        if None in named(frame.path, data).values():
            yield Finding("unmatched_name", "", (frame.path,))
    for name, own in group_by(frames, lambda frame: frame.split).items():
        if all("missing_label" in frame.problems for frame in own):
            yield Finding("unlabelled_split", f"{name}: {own[0].problems['missing_label']}")


def find_unknown_bits(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Splits of 16-bit images of which neither the values nor the data set tell the stored bits."""
    if data.bits is not None:
        return
    deep = [frame for frame in frames if frame.largest is not None]
    for name, own in group_by(deep, lambda frame: frame.split).items():
        largest = max(frame.largest for frame in own)
        if fits_few_bits(largest):
            files = tuple(frame.path for frame in own)
            yield Finding("unknown_bits", unknown_bits(name, len(own), largest), files)


def find_shared_labels(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Label files that belong to more than one image, of one split or of several."""
    for label, images in shared_labels([frame.path for frame in frames], data).items():
        yield Finding("shared_label", f"all look for {label}", tuple(images))


def find_missing_examples(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """See `missing_examples`; a split without any label file is another finding."""
    for name, own in group_by(frames, lambda frame: frame.split).items():
        if not all("missing_label" in frame.problems for frame in own):
            yield from missing_examples(data, as_split(own, name))


def missing_examples(data: DataConfig, split: Split) -> Iterator[Finding]:
    """Classes and views that no frame of a split shows, and a split that shows one view only."""
    classes = set(split.labels.boxes[:, 0].tolist())
    views = set(split.labels.views.tolist()) - {UNKNOWN_VIEW}
    kind_if_empty = "no_example"
    if split.name == "train":
        kind_if_empty = "nothing_to_learn"
    absent = []
    for what, names, shown in (
        ("box", data.names, classes),
        (data.cls_title, data.view_names, views),
    ):
        if names and not shown:
            detail = f"{split.name}: no {what} in {len(split.images)} frames"
            yield Finding(kind_if_empty, detail)
        else:
            absent += [name for number, name in enumerate(names) if number not in shown]
    if absent:
        yield Finding("no_example", f"{split.name}: {', '.join(absent)}")
    if data.view_names and len(views) == 1:
        yield Finding("single_view", f"{split.name}: {data.view_names[min(views)]}")


def find_same_files(frames: Sequence[Frame]) -> Iterator[Finding]:
    """Image files in more than one split, or more than once in one; links are what they lead to."""
    for own in group_by(frames, lambda frame: os.path.realpath(frame.path)).values():
        counts = Counter(frame.split for frame in own)
        detail = ", ".join(f"{split} {count}" for split, count in counts.items())
        files = tuple(dict.fromkeys(frame.path for frame in own))
        if len(counts) > 1:
            yield Finding("shared_file", detail, files)
        elif len(own) > 1:
            yield Finding("repeated_file", detail, files)


def find_orphans(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Label files without an image of that name, in the folders that belong to the images'.

    An image counts that no split lists.
    """
    entries = set(chain.from_iterable(data.splits.values()))
    for images, labels in sorted(_label_folders(data, frames, entries).items()):
        known = {path.stem for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
        for path in sorted(set(labels.glob("*.txt")) - entries):
            if path.stem not in known:
                yield Finding("orphan_label", "", (path,))


def _label_folders(
    data: DataConfig, frames: Sequence[Frame], entries: Iterable[Path]
) -> dict[Path, Path]:
    """Folder of images -> folder of their labels: of the frames, and all in `entries`."""
    folders = {frame.path.parent: label_path(frame.path, data).parent for frame in frames}
    for entry in entries:
        if not entry.is_dir():
            continue
        for path in (entry, *below(entry)):
            if path.is_dir():
                folders[path] = label_path(path / "x.jpg", data).parent
    return folders


def identical(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames by their pixels; those that cannot be read are left out."""
    return list(group_by(frames, lambda frame: frame.pixels or None).values())


def almost_identical(same: Sequence[list[Frame]]) -> list[list[Frame]]:
    """What `identical` found, joined where perceptual hashes chain within `NEAR_BITS`."""
    number = np.arange(len(same))  # of the joined group that each group of `same` is in
    for first, second in _near_pairs(np.array([own[0].bits for own in same])):
        number[number == number[second]] = number[first]
    joined = defaultdict(list)
    for index, own in zip(number, same, strict=True):
        joined[index] += own
    return list(joined.values())


def find_duplicates(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Groups of files with the same pixels, and of files that are almost identical."""
    once = [own[0] for own in group_by(frames, lambda frame: os.path.realpath(frame.path)).values()]
    same = identical(once)
    for group in same:
        if len(group) > 1:
            finding = _duplicate(data, "duplicate", group)
            yield finding
            if _disagreement(data, group):
                yield replace(finding, kind="conflict")
    for group in almost_identical(same):
        if _count_different(frame.pixels for frame in group) > 1:
            yield _duplicate(data, "near_duplicate", group)


def _duplicate(data: DataConfig, kind: str, group: Sequence[Frame]) -> Finding:
    """The finding of a group of identical or almost identical pictures.

    Its kind is `kind`, or "shared_" and that where they are in more than one split.
    """
    if _count_different(frame.split for frame in group) > 1:
        kind = f"shared_{kind}"
    details = [_disagreement(data, group)]
    iou = lowest_agreement(group)
    if iou is not None:
        details.append(f"boxes agree to IoU {iou:.2f}")
    files = in_turn(group_by(group, lambda frame: frame.split).values())
    return Finding(kind, ", ".join(filter(None, details)), files, iou)


def lowest_agreement(group: Sequence[Frame]) -> float | None:
    """The lowest, over pairs of frames, of the mean IoU of the boxes of either with the other's.

    None where no two frames with labels have boxes.
    """
    boxes = [frame.labels.boxes for frame in group if frame.labels is not None]
    means = []
    for one, other in combinations(boxes, 2):
        iou = np.r_[agree(one, other)[0], agree(other, one)[0]]
        if len(iou):
            means.append(float(iou.mean()))
    return min(means, default=None)


def _count_different(values: Iterable) -> int:
    return len(set(values))


def _near_pairs(bits: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows of `bits` (n, 768) that differ in at most `NEAR_BITS` bits."""
    if not len(bits):
        return
    # The product of two rows of signs is the bits that agree less those that differ.
    signs = bits.astype(np.float32) * 2 - 1
    least = bits.shape[1] - 2 * NEAR_BITS
    for start in range(0, len(signs), 1024):
        products = signs[start : start + 1024] @ signs.T
        for first, second in np.argwhere(products >= least):
            if start + first < second:
                yield start + first, second


def _disagreement(data: DataConfig, frames: Iterable[Frame]) -> str:
    """How the classes or the known views of frames differ; empty if they do not."""
    labels = [frame.labels for frame in frames if frame.labels is not None]
    views = {own.view for own in labels} - {UNKNOWN_VIEW}
    classes = {tuple(sorted(own.boxes[:, 0])) for own in labels}
    parts = []
    if len(classes) > 1:
        texts = [_class_text(data, numbers) for numbers in sorted(classes)]
        parts.append(f"boxes {' / '.join(texts)}")
    if len(views) > 1:
        names = [data.view_names[view] for view in sorted(views)]
        parts.append(f"{plural(data.cls_title)} {' / '.join(names)}")
    return ", ".join(parts)


def _class_text(data: DataConfig, numbers: Iterable[float]) -> str:
    names = [data.names[int(number)] for number in numbers]
    return "+".join(names) or "no box"


def overlap(data: DataConfig, frames: Sequence[Frame], what: str) -> Overlap | None:
    """How groups or clips, as `what` says, lie over splits; None if the file names name none."""
    groups = group_by(frames, lambda frame: named(frame.path, data).get(what))
    if not groups:
        return None
    shared = []
    frames_shared = Counter()
    for name, own in groups.items():
        if _count_different(frame.split for frame in own) > 1:
            shared.append(name)
            frames_shared.update(frame.split for frame in own)
    frames_of = Counter(frame.split for frame in frames)
    touched = {split: frames_shared[split] / count for split, count in frames_of.items()}
    return Overlap(len(groups), tuple(sorted(shared)), touched)


def find_shared(
    data: DataConfig, frames: Sequence[Frame], what: str, found: Overlap | None
) -> Iterator[Finding]:
    """The groups or clips in more than one split, and how many of their frames are where."""
    if found is None:
        return
    members = group_by(frames, lambda frame: named(frame.path, data).get(what))
    for name in found.shared:
        counts = Counter(frame.split for frame in members[name])
        places = [f"{split} {count}" for split, count in counts.items()]
        files = tuple(frame.path for frame in members[name])
        yield Finding(f"shared_{what}", f"{name}: {', '.join(places)}", files)


def find_view_changes(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Clips, over all splits, with more than one view; the first files show different ones."""
    clips = group_by(with_view(frames), lambda frame: named(frame.path, data).get("clip"))
    for clip, own in sorted(clips.items()):
        by_view = group_by(own, lambda frame: frame.labels.view)
        if len(by_view) < 2:
            continue
        most_first = sorted(by_view, key=lambda view: -len(by_view[view]))
        counts = [f"{data.view_names[view]} {len(by_view[view])}" for view in most_first]
        files = in_turn(by_view[view] for view in most_first)
        yield Finding("view_change", f"{clip}: {', '.join(counts)}", files)


def find_rare_pairs(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Pairs of class and view that are less than `RARE_SHARE` of the class's frames with a view."""
    counts = class_view_counts(data, frames)[:-1, :-1]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    seen = with_view(frames)
    for number, view in np.argwhere((counts > 0) & (shares < RARE_SHARE)):
        of_view = [frame for frame in seen if frame.labels.view == view]
        files = [frame.path for frame in of_view if number in frame.labels.boxes[:, 0]]
        name = data.names[number]
        share = f"{shares[number, view]:.1%} of the {name} frames"
        yield Finding("rare_pair", f"{name} in {data.view_names[view]}: {share}", tuple(files))


def score_column_orders(
    data: DataConfig, frames: Sequence[Frame], plausible: Mapping[str, Sequence[str]]
) -> dict[tuple[str, ...], float]:
    """The share of frames that each order of the view columns makes implausible, lowest first.

    Counted are the frames with a box and a view; a frame is implausible if the view is not a
    plausible one of all its classes.

    Returns:
        Order of the view names -> share.
    """
    shown = [frame.labels for frame in with_view(frames) if len(frame.labels.boxes)]
    cost = _implausible(data, shown, plausible)
    columns = range(len(cost))
    shares = {}
    for order in permutations(columns):
        names = tuple(data.view_names[index] for index in order)
        shares[names] = float(cost[columns, order].sum() / max(len(shown), 1))
    return dict(sorted(shares.items(), key=lambda item: item[1]))


def _implausible(
    data: DataConfig, shown: Iterable[FrameLabels], plausible: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """(views, views) frames of view column i that are implausible if its name is the j-th."""
    count = len(data.view_names)
    cost = np.zeros((count, count))
    for labels in shown:
        classes = {data.names[int(number)] for number in labels.boxes[:, 0]}
        for column, view in enumerate(data.view_names):
            cost[labels.view, column] += any(view not in plausible[name] for name in classes)
    return cost


def find_better_order(
    data: DataConfig, orders: Mapping[tuple[str, ...], float]
) -> Iterator[Finding]:
    """The best order of the columns, if it makes fewer frames implausible than the one used."""
    if not orders:
        return
    best = next(iter(orders))
    lowest = orders[best]
    present = orders[data.view_names]
    if lowest < present:
        shares = f"{lowest:.0%} of the frames implausible rather than {present:.0%}"
        yield Finding("column_order", f"cls_names: [{', '.join(best)}] makes {shares}")
