"""What `interference.csv` tells: whether the tasks' gradients agree, by epoch and by layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from utils.plots.style import GREY, INK, new_figure

LEAST_LIMIT = 0.05  # of the colours of cosines
INTERFERENCE_PLACES = {"cut": (INK, "at the cut"), "trunk": ("#009E73", "all trunk weights")}


def plot_interference(tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """A column for every arm: cosine over the epochs, conflicts and magnitudes, cosine by layer.

    Args:
        tables: arm -> rows of interference.csv, of one training or several.
        path: the PNG to write.
    """
    with new_figure(path, 1.5 + 4.5 * len(tables), 9.5) as figure:
        axes = figure.subplots(
            3, len(tables), squeeze=False, sharex="col", sharey="row", height_ratios=[1, 1, 1.6]
        )
        maps = {arm: _layer_map(rows) for arm, rows in tables.items()}
        limit = _colour_limit(maps)
        for column, (arm, rows) in zip(axes.T, tables.items(), strict=True):
            _plot_cosine(column[0], rows)
            _plot_conflicts(column[1], rows)
            _plot_layers(column[2], maps[arm], limit)
            column[0].set_title(arm, loc="left", fontsize=12, weight="bold")
        axes[0, 0].set_ylabel("cosine")
        axes[1, 0].set_ylabel("share of batches; similarity")
        axes[2, 0].set_ylabel("layer of the trunk")
        low, high = axes[0, 0].get_ylim()
        axes[0, 0].set_ylim(low, high + 0.3 * (high - low))  # room for the legend
        for ax in axes[:2, 0]:
            ax.legend(loc="upper left", fontsize=8.5)
        images = []
        for ax in axes[2]:
            images += ax.images
        if images:
            label = "mean cosine of the two tasks' gradients"
            figure.colorbar(images[0], ax=axes[2].tolist(), label=label, shrink=0.9)
        figure.suptitle(
            "Do the two tasks' gradients disagree?", x=0.01, ha="left", fontsize=13, weight="bold"
        )


def _colour_limit(maps: Mapping[str, pd.DataFrame]) -> float:
    """The cosine of the darkest colour, the same for all maps; a few cosines may be beyond it."""
    limit = LEAST_LIMIT
    for layer_map in maps.values():
        if layer_map.size:
            limit = max(limit, float(np.nanpercentile(np.abs(layer_map), 98)))
    return limit


def _plot_cosine(ax: Axes, rows: pd.DataFrame) -> None:
    ax.axhline(0, color=GREY, linewidth=0.8)
    for place, (colour, label) in INTERFERENCE_PLACES.items():
        own = rows[rows["place"] == place].groupby("epoch")["cosine"]
        mean, spread = own.mean(), own.std()
        epochs = mean.index + 1
        label = f"{label}, mean and standard deviation of batches"
        ax.plot(epochs, mean, color=colour, label=label)
        ax.fill_between(epochs, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)


def _plot_conflicts(ax: Axes, rows: pd.DataFrame) -> None:
    for place, (colour, label) in INTERFERENCE_PLACES.items():
        own = rows[rows["place"] == place].dropna(subset=["cosine"])
        share = (own["cosine"] < 0).groupby(own["epoch"]).mean()
        share_label = f"conflicting (cosine < 0), {label}"
        ax.plot(share.index + 1, share, color=colour, label=share_label)
        similarity = own.groupby("epoch")["magnitude_similarity"].mean()
        similarity_label = f"magnitude similarity, {label}"
        epochs = similarity.index + 1
        ax.plot(epochs, similarity, color=colour, linestyle=":", label=similarity_label)
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
