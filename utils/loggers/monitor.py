"""What a run's files say of it: where it is, whether its process lives, its last metrics."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

from utils.core.lock import is_alive
from utils.core.names import TASKS
from utils.core.script import UserError
from utils.core.settings import HUGE, MANY
from utils.core.title import DEFAULT_TITLE, read_title, titled
from utils.core.user_file import require_regular
from utils.core.values import is_number, is_whole
from utils.core.yaml_reader import read_yaml_mapping

METRICS = {
    "mAP50": "metrics/mAP_0.5",
    "mAP50-95": "metrics/mAP_0.5:0.95",
    "view accuracy": "metrics/view_accuracy",
}
TAIL_BYTES = 2**16
STATES = ("training", "finished", "stopped")  # that a training writes
UNKNOWN_STATE = "no process known"
LARGEST_WRITTEN_OUT = 1e6
Content = TypeVar("Content")


@dataclass(frozen=True)
class Progress:
    """What progress.json says; None for what it does not, or not as a training writes it.

    Attributes:
        state: of `STATES`.
        updated: seconds since the epoch.
        epoch, batch: the current ones, counted from 0.
    """

    state: str | None = None
    pid: int | None = None
    updated: float | None = None
    epoch: int | None = None
    epochs: int | None = None
    batch: int | None = None
    batches: int | None = None


@dataclass(frozen=True)
class RunStatus:
    """A run at one moment; None stands for what its files do not say.

    Attributes:
        state: training, finished, stopped, dead (killed while it trained), or no process known.
        pid: of the process that trains or trained.
        updated: the last sign of life, seconds since 1970.
        epoch, batch: the current ones, counted from 1.
        epoch_s: median duration of an epoch with its validation.
        left_s: time to the end of the last epoch, while training.
        losses, weights, metrics: the newest values by name.
        problem: which files cannot be read, and why; empty if none.
    """

    folder: Path
    state: str
    pid: int | None
    updated: float | None
    epoch: int | None
    epochs: int | None
    batch: int | None
    batches: int | None
    epoch_s: float | None
    left_s: float | None
    losses: dict[str, float | None]
    weights: dict[str, float | None]
    metrics: dict[str, float | None]
    problem: str = ""

    @property
    def is_known(self) -> bool:
        """Whether its files say anything."""
        return not self.problem or self.epoch is not None or self.state != UNKNOWN_STATE

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
    return any(_is_file(path / name) for name in ("progress.json", "results.csv"))


def _is_file(path: Path) -> bool:
    """Whether it is a file that may be looked at; a pipe by that name would never end."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_run(folder: Path) -> RunStatus:
    """What the files in `folder`, one of `find_runs`, say now.

    They may be torn, damaged or another program's: what is not as a training writes it counts as
    not said, and a file that cannot be read at all is named in `problem`.
    """
    problems: list[str] = []
    progress = _read(read_progress, folder / "progress.json", Progress(), problems)
    rows = _read(read_rows, folder / "results.csv", [], problems)
    rows = [row for row in rows if _epoch(row) is not None]
    newest: Mapping[str, str] = {}
    logged_epochs = 0
    if rows:
        newest = rows[-1]
        logged_epochs = _epoch(newest) + 1
    updates = _read(read_rows, folder / "gradnorm.csv", [], problems) or [newest]
    state = _state(progress)
    epoch_s = _median_epoch_s(rows)
    left_s = None
    if state == "training":
        left_s = _left_s(progress, logged_epochs, epoch_s)
    losses = _cells(newest, "train/")
    return RunStatus(
        folder=folder,
        state=state,
        pid=progress.pid,
        updated=_updated(progress, folder),
        epoch=_counted_from_1(progress.epoch) or logged_epochs or None,
        epochs=progress.epochs,
        batch=_counted_from_1(progress.batch),
        batches=progress.batches,
        epoch_s=epoch_s,
        left_s=left_s,
        losses={name.removesuffix("_loss"): value for name, value in losses.items()},
        weights=_cells(updates[-1], "weight/"),
        metrics=_metrics(newest, _title(folder)),
        problem="; ".join(problems),
    )


def _metrics(row: Mapping[str, str], cls_title: str) -> dict[str, float | None]:
    found = {}
    for name, column in METRICS.items():
        found[titled(name, cls_title)] = _number(row.get(column, ""))
    return found


def _title(folder: Path) -> str:
    """What the run's data set calls a view, where it can be read."""
    try:
        data = read_yaml_mapping(folder / "opt.yaml", "").get("data")
        return read_title(read_yaml_mapping(Path(str(data)), "").get("cls_title"))
    except (OSError, UserError, ValueError):
        return DEFAULT_TITLE


def _read(read: Callable[[Path], Content], path: Path, none: Content, problems: list) -> Content:
    """What `read` makes of a file, or `none` where there is no such file or it is not readable."""
    if not _is_file(path):
        return none
    try:
        return read(path)
    except FileNotFoundError:  # it was replaced at this moment
        return none
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror or error}")
    except (ValueError, RecursionError, csv.Error) as error:
        problems.append(f"{path}: {error}; expected what a training writes there")
    return none


def _updated(progress: Progress, folder: Path) -> float | None:
    """The last sign of life, seconds since the epoch."""
    if progress.updated is not None:
        return progress.updated
    times = []
    for name in ("progress.json", "results.csv"):
        with contextlib.suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times, default=None)


def _counted_from_1(number: int | None) -> int | None:
    if number is None:
        return None
    return number + 1


def read_progress(path: Path) -> Progress:
    """What progress.json says.

    Raises:
        OSError: it cannot be read.
        ValueError, RecursionError: it is no JSON, or no mapping.
    """
    with path.open("rb") as stream:
        text = stream.read(TAIL_BYTES)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"found no JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"found {type(content).__name__}")
    numbers = {key: _whole(content.get(key)) for key in ("pid", "epoch", "epochs", "batch")}
    state = content.get("state")
    if state not in list(STATES):
        state = None
    return Progress(
        state=state,
        updated=_time(content.get("updated")),
        batches=_whole(content.get("batches"), least=1),
        **numbers,
    )


def _whole(value: object, least: int = 0) -> int | None:
    if is_whole(value, least, MANY):
        return value
    return None


def _time(value: object) -> float | None:
    if is_number(value, 0, HUGE):
        return float(value)
    return None


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows in the last 64 KiB of a CSV file, column -> cell; none if there is no such file.

    A log may be long and its last line still under way, or torn for good: only the end is read,
    only whole lines count.

    Raises:
        OSError: it cannot be read.
        csv.Error: it is no CSV.
    """
    try:
        require_regular(path)
        with path.open("rb") as stream:
            header = stream.readline(TAIL_BYTES)
            start = stream.tell()
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(start, size - TAIL_BYTES))
            if size - start > TAIL_BYTES:
                stream.readline(TAIL_BYTES)  # its beginning is cut off
            tail = stream.read(TAIL_BYTES)
    except FileNotFoundError:
        return []
    whole = tail[: tail.rfind(b"\n") + 1]
    lines = (header + whole).decode(errors="replace").splitlines()
    columns, *rows = csv.reader(lines or [""])
    return [dict(zip(columns, row, strict=True)) for row in rows if len(row) == len(columns)]


def _epoch(row: Mapping[str, str]) -> int | None:
    """An epoch's number in its row of results.csv; None where the row is none."""
    text = row.get("epoch", "")
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    return None


def _state(progress: Progress) -> str:
    if progress.state == "training":
        if not progress.pid:
            return UNKNOWN_STATE
        if not is_alive(progress.pid):
            return "dead"
    return progress.state or UNKNOWN_STATE


def _median_epoch_s(rows: Sequence[Mapping[str, str]]) -> float | None:
    durations_s = []
    for row in rows:
        parts_s = [value for value in _cells(row, "time/").values() if value is not None]
        if parts_s and is_number(sum(parts_s), 0, HUGE):
            durations_s.append(sum(parts_s))
    if not durations_s:
        return None
    return median(durations_s)


def _left_s(progress: Progress, logged_epochs: int, epoch_s: float | None) -> float | None:
    place = (progress.epoch, progress.epochs, progress.batch, progress.batches)
    if epoch_s is None or None in place:
        return None
    epoch, epochs, batch, batches = place
    # The last batch of an epoch is followed by its validation, and only then by its row.
    done = max(epoch + (batch + 1) / batches, logged_epochs)
    return max(epochs - done, 0) * epoch_s


def _cells(row: Mapping[str, str], prefix: str) -> dict[str, float | None]:
    """The numbers in the columns that begin with `prefix`, by the rest of their names."""
    return {
        name.removeprefix(prefix): _number(cell)
        for name, cell in row.items()
        if name.startswith(prefix)
    }


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def describe(run: RunStatus, now: float) -> list[str]:
    """A run in five lines, and one for what cannot be read; `now` is in seconds since the epoch."""
    process = ""
    if run.state == "training":
        process = f" (process {run.pid})"
    elif run.state == "dead":
        process = f" (process {run.pid} is gone)"
    weights = _named(run.weights, 3)
    if run.ratio is not None:
        weights += f"   ratio {run.ratio:.4g}"
    times = f"epoch time {duration(run.epoch_s)}   time left {duration(run.left_s)}"
    seen = "no sign of life"
    if run.updated is not None:
        seen = f"last sign of life {duration(now - run.updated)} ago"
    lines = [
        f"{run.folder}: {run.state}{process}, {seen}",
        f"  epoch    {_of(run.epoch, run.epochs)}   batch {_of(run.batch, run.batches)}   {times}",
        f"  losses   {_named(run.losses, 4)}",
        f"  weights  {weights}",
        f"  metrics  {_named(run.metrics, 3)}",
    ]
    if run.problem:
        lines.append(f"  problem  {run.problem}")
    return lines


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
    if abs(value) >= LARGEST_WRITTEN_OUT:
        return f"{value:.{decimals}e}"
    return f"{value:.{decimals}f}"
