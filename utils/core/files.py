"""Files that a run writes: run folders, files that appear whole or not at all, CSV logs, the progress file."""

from __future__ import annotations

import csv
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from utils.core.script import UserError

ROOT = Path(__file__).resolve().parents[2]


def find_file(path: str | Path) -> Path:
    """The file itself or, where there is none, the one of that name in this project's checkout.

    So a script finds its default YAML files from any working directory. A path that leads to neither comes back as
    it was, for the message that it does not exist.
    """
    path = Path(path)
    return path if path.exists() or not (ROOT / path).exists() else ROOT / path


def run_folder(project: str | Path, name: str) -> Path:
    """The folder `name`, which may be nested, inside `project`.

    Raises:
        UserError: the name is empty, or leads out of the project.
    """
    if not str(project):
        raise UserError("--project is empty, expected a folder, such as runs/train")
    relative = Path(name)
    if not relative.parts or relative.is_absolute() or ".." in relative.parts:
        raise UserError(f"--name is {name!r}, expected the name of a folder inside --project {project}, such as exp")
    return Path(project) / relative


def new_run_folder(project: str | Path, name: str, exist_ok: bool = False) -> Path:
    """Make the folder `project/name`, or `name2`, `name3`, ... if it exists and `exist_ok` is false.

    Processes that start together never get the same one, but with `exist_ok`.

    Raises:
        UserError: see `run_folder`; or with `exist_ok`, a file has that name.
    """
    folder = run_folder(project, name)
    for number in itertools.count(1):
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}{number}")
        try:
            candidate.mkdir(parents=True, exist_ok=exist_ok)
        except FileExistsError:
            if exist_ok:
                raise UserError(f"{folder}: found a file, expected a folder; choose another --name") from None
        else:
            return candidate


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary neighbour of `path`, flush it to disk, then rename it into place.

    Raises:
        OSError: it cannot be written, e.g. the disk is full; `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror or error}", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write strict JSON (no NaN), atomically."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def markdown_table(header: Sequence[object], rows: Iterable[Sequence[object]], numeric: bool = False) -> str:
    """A table in Markdown; `numeric` aligns all columns but the first to the right."""
    lines = [header, ["---", *["---:" if numeric else "---"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


class CsvLog:
    """A CSV file that grows by a row, flushed at once, and can be cut back to an epoch on resume.

    Args:
        path: the file; made with its header at the first row.
        columns: every column, in order; one of them is `epoch`.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]):
        self.path, self.columns = path, columns

    def append(self, row: Mapping[str, object]) -> None:
        """Add a row; keys must be columns, a missing or None value leaves the cell empty."""
        unknown = row.keys() - set(self.columns)
        assert not unknown, f"{self.path}: no such columns {sorted(unknown)}"
        is_new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.columns, restval="")
            if is_new:
                writer.writeheader()
            writer.writerow({key: _cell(value) for key, value in row.items()})

    def keep_before(self, epoch: int) -> None:
        """Drop rows of `epoch` and later, and a last row that a killed process left torn."""
        if not self.path.exists():
            return
        text = self.path.read_text(encoding="utf-8")
        whole_lines = text[: text.rfind("\n") + 1].splitlines()
        rows = [row for row in csv.DictReader(whole_lines) if _is_before(row, epoch, len(self.columns))]
        write_atomically(self.path, partial(self._write, rows))

    def _write(self, rows: list[dict], path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.columns)
            writer.writeheader()
            writer.writerows(rows)


def _is_before(row: dict, epoch: int, width: int) -> bool:
    complete = len(row) == width and None not in row and None not in row.values()
    return complete and row["epoch"].isdigit() and int(row["epoch"]) < epoch


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


class ProgressFile:
    """`progress.json`: where a run is, rewritten at most every `interval_s` seconds, for monitors to read."""

    def __init__(self, path: Path, interval_s: float = 3.0):
        self.path, self.interval_s = path, interval_s
        self.start_time = time.time()
        self._last_write = 0.0

    def update(self, force: bool = False, **fields: object) -> None:
        """Write `fields` with this process's id and times (seconds since the epoch)."""
        now = time.time()
        if force or now - self._last_write >= self.interval_s:
            self._last_write = now
            write_json(self.path, {"pid": os.getpid(), "started": self.start_time, "updated": now, **fields})
