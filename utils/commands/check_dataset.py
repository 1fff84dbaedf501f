"""What check_dataset.py does: the audit of a data set, written into a folder outside of it."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

from utils.comparison.protocol_file import find_folds
from utils.core.data_config import DataConfig, load_data_config
from utils.core.lock import FolderLock, claim_run_folder
from utils.core.script import LOGGER, UserError, errors_in
from utils.core.user_file import real_path
from utils.curation.audit import Audit, audit, read_plausible
from utils.curation.doubts import require_cleanlab
from utils.curation.held_out import DataSets, HeldOut, find_predictions, refuse_seen
from utils.curation.report import verdict, write_report
from utils.data.splits import label_path
from utils.report.doubts_page import write_doubts


def run(args: argparse.Namespace) -> None:
    data = load_data_config(args.data)
    plausible = read_plausible(args.plausible, data) if args.plausible else None
    held_out = []
    if args.predictions:
        held_out = out_of_fold(args)
        if data.view_names:
            require_cleanlab()  # refused now rather than after the audit
    with claimed_folder(args.out) as claimed:
        folder = claimed.folder
        refuse_folder_of_data(folder, folders_of(data))
        found = audit(data, plausible)
        refuse_folder_of_data(folder, folders_of_frames(found))
        write_report(found, folder)
        if held_out:
            LOGGER.info(write_doubts(folder, held_out, data))
    code = found.exit_code(args.strict)
    LOGGER.info(f"{verdict(found)}; exit code {code}\neverything is in {folder}")
    sys.exit(code)


def out_of_fold(args: argparse.Namespace) -> list[HeldOut]:
    """The predictions beside their labels.

    Raises:
        UserError: a network had seen what it predicted, or that cannot be told.
    """
    paths = [args.data]
    if args.folds:
        with errors_in("--folds"):
            paths += find_folds(args.folds).values()
    data_sets = DataSets(paths)
    with errors_in("--predictions"):
        held_out = [data_sets.held_out(found) for found in find_predictions(args.predictions)]
        refuse_seen(held_out)
    return held_out


def claimed_folder(out: str | None) -> FolderLock:
    """`--out`, which may exist, or a new one."""
    if out is None:
        return claim_run_folder("runs/check", "exp")
    folder = Path(out)
    if folder.name in ("", ".."):
        folder = real_path(folder)
    return claim_run_folder(folder.parent, folder.name, exist_ok=True)


def folders_of(data: DataConfig) -> set[Path]:
    """The folders that data.yaml names, and those of their labels."""
    found = set()
    for entry in itertools.chain.from_iterable(data.splits.values()):
        if entry.is_dir():
            found |= {entry, label_path(entry / "any.png", data).parent}
    return found


def folders_of_frames(found: Audit) -> set[Path]:
    """The folders that images and labels were found in, which lists may name one by one."""
    folders = {frame.path.parent for frame in found.frames}
    return folders | {label_path(frame.path, found.data).parent for frame in found.frames}


def refuse_folder_of_data(folder: Path, taken: Iterable[Path]) -> None:
    """Raise a `UserError` if `folder` lies in a folder of images or labels.

    Nothing is written into the data set.
    """
    for place in taken:
        if real_path(folder).is_relative_to(real_path(place)):
            raise UserError(
                f"--out {folder}: lies in the data set's {place}; choose another folder"
            )
