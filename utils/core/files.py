"""Files that a run writes: run folders, files that appear whole or not at all, logs, progress."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import itertools
import json
import os
import re
import tempfile
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from utils.core.script import UserError
from utils.core.terminal import one_line
from utils.core.user_file import read_regular

ROOT = Path(__file__).resolve().parents[2]

# Bytes, of the 255 that file systems allow, so that numbers and suffixes can be appended
LONGEST_NAME = 230
FORBIDDEN_CHARACTERS = '/\\:*?"<>|'
NUMBERED_DEVICES = [
    f"{device}{number}" for device in ("COM", "LPT") for number in "0123456789\u00b9\u00b2\u00b3"
]
# What Windows opens by these names is no file
DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}.union(NUMBERED_DEVICES)


# What `write_atomically` writes to before it renames
TEMPORARY_NAME = re.compile(r"\..+\.(?P<pid>\d+)-\d+\.tmp")


def find_file(path: str | Path) -> Path:
    """The file itself or, where there is none, the one of that name in this project's checkout.

    So a script finds its default YAML files from any working directory. A path that leads to
    neither comes back as it was, for the message that it does not exist.
    """
    path = Path(path)
    if not path.exists() and (ROOT / path).exists():
        return ROOT / path
    return path


def run_folder(project: str | Path, name: str) -> Path:
    """The folder `name`, which may be nested, inside `project`.

    Raises:
        UserError: the name is empty, or leads out of the project.
    """
    if not str(project):
        raise UserError("--project is empty, expected a folder, such as runs/train")
    relative = Path(name)
    if not relative.parts or relative.is_absolute() or ".." in relative.parts:
        raise UserError(
            f"--name is {name!r}, "
            f"expected the name of a folder inside --project {project}, such as exp"
        )
    return Path(project) / relative


def new_run_folder(project: str | Path, name: str, exist_ok: bool = False) -> Path:
    """Make the folder `project/name`.

    If it exists and `exist_ok` is false, the name becomes `name2`, `name3`, ... Processes that
    start together never get the same one, but with `exist_ok`.

    Raises:
        UserError: see `run_folder`; a file has that name; or no folder can be made.
    """
    folder = run_folder(project, name)
    for number in itertools.count(1):
        candidate = folder
        if number > 1:
            candidate = folder.with_name(f"{folder.name}{number}")
        try:
            candidate.mkdir(parents=True, exist_ok=exist_ok)
        except FileExistsError:
            if exist_ok:
                raise UserError(
                    f"{folder}: found a file, expected a folder; choose another place"
                ) from None
        except (OSError, ValueError) as error:  # the latter: a NUL or half a character in it
            reason = getattr(error, "strerror", "no folder can have this name")
            raise UserError(
                f"{one_line(str(candidate))}: cannot be made: {reason}; choose another place"
            ) from None
        else:
            return candidate


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary neighbour of `path`, flush it to disk, then rename it into place.

    Raises:
        OSError: it cannot be written, e.g. the disk is full; `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with naming(path):
            write(temporary)
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an `OSError` of the context say which file it is about; those of writing do not."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f"cannot be written: {error.strerror or error}", str(path)
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write one of many files, not flushed to disk by itself; none that is cut off is left.

    Raises:
        OSError: it cannot be written, e.g. the disk is full.
    """
    try:
        with naming(path):
            path.write_bytes(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def refuse_unwritable(path: Path) -> None:
    """Raise an error now if a file at `path` could not be written later, after the work.

    Raises:
        UserError: a folder stands there.
        OSError: its folder does not exist, cannot be written to, or the disk is full.
    """
    if path.is_dir():
        raise UserError(f"{path}: found a folder where a file is to be written; move it away")
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(b"probe")
            probe.flush()
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}"
        raise OSError(error.errno, reason, str(path)) from error


def write_json(path: Path, content: object) -> None:
    """Write strict JSON (no NaN), atomically."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, atomically; half characters, as in names of another encoding, are escaped."""
    content = text.encode("utf-8", "backslashreplace")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Name -> what a file or folder made for it is called.

    That is the name where it can be, and unlike all others'. What some file system refuses
    (separators, control characters, names of devices, dots and spaces at an end, more than
    `LONGEST_NAME` bytes) is replaced or shortened. Names that would then be one, also where upper
    and lower case are the same, get a piece of a hash.
    """
    found = {name: shortened(_harmless(name)) for name in names}
    clashing = _clashing(found)
    while clashing:
        for name in clashing:
            found[name] = _marked(found[name], name)
        clashing = _clashing(found)
    return found


def shortened(name: str) -> str:
    """The name; if it is longer than `LONGEST_NAME` bytes, its beginning and a piece of a hash."""
    if len(_in_bytes(name)) <= LONGEST_NAME:
        return name
    return _marked(name, name)


def _marked(name: str, hashed: str) -> str:
    """A name with a piece of a hash at its end, at most `LONGEST_NAME` bytes long."""
    mark = "-" + hashlib.sha256(_in_bytes(f"{name}/{hashed}")).hexdigest()[:8]
    while len(_in_bytes(name + mark)) > LONGEST_NAME:
        name = name[:-1]
    return name + mark


def _in_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")  # names in other encodings have surrogates


def _harmless(name: str) -> str:
    """The name with `_` for what cannot be in a file's name on every system.

    Dots stay between letters only.
    """
    characters = []
    for character in name:
        if not character.isprintable() or character in FORBIDDEN_CHARACTERS:
            character = "_"
        characters.append(character)
    text = re.sub(r"(?<!\w)\.|\.(?!\w)|^\s+|\s+$", "_", "".join(characters))
    stem = text.partition(".")[0].rstrip().upper()
    if stem in DEVICES:
        return f"_{text}"
    return text or "_"


def _clashing(names: Mapping[str, str]) -> list[str]:
    """The keys whose values are one name to some file system."""
    folded = {key: unicodedata.normalize("NFKC", name).casefold() for key, name in names.items()}
    counts = Counter(folded.values())
    return [key for key, name in folded.items() if counts[name] > 1]


def markdown_table(
    header: Sequence[object], rows: Iterable[Sequence[object]], numeric: bool = False
) -> str:
    """A table in Markdown; `numeric` aligns all columns but the first to the right."""
    alignment = "---:" if numeric else "---"
    rule = ["---"] + [alignment] * (len(header) - 1)
    return "\n".join(_table_line(cells) for cells in [header, rule, *rows])


def _table_line(cells: Iterable[object]) -> str:
    shown = [str(cell).replace("|", "/") for cell in cells]
    return f"| {' | '.join(shown)} |"


class CsvLog:
    """A CSV file that grows by a row, flushed at once, and can be cut back to an epoch on resume.

    Args:
        path: the file; made with its header at the first row.
        columns: every column, in order; one of them is `epoch`.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]):
        self.path = path
        self.columns = columns

    def append(self, row: Mapping[str, object]) -> None:
        """Add a row; keys must be columns, a missing or None value leaves the cell empty."""
        unknown = row.keys() - set(self.columns)
        assert not unknown, f"{self.path}: no such columns {sorted(unknown)}"
        is_new = not self.path.exists()
        with naming(self.path), self.path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.columns, restval="")
            if is_new:
                writer.writeheader()
            writer.writerow({key: _cell(value) for key, value in row.items()})

    def keep_before(self, epoch: int) -> None:
        """Drop rows of `epoch` and later, and a last row that a killed process left torn.

        Raises:
            UserError: the file is no longer one that was written here.
        """
        if not self.path.exists():
            return
        text = read_regular(self.path).decode("utf-8", "replace")
        whole_lines = text[: text.rfind("\n") + 1].splitlines()
        try:
            rows = self._rows_before(epoch, whole_lines)
        except (csv.Error, ValueError) as error:
            raise UserError(
                f"{self.path}: not what was written there ({error}); put it back, or move it away"
            ) from None
        write_atomically(self.path, partial(self._write, rows))

    def _rows_before(self, epoch: int, lines: Sequence[str]) -> list[dict]:
        reader = csv.DictReader(lines)
        if lines and tuple(reader.fieldnames or ()) != self.columns:
            raise ValueError("other columns")
        return [row for row in reader if _is_before(row, epoch, len(self.columns))]

    def _write(self, rows: list[dict], path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.columns)
            writer.writeheader()
            writer.writerows(rows)


def _is_before(row: dict, epoch: int, width: int) -> bool:
    complete = len(row) == width and None not in row and None not in row.values()
    return complete and row["epoch"].isdecimal() and int(row["epoch"]) < epoch


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value


class ProgressFile:
    """`progress.json`: where a run is, for monitors to read.

    Args:
        path: the file.
        interval_s: seconds from one writing to the next, at least.
    """

    def __init__(self, path: Path, interval_s: float = 3.0):
        self.path = path
        self.interval_s = interval_s
        self.start_time = time.time()
        self._last_write = 0.0

    def update(self, force: bool = False, **fields: object) -> None:
        """Write `fields` with this process's id and times (seconds since the epoch)."""
        now = time.time()
        if force or now - self._last_write >= self.interval_s:
            self._last_write = now
            write_json(
                self.path,
                {"pid": os.getpid(), "started": self.start_time, "updated": now, **fields},
            )
