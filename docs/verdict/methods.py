"""What kept comparisons say of each method: figures by fold, the view's dose, and what is shared.

The *dose* of a training is the ratio of the view's gradient norm to the detection's at the cut,
each times its loss's weight: the geometric mean over the batches that interference.csv has.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from utils.comparison.kept import TRAININGS
from utils.comparison.statistics import means_by_fold
from utils.core.names import TASKS, TORCHJD_AGGREGATORS
from utils.core.script import UserError
from utils.evaluation.intervals import over_units

Unit = tuple[str, int]  # a fold's data.yaml and a seed
ALIKE = ("size", "imgsz", "epochs", "batch_size", "hyp")  # options that all comparisons share


@dataclass(frozen=True)
class Method:
    """An arm of one kept comparison or more.

    Attributes:
        about: a line for readers.
        figures: metric -> unit -> value.
        dose: 0 where the detector gets no gradient of the view; None where one gradient is made of
            both tasks', so that no weight says how much is the view's.
        last_shared: the number of the last layer that both tasks train; None where there is none.
    """

    name: str
    figures: Mapping[str, Mapping[Unit, float]]
    parameters_millions: float
    latency_ms: float
    dose: float | None = 0.0
    last_shared: int | None = None
    about: str = ""

    @property
    def units(self) -> set[Unit]:
        return set().union(*self.figures.values())


@dataclass(frozen=True)
class Gap:
    """How far a method's metric lies above a reference's.

    Attributes:
        by_fold: the difference on each fold, mean over seeds.
        interval: 95 %, by t over folds; None with fewer than three.
    """

    by_fold: tuple[float, ...]
    interval: tuple[float, float] | None

    @property
    def mean(self) -> float:
        return float(np.mean(self.by_fold))


def gap(method: Method, reference: Method, metric: str) -> Gap | None:
    """Over the folds and seeds that both have; None without any, or where one lacks the metric."""
    own, other = (side.figures.get(metric, {}) for side in (method, reference))
    differences = {unit: own[unit] - other[unit] for unit in own if unit in other}
    if not differences:
        return None
    by_fold = means_by_fold(differences)
    estimate = over_units(by_fold)
    interval = None
    if estimate:
        interval = estimate.interval()
    return Gap(tuple(by_fold), interval)


def read_methods(folders: Sequence[Path], apart: Collection[str]) -> dict[str, Method]:
    """The arms of all comparisons; one of several folders has the folds and seeds of all of them.

    Args:
        folders: of comparisons, as `utils.comparison.kept` keeps them.
        apart: arms whose detector gets no gradient of the view.

    Raises:
        UserError: a file is missing, the comparisons differ in an option of `ALIKE`, two folders
            have a fold and seed of one arm or another network, or gradients were not measured.
    """
    methods: dict[str, Method] = {}
    first: dict[str, object] = {}
    for folder in folders:
        record = _content_of(folder / TRAININGS)
        results = _content_of(folder / "comparison_results.json")
        first = first or record["common"]
        _refuse_unlike(folder, record["common"], first)
        for name in record["arms"]:
            method = _method(name, results["arms"][name], record["data"])
            if name not in apart:
                own = [entry for entry in record["trainings"] if entry["arm"] == name]
                method = _measured(method, [folder / entry["folder"] for entry in own])
            if name in methods:
                method = _joined(methods[name], method, folder)
            methods[name] = method
    return methods


def _refuse_unlike(folder: Path, own: Mapping[str, object], first: Mapping[str, object]) -> None:
    for name in ALIKE:
        if own.get(name) != first.get(name):
            raise UserError(
                f"{folder}: {name} is {own.get(name)}, in the first folder {first.get(name)}; "
                "draw them apart"
            )


def _joined(one: Method, other: Method, folder: Path) -> Method:
    """An arm of two comparisons.

    Args:
        folder: of the second, for messages.
    """
    twice = f"{folder}: arm '{one.name}' is in another folder, too"
    if one.units & other.units:
        fold, seed = min(one.units & other.units)
        raise UserError(f"{twice}, with {fold} and seed {seed}; leave one out")
    if not math.isclose(one.parameters_millions, other.parameters_millions):
        raise UserError(f"{twice}, with another number of parameters; draw them apart")
    counts = [len(one.units), len(other.units)]
    figures = {}
    for metric in one.figures.keys() | other.figures.keys():
        figures[metric] = {**one.figures.get(metric, {}), **other.figures.get(metric, {})}
    dose = one.dose
    if one.dose and other.dose:
        dose = float(np.exp(np.average(np.log([one.dose, other.dose]), weights=counts)))
    latency_ms = float(np.average([one.latency_ms, other.latency_ms], weights=counts))
    return dataclasses.replace(one, figures=figures, dose=dose, latency_ms=latency_ms)


def _content_of(path: Path) -> dict:
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the folder of a finished comparison")
    return json.loads(path.read_text(encoding="utf-8"))


def _method(name: str, arm: Mapping, data: Sequence[str]) -> Method:
    """Without what is measured of its gradients.

    Args:
        arm: its part of comparison_results.json.
    """
    figures: dict[str, dict[Unit, float]] = {}
    latencies = []
    for run in arm["runs"]:
        fold, seed = run["unit"]
        for metric, value in run["figures"].items():
            if value is not None:
                figures.setdefault(metric, {})[data[fold], seed] = value
        latencies.append(run["costs"]["latency_ms"])
    millions = list(figures["parameters_millions"].values())
    costs = float(np.mean(millions)), float(np.mean(latencies))
    return Method(name, figures, *costs, about=arm["about"])


def _measured(method: Method, runs: Sequence[Path]) -> Method:
    """With dose and depth, of the gradients that were measured in its runs."""
    doses = []
    layers = set()
    for run in runs:
        path = run / "interference.csv"
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; train with diagnose_interval, or name the arm in --apart "
                "if its detector gets no gradient of the view"
            )
        rows = pd.read_csv(path, dtype={"place": str})
        doses.append(_log_dose(rows, pd.read_csv(run / "results.csv")))
        layers |= {int(place) for place in rows["place"] if place.isdecimal()}
    hyp = yaml.safe_load((runs[0] / "hyp.yaml").read_text(encoding="utf-8"))
    dose = None
    if hyp["balancer"] not in TORCHJD_AGGREGATORS:
        dose = float(np.exp(np.mean(doses)))
    return dataclasses.replace(method, dose=dose, last_shared=max(layers, default=None))


def _log_dose(rows: pd.DataFrame, results: pd.DataFrame) -> float:
    """The mean over batches; a batch has the weights of its epoch's end.

    Args:
        rows: of interference.csv.
    """
    weights = results.set_index("epoch")
    at_cut = rows[rows["place"] == "cut"].join(weights.filter(like="weight/"), on="epoch")
    lengths = {}
    for task in TASKS:
        lengths[task] = at_cut[f"norm/{task}"] * at_cut[f"weight/{task}"]
    ratio = lengths["classification"] / lengths["detection"]
    counted = ratio[np.isfinite(ratio) & (ratio > 0)]
    return float(np.log(counted).mean())
