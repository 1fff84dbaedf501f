"""All pictures of a run folder; the only module here that knows the names of its files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from utils.core.arguments import script_parser
from utils.core.script import UserError, run_script
from utils.core.terminal import one_line, plain
from utils.core.title import DEFAULT_TITLE, titled
from utils.plots.clips import plot_clip_calibration, plot_clip_roc
from utils.plots.errors import plot_errors
from utils.plots.evaluation import plot_confusion_matrix, plot_froc_curve, plot_pr_curve
from utils.plots.frames import plot_mosaic
from utils.plots.gradnorm import plot_gradnorm_analysis, plot_weight_evolution
from utils.plots.interference import plot_interference
from utils.plots.results import is_dual_run, plot_learning_rates, plot_results
from utils.plots.risk_coverage import plot_risk_coverage
from utils.plots.style import CLASSIFICATION


def read_table(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """The numbers of a run's CSV file.

    A last line that is still being written, or was torn by a kill, is left out.

    Raises:
        UserError: a column of `required` is missing.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    whole_lines = text[: text.rfind("\n") + 1]
    if not whole_lines:  # a run that has just begun: no row yet
        whole_lines = ",".join(required)
    table = pd.read_csv(io.StringIO(whole_lines), on_bad_lines="skip", dtype=str)
    missing = [name for name in required if name not in table]
    if missing:
        raise UserError(
            f"{path}: no column {', '.join(missing)}; found: {', '.join(table.columns)}"
        )
    numeric = table.columns.drop(["at_bound", "best", "place"], errors="ignore")
    numbers = table[numeric].apply(pd.to_numeric, errors="coerce")
    table[numeric] = numbers.replace([np.inf, -np.inf], np.nan)
    return table.dropna(subset=list(required)).reset_index(drop=True)


def _read_json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file ({error}); evaluate the run again") from error


def _draw(folder: Path, pictures: Mapping[str, Callable]) -> list[Path]:
    paths = [folder / f"{name}.png" for name in pictures]
    for path, plot in zip(paths, pictures.values(), strict=True):
        plot(path=path)
    return paths


def draw_evaluation(folder: Path) -> list[Path]:
    """Draw what `metrics.json` and `val_batch.json` allow.

    That is: PR and FROC curve, errors, confusion matrices, clips, mosaics.

    Returns:
        The PNGs written, into the same folder; none without `metrics.json`.

    Raises:
        UserError: one of the two files is not JSON.
    """
    if not (folder / "metrics.json").is_file():
        return []
    metrics = _read_json(folder / "metrics.json")
    names = metrics["names"]
    view_names = metrics["view_names"]
    title = metrics.get("cls_title", DEFAULT_TITLE)  # absent from earlier versions' files
    pictures = {}
    if metrics.get("detection"):
        pictures |= _detection_pictures(metrics["detection"], names)
    if metrics.get("views"):
        pictures["confusion_matrix_views"] = _view_confusion(metrics["views"], view_names, title)
    if metrics.get("risk_coverage"):
        curve = metrics["risk_coverage"]
        pictures["risk_coverage"] = partial(plot_risk_coverage, curve, cls_title=title)
    if metrics.get("clips"):
        pictures |= _clip_pictures(metrics["clips"], title)
    if (folder / "val_batch.json").is_file():
        records = _read_json(folder / "val_batch.json")
        plot = partial(plot_mosaic, records, names, view_names, cls_title=title)
        pictures["val_batch_labels"] = partial(plot, predicted=False)
        pictures["val_batch_pred"] = partial(plot, predicted=True)
    return _draw(folder, pictures)


def _detection_pictures(detection: Mapping, names: Sequence[str]) -> dict[str, Callable]:
    """Name of the file -> a call that draws it."""
    pictures = {"PR_curve": partial(plot_pr_curve, detection)}
    if detection.get("froc"):  # absent from earlier versions' files
        pictures["FROC_curve"] = partial(plot_froc_curve, detection["froc"])
    confidence = detection["confidence"]
    if detection.get("errors"):
        pictures["errors"] = partial(plot_errors, detection["errors"], confidence)
    counts = np.asarray(detection["confusion"], float)
    counts[-1, -1] = np.nan  # background that was rightly left alone cannot be counted
    chosen = "-"
    if confidence is not None:
        chosen = f"{confidence:.2f}"
    pictures["confusion_matrix_detection"] = partial(
        plot_confusion_matrix,
        counts,
        row_labels=[*names, "missed"],
        column_labels=[*names, "background"],
        row_title="predicted",
        column_title="true",
        title=f"Boxes at IoU 0.5, confidence {chosen}",
        share_of="column",
    )
    return pictures


def _clip_pictures(clips: Mapping, title: str) -> dict[str, Callable]:
    """Name of the file -> a call that draws it."""
    pictures = {"clip_calibration": partial(plot_clip_calibration, clips, cls_title=title)}
    if clips["by_clip"]:
        pictures["clip_ROC"] = partial(plot_clip_roc, clips)
    if clips.get("froc"):
        pictures["clip_FROC"] = partial(plot_froc_curve, clips["froc"], unit="clip")
    return pictures


def _view_confusion(views: Mapping, view_names: Sequence[str], title: str) -> Callable:
    """A call that draws the views' confusion."""
    return partial(
        plot_confusion_matrix,
        views["confusion"],
        row_labels=view_names,
        column_labels=view_names,
        row_title="true",
        column_title="predicted",
        title=titled(f"{views['images']} frames with a view label", title),
        colour=CLASSIFICATION,
    )


def _title_of(folder: Path) -> str:
    """What the data set of a run calls a view."""
    if not (folder / "metrics.json").is_file():
        return DEFAULT_TITLE
    return _read_json(folder / "metrics.json").get("cls_title", DEFAULT_TITLE)


def draw_run(folder: Path) -> list[Path]:
    """Draw every picture that the files of a run folder allow.

    Returns:
        The PNGs written, into the same folder; which ones depends on the kind of run.

    Raises:
        UserError: there is no `results.csv`, or a file is broken.
    """
    if not (folder / "results.csv").is_file():
        raise UserError(
            f"{folder}: no results.csv in it; give the folder of a run, such as runs/train/exp"
        )
    results = read_table(folder / "results.csv", ("epoch",))
    title = _title_of(folder)
    pictures = {}
    if len(results):
        pictures["results"] = partial(plot_results, results, cls_title=title)
        if is_dual_run(results):
            pictures["learning_rates"] = partial(plot_learning_rates, results)
    if (folder / "gradnorm.csv").is_file():
        updates = read_table(folder / "gradnorm.csv", ("step", "epoch", "batch"))
        pictures["gradnorm_weight_evolution"] = partial(plot_weight_evolution, updates)
        plot = partial(plot_gradnorm_analysis, updates, results, cls_title=title)
        pictures["gradnorm_analysis_report"] = plot
    if (folder / "interference.csv").is_file():
        rows = read_table(folder / "interference.csv", ("epoch", "place", "cosine"))
        pictures["interference"] = partial(plot_interference, {one_line(folder.name): rows})
    return _draw(folder, pictures) + draw_evaluation(folder)


def main() -> None:
    """Draw the pictures of the run folder on the command line and print their paths."""
    parser = script_parser("Draw a run's pictures again.", prog="python -m utils.plots")
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="such as runs/train/exp")
    folder = parser.parse_args().folder
    with _odd_files_named(folder):
        for path in draw_run(folder):
            print(plain(str(path)))


@contextmanager
def _odd_files_named(folder: Path) -> Iterator[None]:
    """Say of files that somebody changed that they are not as a run writes them."""
    try:
        yield
    except UserError:
        raise
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder}: a file in it is not as a run writes it ({error!r}); evaluate the run again"
        ) from error


if __name__ == "__main__":
    run_script(main)
