"""Evaluates the trainings of a comparison and puts together what they came to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from utils.comparison.arms import Arm
from utils.comparison.outcomes import Outcome, read_costs, read_courses, read_figures
from utils.comparison.protocol import Contrast, Protocol
from utils.comparison.report import collect
from utils.comparison.statistics import SINGLE_TASK, patients_behind, resample
from utils.comparison.trainings import Trial
from utils.core.data_config import DataConfig, load_data_config
from utils.core.device import Precision
from utils.core.names import TASKS
from utils.core.options import USUAL_CONFIDENCE
from utils.core.script import UserError
from utils.data.dataset import JointDataset
from utils.data.loader import make_loader
from utils.data.splits import load_split, load_splits
from utils.evaluation.evaluate import evaluate
from utils.evaluation.metrics import summarise
from utils.training.timing import count_gflops, measure_latency_ms

ModelLoader = Callable[[Path], tuple[nn.Module, dict[str, object]]]
Exam = tuple[DataConfig, DataLoader]

DEFAULT_PROTOCOL = Protocol(
    counted=(
        Contrast("gradnorm", "fixed", "mAP50"),
        Contrast("gradnorm", "fixed", "view_balanced_accuracy"),
        Contrast("gradnorm", "detection-only", "mAP50"),
        Contrast("gradnorm", "classification-only", "view_balanced_accuracy"),
    ),
    margins={"mAP50": 0.08, "view_balanced_accuracy": 0.15},
)


def fingerprints(path: str, splits: Sequence[str], arms: Iterable[Arm] = ()) -> dict[str, object]:
    """Split -> its fingerprint, and key of the data.yaml -> its value, for what figures depend on.

    Reads all labels, so that what is wrong with them is known before training.

    Raises:
        UserError: there is something wrong, or an arm needs classes or views that data.yaml does not name.
    """
    data, arms = load_data_config(path), list(arms)
    for task, other in zip(TASKS, reversed(TASKS), strict=True):
        needing = dict.fromkeys(arm.name for arm in arms if task in arm.tasks)
        if needing and data.lacks(task):
            alone = f"arms {', '.join(needing)} need it; on these data compare --arms {SINGLE_TASK[other]}"
            raise UserError(f"{data.source}: {data.lacks(task)}; {alone}")
    return data.facts() | {split.name: split.fingerprint() for split in load_splits(data, splits)}


def judge(trials: Sequence[Trial], load_model: ModelLoader, precision: Precision, split: str) -> dict[str, object]:
    """Evaluate every finished training on `split` and compare the arms; see `utils.comparison.report.collect`.

    Args:
        load_model: a checkpoint's path -> its network, the averaged one, and its content.
    """
    exams = {data: _load_exam(data, trials[0], precision, split) for data in dict.fromkeys(t.data for t in trials)}
    costs = _measure_networks(trials, load_model, precision)
    outcomes: dict[str, list[Outcome]] = {}
    for trial in tqdm(trials, "evaluating", unit="training", leave=False):
        unit = (list(exams).index(trial.data), trial.seed)
        outcome = _examine(trial, unit, load_model, exams[trial.data], precision, costs[trial.arm.name])
        outcomes.setdefault(trial.arm.name, []).append(outcome)
    arms = list({trial.arm.name: trial.arm for trial in trials}.values())
    return collect(_protocol(trials, exams, split), DEFAULT_PROTOCOL, arms, outcomes, _read_interference(trials))


def _load_exam(path: str, trial: Trial, precision: Precision, split: str) -> Exam:
    data = load_data_config(path)
    dataset = JointDataset(load_split(data, split), trial.common["imgsz"])
    return data, make_loader(dataset, trial.common["batch_size"], 0, precision.device.type == "cuda")


def _weights(trial: Trial) -> Path:
    return trial.folder / "weights" / "last.pt"


def _measure_networks(
    trials: Sequence[Trial], load_model: ModelLoader, precision: Precision
) -> dict[str, tuple[float, float]]:
    """Arm -> GFLOPs and latency in ms of its network; networks that are alike are measured once."""
    alike = {trial.arm.name: (trial.arm.script, trial.arm.tasks) for trial in trials}
    chosen = {alike[trial.arm.name]: _weights(trial) for trial in trials}
    models = {kind: precision.place(load_model(path)[0]).eval() for kind, path in chosen.items()}
    image_size = trials[0].common["imgsz"]
    latency_ms = measure_latency_ms(models, image_size, precision)
    gflops = {kind: count_gflops(model, image_size) for kind, model in models.items()}
    return {arm: (gflops[kind], latency_ms[kind]) for arm, kind in alike.items()}


def _examine(
    trial: Trial,
    unit: tuple[int, int],
    load_model: ModelLoader,
    exam: Exam,
    precision: Precision,
    cost: tuple[float, float],
) -> Outcome:
    (data, loader), (gflops, latency_ms) = exam, cost
    model, content = load_model(_weights(trial))
    results, _ = evaluate(precision.place(model), loader, precision, data)
    # The threshold that training chose on validation: the same figures there, and frozen for any other split.
    tasks = trial.arm.tasks
    # Where none found a box, the usual one: never one that is chosen on the split that is judged.
    confidence = USUAL_CONFIDENCE if content["confidence"] is None else content["confidence"]
    metrics = summarise(results, data.names, data.view_names, confidence, intervals=False, tasks=tasks)
    return Outcome(
        arm=trial.arm.name,
        unit=unit,
        figures=read_figures(trial.folder, metrics, tasks, gflops),
        costs=read_costs(trial.folder, latency_ms),
        resampled=resample(results, len(data.names), len(data.view_names), tasks, seed=unit[0]),
        patients=patients_behind(results, len(data.names), len(data.view_names), tasks),
        courses=read_courses(trial.folder, tasks),
    )


def _read_interference(trials: Sequence[Trial]) -> dict[str, pd.DataFrame]:
    """Arm -> the rows of interference.csv of all its trainings, with the number of their data set and their seed."""
    tables: dict[str, list[pd.DataFrame]] = {}
    data_sets = list(dict.fromkeys(trial.data for trial in trials))
    for trial in trials:
        path = trial.folder / "interference.csv"
        if path.exists():
            rows = pd.read_csv(path, dtype={"place": str}).assign(data=data_sets.index(trial.data), seed=trial.seed)
            tables.setdefault(trial.arm.name, []).append(rows)
    return {arm: pd.concat(own) for arm, own in tables.items()}


def _protocol(trials: Sequence[Trial], exams: Mapping[str, Exam], split: str) -> dict[str, object]:
    """How the comparison was done, and what its data cannot show."""
    common, seeds = dict(trials[0].common), sorted({trial.seed for trial in trials})
    common.pop("diagnose_interval", None)
    has_groups = all(data.group_pattern for data, _ in exams.values())
    splits = [(data, loader.dataset.split) for data, loader in exams.values()]
    frames = ", ".join(str(len(found.images)) for _, found in splits)
    groups = ", ".join(str(len({data.group_of(image) for image in found.images})) for data, found in splits)
    counts = f"{frames} frames" + (f" of {groups} patients" if has_groups else "")
    names = [f"{Path(path).resolve().parent.name}/{Path(path).name}" for path in exams]  # whose machine, is no matter
    sizes = "YOLOv5{size}, {imgsz} px, {epochs} epochs, batch {batch_size}".format(**common)
    return {
        **common,
        "title": sizes,
        "data": names,
        "data_line": f"{', '.join(f'`{name}`' for name in names)}, {counts}",
        "split": "validation" if split == "val" else split,
        "seeds": seeds,
        "units": len(exams) * len(seeds),
        "resampled": "patients (group_pattern)" if has_groups else "images",
        "limits": _limits(
            counts, has_groups, len(exams), any(not len(one.boxes) for _, s in splits for one in s.labels)
        ),
    }


def _limits(counts: str, has_groups: bool, data_sets: int, has_negatives: bool) -> list[str]:
    grouped = f"{counts}: the intervals say how much so many can carry."
    alone = f"{counts}; without a group_pattern frames of one patient count as independent: too narrow intervals."
    limits = [grouped if has_groups else alone]
    if data_sets == 1:
        limits.append("One training set: by how much the figures would move with another one is not in the intervals.")
    if not has_negatives:
        limits.append("Every frame has a box: how often a model cries wolf on a frame without one cannot be measured.")
    return limits
