"""What an audit prints and writes: a verdict, `audit.json`, `audit.md` and the pictures."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from utils.core.files import markdown_table, write_json, write_text
from utils.curation.audit import Audit, name_of, to_mapping
from utils.curation.findings import Finding
from utils.curation.frames import class_view_counts
from utils.curation.kinds import KINDS, LEVELS
from utils.curation.pictures import plot_balance, plot_boxes, plot_suspicious
from utils.curation.reference import NeighbourOracle
from utils.plots.evaluation import plot_confusion_matrix
from utils.plots.style import CLASSIFICATION, shorten

# Kinds whose details name what they are about, so that file names are left out.
SELF_EXPLAINED = ("shared_group", "shared_clip", "view_change", "rare_pair", "bad_label")
NAMED_FILES = 4  # of a finding in a line
LISTED = 12  # findings of a kind that audit.md names; audit.json has all
LISTED_ORDERS = 24  # of the view columns
VERDICT_LETTERS = 118  # a line
COUNTED = ("frames", "boxes", "groups", "clips")


def describe(audit: Audit, finding: Finding) -> str:
    """One finding in a line: in which files, unless its detail names them, and the detail."""
    detail = finding.detail.replace(f"{audit.data.root}{os.sep}", "")
    if finding.kind in SELF_EXPLAINED or not finding.files:
        return detail
    files = ", ".join(name_of(audit, path) for path in finding.files[:NAMED_FILES])
    more = len(finding.files) - NAMED_FILES
    if more > 0:
        files += f" and {more} more"
    if not detail:
        return files
    return f"{files}: {detail}"


def verdict(audit: Audit) -> str:
    """The audit on a screen: what there is, what was found, how good a score can be."""
    lines = [str(audit.data.source)]
    for name, split in to_mapping(audit)["splits"].items():
        counts = [f"{split[key]} {key}" for key in COUNTED if key in split]
        lines.append(f"  {name}: {', '.join(counts)}")
    for level, title in LEVELS.items():
        kinds = _kinds_found(audit, level)
        if kinds:
            lines.append(title)
        for kind in kinds:
            found = audit.of_kind(kind)
            meaning = audit.data.said(KINDS[kind][1])
            line = f"  {len(found):>5} {meaning}: {describe(audit, found[0])}"
            lines.append(shorten(line, VERDICT_LETTERS))
    return "\n".join([*lines, *_leak_lines(audit), *_reference_lines(audit), _summary(audit)])


def _kinds_found(audit: Audit, level: str) -> list[str]:
    return [kind for kind in KINDS if KINDS[kind][0] == level and audit.of_kind(kind)]


def _leak_lines(audit: Audit) -> list[str]:
    lines = []
    for what, found in (("group", audit.groups), ("clip", audit.clips)):
        if found and found.shared:
            touched = ", ".join(f"{share:.1%} of {split}" for split, share in found.touched.items())
            lines.append(
                f"{len(found.shared)} of {found.total} {what}s are in more than one split; "
                f"they hold {touched}"
            )
    return lines


def _reference_lines(audit: Audit) -> list[str]:
    """How alike boxes are drawn, and how good a score can be without any model.

    As far as there are clips or duplicates that show it.
    """
    lines = []
    duplicates = audit.of_kind("duplicate") + audit.of_kind("shared_duplicate")
    agreed = [finding.iou for finding in duplicates if finding.iou is not None]
    if agreed:
        lines.append(
            f"boxes drawn on identical pictures: IoU {np.median(agreed):.2f} "
            "(median over groups of the lowest)"
        )
    for name, found in audit.neighbour.items():
        if found.iou_quantiles:
            lines += _neighbour_lines(name, found)
    for name, found in audit.view.items():
        if found.with_clip:
            most_frequent = audit.data.said("most frequent view of the clip in training")
            lines.append(
                f"{name}: {most_frequent}: "
                f"accuracy {_metric(found.accuracy)} "
                f"(of the box's class: {_metric(found.class_lookup_accuracy)}; "
                f"of all: {_metric(found.majority_accuracy)})"
            )
    return lines


def _neighbour_lines(split: str, found: NeighbourOracle) -> list[str]:
    return [
        f"{split}: box of the clip's nearest training frame "
        f"({found.with_neighbour} of {found.frames} frames): "
        f"AP50 {_metric(found.map_50)}, AP50-95 {_metric(found.map_50_95)}, "
        f"AP30 {_metric(found.map_30)}",
        f"{split}: its IoU with the true box: median {found.iou_quantiles[50]:.2f}; "
        f"same class {found.same_class:.0%}, with IoU > 0.5 {found.same_class_iou_50:.0%}; "
        f"IoU > 0.75 {found.iou_75:.0%}; "
        f"median distance {found.median_distance:g} frames",
    ]


def _metric(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}"


def _summary(audit: Audit) -> str:
    counts = Counter(finding.level for finding in audit.findings)
    parts = []
    for level in LEVELS:
        plural = "s" * (counts[level] != 1)
        parts.append(f"{counts[level]} {level}{plural}")
    return f"verdict: {', '.join(parts)}"


def markdown(audit: Audit) -> str:
    """The audit as a document: tables, then every kind of finding with some of its files."""
    content = to_mapping(audit)
    sizes = [f"{size} ({count})" for size, count in content["sizes"].items()]
    parts = [
        f"# Audit of {Path(content['data']).name}",
        f"{_summary(audit).capitalize()}.",
        "## Splits",
        _split_table(content["splits"], audit.data.cls_title),
        f"Image sizes: {', '.join(sizes)}.",
    ]
    if audit.data.view_names:
        head = audit.data.said("## Frames by box class and view")
        parts += [head, _pair_table(content["class_by_view"])]
    references = _leak_lines(audit) + _reference_lines(audit)
    if references:
        parts += ["## How good a score can be", "\n".join(f"- {line}" for line in references)]
    if audit.column_orders:
        parts += [audit.data.said("## Orders of the view columns"), _order_table(audit)]
    for level, title in LEVELS.items():
        kinds = _kinds_found(audit, level)
        if kinds:
            parts.append(f"## {title.capitalize()}")
        parts += [_section(audit, kind) for kind in kinds]
    return "\n\n".join(parts) + "\n"


def _split_table(splits: dict[str, dict], cls_title: str) -> str:
    """A column a split; rows of counts, and of the share of frames with each class and view."""
    first = next(iter(splits.values()))
    rows = []
    for key in COUNTED:
        if key in first:
            rows.append([key, *(split[key] for split in splits.values())])
    for part, title in (("classes", "class"), ("views", cls_title)):
        for name in first[part]:
            shown = name
            if not name.startswith("no "):
                shown = f"{title} {name}"
            rows.append([shown, *(_share_text(split, part, name) for split in splits.values())])
    return markdown_table(["", *splits], rows, numeric=True)


def _share_text(split: dict, part: str, name: str) -> str:
    count = split[part][name]
    return f"{count} ({count / split['frames']:.1%})"


def _pair_table(pairs: dict[str, list]) -> str:
    rows = [[name, *row] for name, row in zip(pairs["rows"], pairs["frames"], strict=True)]
    return markdown_table(["", *pairs["columns"]], rows, numeric=True)


def _order_table(audit: Audit) -> str:
    rows = [[", ".join(order), f"{share:.1%}"] for order, share in audit.column_orders.items()]
    return markdown_table(["cls_names", "implausible frames"], rows[:LISTED_ORDERS], numeric=True)


def _section(audit: Audit, kind: str) -> str:
    found = audit.of_kind(kind)
    files = set()
    for finding in found:
        files |= set(finding.files)
    lines = [f"- {describe(audit, finding)}" for finding in found[:LISTED]]
    if len(found) > LISTED:
        lines.append(f"- and {len(found) - LISTED} more, all in audit.json")
    meaning = audit.data.said(KINDS[kind][1].capitalize())
    title = f"### {meaning}: {len(found)} ({len(files)} files)"
    return "\n".join([title, "", *lines])


def write_report(audit: Audit, folder: Path) -> None:
    """Write audit.json, audit.md and the PNGs into `folder`, which exists."""
    write_json(folder / "audit.json", to_mapping(audit))
    write_text(folder / "audit.md", markdown(audit))
    if audit.data.view_names:
        plot_confusion_matrix(
            class_view_counts(audit.data, audit.frames),
            [*audit.data.names, "no box"],
            [*audit.data.view_names, audit.data.said("no view")],
            "box class",
            audit.data.cls_title,
            audit.data.said(f"{len(audit.frames)} frames by box class and view"),
            folder / "class_by_view.png",
            colour=CLASSIFICATION,
        )
    plot_boxes(audit, folder / "boxes.png")
    plot_balance(audit, folder / "balance.png")
    plot_suspicious(audit, folder / "suspicious.png")
