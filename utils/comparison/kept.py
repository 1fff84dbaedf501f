"""What a comparison leaves, so that its tables and pictures can be made again without a network.

`trainings.json` names the trainings, their common options, and what was measured on their networks.
Together with `predictions.npz`, `results.csv`, `summary.json` and, where it was measured,
`interference.csv` of every run folder, and with the data set, which has the truth, that is enough.

python -m utils.comparison.kept runs/compare/exp docs/results/exp

copies what may be published of a comparison.

A copy has no weights, no label, no pixel of a frame and no path of a machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from utils.comparison.arms import Arm
from utils.comparison.protocol_record import COPY
from utils.comparison.trainings import Training
from utils.core.arguments import script_parser
from utils.core.data_config import DataConfig, load_data_config
from utils.core.files import write_bytes, write_json
from utils.core.script import UserError, run_script
from utils.core.values import from_mapping, to_mapping
from utils.data.splits import Split, load_split
from utils.evaluation.predictions import FILE_NAME, Header, read_predictions, results_from
from utils.evaluation.results import ImageResult

TRAININGS = "trainings.json"
COPIED = (".csv", ".json", ".md", ".pdf", ".png", ".tex")  # of a comparison's folder
COPIED_OF_RUN = (
    "predictions*.npz",
    "results.csv",
    "gradnorm.csv",
    "interference.csv",
    "hyp.yaml",
    "opt.yaml",
    "summary.json",
)


@dataclass(frozen=True)
class Record:
    """The content of trainings.json.

    Attributes:
        split: whose figures are reported.
        data: the data sets as a reader may know them, folder and file; the trainings have their
            numbers.
        common: the options that all arms share.
        arms: name -> what the report needs of it: "about", "script", "tasks".
        networks: arm -> "gflops" of a forward pass and "latency_ms" of it.
        trainings: "arm", "data", "seed" and the run's "folder" of each.
    """

    split: str
    data: list[str]
    common: dict[str, object]
    arms: dict[str, dict[str, object]]
    networks: dict[str, dict[str, float]]
    trainings: list[dict[str, object]]


@dataclass(frozen=True)
class Truth:
    """A data set, and its split that is reported."""

    data: DataConfig
    split: Split


@dataclass(frozen=True)
class Kept:
    """A comparison as its folder and its data sets hold it.

    Attributes:
        trainings: the trainings that the record names.
        truths: data.yaml -> what it leads to; in the record's order.
    """

    record: Record
    trainings: tuple[Training, ...]
    truths: dict[str, Truth]

    def unit(self, training: Training) -> tuple[int, int]:
        """The numbers of a training's data set and of its seed."""
        return list(self.truths).index(training.data), training.seed

    def results(self, training: Training) -> tuple[list[ImageResult], Header]:
        """What a training predicted, beside the truth.

        Raises:
            UserError: its file is missing or damaged, or the data set is not the one that it is
                about.
        """
        predictions = read_predictions(predictions_path(training.folder, self.record.split))
        truth = self.truths[training.data]
        return results_from(predictions, truth.split, truth.data), predictions.header


def predictions_path(run: Path, split: str) -> Path:
    """Where the predictions of a run's last averaged weights lie.

    Those of validation a training leaves itself.
    """
    if split == "val":
        return run / FILE_NAME
    return run / f"predictions_{split}.npz"


def write_record(
    folder: Path, trainings: Sequence[Training], networks: Mapping[str, Mapping], split: str
) -> None:
    """Write trainings.json into a comparison's folder.

    Args:
        networks: see `Record`.
    """
    paths = list(dict.fromkeys(training.data for training in trainings))
    # The last two parts only, as in `without_places`
    names = ["/".join(Path(path).resolve().parts[-2:]) for path in paths]
    arms = {}
    entries = []
    for training in trainings:
        arm = training.arm
        arms[arm.name] = {"about": arm.about, "script": arm.script, "tasks": list(arm.tasks)}
        entry = {
            "arm": arm.name,
            "data": paths.index(training.data),
            "seed": training.seed,
            "folder": training.folder.name,
        }
        entries.append(entry)
    common = without_places(trainings[0].common)
    record = Record(split, names, common, arms, dict(networks), entries)
    write_json(folder / TRAININGS, to_mapping(record))


def open_kept(folder: Path, data: Sequence[str]) -> Kept:
    """A comparison from its folder.

    Args:
        data: the data.yaml of every data set, in the order in which they were compared on.

    Raises:
        UserError: no comparison was finished there, or it is about another number of data sets.
    """
    record = _read_record(folder / TRAININGS)
    if len(data) != len(record.data):
        known = f"{len(record.data)} data sets ({', '.join(record.data)})"
        raise UserError(
            f"{folder}: compared on {known}, found {len(data)}; name them by --data, or by --folds"
        )
    arms = {}
    for name, own in record.arms.items():
        arms[name] = Arm(name, own["about"], own["script"], tasks=tuple(own["tasks"]))
    trainings = []
    for own in record.trainings:
        arm = arms[own["arm"]]
        run = folder / own["folder"]
        trainings.append(Training(arm, data[own["data"]], own["seed"], record.common, run))
    truths = {}
    for path in data:
        config = load_data_config(path)
        truths[path] = Truth(config, load_split(config, record.split))
    return Kept(record, tuple(trainings), truths)


def _read_record(path: Path) -> Record:
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the folder of a finished comparison")
    try:
        return from_mapping(Record, json.loads(path.read_text(encoding="utf-8")))
    except (AttributeError, TypeError, ValueError) as error:  # UserError is a ValueError
        raise UserError(f"{path}: {error}; compare again") from None


def copy_kept(folder: Path, target: Path) -> None:
    """Copy what of a comparison may be published.

    `compare_solutions.py --rescore` works on the copy.

    Raises:
        UserError: no comparison was finished there, or the target is there already.
    """
    record = _read_record(folder / TRAININGS)
    if target.exists():
        raise UserError(f"{target}: is there already; remove it, or choose another folder")
    chosen = []
    for path in sorted(folder.iterdir()):
        if path.suffix in COPIED or path.name == COPY:
            chosen.append(path)
    for training in record.trainings:
        for pattern in COPIED_OF_RUN:
            chosen += (folder / training["folder"]).glob(pattern)
    for path in chosen:
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        _copy(path, copy)


def _copy(path: Path, copy: Path) -> None:
    """Copy a file; settings, and what was measured, without a machine's paths.

    The protocol stays as it is.
    """
    if path.suffix == ".json":
        write_json(copy, without_places(json.loads(path.read_text(encoding="utf-8"))))
    elif path.suffix == ".yaml" and path.name != COPY:
        content = without_places(yaml.safe_load(path.read_text(encoding="utf-8")))
        write_bytes(copy, yaml.safe_dump(content, sort_keys=False).encode())
    else:
        shutil.copyfile(path, copy)


def without_places(content: object) -> object:
    """Plain values, of whose absolute paths the last two parts are left.

    That is what a reader elsewhere can use.
    """
    if isinstance(content, Mapping):
        return {without_places(key): without_places(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_places(value) for value in content]
    if isinstance(content, str) and Path(content).is_absolute():
        return "/".join(Path(content).parts[-2:])
    return content


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folder", type=Path, help="of a comparison")
    parser.add_argument("target", type=Path, help="the folder to make")
    args = parser.parse_args(arguments)
    copy_kept(args.folder, args.target)


if __name__ == "__main__":
    run_script(main)
