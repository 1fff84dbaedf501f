"""The folders that a page is made of: a run, a validation, or a comparison with its trainings."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from utils.core.script import UserError
from utils.core.user_file import read_regular
from utils.core.yaml_reader import read_yaml_mapping
from utils.plots.run import read_table
from utils.report.curves import Tables

COMPARISON_FILE = "comparison_results.json"
METRICS_FILE = "metrics.json"
# See `utils.comparison.trainings.run_name`
TRAINING_NAME = re.compile(r"(fold\d+-)?(?P<arm>.+)-seed(?P<seed>\d+)")
MEASURED = ("step", "place", "cosine", "norm/detection", "norm/classification")
EXPECTED = (
    "expected the folder of a run, such as runs/train/exp, of a validation, or of a comparison"
)

OPTIONS = "a training or val.py writes it"


@dataclass(frozen=True)
class RunFiles:
    """What a run or a validation left.

    Attributes:
        name: by which a reader knows it.
        arm: what its curves are coloured by: the comparison's arm, else the run itself.
        seed: of a comparison's training.
        metrics: of metrics.json; empty without one.
        card: the model card's text; empty without one.
        data: the data.yaml in its opt.yaml; empty without one.
    """

    folder: Path
    name: str
    arm: str
    tables: Tables
    seed: int = 0
    metrics: Mapping = field(default_factory=dict)
    card: str = ""
    data: str = ""


@dataclass(frozen=True)
class Comparison:
    """What a comparison left, besides its trainings.

    Attributes:
        results: of comparison_results.json.
        text: of report.md; empty without one.
    """

    folder: Path
    results: Mapping
    text: str


def read_sources(folders: Sequence[Path]) -> tuple[list[RunFiles], list[Comparison]]:
    """The runs in all folders, those of comparisons among them, and the comparisons.

    Raises:
        UserError: a folder is none of a run, validation or comparison, or a file in it is damaged.
    """
    runs = []
    comparisons = []
    for folder in folders:
        if (folder / COMPARISON_FILE).is_file():
            comparisons.append(_read_comparison(folder))
            runs += _trainings(folder)
        elif any((folder / name).is_file() for name in ("results.csv", METRICS_FILE)):
            runs.append(read_run(folder, folder.resolve().name))
        elif not folder.is_dir():
            raise UserError(f"{folder}: no such folder; {EXPECTED}")
        else:
            raise UserError(
                f"{folder}: found no results.csv, metrics.json or {COMPARISON_FILE}; {EXPECTED}"
            )
    return _with_own_names(runs), comparisons


def _read_comparison(folder: Path) -> Comparison:
    text = ""
    if (folder / "report.md").is_file():
        text = read_text(folder / "report.md")
    return Comparison(folder, read_json(folder / COMPARISON_FILE), text)


def _trainings(folder: Path) -> list[RunFiles]:
    """The runs in it whose folders have a comparison's names, by arm, seed and fold."""
    found = []
    for place in sorted(folder.iterdir()):
        match = TRAINING_NAME.fullmatch(place.name)
        if match and (place / "results.csv").is_file():
            found.append(read_run(place, place.name, match["arm"], int(match["seed"])))
    return sorted(found, key=lambda run: (run.arm, run.seed, run.name))


def read_run(folder: Path, name: str, arm: str = "", seed: int = 0) -> RunFiles:
    """What lies in a run's folder; files that are not there are left out."""
    tables = {}
    for key, file, columns in (
        ("results", "results.csv", ("epoch",)),
        ("updates", "gradnorm.csv", ("step",)),
        ("interference", "interference.csv", MEASURED),
    ):
        tables[key] = None
        if (folder / file).is_file():
            tables[key] = read_table(folder / file, columns)
    metrics = {}
    if (folder / METRICS_FILE).is_file():
        metrics = read_json(folder / METRICS_FILE)
    card = ""
    if (folder / "MODEL_CARD.md").is_file():
        card = read_text(folder / "MODEL_CARD.md")
    data = ""
    if (folder / "opt.yaml").is_file():
        data = str(read_yaml_mapping(folder / "opt.yaml", OPTIONS).get("data", ""))
    return RunFiles(folder, name, arm or name, Tables(**tables), seed, metrics, card, data)


def _with_own_names(runs: list[RunFiles]) -> list[RunFiles]:
    """Runs of one name are told apart by their folders."""
    names = [run.name for run in runs]
    found = []
    for run in runs:
        if names.count(run.name) > 1:
            own = run.folder.as_posix()
            if run.arm == run.name:
                run = replace(run, arm=own)
            run = replace(run, name=own)
        found.append(run)
    return found


def read_json(path: Path) -> dict:
    """The mapping in a JSON file.

    Raises:
        UserError: there is none.
    """
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file ({error}); make it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: found no mapping; make it again")
    return content


@contextlib.contextmanager
def as_written(paths: Iterable[Path]) -> Iterator[None]:
    """Say of content that stumbles over what is not in them that the files are damaged."""
    try:
        yield
    except UserError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        names = ", ".join(map(str, paths))
        found = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{names}: not as this version writes it ({found}); make it again"
        ) from None


def read_text(path: Path) -> str:
    return read_regular(path).decode("utf-8", "replace")
