"""What a comparison's figures are without each of its patients: how much hangs on one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from utils.comparison.kept import Kept
from utils.comparison.statistics import resampled_metrics
from utils.core.files import write_atomically
from utils.evaluation.results import ImageResult, has_no_groups


def write_per_patient(folder: Path, kept: Kept) -> None:
    """Write per_patient.csv: a row for every arm, data set, seed and patient.

    `frames` are the patient's; the compared metrics are those of all others. Data sets without
    patients are left out; where all are, there is no file.
    """
    path = folder / "per_patient.csv"
    path.unlink(missing_ok=True)
    rows = []
    for training in kept.trainings:
        results, header = kept.results(training)
        data, seed = kept.unit(training)
        if has_no_groups(results):
            continue
        classes = len(header.names)
        views = len(header.view_names)
        for row in without_each_patient(results, classes, views, training.arm.tasks):
            rows.append({"arm": training.arm.name, "data": data, "seed": seed, **row})
    if rows:
        write_atomically(path, lambda temporary: pd.DataFrame(rows).to_csv(temporary, index=False))


def without_each_patient(
    results: Sequence[ImageResult], class_count: int, view_count: int, tasks: Sequence[str]
) -> list[dict[str, object]]:
    """A row for every patient: "patient", "frames", and the metrics of `tasks` on all others'."""
    patients, owner = np.unique([result.group for result in results], return_inverse=True)
    # Each patient's frames left out are a "resample" that holds all others once; (patients, frames)
    resample_counts = (owner != np.arange(len(patients))[:, None]).astype(int)
    metrics = resampled_metrics(results, class_count, view_count, tasks, resample_counts)
    frames = np.bincount(owner)
    rows = []
    for index, patient in enumerate(patients):
        row = {"patient": str(patient), "frames": int(frames[index])}
        row |= {name: values[index] for name, values in metrics.items()}
        rows.append(row)
    return rows
