"""What `results.csv` tells: losses, metrics and learning rates by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from utils.core.names import DETECTION_LOSSES
from utils.core.title import DEFAULT_TITLE, titled
from utils.plots.curves import add_caption, column_of, draw_line, finish_axes
from utils.plots.style import CLASSIFICATION, DETECTION, GREY, INK, TASK_COLOURS, new_figure

RESULT_PANELS = (  # title, colour, and each line's column and label
    ("box loss", DETECTION, {"train/box_loss": "training", "val/box_loss": "validation"}),
    ("objectness loss", DETECTION, {"train/obj_loss": "training", "val/obj_loss": "validation"}),
    ("class loss", DETECTION, {"train/cls_loss": "training", "val/cls_loss": "validation"}),
    ("view loss", CLASSIFICATION, {"train/view_loss": "training", "val/view_loss": "validation"}),
    ("detection", DETECTION, {"metrics/precision": "precision", "metrics/recall": "recall"}),
    (
        "detection: mean AP at IoU",
        DETECTION,
        {"metrics/mAP_0.5": "0.5", "metrics/mAP_0.5:0.95": "0.5:0.95", "metrics/mAP_0.3": "0.3"},
    ),
    (
        "view: accuracy, macro F1",
        CLASSIFICATION,
        {
            "metrics/view_accuracy": "overall",
            "metrics/view_balanced_accuracy": "balanced",
            "metrics/view_macro_f1": "F1",
        },
    ),
)

JOINT_RATES = {"x/lr0": "biases", "x/lr1": "weights", "x/lr2": "norms"}
TASK_LOSSES = {"detection": DETECTION_LOSSES, "classification": ("view",)}
DUAL_RATES = {"x/detection_lr1": "detection", "x/classification_lr1": "classification"}


def plot_results(results: pd.DataFrame, path: Path, cls_title: str = DEFAULT_TITLE) -> None:
    """Losses, detection metrics, view metrics and learning rates by epoch.

    Args:
        results: the rows of `results.csv`, at least one; cells may be empty and columns missing.
        path: the PNG to write.
        cls_title: what the data set calls a view.
    """
    epochs = results["epoch"] + 1
    best = _best_rows(results)
    with new_figure(path, 13, 6.6) as figure:
        axes = figure.subplots(2, 4, sharex=True)
        for ax, (title, colour, labels) in zip(axes.flat, RESULT_PANELS, strict=False):
            for order, (column, label) in enumerate(labels.items()):
                draw_line(ax, epochs, column_of(results, column), colour, label, order)
            if colour in best:
                ax.axvline(epochs[best[colour]], color=GREY, linestyle=(0, (1, 2)), linewidth=1.2)
            top = None
            if any(column.startswith("metrics/") for column in labels):
                top = 1
            finish_axes(ax, titled(title, cls_title), top=top)
        _rates_panel(axes.flat[-1], results)
        axes[0, 0].set(ylabel="loss per image", xlim=(epochs.min() - 0.5, epochs.max() + 0.5))
        axes[1, 0].set_ylabel("score, 0 to 1")
        add_caption(figure, _results_caption(results, best), "epochs trained")


def is_dual_run(results: pd.DataFrame) -> bool:
    return DUAL_RATES.keys() <= set(results)


def _best_rows(results: pd.DataFrame) -> dict[str, int]:
    """A task's colour -> the row of its network's best epoch; tasks may share a network."""
    if "best" not in results:
        return {}
    names = results["best"].fillna("").str.split()
    rows = {}
    for task, colour in TASK_COLOURS.items():
        network = "joint"
        if is_dual_run(results):
            network = task
        improved = [row for row, found in names.items() if network in found]
        if improved:
            rows[colour] = improved[-1]
    return rows


def _results_caption(results: pd.DataFrame, best: Mapping[str, int]) -> str:
    epochs = results["epoch"] + 1
    fitness = column_of(results, "metrics/fitness").dropna()
    caption = f"Epochs {epochs.min():.0f} to {epochs.max():.0f}; marks: last value."
    if not best or fitness.empty:
        return caption
    if is_dual_run(results):
        networks = []
        for task, colour in TASK_COLOURS.items():
            if colour in best:
                networks.append(f"{task} {epochs[best[colour]]:.0f}")
        return f"{caption} Dotted line: each network's epoch in best.pt ({', '.join(networks)})."
    row = best[DETECTION]
    highest = fitness.idxmax()
    return (
        f"{caption} Dotted line: epoch in best.pt ({epochs[row]:.0f}), fitness {fitness[row]:.3f};"
        f" highest fitness: {fitness[highest]:.3f} ({epochs[highest]:.0f})."
    )


def _rates_panel(ax: Axes, results: pd.DataFrame) -> None:
    """Learning rates: of the three groups of one network, or of the two networks' weights."""
    labels, colours = JOINT_RATES, {}
    if is_dual_run(results):
        labels, colours = DUAL_RATES, TASK_COLOURS
    epochs = results["epoch"] + 1
    for order, (column, label) in enumerate(labels.items()):
        rates = column_of(results, column) * 1000
        draw_line(ax, epochs, rates, colours.get(label, INK), label, order)
    finish_axes(ax, "learning rate / 10⁻³")


def plot_learning_rates(results: pd.DataFrame, path: Path) -> None:
    """The two networks' learning rates, and each task's losses relative to its first.

    Args:
        results: the rows of a dual run's `results.csv`, at least one; an idle network has empty
            cells.
        path: the PNG to write.
    """
    epochs = results["epoch"] + 1
    with new_figure(path, 12, 4.2) as figure:
        rates, *losses = figure.subplots(1, 3, sharex=True)
        _rates_panel(rates, results)
        for ax, task in zip(losses, TASK_LOSSES, strict=True):
            colour = TASK_COLOURS[task]
            draw_line(ax, epochs, _relative_loss(results, task, "train"), colour, "training", 0)
            draw_line(ax, epochs, _relative_loss(results, task, "val"), colour, "validation", 1)
            finish_axes(ax, f"{task} loss / its first")
        rates.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
        caption = "Two networks, each with its own optimiser; marks: last value."
        add_caption(figure, caption, "epochs trained")


def _relative_loss(results: pd.DataFrame, task: str, split: str) -> pd.Series:
    """The sum of a task's losses on a split, divided by the first one there is."""
    columns = [column_of(results, f"{split}/{part}_loss") for part in TASK_LOSSES[task]]
    total = pd.concat(columns, axis=1).sum(axis=1, skipna=False)
    return total / total.dropna().iloc[:1].sum()
