"""report.html of runs, validations and comparisons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from utils.core.data_config import DataConfig
from utils.core.files import refuse_unwritable
from utils.core.script import LOGGER, UserError, errors_in
from utils.core.title import DEFAULT_TITLE, read_title
from utils.curation.held_out import DataSets, HeldOut
from utils.evaluation.error_kinds import KINDS
from utils.evaluation.predictions import FILE_NAME, read_predictions
from utils.report import figures
from utils.report.comparison import Difference, differences
from utils.report.curves import charts
from utils.report.markdown import Block, blocks_of
from utils.report.page import write_page
from utils.report.records import LEAST_SCORE, MOST_BOXES, frame_set
from utils.report.sources import (
    COMPARISON_FILE,
    METRICS_FILE,
    Comparison,
    RunFiles,
    as_written,
    read_sources,
)
from utils.report.thumbnails import thumbnails

PAGE = "report.html"
SCRIPTS = ("uPlot.iife.min.js", "page.js", "frames.js", "curves.js", "gallery.js")


@dataclass(frozen=True)
class Gallery:
    """What the page shows of frames.

    Attributes:
        data: classes and views; None where there are no frames.
        sets: see `frame_set`.
        is_real: the frames were not drawn by a generator.
    """

    data: DataConfig | None
    sets: list[dict[str, object]]
    is_real: bool = False


def write_report(
    folders: Sequence[Path],
    out: Path | None = None,
    data_sets: Sequence[str] = (),
    embed: bool = False,
) -> Path:
    """Write the page.

    Args:
        folders: of runs, validations and comparisons.
        out: the HTML file; None: `PAGE` in the first folder.
        data_sets: data.yaml files that have the frames; none: those that the runs name.
        embed: put small pictures of the frames into the page.

    Returns:
        The HTML file.

    Raises:
        UserError: a folder holds nothing of that, or the frames fit none of the data sets named.
    """
    page = out or folders[0] / PAGE
    runs, comparisons = read_sources(folders)
    refuse_unwritable(page)
    tables = _figures(runs)
    gallery = _gallery(runs, page, data_sets, embed)
    data = {
        "runs": [{"name": run.name, "arm": run.arm} for run in runs],
        "charts": charts([run.tables for run in runs]),
        "kinds": list(KINDS),
        "least_score": LEAST_SCORE,
        "sets": gallery.sets,
    }
    if gallery.data:
        data |= {"classes": list(gallery.data.names), "views": list(gallery.data.view_names)}
    write_page(
        page,
        "report.html.j2",
        SCRIPTS,
        data,
        _cls_title(runs, gallery.data),
        title=", ".join(folder.resolve().name for folder in folders),
        cards=[(run.name, blocks_of(run.card)[1:]) for run in runs if run.card],
        comparisons=[_compared(own) for own in comparisons],
        **tables,
        frames=sum(own["frames"] for own in gallery.sets),
        most_boxes=MOST_BOXES,
        is_real=gallery.is_real,
        is_embedded=embed and bool(gallery.sets),
    )
    return page


def _compared(comparison: Comparison) -> tuple[str, list[Difference], list[Block]]:
    """Its name, its differences and its report."""
    with as_written([comparison.folder / COMPARISON_FILE]):
        found = differences(comparison.results)
    return comparison.folder.resolve().name, found, blocks_of(comparison.text)


def _figures(runs: Sequence[RunFiles]) -> dict[str, object]:
    """The tables of all metrics.json, by their names in the template."""
    metrics = {run.name: run.metrics for run in runs if run.metrics}
    with as_written(run.folder / METRICS_FILE for run in runs if run.metrics):
        return {
            "overview": figures.overview(metrics),
            "errors": figures.errors(metrics),
            "details": [(name, figures.details(own)) for name, own in metrics.items()],
        }


def _cls_title(runs: Sequence[RunFiles], data: DataConfig | None) -> str:
    """What all the data sets call a view; ours where they do not agree."""
    titles = set()
    for run in runs:
        if run.metrics:
            with errors_in(run.folder / METRICS_FILE):
                titles.add(read_title(run.metrics.get("cls_title")))
    if data:
        titles.add(data.cls_title)
    if len(titles) == 1:
        return titles.pop()
    return DEFAULT_TITLE


def _gallery(
    runs: Sequence[RunFiles], page: Path, data_sets: Sequence[str], embed: bool
) -> Gallery:
    """The frames of all runs; those of the folds of an arm and seed are one set."""
    by_set: dict[str, list[tuple[RunFiles, HeldOut]]] = defaultdict(list)
    named = DataSets(data_sets)
    for run in runs:
        if not (run.folder / FILE_NAME).is_file():
            continue
        found = _held_out(run, named)
        if found:
            by_set[set_name(run)].append((run, found))
    sets = []
    is_real = False
    data = None
    for name, members in by_set.items():
        held_out = [found for _, found in members]
        data = data or held_out[0].data
        if list(data.names) != list(held_out[0].data.names):
            raise UserError(
                f"{members[0][0].folder}: its classes are not those of the runs before; "
                "make a page of its own"
            )
        is_real = is_real or not all(found.data.generate for found in held_out)
        own = frame_set(
            name,
            [found.results for found in held_out],
            held_out[0].data,
            page,
            _confidence([run for run, _ in members]),
        )
        if embed:
            results = [result for found in held_out for result in found.results]
            own["thumbnails"] = thumbnails(results)
        sets.append(own)
    return Gallery(data, sets, is_real)


def set_name(run: RunFiles) -> str:
    """Of a comparison's training: arm and seed, whatever the fold."""
    if run.arm == run.name:
        return run.name
    return f"{run.arm}, seed {run.seed}"


def _held_out(run: RunFiles, named: DataSets) -> HeldOut | None:
    """The run's predictions beside their truth.

    Where no data set was named and the run's own cannot be read, there are none and a warning.
    """
    try:
        if named.configs:
            return named.held_out(read_predictions(run.folder / FILE_NAME))
        if not run.data:
            raise UserError(f"{run.folder}: does not say where its frames lie")
        return DataSets([run.data]).held_out(read_predictions(run.folder / FILE_NAME))
    except UserError as error:
        if named.configs:
            raise
        LOGGER.warning(f"warning: no frames of {run.name} in the page: {error}; give --data")
        return None


def _confidence(runs: Sequence[RunFiles]) -> float | None:
    """The median of the thresholds of the runs' figures; None where none has one."""
    chosen = [run.metrics.get("detection", {}).get("confidence") for run in runs]
    known = [own for own in chosen if own is not None]
    if not known:
        return None
    return median(known)
