"""What a run's files say about it: where it is, whether its process lives, its last figures. It only reads."""

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
        losses, weights, metrics: the newest figures by name.
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
        return detection / classification if detection is not None and classification else None


def find_runs(path: Path) -> list[Path]:
    """`path` if it is a run's folder, else the runs' folders directly in it, by name.

    Raises:
        UserError: there are none.
    """
    expected = "expected the folder of a run, such as runs/train/exp, or a folder of such folders"
    if not path.is_dir():
        raise UserError(f"{path}: found {'a file' if path.exists() else 'nothing'}; {expected}")
    runs = [path] if _is_run(path) else sorted(filter(_is_run, path.iterdir()))
    if not runs:
        raise UserError(
            f"{path}: found no progress.json and no results.csv, nor a folder with one; {expected}. "
            "If its training has just begun, try again after the first batch"
        )
    return runs


def _is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in ("progress.json", "results.csv"))


def read_run(folder: Path) -> RunStatus:
    """What the files in `folder`, one of `find_runs`, say now."""
    progress = _read_progress(folder / "progress.json")
    rows = read_rows(folder / "results.csv")
    newest = rows[-1] if rows else {}
    logged_epochs = int(newest.get("epoch", -1)) + 1
    state, epoch_s = _state(progress), _median_epoch_s(rows)
    return RunStatus(
        folder=folder,
        state=state,
        pid=progress.get("pid"),
        updated=progress["updated"] if progress else (folder / "results.csv").stat().st_mtime,
        epoch=progress.get("epoch", logged_epochs - 1) + 1 or None,
        epochs=progress.get("epochs"),
        batch=progress["batch"] + 1 if "batch" in progress else None,
        batches=progress.get("batches"),
        epoch_s=epoch_s,
        left_s=_left_s(progress, logged_epochs, epoch_s) if state == "training" else None,
        losses={
            name.removesuffix("_loss"): value for name, value in _figures(newest, "train/").items()
        },
        weights=_figures((read_rows(folder / "gradnorm.csv") or [newest])[-1], "weight/"),
        metrics={name: _number(newest.get(column, "")) for name, column in METRICS.items()},
    )


def _read_progress(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
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
        with path.open("rb") as stream:
            header = stream.readline()
            start, size = stream.tell(), stream.seek(0, os.SEEK_END)
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
    return "dead" if state == "training" and not is_alive(progress["pid"]) else state


def _median_epoch_s(rows: Sequence[Mapping[str, str]]) -> float | None:
    parts = [
        [value for value in _figures(row, "time/").values() if value is not None] for row in rows
    ]
    return median(map(sum, filter(None, parts))) if any(parts) else None


def _left_s(progress: Mapping, logged_epochs: int, epoch_s: float | None) -> float | None:
    place = [progress.get(key) for key in ("epoch", "epochs", "batch", "batches")]
    if epoch_s is None or None in place:
        return None
    epoch, epochs, batch, batches = place
    # The last batch of an epoch is followed by its validation, and only then by its row.
    done = max(epoch + (batch + 1) / batches, logged_epochs)
    return (epochs - done) * epoch_s


def _figures(row: Mapping[str, str], prefix: str) -> dict[str, float | None]:
    return {
        name.removeprefix(prefix): _number(cell)
        for name, cell in row.items()
        if name.startswith(prefix)
    }


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def describe(run: RunStatus, now: float) -> list[str]:
    """A run in five lines; `now` is in seconds since the epoch."""
    process = {"training": f" (process {run.pid})", "dead": f" (process {run.pid} is gone)"}.get(
        run.state, ""
    )
    weights = _named(run.weights, 3) + (
        f"   ratio {run.ratio:.4g}" if run.ratio is not None else ""
    )
    times = f"epoch time {duration(run.epoch_s)}   time left {duration(run.left_s)}"
    return [
        f"{run.folder}: {run.state}{process}, last sign of life {duration(now - run.updated)} ago",
        f"  epoch    {_of(run.epoch, run.epochs)}   batch {_of(run.batch, run.batches)}   {times}",
        f"  losses   {_named(run.losses, 4)}",
        f"  weights  {weights}",
        f"  metrics  {_named(run.metrics, 3)}",
    ]


def duration(seconds: float | None) -> str:
    """In the largest unit of which there are two: 47.0 s, 2.5 min, 3.1 h."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0.0):.1f} s"


def _of(number: int | None, total: int | None) -> str:
    return "-" if number is None else f"{number}/{_shown(total, 0)}"


def _named(figures: Mapping[str, float | None], decimals: int) -> str:
    return "   ".join(f"{name} {_shown(value, decimals)}" for name, value in figures.items()) or "-"


def _shown(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
