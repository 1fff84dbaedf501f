"""How an audit is told: a verdict for the terminal, `audit.json`, `audit.md` and the pictures."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import PercentFormatter

from utils.audit import KINDS, Audit, Finding, Frame, class_view_counts, named
from utils.general import markdown_table, write_atomically, write_json
from utils.plots import (
    CAPTION,
    CLASS_COLOURS,
    CLASSIFICATION,
    DETECTION,
    DPI,
    GAP,
    GREY,
    GRID,
    INK,
    PALE,
    STRIP,
    TILE,
    _read_frame,
    _shorten,
    draw_frame,
    new_figure,
    plot_confusion_matrix,
)

LEVELS = {"error": "errors", "leak": "leaks", "doubt": "doubts, for a person to look at"}
SELF_EXPLAINED = ("shared_group", "shared_clip", "view_change", "rare_pair", "bad_label")  # without file names
LISTED = 12  # findings of a kind that audit.md names; audit.json has all
SHOWN_CLASSES, SHOWN_PAIRS = 6, 12  # in the pictures
SPLIT_TINTS = (1, 0.45, 0)  # how much of the colour fills the bars of the first, second, third split
SHEET_KINDS = (
    *("conflict", "rare_pair", "view_change", "shared_duplicate", "duplicate", "shared_near_duplicate"),
    *("near_duplicate", "missing_view", "missing_label", "extreme_size", "grey_image", "alpha_image", "deep_image"),
)


# ---- words -------------------------------------------------------------------------------------------------


def name_of(audit: Audit, path: Path) -> str:
    """A file's path below the data set's folder."""
    return Path(os.path.relpath(path, audit.data.root)).as_posix()


def describe(audit: Audit, finding: Finding) -> str:
    """One finding in a line: what and, where that does not say it, in which files."""
    shown = () if finding.kind in SELF_EXPLAINED else finding.files
    files = ", ".join(name_of(audit, path) for path in shown[:4])
    files += f" and {len(shown) - 4} more" if len(shown) > 4 else ""
    return ": ".join(filter(None, [files, finding.detail.replace(f"{audit.data.root}{os.sep}", "")]))


def to_mapping(audit: Audit) -> dict:
    """Everything but the frames themselves, as plain values."""
    data, counts = audit.data, class_view_counts(audit.data, audit.frames)
    sizes = Counter(f"{frame.size[0]}x{frame.size[1]}" for frame in audit.frames if frame.size)
    findings = {}
    for finding in audit.findings:
        level, meaning = KINDS[finding.kind]
        kind = findings.setdefault(finding.kind, {"level": level, "meaning": meaning, "count": 0, "found": []})
        files = [name_of(audit, path) for path in finding.files]
        kind["found"].append({"detail": finding.detail, "files": files, "iou": finding.iou})
        kind["count"] += 1
    return {
        "data": str(data.source),
        "splits": {name: _split_counts(audit, [f for f in audit.frames if f.split == name]) for name in data.splits},
        "sizes": dict(sizes.most_common()),
        "class_by_view": {
            "rows": [*data.names, "no box"],
            "columns": [*data.view_names, "no view"],
            "frames": counts.tolist(),
        },
        "findings": findings,
        "groups": audit.groups and asdict(audit.groups),
        "clips": audit.clips and asdict(audit.clips),
        "column_orders": [
            {"cls_names": list(order), "implausible": share} for order, share in audit.column_orders.items()
        ],
        "neighbour_oracle": {name: asdict(oracle) for name, oracle in audit.neighbour.items()},
        "view_oracle": {name: asdict(oracle) for name, oracle in audit.view.items()},
    }


def _split_counts(audit: Audit, frames: Sequence[Frame]) -> dict:
    data, labels = audit.data, [frame.labels for frame in frames if frame.labels is not None]
    patterns = {"group": data.group_pattern, "clip": data.clip_pattern}
    classes = class_view_counts(data, frames).sum(axis=1).tolist()
    views = [sum(frame.view == view for frame in labels) for view in (*range(len(data.view_names)), -1)]
    return {
        "frames": len(frames),
        "boxes": sum(len(frame.boxes) for frame in labels),
        **{f"{key}s": len({named(f.path, data)[key] for f in frames} - {None}) for key in patterns if patterns[key]},
        "classes": dict(zip([*data.names, "no box"], classes, strict=True)),
        "views": dict(zip([*data.view_names, "no view"], views, strict=True)) if data.view_names else {},
    }


def verdict(audit: Audit) -> str:
    """The audit on a screen: what there is, what was found, how good a score can be."""
    lines = [str(audit.data.source)]
    for name, split in to_mapping(audit)["splits"].items():
        counts = (f"{split[key]} {key}" for key in ("frames", "boxes", "groups", "clips") if key in split)
        lines.append(f"  {name}: {', '.join(counts)}")
    for level, title in LEVELS.items():
        kinds = [kind for kind in KINDS if KINDS[kind][0] == level and audit.of_kind(kind)]
        lines += [title] if kinds else []
        for kind in kinds:
            found = audit.of_kind(kind)
            lines.append(_shorten(f"  {len(found):>5} {KINDS[kind][1]}: {describe(audit, found[0])}", 118))
    return "\n".join([*lines, *_leak_lines(audit), *_reference_lines(audit), _summary(audit)])


def _leak_lines(audit: Audit) -> list[str]:
    lines = []
    for what, found in (("group", audit.groups), ("clip", audit.clips)):
        if found and found.shared:
            touched = ", ".join(f"{share:.1%} of {split}" for split, share in found.touched.items())
            lines.append(
                f"{len(found.shared)} of {found.total} {what}s are in more than one split; they hold {touched}"
            )
    return lines


def _reference_lines(audit: Audit) -> list[str]:
    """How alike boxes are drawn and how good a score can be without any model, where clips or duplicates show it."""
    agreed = [f.iou for kind in ("duplicate", "shared_duplicate") for f in audit.of_kind(kind) if f.iou is not None]
    lines = (
        [f"boxes drawn on identical pictures: IoU {np.median(agreed):.2f} (median over groups of the lowest)"]
        if agreed
        else []
    )
    for name, found in audit.neighbour.items():
        if found.iou_quantiles:
            precisions = {"AP50": found.map_50, "AP50-95": found.map_50_95, "AP30": found.map_30}
            shown = ", ".join(f"{key} {_figure_of(value)}" for key, value in precisions.items())
            lines += [
                f"{name}: box of the clip's nearest training frame ({found.with_neighbour} of {found.frames} frames): "
                f"{shown}",
                f"{name}: its IoU with the true box: median {found.iou_quantiles[50]:.2f}; same class "
                f"{found.same_class:.0%}, with IoU > 0.5 {found.same_class_iou_50:.0%}; IoU > 0.75 {found.iou_75:.0%}; "
                f"median distance {found.median_distance:g} frames",
            ]
    for name, found in audit.view.items():
        if found.with_clip:
            lines.append(
                f"{name}: most frequent view of the clip in training: accuracy {_figure_of(found.accuracy)} "
                f"(of the box's class: {_figure_of(found.class_lookup_accuracy)}; "
                f"of all: {_figure_of(found.majority_accuracy)})"
            )
    return lines


def _figure_of(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _summary(audit: Audit) -> str:
    counts = Counter(finding.level for finding in audit.findings)
    return "verdict: " + ", ".join(f"{counts[level]} {level}{'s' * (counts[level] != 1)}" for level in LEVELS)


def markdown(audit: Audit) -> str:
    """The audit as a document: tables, then every kind of finding with some of its files."""
    content = to_mapping(audit)
    splits, pairs = content["splits"], content["class_by_view"]
    first = next(iter(splits.values()))
    keys = [key for key in ("frames", "boxes", "groups", "clips") if key in first]
    rows = {key: [split[key] for split in splits.values()] for key in keys}
    for part, title in (("classes", "class"), ("views", "view")):
        for name in first[part]:
            rows[f"{title} {name}" if not name.startswith("no ") else name] = [
                f"{split[part][name]} ({split[part][name] / split['frames']:.1%})" for split in splits.values()
            ]
    parts = [
        f"# Audit of {Path(content['data']).name}",
        f"{_summary(audit).capitalize()}.",
        "## Splits",
        markdown_table(["", *splits], [[name, *cells] for name, cells in rows.items()], numeric=True),
        f"Image sizes: {', '.join(f'{size} ({count})' for size, count in content['sizes'].items())}.",
    ]
    if audit.data.view_names:
        table = [[name, *row] for name, row in zip(pairs["rows"], pairs["frames"], strict=True)]
        parts += ["## Frames by box class and view", markdown_table(["", *pairs["columns"]], table, numeric=True)]
    if references := [*_leak_lines(audit), *_reference_lines(audit)]:
        parts += ["## How good a score can be", "\n".join(f"- {line}" for line in references)]
    if audit.column_orders:
        orders = [[", ".join(order), f"{share:.1%}"] for order, share in audit.column_orders.items()]
        parts += [
            "## Orders of the view columns",
            markdown_table(["cls_names", "implausible frames"], orders[:24], numeric=True),
        ]
    for level, title in LEVELS.items():
        kinds = [kind for kind in KINDS if KINDS[kind][0] == level and audit.of_kind(kind)]
        parts += [f"## {title.capitalize()}"] if kinds else []
        parts += [_section(audit, kind) for kind in kinds]
    return "\n\n".join(parts) + "\n"


def _section(audit: Audit, kind: str) -> str:
    found = audit.of_kind(kind)
    files = len({path for finding in found for path in finding.files})
    lines = [f"- {describe(audit, finding)}" for finding in found[:LISTED]]
    lines += [f"- and {len(found) - LISTED} more, all in audit.json"] if len(found) > LISTED else []
    return f"### {KINDS[kind][1].capitalize()}: {len(found)} ({files} files)\n\n" + "\n".join(lines)


def write_report(audit: Audit, folder: Path) -> None:
    """Write audit.json, audit.md and the PNGs into `folder`, which exists."""
    write_json(folder / "audit.json", to_mapping(audit))
    text = markdown(audit)
    write_atomically(folder / "audit.md", lambda path: path.write_text(text, encoding="utf-8"))
    counts = class_view_counts(audit.data, audit.frames)
    if audit.data.view_names:
        labels = ([*audit.data.names, "no box"], [*audit.data.view_names, "no view"])
        title = f"{len(audit.frames)} frames by box class and view"
        path = folder / "class_by_view.png"
        plot_confusion_matrix(counts, *labels, "box class", "view", title, path, colour=CLASSIFICATION)
    plot_boxes(audit, folder / "boxes.png")
    plot_balance(audit, folder / "balance.png")
    plot_suspicious(audit, folder / "suspicious.png")


# ---- pictures ----------------------------------------------------------------------------------------------


def plot_boxes(audit: Audit, path: Path) -> None:
    """Centres and sizes of the boxes as fractions of the image, a column for each of the most frequent classes."""
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
                ax.plot(own[:, first], own[:, first + 1], ".", color=colour, markersize=4, alpha=0.6, mew=0)
                ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
                ax.grid(True, axis="both")
            title = f"{_shorten(audit.data.names[number], 20)}  ({counts[number]})"
            axes[0, column].set_title(title, loc="left", fontsize=11, weight="bold")
            axes[0, column].set(xlabel="centre x", ylabel="centre y" if not column else "", ylim=(1, 0))
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


def _bars(ax: Axes, split: str, frames: int, counts: dict[str, int], order: int, splits: int, colour: str) -> None:
    height = 0.8 / splits
    y = np.arange(len(counts)) + (order - (splits - 1) / 2) * height
    shares = [count / frames for count in counts.values()]
    fill = 1 - SPLIT_TINTS[order] * (1 - np.array(to_rgb(colour)))
    ax.barh(y, shares, height * 0.9, label=f"{split} ({frames})", color=fill, edgecolor=colour)
    for position, share, count in zip(y, shares, counts.values(), strict=True):
        ax.annotate(str(count), (share, position), (3, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(np.arange(len(counts)), [_shorten(name, 22) for name in counts])


def _pairs(audit: Audit, kind: str) -> list[tuple[str, tuple[Path, ...]]]:
    """Pairs of readable files to be looked at side by side, and why; the boxes that agree least come first."""
    readable = {frame.path for frame in audit.frames if frame.size}
    found = sorted(audit.of_kind(kind), key=lambda finding: 1 if finding.iou is None else finding.iou)
    kept = [(finding.detail, [path for path in finding.files if path in readable]) for finding in found]
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
            text = textwrap.fill(f"{KINDS[kind][1]}: {detail}".rstrip(": "), 74, max_lines=2, placeholder=" …")
            ax.text(left, top + 10, text, fontsize=8.5, weight="bold", va="top", color=INK)
            for column, file in enumerate(files):
                x = left + column * (TILE + GAP)
                area = (x, top + 2 * CAPTION, x + TILE, top + 2 * CAPTION + tile_height)
                _draw_tile(ax, area, audit, frames[file])


def _draw_tile(ax: Axes, area: tuple[float, ...], audit: Audit, frame: Frame) -> None:
    view = frame.labels.view if frame.labels is not None else -1
    said = audit.data.view_names[view] if view >= 0 else "view unlabelled" if audit.data.view_names else ""
    caption = f"{_shorten(frame.path.stem, 28)}, {frame.split}\n{_shorten(said, 40)}"
    ax.text(area[0], area[1] + 4, caption, fontsize=8.5, va="bottom")
    boxes = frame.labels.boxes if frame.labels is not None else np.zeros((0, 5))
    centre, half = boxes[:, 1:3], boxes[:, 3:] / 2
    boxes_xyxy = np.hstack([centre - half, centre + half]) * np.array(frame.size * 2)
    drawn = {"boxes_xyxy": boxes_xyxy, "classes": boxes[:, 0].astype(int)}
    draw_frame(ax, area, _read_frame(frame.path), drawn, audit.data.names)
