"""What split_dataset.py does: splits by patient, and one view a clip; no image is copied."""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig, load_data_config
from utils.core.files import naming
from utils.core.lock import LOCK_NAME, FolderLock, claim_run_folder
from utils.core.script import LOGGER, UserError
from utils.core.user_file import real_path
from utils.curation.balance import (
    assign_groups,
    content_of,
    format_balance,
    groups_of,
    merge,
    refuse_vanished,
)
from utils.curation.clips import Clip, find_clips, harmonise, write_labels, write_split
from utils.curation.decisions import Decision, decided, read_decisions, write_decided
from utils.curation.findings import almost_identical, identical
from utils.curation.frames import read_frames
from utils.data.image_list import list_content
from utils.data.labels import UNKNOWN_VIEW
from utils.data.splits import Split, label_path, load_splits


def run(args: argparse.Namespace) -> None:
    data = load_data_config(args.data)
    found = load_splits(data, list(data.splits), args.skip_bad_labels)
    frames = merge(found)
    with new_folder(args.out, data, frames) as claimed:
        split(args, data, found, frames, claimed.folder)


def split(
    args: argparse.Namespace, data: DataConfig, found: Sequence[Split], frames: Split, folder: Path
) -> None:
    """Write what was asked for into the folder.

    Args:
        found: the data set's splits.
        frames: of all of them.
    """
    list_content(frames.images, folder)  # refuses names before anything is written
    clips: list[Clip] = []
    if args.harmonise_views:
        clips = find_clips(frames, data)
    harmonised = harmonise(frames, clips)
    changes: dict[Path, list[Decision]] = {}
    if args.apply:
        decisions = read_decisions(Path(args.apply), data)
        harmonised, changes = decided(frames, decisions, data)
    folders = {folder: {split.name: split.images for split in found}}
    if args.folds or args.val:
        folders = divide(harmonised, data, args, folder)
    if args.harmonise_views:
        write_labels(folder / "labels", data, frames, harmonised)
        report_views(folder / "undecided.csv", data, clips, frames, harmonised)
        data = replace(data, labels=folder / "labels")
    if args.apply:
        write_decided(folder / "labels", data, frames, changes)
        report_decisions(decisions, changes)
        data = replace(data, labels=folder / "labels")
    note = f"By split_dataset.py from {real_path(args.data)}: {asked_for(args)}"
    for place, images in folders.items():
        write_split(place, data, images, note)
    LOGGER.info("written: " + ", ".join(str(place / "data.yaml") for place in folders))


def report_decisions(
    decisions: Sequence[Decision], changes: Mapping[Path, Sequence[Decision]]
) -> None:
    """Print how many labels were kept and changed, and how."""
    counts = Counter(f"{own.subject} {own.decision}" for own in decisions)
    shown = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    LOGGER.info(f"{len(decisions)} decisions ({shown}) change the labels of {len(changes)} frames")


def asked_for(args: argparse.Namespace) -> str:
    """The options that make the split what it is, and their values."""
    asked = []
    for name, value in vars(args).items():
        if name not in ("data", "out") and value is not None:
            asked.append(f"{name} {value}")
    return ", ".join(asked)


def new_folder(path: str, data: DataConfig, frames: Split) -> FolderLock:
    """A folder outside the data set that was absent or empty, locked and with its resolved path.

    Raises:
        UserError: it is not, or another process works in it.
    """
    folder = real_path(path)
    refuse_full(folder, path)
    label_folders = {label_path(image, data).parent for image in frames.images}
    image_folders = {image.parent for image in frames.images}
    for taken in sorted({data.root} | label_folders | image_folders):
        if folder.is_relative_to(real_path(taken)):
            raise UserError(
                f"--out {path}: lies in the data set, {taken}; "
                "nothing is written there, choose another"
            )
    claimed = claim_run_folder(folder.parent, folder.name, exist_ok=True)
    refuse_full(folder, path)  # by a process that was faster
    return claimed


def refuse_full(folder: Path, path: str) -> None:
    """Raise a `UserError` if the folder that `path` names is not empty, or is a file."""
    if not folder.exists():
        return
    if not folder.is_dir() or any(found.name != LOCK_NAME for found in folder.iterdir()):
        raise UserError(
            f"--out {path}: not an empty folder; nothing is overwritten, choose another"
        )


def divide(
    frames: Split, data: DataConfig, args: argparse.Namespace, folder: Path
) -> dict[Path, dict]:
    """Folder -> split -> images, for each data.yaml; prints the balance."""
    if args.by == "image":
        content = content_of(frames, data, [str(image) for image in frames.images])
    else:
        groups = groups_of(frames.images, data)
        content = content_of(frames, data, groups, alike_across_groups(frames, groups, data))
    shares = shares_of(args)
    names, values = list(shares), list(shares.values())
    part = assign_groups(content, values, args.seed)
    refuse_vanished(content, part, names)
    if args.by == "image":
        LOGGER.warning(
            "warning: --by image: one patient's frames may be in two splits; "
            "scores say nothing of new ones"
        )
    LOGGER.info(format_balance(content, part, names, values))
    place = part[content.unit]
    chosen = {}
    for number, name in enumerate(names):
        chosen[name] = [frames.images[index] for index in np.flatnonzero(place == number)]
    if not args.folds:
        return {folder: chosen}
    folds = {}
    for name, images in chosen.items():
        others = sorted(set(frames.images).difference(images))
        folds[folder / name] = {"train": others, "val": images}
    return folds


def shares_of(args: argparse.Namespace) -> dict[str, float]:
    """Name of each part -> its share of the frames."""
    if args.folds:
        return {f"fold{number}": 1 / args.folds for number in range(args.folds)}
    shares = {"train": 1 - args.val - (args.test or 0), "val": args.val}
    if args.test:
        shares["test"] = args.test
    return shares


def alike_across_groups(frames: Split, groups: Sequence[str], data: DataConfig) -> list[list[Path]]:
    """Sets of almost identical frames of more than one group; logs how many there are."""
    group_of = dict(zip(frames.images, groups, strict=True))
    frame_of = {frame.path: frame for frame in read_frames(data) if frame.path in group_of}
    shared = []
    names = set()
    for alike in almost_identical(identical(list(frame_of.values()))):
        paths = [frame.path for frame in alike]
        own_groups = {group_of[path] for path in paths}
        if len(own_groups) > 1:
            shared.append(paths)
            names |= own_groups
    if names:
        LOGGER.info(
            f"{len(shared)} sets of almost identical frames lie in more than one group "
            f"and stay together: {', '.join(sorted(names))}"
        )
    else:
        LOGGER.info("no almost identical frames lie in two groups")
    return shared


def report_views(
    path: Path, data: DataConfig, clips: Sequence[Clip], old: Split, new: Split
) -> None:
    """Print what harmonising changed, and list what a person must decide.

    Args:
        path: the CSV file with that list.
    """
    undecided = [clip for clip in clips if clip.is_undecided]
    changed = []
    for before, after in zip(old.labels, new.labels, strict=True):
        if before.view != after.view:
            changed.append(before.view)
    inside = sum(len(clip.frames) for clip in clips)
    mixed = sum(clip.is_mixed for clip in clips)
    found = (
        f"views of {len(clips)} clips: {mixed} show more than one view; "
        f"{len(changed)} frames get another view, {changed.count(UNKNOWN_VIEW)} of them had none; "
        f"{len(old.images) - inside} frames are in no clip or have no label file "
        "and stay as they are"
    )
    LOGGER.info(data.said(found))
    with (
        naming(path),
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(["clip", "frames", *data.view_names])
        for clip in undecided:
            writer.writerow([clip.name, len(clip.frames), *clip.votes])
    if undecided:
        LOGGER.info(
            f"{len(undecided)} clips are for you to decide, in {path.parent / 'labels'}; "
            f"{data.said('they keep their views')}:"
        )
    for clip in undecided:
        votes = zip(data.view_names, clip.votes, strict=True)
        shown = ", ".join(f"{count} {view}" for view, count in votes if count)
        LOGGER.info(f"  {clip.name}: {shown}")
