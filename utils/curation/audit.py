"""All findings of a data set, and the few that a training is warned of before it starts."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.names import TASKS
from utils.core.script import UserError
from utils.core.title import plural
from utils.core.yaml_reader import read_yaml_mapping
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
from utils.curation.frames import (
    Frame,
    as_split,
    class_view_counts,
    group_by,
    named,
    read_frames,
)
from utils.curation.reference import NeighbourOracle, ViewOracle, neighbour_oracle, view_oracle
from utils.data.labels import UNKNOWN_VIEW
from utils.data.splits import Split


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
        plausible: box class -> its plausible views, see `read_plausible`; without it, no other
            order of the view columns is tried.

    Raises:
        UserError: a split's folder, list or listed image does not exist, or it has no image.
    """
    frames = read_frames(data)
    groups = overlap(data, frames, "group")
    clips = overlap(data, frames, "clip")
    orders = {}
    if plausible:
        orders = score_column_orders(data, frames, plausible)
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
    kinds = list(KINDS)
    findings.sort(key=lambda finding: kinds.index(finding.kind))
    oracles = {"neighbour": {}, "view": {}}
    if clips:
        oracles = _oracles(data, frames)
    return Audit(data, tuple(frames), tuple(findings), groups, clips, orders, **oracles)


def _oracles(data: DataConfig, frames: Sequence[Frame]) -> dict[str, dict]:
    """The fields `neighbour` and `view` of an audit of clips."""
    train = as_split(frames, "train")
    others = [as_split(frames, name) for name in data.splits if name != "train"]
    oracles = {"neighbour": {}, "view": {}}
    if data.names:
        oracles["neighbour"] = {s.name: neighbour_oracle(data, train, s) for s in others}
    if data.view_names:
        oracles["view"] = {s.name: view_oracle(data, train, s) for s in others}
    return oracles


def quick_warnings(data: DataConfig, train: Split, val: Split, tasks: Sequence[str] = TASKS) -> str:
    """A few lines on what file names and labels alone show against a training for `tasks`.

    Empty if they show nothing.
    """
    needed = data
    if "detection" not in tasks:
        needed = replace(needed, names=())
    if "classification" not in tasks:
        needed = replace(needed, view_names=())
    lines = [*_shared_lines(data, train, val), *_missing_lines(needed, train, val)]
    if needed.view_names:
        lines += _view_lines(data, train, val)
    if not lines:
        return ""
    more = f"more: python check_dataset.py --data {shlex.quote(str(data.source))}"
    return "\n  ".join([f"{data.source}:", *lines, more])


def _shared_lines(data: DataConfig, train: Split, val: Split) -> list[str]:
    """What is in both splits: files, groups, clips; and file names that tell no group."""
    lines = []
    same = np.flatnonzero(np.isin(val.file_numbers, train.file_numbers))
    if len(same):
        share = f"{len(same)} of {val.name}'s {len(val.images)}"
        first = val.images[same[0]]
        lines.append(
            f"the same image files in {train.name} and {val.name}: {share}, the first: {first}"
        )
    groups = [data.found_groups(split.images.texts) for split in (train, val)]
    clips = [data.found_clips(split.images.texts) for split in (train, val)]
    shared = [*_shared_names("group", *groups, val.name), *_shared_names("clip", *clips, val.name)]
    if shared:
        both = f"in both {train.name} and {val.name}: {', '.join(shared)}"
        lines.append(f"{both}; a score says that much less about new ones")
    unnamed = sum(names.count(None) for names in groups)
    if data.group_pattern and unnamed:
        images = train.images.texts + val.images.texts
        first = images[(groups[0] + groups[1]).index(None)]
        lines.append(
            f"file names without a group, each a group by itself: {unnamed}, "
            f"the first: {os.path.basename(first)}"
        )
    return lines


def _shared_names(
    what: str, ours: Sequence[str | None], theirs: Sequence[str | None], split: str
) -> Iterator[str]:
    """How many groups or clips are in both splits, of which `theirs` are those of `split`."""
    total = {*ours, *theirs} - {None}
    shared = set(ours) & set(theirs) - {None}
    if shared:
        touched = sum(name in shared for name in theirs) / len(theirs)
        yield f"{len(shared)} of {len(total)} {what}s ({touched:.0%} of {split}'s frames)"


def _missing_lines(data: DataConfig, train: Split, val: Split) -> list[str]:
    """Classes and views that a split lacks."""
    notes = {
        "nothing_to_learn": "",
        "no_example": (
            "; what is not learnt is not found, and its figures are undefined where it is not shown"
        ),
        "single_view": "; there, balanced accuracy is undefined, as there is nothing to tell apart",
    }
    found = [*missing_examples(data, train), *missing_examples(data, val)]
    lines = []
    for kind, note in notes.items():
        details = [finding.detail for finding in found if finding.kind == kind]
        if details:
            lines.append(f"{data.said(KINDS[kind][1])}: {'; '.join(details)}{note}")
    return lines


def _view_lines(data: DataConfig, train: Split, val: Split) -> list[str]:
    """Frames without a view, and clips with several."""
    without_view = []
    changing = []
    for split in (train, val):
        views = split.labels.views.tolist()
        without = views.count(UNKNOWN_VIEW)
        if without:
            without_view.append(f"{without} in {split.name}")
        clips = data.found_clips(split.images.texts)
        shown = {(clip, view) for clip, view in zip(clips, views, strict=True) if view >= 0}
        times = Counter(clip for clip, _ in shown if clip)
        changes = sum(count > 1 for count in times.values())
        if changes:
            changing.append(f"{changes} in {split.name}")
    lines = []
    if without_view:
        lines.append(f"{data.said('frames without a view')}: {', '.join(without_view)}")
    if changing:
        lines.append(f"{data.said('clips whose view changes')}: {', '.join(changing)}")
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
            expected = f"{data.said('a list of views')} out of {list(data.view_names)}"
            raise UserError(f"{path}: {name} is {views!r}, expected {expected}")
    if not any(content.values()):
        found = data.said("no class has a plausible view")
        raise UserError(f"{path}: {found}, so that no order is better than another; name some")
    if len(data.view_names) > 8:
        many = f"{len(data.view_names)} {plural(data.cls_title)}"
        raise UserError(f"{path}: {many} have too many orders; at most 8 are tried")
    return content


def name_of(audit: Audit, path: Path) -> str:
    """A file's path below the data set's folder."""
    return Path(os.path.relpath(path, audit.data.root)).as_posix()


def to_mapping(audit: Audit) -> dict:
    """Everything but the frames themselves, as plain values."""
    data = audit.data
    by_split = group_by(audit.frames, lambda frame: frame.split)
    sizes = Counter(f"{frame.size[0]}x{frame.size[1]}" for frame in audit.frames if frame.size)
    orders = [
        {"cls_names": list(order), "implausible": share}
        for order, share in audit.column_orders.items()
    ]
    return {
        "data": str(data.source),
        "splits": {name: _split_counts(data, by_split[name]) for name in data.splits},
        "sizes": dict(sizes.most_common()),
        "class_by_view": {
            "rows": [*data.names, "no box"],
            "columns": [*data.view_names, data.said("no view")],
            "frames": class_view_counts(data, audit.frames).tolist(),
        },
        "findings": _findings_by_kind(audit),
        "groups": audit.groups and asdict(audit.groups),
        "clips": audit.clips and asdict(audit.clips),
        "column_orders": orders,
        "neighbour_oracle": {name: asdict(oracle) for name, oracle in audit.neighbour.items()},
        "view_oracle": {name: asdict(oracle) for name, oracle in audit.view.items()},
    }


def _findings_by_kind(audit: Audit) -> dict[str, dict]:
    kinds = {}
    for kind, found in group_by(audit.findings, lambda finding: finding.kind).items():
        level = KINDS[kind][0]
        meaning = audit.data.said(KINDS[kind][1])
        rows = [_finding_mapping(audit, finding) for finding in found]
        kinds[kind] = {"level": level, "meaning": meaning, "count": len(found), "found": rows}
    return kinds


def _finding_mapping(audit: Audit, finding: Finding) -> dict[str, object]:
    files = [name_of(audit, path) for path in finding.files]
    return {"detail": finding.detail, "files": files, "iou": finding.iou}


def _split_counts(data: DataConfig, frames: Sequence[Frame]) -> dict:
    labels = [frame.labels for frame in frames if frame.labels is not None]
    counts = {"frames": len(frames), "boxes": sum(len(own.boxes) for own in labels)}
    if data.group_pattern:
        counts["groups"] = len({data.found_group(frame.path) for frame in frames} - {None})
    if data.clip_pattern:
        counts["clips"] = len({named(frame.path, data)["clip"] for frame in frames} - {None})
    classes = class_view_counts(data, frames).sum(axis=1).tolist()
    counts["classes"] = dict(zip([*data.names, "no box"], classes, strict=True))
    counts["views"] = {}
    if data.view_names:
        shown = Counter(own.view for own in labels)
        views = {name: shown[number] for number, name in enumerate(data.view_names)}
        counts["views"] = views | {data.said("no view"): shown[UNKNOWN_VIEW]}
    return counts
