"""What a finished training of a comparison came to: figures, costs, resampled metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from utils.core.names import DETECTION_LOSSES
from utils.evaluation.metrics import fitness, fitness_parts
from utils.evaluation.summary import Summary

DETECTION_FIGURES = {  # name -> key of `utils.evaluation.summary.Detection`
    "mAP50": "mAP_0.5",
    "mAP50-95": "mAP_0.5:0.95",
    "AP30": "mAP_0.3",
    "precision": "precision",
    "recall": "recall",
    "F1": "f1",
    "mse_xywhn": "mse_xywhn",
    "matched": "matched_share",
}
VIEW_FIGURES = {  # name -> key of `utils.evaluation.summary.Views`
    "view_accuracy": "accuracy",
    "view_balanced_accuracy": "balanced_accuracy",
    "view_macro_f1": "macro_f1",
    "view_ece": "ece",
}
CURVES = {  # headline metric -> its task and its column of results.csv
    "mAP50": ("detection", "metrics/mAP_0.5"),
    "view_accuracy": ("classification", "metrics/view_accuracy"),
}


@dataclass(frozen=True)
class Outcome:
    """One arm on one unit.

    Attributes:
        unit: the data set's and the seed's number.
        figures: name -> value, of the arm's tasks; None where undefined.
        costs: name -> what this machine needed; differs from time to time.
        resampled: metric -> (resamples,) its value on the unit's resampled patients, the same for
            all arms and seeds.
        patients: metric -> Kish's number of the patients behind it, see
            `utils.evaluation.intervals`.
        courses: headline metric of the arm's tasks -> (epochs,) its value on the validation split.
    """

    arm: str
    unit: tuple[int, int]
    figures: Mapping[str, float | None]
    costs: Mapping[str, float | None]
    resampled: Mapping[str, np.ndarray]
    patients: Mapping[str, float]
    courses: Mapping[str, np.ndarray]


def read_figures(
    folder: Path, metrics: Summary, tasks: Sequence[str], gflops: float
) -> dict[str, float | None]:
    """Everything about a run that is the same on every machine.

    Args:
        folder: of the run.
        metrics: what `summarise` says of its last epoch's averaged weights.
        tasks: that it was trained for.
        gflops: of a forward pass.
    """
    history = pd.read_csv(folder / "results.csv")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    millions = summary["parameters"] / 1e6
    # The validation split's is there to choose by, whatever split is reported.
    figures = {
        "fitness": fitness(fitness_parts(metrics, tasks)),
        "validation_fitness": float(history["metrics/fitness"].iloc[-1]),
    }
    if "detection" in tasks:
        figures |= {name: metrics["detection"][key] for name, key in DETECTION_FIGURES.items()}
        losses = [history[f"train/{name}_loss"] for name in DETECTION_LOSSES]
        figures["detection_loss_fall"] = _fall(sum(losses))
    if "classification" in tasks:
        figures |= {name: metrics["views"].get(key) for name, key in VIEW_FIGURES.items()}
    for name, (task, column) in CURVES.items():
        if task not in tasks:
            continue
        best_epoch = _best_epoch(summary, task)
        figures[f"best_{name}"] = _number(history[column].iloc[best_epoch])
        figures[f"epochs_to_90_{name}"] = epochs_to_reach(history[column])
        figures[f"spread_{name}"] = late_spread(history[column])
        per_million = None
        if figures[name] is not None:
            per_million = figures[name] / millions
        figures[f"{name}_per_million"] = per_million
    return figures | {"parameters_millions": millions, "gflops": gflops}


def _best_epoch(summary: Mapping, task: str) -> int:
    """Of the network that answers the task, from the content of summary.json."""
    best = summary["best"]
    if "joint" in best:
        return best["joint"]["epoch"]
    return best[task]["epoch"]


def read_courses(folder: Path, tasks: Sequence[str]) -> dict[str, np.ndarray]:
    """Headline metric of `tasks` -> (epochs,) its value on the validation split."""
    history = pd.read_csv(folder / "results.csv")
    return {
        name: history[column].to_numpy(float)
        for name, (task, column) in CURVES.items()
        if task in tasks
    }


def read_costs(folder: Path, latency_ms: float) -> dict[str, float | None]:
    """What a run needed on this machine: seconds of all its epochs, memory, its model's latency."""
    times = pd.read_csv(folder / "results.csv")[["time/epoch_s", "time/val_s"]]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    memory = summary["peak_memory_mib"]
    return {
        "training_s": float(times.sum().sum()),
        "peak_memory_mib": memory,
        "latency_ms": latency_ms,
    }


def epochs_to_reach(curve: pd.Series, share: float = 0.9) -> float | None:
    """The first epoch, from 1, whose value is at least `share` of the last one's.

    None if that is undefined or 0.
    """
    values = curve.to_numpy(float)
    if not len(values) or not values[-1] > 0:
        return None
    return first_epoch_at(values, share * values[-1])


def first_epoch_at(course: np.ndarray, level: float) -> float | None:
    """The first epoch, from 1, whose value is at least `level`; None without any."""
    reached = np.flatnonzero(course >= level)
    if not len(reached):
        return None
    return float(reached[0] + 1)


def late_spread(curve: pd.Series) -> float | None:
    """The standard deviation over the last fifth of the epochs; None for fewer than two of them."""
    late = curve.to_numpy(float)[-max(len(curve) // 5, 1) :]
    if len(late) < 2:
        return None
    return _number(late.std(ddof=1))


def _fall(losses: pd.Series) -> float:
    """By what share a loss fell from the first epoch to the last."""
    return float(1 - losses.iloc[-1] / losses.iloc[0])


def _number(value: float) -> float | None:
    if not np.isfinite(value):
        return None
    return float(value)
