"""Figures by clip and by patient from the recipe study's out-of-fold predictions.

python -m docs.recipe.clips runs/recipe/folds --predictions docs/results/recipe \
    --out docs/results/clips.csv

Of every fold, the predictions after the last epoch are set beside the fold's validation frames; no
network is needed. Thresholds (of a clip's evidence, and of a view's probability) are the means of
those that are best on the other folds, so none was chosen on the patients it is used on.

A row a figure: its value on every fold, the mean, and the 95 % interval over folds (Student's t),
cut at -1 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from docs.recipe.tables import mean_ap, write_csv
from utils.core.arguments import script_parser
from utils.core.data_config import DataConfig, load_data_config
from utils.core.names import TASKS
from utils.core.script import run_script
from utils.data.splits import load_split
from utils.evaluation.clip_metrics import clip_metrics
from utils.evaluation.intervals import over_units
from utils.evaluation.metrics import summarise
from utils.evaluation.predictions import read_predictions, results_from
from utils.evaluation.results import ImageResult
from utils.evaluation.risk_coverage import risk_of_views
from utils.evaluation.thresholds import Thresholds, chosen_on
from utils.evaluation.views import view_metrics

FILE = "{fold}-baseline-seed0/predictions.npz"


@dataclass(frozen=True)
class Fold:
    """Predictions of a fold's validation frames beside their truth.

    Attributes:
        best: the thresholds that are best on these frames.
    """

    name: str
    data: DataConfig
    results: list[ImageResult]
    best: Thresholds


def read_fold(folder: Path, predictions: Path) -> Fold:
    data = load_data_config(folder / "data.yaml")
    kept = read_predictions(predictions / FILE.format(fold=folder.name))
    results = results_from(kept, load_split(data, "val"), data)
    return Fold(folder.name, data, results, chosen_on(results, data, TASKS))


def of_other_folds(fold: Fold, folds: Sequence[Fold]) -> Thresholds:
    """The mean of those that are best on each of the others; they all have some."""
    others = [other.best for other in folds if other is not fold]
    evidence = [best.clip_evidence for best in others]
    probabilities = [best.view_probability for best in others]
    return Thresholds(float(np.mean(evidence)), float(np.mean(probabilities)))


def figures_of(fold: Fold, thresholds: Thresholds) -> dict[str, float]:
    """Name of a figure -> its value on the fold, with thresholds from elsewhere."""
    clips = clip_metrics(fold.results, fold.data, thresholds)
    ap = mean_ap(fold.results, len(fold.data.names))
    views = view_metrics(fold.results, fold.data.names, fold.data.view_names)
    pooled = clips["with_evidence"]
    summary = summarise(fold.results, fold.data.names, fold.data.view_names, intervals=False)
    sure_frames = risk_of_views(fold.results, thresholds.view_probability)["kept"]
    sure_clips = clips["view"]["kept"]
    figures = {
        "mAP50 of frames": ap[1],
        "mAP50 of frames, clip evidence": pooled["mAP_0.5"],
        "mAP50 gained by clip evidence": pooled["mAP_0.5"] - ap[1],
        "AP30 of frames": ap[0],
        "AP30 of frames, clip evidence": pooled["mAP_0.3"],
        "view accuracy of frames": views["accuracy"],
        "view accuracy of clips": clips["view"]["accuracy"],
        "threshold of a view": thresholds.view_probability,
        "frames with a known view": sure_frames["coverage"],
        "view accuracy of these": sure_frames["accuracy"],
        "clips with a known view": sure_clips["coverage"],
        "view accuracy of these clips": sure_clips["accuracy"],
        "threshold of evidence": thresholds.clip_evidence,
    }
    figures |= froc_figures(summary["detection"]["froc"], "frame")
    figures |= froc_figures(clips["froc"], "clip")
    for kind in ("clip", "patient"):
        figures |= finding_figures(clips[f"by_{kind}"]["rows"][1:], kind)
    return figures


def froc_figures(froc: Mapping, unit: str) -> dict[str, float]:
    """Shares found at the seven rates of false boxes, means over the classes; of all classes."""
    figures = {}
    for rate, sensitivity in zip(froc["false_positives"], froc["sensitivity"], strict=True):
        figures[f"FROC by {unit}, at {rate:g} false boxes"] = sensitivity
    figures[f"FROC by {unit}, mean"] = froc["mean"]
    for row in froc["per_class"]:
        figures[f"FROC by {unit}, mean, {row['name']}"] = row["mean"]
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
            row["low"], row["high"] = np.clip(estimate.interval(), -1, 1)
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
    folders = sorted(args.folds.glob("fold*"))
    folds = [read_fold(folder, args.predictions) for folder in folders]
    by_fold = {}
    for fold in folds:
        by_fold[fold.name] = figures_of(fold, of_other_folds(fold, folds))
    write_csv(args.out, over_folds(by_fold))


if __name__ == "__main__":
    run_script(main)
