"""The result of a comparison as plain data, from what its trainings came to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from utils.comparison.arms import Arm
from utils.comparison.claims import check_claims
from utils.comparison.outcomes import Outcome
from utils.comparison.protocol import Contrast, Protocol
from utils.comparison.statistics import (
    COMPARED,
    RESAMPLES,
    SINGLE_TASK,
    delta_m,
    difference,
    mean_and_deviation,
    means_by_fold,
)
from utils.comparison.words import state
from utils.evaluation.intervals import over_units

PAIRS = (("gradnorm", "fixed"), ("gradnorm", "ratio-15"), ("dual", "gradnorm"))


def collect(
    about: Mapping[str, object],
    protocol: Protocol,
    arms: Sequence[Arm],
    outcomes: Mapping[str, Sequence[Outcome]],
    interference: Mapping[str, pd.DataFrame],
) -> dict[str, object]:
    """Everything a comparison found, as plain types that JSON can hold.

    Args:
        about: how it was done.
        protocol: the contrasts that count, and the margins.
        arms: in the order of the tables.
        outcomes: arm -> its outcomes.
        interference: arm -> the rows of interference.csv of all its runs, with columns `data` and
            `seed`.
    """
    lines = {arm.name: arm.about for arm in arms}
    claims = check_claims(outcomes, about["epochs"], protocol.margins)
    return {
        "protocol": {**about, "resamples": RESAMPLES},
        "arms": {name: _arm(lines[name], own) for name, own in outcomes.items()},
        "differences": _differences(outcomes, protocol),
        "delta_m": _gains(outcomes),
        "claims": [dataclasses.asdict(claim) for claim in claims],
        "interference": {name: summarise_interference(rows) for name, rows in interference.items()},
    }


def _arm(about: str, outcomes: Sequence[Outcome]) -> dict[str, object]:
    runs = []
    for outcome in outcomes:
        run = {
            "unit": list(outcome.unit),
            "figures": dict(outcome.figures),
            "costs": dict(outcome.costs),
        }
        runs.append(run)
    return {
        "about": about,
        "figures": mean_and_deviation(outcomes),
        "costs": mean_and_deviation(outcomes, "costs"),
        "runs": runs,
    }


def _differences(
    outcomes: Mapping[str, Sequence[Outcome]], protocol: Protocol
) -> list[dict[str, object]]:
    """What was stated of the contrasts that can be measured."""
    found = {}
    for contrast in dict.fromkeys([*protocol.counted, *_exploratory(outcomes)]):
        own = difference(outcomes, contrast)
        if own:
            found[contrast] = own
    return [dataclasses.asdict(statement) for statement in state(found, protocol)]


def _exploratory(outcomes: Mapping[str, Sequence[Outcome]]) -> list[Contrast]:
    """What is compared whether it counts or not: usual pairs, every arm with the single tasks."""
    contrasts = []
    for arm, reference in PAIRS:
        for metrics in COMPARED.values():
            contrasts += [Contrast(arm, reference, metric) for metric in metrics]
    others = [name for name in outcomes if name not in SINGLE_TASK.values()]
    for task, reference in SINGLE_TASK.items():
        for arm in others:
            contrasts += [Contrast(arm, reference, metric) for metric in COMPARED[task]]
    return contrasts


def _gains(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, dict[str, object]]:
    """Arm -> Delta-m as a gain: 0.1 is 10 % more; of the arms that have it."""
    gains = {}
    for name in outcomes:
        found = delta_m(outcomes, name)
        if found is None:
            continue
        low, high = None, None
        if found.estimate:
            low, high = map(math.expm1, found.estimate.interval())
        value = math.expm1(found.value)
        gains[name] = {"value": value, "low": low, "high": high, "basis": found.basis}
    return gains


def summarise_interference(rows: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Place -> means over trainings, or folds, of what its batches had.

    That is the cosine with its 95 % interval, magnitude similarity, and conflicts.

    Args:
        rows: of interference.csv, with the number of their data set and their seed.
    """
    rows = rows.dropna(subset=["cosine"]).assign(conflicting=lambda table: table["cosine"] < 0)
    columns = ["cosine", "magnitude_similarity", "conflicting"]
    found = {}
    for place, own in rows.groupby("place", sort=False):
        by_training = own.groupby(["data", "seed"])[columns].mean()
        values = {name: means_by_fold(by_training[name].to_dict()) for name in columns}
        means = {name: float(np.mean(by_unit)) for name, by_unit in values.items()}
        estimate = over_units(values["cosine"])
        interval = None
        if estimate:
            interval = estimate.interval()
        found[str(place)] = {**means, "cosine_interval": interval, "batches": len(own)}
    return found
