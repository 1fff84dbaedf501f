"""What `metrics.json` tells: precision-recall and FROC curves, confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from utils.plots.curves import LINES
from utils.plots.style import CLASS_COLOURS, DETECTION, GREY, INK, PALE, new_figure, shorten

LEGIBLE_CELL_IN = 0.35  # smaller cells of a matrix cannot hold a number


def plot_pr_curve(detection: Mapping, path: Path) -> None:
    """Precision over recall at IoU 0.5, a line per class and their mean.

    Args:
        detection: the part `detection` of `metrics.json`; a class without boxes has no curve.
        path: the PNG to write.
    """
    curve, figures = (
        detection["pr_curve"],
        [(row["name"], row["AP_0.5"]) for row in detection["per_class"]],
    )
    with new_figure(path, 8, 5) as figure:
        ax = figure.subplots()
        _class_lines(ax, curve["recall"], curve["precision"], figures, detection["mAP_0.5"])
        ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
        ax.set_title("Precision and recall at IoU 0.5", loc="left", fontsize=11, weight="bold")
        ax.legend(
            title="average precision", loc="upper left", bbox_to_anchor=(1.03, 1), alignment="left"
        )


def plot_froc_curve(froc: Mapping, path: Path) -> None:
    """Sensitivity over false positives a frame at IoU 0.5, a line per class and their mean.

    Args:
        froc: the part `froc` of `detection` in `metrics.json`; a class without boxes has no curve.
        path: the PNG to write.
    """
    rates, curve = froc["false_positives"], froc["curve"]
    figures = [(row["name"], row["mean"]) for row in froc["per_class"]]
    with new_figure(path, 8, 5) as figure:
        ax = figure.subplots()
        _class_lines(ax, curve["false_positives"], curve["sensitivity"], figures, froc["mean"])
        ax.set_xscale("log", base=2)
        ax.set_xticks(rates, [f"1/{1 / rate:.0f}" if rate < 1 else f"{rate:.0f}" for rate in rates])
        ax.set(xlabel="false boxes of the class, a frame", ylabel="sensitivity", ylim=(0, 1.01))
        ax.set_xlim(rates[0], rates[-1])
        ax.set_title("Free-response ROC at IoU 0.5", loc="left", fontsize=11, weight="bold")
        ax.legend(
            title="mean sensitivity", loc="upper left", bbox_to_anchor=(1.03, 1), alignment="left"
        )


def _class_lines(
    ax: Axes,
    x: Sequence[float],
    curves: Sequence,
    figures: Sequence[tuple[str, float]],
    mean: float,
) -> None:
    """A line per class of `curves`, with name and figure where the classes are few enough, and their mean."""
    curves = np.array([curve or [np.nan] * len(x) for curve in curves], float)
    present = np.flatnonzero((curves >= 0).all(axis=1))  # COCO marks a class without boxes by -1
    are_named = len(curves) <= len(LINES) * len(CLASS_COLOURS)
    for index in present:
        look = {"color": "#BBBBBB", "linewidth": 0.8}
        if are_named:
            (name, figure), (style, hue) = figures[index], divmod(index, len(CLASS_COLOURS))
            label = f"{shorten(name, 24)}  {figure:.3f}"
            look = {"color": CLASS_COLOURS[hue], "linestyle": LINES[style][0], "label": label}
        ax.plot(x, curves[index], **look)
    if len(present):
        ax.plot(
            x, curves[present].mean(axis=0), color=DETECTION, linewidth=3, label=f"mean  {mean:.3f}"
        )


def plot_confusion_matrix(
    matrix: Sequence[Sequence[float]] | np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    row_title: str,
    column_title: str,
    title: str,
    path: Path,
    *,
    share_of: str = "row",
    colour: str = DETECTION,
) -> None:
    """Counts, coloured by their share of their row or column.

    Args:
        matrix: counts (rows, columns); NaN where a cell has no meaning.
        row_labels, column_labels: names of the rows and columns.
        row_title, column_title, title: of the two axes and the picture.
        path: the PNG to write.
        share_of: `row` or `column`, whichever holds the truth.
        colour: of a share of 1; a share of 0 is white.
    """
    counts = np.asarray(matrix, float)
    total = np.nansum(counts, axis=1 if share_of == "row" else 0, keepdims=True)
    shares = np.nan_to_num(counts) / np.maximum(total, 1)
    cell_in = min(0.9, 16 / max(counts.shape))
    height_in, width_in = (max(5, cell_in * size + 2.4) for size in counts.shape)
    with new_figure(path, width_in, height_in, "compressed") as figure:
        ax = figure.subplots()
        ax.grid(False)
        ax.spines[:].set_visible(False)
        shading = LinearSegmentedColormap.from_list("share", ("white", colour))
        cells = ax.pcolormesh(shares, cmap=shading, vmin=0, vmax=1, edgecolor=PALE, linewidth=0.8)
        ax.set(aspect="equal", xlabel=column_title, ylabel=row_title)
        ax.invert_yaxis()
        _name_cells(ax, row_labels, column_labels, cell_in)
        if cell_in > LEGIBLE_CELL_IN:
            _write_counts(ax, counts, shares, cells.to_rgba(shares), 13 * cell_in)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
        ax.set_title(f"colour: share of the {share_of}", loc="left", fontsize=10)


def _name_cells(ax: Axes, rows: Sequence[str], columns: Sequence[str], cell_in: float) -> None:
    ax.set_yticks(np.arange(len(rows)) + 0.5, [shorten(name, 22) for name in rows])
    width_in = max(map(len, columns)) * 0.085
    angle = 0 if width_in < cell_in else 40 if cell_in > LEGIBLE_CELL_IN else 90
    place = {"ha": "right", "va": "center"} if angle else {"ha": "center", "va": "top"}
    place |= {"rotation": angle, "rotation_mode": "anchor"}
    ax.set_xticks(np.arange(len(columns)) + 0.5, [shorten(name, 22) for name in columns], **place)
    ax.tick_params(length=0)


def _write_counts(
    ax: Axes, counts: np.ndarray, shares: np.ndarray, rgba: np.ndarray, size: float
) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if not np.isnan(count):
            luminance = rgba[row, column, :3] ** 2.2 @ (0.2126, 0.7152, 0.0722)
            colour = "white" if luminance < 0.28 else INK
            text = f"{count:.0f}\n{shares[row, column]:.0%}" if count else "0"
            place = {"x": column + 0.5, "y": row + 0.5, "ha": "center", "va": "center"}
            ax.text(s=text, color=colour if count else GREY, fontsize=size, **place)
