"""How an audit is told: a verdict for the terminal, `audit.json`, `audit.md` and the pictures."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from utils.core.files import markdown_table, write_atomically, write_json
from utils.curation.audit import Audit, name_of, to_mapping
from utils.curation.findings import Finding
from utils.curation.frames import class_view_counts
from utils.curation.kinds import KINDS, LEVELS
from utils.curation.pictures import plot_balance, plot_boxes, plot_suspicious
from utils.plots.evaluation import plot_confusion_matrix
from utils.plots.style import CLASSIFICATION, shorten

SELF_EXPLAINED = (
    "shared_group",
    "shared_clip",
    "view_change",
    "rare_pair",
    "bad_label",
)  # without file names
LISTED = 12  # findings of a kind that audit.md names; audit.json has all


def describe(audit: Audit, finding: Finding) -> str:
    """One finding in a line: what and, where that does not say it, in which files."""
    shown = () if finding.kind in SELF_EXPLAINED else finding.files
    files = ", ".join(name_of(audit, path) for path in shown[:4])
    files += f" and {len(shown) - 4} more" if len(shown) > 4 else ""
    return ": ".join(
        filter(None, [files, finding.detail.replace(f"{audit.data.root}{os.sep}", "")])
    )


def verdict(audit: Audit) -> str:
    """The audit on a screen: what there is, what was found, how good a score can be."""
    lines = [str(audit.data.source)]
    for name, split in to_mapping(audit)["splits"].items():
        counts = (
            f"{split[key]} {key}" for key in ("frames", "boxes", "groups", "clips") if key in split
        )
        lines.append(f"  {name}: {', '.join(counts)}")
    for level, title in LEVELS.items():
        kinds = [kind for kind in KINDS if KINDS[kind][0] == level and audit.of_kind(kind)]
        lines += [title] if kinds else []
        for kind in kinds:
            found = audit.of_kind(kind)
            lines.append(
                shorten(f"  {len(found):>5} {KINDS[kind][1]}: {describe(audit, found[0])}", 118)
            )
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
    agreed = [
        f.iou
        for kind in ("duplicate", "shared_duplicate")
        for f in audit.of_kind(kind)
        if f.iou is not None
    ]
    lines = (
        [
            f"boxes drawn on identical pictures: IoU {np.median(agreed):.2f} (median over groups of the lowest)"
        ]
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
    return "verdict: " + ", ".join(
        f"{counts[level]} {level}{'s' * (counts[level] != 1)}" for level in LEVELS
    )


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
                f"{split[part][name]} ({split[part][name] / split['frames']:.1%})"
                for split in splits.values()
            ]
    parts = [
        f"# Audit of {Path(content['data']).name}",
        f"{_summary(audit).capitalize()}.",
        "## Splits",
        markdown_table(
            ["", *splits], [[name, *cells] for name, cells in rows.items()], numeric=True
        ),
        f"Image sizes: {', '.join(f'{size} ({count})' for size, count in content['sizes'].items())}.",
    ]
    if audit.data.view_names:
        table = [[name, *row] for name, row in zip(pairs["rows"], pairs["frames"], strict=True)]
        parts += [
            "## Frames by box class and view",
            markdown_table(["", *pairs["columns"]], table, numeric=True),
        ]
    if references := [*_leak_lines(audit), *_reference_lines(audit)]:
        parts += ["## How good a score can be", "\n".join(f"- {line}" for line in references)]
    if audit.column_orders:
        orders = [
            [", ".join(order), f"{share:.1%}"] for order, share in audit.column_orders.items()
        ]
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
        plot_confusion_matrix(
            counts, *labels, "box class", "view", title, path, colour=CLASSIFICATION
        )
    plot_boxes(audit, folder / "boxes.png")
    plot_balance(audit, folder / "balance.png")
    plot_suspicious(audit, folder / "suspicious.png")
