"""Folds whose training frames have the views of other patients' frames: a control for a comparison.

python -m docs.verdict.permute_views runs/recipe/folds runs/verdict/permuted --seed 0

A view head trained on them sends a gradient as long as on the true views, with nothing in it worth
learning. So what it costs the detector is the gradient's size, not its direction.

A fold's training frames with a view stand in a row: patient after patient in an order drawn by the
seed, each patient's frames in the order of their clips. The row of their views is pushed on by half
its length. So every view stays as frequent as it was, views that follow each other go on doing so,
and no frame has a view of its own patient. Boxes and validation frames stay as they are. Every
fold's labels are copied to OUT/fold*/labels; nothing is written into the data set.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from utils.commands.split_dataset import new_folder
from utils.comparison.protocol_file import find_folds
from utils.core.data_config import DataConfig, load_data_config
from utils.core.script import LOGGER, UserError, run_script
from utils.curation.balance import groups_of, merge
from utils.curation.clips import write_labels, write_split
from utils.data.labels import UNKNOWN_VIEW
from utils.data.splits import Split, load_splits


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folds", help="the folder that split_dataset.py --folds wrote")
    parser.add_argument("out", help="a new folder for the copies")
    parser.add_argument("--seed", type=int, default=0, help="of the patients' order")
    return parser.parse_args()


def in_patients_order(frames: Split, data: DataConfig, seed: int) -> list[int]:
    """The places of the frames that have a view: patient after patient, clip after clip."""
    places = [place for place, labels in enumerate(frames.labels) if labels.view != UNKNOWN_VIEW]
    patients = groups_of([frames.images[place] for place in places], data)
    refuse_too_large_patient(patients, data)
    names = sorted(set(patients))
    drawn = np.random.default_rng(seed).permutation(len(names)).tolist()
    rank_of = dict(zip(names, drawn, strict=True))
    ranks = {place: rank_of[name] for place, name in zip(places, patients, strict=True)}

    def position(place: int) -> tuple:
        image = frames.images[place]
        clip = data.clip_of(image) or ("", 0)
        return ranks[place], clip, image

    return sorted(places, key=position)


def refuse_too_large_patient(patients: Sequence[str], data: DataConfig) -> None:
    """Raise a `UserError` if the others have too few views to give to one of the patients.

    Args:
        patients: of each training frame with a view.
    """
    for patient, count in Counter(patients).most_common(1):
        if count > len(patients) // 2:
            raise UserError(
                f"{data.source}: {patient} has {count} of {len(patients)} training frames with a "
                "view, expected at most half of them; make folds of more patients"
            )


def givers(row: Sequence[int]) -> list[int]:
    """Whose view each frame of the row gets."""
    return np.roll(row, len(row) // 2).tolist()


def permuted(frames: Split, data: DataConfig, seed: int) -> Split:
    """The training frames with their views permuted between patients."""
    row = in_patients_order(frames, data, seed)
    labels = list(frames.labels)
    for taker, giver in zip(row, givers(row), strict=True):
        labels[taker] = replace(labels[taker], view=frames.labels[giver].view)
    return replace(frames, labels=tuple(labels))


def write_fold(name: str, path: str, out: Path, seed: int) -> None:
    """Write the copy of the fold at `path`, a data.yaml, to OUT/`name`."""
    data = load_data_config(path)
    splits = load_splits(data, list(data.splits))
    chosen = {split.name: split for split in splits}
    train = permuted(chosen["train"], data, seed)
    before = merge(splits)
    after = merge([*splits, train])
    with new_folder(str(out / name), data, before) as claimed:
        write_labels(claimed.folder / "labels", data, before, after)
        images = {split.name: split.images for split in splits}
        copy = replace(data, labels=claimed.folder / "labels")
        note = f"By docs.verdict.permute_views from {path}: training views permuted, seed {seed}"
        write_split(claimed.folder, copy, images, note)
    pairs = zip(chosen["train"].labels, train.labels, strict=True)
    kept = sum(old.view == new.view for old, new in pairs)
    LOGGER.info(f"{name}: {kept} of {len(train.labels)} training frames have the view they had")


def main() -> None:
    args = parse_args()
    for name, path in find_folds(args.folds).items():
        write_fold(name, path, Path(args.out), args.seed)


if __name__ == "__main__":
    run_script(main)
