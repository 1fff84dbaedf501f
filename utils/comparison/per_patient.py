"""What a comparison's figures are without each of its patients in turn: how much hangs on one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from utils.comparison.kept import Kept
from utils.comparison.statistics import drawn_metrics
from utils.core.files import write_atomically
from utils.evaluation.results import ImageResult, has_no_groups


def write_per_patient(folder: Path, kept: Kept) -> None:
    """Write per_patient.csv: a row for every arm, data set, seed and patient.

    `frames` are the patient's; the compared metrics are those of all others. Data sets without
    patients are left out; where all are, there is no file.
    """
    path, rows = folder / "per_patient.csv", []
    path.unlink(missing_ok=True)
    for trial in kept.trials:
        results, header = kept.results(trial)
        data, seed = kept.unit(trial)
        if not has_no_groups(results):
            found = without_each_patient(
                results, len(header.names), len(header.view_names), trial.arm.tasks
            )
            rows += [{"arm": trial.arm.name, "data": data, "seed": seed, **row} for row in found]
    if rows:
        write_atomically(path, lambda temporary: pd.DataFrame(rows).to_csv(temporary, index=False))


def without_each_patient(
    results: Sequence[ImageResult], class_count: int, view_count: int, tasks: Sequence[str]
) -> list[dict[str, object]]:
    """A row for every patient: "patient", "frames", and the metrics of `tasks` on all frames but these."""
    patients, owner = np.unique([result.group for result in results], return_inverse=True)
    draws = (owner != np.arange(len(patients))[:, None]).astype(int)  # (patients, frames)
    metrics = drawn_metrics(results, class_count, view_count, tasks, draws)
    frames = np.bincount(owner)
    return [
        {
            "patient": str(patient),
            "frames": int(frames[row]),
            **{name: drawn[row] for name, drawn in metrics.items()},
        }
        for row, patient in enumerate(patients)
    ]
