"""How a training begins: its options and folder, new or resumed (`Run`), and the frames it reads (`Frames`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from utils import distributed
from utils.audit import quick_warnings
from utils.checkpoint import (
    averaged_weights,
    load_checkpoint,
    newest_checkpoint,
    newest_checkpoints,
    transfer_weights,
)
from utils.config import (
    DataConfig,
    HyperParameters,
    TrainOptions,
    from_mapping,
    load_data_config,
    load_hyperparameters,
    split_arguments,
    to_mapping,
)
from utils.dataloaders import JointDataset, load_splits
from utils.download import weights_file
from utils.general import LOGGER, UserError, new_run_folder, seed_everything
from utils.official import is_official, read_official
from utils.torch_utils import Precision, select_device, select_precision


@dataclass(frozen=True)
class Run:
    """What the user asked for.

    Attributes:
        folder: the run folder; made when the training starts.
        resume: the checkpoint to go on from, or None.
    """

    options: TrainOptions
    hyp: HyperParameters
    folder: Path
    precision: Precision
    resume: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Frames:
    """A data set's description and the two splits that a training reads."""

    data: DataConfig
    train: JointDataset
    val: JointDataset


def start_run(given: Mapping[str, object], kind: str, options_kind: type[TrainOptions] = TrainOptions) -> Run:
    """A run from the command line's options: a new one, or with `resume` among them an old one.

    Args:
        given: option -> value, those given only; `resume` is a path, or empty for the newest run.
        kind: of model; only a checkpoint of that kind is resumed.
        options_kind: the script's options.
    """
    given = dict(given)
    path = given.pop("resume", None)
    if path is not None:
        return _resumed_run(path, given, kind, options_kind)
    options, over_hyp = split_arguments(given, options_kind)
    hyp = load_hyperparameters(options.hyp, over_hyp)
    precision = _precision(options)  # from here on the processes know each other
    if distributed.launch_id() or distributed.is_restarted():
        path = distributed.from_main(_interrupted_run(options, hyp) if distributed.is_main() else None)
    return _resumed_run(path, {}, kind, options_kind) if path else _new_run(options, hyp, precision)


def _interrupted_run(options: TrainOptions, hyp: HyperParameters) -> Path | None:
    """The newest unfinished run of this very launch, which processes that torchrun starts again go on with."""
    wanted = {"launch": distributed.launch_id(), "options": to_mapping(options), "hyp": to_mapping(hyp)}
    for path in newest_checkpoints(options.project):
        if (path.parents[1] / "summary.json").exists():
            continue
        with contextlib.suppress(UserError):  # a foreign or damaged file is not of this launch
            content = load_checkpoint(path)
            if {key: content.get(key) for key in wanted} == wanted:
                LOGGER.info(f"started again by torchrun: going on with {path}")
                return path
    return None


def _new_run(options: TrainOptions, hyp: HyperParameters, precision: Precision) -> Run:
    folder = distributed.from_main(new_run_folder(options.project, options.name, options.exist_ok))
    return Run(options, hyp, folder, precision)


def _precision(options: TrainOptions) -> Precision:
    """As the options say, on a device that is ready for it."""
    device = select_device(options.device)
    distributed.join(device)
    if options.sync_bn and device.type != "cuda":
        raise UserError(f"--sync-bn needs CUDA devices, found {device}; leave it out")
    return select_precision(options.amp, device)


def _resumed_run(path: str | Path, given: Mapping[str, object], kind: str, options_kind: type[TrainOptions]) -> Run:
    if fixed := given.keys() - {"device", "workers", "project"}:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(fixed))
        raise UserError(f"--resume goes on with the options the run started with; leave out {named}")
    project = given.pop("project", TrainOptions.project)
    path = Path(path) if path else newest_checkpoint(project)
    state = load_checkpoint(path)
    if state["kind"] != kind or "networks" not in state or path.resolve().parts[-2:] != ("weights", "last.pt"):
        raise UserError(f"{path}: cannot be resumed; expected RUN/weights/last.pt of a training of kind '{kind}'")
    folder = path.resolve().parents[1]
    options = from_mapping(options_kind, {**state["options"], **given})
    if (folder / "summary.json").exists():
        raise UserError(f"{folder}: this run is finished; start a new one with --weights {path}")
    hyp = from_mapping(HyperParameters, state["hyp"])
    return Run(options, hyp, folder, _precision(options), state)


def load_frames(run: Run) -> Frames:
    """Read and check the labels and frames of both splits, and say what there is.

    Raises:
        UserError: something is wrong with the data; every bad label file is named.
    """
    options, hyp = run.options, run.hyp
    data = load_data_config(options.data)
    if not data.view_names:
        raise UserError(f"{data.source}: key 'cls_names' is missing; expected the views, in the columns' order")
    with distributed.main_first():  # which may have to generate the data
        splits = load_splits(data, ("train", "val"), options.skip_bad_labels)
    if hyp.classification_required and all(labels.view < 0 for labels in splits[0].labels):
        raise UserError(f"{data.source}: no training frame has a view; expected a line like 0 1 0 in label files")
    if found := quick_warnings(data, *splits):
        LOGGER.warning(f"warning: {found}")
    train_set, val_set = (JointDataset(split, options.imgsz, options.cache, options.rect) for split in splits)
    if hyp.not_applied:
        LOGGER.warning(f"warning: not applied: {hyp.not_applied}")
    if hyp.augmentation:
        train_set.augment(hyp, options.seed)
        LOGGER.info(f"augmentation: {', '.join(f'{key} {value:g}' for key, value in hyp.augmentation.items())}")
    LOGGER.info(f"{len(train_set)} training and {len(val_set)} validation frames; {run.precision}; {run.folder}")
    return Frames(data, train_set, val_set)


def build_model(run: Run, kind: Callable[..., nn.Module], **arguments: object) -> nn.Module:
    """The model to train: a new one, with what fits from `--weights`; on resume as the checkpoint describes it.

    Args:
        kind: of model; called with `arguments`, or with those in the checkpoint.
    """
    if run.resume:
        return kind(**run.resume["arguments"])
    seed_everything(run.options.seed)
    model = kind(**arguments)
    if run.options.weights:
        with distributed.main_first():  # which may have to fetch it
            path = weights_file(run.options.weights, run.options.download)
        if is_official(path):
            state = {f"{model.detection_path}{name}": tensor for name, tensor in read_official(path).items()}
            transfer_weights(model, state, f"{path} (public YOLOv5)")
            return model
        content = load_checkpoint(path)
        transfer_weights(model, averaged_weights(content), f"{path} (model of kind '{content['kind']}')")
    return model
