"""What `gradnorm.csv` tells: weights, norms, targets and losses by update."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.core.title import DEFAULT_TITLE, titled
from utils.plots.curves import (
    add_caption,
    column_of,
    draw_line,
    draw_trend,
    finish_axes,
    trend_window,
)
from utils.plots.style import CLASSIFICATION, DETECTION, GREY, INK, TASK_COLOURS, new_figure


def _epochs_trained(updates: pd.DataFrame) -> pd.Series:
    """Where each update lies, in epochs.

    An epoch's length is known to within one update interval.
    """
    return updates["epoch"] + (updates["batch"] + 1) / (updates["batch"].max() + 1)


def _finish_updates(figure: Figure, updates: pd.DataFrame) -> None:
    """What the figures over the updates share: the x axis, and what was averaged or left out."""
    caption = "No update of the weights was recorded."
    if len(updates):
        figure.axes[0].set_xlim(0, np.ceil(_epochs_trained(updates).max()))
        last = f"{updates['step'].max():,.0f}"
        caption = f"{len(updates):,} updates of the weights, the last at step {last}."
    window = trend_window(updates["step"])
    if window > 1:
        caption += f" Noisy curves: mean over {window} updates; pale: every update."
    reasons = {
        "unlabelled": "without a label of the image",
        "nonfinite": "with a non-finite norm",
        "partial": "that were not full",
        "zero": "with a norm of zero",
    }
    for key, reason in reasons.items():
        count = column_of(updates, f"skipped_{key}").sum()
        if count == 1:
            caption += f" Left out: 1 batch {reason}."
        elif count:
            caption += f" Left out: {count:,.0f} batches {reason}."
    add_caption(figure, caption, "epochs trained")


def _weights_panel(ax: Axes, updates: pd.DataFrame) -> None:
    x = _epochs_trained(updates)
    bound_task = column_of(updates, "at_bound")
    bounded = []
    for task, colour in TASK_COLOURS.items():
        weight = column_of(updates, f"weight/{task}")
        draw_line(ax, x, weight, colour, task)
        bounded.append(weight[bound_task == task])
    at_bound = pd.concat(bounded)
    if at_bound.notna().any():
        ax.plot(x[at_bound.index], at_bound, "|", color=INK, markersize=9, label="at bound")
    finish_axes(ax, "loss weights", "weight")


def _ratio_panel(ax: Axes, updates: pd.DataFrame) -> None:
    ax.set_yscale("log")
    ax.axhline(1, color=GREY, linewidth=1)
    ratio = column_of(updates, "weight/detection") / column_of(updates, "weight/classification")
    draw_line(ax, _epochs_trained(updates), ratio, INK, "detection / classification")
    finish_axes(ax, "ratio of the weights", "ratio (log scale)")


def plot_weight_evolution(updates: pd.DataFrame, path: Path) -> None:
    """Loss weights, their ratio, and weighted gradient norms G_i against their targets, by update.

    Args:
        updates: the rows of `gradnorm.csv`; there may be none, and columns may be missing.
        path: the PNG to write.
    """
    x = _epochs_trained(updates)
    with new_figure(path, 9, 9.6) as figure:
        weights, ratio, norms = figure.subplots(3, 1, sharex=True)
        _weights_panel(weights, updates)
        _ratio_panel(ratio, updates)
        norms.set_yscale("log")
        for task, colour in TASK_COLOURS.items():
            draw_trend(norms, x, column_of(updates, f"norm/{task}"), colour, task)
            draw_trend(norms, x, column_of(updates, f"target/{task}"), colour, "its target", 1)
        finish_axes(norms, "weighted gradient norms", "norm (log scale)")
        _finish_updates(figure, updates)


def plot_gradnorm_analysis(
    updates: pd.DataFrame, results: pd.DataFrame, path: Path, cls_title: str = DEFAULT_TITLE
) -> None:
    """Weights, their ratio, relative losses, total loss, cosine at the cut, validation metrics.

    Args:
        updates: the rows of `gradnorm.csv`; there may be none, and columns may be missing.
        results: the rows of `results.csv`; the metrics of an epoch lie at its end.
        path: the PNG to write.
        cls_title: what the data set calls a view.
    """
    x = _epochs_trained(updates)
    with new_figure(path, 13, 7.4) as figure:
        (weights, ratio, losses), (total, cosine, metrics) = figure.subplots(2, 3, sharex=True)
        _weights_panel(weights, updates)
        _ratio_panel(ratio, updates)
        losses.axhline(1, color=GREY, linewidth=1)
        for task, colour in TASK_COLOURS.items():
            loss = column_of(updates, f"loss/{task}")
            draw_trend(losses, x, loss / loss.bfill().head(1).sum(), colour, task)
        finish_axes(losses, "task losses relative to their start", "loss / first loss")
        draw_trend(total, x, column_of(updates, "loss/total"), INK, "weighted sum")
        finish_axes(total, "total loss", "loss per image")
        _cosine_panel(cosine, x, column_of(updates, "cosine"))
        epoch_end = results["epoch"] + 1
        map_50 = column_of(results, "metrics/mAP_0.5")
        draw_line(metrics, epoch_end, map_50, DETECTION, "mAP at IoU 0.5")
        accuracy = column_of(results, "metrics/view_balanced_accuracy")
        label = titled("balanced view accuracy", cls_title)
        draw_line(metrics, epoch_end, accuracy, CLASSIFICATION, label)
        finish_axes(metrics, "validation", "score, 0 to 1", top=1)
        _finish_updates(figure, updates)


def _cosine_panel(ax: Axes, x: pd.Series, cosine: pd.Series) -> None:
    ax.axhline(0, color=GREY, linewidth=1)
    known = cosine.dropna()
    limit = 1
    if len(known):
        draw_trend(ax, x, cosine, INK, f"below zero in {(known < 0).mean():.0%} of the updates")
        limit = min(1, 1.1 * max(0.05, known.abs().max()))
    finish_axes(ax, "agreement of the gradients at the cut", "cosine", bottom=-limit, top=limit)
