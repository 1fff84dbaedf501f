"""What the trainings of a comparison came to, made up."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from utils.comparison.outcomes import Outcome
from utils.comparison.statistics import COMPARED, RESAMPLES

METRICS = tuple(metric for metrics in COMPARED.values() for metric in metrics)
PATIENTS = 10.0
# What the same patients do to every arm.
NOISE = dict(zip(METRICS, np.random.default_rng(0).normal(0, 0.02, (4, RESAMPLES)), strict=True))


def outcome(
    arm: str,
    seed: int = 0,
    noise: Mapping = NOISE,
    factor: float = 1.0,
    data: int = 0,
    **figures: float | None,
) -> Outcome:
    """Of a training whose figures are `figures`, and on resampled patients those plus noise, times `factor`.

    Its mAP50 rises to its value in ten equal steps.
    """
    resampled = {m: (figures[m] + noise[m]) * factor for m in METRICS if figures.get(m) is not None}
    scaled = {name: value if value is None else value * factor for name, value in figures.items()}
    others = dict.fromkeys(
        ("fitness", "validation_fitness", "detection_loss_fall"), scaled.get("mAP50", 0.0)
    )
    return Outcome(
        arm=arm,
        unit=(data, seed),
        figures={"epochs_to_90_mAP50": None, **others, **scaled},
        costs={"training_s": 1.0},
        resampled=resampled,
        patients=dict.fromkeys(resampled, PATIENTS),
        courses={"mAP50": np.linspace(0.1, 1, 10) * (scaled.get("mAP50") or 0.0)},
    )


def arms(**figures: Sequence[float] | float) -> dict[str, list[Outcome]]:
    """arm -> its outcomes, whose every compared metric is the value given for their seed."""
    given = {arm.replace("_", "-"): np.atleast_1d(values) for arm, values in figures.items()}
    return {
        arm: [
            outcome(arm, seed, **dict.fromkeys(METRICS, value)) for seed, value in enumerate(values)
        ]
        for arm, values in given.items()
    }


def folds(**figures: Sequence[Sequence[float]]) -> dict[str, list[Outcome]]:
    """arm -> its outcomes, whose every compared metric is the value given for their fold (a row) and seed."""
    given = {arm.replace("_", "-"): np.array(values) for arm, values in figures.items()}
    return {
        arm: [
            outcome(arm, seed, data=fold, **dict.fromkeys(METRICS, values[fold, seed]))
            for fold, seed in np.ndindex(values.shape)
        ]
        for arm, values in given.items()
    }


def interference_rows(
    cosines: dict[tuple[int, int], list[float]], place: str = "cut"
) -> pd.DataFrame:
    """(data, seed) -> the cosines of that training's batches."""
    rows = [
        {
            "place": place,
            "data": data,
            "seed": seed,
            "cosine": cosine,
            "magnitude_similarity": 0.1 * number,
        }
        for (data, seed), values in cosines.items()
        for number, cosine in enumerate(values)
    ]
    return pd.DataFrame(rows)
