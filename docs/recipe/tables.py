"""The recipe's trainings as two tables: a row a training, and a row a patient.

python -m docs.recipe.tables runs/recipe/final --folds runs/recipe/folds \
    --out docs/results/recipe/final

Reads what the trainings of comparisons keep: metrics.json and predictions.npz. `trainings.csv` has
accuracy, the view's calibration error, boxes by kind of error, and the mAP50 that each kind costs.
`patients.csv` has every patient's figures on the fold that holds the patient out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from utils.core.arguments import script_parser
from utils.core.data_config import DataConfig, load_data_config
from utils.core.files import write_atomically
from utils.core.script import UserError, run_script
from utils.data.splits import load_split
from utils.evaluation.average_precision import coco_evaluation, resampled_ap
from utils.evaluation.predictions import read_predictions, results_from
from utils.evaluation.results import ImageResult


@dataclass(frozen=True)
class Training:
    """A training's folder, named fold-arm-seed, and the data of its fold."""

    folder: Path
    data: DataConfig

    @classmethod
    def of(cls, folder: Path, folds: Path) -> Training:
        fold, _, _ = folder.name.partition("-")
        return cls(folder, load_data_config(folds / fold / "data.yaml"))

    @property
    def names(self) -> dict[str, object]:
        """The columns that say which training it is."""
        fold, _, rest = self.folder.name.partition("-")
        arm, _, seed = rest.rpartition("-seed")
        return {"fold": fold, "arm": arm, "seed": int(seed)}

    def results(self) -> list[ImageResult]:
        """Predictions of the fold's validation frames, beside their truth."""
        kept = read_predictions(self.folder / "predictions.npz")
        return results_from(kept, load_split(self.data, "val"), self.data)


def mean_ap(results: Sequence[ImageResult], classes: int) -> np.ndarray:
    """(T,) COCO's AP at `COCO_IOU_THRESHOLDS`, mean over the classes that these frames have."""
    every_frame_once = np.ones((1, len(results)), int)
    return resampled_ap(coco_evaluation(results, classes), every_frame_once)[0]


def training_row(training: Training) -> dict[str, object]:
    metrics = json.loads((training.folder / "metrics.json").read_text(encoding="utf-8"))
    detection, views = metrics["detection"], metrics["views"]
    row = {
        "mAP50": detection["mAP_0.5"],
        "mAP50-95": detection["mAP_0.5:0.95"],
        "AP30": detection["mAP_0.3"],
        "view_accuracy": views["accuracy"],
        "view_balanced_accuracy": views["balanced_accuracy"],
        "view_ece": views["ece"],
    }
    for kind, count in detection["errors"]["counts"].items():
        row[f"boxes, {kind}"] = count
    for kind, cost in detection["errors"]["delta_mAP_0.5"].items():
        row[f"mAP50 lost, {kind}"] = cost
    return training.names | row


def patient_rows(training: Training) -> list[dict[str, object]]:
    of_patient: dict[str, list[ImageResult]] = {}
    for result in training.results():
        of_patient.setdefault(result.group, []).append(result)
    rows = []
    for patient, results in sorted(of_patient.items()):
        ap = mean_ap(results, len(training.data.names))
        right = [result.view_probabilities.argmax() == result.true_view for result in results]
        row = {"patient": patient, "frames": len(results), "mAP50": ap[1], "AP30": ap[0]}
        rows.append(training.names | row | {"view_accuracy": np.mean(right)})
    return rows


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    table = pd.DataFrame(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        path, lambda temporary: table.to_csv(temporary, index=False, float_format="%.6g")
    )


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("studies", type=Path, nargs="+", help="folders of compare_solutions.py")
    parser.add_argument(
        "--folds", type=Path, required=True, help="folder of split_dataset.py --folds"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    args = parser.parse_args()
    trainings = []
    for study in args.studies:
        found = sorted(path.parent for path in study.glob("fold*/predictions.npz"))
        if not found:
            raise UserError(f"{study}: no finished training of a fold, expected fold0-fixed-seed0")
        trainings += [Training.of(folder, args.folds) for folder in found]
    write_csv(args.out / "trainings.csv", [training_row(each) for each in trainings])
    patients = []
    for training in trainings:
        patients += patient_rows(training)
    write_csv(args.out / "patients.csv", patients)


if __name__ == "__main__":
    run_script(main)
