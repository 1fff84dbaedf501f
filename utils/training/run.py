"""How a training begins: its options and folder, new or resumed (`Run`), its frames (`Frames`), its model."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils.checkpoints.checkpoint import (
    averaged_weights,
    load_checkpoint,
    require_resumable,
    transfer_weights,
)
from utils.checkpoints.download import weights_file
from utils.checkpoints.model_file import build_from
from utils.checkpoints.public_yolov5 import is_official, read_official
from utils.core import distributed
from utils.core.data_config import DataConfig, load_data_config
from utils.core.device import Precision, seed_everything, select_device, select_precision
from utils.core.files import find_file
from utils.core.hyperparameters import HyperParameters, load_hyperparameters
from utils.core.lock import FolderLock, claim_run_folder, lock_folder
from utils.core.names import TASKS
from utils.core.options import TrainOptions, split_arguments, warn_without_effect
from utils.core.script import LOGGER, UserError
from utils.core.values import from_mapping, to_mapping
from utils.curation.audit import quick_warnings
from utils.data.dataset import JointDataset
from utils.data.labels import UNKNOWN_VIEW
from utils.data.splits import Split, load_splits
from utils.losses.anchors import AnchorFit, anchor_fit, fit_anchors


def random_states() -> dict[str, object]:
    """The states of Python's, NumPy's and PyTorch's generators, as tensors and plain types."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Mapping[str, object]) -> None:
    """Put the generators back where `random_states` found them."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def newest_checkpoints(project: str | Path) -> list[Path]:
    """Every run's `last.pt` below the folder `project`, the one written last first."""
    return sorted(
        Path(project).glob("*/weights/last.pt"), key=lambda path: path.stat().st_mtime, reverse=True
    )


def newest_checkpoint(project: str | Path) -> Path:
    """The `last.pt` written last below the folder `project`.

    Raises:
        UserError: there is none.
    """
    found = newest_checkpoints(project)
    if not found:
        raise UserError(
            f"--resume: no */weights/last.pt in {project}; name one: --resume RUN/weights/last.pt"
        )
    return found[0]


ALONE = "train_joint_gradnorm.py --tasks"  # how one task is trained without the other
LOW_RECALL = 0.98  # below which YOLOv5 fits anchors, and we suggest it
SMALLEST_PX = 2.0  # boxes whose sides are both shorter are not fitted to


def training_sizes(dataset: JointDataset) -> np.ndarray:
    """(n, 2) widths and heights of all boxes, in pixels of the letterboxed frames."""
    pairs = zip(dataset.split.labels, dataset.letterboxes, strict=True)
    return np.concatenate([labels.boxes[:, 3:] * (box.width, box.height) for labels, box in pairs])


def prepare_anchors(detect: nn.Module | None, run: Run, dataset: JointDataset) -> None:
    """Say how well the anchors suit the training boxes and, with --autoanchor, put better ones in their place.

    A resumed run keeps the anchors it has.

    Args:
        detect: with `anchors_px` and `set_anchors_px`, see `models.yolo.Detect`; None: there is
            nothing to do.
    """
    wh = training_sizes(dataset)
    if detect is None or not len(wh):
        return
    old = detect.anchors_px().view(-1, 2).double().numpy()
    fit = anchor_fit(wh, old, run.hyp.anchor_t)
    about = f"{len(wh)} training boxes at {dataset.image_size} px, threshold {run.hyp.anchor_t:g}"
    LOGGER.info(f"anchors: {fit} ({about})")
    if run.options.autoanchor and not run.resume:
        new = _better_anchors(wh, len(old), run.hyp.anchor_t, run.options.seed, fit)
        if new is not None:
            detect.set_anchors_px(torch.from_numpy(new))
    elif fit.recall < LOW_RECALL:
        lost = 1 - fit.recall
        LOGGER.warning(
            f"warning: {lost:.1%} of the training boxes are too far from every anchor; try --autoanchor"
        )


def _better_anchors(
    wh: np.ndarray, count: int, anchor_t: float, seed: int, old: AnchorFit
) -> np.ndarray | None:
    """Fitted anchors (count, 2) if they are better than what has the fit `old`; says what was done."""
    large = wh[(wh >= SMALLEST_PX).any(axis=1)]
    if (sizes := len(np.unique(large, axis=0))) < count:
        LOGGER.warning(
            f"warning: --autoanchor: {sizes} sizes of boxes are too few for {count} anchors; kept"
        )
        return None
    new = fit_anchors(large, count, anchor_t, seed)
    fit = anchor_fit(wh, new, anchor_t)
    if fit <= old:
        LOGGER.info(f"--autoanchor: fitted ones are not better ({fit}); kept as they are")
        return None
    listed = ", ".join(f"{width:g}x{height:g}" for width, height in new)
    LOGGER.info(
        f"--autoanchor: {fit}, fitness {old.fitness:.3f} -> {fit.fitness:.3f}, with {listed}"
    )
    return new


def freeze_layers(model: nn.Module, count: int) -> int:
    """Stop training the first `count` layers of `model.model`; returns how many parameters that holds.

    As in YOLOv5, batch-norm statistics of frozen layers keep moving.

    Raises:
        UserError: there are not that many layers.
    """
    layers: Iterable[nn.Module] = list(model.model)
    if count > len(layers):
        raise UserError(
            f"--freeze {count}: the model has {len(layers)} layers; expected 0 to {len(layers)}"
        )
    frozen = [p for layer in layers[:count] for p in layer.parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
    return sum(p.numel() for p in frozen)


@dataclass(frozen=True)
class Run:
    """What the user asked for; a context manager that gives the folder back at its end.

    Attributes:
        folder: the run folder, which is this run's own until it is closed.
        resume: the checkpoint to go on from, or None.
        lock: of the folder; None in all processes but the one that writes.
        given: the options that the user named; none for a resumed run.
    """

    options: TrainOptions
    hyp: HyperParameters
    folder: Path
    precision: Precision
    resume: Mapping[str, object] | None = None
    lock: FolderLock | None = None
    given: frozenset[str] = frozenset()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.lock is not None:
            self.lock.release()

    def confirm(self) -> None:
        """Raise a `UserError` if the folder is not this run's own any more; see `FolderLock.confirm`."""
        if self.lock is not None:
            self.lock.confirm()


@dataclass(frozen=True)
class Frames:
    """A data set's description and the two splits that a training reads."""

    data: DataConfig
    train: JointDataset
    val: JointDataset


def start_run(
    given: Mapping[str, object], kind: str, options_kind: type[TrainOptions] = TrainOptions
) -> Run:
    """A run from the command line's options: a new one, or with `resume` among them an old one.

    Args:
        given: option -> value, those given only; `resume` is a path, or None for the newest run.
        kind: of model; only a checkpoint of that kind is resumed.
        options_kind: the script's options.
    """
    given = dict(given)
    if "resume" in given:
        path = given.pop("resume")
        return _resumed_run(path, given, kind, options_kind)
    options, over_hyp = split_arguments(given, options_kind)
    hyp = load_hyperparameters(options.hyp, over_hyp)
    precision = _precision(options)  # from here on the processes know each other
    warn_without_effect(given, options.without_effect(hyp))
    if distributed.launch_id() or distributed.is_restarted():
        path = distributed.from_main(
            _interrupted_run(options, hyp) if distributed.is_main() else None
        )
        if path:
            return _resumed_run(path, {}, kind, options_kind, wait=True)
    return _new_run(options, hyp, precision, frozenset(given))


def _interrupted_run(options: TrainOptions, hyp: HyperParameters) -> Path | None:
    """The newest unfinished run of this very launch, which processes that torchrun starts again go on with."""
    wanted = {
        "launch": distributed.launch_id(),
        "options": to_mapping(options),
        "hyp": to_mapping(hyp),
    }
    for path in newest_checkpoints(options.project):
        if (path.parents[1] / "summary.json").exists():
            continue
        with contextlib.suppress(UserError):  # a foreign or damaged file is not of this launch
            content = load_checkpoint(path)
            if {key: content.get(key) for key in wanted} == wanted:
                LOGGER.info(f"started again by torchrun: going on with {path}")
                return path
    return None


def _new_run(
    options: TrainOptions, hyp: HyperParameters, precision: Precision, given: frozenset[str]
) -> Run:
    lock = distributed.by_main(
        lambda: claim_run_folder(options.project, options.name, options.exist_ok)
    )
    folder = distributed.from_main(lock and lock.folder)
    return Run(options, hyp, folder, precision, lock=lock, given=given)


def _precision(options: TrainOptions) -> Precision:
    """As the options say, on a device that is ready for it."""
    device = select_device(options.device)
    distributed.join(device)
    if options.sync_bn and device.type != "cuda":
        raise UserError(f"--sync-bn needs CUDA devices, found {device}; leave it out")
    if options.sync_bn and distributed.world_size() == 1:
        warn_without_effect(
            ["sync_bn"], {"sync_bn": "a single process; start several with torchrun"}
        )
    return select_precision(options.amp, device)


def _resumed_run(
    path: str | Path | None,
    given: Mapping[str, object],
    kind: str,
    options_kind: type[TrainOptions],
    wait: bool = False,
) -> Run:
    """The run of a checkpoint, or the newest one; `wait`: until the process that worked in it counts as dead."""
    given = dict(given)
    project = given.pop("project", None)
    fixed = given.keys() - {"device", "workers"}
    if fixed:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(fixed))
        raise UserError(
            f"--resume goes on with the options the run started with; leave out {named}"
        )
    if path and project:
        warn_without_effect(["project"], {"project": f"--resume {path}"})
    path = Path(path) if path else newest_checkpoint(project or TrainOptions.project)
    state = _resumable(path, kind)
    _stored(options_kind, state["options"], f"{path}: options")
    options = from_mapping(options_kind, {**state["options"], **given})
    precision = _precision(options)
    folder = path.resolve().parents[1]
    lock = distributed.by_main(lambda: lock_folder(folder, wait))
    state = _resumable(path, kind)  # nobody else writes it from here on
    hyp = _stored(HyperParameters, state["hyp"], f"{path}: hyp")
    return Run(options, hyp, folder, precision, state, lock)


def _resumable(path: Path, kind: str) -> Mapping[str, object]:
    """The content of an unfinished run's `last.pt`.

    Raises:
        UserError: it is something else.
    """
    if is_official(path):
        raise UserError(
            f"{path}: a public YOLOv5 checkpoint cannot be resumed; start a new run with --weights {path}"
        )
    state = load_checkpoint(path)
    if (
        state["kind"] != kind
        or "networks" not in state
        or path.resolve().parts[-2:] != ("weights", "last.pt")
    ):
        raise UserError(
            f"{path}: cannot be resumed; expected RUN/weights/last.pt of a training of kind '{kind}'"
        )
    folder = path.resolve().parents[1]
    if (folder / "summary.json").exists():
        raise UserError(f"{folder}: this run is finished; start a new one with --weights {path}")
    require_resumable(state, path)
    return state


def read_data(run: Run) -> DataConfig:
    """The run's data.yaml.

    Raises:
        UserError: it cannot be used; or on resume, it is gone, or says something else than when the
            run started.
    """
    path = find_file(run.options.data)
    if run.resume is None:
        return load_data_config(path)
    if not path.exists():
        raise UserError(
            f"{path}: no such file (seen from {Path.cwd()}); the run started with it, so put it back"
        )
    data = load_data_config(path)
    state = run.resume
    before = {"names": state["names"], "cls_names": state["view_names"], **state.get("data", {})}
    changed = data.difference(before)
    if changed:
        raise UserError(
            f"{path}: {changed}, as this run started with; put it back, or start a new run"
        )
    return data


def _stored(kind: type, content: Mapping[str, object], source: str) -> object:
    """A dataclass from a checkpoint's plain values; `source` says which, in errors."""
    try:
        return from_mapping(kind, content)
    except (UserError, TypeError) as error:  # a value of a type that a check cannot compare
        raise UserError(
            f"{source}: {error}; the run cannot be resumed, start a new one with --weights"
        ) from None


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
    trained = tasks if trained is None else trained
    data = read_data(run)
    refuse_missing_names(data, tasks)
    with distributed.main_first():  # which may have to generate the data
        splits = load_splits(data, ("train", "val"), options.skip_bad_labels)
    refuse_nothing_to_learn(data, splits[0], trained, hyp)
    found = quick_warnings(data, *splits, trained)
    if found:
        LOGGER.warning(f"warning: {found}")
    train_set, val_set = (
        JointDataset(split, options.imgsz, options.cache, options.rect) for split in splits
    )
    if options.workers > 0 and train_set.cached and run.precision.device.type != "cuda":
        warn_without_effect(
            ["workers"],
            {"workers": "frames that are cached in memory; --cache off reads them anew"},
        )
    if hyp.not_applied:
        LOGGER.warning(f"warning: not applied: {hyp.not_applied}")
    if hyp.augmentation:
        train_set.augment(hyp, options.seed)
        LOGGER.info(
            f"augmentation: {', '.join(f'{key} {value:g}' for key, value in hyp.augmentation.items())}"
        )
    LOGGER.info(
        f"{len(train_set)} training and {len(val_set)} validation frames; {run.precision}; {run.folder}"
    )
    return Frames(data, train_set, val_set)


def refuse_missing_names(data: DataConfig, tasks: Sequence[str]) -> None:
    """Raise a `UserError` if data.yaml does not name what a task tells apart."""
    for task, other in zip(TASKS, reversed(TASKS), strict=True):
        if task in tasks and data.lacks(task):
            raise UserError(
                f"{data.source}: {data.lacks(task)}; for {other} alone: {ALONE} {other}"
            )


def refuse_nothing_to_learn(
    data: DataConfig, train: Split, tasks: Sequence[str], hyp: HyperParameters
) -> None:
    """Raise a `UserError` if a task that is trained has not one example."""
    if "detection" in tasks and not any(len(labels.boxes) for labels in train.labels):
        example = "expected lines like 0 0.5 0.5 0.2 0.1 in label files"
        raise UserError(
            f"{data.source}: no training frame has a box; {example}; without: {ALONE} classification"
        )
    required = "classification" in tasks and hyp.classification_required
    if required and all(labels.view == UNKNOWN_VIEW for labels in train.labels):
        example = "expected a line like 0 1 0 in label files"
        raise UserError(
            f"{data.source}: no training frame has a view; {example}; without: {ALONE} detection"
        )


def build_model(run: Run, kind: Callable[..., nn.Module], **arguments: object) -> nn.Module:
    """The model to train: a new one, with what fits from `--weights`; on resume as the checkpoint describes it.

    Args:
        kind: of model; called with `arguments`, or with those in the checkpoint.
    """
    if run.resume:
        return build_from(kind, run.resume["arguments"], run.folder / "weights" / "last.pt")
    seed_everything(run.options.seed)
    model = kind(**arguments)
    if run.options.weights:
        with distributed.main_first():  # which may have to fetch it
            path = weights_file(run.options.weights, run.options.download)
        if is_official(path):
            state = {
                f"{model.detection_path}{name}": tensor
                for name, tensor in read_official(path).items()
            }
            transfer_weights(model, state, f"{path} (public YOLOv5)")
            return model
        content = load_checkpoint(path)
        transfer_weights(
            model, averaged_weights(content), f"{path} (model of kind '{content['kind']}')"
        )
    return model
