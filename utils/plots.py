"""Every picture of a run, drawn from the files of its folder and nothing else.

    python -m utils.plots runs/train/exp     # draws all of them again

The colours are Okabe and Ito's (2008), which colour-blind readers can tell apart: detection is blue and
classification vermillion in every picture. Dashed lines are validation losses, targets or further metrics.
"""

from __future__ import annotations

import argparse
import io
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import cv2
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from utils.general import UserError, run_script, write_atomically
from utils.loss import DETECTION_LOSSES

DETECTION, CLASSIFICATION = "#0072B2", "#D55E00"
TASK_COLOURS = {"detection": DETECTION, "classification": CLASSIFICATION}
CLASS_COLOURS = ("#009E73", "#E69F00", "#56B4E9", "#CC79A7")
INK, GREY, PALE = "#222222", "#666666", "#DDDDDD"
DPI = 150
LEGIBLE_CELL_IN = 0.35  # smaller cells of a matrix cannot hold a number
LINES = (("-", "o"), ("--", "s"), (":", "^"))  # style and end mark of a panel's first, second, third line
STYLE = {
    **{"axes.edgecolor": GREY, "axes.spines.top": False, "axes.spines.right": False},
    **{"axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": PALE},
    **{"legend.frameon": False, "legend.fontsize": 9.5, "legend.borderpad": 0, "legend.borderaxespad": 0.2},
    **{"legend.handlelength": 1.7, "legend.handletextpad": 0.4, "legend.columnspacing": 0.9},
    **{"lines.linewidth": 1.7, "lines.markersize": 5, "text.color": INK, "axes.labelcolor": INK},
    **{"xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": INK, "ytick.labelcolor": INK},
    "text.parse_math": False,  # a class name may hold any character
}
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
INTERFERENCE_PLACES = {"cut": (INK, "at the cut"), "trunk": ("#009E73", "all trunk weights")}
JOINT_RATES = {"x/lr0": "biases", "x/lr1": "weights", "x/lr2": "norms"}
TASK_LOSSES = {"detection": DETECTION_LOSSES, "classification": ("view",)}
DUAL_RATES = {"x/detection_lr1": "detection", "x/classification_lr1": "classification"}


@cache
def _font_families() -> list[str]:
    """Matplotlib's own font, then one with Chinese characters if this machine has it."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    chinese = ("Noto Sans CJK TC", "Noto Sans TC", "Microsoft JhengHei", "PingFang TC", "WenQuanYi Zen Hei")
    return ["DejaVu Sans", *(name for name in chinese if name in installed)]


@contextmanager
def styled_figure(width_in: float, height_in: float, layout: str) -> Iterator[Figure]:
    """A figure in the house style, whatever the user's settings."""
    with matplotlib.style.context(["default", STYLE | {"font.family": _font_families()}]):
        figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout=layout)
        FigureCanvasAgg(figure)  # keeps its renderer; without it, measuring a text makes a new one each time
        yield figure


@contextmanager
def new_figure(path: Path, width_in: float, height_in: float, layout: str = "constrained") -> Iterator[Figure]:
    """A `styled_figure` that is written to `path` (PNG, PDF) when the block ends."""
    with styled_figure(width_in, height_in, layout) as figure:
        yield figure
        kind = path.suffix[1:]
        metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}}[kind]
        options = {"format": kind, "dpi": DPI, "metadata": metadata}
        write_atomically(path, lambda temporary: figure.savefig(temporary, **options))


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    """The column, or one without values if this kind of run has none."""
    return table[name] if name in table else pd.Series(np.nan, index=table.index)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _line(ax: Axes, x: pd.Series, y: pd.Series, colour: str, label: str, order: int = 0) -> None:
    """A line across empty cells, its last value marked, so that a single value shows as well."""
    known = y.notna()
    if known.any():
        style, mark = LINES[order]
        look = {"color": colour, "marker": mark, "mfc": "white" if order else colour, "markevery": [-1]}
        ax.plot(x[known], y[known], style, label=label, clip_on=False, **look)


def _window(values: pd.Series) -> int:
    return max(1, len(values) // 20)


def _trend(ax: Axes, x: pd.Series, y: pd.Series, colour: str, label: str, order: int = 0) -> None:
    """The moving mean over a 20th of the updates; behind a solid one, pale, every update's own value."""
    if _window(y) > 1 and order == 0:
        ax.plot(x, y, color=colour, alpha=0.25, linewidth=0.7)
    _line(ax, x, y.rolling(_window(y), center=True, min_periods=1).mean(), colour, label, order)


def _finish(ax: Axes, title: str, y_label: str = "", bottom: float = 0, top: float | None = None) -> None:
    """Title and legend in two rows above the axes, where they cover nothing; plain numbers on both axes."""
    if not ax.get_legend_handles_labels()[0]:
        ax.plot([], [], " ", label="not recorded")
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "alignment": "left", "ncols": 4}
    ax.legend(title=title, title_fontproperties={"weight": "bold", "size": 11}, **place)
    ax.set_ylabel(y_label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    if ax.get_yscale() == "log":
        _log_ticks(ax)
    else:
        ax.ticklabel_format(axis="y", style="plain", useOffset=False)
        ax.update_datalim([(0, bottom)], updatex=False)
        ax.autoscale_view(scalex=False)
        ax.set_ylim(bottom, top)


def _log_ticks(ax: Axes) -> None:
    """Ticks at 1, 2 and 5 (over more than two decades only at 1), written out; at least a decade is shown."""
    low, high = ax.get_ylim()
    middle, half = np.sqrt(low * high), max(np.sqrt(high / low), np.sqrt(10))
    ax.set_ylim(middle / half, middle * half)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if half <= 10 else (1,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _plain(value: float) -> str:
    """`0.02`, `50`; below 0.0001 and from 100,000 on `2·10⁻⁵`."""
    if 0.99e-4 < value < 0.99e5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1" else f"{mantissa}·{power}"


def _caption(figure: Figure, text: str, x_label: str) -> None:
    """How a figure of small multiples is to be read, in words above it, and its one label for x."""
    text = textwrap.fill(text, int(12 * figure.get_figwidth()))
    figure.suptitle(text, fontsize=10, x=0.01, ha="left")
    figure.supxlabel(x_label, fontsize=10)
    figure.align_ylabels()


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
                _line(ax, epochs, _column(results, column), colour, label, order)
            if colour in best:
                ax.axvline(epochs[best[colour]], color=GREY, linestyle=(0, (1, 2)), linewidth=1.2)
            _finish(ax, title, top=1 if any(column.startswith("metrics/") for column in labels) else None)
        _rates_panel(axes.flat[-1], results)
        axes[0, 0].set(ylabel="loss per image", xlim=(epochs.min() - 0.5, epochs.max() + 0.5))
        axes[1, 0].set_ylabel("score, 0 to 1")
        _caption(figure, _results_caption(results, best), "epochs trained")


def _is_dual(results: pd.DataFrame) -> bool:
    return DUAL_RATES.keys() <= set(results)


def _best_rows(results: pd.DataFrame) -> dict[str, int]:
    """A task's colour -> the row of its network's best epoch: one for both tasks if they share a network."""
    fitness = dict.fromkeys(TASK_COLOURS.values(), _column(results, "metrics/fitness"))
    if _is_dual(results):
        fitness = {colour: _column(results, f"metrics/{task}_fitness") for task, colour in TASK_COLOURS.items()}
    return {colour: values.idxmax() for colour, values in fitness.items() if values.notna().any()}


def _results_caption(results: pd.DataFrame, best: Mapping[str, int]) -> str:
    epochs, fitness = results["epoch"] + 1, _column(results, "metrics/fitness").dropna()
    caption = f"Epochs {epochs.min():.0f} to {epochs.max():.0f}; marks: last value."
    if not best:
        return caption
    if _is_dual(results):
        each = ", ".join(f"{task} {epochs[best[c]]:.0f}" for task, c in TASK_COLOURS.items() if c in best)
        return f"{caption} Dotted line: each network's best epoch ({each})."
    row, last = best[DETECTION], fitness.index[-1]
    return (
        f"{caption} Dotted line: best epoch ({epochs[row]:.0f}), fitness {fitness[row]:.3f};"
        f" last one validated ({epochs[last]:.0f}): {fitness[last]:.3f}."
    )


def _rates_panel(ax: Axes, results: pd.DataFrame) -> None:
    """Learning rates: of the three groups of one network, or of the two networks' weights."""
    is_dual = _is_dual(results)
    for order, (column, label) in enumerate((DUAL_RATES if is_dual else JOINT_RATES).items()):
        colour = TASK_COLOURS[label] if is_dual else INK
        _line(ax, results["epoch"] + 1, _column(results, column) * 1000, colour, label, order)
    _finish(ax, "learning rate / 10⁻³")


def plot_learning_rates(results: pd.DataFrame, path: Path) -> None:
    """The two networks' learning rates, and what they came to: each task's losses relative to its first.

    Args:
        results: the rows of a dual run's `results.csv`, at least one; a network that rests has empty cells.
        path: the PNG to write.
    """
    epochs = results["epoch"] + 1
    with new_figure(path, 12, 4.2) as figure:
        rates, *losses = figure.subplots(1, 3, sharex=True)
        _rates_panel(rates, results)
        for ax, (task, parts) in zip(losses, TASK_LOSSES.items(), strict=True):
            for order, (split, label) in enumerate({"train": "training", "val": "validation"}.items()):
                columns = [_column(results, f"{split}/{part}_loss") for part in parts]
                total = pd.concat(columns, axis=1).sum(axis=1, skipna=False)
                first = total.dropna().iloc[:1].sum()
                _line(ax, epochs, total / first, TASK_COLOURS[task], label, order)
            _finish(ax, f"{task} loss / its first")
        rates.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
        _caption(figure, "Two networks, each with its own optimiser; marks: last value.", "epochs trained")


def _epochs_trained(updates: pd.DataFrame) -> pd.Series:
    """Where each update lies, in epochs; an epoch's length is known to within one update interval."""
    return updates["epoch"] + (updates["batch"] + 1) / (updates["batch"].max() + 1)


def _finish_updates(figure: Figure, updates: pd.DataFrame) -> None:
    """What the figures over the updates share: the x axis, and what was averaged or left out."""
    caption = "No update of the weights was recorded."
    if len(updates):
        figure.axes[0].set_xlim(0, np.ceil(_epochs_trained(updates).max()))
        caption = f"{len(updates):,} updates of the weights, the last at step {updates['step'].max():,.0f}."
    if _window(updates["step"]) > 1:
        caption += f" Noisy curves: mean over {_window(updates['step'])} updates; pale: every update."
    reasons = {"unlabelled": "without a labelled view", "nonfinite": "with a non-finite norm"}
    for key, reason in reasons.items():
        if count := _column(updates, f"skipped_{key}").sum():
            caption += f" Left out: {count:,.0f} {'batch' if count == 1 else 'batches'} {reason}."
    _caption(figure, caption, "epochs trained")


def _weights_panel(ax: Axes, updates: pd.DataFrame) -> None:
    x, bound = _epochs_trained(updates), _column(updates, "at_bound")
    for task, colour in TASK_COLOURS.items():
        _line(ax, x, _column(updates, f"weight/{task}"), colour, task)
    at_bound = pd.concat([_column(updates, f"weight/{task}")[bound == task] for task in TASK_COLOURS])
    if at_bound.notna().any():
        ax.plot(x[at_bound.index], at_bound, "|", color=INK, markersize=9, label="at bound")
    _finish(ax, "loss weights", "weight")


def _ratio_panel(ax: Axes, updates: pd.DataFrame) -> None:
    ax.set_yscale("log")
    ax.axhline(1, color=GREY, linewidth=1)
    ratio = _column(updates, "weight/detection") / _column(updates, "weight/classification")
    _line(ax, _epochs_trained(updates), ratio, INK, "detection / classification")
    _finish(ax, "ratio of the weights", "ratio (log scale)")


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
            _trend(norms, x, _column(updates, f"norm/{task}"), colour, task)
            _trend(norms, x, _column(updates, f"target/{task}"), colour, "its target", 1)
        _finish(norms, "weighted gradient norms", "norm (log scale)")
        _finish_updates(figure, updates)


def plot_gradnorm_analysis(updates: pd.DataFrame, results: pd.DataFrame, path: Path) -> None:
    """Weights, ratio, losses relative to their start, total loss, cosine at the cut, validation metrics.

    Args:
        updates: the rows of `gradnorm.csv`; there may be none, and columns may be missing.
        results: the rows of `results.csv`; the metrics of an epoch lie at its end.
        path: the PNG to write.
    """
    x = _epochs_trained(updates)
    with new_figure(path, 13, 7.4) as figure:
        (weights, ratio, losses), (total, cosine, metrics) = figure.subplots(2, 3, sharex=True)
        _weights_panel(weights, updates)
        _ratio_panel(ratio, updates)
        losses.axhline(1, color=GREY, linewidth=1)
        for task, colour in TASK_COLOURS.items():
            loss = _column(updates, f"loss/{task}")
            _trend(losses, x, loss / loss.bfill().head(1).sum(), colour, task)
        _finish(losses, "task losses relative to their start", "loss / first loss")
        _trend(total, x, _column(updates, "loss/total"), INK, "weighted sum")
        _finish(total, "total loss", "loss per image")
        _cosine_panel(cosine, x, _column(updates, "cosine"))
        epoch_end = results["epoch"] + 1
        _line(metrics, epoch_end, _column(results, "metrics/mAP_0.5"), DETECTION, "mAP at IoU 0.5")
        accuracy = _column(results, "metrics/view_balanced_accuracy")
        _line(metrics, epoch_end, accuracy, CLASSIFICATION, "balanced view accuracy")
        _finish(metrics, "validation", "score, 0 to 1", top=1)
        _finish_updates(figure, updates)


def _cosine_panel(ax: Axes, x: pd.Series, cosine: pd.Series) -> None:
    ax.axhline(0, color=GREY, linewidth=1)
    known = cosine.dropna()
    if len(known):
        _trend(ax, x, cosine, INK, f"below zero in {(known < 0).mean():.0%} of the updates")
    limit = min(1, 1.1 * max(0.05, known.abs().max())) if len(known) else 1
    _finish(ax, "agreement of the gradients at the cut", "cosine", bottom=-limit, top=limit)


def plot_pr_curve(detection: Mapping, path: Path) -> None:
    """Precision over recall at IoU 0.5, a line per class and their mean.

    Args:
        detection: the part `detection` of `metrics.json`; a class without boxes has no curve.
        path: the PNG to write.
    """
    curve, figures = detection["pr_curve"], [(row["name"], row["AP_0.5"]) for row in detection["per_class"]]
    with new_figure(path, 8, 5) as figure:
        ax = figure.subplots()
        _class_lines(ax, curve["recall"], curve["precision"], figures, detection["mAP_0.5"])
        ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
        ax.set_title("Precision and recall at IoU 0.5", loc="left", fontsize=11, weight="bold")
        ax.legend(title="average precision", loc="upper left", bbox_to_anchor=(1.03, 1), alignment="left")


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
        ax.legend(title="mean sensitivity", loc="upper left", bbox_to_anchor=(1.03, 1), alignment="left")


def _class_lines(
    ax: Axes, x: Sequence[float], curves: Sequence, figures: Sequence[tuple[str, float]], mean: float
) -> None:
    """A line per class of `curves`, with name and figure where the classes are few enough, and their mean."""
    curves = np.array([curve or [np.nan] * len(x) for curve in curves], float)
    present = np.flatnonzero((curves >= 0).all(axis=1))  # COCO marks a class without boxes by -1
    are_named = len(curves) <= len(LINES) * len(CLASS_COLOURS)
    for index in present:
        look = {"color": "#BBBBBB", "linewidth": 0.8}
        if are_named:
            (name, figure), (style, hue) = figures[index], divmod(index, len(CLASS_COLOURS))
            label = f"{_shorten(name, 24)}  {figure:.3f}"
            look = {"color": CLASS_COLOURS[hue], "linestyle": LINES[style][0], "label": label}
        ax.plot(x, curves[index], **look)
    if len(present):
        ax.plot(x, curves[present].mean(axis=0), color=DETECTION, linewidth=3, label=f"mean  {mean:.3f}")


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
    ax.set_yticks(np.arange(len(rows)) + 0.5, [_shorten(name, 22) for name in rows])
    width_in = max(map(len, columns)) * 0.085
    angle = 0 if width_in < cell_in else 40 if cell_in > LEGIBLE_CELL_IN else 90
    place = {"ha": "right", "va": "center"} if angle else {"ha": "center", "va": "top"}
    place |= {"rotation": angle, "rotation_mode": "anchor"}
    ax.set_xticks(np.arange(len(columns)) + 0.5, [_shorten(name, 22) for name in columns], **place)
    ax.tick_params(length=0)


def _write_counts(ax: Axes, counts: np.ndarray, shares: np.ndarray, rgba: np.ndarray, size: float) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if not np.isnan(count):
            luminance = rgba[row, column, :3] ** 2.2 @ (0.2126, 0.7152, 0.0722)
            colour = "white" if luminance < 0.28 else INK
            text = f"{count:.0f}\n{shares[row, column]:.0%}" if count else "0"
            place = {"x": column + 0.5, "y": row + 0.5, "ha": "center", "va": "center"}
            ax.text(s=text, color=colour if count else GREY, fontsize=size, **place)


GRID, TILE, GAP, STRIP, CAPTION, LABEL = 4, 430, 20, 30, 58, 25  # columns; px: frame, gaps, room for text


def plot_mosaic(
    records: Sequence[Mapping],
    names: Sequence[str],
    view_names: Sequence[str],
    path: Path,
    *,
    predicted: bool,
) -> None:
    """Up to 16 validation frames with boxes and views, each in the same place in both pictures.

    Args:
        records: of `val_batch.json`; boxes in pixels of the original image.
        names, view_names: of the box classes and the views.
        path: the PNG to write.
        predicted: draw what the model says (with confidences, and whether the view is right), not the truth.
    """
    records = records[: GRID * GRID]
    frames = [_read_frame(Path(record["path"])) for record in records]
    aspect = max((frame.shape[0] / frame.shape[1] for frame in frames if frame is not None), default=0.75)
    tile_height = STRIP + int(TILE * min(aspect, 1.2)) + STRIP
    row_height = CAPTION + tile_height + GAP
    width, height = GRID * (TILE + GAP) + GAP, 60 + row_height * -(-len(records) // GRID)
    title = f"Validation frames: {'predicted' if predicted else 'true'} boxes and views"
    with new_figure(path, width / DPI, height / DPI, "none") as figure:
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        ax.axis("off")  # one unit is one pixel, y downwards, as in an image
        ax.text(GAP, 34, title, fontsize=12, weight="bold", va="center")
        for index, (record, frame) in enumerate(zip(records, frames, strict=True)):
            left, top = GAP + index % GRID * (TILE + GAP), 60 + index // GRID * row_height
            caption, look = _view_caption(record, view_names, predicted)
            caption = textwrap.fill(f"{index + 1}   {caption}", 36)
            text = ax.text(left, top + CAPTION - 8, caption, va="bottom", **look)
            text.set_fontsize(text.get_fontsize() * min(1, TILE / text.get_window_extent().width))
            area = (left, top + CAPTION, left + TILE, top + CAPTION + tile_height)
            if frame is None:
                _draw_lost_frame(ax, area, Path(record["path"]).name)
            else:
                draw_frame(ax, area, frame, record["prediction" if predicted else "truth"], names)


def _read_frame(path: Path) -> np.ndarray | None:
    """RGB (H, W, 3), or None if there is no such image any more. The path may hold any character."""
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # OpenCV raises for an empty file, and returns None for other broken ones
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _view_caption(record: Mapping, view_names: Sequence[str], predicted: bool) -> tuple[str, dict]:
    """The words above a frame and how they look: a wrong view stands out without any colour."""
    true_view, probabilities = record["truth"]["view"], record["prediction"].get("view_probabilities")
    true_name = _shorten(view_names[true_view], 24) if true_view >= 0 else "view unlabelled"
    if not predicted:
        return true_name, {"color": INK if true_view >= 0 else GREY}
    if not probabilities:
        return "view not predicted", {"color": GREY}
    view = int(np.argmax(probabilities))
    said = f"{_shorten(view_names[view], 24)} {probabilities[view]:.2f}"
    if true_view < 0:
        return f"{said}, unlabelled", {"color": GREY}
    if view == true_view:
        return f"{said}, right", {}
    box = {"facecolor": INK, "edgecolor": "none", "pad": 3}
    return f"{said}, wrong, is {true_name}", {"color": "white", "weight": "bold", "bbox": box}


def _draw_lost_frame(ax: Axes, area: tuple[float, ...], name: str) -> None:
    x1, y1, x2, y2 = area
    ax.add_patch(Rectangle((x1, y1 + STRIP), x2 - x1, y2 - y1 - 2 * STRIP, color=PALE))
    ax.text((x1 + x2) / 2, (y1 + y2) / 2, f"image not found:\n{_shorten(name, 30)}", ha="center", va="center")


def draw_frame(ax: Axes, area: tuple[float, ...], frame: np.ndarray, drawn: Mapping, names: Sequence[str]) -> None:
    """A frame in the middle of `area` (x1 y1 x2 y2), with a strip left for labels above and below it."""
    x1, y1, x2, y2 = area
    height, width = frame.shape[:2]
    scale = min((x2 - x1) / width, (y2 - y1 - 2 * STRIP) / height)
    left, top = (x1 + x2 - scale * width) / 2, (y1 + y2 - scale * height) / 2
    ax.imshow(frame, extent=(left, left + scale * width, top + scale * height, top), aspect="auto")
    boxes_xyxy = np.reshape(drawn["boxes_xyxy"], (-1, 4)) * scale + (left, top, left, top)
    halo, spots = [withStroke(linewidth=3.6, foreground="black")], []
    for index, (box, number) in enumerate(zip(boxes_xyxy, drawn["classes"], strict=True)):
        colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
        outline = {"edgecolor": colour, "linewidth": 1.8, "path_effects": halo, "fill": False}
        ax.add_patch(Rectangle(box[:2], *(box[2:] - box[:2]), **outline))
        label = _shorten(names[number], 20) + (f" {drawn['scores'][index]:.2f}" if "scores" in drawn else "")
        text = ax.text(0, 0, label, fontsize=9.5, va="center_baseline", ha="center", zorder=4)
        size = (text.get_window_extent().width + 10, LABEL)
        x, y = _label_corner(box, size, boxes_xyxy, spots, area)
        spots.append((x, y, x + size[0], y + LABEL))
        ax.add_patch(Rectangle((x, y), *size, color=colour, zorder=3))
        text.set_position((x + size[0] / 2, y + LABEL / 2))


def _label_corner(box_xyxy, size, boxes_xyxy, taken_xyxy, area) -> np.ndarray:
    """Upper left corner of a label beside its box: where it covers least of all boxes and of other labels."""
    width, height = size
    x1, y1, x2, y2 = np.add(box_xyxy, (-4, -4, 4, 4))  # half the line and a little air
    corners = [(x, y) for y in (y1 - height, y2) for x in (x1, x2 - width)]
    corners += [(x, y) for x in (x2, x1 - width) for y in (y1, y2 - height)]
    corners = np.clip(corners, area[:2], np.subtract(area[2:], size))
    spots = np.hstack([corners, corners + size])
    cost = _overlaps(spots, boxes_xyxy) + 10 * _overlaps(spots, taken_xyxy)  # text on text cannot be read
    return corners[np.argmin(cost)]


def _overlaps(a_xyxy: np.ndarray, b_xyxy: Sequence) -> np.ndarray:
    """The area of each of `a` (N, 4) that lies under `b` (M, 4), summed over `b`: (N,)."""
    a, b = a_xyxy[:, None], np.reshape(b_xyxy, (1, -1, 4))
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return sides.clip(0).prod(axis=-1).sum(axis=-1)


def read_table(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """The numbers of a run's CSV file, without a last line that is still being written or was torn by a kill.

    Raises:
        UserError: a column of `required` is missing.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    whole_lines = text[: text.rfind("\n") + 1] or ",".join(required)
    table = pd.read_csv(io.StringIO(whole_lines), on_bad_lines="skip", dtype=str)
    if missing := [name for name in required if name not in table]:
        raise UserError(f"{path}: no column {', '.join(missing)}; found: {', '.join(table.columns)}")
    numbers = table.columns.drop(["at_bound", "place"], errors="ignore")
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan)
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
    """Draw what `metrics.json` and `val_batch.json` allow: PR and FROC curve, confusion matrices, mosaics.

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
        counts = np.asarray(detection["confusion"], float)
        counts[-1, -1] = np.nan  # background that was rightly left alone cannot be counted
        data = (counts, [*names, "missed"], [*names, "background"], "predicted", "true")
        title = f"Boxes at IoU 0.5, confidence {detection['confidence']:.2f}"
        plot = partial(plot_confusion_matrix, *data, title, share_of="column")
        pictures["confusion_matrix_detection"] = plot
    if views := metrics.get("views"):
        data, title = (
            (views["confusion"], view_names, view_names),
            f"{views['images']} frames with a view label",
        )
        plot = partial(plot_confusion_matrix, *data, "true", "predicted", title, colour=CLASSIFICATION)
        pictures["confusion_matrix_views"] = plot
    if (folder / "val_batch.json").is_file():
        plot = partial(plot_mosaic, _read_json(folder / "val_batch.json"), names, view_names)
        pictures["val_batch_labels"] = partial(plot, predicted=False)
        pictures["val_batch_pred"] = partial(plot, predicted=True)
    return _draw(folder, pictures)


def plot_interference(tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """A column for every arm: cosine over the epochs, conflicts and magnitudes, and the cosine layer by layer.

    Args:
        tables: arm -> rows of interference.csv, of one training or several.
        path: the PNG to write.
    """
    with new_figure(path, 1.5 + 4.5 * len(tables), 9.5) as figure:
        axes = figure.subplots(3, len(tables), squeeze=False, sharex="col", sharey="row", height_ratios=[1, 1, 1.6])
        maps = {arm: _layer_map(rows) for arm, rows in tables.items()}
        limit = max([0.05, *(float(np.nanpercentile(np.abs(found), 98)) for found in maps.values() if found.size)])
        for column, (arm, rows) in zip(axes.T, tables.items(), strict=True):
            _plot_cosine(column[0], rows)
            _plot_conflicts(column[1], rows)
            _plot_layers(column[2], maps[arm], limit)
            column[0].set_title(arm, loc="left", fontsize=12, weight="bold")
        for row, label in zip(
            axes[:, 0], ("cosine", "share of batches; similarity", "layer of the trunk"), strict=True
        ):
            row.set_ylabel(label)
        low, high = axes[0, 0].get_ylim()
        axes[0, 0].set_ylim(low, high + 0.3 * (high - low))  # room for the legend
        for ax in axes[:2, 0]:
            ax.legend(loc="upper left", fontsize=8.5)
        if images := [image for ax in axes[2] for image in ax.images]:
            label = "mean cosine of the two tasks' gradients"
            figure.colorbar(images[0], ax=axes[2].tolist(), label=label, shrink=0.9)
        figure.suptitle("Do the two tasks' gradients disagree?", x=0.01, ha="left", fontsize=13, weight="bold")


def _plot_cosine(ax: Axes, rows: pd.DataFrame) -> None:
    ax.axhline(0, color=GREY, linewidth=0.8)
    for place, (colour, label) in INTERFERENCE_PLACES.items():
        own = rows[rows["place"] == place].groupby("epoch")["cosine"]
        mean, half = own.mean(), 1.96 * own.sem()
        epochs = mean.index + 1
        ax.plot(epochs, mean, color=colour, label=f"{label}, mean and 95 % interval")
        ax.fill_between(epochs, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)


def _plot_conflicts(ax: Axes, rows: pd.DataFrame) -> None:
    for place, (colour, label) in INTERFERENCE_PLACES.items():
        own = rows[rows["place"] == place].dropna(subset=["cosine"])
        conflicting = (own["cosine"] < 0).groupby(own["epoch"]).mean()
        ax.plot(conflicting.index + 1, conflicting, color=colour, label=f"conflicting (cosine < 0), {label}")
        similarity = own.groupby("epoch")["magnitude_similarity"].mean()
        ax.plot(similarity.index + 1, similarity, color=colour, linestyle=":", label=f"magnitude similarity, {label}")
    ax.set_ylim(-0.02, 1.62)  # room for the legend
    ax.set_yticks(np.linspace(0, 1, 6))


def _layer_map(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean cosine, layers down and epochs across; NaN for an epoch that was not measured."""
    layers = rows[rows["place"].str.isdigit()].dropna(subset=["cosine"])
    if layers.empty:
        return pd.DataFrame()
    table = layers.pivot_table(index="place", columns="epoch", values="cosine", aggfunc="mean")
    epochs = range(table.columns.min(), table.columns.max() + 1)
    return table.reindex(index=sorted(table.index, key=int), columns=epochs)


def _plot_layers(ax: Axes, table: pd.DataFrame, limit: float) -> None:
    ax.set_xlabel("epoch")
    ax.grid(False)
    if table.empty:  # the trunk is frozen, or its gradient is one that has no parts
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color=GREY)
        return
    first, last = table.columns.min() + 0.5, table.columns.max() + 1.5
    ax.imshow(
        table,
        aspect="auto",
        cmap="RdBu",
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        extent=(first, last, len(table) - 0.5, -0.5),
    )
    ax.set_yticks(range(len(table)), list(table.index), fontsize=8)


def draw_run(folder: Path) -> list[Path]:
    """Draw every picture that the files of a run folder allow.

    Returns:
        The PNGs written, into the same folder; which ones depends on the kind of run.

    Raises:
        UserError: there is no `results.csv`, or a file is broken.
    """
    if not (folder / "results.csv").is_file():
        raise UserError(f"{folder}: no results.csv in it; give the folder of a run, such as runs/train/exp")
    results, pictures = read_table(folder / "results.csv", ("epoch",)), {}
    if len(results):
        pictures["results"] = partial(plot_results, results)
        if _is_dual(results):
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
    parser = argparse.ArgumentParser(prog="python -m utils.plots", description="Draw a run's pictures again.")
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="such as runs/train/exp")
    for path in draw_run(parser.parse_args().folder):
        print(path)


if __name__ == "__main__":
    run_script(main)
