"""The pictures of an audit: where boxes lie, how splits are balanced, which frames to look at."""

from __future__ import annotations

import textwrap
from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import PercentFormatter

from utils.curation.audit import Audit, to_mapping
from utils.curation.frames import Frame
from utils.curation.kinds import KINDS
from utils.plots.frames import CAPTION, GAP, GRID, STRIP, TILE, draw_frame, read_frame
from utils.plots.style import (
    CLASS_COLOURS,
    CLASSIFICATION,
    DETECTION,
    DPI,
    GREY,
    INK,
    PALE,
    new_figure,
    shorten,
)

SHOWN_CLASSES, SHOWN_PAIRS = 6, 12  # in the pictures
SPLIT_TINTS = (
    1,
    0.45,
    0,
)  # how much of the colour fills the bars of the first, second, third split
SHEET_KINDS = (
    *(
        "conflict",
        "rare_pair",
        "view_change",
        "shared_duplicate",
        "duplicate",
        "shared_near_duplicate",
    ),
    *(
        "near_duplicate",
        "two_classes",
        "doubtful_line",
        "missing_view",
        "missing_label",
        "extreme_size",
        "grey_image",
        "alpha_image",
        "deep_image",
    ),
)


def plot_boxes(audit: Audit, path: Path) -> None:
    """Centres and sizes of the boxes as fractions of the image, a column for each of the most frequent classes.

    No class, no file.
    """
    if not audit.data.names:
        return
    labels = [frame.labels.boxes for frame in audit.frames if frame.labels is not None]
    boxes = np.concatenate([*labels, np.zeros((0, 5))])
    counts = np.bincount(boxes[:, 0].astype(int), minlength=len(audit.data.names))
    shown = sorted(np.argsort(-counts, kind="stable")[:SHOWN_CLASSES])
    with new_figure(path, 0.9 + 2.5 * len(shown), 5.6) as figure:
        axes = figure.subplots(2, len(shown), sharex="row", sharey="row", squeeze=False)
        for column, number in enumerate(shown):
            own, colour = boxes[boxes[:, 0] == number], CLASS_COLOURS[number % len(CLASS_COLOURS)]
            for row, first in enumerate((1, 3)):
                ax = axes[row, column]
                ax.plot(boxes[:, first], boxes[:, first + 1], ".", color=PALE, markersize=3, mew=0)
                ax.plot(
                    own[:, first],
                    own[:, first + 1],
                    ".",
                    color=colour,
                    markersize=4,
                    alpha=0.6,
                    mew=0,
                )
                ax.set(
                    xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1)
                )
                ax.grid(True, axis="both")
            title = f"{shorten(audit.data.names[number], 20)}  ({counts[number]})"
            axes[0, column].set_title(title, loc="left", fontsize=11, weight="bold")
            axes[0, column].set(
                xlabel="centre x", ylabel="centre y" if not column else "", ylim=(1, 0)
            )
            axes[1, column].set(xlabel="width", ylabel="height" if not column else "")
        note = f"{len(boxes)} boxes; units: fractions of the image's width and height. Grey: the other classes."
        figure.suptitle(note, fontsize=10, x=0.01, ha="left")


def plot_balance(audit: Audit, path: Path) -> None:
    """The share of each split's frames that show each class and each view."""
    splits = to_mapping(audit)["splits"]
    parts = {"box class": ("classes", DETECTION), "view": ("views", CLASSIFICATION)}
    rows = max(len(split[key]) for split in splits.values() for key, _ in parts.values())
    with new_figure(path, 10, 1.3 + 0.14 * (len(splits) + 1) * min(rows, 40)) as figure:
        for ax, (title, (key, colour)) in zip(figure.subplots(1, 2), parts.items(), strict=True):
            for order, (name, split) in enumerate(splits.items()):
                _bars(ax, name, split["frames"], split[key], order, len(splits), colour)
            ax.set_title(f"Frames by {title}", loc="left", fontsize=11, weight="bold")
            ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            ax.set_xlabel("share of the split's frames")
            ax.grid(False, axis="y")
            ax.grid(True, axis="x")
            ax.invert_yaxis()
            ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=3)


def _bars(
    ax: Axes, split: str, frames: int, counts: dict[str, int], order: int, splits: int, colour: str
) -> None:
    height = 0.8 / splits
    y = np.arange(len(counts)) + (order - (splits - 1) / 2) * height
    shares = [count / frames for count in counts.values()]
    fill = 1 - SPLIT_TINTS[order] * (1 - np.array(to_rgb(colour)))
    ax.barh(y, shares, height * 0.9, label=f"{split} ({frames})", color=fill, edgecolor=colour)
    for position, share, count in zip(y, shares, counts.values(), strict=True):
        ax.annotate(
            str(count),
            (share, position),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    ax.set_yticks(np.arange(len(counts)), [shorten(name, 22) for name in counts])


def _pairs(audit: Audit, kind: str) -> list[tuple[str, tuple[Path, ...]]]:
    """Pairs of readable files to be looked at side by side, and why; the boxes that agree least come first."""
    readable = {frame.path for frame in audit.frames if frame.size}
    found = sorted(
        audit.of_kind(kind), key=lambda finding: 1 if finding.iou is None else finding.iou
    )
    kept = [
        (finding.detail, [path for path in finding.files if path in readable]) for finding in found
    ]
    several = [(detail, tuple(files[:2])) for detail, files in kept if len(files) > 1]
    single = [files[0] for _, files in kept if len(files) == 1]
    return several + [("", tuple(single[at : at + 2])) for at in range(0, len(single), 2)]


def plot_suspicious(audit: Audit, path: Path) -> None:
    """Pairs of frames that a person should look at, side by side, every kind of finding in turn; none, no file."""
    turns = zip_longest(*([(kind, *pair) for pair in _pairs(audit, kind)] for kind in SHEET_KINDS))
    once = {pair[2]: pair for pair in reversed([pair for turn in turns for pair in turn if pair])}
    pairs = list(reversed(once.values()))[:SHOWN_PAIRS]
    pairs.sort(key=lambda pair: SHEET_KINDS.index(pair[0]))
    frames = {frame.path: frame for frame in audit.frames}
    tile_height, head = STRIP + int(0.75 * TILE) + STRIP, 60
    row_height = 2 * CAPTION + tile_height + GAP
    width, height = GRID * (TILE + GAP) + GAP, head + row_height * -(-len(pairs) // 2)
    if not pairs:
        return
    with new_figure(path, width / DPI, height / DPI, "none") as figure:
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        ax.axis("off")  # one unit is one pixel, y downwards, as in an image
        ax.text(GAP, 34, "Frames to look at, in pairs", fontsize=12, weight="bold", va="center")
        for index, (kind, detail, files) in enumerate(pairs):
            left, top = GAP + index % 2 * 2 * (TILE + GAP), head + index // 2 * row_height
            ax.plot([left, left + 2 * TILE + GAP], [top, top], color=GREY, linewidth=0.8)
            text = textwrap.fill(
                f"{KINDS[kind][1]}: {detail}".rstrip(": "), 74, max_lines=2, placeholder=" …"
            )
            ax.text(left, top + 10, text, fontsize=8.5, weight="bold", va="top", color=INK)
            for column, file in enumerate(files):
                x = left + column * (TILE + GAP)
                area = (x, top + 2 * CAPTION, x + TILE, top + 2 * CAPTION + tile_height)
                _draw_tile(ax, area, audit, frames[file])


def _draw_tile(ax: Axes, area: tuple[float, ...], audit: Audit, frame: Frame) -> None:
    view = frame.labels.view if frame.labels is not None else -1
    said = (
        audit.data.view_names[view]
        if view >= 0
        else "view unlabelled"
        if audit.data.view_names
        else ""
    )
    caption = f"{shorten(frame.path.stem, 28)}, {frame.split}\n{shorten(said, 40)}"
    ax.text(area[0], area[1] + 4, caption, fontsize=8.5, va="bottom")
    boxes = frame.labels.boxes if frame.labels is not None else np.zeros((0, 5))
    centre, half = boxes[:, 1:3], boxes[:, 3:] / 2
    boxes_xyxy = np.hstack([centre - half, centre + half]) * np.array(frame.size * 2)
    drawn = {"boxes_xyxy": boxes_xyxy, "classes": boxes[:, 0].astype(int)}
    draw_frame(ax, area, read_frame(frame.path, audit.data.bits), drawn, audit.data.names)
