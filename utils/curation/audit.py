"""All findings of a data set put together, and the few that a training is warned of before it starts."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from utils.core.data_config import DataConfig
from utils.core.names import TASKS
from utils.core.script import UserError
from utils.core.values import read_yaml_mapping
from utils.curation.findings import (
    KINDS,
    Finding,
    Overlap,
    find_better_order,
    find_duplicates,
    find_file_faults,
    find_missing_examples,
    find_orphans,
    find_rare_pairs,
    find_same_files,
    find_shared,
    find_shared_labels,
    find_unknown_bits,
    find_view_changes,
    missing_examples,
    overlap,
    score_column_orders,
)
from utils.curation.frames import Frame, as_split, class_view_counts, named, read_frames, with_view
from utils.curation.reference import NeighbourOracle, ViewOracle, neighbour_oracle, view_oracle
from utils.data.splits import Split, by_file


@dataclass(frozen=True)
class Audit:
    """All of it.

    Attributes:
        groups, clips: None without a pattern that matches.
        column_orders: order of the view names -> share of labelled frames that it makes
            implausible, lowest first.
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
        plausible: box class -> its plausible views, see `read_plausible`; None leaves the columns'
            order unjudged.

    Raises:
        UserError: a split's folder, list or listed image does not exist, or it has no image.
    """
    frames = read_frames(data)
    groups, clips = (overlap(data, frames, what) for what in ("group", "clip"))
    orders = score_column_orders(data, frames, plausible) if plausible else {}
    findings = [
        *find_file_faults(data, frames),
        *find_unknown_bits(data, frames),
        *find_shared_labels(data, frames),
        *find_orphans(data, frames),
        *find_missing_examples(data, frames),
        *find_same_files(frames),
        *find_duplicates(data, frames),
        *find_shared(data, frames, "group", groups),
        *find_shared(data, frames, "clip", clips),
        *find_view_changes(data, frames),
        *find_rare_pairs(data, frames),
        *find_better_order(data, orders),
    ]
    findings.sort(key=lambda finding: list(KINDS).index(finding.kind))
    train = as_split(frames, "train")
    others = [as_split(frames, name) for name in data.splits if name != "train" and clips]
    neighbour = {split.name: neighbour_oracle(data, train, split) for split in others if data.names}
    view = {split.name: view_oracle(data, train, split) for split in others if data.view_names}
    return Audit(data, tuple(frames), tuple(findings), groups, clips, orders, neighbour, view)


def quick_warnings(data: DataConfig, train: Split, val: Split, tasks: Sequence[str] = TASKS) -> str:
    """What file names and labels alone say against a training for `tasks`, in a few lines; empty if nothing."""
    names = data.names if "detection" in tasks else ()
    view_names = data.view_names if "classification" in tasks else ()
    judged = replace(data, names=names, view_names=view_names)
    lines = [*_shared_lines(data, train, val), *_missing_lines(judged, train, val)]
    if view_names:
        lines += _view_lines(data, train, val)
    if not lines:
        return ""
    more = f"more: python check_dataset.py --data {shlex.quote(str(data.source))}"
    return "\n  ".join([f"{data.source}:", *lines, more])


def _as_frames(*splits: Split) -> list[Frame]:
    return [
        Frame(split.name, path, labels)
        for split in splits
        for path, labels in zip(split.images, split.labels, strict=True)
    ]


def _shared_lines(data: DataConfig, train: Split, val: Split) -> list[str]:
    """What is in both splits: files, groups, clips; and file names that tell no group."""
    frames, lines = _as_frames(train, val), []
    known = by_file(train.images)
    same = [image for image in val.images if os.path.realpath(image) in known]
    if same:
        share = f"{len(same)} of {val.name}'s {len(val.images)}"
        lines.append(
            f"the same image files in {train.name} and {val.name}: {share}, the first: {same[0]}"
        )
    shared = []
    for what in ("group", "clip"):
        found = overlap(data, frames, what)
        if found and found.shared:
            touched = f"{found.touched[val.name]:.0%} of {val.name}'s frames"
            shared.append(f"{len(found.shared)} of {found.total} {what}s ({touched})")
    if shared:
        both = f"in both {train.name} and {val.name}: {', '.join(shared)}"
        lines.append(f"{both}; a score says that much less about new ones")
    unnamed = [image for image in (*train.images, *val.images) if data.found_group(image) is None]
    if data.group_pattern and unnamed:
        lines.append(
            f"file names without a group, each a group by itself: {len(unnamed)}, the first: {unnamed[0].name}"
        )
    return lines


def _missing_lines(data: DataConfig, train: Split, val: Split) -> list[str]:
    """Classes and views that a split lacks."""
    notes = {
        "nothing_to_learn": "",
        "no_example": "; what is not learnt is not found, and its figures are undefined where it is not shown",
        "single_view": "; there, balanced accuracy is undefined, as there is nothing to tell apart",
    }
    found = [*missing_examples(data, train), *missing_examples(data, val)]
    lines = []
    for kind, note in notes.items():
        details = [finding.detail for finding in found if finding.kind == kind]
        lines += [f"{KINDS[kind][1]}: {'; '.join(details)}{note}"] if details else []
    return lines


def _view_lines(data: DataConfig, train: Split, val: Split) -> list[str]:
    """Frames without a view, and clips with several."""
    lines = []
    by_split = {split.name: _as_frames(split) for split in (train, val)}
    for meaning, count in (
        ("frames without a view", lambda own: len(own) - len(with_view(own))),
        ("clips whose view changes", lambda own: len(list(find_view_changes(data, own)))),
    ):
        numbers = {name: count(own) for name, own in by_split.items()}
        counts = [f"{number} in {name}" for name, number in numbers.items() if number]
        lines += [f"{meaning}: {', '.join(counts)}"] if counts else []
    return lines


def read_plausible(path: str | Path, data: DataConfig) -> dict[str, list[str]]:
    """A YAML file that maps every box class to its plausible views.

    Raises:
        UserError: unreadable, or its names are not those of the data set.
    """
    content = read_yaml_mapping(Path(path), "--plausible takes lines like 'MR: [A4C, PLAX]'")
    if set(content) != set(data.names):
        raise UserError(
            f"{path}: found classes {sorted(map(str, content))}, expected {list(data.names)}"
        )
    for name, views in content.items():
        if not isinstance(views, list) or any(view not in data.view_names for view in views):
            raise UserError(
                f"{path}: {name} is {views!r}, expected a list of views out of {list(data.view_names)}"
            )
    if not any(content.values()):
        raise UserError(
            f"{path}: no class has a plausible view, so that no order is better than another; name some"
        )
    if len(data.view_names) > 8:
        raise UserError(
            f"{path}: {len(data.view_names)} views have too many orders; at most 8 are tried"
        )
    return content


def name_of(audit: Audit, path: Path) -> str:
    """A file's path below the data set's folder."""
    return Path(os.path.relpath(path, audit.data.root)).as_posix()


def to_mapping(audit: Audit) -> dict:
    """Everything but the frames themselves, as plain values."""
    data, counts = audit.data, class_view_counts(audit.data, audit.frames)
    sizes = Counter(f"{frame.size[0]}x{frame.size[1]}" for frame in audit.frames if frame.size)
    findings = {}
    for finding in audit.findings:
        level, meaning = KINDS[finding.kind]
        kind = findings.setdefault(
            finding.kind, {"level": level, "meaning": meaning, "count": 0, "found": []}
        )
        files = [name_of(audit, path) for path in finding.files]
        kind["found"].append({"detail": finding.detail, "files": files, "iou": finding.iou})
        kind["count"] += 1
    return {
        "data": str(data.source),
        "splits": {
            name: _split_counts(audit, [f for f in audit.frames if f.split == name])
            for name in data.splits
        },
        "sizes": dict(sizes.most_common()),
        "class_by_view": {
            "rows": [*data.names, "no box"],
            "columns": [*data.view_names, "no view"],
            "frames": counts.tolist(),
        },
        "findings": findings,
        "groups": audit.groups and asdict(audit.groups),
        "clips": audit.clips and asdict(audit.clips),
        "column_orders": [
            {"cls_names": list(order), "implausible": share}
            for order, share in audit.column_orders.items()
        ],
        "neighbour_oracle": {name: asdict(oracle) for name, oracle in audit.neighbour.items()},
        "view_oracle": {name: asdict(oracle) for name, oracle in audit.view.items()},
    }


def _split_counts(audit: Audit, frames: Sequence[Frame]) -> dict:
    data, labels = audit.data, [frame.labels for frame in frames if frame.labels is not None]
    patterns = {"group": data.group_pattern, "clip": data.clip_pattern}
    classes = class_view_counts(data, frames).sum(axis=1).tolist()
    views = [
        sum(frame.view == view for frame in labels) for view in (*range(len(data.view_names)), -1)
    ]
    return {
        "frames": len(frames),
        "boxes": sum(len(frame.boxes) for frame in labels),
        **{
            f"{key}s": len({named(f.path, data)[key] for f in frames} - {None})
            for key in patterns
            if patterns[key]
        },
        "classes": dict(zip([*data.names, "no box"], classes, strict=True)),
        "views": dict(zip([*data.view_names, "no view"], views, strict=True))
        if data.view_names
        else {},
    }
