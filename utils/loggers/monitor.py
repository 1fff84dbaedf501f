"""What a run's files say of it: where it is, whether its process lives, its last metrics."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from utils.core.lock import is_alive
from utils.core.names import TASKS
from utils.core.script import UserError
from utils.core.user_file import read_regular, require_regular

METRICS = {
    "mAP50": "metrics/mAP_0.5",
    "mAP50-95": "metrics/mAP_0.5:0.95",
    "view accuracy": "metrics/view_accuracy",
}
TAIL_BYTES = 2**16


@dataclass(frozen=True)
class RunStatus:
    """A run at one moment; None stands for what its files do not say.

    Attributes:
        state: training, finished, stopped, dead (killed while it trained), or no process known.
        pid: of the process that trains or trained.
        updated: the last sign of life, seconds since the epoch.
        epoch, batch: the current ones, counted from 1.
        epoch_s: median duration of an epoch with its validation.
        left_s: time to the end of the last epoch, while training.
        losses, weights, metrics: the newest values by name.
    """

    folder: Path
    state: str
    pid: int | None
    updated: float
    epoch: int | None
    epochs: int | None
    batch: int | None
    batches: int | None
    epoch_s: float | None
    left_s: float | None
    losses: dict[str, float | None]
    weights: dict[str, float | None]
    metrics: dict[str, float | None]

    @property
    def ratio(self) -> float | None:
        """Weight of the detection over that of the classification."""
        detection, classification = (self.weights.get(task) for task in TASKS)
        if detection is None or not classification:
            return None
        return detection / classification


def find_runs(path: Path) -> list[Path]:
    """`path` if it is a run's folder, else the runs' folders directly in it, by name.

    Raises:
        UserError: there are none.
    """
    expected = "expected the folder of a run, such as runs/train/exp, or a folder of such folders"
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise UserError(f"{path}: found {found}; {expected}")
    if _is_run(path):
        return [path]
    runs = sorted(filter(_is_run, path.iterdir()))
    if not runs:
        raise UserError(
            f"{path}: found no progress.json and no results.csv, nor a folder with one; "
            f"{expected}. If its training has just begun, try again after the first batch"
        )
    return runs


def _is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in ("progress.json", "results.csv"))


def read_run(folder: Path) -> RunStatus:
    """What the files in `folder`, one of `find_runs`, say now."""
    progress = _read_progress(folder / "progress.json")
    rows = read_rows(folder / "results.csv")
    newest: Mapping[str, str] = {}
    if rows:
        newest = rows[-1]
    updates = read_rows(folder / "gradnorm.csv") or [newest]
    logged_epochs = int(newest.get("epoch", -1)) + 1
    state = _state(progress)
    epoch_s = _median_epoch_s(rows)
    left_s = None
    if state == "training":
        left_s = _left_s(progress, logged_epochs, epoch_s)
    losses = _cells(newest, "train/")
    return RunStatus(
        folder=folder,
        state=state,
        pid=progress.get("pid"),
        updated=_updated(progress, folder),
        epoch=progress.get("epoch", logged_epochs - 1) + 1 or None,
        epochs=progress.get("epochs"),
        batch=_batch(progress),
        batches=progress.get("batches"),
        epoch_s=epoch_s,
        left_s=left_s,
        losses={name.removesuffix("_loss"): value for name, value in losses.items()},
        weights=_cells(updates[-1], "weight/"),
        metrics={name: _number(newest.get(column, "")) for name, column in METRICS.items()},
    )


def _updated(progress: Mapping, folder: Path) -> float:
    """The last sign of life, seconds since the epoch."""
    if progress:
        return progress["updated"]
    return (folder / "results.csv").stat().st_mtime


def _batch(progress: Mapping) -> int | None:
    """The current one, counted from 1."""
    if "batch" not in progress:
        return None
    return progress["batch"] + 1


def _read_progress(path: Path) -> dict:
    try:
        return json.loads(read_regular(path))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(
            f"{path}: found no JSON ({error}); expected what a training writes there"
        ) from error


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows in the last 64 KiB of a CSV file, column -> cell; none if there is no such file.

    A log may be long and its last line still under way, or torn for good: only the end is read,
    only whole lines count.
    """
    try:
        require_regular(path)
        with path.open("rb") as stream:
            header = stream.readline()
            start = stream.tell()
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(start, size - TAIL_BYTES))
            if size - start > TAIL_BYTES:
                stream.readline()  # its beginning is cut off
            tail = stream.read()
    except FileNotFoundError:
        return []
    whole = tail[: tail.rfind(b"\n") + 1]
    columns, *rows = csv.reader((header + whole).decode().splitlines() or [""])
    return [dict(zip(columns, row, strict=True)) for row in rows if len(row) == len(columns)]


def _state(progress: Mapping) -> str:
    if not progress:
        return "no process known"
    state = progress.get("state", "-")
    if state == "training" and not is_alive(progress["pid"]):
        return "dead"
    return state


def _median_epoch_s(rows: Sequence[Mapping[str, str]]) -> float | None:
    durations_s = []
    for row in rows:
        parts_s = [value for value in _cells(row, "time/").values() if value is not None]
        if parts_s:
            durations_s.append(sum(parts_s))
    if not durations_s:
        return None
    return median(durations_s)


def _left_s(progress: Mapping, logged_epochs: int, epoch_s: float | None) -> float | None:
    place = [progress.get(key) for key in ("epoch", "epochs", "batch", "batches")]
    if epoch_s is None or None in place:
        return None
    epoch, epochs, batch, batches = place
    # The last batch of an epoch is followed by its validation, and only then by its row.
    done = max(epoch + (batch + 1) / batches, logged_epochs)
    return (epochs - done) * epoch_s


def _cells(row: Mapping[str, str], prefix: str) -> dict[str, float | None]:
    """The numbers in the columns that begin with `prefix`, by the rest of their names."""
    return {
        name.removeprefix(prefix): _number(cell)
        for name, cell in row.items()
        if name.startswith(prefix)
    }


def _number(cell: str) -> float | None:
    if not cell:
        return None
    return float(cell)


def describe(run: RunStatus, now: float) -> list[str]:
    """A run in five lines; `now` is in seconds since the epoch."""
    process = ""
    if run.state == "training":
        process = f" (process {run.pid})"
    elif run.state == "dead":
        process = f" (process {run.pid} is gone)"
    weights = _named(run.weights, 3)
    if run.ratio is not None:
        weights += f"   ratio {run.ratio:.4g}"
    times = f"epoch time {duration(run.epoch_s)}   time left {duration(run.left_s)}"
    return [
        f"{run.folder}: {run.state}{process}, last sign of life {duration(now - run.updated)} ago",
        f"  epoch    {_of(run.epoch, run.epochs)}   batch {_of(run.batch, run.batches)}   {times}",
        f"  losses   {_named(run.losses, 4)}",
        f"  weights  {weights}",
        f"  metrics  {_named(run.metrics, 3)}",
    ]


def duration(seconds: float | None) -> str:
    """Text in the largest unit of which there are at least two: 47.0 s, 2.5 min, 3.1 h."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0.0):.1f} s"


def _of(number: int | None, total: int | None) -> str:
    if number is None:
        return "-"
    return f"{number}/{_shown(total, 0)}"


def _named(values: Mapping[str, float | None], decimals: int) -> str:
    texts = [f"{name} {_shown(value, decimals)}" for name, value in values.items()]
    return "   ".join(texts) or "-"


def _shown(value: float | None, decimals: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{decimals}f}"
