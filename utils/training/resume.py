"""Which run is gone on with, whether it can be, and what a stopped one says of that.

A run folder is finished once it holds `FINISHED`, which is the last file that a run writes.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from utils.checkpoints.checkpoint import load_checkpoint, require_resumable
from utils.checkpoints.public_yolov5 import is_public_yolov5
from utils.core.files import ProgressFile
from utils.core.hyperparameters import HyperParameters
from utils.core.lock import LOCK_NAME, is_in_use
from utils.core.options import TrainOptions
from utils.core.script import UserError
from utils.core.settings import of_options
from utils.core.signals import Interrupted
from utils.core.user_file import real_path
from utils.core.values import to_mapping
from utils.loggers.records import PROGRESS_FILE, SETTINGS_FILE

LAST = Path("weights", "last.pt")
FINISHED = "summary.json"
# Options that may be others when a run is gone on with
INDIFFERENT = (
    "device",
    "workers",
    "index",
    "project",
    "name",
    "exist_ok",
    "download",
    "report",
)


def is_finished(folder: Path) -> bool:
    return (folder / FINISHED).exists()


def run_folder_of(last: Path) -> Path | None:
    """The folder of the run whose checkpoint this is; None if it is not in a run's place.

    The place is as the path is written, so that `weights` may be a link to another disk; only
    where that is no place of a run, links are followed.
    """
    for path in (last.absolute(), real_path(last)):
        if path.parts[-2:] == LAST.parts:
            return path.parents[1]
    return None


# ---- which one -----------------------------------------------------------------------------------


def newest_checkpoints(project: str | Path) -> list[Path]:
    """Every run's `last.pt` below the folder `project`, the one written last first."""
    return sorted(Path(project).glob(f"*/{LAST}"), key=_written, reverse=True)


def newest_checkpoint(project: str | Path) -> Path:
    """The `last.pt` of the newest run below the folder `project`.

    Raises:
        UserError: there is none, or the newest run ended before it had one.
    """
    found = newest_checkpoints(project)
    hardly_begun = _newest_without_checkpoint(Path(project))
    if hardly_begun and not (found and _written(found[0]) > _written(hardly_begun)):
        raise UserError(
            f"--resume: {_ended_early(hardly_begun)}, or name another run: --resume RUN"
        )
    if not found:
        raise UserError(f"--resume: no */{LAST} in {project}; name a run: --resume RUN")
    return found[0]


def _is_begun(folder: Path) -> bool:
    """Whether a run, or what is left of one, lies in the folder: if only the folder itself."""
    names = (LAST.parent, SETTINGS_FILE, PROGRESS_FILE, LOCK_NAME)
    if any(os.path.lexists(folder / name) for name in names):
        return True
    return folder.is_dir() and not any(folder.iterdir())


def _newest_without_checkpoint(project: Path) -> Path | None:
    """The newest run folder that has no checkpoint, and nobody at work in it."""
    found = []
    for name in (SETTINGS_FILE, PROGRESS_FILE, LOCK_NAME):
        for path in project.glob(f"*/{name}"):
            has_weights = any(path.parent.glob("weights/*.pt"))
            if not has_weights and not is_in_use(path.parent):
                found.append(path.parent)
    return max(found, key=_written, default=None)


def _written(path: Path) -> float:
    """When a file was written, or something in a folder was made; seconds since the epoch."""
    return path.stat().st_mtime


def _ended_early(folder: Path) -> str:
    return f"{folder}: this run ended before its first checkpoint; start it anew"


def checkpoint_of(run: str | Path) -> Path:
    """The `last.pt` of a run that is named by it, by its folder `weights`, or by the run folder.

    Raises:
        UserError: there is no such file.
    """
    path = Path(run)
    is_weights = path.absolute().name == LAST.parent.name
    if is_weights or (path / LAST.name).is_file():
        path /= LAST.name
    elif path.is_dir():
        path /= LAST
    if path.is_file():
        return path
    folder = run_folder_of(path)
    if folder is None or not _is_begun(folder):
        raise UserError(
            f"{run}: no such checkpoint; expected the folder of a run, such as runs/train/exp, "
            "or its weights/last.pt"
        )
    weights = folder / LAST.parent
    if weights.is_symlink() and not weights.exists():
        raise UserError(
            f"{weights}: a link to {weights.readlink()}, which is not there; put it back"
        )
    best = path.with_name("best.pt")
    if best.is_file():
        raise UserError(
            f"{path}: gone, so the run cannot be resumed; start a new one with --weights {best}"
        )
    raise UserError(_ended_early(folder))


# ---- whether it can be ---------------------------------------------------------------------------


def resumable(path: Path, kind: str) -> Mapping[str, object]:
    """The content of an unfinished run's `last.pt`.

    Args:
        kind: of model.

    Raises:
        UserError: it is something else.
    """
    if is_public_yolov5(path):
        raise UserError(
            f"{path}: a public YOLOv5 checkpoint cannot be resumed; "
            f"start a new run with --weights {path}"
        )
    state = load_checkpoint(path)
    refuse_unresumable(state, path, kind)
    return state


def refuse_unresumable(state: Mapping[str, object], path: Path, kind: str) -> None:
    """Raise a `UserError` if what `load_checkpoint` returned is not an unfinished run's `last.pt`.

    Args:
        kind: of model.
    """
    folder = run_folder_of(path)
    if state["kind"] != kind or "networks" not in state or folder is None:
        raise UserError(
            f"{path}: cannot be resumed; "
            f"expected RUN/weights/last.pt of a training of kind '{kind}'"
        )
    if is_finished(folder):
        raise UserError(f"{folder}: this run is finished; start a new one with --weights {path}")
    require_resumable(state, path)


def refuse_other_options(
    state: Mapping[str, object], options: TrainOptions, hyp: HyperParameters, folder: Path
) -> None:
    """Raise a `UserError` if a checkpoint's run was begun with other options that matter.

    Args:
        state: the checkpoint's content.
        folder: of the run.
    """
    given = to_mapping(options) | to_mapping(hyp)
    named = to_mapping(options).keys() | set(chain.from_iterable(options.hyp_options.values()))
    begun_with = state["options"] | state["hyp"]
    for name, value in given.items():
        before = begun_with.get(name)
        if name not in INDIFFERENT and before != value:
            begun = of_options(f"{name} {before}", named)
            raise UserError(
                f"{folder}: this run was begun with {begun}, not {value}; "
                "give the same options, or another --name"
            )


# ---- a stopped one -------------------------------------------------------------------------------


def note_stop(folder: Path, stop: Interrupted, epochs: int) -> None:
    """Say in the message of `stop` and in progress.json how the run in `folder` ended.

    Args:
        epochs: that were asked for.
    """
    if is_finished(folder):
        stop.add(f"after the end of the run; everything is in {folder}")
        return
    progress: dict[str, object] = {"epoch": 0, "epochs": epochs}
    with contextlib.suppress(OSError, ValueError, TypeError):  # there is none yet
        progress |= json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
    last = folder / LAST
    if last.exists():
        stop.add(f"in epoch {progress['epoch'] + 1}; resume with --resume {last}")
    else:
        stop.add(f"before the first checkpoint; start the run anew ({folder})")
    for key in ("pid", "started", "updated"):
        progress.pop(key, None)
    with contextlib.suppress(OSError):  # the disk may be what is in the way
        ProgressFile(folder / PROGRESS_FILE).update(True, **progress | {"state": "stopped"})
