"""Fills the tables of docs/second-domain.md from finished comparisons.

python -m docs.second_domain.tables docs/results/second-domain --commit c7cd241

RUNS has a folder for each protocol of docs/second_domain, by its name. A comparison that is not
finished is named as missing. With all points of the label curve, it is drawn as well.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.core.arguments import script_parser
from utils.core.files import ROOT, markdown_table, write_text
from utils.core.script import UserError, run_script
from utils.evaluation.intervals import over_units
from utils.plots.style import CLASSIFICATION, DETECTION, new_figure

PAGE = ROOT / "docs" / "second-domain.md"
TABLES = {  # protocol -> the arm that others are compared with
    "transfer-chest": "scratch",
    "transfer-echo": "scratch",
    "interference": "stop-gradient",
}
LABELS = {"labels-5": "5", "labels-10": "10", "labels-20": "20", "labels-all": "all"}
ARMS = {"gradnorm": ("-", None), "stop-gradient": ("--", "white")}  # line, and what fills a dot
METRICS = {"mAP50": DETECTION, "view_balanced_accuracy": CLASSIFICATION}
TITLES = {"mAP50": "mAP50", "view_balanced_accuracy": "balanced accuracy of the view"}
FINE = "mAP50-95"  # where mAP50 has nothing left to tell arms apart
CURVE = "second_domain/label_curve.png"

Comparison = Mapping[str, Mapping]  # the content of comparison_results.json


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__, prog="python -m docs.second_domain.tables")
    parser.add_argument("runs", type=Path, help="the folder with the comparisons")
    parser.add_argument("--commit", required=True, help="that the trainings were done at")
    parser.add_argument("--page", type=Path, default=PAGE, help="to fill (default: the docs' page)")
    return parser.parse_args()


def read_finished(runs: Path) -> dict[str, Comparison]:
    """Protocol -> its results, of those that are finished.

    Raises:
        UserError: none is.
    """
    found = {}
    for name in (*TABLES, *LABELS):
        path = runs / name / "comparison_results.json"
        if path.is_file():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    if not found:
        raise UserError(
            f"{runs}: no finished comparison in it, expected folders such as interference; "
            "the page stays as it is"
        )
    return found


def mean_text(comparison: Comparison, arm: str, metric: str) -> str:
    mean, deviation = comparison["arms"][arm]["figures"][metric]
    return f"{mean:.3f} ± {deviation:.3f}"


def difference_text(comparison: Comparison, arm: str, reference: str, metric: str) -> list[str]:
    """Arm less reference, with its interval, and the comparison's word for it."""
    for own in comparison["differences"]:
        if (own["arm"], own["reference"], own["metric"]) == (arm, reference, metric):
            span = ""
            if own["low"] is not None:
                span = f" [{own['low']:+.3f}, {own['high']:+.3f}]"
            return [f"{own['value']:+.3f}{span}", own["word"]]
    return ["-", "-"]


def by_unit(comparison: Comparison, arm: str, metric: str) -> dict[tuple[int, ...], float]:
    """Fold and seed -> figure."""
    runs = comparison["arms"][arm]["runs"]
    return {tuple(run["unit"]): run["figures"][metric] for run in runs}


def exploratory_text(comparison: Comparison, arm: str, reference: str, metric: str) -> str:
    """Arm less reference, fold by fold, with its t interval; one seed a fold."""
    own, other = (by_unit(comparison, name, metric) for name in (arm, reference))
    estimate = over_units([own[unit] - other[unit] for unit in own])
    if estimate is None:  # the reference itself, or its figures
        return "-"
    low, high = estimate.interval()
    return f"{estimate.value:+.3f} [{low:+.3f}, {high:+.3f}]"


def comparison_table(comparison: Comparison, reference: str) -> str:
    """A row an arm: its figures, and how the detector differs from the reference's."""
    rows = []
    for arm in comparison["arms"]:
        coarse, view, fine = (mean_text(comparison, arm, metric) for metric in (*METRICS, FINE))
        differences = difference_text(comparison, arm, reference, "mAP50")
        finer = exploratory_text(comparison, arm, reference, FINE)
        rows.append([f"`{arm}`", coarse, *differences, fine, finer, view])
    less = f"less `{reference}`"
    header = ["arm", "mAP50", less, "in words", FINE, f"{less}, exploratory", "balanced accuracy"]
    return markdown_table(header, rows)


def label_table(found: Mapping[str, Comparison]) -> str:
    """A row a number of patients."""
    rows = []
    for name, patients in LABELS.items():
        if name in found:
            cells = [mean_text(found[name], arm, metric) for metric in METRICS for arm in ARMS]
            rows.append([patients, *cells])
    header = ["patients", *(f"{word}, `{arm}`" for word in ("mAP50", "balanced") for arm in ARMS)]
    return markdown_table(header, rows)


def draw_curve(found: Mapping[str, Comparison], path: Path) -> None:
    """Both metrics over the number of labelled patients: folds as dots, their mean as a line."""
    places = range(len(LABELS))
    with new_figure(path, 9, 3.6) as figure:
        axes = figure.subplots(1, len(METRICS))
        for ax, (metric, colour) in zip(axes, METRICS.items(), strict=True):
            for arm, (dashes, fill) in ARMS.items():
                arms = [found[name]["arms"][arm] for name in LABELS]
                means = [own["figures"][metric][0] for own in arms]
                ax.plot(places, means, dashes, color=colour, label=arm)
                dots = {"color": colour, "markersize": 5, "markerfacecolor": fill or colour}
                for place, own in zip(places, arms, strict=True):
                    values = [run["figures"][metric] for run in own["runs"]]
                    ax.plot([place] * len(values), values, "o", **dots)
            ax.set_xticks(places, LABELS.values())
            ax.set(xlabel="labelled patients", ylim=(0, 0.7))
            ax.set_title(TITLES[metric], loc="left", fontsize=11, weight="bold")
            ax.legend(loc="lower right")


def sections(found: Mapping[str, Comparison], commit: str, folder: Path) -> dict[str, str]:
    """Name of a part of the page -> its text."""
    stamp = f"Trained at `{commit}`."
    parts = {}
    for name, reference in TABLES.items():
        parts[name] = f"**Missing**: `{name}` is not finished."
        if name in found:
            parts[name] = f"{comparison_table(found[name], reference)}\n\n{stamp}"
    missing = [name for name in LABELS if name not in found]
    texts = []
    if len(missing) < len(LABELS):
        texts += [label_table(found), stamp]
    if missing:
        texts.append(f"**Missing**: {', '.join(missing)} are not finished.")
    else:
        draw_curve(found, folder / CURVE)
        texts.append(f"![Both metrics over labelled patients]({CURVE})")
        texts.append("Dots are folds, filled for `gradnorm`.")
    parts["labels"] = "\n\n".join(texts)
    return parts


def filled(page: str, parts: Mapping[str, str]) -> str:
    """The page with the text of every part between its two comments.

    Raises:
        UserError: the page has no such part.
    """
    for name, text in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not place.search(page):
            raise UserError(f"the page has no {begin} ... {end}")
        whole = f"{begin}\n{text}\n{end}"
        page = place.sub(lambda _, whole=whole: whole, page)
    return page


def fill(page: Path, runs: Path, commit: str) -> Sequence[str]:
    """Fill the page; returns what is missing."""
    found = read_finished(runs)
    parts = sections(found, commit, page.parent)
    write_text(page, filled(page.read_text(encoding="utf-8"), parts))
    return [name for name in (*TABLES, *LABELS) if name not in found]


def main() -> None:
    args = parse_args()
    missing = fill(args.page, args.runs, args.commit)
    print(f"{args.page}: filled; missing: {', '.join(missing) or 'nothing'}")


if __name__ == "__main__":
    run_script(main)
