"""Lines over columns of a table, whose cells may be empty or missing; their axes and captions."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter


@dataclass(frozen=True)
class LineStyle:
    """Of a line, in matplotlib's terms: dashes, the mark at its end, whether that is filled."""

    dashes: str
    marker: str
    is_filled: bool


# Of a panel's first, second and third line
LINES = (LineStyle("-", "o", True), LineStyle("--", "s", False), LineStyle(":", "^", False))


def column_of(table: pd.DataFrame, name: str) -> pd.Series:
    """The column, or one without values if this kind of run has none."""
    if name not in table:
        return pd.Series(np.nan, index=table.index)
    return table[name]


def draw_line(
    ax: Axes, x: pd.Series, y: pd.Series, colour: str, label: str, order: int = 0
) -> None:
    """A line across empty cells, its last value marked, so that a single value shows as well."""
    known = y.notna()
    if not known.any():
        return
    style = LINES[order]
    fill = "white"
    if style.is_filled:
        fill = colour
    ax.plot(
        x[known],
        y[known],
        style.dashes,
        label=label,
        clip_on=False,
        color=colour,
        marker=style.marker,
        markerfacecolor=fill,
        markevery=[-1],
    )


def trend_window(values: pd.Series) -> int:
    return max(1, len(values) // 20)


def draw_trend(
    ax: Axes, x: pd.Series, y: pd.Series, colour: str, label: str, order: int = 0
) -> None:
    """The moving mean over a 20th of the updates.

    Behind a solid one, pale, every update's own value.
    """
    window = trend_window(y)
    if window > 1 and order == 0:
        ax.plot(x, y, color=colour, alpha=0.25, linewidth=0.7)
    trend = y.rolling(window, center=True, min_periods=1).mean()
    draw_line(ax, x, trend, colour, label, order)


def finish_axes(
    ax: Axes, title: str, y_label: str = "", bottom: float = 0, top: float | None = None
) -> None:
    """Title and legend in two rows above the axes, where they cover nothing; plain numbers."""
    if not ax.get_legend_handles_labels()[0]:
        ax.plot([], [], " ", label="not recorded")
    ax.legend(
        title=title,
        title_fontproperties={"weight": "bold", "size": 11},
        loc="lower left",
        bbox_to_anchor=(0, 1),
        alignment="left",
        ncols=4,
    )
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
    """Ticks at 1, 2 and 5, over more than two decades only at 1, written out.

    At least a decade is shown.
    """
    low, high = ax.get_ylim()
    middle = np.sqrt(low * high)
    half = max(np.sqrt(high / low), np.sqrt(10))  # as a factor
    ax.set_ylim(middle / half, middle * half)
    steps = (1,)
    if half <= 10:
        steps = (1, 2, 5)
    ax.yaxis.set_major_locator(LogLocator(subs=steps))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _plain(value: float) -> str:
    """`0.02`, `50`; below 0.0001 and from 100,000 on `2·10⁻⁵`."""
    if 0.99e-4 < value < 0.99e5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    if mantissa == "1":
        return power
    return f"{mantissa}·{power}"


def add_caption(figure: Figure, text: str, x_label: str) -> None:
    """How a figure of small multiples is to be read, in words above it, and its one label for x."""
    text = textwrap.fill(text, int(12 * figure.get_figwidth()))
    figure.suptitle(text, fontsize=10, x=0.01, ha="left")
    figure.supxlabel(x_label, fontsize=10)
    figure.align_ylabels()
