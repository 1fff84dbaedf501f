"""The pictures of a comparison, drawn from the files of its folder and nothing else.

python -m utils.comparison.pictures runs/compare/exp     # draws them again
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from utils.comparison.kept import TRAININGS
from utils.comparison.words import said
from utils.core.arguments import script_parser
from utils.core.script import run_script
from utils.plots.interference import plot_interference
from utils.plots.style import CLASSIFICATION, DETECTION, GREY, INK, new_figure


@dataclass(frozen=True)
class Column:
    """A measure of all arms.

    Attributes:
        kind, key: where it stands in an arm's results.
        colour: the task's; grey for what is no accuracy.
        digits: of the mean, after the point.
        divisor: of the values, for the heading's unit.
        alone: the arm that trains the same task alone, if any.
    """

    kind: str
    key: str
    heading: str
    colour: str
    digits: int
    divisor: float = 1
    alone: str = ""

    @property
    def is_accuracy(self) -> bool:
        return self.colour != GREY


COLUMNS = (
    Column("figures", "mAP50", "mAP50", DETECTION, 3, alone="detection-only"),
    Column("figures", "mAP50-95", "mAP50-95", DETECTION, 3, alone="detection-only"),
    Column(
        "figures", "view_accuracy", "view accuracy", CLASSIFICATION, 3, alone="classification-only"
    ),
    Column(
        "figures",
        "view_balanced_accuracy",
        "balanced",
        CLASSIFICATION,
        3,
        alone="classification-only",
    ),
    Column("figures", "gflops", "GFLOPs", GREY, 2),
    Column("costs", "latency_ms", "latency, ms", GREY, 1),
    Column("costs", "training_s", "training, min", GREY, 1, divisor=60),
)
SHOWN_ARMS = ("fixed", "equal", "gradnorm")  # whose interference is drawn, if it was measured


def draw_comparison(folder: Path) -> None:
    """solution_comparison_analysis.png and .pdf, and interference.png."""
    results = json.loads((folder / "comparison_results.json").read_text(encoding="utf-8"))
    for suffix in ("png", "pdf"):
        plot_solutions(results, folder / f"solution_comparison_analysis.{suffix}")
    tables = _interference(folder)
    if tables:
        plot_interference(tables, folder / "interference.png")


def _interference(folder: Path) -> dict[str, pd.DataFrame]:
    """Arm -> the rows of interference.csv of all its trainings, of the arms that are shown."""
    record = json.loads((folder / TRAININGS).read_text(encoding="utf-8"))
    tables = {}
    for arm in SHOWN_ARMS:
        runs = [training["folder"] for training in record["trainings"] if training["arm"] == arm]
        logs = [folder / run / "interference.csv" for run in runs]
        found = [pd.read_csv(log, dtype={"place": str}) for log in logs if log.exists()]
        if found:
            tables[arm] = pd.concat(found)
    return tables


def plot_solutions(results: Mapping, path: Path) -> None:
    """A line for every arm, a column for every measure.

    Each training is a dot, beside their mean and standard deviation.

    Args:
        results: the content of comparison_results.json.
        path: the PNG or PDF to write.
    """
    arms = results["arms"]
    height = 2.2 + 0.42 * len(arms)
    with new_figure(path, 15, height) as figure:
        axes = figure.subplots(1, len(COLUMNS), sharey=True)
        for ax, column in zip(axes, COLUMNS, strict=True):
            _plot_column(ax, arms, column, said(results, column.heading))
        axes[0].set_yticks(range(len(arms)), list(arms), fontsize=10)
        axes[0].set_ylim(len(arms) - 0.4, -0.6)
        protocol = results["protocol"]
        title = (
            f"Accuracy of both tasks beside cost: {protocol['title']}, {protocol['split']} split, "
            f"{protocol['units']} trainings an arm"
        )
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, weight="bold")
        legend = (
            "small dots: single trainings; large dot and bar: mean and standard deviation; "
            "dashed: the same task trained alone"
        )
        figure.supxlabel(legend, fontsize=9.5, color=GREY)


def _plot_column(ax: Axes, arms: Mapping, column: Column, heading: str) -> None:
    for row, arm in enumerate(arms.values()):
        if column.key in arm[column.kind]:
            _plot_arm(ax, row, arm, column)
    if column.alone in arms:
        pair = arms[column.alone][column.kind].get(column.key)
        if pair:
            ax.axvline(pair[0], color=column.colour, linestyle="--", linewidth=1, alpha=0.7)
    title_colour = INK
    if column.is_accuracy:
        title_colour = column.colour
    ax.set_title(heading, loc="left", fontsize=10.5, weight="bold", color=title_colour)
    ax.grid(True, axis="both")
    ax.margins(x=0.25)
    if not column.is_accuracy:
        ax.set_xlim(left=0)
        if ax.dataLim.x1 > 0:  # else nothing was measured
            ax.set_xlim(right=1.15 * ax.dataLim.x1)  # arms of one cost stand within, too
    ax.tick_params(axis="both", length=0, labelsize=8.5)


def _plot_arm(ax: Axes, row: int, arm: Mapping, column: Column) -> None:
    """The trainings of an arm as small dots, their mean as a large one with its deviation."""
    mean, deviation = arm[column.kind][column.key]
    mean = mean / column.divisor
    deviation = (deviation or 0) / column.divisor
    colour = column.colour
    if column.is_accuracy:
        found = [run[column.kind][column.key] for run in arm["runs"]]
        values = [value / column.divisor for value in found if value is not None]
        rows = [row + 0.22] * len(values)
        ax.plot(values, rows, "o", color=colour, markersize=2.5, alpha=0.6)
    line_style = {"color": colour, "markersize": 6, "capsize": 3, "linewidth": 1.5}
    ax.errorbar(mean, row, xerr=deviation, fmt="o", **line_style)
    text = f"{mean:.{column.digits}f}"
    ax.annotate(text, (mean, row), (0, 6), textcoords="offset points", ha="center", fontsize=7.5)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folder", type=Path, help="of a comparison")
    draw_comparison(parser.parse_args(arguments).folder)


if __name__ == "__main__":
    run_script(main)
