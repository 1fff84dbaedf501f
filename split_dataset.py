"""Split a data set by patient, its classes and views in every part; give each clip one view. No image is copied.

python split_dataset.py --data data/echo_phantom.yaml --val 0.15 --test 0.2 --out runs/split
python split_dataset.py --data data/echo_phantom.yaml --folds 5 --out runs/folds             # cross-validation
python split_dataset.py --data data/echo_phantom.yaml --harmonise-views --out runs/harmonised  # splits as they are
python split_dataset.py --data data/echo_phantom.yaml --harmonise-views --folds 5 --out runs/both

The frames of all splits are taken together and divided anew: every part gets its share of the
patients with each class and view, then of the frames. Patients with almost identical frames stay
together. DIR gets train.txt, val.txt, test.txt and a data.yaml for --data of the other scripts;
with --folds, each of DIR/fold0, DIR/fold1, ... does. --harmonise-views writes copies of the label
files to DIR/labels, with the view that more than 60 % of a clip's labelled frames show; clips
without such a view keep their labels and are listed in DIR/undecided.csv.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from utils.core.data_config import DataConfig, load_data_config
from utils.core.lock import LOCK_NAME, FolderLock, claim_run_folder
from utils.core.options import filled, given_options, warn_without_effect
from utils.core.script import LOGGER, UserError, run_script
from utils.curation.balance import (
    assign_groups,
    content_of,
    format_balance,
    groups_of,
    merge,
    refuse_vanished,
)
from utils.curation.clips import Clip, find_clips, harmonise, write_labels, write_split
from utils.curation.findings import almost_identical, identical
from utils.curation.frames import read_frames
from utils.data.labels import UNKNOWN_VIEW
from utils.data.splits import Split, label_path, load_splits


def main() -> None:
    args = parse_arguments()
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
    clips = find_clips(frames, data) if args.harmonise_views else []
    harmonised = harmonise(frames, clips)
    folders = {folder: {split.name: split.images for split in found}}
    if args.folds or args.val:
        folders = divide(harmonised, data, args, folder)
    if args.harmonise_views:
        write_labels(folder / "labels", data, frames, harmonised)
        report_views(folder / "undecided.csv", data, clips, frames, harmonised)
        data = replace(data, labels=folder / "labels")
    asked = {
        key: value
        for key, value in vars(args).items()
        if key not in ("data", "out") and value is not None
    }
    note = f"By split_dataset.py from {Path(args.data).resolve()}: " + ", ".join(
        f"{k} {v}" for k, v in asked.items()
    )
    for place, images in folders.items():
        write_split(place, data, images, note)
    LOGGER.info("written: " + ", ".join(str(place / "data.yaml") for place in folders))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="data.yaml of the data set")
    parser.add_argument(
        "--out",
        type=filled,
        required=True,
        metavar="DIR",
        help="new or empty folder outside the data set",
    )
    parser.add_argument(
        "--folds", type=int, metavar="K", help="K pairs of train and val; each frame is in one val"
    )
    parser.add_argument("--val", type=float, help="share of the frames for val, such as 0.15")
    parser.add_argument(
        "--test", type=float, help="share of the frames for test (default: no test split)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="the same gives the same split (default: 0)"
    )
    by = "keep together what group_pattern finds, or (image) split frame by frame (default: group)"
    parser.add_argument("--by", choices=("group", "image"), default="group", help=by)
    parser.add_argument(
        "--harmonise-views", action="store_true", help="give each clip the view of its majority"
    )
    parser.add_argument(
        "--skip-bad-labels", action="store_true", help="leave out frames with wrong label files"
    )
    args = parser.parse_args()
    given = [share for share in (args.val, args.test) if share is not None]
    if not all(0 < share < 1 for share in given) or sum(given) >= 1:
        raise UserError(
            f"--val and --test are {given}, expected shares above 0 that leave some frames for train"
        )
    if args.folds is not None and (args.folds < 2 or given):
        raise UserError(
            f"--folds is {args.folds}, expected at least 2, and neither --val nor --test beside it"
        )
    if args.test and not args.val:
        raise UserError(
            "--test without --val: a data.yaml needs a train and a val split; give both"
        )
    if not (args.folds or args.val or args.harmonise_views):
        raise UserError(
            "nothing to do: give --folds K, --val SHARE (and --test SHARE) or --harmonise-views"
        )
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}, expected at least 0")
    if not (args.folds or args.val):
        idle = dict.fromkeys(("seed", "by"), "--harmonise-views alone, which keeps the splits")
        warn_without_effect(given_options(parser, args), idle)
    return args


def new_folder(path: str, data: DataConfig, frames: Split) -> FolderLock:
    """A folder, locked and with its resolved path, that was absent or empty, and lies outside the data set.

    Raises:
        UserError: it is not, or another process works in it.
    """
    folder = Path(path).resolve()
    refuse_full(folder, path)
    labels = {label_path(image, data).parent for image in frames.images}
    for taken in sorted({data.root, *labels, *(image.parent for image in frames.images)}):
        if folder.is_relative_to(taken.resolve()):
            raise UserError(
                f"--out {path}: lies in the data set, {taken}; nothing is written there, choose another"
            )
    claimed = claim_run_folder(folder.parent, folder.name, exist_ok=True)
    refuse_full(folder, path)  # by a process that was faster
    return claimed


def refuse_full(folder: Path, path: str) -> None:
    """Raise a `UserError` if there is something in the folder that `path` names, or it is no folder."""
    if folder.exists() and (
        not folder.is_dir() or any(found.name != LOCK_NAME for found in folder.iterdir())
    ):
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
    if args.folds:
        shares = {f"fold{number}": 1 / args.folds for number in range(args.folds)}
    else:
        shares = {"train": 1 - args.val - (args.test or 0), "val": args.val}
        shares |= {"test": args.test} if args.test else {}
    names, values = list(shares), list(shares.values())
    part = assign_groups(content, values, args.seed)
    refuse_vanished(content, part, names)
    if args.by == "image":
        LOGGER.warning(
            "warning: --by image: one patient's frames may be in two splits; scores say nothing of new ones"
        )
    LOGGER.info(format_balance(content, part, names, values))
    place = part[content.unit]
    chosen = {
        name: [frames.images[i] for i in np.flatnonzero(place == number)]
        for number, name in enumerate(names)
    }
    if not args.folds:
        return {folder: chosen}
    others = {
        name: sorted(set(frames.images).difference(images)) for name, images in chosen.items()
    }
    return {folder / name: {"train": others[name], "val": chosen[name]} for name in names}


def alike_across_groups(frames: Split, groups: Sequence[str], data: DataConfig) -> list[list[Path]]:
    """Sets of almost identical frames of more than one group; says how many there are."""
    group_of = dict(zip(frames.images, groups, strict=True))
    read = {
        frame.path: frame for frame in read_frames(data) if frame.path in group_of
    }  # each file once
    sets = [
        [frame.path for frame in own] for own in almost_identical(identical(list(read.values())))
    ]
    shared = [paths for paths in sets if len({group_of[path] for path in paths}) > 1]
    names = sorted({group_of[path] for paths in shared for path in paths})
    found = f"{len(shared)} sets of almost identical frames lie in more than one group and stay together"
    LOGGER.info(
        f"{found}: {', '.join(names)}" if names else "no almost identical frames lie in two groups"
    )
    return shared


def report_views(
    path: Path, data: DataConfig, clips: Sequence[Clip], old: Split, new: Split
) -> None:
    """Print what harmonising changed, and list what a person must decide, on the screen and as a CSV file."""
    undecided = [clip for clip in clips if clip.is_undecided]
    changed = [
        before.view
        for before, after in zip(old.labels, new.labels, strict=True)
        if before.view != after.view
    ]
    inside = sum(len(clip.frames) for clip in clips)
    LOGGER.info(
        f"views of {len(clips)} clips: {sum(clip.is_mixed for clip in clips)} show more than one view; "
        f"{len(changed)} frames get another view, {changed.count(UNKNOWN_VIEW)} of them had none; "
        f"{len(old.images) - inside} frames are in no clip or have no label file and stay as they are"
    )
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["clip", "frames", *data.view_names])
        writer.writerows([clip.name, len(clip.frames), *clip.votes] for clip in undecided)
    if undecided:
        LOGGER.info(
            f"{len(undecided)} clips are for you to decide, in {path.parent / 'labels'}; they keep their views:"
        )
    for clip in undecided:
        votes = zip(data.view_names, clip.votes, strict=True)
        LOGGER.info(
            f"  {clip.name}: " + ", ".join(f"{count} {view}" for view, count in votes if count)
        )


if __name__ == "__main__":
    run_script(main)
