"""What report.py does: the page of runs, validations and comparisons."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from utils.comparison.protocol_file import find_folds
from utils.core import distributed
from utils.core.script import LOGGER, errors_in
from utils.report.run_page import write_report
from utils.training.run import Run


def run(args: argparse.Namespace) -> None:
    out = None
    if args.out:
        out = Path(args.out)
    report([Path(folder) for folder in args.runs], out, named_data(args), args.embed)


def report_if_asked(run: Run) -> None:
    """Of a training that has ended, by the process that writes."""
    if run.options.report and distributed.is_main():
        report([run.folder])


def named_data(args: argparse.Namespace) -> list[str]:
    """The data.yaml files that --data or --folds name."""
    if args.folds:
        with errors_in("--folds"):
            return list(find_folds(args.folds).values())
    if args.data:
        return [args.data]
    return []


def report(
    folders: list[Path],
    out: Path | None = None,
    data_sets: Iterable[str] = (),
    embed: bool = False,
) -> None:
    """Write the page and say where it is."""
    page = write_report(folders, out, list(data_sets), embed)
    size_mb = page.stat().st_size / 1e6
    LOGGER.info(f"{page} ({size_mb:.1f} MB): open it in a browser")
