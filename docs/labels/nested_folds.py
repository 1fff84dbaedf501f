"""Folds of the training patients of every fold: for networks that doubt the labels others learn from.

python -m docs.labels.nested_folds runs/recipe/folds runs/labels/nested --parts 4

With 4 parts, OUT/fold(4k + j) validates on part j of the training patients of fold k, and trains
on the other parts. So nothing there has seen a validation label of fold k. The parts are those that
split_dataset.py --folds draws from the same patients, with the same seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from utils.commands.split_dataset import divide, refuse_full
from utils.comparison.protocol_file import find_folds
from utils.core.arguments import filled, script_parser
from utils.core.data_config import load_data_config
from utils.core.script import LOGGER, run_script
from utils.core.settings import whole_number
from utils.curation.clips import write_split
from utils.data.splits import load_split


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__, prog="python -m docs.labels.nested_folds")
    parser.add_argument("folds", type=filled, help="the folder that split_dataset.py --folds wrote")
    parser.add_argument("out", type=filled, help="a new or empty folder")
    parts = "of every fold's training patients; at least 2 (default: 4)"
    parser.add_argument("--parts", type=whole_number(2), default=4, help=parts)
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the draw (default: 0)")
    return parser.parse_args()


def parts_of(path: str, args: argparse.Namespace) -> Iterator[dict[str, list[Path]]]:
    """The training frames of the fold at `path`, a data.yaml, as one train and val after the other."""
    data = load_data_config(path)
    LOGGER.info(f"{path}:")
    how = argparse.Namespace(by="group", folds=args.parts, seed=args.seed)
    yield from divide(load_split(data, "train"), data, how, Path(args.out)).values()


def main() -> None:
    args = parse_args()
    refuse_full(Path(args.out), args.out)
    number = 0
    for path in find_folds(args.folds).values():
        for images in parts_of(path, args):
            note = f"By docs.labels.nested_folds from the training frames of {path}"
            write_split(Path(args.out, f"fold{number}"), load_data_config(path), images, note)
            number += 1


if __name__ == "__main__":
    run_script(main)
