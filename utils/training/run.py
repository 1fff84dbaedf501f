"""How a training begins: its options and folder (`Run`), and its model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from models.graph import MODEL_YAML_HINT
from utils.checkpoints.checkpoint import (
    YAMLS,
    averaged_weights,
    load_checkpoint,
    require_checkpoint_file,
    transfer_weights,
)
from utils.checkpoints.download import weights_file
from utils.checkpoints.model_file import build_from
from utils.checkpoints.public_yolov5 import is_public_yolov5, read_public_yolov5
from utils.core import distributed
from utils.core.data_config import DataConfig, load_data_config
from utils.core.device import Compute, seed_everything, select_compute, select_device
from utils.core.files import find_file, run_folder
from utils.core.hyperparameters import HyperParameters, load_hyperparameters
from utils.core.lock import FolderInUse, FolderLock, claim_run_folder, lock_folder
from utils.core.options import TrainOptions, split_arguments, warn_without_effect
from utils.core.script import LOGGER, UserError
from utils.core.settings import of_options
from utils.core.signals import Interrupted, stop_asked_for
from utils.core.values import from_mapping, to_mapping
from utils.core.yaml_reader import read_yaml_mapping
from utils.training.resume import (
    LAST,
    checkpoint_of,
    is_finished,
    newest_checkpoint,
    newest_checkpoints,
    note_stop,
    refuse_other_options,
    refuse_unresumable,
    resumable,
    run_folder_of,
)

# How a run begins, among other answers to `--resume`, which name a run
NOT_RESUMED = object()
AUTO = "auto"


def freeze_layers(model: nn.Module, count: int) -> int:
    """Stop training the first `count` layers of `model.model`; returns their number of parameters.

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
        resume: the content of the checkpoint to resume from, or None.
        lock: of the folder; None in all processes but the one that writes.
        given: the options that the user named; none for a resumed run.
    """

    options: TrainOptions
    hyp: HyperParameters
    folder: Path
    compute: Compute
    resume: Mapping[str, object] | None = None
    lock: FolderLock | None = None
    given: frozenset[str] = frozenset()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if self.lock is None or not self.lock.release.alive:
            return
        stop = error
        if isinstance(error, Exception):  # perhaps of what the signal broke, as a loader's process
            stop = stop_asked_for()
        if isinstance(stop, Interrupted):
            note_stop(self.folder, stop, self.options.epochs)
        self.lock.release()
        if stop is not None and stop is not error:
            raise stop from error

    @contextlib.contextmanager
    def given_back_on_failure(self) -> Iterator[None]:
        """Around what begins the run: if that fails, or is stopped, the folder is given back."""
        try:
            yield
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def confirm(self) -> None:
        """Raise a `UserError` if the folder is not this run's own any more."""
        if self.lock is not None:
            self.lock.confirm()


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
    how = given.pop("resume", NOT_RESUMED)
    if how not in (NOT_RESUMED, AUTO):
        return _resumed_run(how, given, kind, options_kind)
    options, over_hyp = split_arguments(given, options_kind)
    try:
        hyp = load_hyperparameters(options.hyp, over_hyp)
    except UserError as error:
        raise UserError(of_options(str(error), over_hyp)) from None
    compute = _compute(options)  # from here on the processes know each other
    warn_without_effect(given, options.without_effect(hyp))
    new = Run(options, hyp, Path(), compute, given=frozenset(given))
    if how == AUTO:
        return _begun_or_new(new, kind)
    if distributed.launch_id() or distributed.is_restarted():
        path = None
        if distributed.is_main():
            path = _interrupted_run(options, hyp)
        path = distributed.from_main(path)
        if path:
            return _resumed_run(path, {}, kind, options_kind, wait=True)
    return _in_folder(
        new, lambda: claim_run_folder(options.project, options.name, options.exist_ok)
    )


def _in_folder(new: Run, claim: Callable[[], FolderLock]) -> Run:
    """A run with a folder; `claim` is called by the process that writes."""
    lock = distributed.by_main(claim)
    folder = distributed.from_main(lock and lock.folder)
    return replace(new, folder=folder, lock=lock)


def _begun_or_new(new: Run, kind: str) -> Run:
    """`--resume auto`: the run in the folder of these options, to be gone on with if it is begun.

    Raises:
        SystemExit: with code 0, that run is finished.
        UserError: it was begun with other options.
    """
    run = _in_folder(new, lambda: _claim_or_wait(new.options))
    with run.given_back_on_failure():
        path = run.folder / LAST
        if not distributed.from_main(path.exists()):
            return run
        state = load_checkpoint(path)
        refuse_other_options(state, new.options, new.hyp, run.folder)
        if distributed.from_main(is_finished(run.folder)):
            LOGGER.info(f"{run.folder}: this run is finished; nothing is left to do")
            raise SystemExit(0)
        refuse_unresumable(state, path, kind)
        return replace(run, resume=state, given=frozenset())


def _claim_or_wait(options: TrainOptions) -> FolderLock:
    """Lock the folder of exactly this name; who is at work there is waited for."""
    try:
        return claim_run_folder(options.project, options.name, exist_ok=True)
    except FolderInUse:
        return lock_folder(run_folder(options.project, options.name), wait=True)


def _interrupted_run(options: TrainOptions, hyp: HyperParameters) -> Path | None:
    """The newest unfinished run of this launch; processes that torchrun starts again resume it."""
    wanted = {
        "launch": distributed.launch_id(),
        "options": to_mapping(options),
        "hyp": to_mapping(hyp),
    }
    for path in newest_checkpoints(options.project):
        if is_finished(path.parents[1]):
            continue
        with contextlib.suppress(UserError):  # a foreign or damaged file is not of this launch
            content = load_checkpoint(path)
            if {key: content.get(key) for key in wanted} == wanted:
                LOGGER.info(f"started again by torchrun: resuming {path}")
                return path
    return None


def _compute(options: TrainOptions) -> Compute:
    """As the options say, on a device that is ready for it."""
    device = select_device(options.device)
    distributed.join(device)
    if options.sync_bn and device.type != "cuda":
        raise UserError(f"--sync-bn needs CUDA devices, found {device}; leave it out")
    if options.sync_bn and distributed.world_size() == 1:
        reason = "a single process; start several with torchrun"
        warn_without_effect(["sync_bn"], {"sync_bn": reason})
    return select_compute(options.amp, device)


def _resumed_run(
    path: str | Path | None,
    given: Mapping[str, object],
    kind: str,
    options_kind: type[TrainOptions],
    wait: bool = False,
) -> Run:
    """The run of a checkpoint.

    Args:
        path: of the checkpoint or its run's folder; None for the newest one below the project.
        given: the options beside `--resume`.
        wait: until the process that worked in the folder counts as dead.
    """
    given = dict(given)
    project = given.pop("project", None)
    fixed = given.keys() - {"device", "workers", "index"}
    if fixed:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(fixed))
        raise UserError(f"--resume keeps the options the run started with; leave out {named}")
    if path and project:
        warn_without_effect(["project"], {"project": f"--resume {path}"})
    if path:
        path = checkpoint_of(path)
    else:
        path = newest_checkpoint(project or TrainOptions.project)
    state = resumable(path, kind)
    _stored(options_kind, state["options"], f"{path}: options")
    options = from_mapping(options_kind, state["options"] | given)
    hyp = _stored(HyperParameters, state["hyp"], f"{path}: hyp")
    run = Run(options, hyp, Path(), _compute(options))
    run = _in_folder(run, lambda: lock_folder(run_folder_of(path), wait))
    with run.given_back_on_failure():
        return replace(run, resume=resumable(path, kind))  # nobody else writes it from here on


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
            f"{path}: no such file (seen from {Path.cwd()}); "
            "the run started with it, so put it back"
        )
    data = load_data_config(path)
    state = run.resume
    before = {"names": state["names"], "cls_names": state["view_names"]}
    changed = data.difference(before | state.get("data", {}))
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


def prepare_start(options: TrainOptions) -> None:
    """Fetch the weights if asked to; raise an error for files that a model cannot be made of.

    This comes first: reading the frames can take minutes.
    """
    for key in YAMLS:
        if hasattr(options, key):
            read_yaml_mapping(find_file(getattr(options, key)), MODEL_YAML_HINT)
    if options.weights:
        with distributed.main_first():
            path = weights_file(options.weights, options.download)
        require_checkpoint_file(path)


def build_model(run: Run, kind: Callable[..., nn.Module], **arguments: object) -> nn.Module:
    """The model to train: a new one, with what fits from `--weights`.

    On resume, it is as the checkpoint describes it, and the weights are still to be read.

    Args:
        kind: of model; called with `arguments`, or with those in the checkpoint.
    """
    if run.resume:
        return build_from(kind, run.resume["arguments"], run.folder / "weights" / "last.pt")
    seed_everything(run.options.seed)
    model = kind(**arguments)
    if run.options.weights:
        _take_starting_weights(model, run.options)
    return model


def _take_starting_weights(model: nn.Module, options: TrainOptions) -> None:
    path = Path(options.weights)
    if is_public_yolov5(path):
        prefix = model.detection_path
        state = {f"{prefix}{name}": tensor for name, tensor in read_public_yolov5(path).items()}
        transfer_weights(model, state, f"{path} (public YOLOv5)")
    else:
        content = load_checkpoint(path)
        source = f"{path} (model of kind '{content['kind']}')"
        transfer_weights(model, averaged_weights(content), source)
