"""Lets the trainings of a comparison predict, and puts together what their files come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from utils.comparison.arms import Arm
from utils.comparison.kept import Kept, Truth, predictions_path
from utils.comparison.out_of_fold import Fold, other_folds_thresholds, out_of_fold
from utils.comparison.outcomes import Outcome, read_costs, read_courses, read_figures
from utils.comparison.protocol import Protocol
from utils.comparison.results import collect
from utils.comparison.statistics import SINGLE_TASK, patients_behind, resample
from utils.comparison.trainings import Training
from utils.core.data_config import DataConfig, load_data_config
from utils.core.device import Compute
from utils.core.names import TASKS
from utils.core.options import USUAL_CONFIDENCE
from utils.core.script import UserError
from utils.core.title import DEFAULT_TITLE
from utils.data.dataset import JointDataset
from utils.data.loader import make_loader
from utils.data.splits import load_split, load_splits
from utils.evaluation.evaluate import evaluate
from utils.evaluation.metrics import summarise
from utils.evaluation.predictions import Header, write_predictions
from utils.evaluation.results import ImageResult
from utils.training.timing import count_gflops, measure_latency_ms

ModelLoader = Callable[[Path], tuple[nn.Module, dict[str, object]]]


@dataclass(frozen=True)
class EvaluationSet:
    """The frames that trainings are evaluated on."""

    data: DataConfig
    loader: DataLoader


def fingerprints(path: str, splits: Sequence[str], arms: Iterable[Arm] = ()) -> dict[str, object]:
    """What figures depend on: split -> its fingerprint, and key of the data.yaml -> its value.

    Reads all labels, so that what is wrong with them is known before training.

    Raises:
        UserError: there is something wrong, or an arm needs classes or views that data.yaml does
            not name.
    """
    data = load_data_config(path)
    arms = list(arms)
    for task, other in zip(TASKS, reversed(TASKS), strict=True):
        needing = dict.fromkeys(arm.name for arm in arms if task in arm.tasks)
        if needing and data.lacks(task):
            raise UserError(
                f"{data.source}: {data.lacks(task)}; arms {', '.join(needing)} need it; "
                f"on these data compare --arms {SINGLE_TASK[other]}"
            )
    conditions = data.settings()
    for split in load_splits(data, splits):
        conditions[split.name] = split.fingerprint()
    return conditions


def predict(
    trainings: Sequence[Training], load_model: ModelLoader, compute: Compute, split: str
) -> None:
    """Write what every training's averaged weights predict, where it is not there yet.

    See `predictions_path` for where.

    Args:
        load_model: a checkpoint's path -> its network, the averaged one, and its content.
    """
    missing = []
    for training in trainings:
        if not predictions_path(training.folder, split).exists():
            missing.append(training)
    evaluation_sets: dict[tuple, EvaluationSet] = {}
    for training in missing:
        key = _evaluation_key(training)
        if key not in evaluation_sets:
            evaluation_sets[key] = _load_evaluation_set(training, compute, split)
    for training in tqdm(missing, "evaluating", unit="training", leave=False, disable=not missing):
        evaluation_set = evaluation_sets[_evaluation_key(training)]
        _predict(training, load_model, evaluation_set, compute, split)


def _evaluation_key(training: Training) -> tuple[str, int, int]:
    """What the frames that a training is evaluated on depend on."""
    return training.data, training.options["imgsz"], training.options["batch_size"]


def _load_evaluation_set(training: Training, compute: Compute, split: str) -> EvaluationSet:
    path, image_size, batch_size = _evaluation_key(training)
    data = load_data_config(path)
    dataset = JointDataset(load_split(data, split), image_size)
    loader = make_loader(dataset, batch_size, 0, compute.device.type == "cuda")
    return EvaluationSet(data, loader)


def _predict(
    training: Training,
    load_model: ModelLoader,
    evaluation_set: EvaluationSet,
    compute: Compute,
    split: str,
) -> None:
    data = evaluation_set.data
    loader = evaluation_set.loader
    model, content = load_model(_weights(training))
    results, _ = evaluate(compute.place(model), loader, compute, data)
    header = Header.of(
        data,
        loader.dataset,
        training.arm.tasks,
        compute,
        confidence=content["confidence"],
        view_prior=content["view_prior"],
        trained_on=content["fingerprint"].partition("-")[0],
        thresholds=content.get("thresholds"),
    )
    write_predictions(predictions_path(training.folder, split), results, header)


def _weights(training: Training) -> Path:
    return training.folder / "weights" / "last.pt"


def measure_networks(
    trainings: Sequence[Training], load_model: ModelLoader, compute: Compute
) -> dict[str, dict[str, float]]:
    """Arm -> "gflops" and "latency_ms" of its network; those that are alike are measured once."""
    alike = {training.arm.name: _network_key(training) for training in trainings}
    chosen = {alike[training.arm.name]: _weights(training) for training in trainings}
    models = {}
    for kind, path in chosen.items():
        model, _ = load_model(path)
        models[kind] = compute.place(model).eval()
    image_size = trainings[0].common["imgsz"]
    latency_ms = measure_latency_ms(models, image_size, compute)
    gflops = {kind: count_gflops(model, image_size) for kind, model in models.items()}
    measured = {}
    for arm, kind in alike.items():
        measured[arm] = {"gflops": gflops[kind], "latency_ms": latency_ms[kind]}
    return measured


def _network_key(training: Training) -> tuple[object, ...]:
    """What a network depends on."""
    arm = training.arm
    options = training.options
    files = (options.get("size"), options.get("cfg"), options.get("classifier_cfg"))
    return arm.script, arm.tasks, files


def evaluate_arms(kept: Kept, protocol: Protocol) -> dict[str, object]:
    """Compare the arms by what the files of a comparison hold; see `results.collect`."""
    outcomes: dict[str, list[Outcome]] = {}
    folds: dict[str, dict[int, list[Fold]]] = {}
    predicted = {training.folder: kept.results(training) for training in kept.trainings}
    confidences = _confidences(kept, {run: header for run, (_, header) in predicted.items()})
    for training in tqdm(kept.trainings, "scoring", unit="training", leave=False):
        results, header = predicted[training.folder]
        outcome = _outcome(kept, training, results, header, confidences[training.folder])
        outcomes.setdefault(training.arm.name, []).append(outcome)
        by_seed = folds.setdefault(training.arm.name, {})
        by_seed.setdefault(training.seed, []).append(Fold(results, header.confidence))
    arms = {training.arm.name: training.arm for training in kept.trainings}
    found = collect(_about(kept), protocol, list(arms.values()), outcomes, _read_interference(kept))
    tasks = {name: arm.tasks for name, arm in arms.items()}
    data = next(iter(kept.truths.values())).data
    return found | {"out_of_fold": out_of_fold(folds, tasks, data)}


def _confidences(kept: Kept, headers: Mapping[Path, Header]) -> dict[Path, float]:
    """A training's folder -> the threshold for its figures.

    It is the one that training chose on validation, frozen for any other split. A fold that is
    evaluated on its own validation split takes the median of the other folds' thresholds, which
    were chosen on other patients.
    """
    alike: dict[tuple[str, int], list[Training]] = {}
    for training in kept.trainings:
        alike.setdefault((training.arm.name, training.seed), []).append(training)
    found = {}
    for trainings in alike.values():
        chosen = [headers[training.folder].confidence for training in trainings]
        if len(trainings) > 1 and kept.record.split == "val":
            chosen = other_folds_thresholds(chosen)
        for training, confidence in zip(trainings, chosen, strict=True):
            # Where none found a box, the usual one: never one chosen on the evaluated split
            if confidence is None:
                confidence = USUAL_CONFIDENCE
            found[training.folder] = confidence
    return found


def _outcome(
    kept: Kept,
    training: Training,
    results: Sequence[ImageResult],
    header: Header,
    confidence: float,
) -> Outcome:
    network = kept.record.networks[training.arm.name]
    tasks = training.arm.tasks
    unit = kept.unit(training)
    names = header.names
    views = header.view_names
    metrics = summarise(results, names, views, confidence, intervals=False, tasks=tasks)
    return Outcome(
        arm=training.arm.name,
        unit=unit,
        figures=read_figures(training.folder, metrics, tasks, network["gflops"]),
        costs=read_costs(training.folder, network["latency_ms"]),
        resampled=resample(results, len(names), len(views), tasks, seed=unit[0]),
        patients=patients_behind(results, len(names), len(views), tasks),
        courses=read_courses(training.folder, tasks),
    )


def _read_interference(kept: Kept) -> dict[str, pd.DataFrame]:
    """Arm -> the rows of interference.csv of all its trainings, with the numbers of their unit."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for training in kept.trainings:
        path = training.folder / "interference.csv"
        if path.exists():
            data, seed = kept.unit(training)
            rows = pd.read_csv(path, dtype={"place": str}).assign(data=data, seed=seed)
            tables.setdefault(training.arm.name, []).append(rows)
    return {arm: pd.concat(own) for arm, own in tables.items()}


def _about(kept: Kept) -> dict[str, object]:
    """How the comparison was done, and what its data cannot show."""
    common = dict(kept.record.common)
    common.pop("diagnose_interval", None)
    seeds = sorted({training.seed for training in kept.trainings})
    truths = list(kept.truths.values())
    counts, resampled = _counts_of(truths)
    names = ", ".join(f"`{name}`" for name in kept.record.data)
    split = kept.record.split
    if split == "val":
        split = "validation"
    about = {
        **common,
        "title": "YOLOv5{size}, {imgsz} px, {epochs} epochs, batch {batch_size}".format(**common),
        "data": kept.record.data,
        "data_line": f"{names}, {counts}",
        "split": split,
        "seeds": seeds,
        "units": len(truths) * len(seeds),
        "resampled": resampled,
        "limits": _limits(truths, counts),
    }
    title = truths[0].data.cls_title
    if title != DEFAULT_TITLE:
        about["cls_title"] = title
    return about


def _have_groups(truths: Sequence[Truth]) -> bool:
    return all(truth.data.group_pattern for truth in truths)


def _counts_of(truths: Sequence[Truth]) -> tuple[str, str]:
    """How many frames and patients the data sets have, and which of them are resampled."""
    frames = [str(len(truth.split.images)) for truth in truths]
    counts = f"{', '.join(frames)} frames"
    if not _have_groups(truths):
        return counts, "images"
    patients = []
    for truth in truths:
        groups = {truth.data.group_of(image) for image in truth.split.images}
        patients.append(str(len(groups)))
    return f"{counts} of {', '.join(patients)} patients", "patients (group_pattern)"


def _limits(truths: Sequence[Truth], counts: str) -> list[str]:
    """What the data cannot show."""
    if _have_groups(truths):
        limits = [f"{counts}: the intervals say how much so many can carry."]
    else:
        limits = [
            f"{counts}; without a group_pattern frames of one patient count as independent: "
            "too narrow intervals."
        ]
    if len(truths) == 1:
        limits.append(
            "One training set: by how much the figures would move with another one "
            "is not in the intervals."
        )
    if all(_shows_boxes_only(truth) for truth in truths):
        limits.append(
            "Every frame has a box: how often a model cries wolf on a frame without one "
            "cannot be measured."
        )
    return limits


def _shows_boxes_only(truth: Truth) -> bool:
    """Every frame of the split has a box."""
    return all(len(labels.boxes) for labels in truth.split.labels)
