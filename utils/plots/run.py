"""All pictures of a run folder; the only module here that knows the names of its files."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from utils.core.script import UserError, run_script
from utils.plots.errors import plot_errors
from utils.plots.evaluation import plot_confusion_matrix, plot_froc_curve, plot_pr_curve
from utils.plots.frames import plot_mosaic
from utils.plots.gradnorm import plot_gradnorm_analysis, plot_weight_evolution
from utils.plots.interference import plot_interference
from utils.plots.results import is_dual_run, plot_learning_rates, plot_results
from utils.plots.style import CLASSIFICATION


def read_table(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """The numbers of a run's CSV file, without a last line that is still being written or was torn by a kill.

    Raises:
        UserError: a column of `required` is missing.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    whole_lines = text[: text.rfind("\n") + 1] or ",".join(required)
    table = pd.read_csv(io.StringIO(whole_lines), on_bad_lines="skip", dtype=str)
    if missing := [name for name in required if name not in table]:
        raise UserError(
            f"{path}: no column {', '.join(missing)}; found: {', '.join(table.columns)}"
        )
    numbers = table.columns.drop(["at_bound", "best", "place"], errors="ignore")
    table[numbers] = (
        table[numbers].apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan)
    )
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
    """Draw what `metrics.json` and `val_batch.json` allow: PR and FROC curve, errors, confusion matrices, mosaics.

    Returns:
        The PNGs written, into the same folder; none without `metrics.json`.

    Raises:
        UserError: one of the two files is not JSON.
    """
    if not (folder / "metrics.json").is_file():
        return []
    metrics, pictures = _read_json(folder / "metrics.json"), {}
    names, view_names = metrics["names"], metrics["view_names"]
    if detection := metrics.get("detection"):
        pictures["PR_curve"] = partial(plot_pr_curve, detection)
        if froc := detection.get("froc"):  # absent from earlier versions' files
            pictures["FROC_curve"] = partial(plot_froc_curve, froc)
        if errors := detection.get("errors"):
            pictures["errors"] = partial(plot_errors, errors, detection["confidence"])
        counts = np.asarray(detection["confusion"], float)
        counts[-1, -1] = np.nan  # background that was rightly left alone cannot be counted
        data = (counts, [*names, "missed"], [*names, "background"], "predicted", "true")
        chosen = detection["confidence"]
        title = f"Boxes at IoU 0.5, confidence {'-' if chosen is None else f'{chosen:.2f}'}"
        plot = partial(plot_confusion_matrix, *data, title, share_of="column")
        pictures["confusion_matrix_detection"] = plot
    if views := metrics.get("views"):
        data, title = (
            (views["confusion"], view_names, view_names),
            f"{views['images']} frames with a view label",
        )
        plot = partial(
            plot_confusion_matrix, *data, "true", "predicted", title, colour=CLASSIFICATION
        )
        pictures["confusion_matrix_views"] = plot
    if (folder / "val_batch.json").is_file():
        plot = partial(plot_mosaic, _read_json(folder / "val_batch.json"), names, view_names)
        pictures["val_batch_labels"] = partial(plot, predicted=False)
        pictures["val_batch_pred"] = partial(plot, predicted=True)
    return _draw(folder, pictures)


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
    results, pictures = read_table(folder / "results.csv", ("epoch",)), {}
    if len(results):
        pictures["results"] = partial(plot_results, results)
        if is_dual_run(results):
            pictures["learning_rates"] = partial(plot_learning_rates, results)
    if (folder / "gradnorm.csv").is_file():
        updates = read_table(folder / "gradnorm.csv", ("step", "epoch", "batch"))
        pictures["gradnorm_weight_evolution"] = partial(plot_weight_evolution, updates)
        pictures["gradnorm_analysis_report"] = partial(plot_gradnorm_analysis, updates, results)
    if (folder / "interference.csv").is_file():
        rows = read_table(folder / "interference.csv", ("epoch", "place", "cosine"))
        pictures["interference"] = partial(plot_interference, {folder.name: rows})
    return _draw(folder, pictures) + draw_evaluation(folder)


def main() -> None:
    """Draw the pictures of the run folder on the command line and print their paths."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.plots", description="Draw a run's pictures again."
    )
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="such as runs/train/exp")
    for path in draw_run(parser.parse_args().folder):
        print(path)


if __name__ == "__main__":
    run_script(main)
