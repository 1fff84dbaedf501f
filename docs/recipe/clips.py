"""Figures by clip and by patient from the recipe study's out-of-fold predictions.

python -m docs.recipe.clips runs/recipe/folds --predictions docs/results/recipe --out docs/results/clips.csv

Of every fold, the predictions after the last epoch are set beside the fold's validation frames; no
network is needed. A row a figure: its value on every fold, the mean, and the 95 % interval over
folds (Student's t).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from docs.recipe.measure import mean_ap, write_csv
from utils.core.arguments import script_parser
from utils.core.data_config import load_data_config
from utils.core.script import run_script
from utils.data.splits import load_split
from utils.evaluation.clip_metrics import clip_metrics
from utils.evaluation.intervals import over_units
from utils.evaluation.predictions import read_predictions, results_from
from utils.evaluation.views import view_metrics

FILE = "{fold}-baseline-seed0/predictions/epoch19_ramp.npz"


def figures_of(fold: Path, predictions: Path) -> dict[str, float]:
    """Name of a figure -> its value on the fold."""
    data = load_data_config(fold / "data.yaml")
    kept = read_predictions(predictions / FILE.format(fold=fold.name))
    results = results_from(kept, load_split(data, "val"), data)
    clips = clip_metrics(results, data, kept.header.confidence)
    ap = mean_ap(results, len(data.names))
    views = view_metrics(results, data.names, data.view_names)
    figures = {
        "mAP50 of frames": ap[1],
        "mAP50 of frames, clip evidence": clips["with_evidence"]["mAP_0.5"],
        "AP30 of frames": ap[0],
        "AP30 of frames, clip evidence": clips["with_evidence"]["mAP_0.3"],
        "view accuracy of frames": views["accuracy"],
        "view accuracy of clips": clips["view"]["accuracy"],
    }
    for kind in ("clip", "patient"):
        figures |= finding_figures(clips[f"by_{kind}"]["rows"][1:], kind)
    return figures


def finding_figures(rows: list[Mapping], kind: str) -> dict[str, float]:
    """AUROC, sensitivity and specificity by clip or patient; the classes' means come first."""
    figures = {}
    for rate in ("auroc", "sensitivity", "specificity"):
        label = rate.replace("auroc", "AUROC")
        values = [row[rate] for row in rows]
        figures[f"{label} by {kind}, mean of classes"] = np.nanmean(values)
        for row in rows:
            figures[f"{label} by {kind}, {row['name']}"] = row[rate]
    return figures


def over_folds(by_fold: Mapping[str, Mapping[str, float]]) -> list[dict[str, object]]:
    """A row a figure; folds where it is undefined are left out of mean and interval."""
    rows = []
    for figure, values in pd.DataFrame(by_fold).iterrows():
        known = values.dropna()
        row = {"figure": figure} | values.to_dict() | {"mean": known.mean()}
        estimate = over_units(known.to_numpy())
        if estimate:
            row["low"], row["high"] = estimate.interval()
        rows.append(row)
    return rows


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folds", type=Path, help="folder of split_dataset.py --folds")
    parser.add_argument(
        "--predictions", type=Path, required=True, help="folder with the folds' trainings"
    )
    parser.add_argument("--out", type=Path, required=True, help="table to write")
    args = parser.parse_args()
    by_fold = {}
    for fold in sorted(args.folds.glob("fold*")):
        by_fold[fold.name] = figures_of(fold, args.predictions)
    write_csv(args.out, over_folds(by_fold))


if __name__ == "__main__":
    run_script(main)
