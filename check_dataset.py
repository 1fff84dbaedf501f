"""Look for what is wrong with a data set, and how good a score on it can be, before training on it.

python check_dataset.py --data data/echo_phantom.yaml                   # a verdict; the rest is in runs/check/exp
python check_dataset.py --data my.yaml --strict --out reports/my_data   # for CI: doubts make it fail as well
python check_dataset.py --data my.yaml --plausible plausible.yaml       # do the view columns have another order?

Exit code: 0 clean, 1 findings, 2 could not run. Errors and leaks count always, doubts with --strict
only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from utils.core.data_config import load_data_config
from utils.core.lock import FolderLock, claim_run_folder
from utils.core.options import filled
from utils.core.script import LOGGER, UserError, run_script
from utils.curation.audit import Audit, audit, read_plausible
from utils.curation.findings import KINDS
from utils.curation.report import LEVELS, verdict, write_report
from utils.data.splits import label_path


def main() -> None:
    args = parse_arguments()
    data = load_data_config(args.data)
    plausible = read_plausible(args.plausible, data) if args.plausible else None
    with claimed_folder(args.out) as claimed:
        folder = claimed.folder
        found = audit(data, plausible)
        refuse_folder_of_data(folder, found)
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
        folder = folder.resolve()
    return claim_run_folder(folder.parent, folder.name, exist_ok=True)


def parse_arguments() -> argparse.Namespace:
    levels = "\n".join(
        f"{title}:\n"
        + "\n".join(f"  {meaning}" for level, meaning in KINDS.values() if level == own)
        for own, title in LEVELS.items()
    )
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"What is found. Only doubts need --strict to make the exit code 1.\n\n{levels}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, help="data.yaml")
    parser.add_argument("--strict", action="store_true", help="exit with 1 for doubts as well")
    parser.add_argument(
        "--out",
        type=filled,
        metavar="DIR",
        help="folder to write into (default: runs/check/exp, exp2, ...)",
    )
    parser.add_argument(
        "--plausible",
        type=filled,
        metavar="FILE",
        help="YAML with a line for each box class, such as 'MR: [A4C, PLAX]': the views it can be seen from; all "
        "orders of the view columns are scored by the share of frames that they make implausible",
    )
    return parser.parse_args()


def refuse_folder_of_data(folder: Path, found: Audit) -> None:
    """Raise a `UserError` if `folder` lies in a folder of images or labels: nothing is written into the data set."""
    for frame in found.frames:
        for taken in {frame.path.parent, label_path(frame.path, found.data).parent}:
            if folder.resolve().is_relative_to(taken.resolve()):
                raise UserError(
                    f"--out {folder}: lies in the data set's {taken}; choose another folder"
                )


if __name__ == "__main__":
    run_script(main)
