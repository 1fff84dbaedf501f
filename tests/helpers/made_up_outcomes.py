"""What the trainings of a comparison came to, made up."""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd

from utils.comparison.outcomes import Outcome
from utils.comparison.statistics import COMPARED, RESAMPLES

METRICS = tuple(chain.from_iterable(COMPARED.values()))
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
    """Of a training with the given figures, times `factor`.

    On resampled patients noise is added to them before. Its mAP50 rises to its value in ten equal
    steps.
    """
    defined = {name: value for name, value in figures.items() if value is not None}
    scaled = dict.fromkeys(figures) | {name: value * factor for name, value in defined.items()}
    resampled = {m: (defined[m] + noise[m]) * factor for m in METRICS if m in defined}
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
    return folds(**{arm: [np.atleast_1d(values)] for arm, values in figures.items()})


def folds(**figures: Sequence[Sequence[float]]) -> dict[str, list[Outcome]]:
    """arm -> its outcomes, with every compared metric as given for their fold (a row) and seed."""
    outcomes = {}
    for name, rows in figures.items():
        arm = name.replace("_", "-")
        outcomes[arm] = []
        for (fold, seed), value in np.ndenumerate(np.array(rows)):
            metrics = dict.fromkeys(METRICS, value)
            outcomes[arm].append(outcome(arm, seed, data=fold, **metrics))
    return outcomes


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
