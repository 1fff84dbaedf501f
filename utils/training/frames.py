"""The frames that a training reads, checked before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from utils.core import distributed
from utils.core.data_config import DataConfig
from utils.core.hyperparameters import HyperParameters
from utils.core.names import TASKS
from utils.core.options import TrainOptions, warn_without_effect
from utils.core.script import LOGGER, UserError
from utils.curation.audit import quick_warnings
from utils.data.dataset import JointDataset
from utils.data.labels import UNKNOWN_VIEW
from utils.data.splits import Split, load_splits
from utils.training.run import Run, prepare_start, read_data

SINGLE_TASK = "train_joint_gradnorm.py --tasks"  # how one task is trained without the other
NOT_AUGMENTED = (
    "no augmentation; for patients who are not in training use --hyp new_patients: "
    "mAP50 0.39 in place of 0.22 on five folds of real frames (docs/recipe.md)"
)


@dataclass(frozen=True)
class Frames:
    """A data set's description and the two splits that a training reads."""

    data: DataConfig
    train: JointDataset
    val: JointDataset


def load_frames(
    run: Run, tasks: Sequence[str] = TASKS, trained: Sequence[str] | None = None
) -> Frames:
    """Read and check the labels and frames of both splits, and say what there is.

    Args:
        tasks: that the model has a head for.
        trained: those of them that are trained; all if None.

    Raises:
        UserError: something is wrong with the data; every bad label file is named.
    """
    options, hyp = run.options, run.hyp
    if trained is None:
        trained = tasks
    if run.resume is None:
        prepare_start(options)
    data = read_data(run)
    refuse_missing_names(data, tasks)
    train, val = distributed.from_main(distributed.by_main(partial(_load_both, data, options)))
    refuse_nothing_to_learn(data, train, trained, hyp)
    found = quick_warnings(data, train, val, trained)
    if found:
        LOGGER.warning(f"warning: {found}")
    train_set = JointDataset(train, options.imgsz, options.cache, options.rect)
    val_set = JointDataset(val, options.imgsz, options.cache, options.rect)
    if options.workers > 0 and train_set.cached and run.compute.device.type != "cuda":
        reason = "frames that are cached in memory; --cache off reads them anew"
        warn_without_effect(["workers"], {"workers": reason})
    if hyp.not_applied:
        LOGGER.warning(f"warning: not applied: {hyp.not_applied}")
    augment(train_set, data, hyp, options.seed)
    counts = f"{len(train_set)} training and {len(val_set)} validation frames"
    LOGGER.info(f"{counts}; {run.compute}; {run.folder}")
    return Frames(data, train_set, val_set)


def _load_both(data: DataConfig, options: TrainOptions) -> list[Split]:
    return load_splits(data, ("train", "val"), options.skip_bad_labels, options.index)


def augment(frames: JointDataset, data: DataConfig, hyp: HyperParameters, seed: int) -> None:
    """Augment training frames as the hyp file asks, and say so; else, what new patients miss."""
    warn_of_wrong_sides(data, hyp)
    if hyp.augmentation:
        frames.augment(hyp, seed, data.mirrored_classes)
        applied = [f"{key} {value:g}" for key, value in hyp.augmentation.items()]
        LOGGER.info(f"augmentation: {', '.join(applied)}")
    elif data.group_pattern:
        LOGGER.info(NOT_AUGMENTED)


def warn_of_wrong_sides(data: DataConfig, hyp: HyperParameters) -> None:
    """Warn of flips that make labels wrong which say left or right."""
    if hyp.fliplr and data.unpaired_sides:
        problem = f"mirrors images, but {', '.join(data.unpaired_sides)} stay as they are"
        fix = "name box classes that swap in flip_pairs, or set fliplr to 0"
        LOGGER.warning(f"warning: {data.source}: fliplr {hyp.fliplr:g} {problem}; {fix}")


def refuse_missing_names(data: DataConfig, tasks: Sequence[str]) -> None:
    """Raise a `UserError` if data.yaml does not name what a task tells apart."""
    for task, other in zip(TASKS, reversed(TASKS), strict=True):
        if task in tasks and data.lacks(task):
            raise UserError(
                f"{data.source}: {data.lacks(task)}; for {other} alone: {SINGLE_TASK} {other}"
            )


def refuse_nothing_to_learn(
    data: DataConfig, train: Split, tasks: Sequence[str], hyp: HyperParameters
) -> None:
    """Raise a `UserError` if a task that is trained has not one example."""
    if "detection" in tasks and not len(train.labels.boxes):
        example = "expected lines like 0 0.5 0.5 0.2 0.1 in label files"
        raise UserError(
            f"{data.source}: no training frame has a box; {example}; "
            f"without: {SINGLE_TASK} classification"
        )
    required = "classification" in tasks and hyp.classification_required
    if required and (train.labels.views == UNKNOWN_VIEW).all():
        example = "expected a line like 0 1 0 in label files"
        found = data.said("no training frame has a view")
        raise UserError(f"{data.source}: {found}; {example}; without: {SINGLE_TASK} detection")
