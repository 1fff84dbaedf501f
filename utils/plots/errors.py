"""What `metrics.json` tells of errors by kind: how many there are, and what fixing each gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from utils.plots.style import CLASS_COLOURS, DETECTION, new_figure, shorten


def plot_errors(errors: Mapping, confidence: float | None, path: Path) -> None:
    """Boxes of each kind, beside the AP that fixing the kind would give.

    They are split by class where the classes are few enough.

    Args:
        errors: the part `errors` of `detection` in `metrics.json`; an undefined gain has no bar.
        confidence: from which on boxes are counted; None: the usual.
        path: the PNG to write.
    """
    known_from = "the usual confidence"
    if confidence is not None:
        known_from = f"confidence {confidence:.2f}"
    kinds = list(errors["counts"])
    gains = errors["delta_mAP_0.5"]
    with new_figure(path, 10, 4.2) as figure:
        counts_ax, gains_ax = figure.subplots(1, 2, sharey=True)
        _stack_counts(counts_ax, errors)
        gains_ax.barh(list(gains), [gain or 0 for gain in gains.values()], color=DETECTION)
        _write_ends(gains_ax, gains, [_gain_text(gain) for gain in gains.values()])
        counts_ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        counts_ax.set_xlabel(f"boxes from {known_from} on")
        gains_ax.set_xlabel("mAP gained if this kind alone were fixed\n(boxes of every confidence)")
        counts_ax.set_ylim(len(kinds) - 0.5, -0.5)
        figure.suptitle("Errors by kind at IoU 0.5", x=0.01, ha="left", fontsize=11, weight="bold")


def _gain_text(gain: float | None) -> str:
    if gain is None:
        return "-"
    return f"{gain:+.3f}"


def _stack_counts(ax: Axes, errors: Mapping) -> None:
    """A bar of each kind, of one piece per class if every class has a colour of its own."""
    kinds = list(errors["counts"])
    rows = errors["per_class"]
    left = np.zeros(len(kinds))
    if len(rows) > len(CLASS_COLOURS):
        ax.barh(kinds, list(errors["counts"].values()), color=DETECTION)
    else:
        for row, colour in zip(rows, CLASS_COLOURS, strict=False):
            counts = [row[kind] for kind in kinds]
            ax.barh(kinds, counts, left=left, color=colour, label=shorten(row["name"], 14))
            left += counts
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(rows))
    _write_ends(ax, errors["counts"], list(map(str, errors["counts"].values())))


def _write_ends(ax: Axes, values: Mapping[str, float | None], texts: Sequence[str]) -> None:
    """What a bar comes to, behind its end."""
    for (kind, value), text in zip(values.items(), texts, strict=True):
        end = (value or 0, kind)
        ax.annotate(text, end, (4, 0), textcoords="offset points", va="center", fontsize=9.5)
    ax.grid(False)
    ax.tick_params(axis="y", length=0)
    longest = max(value or 0 for value in values.values()) or 1
    ax.set_xlim(0, 1.15 * longest)
