"""Lets the trainings of a comparison predict, and puts together what their predictions and files come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from utils.comparison.arms import Arm
from utils.comparison.kept import Kept, predictions_path
from utils.comparison.out_of_fold import Fold, other_folds_thresholds, out_of_fold
from utils.comparison.outcomes import Outcome, read_costs, read_courses, read_figures
from utils.comparison.protocol import Protocol
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
from utils.evaluation.predictions import Header, write_predictions
from utils.evaluation.results import ImageResult
from utils.training.timing import count_gflops, measure_latency_ms

ModelLoader = Callable[[Path], tuple[nn.Module, dict[str, object]]]
Exam = tuple[DataConfig, DataLoader]


def fingerprints(path: str, splits: Sequence[str], arms: Iterable[Arm] = ()) -> dict[str, object]:
    """Split -> its fingerprint, and key of the data.yaml -> its value, for what figures depend on.

    Reads all labels, so that what is wrong with them is known before training.

    Raises:
        UserError: there is something wrong, or an arm needs classes or views that data.yaml does
            not name.
    """
    data, arms = load_data_config(path), list(arms)
    for task, other in zip(TASKS, reversed(TASKS), strict=True):
        needing = dict.fromkeys(arm.name for arm in arms if task in arm.tasks)
        if needing and data.lacks(task):
            alone = f"arms {', '.join(needing)} need it; on these data compare --arms {SINGLE_TASK[other]}"
            raise UserError(f"{data.source}: {data.lacks(task)}; {alone}")
    return data.facts() | {split.name: split.fingerprint() for split in load_splits(data, splits)}


def predict(
    trials: Sequence[Trial], load_model: ModelLoader, precision: Precision, split: str
) -> None:
    """Write what every training's averaged weights predict, where it is not there yet; see `predictions_path`.

    Args:
        load_model: a checkpoint's path -> its network, the averaged one, and its content.
    """
    missing = [trial for trial in trials if not predictions_path(trial.folder, split).exists()]
    chosen = {_exam_key(trial): trial for trial in missing}
    exams = {key: _load_exam(trial, precision, split) for key, trial in chosen.items()}
    for trial in tqdm(missing, "evaluating", unit="training", leave=False, disable=not missing):
        _predict(trial, load_model, exams[_exam_key(trial)], precision, split)


def _exam_key(trial: Trial) -> tuple[str, int, int]:
    """What the frames that a training is evaluated on depend on."""
    return trial.data, trial.options["imgsz"], trial.options["batch_size"]


def _load_exam(trial: Trial, precision: Precision, split: str) -> Exam:
    path, image_size, batch_size = _exam_key(trial)
    data = load_data_config(path)
    dataset = JointDataset(load_split(data, split), image_size)
    return data, make_loader(dataset, batch_size, 0, precision.device.type == "cuda")


def _predict(
    trial: Trial, load_model: ModelLoader, exam: Exam, precision: Precision, split: str
) -> None:
    data, loader = exam
    model, content = load_model(_weights(trial))
    results, _ = evaluate(precision.place(model), loader, precision, data)
    trained_on = content["fingerprint"].partition("-")[0]
    confidence, prior = content["confidence"], content["view_prior"]
    header = Header.of(
        data, loader.dataset, trial.arm.tasks, precision, confidence, prior, trained_on
    )
    write_predictions(predictions_path(trial.folder, split), results, header)


def _weights(trial: Trial) -> Path:
    return trial.folder / "weights" / "last.pt"


def measure_networks(
    trials: Sequence[Trial], load_model: ModelLoader, precision: Precision
) -> dict[str, dict[str, float]]:
    """Arm -> "gflops" and "latency_ms" of its network; networks that are alike are measured once."""
    alike = {trial.arm.name: _network_key(trial) for trial in trials}
    chosen = {alike[trial.arm.name]: _weights(trial) for trial in trials}
    models = {kind: precision.place(load_model(path)[0]).eval() for kind, path in chosen.items()}
    image_size = trials[0].common["imgsz"]
    latency_ms = measure_latency_ms(models, image_size, precision)
    gflops = {kind: count_gflops(model, image_size) for kind, model in models.items()}
    return {
        arm: {"gflops": gflops[kind], "latency_ms": latency_ms[kind]} for arm, kind in alike.items()
    }


def _network_key(trial: Trial) -> tuple[object, ...]:
    """What a network depends on."""
    files = (trial.options.get(name) for name in ("size", "cfg", "classifier_cfg"))
    return (trial.arm.script, trial.arm.tasks, *files)


def judge(kept: Kept, protocol: Protocol) -> dict[str, object]:
    """Compare the arms by what the files of a comparison hold; see `utils.comparison.report.collect`."""
    outcomes: dict[str, list[Outcome]] = {}
    folds: dict[str, dict[int, list[Fold]]] = {}
    confidences = _confidences(kept)
    for trial in tqdm(kept.trials, "scoring", unit="training", leave=False):
        results, header = kept.results(trial)
        outcome = _examine(kept, trial, results, header, confidences[trial.folder])
        outcomes.setdefault(trial.arm.name, []).append(outcome)
        by_seed = folds.setdefault(trial.arm.name, {})
        by_seed.setdefault(trial.seed, []).append(Fold(results, header.confidence))
    arms = {trial.arm.name: trial.arm for trial in kept.trials}
    found = collect(_about(kept), protocol, list(arms.values()), outcomes, _read_interference(kept))
    tasks = {name: arm.tasks for name, arm in arms.items()}
    data = next(iter(kept.truths.values())).data
    return found | {"out_of_fold": out_of_fold(folds, tasks, data)}


def _confidences(kept: Kept) -> dict[Path, float]:
    """A training's folder -> the threshold for its figures.

    It is the one that training chose on validation, frozen for any other split. A fold that is
    judged by its own validation split takes the median of the other folds' thresholds, which were
    chosen on other patients.
    """
    alike: dict[tuple[str, int], list[Trial]] = {}
    for trial in kept.trials:
        alike.setdefault((trial.arm.name, trial.seed), []).append(trial)
    found = {}
    for trials in alike.values():
        chosen = [kept.header(trial).confidence for trial in trials]
        if len(trials) > 1 and kept.record.split == "val":
            chosen = other_folds_thresholds(chosen)
        for trial, confidence in zip(trials, chosen, strict=True):
            # Where none found a box, the usual one: never one that is chosen on the split that is
            # judged.
            found[trial.folder] = USUAL_CONFIDENCE if confidence is None else confidence
    return found


def _examine(
    kept: Kept, trial: Trial, results: Sequence[ImageResult], header: Header, confidence: float
) -> Outcome:
    network = kept.record.networks[trial.arm.name]
    names, views, tasks, unit = header.names, header.view_names, trial.arm.tasks, kept.unit(trial)
    metrics = summarise(results, names, views, confidence, intervals=False, tasks=tasks)
    return Outcome(
        arm=trial.arm.name,
        unit=unit,
        figures=read_figures(trial.folder, metrics, tasks, network["gflops"]),
        costs=read_costs(trial.folder, network["latency_ms"]),
        resampled=resample(results, len(names), len(views), tasks, seed=unit[0]),
        patients=patients_behind(results, len(names), len(views), tasks),
        courses=read_courses(trial.folder, tasks),
    )


def _read_interference(kept: Kept) -> dict[str, pd.DataFrame]:
    """Arm -> the rows of interference.csv of all its trainings, with the numbers of their data set and seed."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for trial in kept.trials:
        path = trial.folder / "interference.csv"
        if path.exists():
            data, seed = kept.unit(trial)
            rows = pd.read_csv(path, dtype={"place": str}).assign(data=data, seed=seed)
            tables.setdefault(trial.arm.name, []).append(rows)
    return {arm: pd.concat(own) for arm, own in tables.items()}


def _about(kept: Kept) -> dict[str, object]:
    """How the comparison was done, and what its data cannot show."""
    common, seeds = dict(kept.record.common), sorted({trial.seed for trial in kept.trials})
    common.pop("diagnose_interval", None)
    truths, names, split = list(kept.truths.values()), kept.record.data, kept.record.split
    has_groups = all(truth.data.group_pattern for truth in truths)
    frames = ", ".join(str(len(truth.split.images)) for truth in truths)
    groups = ", ".join(
        str(len(set(map(truth.data.group_of, truth.split.images)))) for truth in truths
    )
    counts = f"{frames} frames" + (f" of {groups} patients" if has_groups else "")
    has_negatives = any(not len(frame.boxes) for truth in truths for frame in truth.split.labels)
    sizes = "YOLOv5{size}, {imgsz} px, {epochs} epochs, batch {batch_size}".format(**common)
    return {
        **common,
        "title": sizes,
        "data": names,
        "data_line": f"{', '.join(f'`{name}`' for name in names)}, {counts}",
        "split": "validation" if split == "val" else split,
        "seeds": seeds,
        "units": len(truths) * len(seeds),
        "resampled": "patients (group_pattern)" if has_groups else "images",
        "limits": _limits(counts, has_groups, len(truths), has_negatives),
    }


def _limits(counts: str, has_groups: bool, data_sets: int, has_negatives: bool) -> list[str]:
    grouped = f"{counts}: the intervals say how much so many can carry."
    alone = f"{counts}; without a group_pattern frames of one patient count as independent: too narrow intervals."
    limits = [grouped if has_groups else alone]
    if data_sets == 1:
        limits.append(
            "One training set: by how much the figures would move with another one is not in the intervals."
        )
    if not has_negatives:
        limits.append(
            "Every frame has a box: how often a model cries wolf on a frame without one cannot be measured."
        )
    return limits
