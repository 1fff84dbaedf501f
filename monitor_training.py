"""Follow trainings from the files they write; they notice nothing of it.

python monitor_training.py runs/train/exp                    # until it has ended, or Ctrl-C
python monitor_training.py runs/train/exp runs/train/exp2    # several at once
python monitor_training.py runs/compare/exp                  # every run in a folder
python monitor_training.py runs/train/exp --once             # print once; for scripts

Losses, weights and metrics are the newest ones that the run has logged, the ratio is detection to
classification, the time left is that of the epochs that are missing at the median epoch's pace.
Whether a process is alive can be seen on its own machine only.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from utils.core.arguments import script_parser
from utils.core.script import UserError, run_script
from utils.core.settings import TINY, number
from utils.core.terminal import is_output_lost, plain
from utils.loggers.monitor import RunStatus, describe, find_runs, read_run

LONGEST_PAUSE_S = 86400  # between two readings
PAUSE_S = 120.0  # from a run's end to the first batch of the next one in its folder


def main() -> None:
    args = parse_arguments()
    if args.once:
        print("\n".join(lines_of(read_runs(args.runs))))
    else:
        follow(args.runs, args.interval)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or of several runs"
    )
    parser.add_argument(
        "--interval",
        type=number(TINY, LONGEST_PAUSE_S),
        default=3.0,
        metavar="S",
        help=f"seconds between two readings; above 0, at most {LONGEST_PAUSE_S} (default: 3)",
    )
    parser.add_argument("--once", action="store_true", help="read once, print, exit")
    return parser


def parse_arguments() -> argparse.Namespace:
    parser = build_parser()
    args = parser.parse_args()
    if args.once and args.interval != parser.get_default("interval"):
        raise UserError(
            "--interval has no effect beside --once, which looks once; leave one of them out"
        )
    return args


def read_runs(paths: Sequence[Path]) -> list[RunStatus]:
    """The runs in `paths`, those that train last: where the newest lines are.

    Raises:
        UserError: a path leads to no run, or nothing of any run can be read.
    """
    runs = [read_run(folder) for path in paths for folder in find_runs(path)]
    if not any(run.is_known for run in runs):
        raise UserError(runs[0].problem)
    return sorted(runs, key=lambda run: run.state == "training")


def follow(paths: Sequence[Path], interval_s: float) -> None:
    """Print the runs until all have ended.

    On a terminal they stay in place; elsewhere a run is printed whenever it has changed.
    """
    height = 0
    known: list[RunStatus] = []
    while True:
        runs = read_runs(paths)
        changed = [run for run in runs if run not in known]
        if sys.stdout.isatty():
            height = redraw(lines_of(runs), height)
        elif changed:
            print("\n".join(lines_of(changed)), flush=True)
        known = runs
        if is_output_lost() or not is_ongoing(paths, runs):
            return
        time.sleep(interval_s)
        paths = [path for path in paths if path.is_dir()] or paths  # some may have been removed


def is_ongoing(paths: Sequence[Path], runs: Sequence[RunStatus]) -> bool:
    """Whether a run trains, or the next one in a folder of runs may be about to begin."""
    if any(run.state == "training" for run in runs):
        return True
    has_folder_of_runs = any(find_runs(path) != [path] for path in paths)
    newest = max(run.updated or 0 for run in runs)
    return has_folder_of_runs and time.time() - newest < PAUSE_S


def lines_of(runs: Sequence[RunStatus]) -> list[str]:
    """The runs as text."""
    now = time.time()
    return [plain(line) for run in runs for line in describe(run, now)]


def redraw(lines: Sequence[str], height: int) -> int:
    """Put `lines` in the place of the `height` lines above the cursor; returns how many there are.

    What the terminal has no room for is left out, from the top: the cursor cannot go back to lines
    that scrolled away.
    """
    columns, rows = shutil.get_terminal_size()
    lines = [line[: columns - 1] for line in lines][-max(rows - 1, 1) :]
    if height:
        print(f"\x1b[{height}A\x1b[J", end="")
    print("\n".join(lines), flush=True)
    return len(lines)


if __name__ == "__main__":
    run_script(main)
