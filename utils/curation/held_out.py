"""Predictions in files beside the labels of the data set that they are about, found by fingerprint.

A file of predictions names no folder: it has the fingerprints of the split that was predicted and
of the one that the network was trained on. The data.yaml files that a user names are searched for
both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.core.data_config import DataConfig, load_data_config
from utils.core.script import LOGGER, UserError
from utils.data.splits import Split, load_split
from utils.evaluation.predictions import FILE_NAME, Predictions, read_predictions, results_from
from utils.evaluation.results import ImageResult

EXPECTED = f"expected run folders with a {FILE_NAME}, or a folder of such folders"


@dataclass(frozen=True)
class HeldOut:
    """Predictions beside their truth.

    Attributes:
        source: the file of predictions.
        results: of every frame of the split, in its order.
        trained: the split that the network learnt from; None where no data.yaml has it.
    """

    source: Path
    data: DataConfig
    split: Split
    results: list[ImageResult]
    trained: Split | None


class DataSets:
    """Some data.yaml files; their splits are read when they are asked for, and once."""

    def __init__(self, paths: Iterable[str | Path]):
        self.configs = [load_data_config(path) for path in paths]
        self._splits: dict[tuple[Path, str], Split] = {}

    def split(self, data: DataConfig, name: str) -> Split:
        key = (data.source, name)
        if key not in self._splits:
            self._splits[key] = load_split(data, name)
        return self._splits[key]

    def held_out(self, predictions: Predictions) -> HeldOut:
        """The predictions beside the truth of the first data set that they fit.

        Raises:
            UserError: they fit none.
        """
        header = predictions.header
        for data in self.configs:
            if header.split not in data.splits:
                continue
            split = self.split(data, header.split)
            if split.fingerprint() != header.fingerprint:
                continue
            trained = self.split(data, "train")
            if trained.fingerprint() != header.trained_on:
                trained = None
            results = results_from(predictions, split, data)
            return HeldOut(predictions.source, data, split, results, trained)
        named = ", ".join(str(data.source) for data in self.configs) or "none"
        raise UserError(
            f"{predictions.source}: the frames and labels that it is about (split {header.split}, "
            f"fingerprint {header.fingerprint}) are in no data set that was named: {named}; "
            "name the data.yaml, or the folds, that it was made with"
        )


def refuse_seen(held_out: Sequence[HeldOut]) -> None:
    """Raise a `UserError` unless every frame was predicted once, by a network that never saw it.

    Warns where a network saw other frames of the same patients.
    """
    owners: dict[Path, Path] = {}
    for own in held_out:
        if own.trained is None:
            raise UserError(
                f"{own.source}: the frames that its network learnt from are in no data set that "
                "was named, so nobody can tell whether it had seen these; name the folds"
            )
        seen = set(own.trained.images) & set(own.split.images)
        if seen:
            raise UserError(
                f"{own.source}: its network learnt from {len(seen)} of its {len(own.split.images)} "
                "frames, and what it has learnt by heart it does not doubt; "
                "expected predictions of frames that it never saw, as of folds"
            )
        for image in own.split.images:
            if image in owners:
                raise UserError(
                    f"{image}: predicted in {owners[image]} and in {own.source}; name the runs of "
                    "one arm and seed, such as runs/compare/exp/fold*-fixed-seed0"
                )
            owners[image] = own.source
        _warn_of_known_patients(own)


def _warn_of_known_patients(own: HeldOut) -> None:
    found = own.data.found_group
    shared = {found(image) for image in own.split.images} - {None}
    shared &= {found(image) for image in own.trained.images}
    if shared:
        LOGGER.warning(
            f"warning: {own.source}: its network saw other frames of {len(shared)} patients; "
            "mistakes that it saw there as well are not found"
        )


def find_predictions(places: Sequence[str | Path]) -> list[Predictions]:
    """What files, run folders, or folders of run folders hold.

    Raises:
        UserError: a place holds none, or a damaged one.
    """
    found = []
    for place in map(Path, places):
        files = [place]
        if place.is_dir():
            files = [place / FILE_NAME]
        if place.is_dir() and not files[0].is_file():
            files = sorted(place.glob(f"*/{FILE_NAME}"))
        if not files:
            raise UserError(f"{place}: found no {FILE_NAME} in it; {EXPECTED}")
        found += [read_predictions(file) for file in files]
    return found
