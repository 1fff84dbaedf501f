"""Folds whose training frames are those of few patients: what labels are worth.

python -m docs.second_domain.fewer_patients runs/recipe/folds runs/domain/labels --patients 5 10 20

OUT/5/fold0, OUT/5/fold1, ... have the frames of 5 patients, drawn by the seed from those of the
fold, and so on; the fewer are among the more. They are listed over and over, until there are as
many as before, so that a training has as many steps. The validation frames stay as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from utils.comparison.protocol_file import find_folds
from utils.core.arguments import filled, script_parser
from utils.core.data_config import DataConfig, load_data_config
from utils.core.script import LOGGER, UserError, run_script
from utils.core.settings import whole_number
from utils.curation.balance import groups_of
from utils.curation.clips import write_split
from utils.data.splits import find_images


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__, prog="python -m docs.second_domain.fewer_patients")
    parser.add_argument("folds", type=filled, help="the folder that split_dataset.py --folds wrote")
    parser.add_argument("out", type=filled, help="the folder for the new ones")
    parser.add_argument("--patients", type=whole_number(1), nargs="+", required=True, metavar="N")
    seed = "of the patients' order (default: 0)"
    parser.add_argument("--seed", type=whole_number(0), default=0, help=seed)
    return parser.parse_args()


def of_few(images: Sequence[Path], data: DataConfig, count: int, seed: int) -> list[Path]:
    """The images of `count` patients, in their order.

    Raises:
        UserError: there are fewer patients.
    """
    patients = groups_of(images, data)
    names = sorted(set(patients))
    if count > len(names):
        raise UserError(f"--patients {count}: {data.source} has {len(names)} training patients")
    drawn = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
    return [image for image, patient in zip(images, patients, strict=True) if patient in drawn]


def repeated(images: Sequence[Path], count: int) -> list[Path]:
    """`count` images: all of them in turns."""
    return list(islice(cycle(images), count))


def write_fold(path: str, folder: Path, count: int, seed: int) -> None:
    """Write the fold at `path`, a data.yaml, with few training patients into the folder."""
    data = load_data_config(path)
    images = {name: find_images(places, name, data.source) for name, places in data.splits.items()}
    few = of_few(images["train"], data, count, seed)
    images["train"] = repeated(few, len(images["train"]))
    note = f"By docs.second_domain.fewer_patients from {path}: {count} patients, seed {seed}"
    write_split(folder, data, images, note)
    LOGGER.info(f"{folder}: {len(few)} training frames of {count} patients")


def main() -> None:
    args = parse_args()
    for count in args.patients:
        for name, path in find_folds(args.folds).items():
            write_fold(path, Path(args.out, str(count), name), count, args.seed)


if __name__ == "__main__":
    run_script(main)
