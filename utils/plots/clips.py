"""What `metrics.json` tells of clips and patients: ROC curves, FROC, calibration of evidence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from utils.core.title import DEFAULT_TITLE
from utils.plots.curves import LINES
from utils.plots.style import (
    CLASS_COLOURS,
    CLASSIFICATION,
    DETECTION,
    GREY,
    INK,
    new_figure,
    shorten,
)


def plot_clip_roc(clips: Mapping, path: Path) -> None:
    """ROC curves by clip and, where patients are known, by patient, a line a class.

    Args:
        clips: the part `clips` of `metrics.json`; a class without positives, or without negatives,
            has no curve.
        path: the PNG to write.
    """
    levels = {kind: clips[f"by_{kind}"] for kind in ("clip", "patient")}
    known = {kind: level for kind, level in levels.items() if level}
    with new_figure(path, 5 * len(known), 5.4) as figure:
        panels = figure.subplots(1, len(known), squeeze=False)[0]
        for ax, (kind, level) in zip(panels, known.items(), strict=True):
            names = [row["name"] for row in level["rows"]]
            for curve in level["roc"]:
                _roc_line(ax, curve, names.index(curve["name"]))
            ax.set_title(f"By {kind}: {level['count']}", loc="left", fontsize=11, weight="bold")
            _finish_square(ax, "1 - specificity", "sensitivity")


def _roc_line(ax: Axes, curve: Mapping, number: int) -> None:
    """Of any finding, which is number 0, in ink; of a class in its own colour."""
    colour = INK
    dashes = 0
    if number > 0:
        dashes, hue = divmod(number - 1, len(CLASS_COLOURS))
        colour = CLASS_COLOURS[hue]
    ax.step(
        curve["false_positive_rate"],
        curve["sensitivity"],
        where="post",
        color=colour,
        linestyle=LINES[dashes % len(LINES)].dashes,
        label=f"{shorten(curve['name'], 24)}  {curve['auroc']:.3f}",
    )


def plot_clip_calibration(clips: Mapping, path: Path, cls_title: str = DEFAULT_TITLE) -> None:
    """The share of clips that are positive, or whose view is right, over what was said of them.

    Args:
        clips: the part `clips` of `metrics.json`.
        path: the PNG to write.
        cls_title: what the data set calls a view.
    """
    with new_figure(path, 5.4, 5.4) as figure:
        ax = figure.subplots()
        if clips["by_clip"]:
            _calibration_line(ax, clips["by_clip"]["calibration"], "evidence of a class", DETECTION)
        if clips["view"]:
            _calibration_line(ax, clips["view"]["calibration"], cls_title, CLASSIFICATION)
        ax.set_title("Clips: said and true", loc="left", fontsize=11, weight="bold")
        _finish_square(ax, "said: evidence, or probability", "true: share of clips")


def _calibration_line(ax: Axes, calibration: Mapping, label: str, colour: str) -> None:
    """Points whose size is the number of clips behind them."""
    counts = np.array(calibration["count"])
    known = counts > 0
    said = np.array(calibration["said"], float)[known]
    true = np.array(calibration["true"], float)[known]
    sizes = 12 + 120 * counts[known] / max(counts.max(), 1)
    ax.plot(said, true, color=colour, label=f"{label} ({counts.sum()})")
    ax.scatter(said, true, sizes, color=colour, clip_on=False)


def _finish_square(ax: Axes, x_label: str, y_label: str) -> None:
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    ax.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="lower right")
