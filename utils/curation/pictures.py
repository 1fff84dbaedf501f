"""The pictures of an audit: where boxes lie, how splits are balanced, which frames to check."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import PercentFormatter

from utils.core.data_config import DataConfig
from utils.curation.audit import Audit, to_mapping
from utils.curation.findings import Finding
from utils.curation.frames import Frame
from utils.curation.kinds import KINDS
from utils.data.labels import UNKNOWN_VIEW
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

SHOWN_CLASSES = 6  # in the picture of the boxes
SHOWN_ROWS = 40  # in each half of the picture of the splits' balance
SHOWN_PAIRS = 12  # in the picture of what is suspicious
HEAD_PX = 60  # above them
CAPTION_LETTERS = 74  # a line
# How much of the colour fills the bars of the first, second, third split.
SPLIT_TINTS = (1, 0.45, 0)
# Kinds of findings that are shown, and in which order.
SHEET_KINDS = (
    "conflict",
    "rare_pair",
    "view_change",
    "shared_duplicate",
    "duplicate",
    "shared_near_duplicate",
    "near_duplicate",
    "two_classes",
    "doubtful_line",
    "cut_box",
    "missing_view",
    "missing_label",
    "extreme_size",
    "grey_image",
    "alpha_image",
    "deep_image",
)
NO_BOXES = np.zeros((0, 5))  # class and xywhn


@dataclass(frozen=True)
class Pair:
    """Two files to be seen side by side, or the last one alone.

    Attributes:
        kind: of finding.
    """

    kind: str
    detail: str
    files: tuple[Path, ...]


def plot_boxes(audit: Audit, path: Path) -> None:
    """Centres and sizes of the boxes, as fractions of the image; a column a class.

    Only the most frequent classes have one. No class, no file.
    """
    if not audit.data.names:
        return
    labels = [frame.labels.boxes for frame in audit.frames if frame.labels is not None]
    boxes = np.concatenate([*labels, NO_BOXES])
    counts = np.bincount(boxes[:, 0].astype(int), minlength=len(audit.data.names))
    shown = sorted(np.argsort(-counts, kind="stable")[:SHOWN_CLASSES])
    with new_figure(path, 0.9 + 2.5 * len(shown), 5.6) as figure:
        axes = figure.subplots(2, len(shown), sharex="row", sharey="row", squeeze=False)
        for (centres, sizes), number in zip(axes.T, shown, strict=True):
            own = boxes[boxes[:, 0] == number]
            colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
            _scatter(centres, boxes[:, 1:3], own[:, 1:3], colour)
            _scatter(sizes, boxes[:, 3:], own[:, 3:], colour)
            title = f"{shorten(audit.data.names[number], 20)}  ({counts[number]})"
            centres.set_title(title, loc="left", fontsize=11, weight="bold")
            centres.set(xlabel="centre x", ylim=(1, 0))
            sizes.set(xlabel="width")
        axes[0, 0].set(ylabel="centre y")
        axes[1, 0].set(ylabel="height")
        note = (
            f"{len(boxes)} boxes; units: fractions of the image's width and height. "
            "Grey: the other classes."
        )
        figure.suptitle(note, fontsize=10, x=0.01, ha="left")


def _scatter(ax: Axes, points: np.ndarray, own: np.ndarray, colour: str) -> None:
    """Points (n, 2) in grey, and above them a class's own."""
    ax.plot(*points.T, ".", color=PALE, markersize=3, mew=0)
    ax.plot(*own.T, ".", color=colour, markersize=4, alpha=0.6, mew=0)
    ticks = (0, 0.5, 1)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=ticks, yticks=ticks)
    ax.grid(True, axis="both")


def plot_balance(audit: Audit, path: Path) -> None:
    """The share of each split's frames that show each class and each view.

    Only the most frequent have a row.
    """
    splits = to_mapping(audit)["splits"]
    most_rows = max(len(split[key]) for split in splits.values() for key in ("classes", "views"))
    height_in = 1.3 + 0.14 * (len(splits) + 1) * min(most_rows, SHOWN_ROWS)
    with new_figure(path, 10, height_in) as figure:
        by_class, by_view = figure.subplots(1, 2)
        _plot_shares(by_class, "Frames by box class", splits, "classes", DETECTION)
        _plot_shares(by_view, audit.data.said("Frames by view"), splits, "views", CLASSIFICATION)


def _plot_shares(ax: Axes, title: str, splits: dict[str, dict], key: str, colour: str) -> None:
    """Bars of what `key` counts in every split."""
    height = 0.8 / len(splits)
    total = Counter()
    for split in splits.values():
        total.update(split[key])
    shown = {name for name, _ in total.most_common(SHOWN_ROWS)}
    if len(shown) < len(total):
        title = f"{title}: the {len(shown)} most frequent of {len(total)}"
    for order, (name, split) in enumerate(splits.items()):
        offset = (order - (len(splits) - 1) / 2) * height
        fill = 1 - SPLIT_TINTS[order] * (1 - np.array(to_rgb(colour)))
        label = f"{name} ({split['frames']})"
        counts = {name: count for name, count in split[key].items() if name in shown}
        _bars(ax, counts, split["frames"], offset, height, label=label, color=fill, ec=colour)
    ax.set_title(title, loc="left", fontsize=11, weight="bold")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlabel("share of the split's frames")
    ax.grid(False, axis="y")
    ax.grid(True, axis="x")
    ax.invert_yaxis()
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=3)


def _bars(
    ax: Axes, counts: dict[str, int], frames: int, offset: float, height: float, **style: object
) -> None:
    """A bar for the share of `frames` that each of `counts` is, with the count beside it."""
    rows = np.arange(len(counts))
    shares = [count / frames for count in counts.values()]
    ax.barh(rows + offset, shares, height * 0.9, **style)
    text_style = {"textcoords": "offset points", "va": "center", "fontsize": 8}
    for row, share, count in zip(rows, shares, counts.values(), strict=True):
        ax.annotate(str(count), (share, row + offset), (3, 0), **text_style)
    ax.set_yticks(rows, [shorten(name, 22) for name in counts])


def _pairs_of(audit: Audit, kind: str) -> list[Pair]:
    """Pairs of readable files of a kind of finding; those whose boxes agree least come first.

    Findings with one file make up pairs of two of them.
    """
    readable = {frame.path for frame in audit.frames if frame.size}
    pairs = []
    single = []
    for finding in sorted(audit.of_kind(kind), key=_agreement):
        files = [path for path in finding.files if path in readable]
        if len(files) > 1:
            pairs.append(Pair(kind, finding.detail, tuple(files[:2])))
        else:
            single += files
    for start in range(0, len(single), 2):
        pairs.append(Pair(kind, "", tuple(single[start : start + 2])))
    return pairs


def _agreement(finding: Finding) -> float:
    if finding.iou is None:
        return 1.0
    return finding.iou


def _shown_pairs(audit: Audit) -> list[Pair]:
    """The pairs of every kind in turn, until there are enough; sorted by kind.

    Two files that several kinds name are shown once: for the first reason, in the last place.
    """
    turns = zip_longest(*(_pairs_of(audit, kind) for kind in SHEET_KINDS))
    by_files = {}
    for pair in chain.from_iterable(turns):
        if pair is not None:
            first = by_files.pop(pair.files, pair)
            by_files[pair.files] = first
    shown = list(by_files.values())[:SHOWN_PAIRS]
    return sorted(shown, key=lambda pair: SHEET_KINDS.index(pair.kind))


def plot_suspicious(audit: Audit, path: Path) -> None:
    """Pairs of frames that a person should check, side by side; none, no file."""
    pairs = _shown_pairs(audit)
    if not pairs:
        return
    frames = {frame.path: frame for frame in audit.frames}
    tile_height = STRIP + int(0.75 * TILE) + STRIP
    row_height = 2 * CAPTION + tile_height + GAP
    rows = -(-len(pairs) // 2)
    width = GRID * (TILE + GAP) + GAP
    height = HEAD_PX + row_height * rows
    with new_figure(path, width / DPI, height / DPI, "none") as figure:
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        ax.axis("off")  # one unit is one pixel, y downwards, as in an image
        ax.text(GAP, 34, "Frames to look at, in pairs", fontsize=12, weight="bold", va="center")
        for index, pair in enumerate(pairs):
            row, column = divmod(index, 2)
            left = GAP + column * 2 * (TILE + GAP)
            top = HEAD_PX + row * row_height
            _write_reason(ax, left, top, pair)
            for place, file in enumerate(pair.files):
                x = left + place * (TILE + GAP)
                area = (x, top + 2 * CAPTION, x + TILE, top + 2 * CAPTION + tile_height)
                _draw_tile(ax, area, audit, frames[file])


def _write_reason(ax: Axes, left: float, top: float, pair: Pair) -> None:
    """A line across the pair, and below it why the pair is shown."""
    ax.plot([left, left + 2 * TILE + GAP], [top, top], color=GREY, linewidth=0.8)
    reason = f"{KINDS[pair.kind][1]}: {pair.detail}".rstrip(": ")
    text = textwrap.fill(reason, CAPTION_LETTERS, max_lines=2, placeholder=" …")
    ax.text(left, top + 10, text, fontsize=8.5, weight="bold", va="top", color=INK)


def _draw_tile(ax: Axes, area: tuple[float, ...], audit: Audit, frame: Frame) -> None:
    view_text = _view_text(audit.data, frame)
    caption = f"{shorten(frame.path.stem, 28)}, {frame.split}\n{shorten(view_text, 40)}"
    ax.text(area[0], area[1] + 4, caption, fontsize=8.5, va="bottom")
    boxes = NO_BOXES
    if frame.labels is not None:
        boxes = frame.labels.boxes
    centres = boxes[:, 1:3]
    half_sizes = boxes[:, 3:] / 2
    boxes_xyxyn = np.hstack([centres - half_sizes, centres + half_sizes])
    boxes_xyxy = boxes_xyxyn * np.array(frame.size * 2)
    drawn = {"boxes_xyxy": boxes_xyxy, "classes": boxes[:, 0].astype(int)}
    draw_frame(ax, area, read_frame(frame.path, audit.data.bits), drawn, audit.data.names)


def _view_text(data: DataConfig, frame: Frame) -> str:
    if not data.view_names:
        return ""
    if frame.labels is None or frame.labels.view == UNKNOWN_VIEW:
        return f"{data.cls_title} unlabelled"
    return data.view_names[frame.labels.view]
