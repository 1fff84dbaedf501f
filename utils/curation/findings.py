"""What is wrong with a data set: a function for each kind of finding.

Levels of findings: an *error* stops a training or contradicts itself; a *leak* makes a score say
less about new data than it seems to; a *doubt* may be right, but a person should look.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.pixels import fits_few_bits, unknown_bits
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

NEAR_BITS = 24  # of 3 x 256: a copy stored anew, scaled or brightened differs by less, another frame by more
RARE_SHARE = 0.03  # of a class's frames with a view; a pair below that is suspect


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
    """Splits of 16-bit images whose values leave open how many bits are stored, where the data set does not say."""
    deep = [frame for frame in frames if frame.largest is not None and data.bits is None]
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
    classes = np.concatenate([labels.boxes[:, 0] for labels in split.labels])
    views = {labels.view for labels in split.labels} - {UNKNOWN_VIEW}
    is_boxless, is_viewless = (
        bool(data.names) and not len(classes),
        bool(data.view_names) and not views,
    )
    nothing = [
        what for what, is_missing in (("box", is_boxless), ("view", is_viewless)) if is_missing
    ]
    for what in nothing:
        kind = "nothing_to_learn" if split.name == "train" else "no_example"
        yield Finding(kind, f"{split.name}: no {what} in {len(split.images)} frames")
    absent = (
        []
        if is_boxless
        else [name for number, name in enumerate(data.names) if number not in classes]
    )
    absent += (
        []
        if is_viewless
        else [name for number, name in enumerate(data.view_names) if number not in views]
    )
    if absent:
        yield Finding("no_example", f"{split.name}: {', '.join(absent)}")
    if data.view_names and len(views) == 1:
        yield Finding("single_view", f"{split.name}: {data.view_names[min(views)]}")


def find_same_files(frames: Sequence[Frame]) -> Iterator[Finding]:
    """Image files that are in more than one split, or listed more than once in one; links are what they lead to."""
    for own in group_by(frames, lambda frame: os.path.realpath(frame.path)).values():
        counts = Counter(frame.split for frame in own)
        detail = ", ".join(f"{split} {count}" for split, count in counts.items())
        files = tuple(dict.fromkeys(frame.path for frame in own))
        if len(counts) > 1:
            yield Finding("shared_file", detail, files)
        elif len(own) > 1:
            yield Finding("repeated_file", detail, files)


def find_orphans(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Label files, in the folders that belong to the frames', beside which no image lies (in any split or none)."""
    folders = {frame.path.parent: label_path(frame.path, data).parent for frame in frames}
    for entry in (entry for entries in data.splits.values() for entry in entries if entry.is_dir()):
        for folder in (entry, *(path for path in below(entry) if path.is_dir())):
            folders[folder] = label_path(folder / "x.jpg", data).parent
    lists = {entry for entries in data.splits.values() for entry in entries}
    for images, labels in sorted(folders.items()):
        known = {path.stem for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
        for path in sorted(set(labels.glob("*.txt")) - lists):
            if path.stem not in known:
                yield Finding("orphan_label", "", (path,))


def identical(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames by their pixels; those that cannot be read are left out."""
    return list(group_by(frames, lambda frame: frame.pixels or None).values())


def almost_identical(same: Sequence[list[Frame]]) -> list[list[Frame]]:
    """What `identical` found, joined where perceptual hashes chain within `NEAR_BITS`."""
    chain = np.arange(len(same))
    for first, second in _near_pairs(np.array([own[0].bits for own in same])):
        chain[chain == chain[second]] = chain[first]
    near = group_by(range(len(same)), lambda index: chain[index]).values()
    return [[frame for index in own for frame in same[index]] for own in near]


def find_duplicates(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Groups of files with the same pixels, and of files that are almost identical."""
    once = [own[0] for own in group_by(frames, lambda frame: os.path.realpath(frame.path)).values()]
    same = identical(once)
    near = [own for own in almost_identical(same) if len({frame.pixels for frame in own}) > 1]
    for kind, groups in (
        ("duplicate", [own for own in same if len(own) > 1]),
        ("near_duplicate", near),
    ):
        for group in groups:
            is_shared = len({frame.split for frame in group}) > 1
            labels = [frame.labels for frame in group if frame.labels is not None]
            disagree = _disagreement(data, labels)
            agreements = [
                np.r_[agree(a, b)[0], agree(b, a)[0]]
                for a, b in combinations([f.boxes for f in labels], 2)
            ]
            iou = min((float(values.mean()) for values in agreements if len(values)), default=None)
            detail = ", ".join(
                filter(None, [disagree, iou is not None and f"boxes agree to IoU {iou:.2f}"])
            )
            files = in_turn(group_by(group, lambda frame: frame.split).values())
            yield Finding(f"shared_{kind}" if is_shared else kind, detail, files, iou)
            if kind == "duplicate" and disagree:
                yield Finding("conflict", detail, files, iou)


def _near_pairs(bits: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows of `bits` (n, 768) that differ in at most `NEAR_BITS` bits."""
    signs = (
        bits.astype(np.float32) * 2 - 1
    )  # a product of two rows is bits that agree - bits that differ
    for start in range(0, len(signs), 1024):
        agreement = signs[start : start + 1024] @ signs.T
        for first, second in zip(
            *np.nonzero(agreement >= bits.shape[1] - 2 * NEAR_BITS), strict=True
        ):
            if start + first < second:
                yield start + first, second


def _disagreement(data: DataConfig, labels: Sequence[FrameLabels]) -> str:
    """How the classes or the known views of frames differ; empty if they do not."""
    views = {frame.view for frame in labels} - {UNKNOWN_VIEW}
    classes = {tuple(sorted(frame.boxes[:, 0])) for frame in labels}
    texts = [
        "+".join(data.names[int(number)] for number in numbers) or "no box"
        for numbers in sorted(classes)
    ]
    parts = [f"boxes {' / '.join(texts)}"] if len(classes) > 1 else []
    parts += (
        [f"views {' / '.join(data.view_names[view] for view in sorted(views))}"]
        if len(views) > 1
        else []
    )
    return ", ".join(parts)


def overlap(data: DataConfig, frames: Sequence[Frame], what: str) -> Overlap | None:
    """How groups or clips, as `what` says, lie over splits; None if the file names name none."""
    groups = group_by(frames, lambda frame: named(frame.path, data).get(what))
    shared = {name for name, own in groups.items() if len({frame.split for frame in own}) > 1}
    touched = {
        split: float(np.mean([named(frame.path, data).get(what) in shared for frame in own]))
        for split, own in group_by(frames, lambda frame: frame.split).items()
    }
    return Overlap(len(groups), tuple(sorted(shared)), touched) if groups else None


def find_shared(
    data: DataConfig, frames: Sequence[Frame], what: str, found: Overlap | None
) -> Iterator[Finding]:
    """The groups or clips in more than one split, and how many of their frames are where."""
    members = group_by(frames, lambda frame: named(frame.path, data).get(what))
    for name in found.shared if found else ():
        counts = Counter(frame.split for frame in members[name])
        detail = f"{name}: {', '.join(f'{split} {count}' for split, count in counts.items())}"
        yield Finding(f"shared_{what}", detail, tuple(frame.path for frame in members[name]))


def find_view_changes(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Clips, over all splits, with more than one view; the first files show different ones."""
    clips = group_by(with_view(frames), lambda frame: named(frame.path, data).get("clip"))
    for clip, own in sorted(clips.items()):
        by_view = sorted(
            group_by(own, lambda frame: frame.labels.view).items(), key=lambda item: -len(item[1])
        )
        if len(by_view) > 1:
            detail = f"{clip}: {', '.join(f'{data.view_names[view]} {len(shown)}' for view, shown in by_view)}"
            yield Finding("view_change", detail, in_turn(shown for _, shown in by_view))


def find_rare_pairs(data: DataConfig, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Pairs of class and view that are less than `RARE_SHARE` of the class's frames with a view."""
    counts = class_view_counts(data, frames)[:-1, :-1]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, view in np.argwhere((counts > 0) & (shares < RARE_SHARE)):
        shown = [
            f
            for f in frames
            if f.labels is not None and f.labels.view == view and row in f.labels.boxes[:, 0]
        ]
        name, share = data.names[row], shares[row, view]
        detail = f"{name} in {data.view_names[view]}: {share:.1%} of the {name} frames"
        yield Finding("rare_pair", detail, tuple(frame.path for frame in shown))


def score_column_orders(
    data: DataConfig, frames: Sequence[Frame], plausible: Mapping[str, Sequence[str]]
) -> dict[tuple[str, ...], float]:
    """Order of the view names -> share of frames with box and view that show an implausible pair, lowest first."""
    cost = np.zeros(
        (len(data.view_names),) * 2
    )  # frames of column i that are implausible if its name is j
    shown = [frame.labels for frame in with_view(frames) if len(frame.labels.boxes)]
    for labels in shown:
        classes = [data.names[int(number)] for number in labels.boxes[:, 0]]
        cost[labels.view] += [
            any(view not in plausible[name] for name in classes) for view in data.view_names
        ]
    columns = range(len(cost))
    totals = {
        order: cost[columns, order].sum() / max(len(shown), 1) for order in permutations(columns)
    }
    ranked = sorted(totals.items(), key=lambda item: item[1])
    return {
        tuple(data.view_names[index] for index in order): float(share) for order, share in ranked
    }


def find_better_order(
    data: DataConfig, orders: Mapping[tuple[str, ...], float]
) -> Iterator[Finding]:
    """The best order of the columns, if it makes fewer frames implausible than the one used."""
    best = next(iter(orders), data.view_names)
    if orders and orders[best] < orders[data.view_names]:
        shares = f"{orders[best]:.0%} of the frames implausible rather than {orders[data.view_names]:.0%}"
        yield Finding("column_order", f"cls_names: [{', '.join(best)}] makes {shares}")
