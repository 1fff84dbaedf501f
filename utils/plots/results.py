"""What `results.csv` tells: losses, metrics and learning rates by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from utils.core.names import DETECTION_LOSSES
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


def plot_results(results: pd.DataFrame, path: Path) -> None:
    """Losses, detection metrics, view metrics and learning rates by epoch.

    Args:
        results: the rows of `results.csv`, at least one; cells may be empty and columns missing.
        path: the PNG to write.
    """
    epochs, best = results["epoch"] + 1, _best_rows(results)
    with new_figure(path, 13, 6.6) as figure:
        axes = figure.subplots(2, 4, sharex=True)
        for ax, (title, colour, labels) in zip(axes.flat, RESULT_PANELS, strict=False):
            for order, (column, label) in enumerate(labels.items()):
                draw_line(ax, epochs, column_of(results, column), colour, label, order)
            if colour in best:
                ax.axvline(epochs[best[colour]], color=GREY, linestyle=(0, (1, 2)), linewidth=1.2)
            finish_axes(
                ax,
                title,
                top=1 if any(column.startswith("metrics/") for column in labels) else None,
            )
        _rates_panel(axes.flat[-1], results)
        axes[0, 0].set(ylabel="loss per image", xlim=(epochs.min() - 0.5, epochs.max() + 0.5))
        axes[1, 0].set_ylabel("score, 0 to 1")
        add_caption(figure, _results_caption(results, best), "epochs trained")


def is_dual_run(results: pd.DataFrame) -> bool:
    return DUAL_RATES.keys() <= set(results)


def _best_rows(results: pd.DataFrame) -> dict[str, int]:
    """A task's colour -> the row of its network's best epoch: one for both tasks if they share a network."""
    if "best" not in results:
        return {}
    names = results["best"].fillna("").str.split()
    rows = {}
    for task, colour in TASK_COLOURS.items():
        network = task if is_dual_run(results) else "joint"
        improved = [row for row, found in names.items() if network in found]
        if improved:
            rows[colour] = improved[-1]
    return rows


def _results_caption(results: pd.DataFrame, best: Mapping[str, int]) -> str:
    epochs, fitness = results["epoch"] + 1, column_of(results, "metrics/fitness").dropna()
    caption = f"Epochs {epochs.min():.0f} to {epochs.max():.0f}; marks: last value."
    if not best or fitness.empty:
        return caption
    if is_dual_run(results):
        each = ", ".join(
            f"{task} {epochs[best[c]]:.0f}" for task, c in TASK_COLOURS.items() if c in best
        )
        return f"{caption} Dotted line: each network's best epoch ({each})."
    row, last = best[DETECTION], fitness.index[-1]
    return (
        f"{caption} Dotted line: best epoch ({epochs[row]:.0f}), fitness {fitness[row]:.3f};"
        f" last one validated ({epochs[last]:.0f}): {fitness[last]:.3f}."
    )


def _rates_panel(ax: Axes, results: pd.DataFrame) -> None:
    """Learning rates: of the three groups of one network, or of the two networks' weights."""
    is_dual = is_dual_run(results)
    for order, (column, label) in enumerate((DUAL_RATES if is_dual else JOINT_RATES).items()):
        colour = TASK_COLOURS[label] if is_dual else INK
        draw_line(ax, results["epoch"] + 1, column_of(results, column) * 1000, colour, label, order)
    finish_axes(ax, "learning rate / 10⁻³")


def plot_learning_rates(results: pd.DataFrame, path: Path) -> None:
    """The two networks' learning rates, and what they came to: each task's losses relative to its first.

    Args:
        results: the rows of a dual run's `results.csv`, at least one; a network that rests has
            empty cells.
        path: the PNG to write.
    """
    epochs = results["epoch"] + 1
    with new_figure(path, 12, 4.2) as figure:
        rates, *losses = figure.subplots(1, 3, sharex=True)
        _rates_panel(rates, results)
        for ax, (task, parts) in zip(losses, TASK_LOSSES.items(), strict=True):
            for order, (split, label) in enumerate(
                {"train": "training", "val": "validation"}.items()
            ):
                columns = [column_of(results, f"{split}/{part}_loss") for part in parts]
                total = pd.concat(columns, axis=1).sum(axis=1, skipna=False)
                first = total.dropna().iloc[:1].sum()
                draw_line(ax, epochs, total / first, TASK_COLOURS[task], label, order)
            finish_axes(ax, f"{task} loss / its first")
        rates.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
        add_caption(
            figure,
            "Two networks, each with its own optimiser; marks: last value.",
            "epochs trained",
        )
