"""What check_dataset.py does: the audit of a data set, written into a folder outside of it."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

from utils.core.data_config import DataConfig, load_data_config
from utils.core.lock import FolderLock, claim_run_folder
from utils.core.script import LOGGER, UserError
from utils.core.user_file import real_path
from utils.curation.audit import Audit, audit, read_plausible
from utils.curation.report import verdict, write_report
from utils.data.splits import label_path


def run(args: argparse.Namespace) -> None:
    data = load_data_config(args.data)
    plausible = read_plausible(args.plausible, data) if args.plausible else None
    with claimed_folder(args.out) as claimed:
        folder = claimed.folder
        refuse_folder_of_data(folder, folders_of(data))
        found = audit(data, plausible)
        refuse_folder_of_data(folder, folders_of_frames(found))
        write_report(found, folder)
    code = found.exit_code(args.strict)
    LOGGER.info(f"{verdict(found)}; exit code {code}\neverything is in {folder}")
    sys.exit(code)


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
