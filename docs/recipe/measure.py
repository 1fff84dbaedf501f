"""Every average of the weights and every view head of the recipe study's trainings, epoch by epoch.

python -m docs.recipe.measure runs/recipe/study --out docs/results/recipe

Reads the predictions that a training with `record_averages` keeps, and writes two tables:
`detection.csv`, a row a training, epoch and average, and `views.csv`, a row a training, epoch,
average and view head.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from utils.core.arguments import script_parser
from utils.core.data_config import DataConfig, load_data_config
from utils.core.files import write_atomically
from utils.core.script import UserError, run_script
from utils.data.splits import load_split
from utils.evaluation.average_precision import coco_evaluation, resampled_ap
from utils.evaluation.predictions import read_predictions, results_from
from utils.evaluation.results import ImageResult
from utils.evaluation.views import view_metrics

FILE = re.compile(r"epoch(\d+)_(.+)\.npz")


@dataclass(frozen=True)
class Recorded:
    """What one average predicted after one epoch.

    Attributes:
        epoch: from 0.
        average: "ramp", or the window in epochs.
        results: one a frame.
    """

    training: str
    epoch: int
    average: str
    results: list[ImageResult]


def data_of(folder: Path) -> DataConfig:
    """The data set of a training."""
    options = yaml.safe_load((folder / "opt.yaml").read_text(encoding="utf-8"))
    return load_data_config(options["data"])


def recorded(folder: Path) -> Iterator[Recorded]:
    """All recorded predictions of a training, in the order of the epochs."""
    data = data_of(folder)
    split = load_split(data, "val")
    files = {path: FILE.fullmatch(path.name) for path in (folder / "predictions").iterdir()}
    for path, match in sorted(files.items(), key=lambda item: int(item[1][1])):
        results = results_from(read_predictions(path), split, data)
        yield Recorded(folder.name, int(match[1]), match[2], results)


def mean_ap(results: Sequence[ImageResult], classes: int) -> np.ndarray:
    """(T,) COCO's AP at `COCO_IOU_THRESHOLDS`, mean over the classes."""
    every_frame_once = np.ones((1, len(results)), int)
    return resampled_ap(coco_evaluation(results, classes), every_frame_once)[0]


def detection_row(found: Recorded, classes: int) -> dict[str, object]:
    """COCO's metrics."""
    ap = mean_ap(found.results, classes)
    row = {"training": found.training, "epoch": found.epoch, "average": found.average}
    return row | {"mAP50": ap[1], "mAP50-95": ap[1:].mean(), "AP30": ap[0]}


def view_rows(
    found: Recorded, names: list[str], view_names: list[str]
) -> Iterator[dict[str, object]]:
    """Every head's metrics, the first head's number being 0."""
    kept = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")
    heads = 1 + len(found.results[0].beside_probabilities)
    for head in range(heads):
        results = [of_head(result, head) for result in found.results]
        views = view_metrics(results, names, view_names)
        row = {"training": found.training, "epoch": found.epoch, "average": found.average}
        yield row | {"head": head} | {key: views[key] for key in kept}


def of_head(result: ImageResult, head: int) -> ImageResult:
    """The result with the view that head number `head` names; 0 is the first."""
    if head == 0:
        return result
    return dataclasses.replace(result, view_probabilities=result.beside_probabilities[head - 1])


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    table = pd.DataFrame(rows)
    write_atomically(
        path, lambda temporary: table.to_csv(temporary, index=False, float_format="%.6g")
    )


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("study", type=Path, help="folder of the trainings")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    args = parser.parse_args()
    trainings = [path.parent for path in sorted(args.study.glob("*/predictions"))]
    if not trainings:
        raise UserError(
            f"{args.study}: no training in it has recorded predictions; train with record_averages"
        )
    detection = []
    views = []
    for folder in tqdm(trainings, unit="training"):
        data = data_of(folder)
        for found in recorded(folder):
            detection.append(detection_row(found, len(data.names)))
            views += view_rows(found, list(data.names), list(data.view_names))
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out / "detection.csv", detection)
    write_csv(args.out / "views.csv", views)


if __name__ == "__main__":
    run_script(main)
