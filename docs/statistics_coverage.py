"""How often the 95 % intervals of a comparison hold the truth, simulated with what makes them.

    python -m docs.statistics_coverage    # some minutes

It prints the tables of docs/explanation/statistics.md and draws its picture; those of one training
are simulated in docs/one_training_coverage.py.

A made-up figure of an arm on a patient is the sum of what the training, the patient, and both
together do to it. A `Spread` has their standard deviations in the difference of two arms; every arm
has 1 / sqrt 2 of each. Patients have as many frames as one of the ten in `FRAMES`, and a figure is
the mean over frames. The true difference is zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from docs.one_training_coverage import (
    AP_REPETITIONS,
    EVEN,
    FRAMES,
    MANY_PATIENTS,
    RARE,
    REPETITIONS,
    cover_average_precision,
    cover_one_training,
)
from utils.comparison.outcomes import Outcome
from utils.comparison.protocol import Contrast
from utils.comparison.statistics import RESAMPLES, difference
from utils.core.arguments import script_parser
from utils.core.files import markdown_table
from utils.core.script import LOGGER, run_script
from utils.core.settings import whole_number
from utils.evaluation.intervals import kish
from utils.evaluation.results import group_draws
from utils.plots.style import CLASS_COLOURS, CLASSIFICATION, DETECTION, GREY, PALE, new_figure

ARMS = ("gradnorm", "fixed", "dual", "equal", "ratio-15")
CONTRAST = Contrast("gradnorm", "fixed", "mAP50")
SEEDS, PATIENTS = (2, 3, 5), (10, 30)
FOLDS, FOLD_SEEDS, FOLD_PATIENTS = 5, (1, 3), (25, 54)
LEVEL = 0.5  # of the figure
PICTURE = "docs/explanation/statistics_coverage.png"
LOW, HIGH = 0.925, 0.975  # where the coverage of a 95 % interval should lie


@dataclass(frozen=True)
class Spread:
    """Standard deviations in a difference of two arms: of training, patient and rest."""

    training: float
    patient: float
    rest: float


CASES = {
    "like mAP50": Spread(0.05, 0.12, 0.05),
    "like view accuracy": Spread(0.10, 0.12, 0.12),
    "trainings dominate": Spread(0.10, 0.05, 0.05),
    "patients dominate": Spread(0.01, 0.12, 0.05),
}
# Of the training set in a fold's difference: its standard deviation, and the share of the variance
# common to all folds
TRAINING_SETS = {"none": (0.0, 0.0), "0.03": (0.03, 0.0), "0.03, 30 % common": (0.03, 0.3)}


def outcome(
    arm: str, unit: tuple[int, int], figure: float, drawn: np.ndarray | None, patients: float
) -> Outcome:
    """A training of which nothing is known but one metric."""
    metric = CONTRAST.metric
    resampled = {} if drawn is None else {metric: drawn}
    return Outcome(arm, unit, {metric: figure}, {}, resampled, {metric: patients}, {})


def draw_arms(
    rng: np.random.Generator, spread: Spread, seeds: int, patients: int, factor: float
) -> np.ndarray:
    """Figures (arms, seeds, patients); the first arm's trainings vary `factor` times as much."""
    of_training = rng.normal(0, spread.training, (len(ARMS), seeds, 1))
    of_training[0] *= factor
    of_patient = rng.normal(0, spread.patient, (len(ARMS), 1, patients))
    rest = rng.normal(0, spread.rest, (len(ARMS), seeds, patients))
    return LEVEL + (of_training + of_patient + rest) / np.sqrt(2)


def cover_seeds(
    spread: Spread, seeds: int, patients: int, repetitions: int = REPETITIONS, factor: float = 1.0
) -> dict[str, float]:
    """Procedure -> the share of intervals that hold the truth: several seeds on one data set."""
    rng = np.random.default_rng([seeds, patients])
    draws = group_draws([f"{number:02}" for number in range(patients)], RESAMPLES)
    holds = {"t": 0, "percentiles": 0}
    for _ in range(repetitions):
        frames = rng.choice(FRAMES, patients)
        values = draw_arms(rng, spread, seeds, patients, factor)
        weights = draws * frames
        drawn = values[:2] @ (weights / weights.sum(axis=1, keepdims=True)).T  # (2, seeds, R)
        figures = values @ frames / frames.sum()
        outcomes = {arm: [] for arm in ARMS}
        for number, seed in np.ndindex(figures.shape):
            own = drawn[number, seed] if number < 2 else None
            outcomes[ARMS[number]].append(
                outcome(ARMS[number], (0, seed), float(figures[number, seed]), own, kish(frames))
            )
        low, high = difference(outcomes, CONTRAST).estimate.interval()
        holds["t"] += low <= 0 <= high
        low, high = percentiles(drawn[0] - drawn[1])
        holds["percentiles"] += low <= 0 <= high
    return {name: count / repetitions for name, count in holds.items()}


def percentiles(drawn: np.ndarray) -> np.ndarray:
    """What these intervals replaced: trainings (S, R) are drawn with replacement, too.

    Of the means over trainings, the middle 95 %.
    """
    seeds, resamples = drawn.shape
    shares = (
        np.random.default_rng(1).multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
        / seeds
    )
    return np.percentile(np.einsum("rs,sr->r", shares, drawn), [2.5, 97.5])


def cover_folds(
    spread: Spread,
    seeds: int,
    patients: int,
    training_set: tuple[float, float],
    repetitions: int = REPETITIONS,
) -> dict[str, float]:
    """Procedure -> the share of intervals that hold the truth: five folds of all patients."""
    rng = np.random.default_rng([seeds, patients])
    deviation, common = training_set
    fold_of = np.arange(patients) % FOLDS
    holds = {"t": 0, "Nadeau-Bengio": 0}
    for _ in range(repetitions):
        frames = rng.choice(FRAMES, patients)
        of_patient = rng.normal(0, spread.patient, patients)
        of_set = np.sqrt(common) * rng.normal(0, deviation) + np.sqrt(1 - common) * rng.normal(
            0, deviation, FOLDS
        )
        outcomes = {"gradnorm": [], "fixed": []}
        for fold, seed in np.ndindex(FOLDS, seeds):
            is_own = fold_of == fold
            of_frames = of_patient[is_own] + rng.normal(0, spread.rest, is_own.sum())
            figure = (
                np.average(of_frames, weights=frames[is_own])
                + of_set[fold]
                + rng.normal(0, spread.training)
            )
            outcomes["gradnorm"].append(outcome("gradnorm", (fold, seed), float(figure), None, 0))
            outcomes["fixed"].append(outcome("fixed", (fold, seed), 0.0, None, 0))
        found = difference(outcomes, CONTRAST)
        for name, estimate in (("t", found.estimate), ("Nadeau-Bengio", found.cautious)):
            low, high = estimate.interval()
            holds[name] += low <= 0 <= high
    return {name: count / repetitions for name, count in holds.items()}


# ---- tables and picture --------------------------------------------------------------------------

Coverage = dict[str, float]
SEED_CELLS = list(itertools.product(SEEDS, PATIENTS))
FOLD_CELLS = list(itertools.product(FOLD_SEEDS, FOLD_PATIENTS))
COLOURS = {
    **{"t": DETECTION, "Kish": DETECTION, "percentiles": CLASSIFICATION},
    **{"Nadeau-Bengio": CLASS_COLOURS[0], "count": CLASS_COLOURS[1], "complete": CLASS_COLOURS[3]},
}


def training_cells() -> dict[str, tuple[int, np.ndarray, bool]]:
    """A name for every combination of the arguments of `cover_one_training`."""
    frequencies = {"even": EVEN, "rare": RARE}
    frames = {"equal": False, "unequal": True}
    return {
        f"{patients} patients, {own} frames, {frequency} classes": (
            patients,
            frequencies[frequency],
            frames[own],
        )
        for patients, own, frequency in itertools.product(PATIENTS, frames, frequencies)
    }


def seed_table(repetitions: int) -> dict[str, list[Coverage]]:
    """Case -> the coverage for every pair of `SEED_CELLS`."""
    rows = {
        name: [cover_seeds(case, *cell, repetitions) for cell in SEED_CELLS]
        for name, case in CASES.items()
    }
    unequal = [
        cover_seeds(CASES["like mAP50"], *cell, repetitions, factor=2.0) for cell in SEED_CELLS
    ]
    return rows | {"like mAP50, one arm varies twice as much": unequal}


def fold_table(repetitions: int) -> dict[str, dict[str, list[Coverage]]]:
    """Training-set effect -> case -> the coverage for every pair of `FOLD_CELLS`."""
    return {
        effect: {name: _fold_row(case, training_set, repetitions) for name, case in CASES.items()}
        for effect, training_set in TRAINING_SETS.items()
    }


def _fold_row(case: Spread, training_set: tuple[float, float], repetitions: int) -> list[Coverage]:
    return [cover_folds(case, *cell, training_set, repetitions) for cell in FOLD_CELLS]


def training_table(repetitions: int) -> dict[str, Coverage]:
    """Name of the cell -> its coverage."""
    return {name: cover_one_training(*cell, repetitions) for name, cell in training_cells().items()}


def average_precision_table(
    repetitions: int, many_patients: int = MANY_PATIENTS
) -> dict[str, Coverage]:
    """Name of the cell -> its coverage; ten patients."""
    table = {}
    for name, cell in training_cells().items():
        if cell[0] == 10:
            table[name] = cover_average_precision(*cell, repetitions, many_patients)
    return table


def as_markdown(
    seeds: Mapping[str, list[Coverage]],
    folds: Mapping[str, Mapping[str, list[Coverage]]],
    trainings: Mapping[str, Coverage],
    average_precisions: Mapping[str, Coverage],
) -> str:
    header = ["case", "procedure", *(f"S {s}, P {p}" for s, p in SEED_CELLS)]
    rows = [
        [case, procedure, *(f"{cell[procedure]:.3f}" for cell in cells)]
        for case, cells in seeds.items()
        for procedure in cells[0]
    ]
    fold_rows = [
        [
            case,
            procedure,
            *(_range([cell[procedure] for cell in by_case[case]]) for by_case in folds.values()),
        ]
        for case, procedure in itertools.product(CASES, ("t", "Nadeau-Bengio"))
    ]
    tables = (
        markdown_table(header, rows),
        markdown_table(["case", "procedure", *folds], fold_rows),
        _training_rows("one training, mean of classes", trainings),
        _training_rows("one training, AP50", average_precisions),
    )
    return "\n\n".join(tables)


def _training_rows(heading: str, cells: Mapping[str, Coverage]) -> str:
    rows = [[name, *(f"{value:.3f}" for value in cell.values())] for name, cell in cells.items()]
    return markdown_table([heading, *next(iter(cells.values()))], rows)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def draw(
    seeds: Mapping[str, list[Coverage]],
    folds: Mapping[str, Mapping[str, list[Coverage]]],
    trainings: Mapping[str, Coverage],
    path: Path,
) -> None:
    """A panel for several seeds, folds and one training: a line a case, a dot a cell."""
    fold_rows = {
        f"{case}; {effect}": cells
        for effect, by_case in folds.items()
        for case, cells in by_case.items()
    }
    training_rows = {name: [cell] for name, cell in trainings.items()}
    panels = (
        ("seeds on one data set", seeds, ("percentiles", "t")),
        ("five folds; effect of the training set", fold_rows, ("Nadeau-Bengio", "t")),
        ("one training", training_rows, ("percentiles", "count", "complete", "Kish")),
    )
    with new_figure(path, 15, 4.6) as figure:
        for ax, (title, rows, procedures) in zip(figure.subplots(1, 3), panels, strict=True):
            _plot_panel(ax, rows, procedures)
            ax.set_title(title, loc="left", fontsize=11, weight="bold")
        figure.supxlabel(
            "share of 95 % intervals that hold the truth; grey: 0.925 to 0.975", fontsize=10
        )


def _plot_panel(ax: Axes, rows: Mapping[str, list[Coverage]], procedures: Sequence[str]) -> None:
    ax.axvspan(LOW, HIGH, color=PALE, linewidth=0)
    ax.axvline(0.95, color=GREY, linewidth=0.8)
    for procedure in procedures:
        points = [
            (cell[procedure], row) for row, cells in enumerate(rows.values()) for cell in cells
        ]
        ax.plot(
            *zip(*points, strict=True),
            "o",
            color=COLOURS[procedure],
            markersize=4.5,
            alpha=0.8,
            label=procedure,
        )
    ax.set_yticks(range(len(rows)), list(rows), fontsize=8.5)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0.6, 1.01)
    ax.grid(False)
    ax.legend(loc="lower left")


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--repetitions",
        type=whole_number(1),
        default=REPETITIONS,
        help=f"studies that are simulated (default: {REPETITIONS})",
    )
    parser.add_argument(
        "--out", type=Path, default=Path(PICTURE), help=f"picture (default: {PICTURE})"
    )
    args = parser.parse_args()
    tables = (
        seed_table(args.repetitions),
        fold_table(args.repetitions),
        training_table(args.repetitions),
    )
    draw(*tables, args.out)
    LOGGER.info(
        as_markdown(*tables, average_precision_table(min(args.repetitions, AP_REPETITIONS)))
    )


if __name__ == "__main__":
    run_script(main)
