"""What `metrics.json` tells: precision-recall and FROC curves, confusion matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from utils.plots.curves import LINES
from utils.plots.style import CLASS_COLOURS, DETECTION, GREY, INK, PALE, new_figure, shorten

MOST_NAMES = 100  # beside a matrix; more would be on top of each other
LEGIBLE_CELL_IN = 0.35  # smaller cells of a matrix cannot hold a number


def plot_pr_curve(detection: Mapping, path: Path) -> None:
    """Precision over recall at IoU 0.5, a line per class and their mean.

    Args:
        detection: the part `detection` of `metrics.json`; a class without boxes has no curve.
        path: the PNG to write.
    """
    curve = detection["pr_curve"]
    scores = [row["AP_0.5"] for row in detection["per_class"]]
    names = [row["name"] for row in detection["per_class"]]
    with new_figure(path, 8, 5) as figure:
        ax = figure.subplots()
        _class_lines(ax, curve["recall"], curve["precision"], names, scores)
        _mean_line(ax, curve["recall"], curve["precision"], detection["mAP_0.5"])
        ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
        _finish_curves(ax, "Precision and recall at IoU 0.5", "average precision")


def plot_froc_curve(froc: Mapping, path: Path, unit: str = "frame") -> None:
    """Sensitivity over false positives at IoU 0.5, a line per class and their mean.

    Args:
        froc: the part `froc` of `detection`, or of `clips`, in `metrics.json`; a class without
            boxes has no curve.
        path: the PNG to write.
        unit: a frame or a clip, in which false positives are counted.
    """
    rates = froc["false_positives"]
    curve = froc["curve"]
    scores = [row["mean"] for row in froc["per_class"]]
    names = [row["name"] for row in froc["per_class"]]
    with new_figure(path, 8, 5) as figure:
        ax = figure.subplots()
        _class_lines(ax, curve["false_positives"], curve["sensitivity"], names, scores)
        _mean_line(ax, curve["false_positives"], curve["sensitivity"], froc["mean"])
        ax.set_xscale("log", base=2)
        ax.set_xticks(rates, [_rate_text(rate) for rate in rates])
        ax.set(xlabel=f"false boxes of the class, a {unit}", ylabel="sensitivity", ylim=(0, 1.01))
        ax.set_xlim(rates[0], rates[-1])
        _finish_curves(ax, "Free-response ROC at IoU 0.5", "mean sensitivity")


def _rate_text(false_positives: float) -> str:
    if false_positives < 1:
        return f"1/{1 / false_positives:.0f}"
    return f"{false_positives:.0f}"


def _finish_curves(ax: Axes, title: str, legend_title: str) -> None:
    ax.set_title(title, loc="left", fontsize=11, weight="bold")
    ax.legend(title=legend_title, loc="upper left", bbox_to_anchor=(1.03, 1), alignment="left")


def _present(x: Sequence[float], curves: Sequence[Sequence[float] | None]) -> dict[int, np.ndarray]:
    """Class number -> its curve, of the classes that have boxes."""
    known = {}
    for index, curve in enumerate(curves):
        values = np.array(curve or [np.nan] * len(x), float)
        if (values >= 0).all():  # COCO marks a class without boxes by -1
            known[index] = values
    return known


def _class_lines(
    ax: Axes,
    x: Sequence[float],
    curves: Sequence[Sequence[float] | None],
    names: Sequence[str],
    scores: Sequence[float],
) -> None:
    """A line per class, with name and score where the classes are few enough."""
    are_named = len(curves) <= len(LINES) * len(CLASS_COLOURS)
    for index, curve in _present(x, curves).items():
        line_style = {"color": "#BBBBBB", "linewidth": 0.8}
        if are_named:
            dashes, hue = divmod(index, len(CLASS_COLOURS))
            line_style = {
                "color": CLASS_COLOURS[hue],
                "linestyle": LINES[dashes].dashes,
                "label": f"{shorten(names[index], 24)}  {scores[index]:.3f}",
            }
        ax.plot(x, curve, **line_style)


def _mean_line(ax: Axes, x: Sequence[float], curves: Sequence, mean: float) -> None:
    """The mean of the classes' curves, labelled with the mean of their scores."""
    present = list(_present(x, curves).values())
    if present:
        average = np.mean(present, axis=0)
        ax.plot(x, average, color=DETECTION, linewidth=3, label=f"mean  {mean:.3f}")


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
    summed_axis = {"row": 1, "column": 0}[share_of]
    total = np.nansum(counts, axis=summed_axis, keepdims=True)
    shares = np.nan_to_num(counts) / np.maximum(total, 1)
    cell_in = min(0.9, 16 / max(counts.shape))
    rows, columns = counts.shape
    height_in = max(5, cell_in * rows + 2.4)
    width_in = max(5, cell_in * columns + 2.4)
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
    named = _named_places(len(rows))
    ax.set_yticks(named + 0.5, [shorten(rows[place], 22) for place in named])
    width_in = max(map(len, columns)) * 0.085
    if width_in < cell_in:
        text_style = {"ha": "center", "va": "top", "rotation": 0}
    elif cell_in > LEGIBLE_CELL_IN:
        text_style = {"ha": "right", "va": "center", "rotation": 40}
    else:
        text_style = {"ha": "right", "va": "center", "rotation": 90}
    named = _named_places(len(columns))
    names = [shorten(columns[place], 22) for place in named]
    ax.set_xticks(named + 0.5, names, rotation_mode="anchor", **text_style)
    ax.tick_params(length=0)


def _named_places(count: int) -> np.ndarray:
    """The rows or columns that have a name: every one, or of many every second, third, ... .

    The last is among them, which is no class but what was missed.
    """
    return np.arange(count - 1, -1, -math.ceil(count / MOST_NAMES))[::-1]


def _write_counts(
    ax: Axes, counts: np.ndarray, shares: np.ndarray, rgba: np.ndarray, size: float
) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if np.isnan(count):
            continue
        text, colour = "0", GREY
        if count:
            text = f"{count:.0f}\n{shares[row, column]:.0%}"
            colour = _legible_colour(rgba[row, column])
        x, y = column + 0.5, row + 0.5
        ax.text(x, y, text, color=colour, fontsize=size, ha="center", va="center")


def _legible_colour(rgba: np.ndarray) -> str:
    """Of a text on this background (4,)."""
    luminance = rgba[:3] ** 2.2 @ (0.2126, 0.7152, 0.0722)
    if luminance < 0.28:
        return "white"
    return INK
