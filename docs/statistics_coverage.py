"""How often the 95 % intervals of a comparison hold the truth, simulated with the functions that make them.

    python -m docs.statistics_coverage       # some minutes; prints the tables of docs/explanation/statistics.md, draws

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

from utils.comparison.outcomes import Outcome
from utils.comparison.protocol import Contrast
from utils.comparison.statistics import RESAMPLES, difference
from utils.core.arguments import script_parser
from utils.core.files import markdown_table
from utils.core.script import LOGGER, run_script
from utils.core.settings import whole_number
from utils.evaluation.average_precision import coco_evaluation, resampled_ap
from utils.evaluation.detection import box_counts
from utils.evaluation.intervals import figure_interval, kish
from utils.evaluation.results import ImageResult, effective_groups, group_draws
from utils.plots.style import CLASS_COLOURS, CLASSIFICATION, DETECTION, GREY, PALE, new_figure

FRAMES = np.array(
    [1, 8, 9, 10, 11, 17, 25, 29, 40, 68]
)  # of the ten validation patients of a real split
ARMS = ("gradnorm", "fixed", "dual", "equal", "tuned")
CONTRAST = Contrast("gradnorm", "fixed", "mAP50")
SEEDS, PATIENTS = (2, 3, 5), (10, 30)
FOLDS, FOLD_SEEDS, FOLD_PATIENTS = 5, (1, 3), (25, 54)
LEVEL = 0.5  # of the figure
REPETITIONS = 4000
LOW, HIGH = 0.925, 0.975  # where the coverage of a 95 % interval should lie


@dataclass(frozen=True)
class Spread:
    """Standard deviations in a difference of two arms: of the training, of the patient, of the rest."""

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
    """Procedure -> the share of intervals that hold the true difference, several seeds on one data set."""
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
    """What these intervals replaced: the middle 95 % of means over trainings (S, R) that are drawn with replacement."""
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
    """Procedure -> the share of intervals that hold the true difference, five folds of all patients."""
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


# ---- one training --------------------------------------------------------------------------------

BOX, ELSEWHERE = np.array([10.0, 10, 50, 50]), np.array([60.0, 60, 90, 90])
AP_REPETITIONS = 500
RARE, EVEN = np.array([0.55, 0.25, 0.15, 0.05]), np.full(4, 0.25)  # how frequent the classes are


def draw_classes(
    rng: np.random.Generator, patients: int, classes: np.ndarray, unequal: bool
) -> np.ndarray:
    """How many frames of each class a patient has, and how many of them are right, (2, patients, classes)."""
    frames = rng.choice(FRAMES, patients) if unequal else np.full(patients, 22)
    shares = rng.dirichlet(1.2 * classes, patients)  # a patient has one or two of the classes
    counts = rng.multinomial(frames, shares)
    skill = rng.normal(0, 1, (patients, 1)) + rng.normal(0, 0.5, counts.shape)
    return np.array([counts, rng.binomial(counts, 1 / (1 + np.exp(-0.2 - skill)))])


def cover_one_training(
    patients: int, classes: np.ndarray, unequal: bool, repetitions: int = REPETITIONS
) -> dict[str, float]:
    """Procedure -> the share of intervals that hold the true mean over classes of the share of frames that are right.

    `Kish` is the one that is used. `complete` leaves out resamples without a class, `count` takes
    patients as equal.
    """
    rng = np.random.default_rng([patients, unequal])
    counts, right = draw_classes(rng, 50_000, classes, unequal).sum(axis=1)
    truth, done = (right / counts).mean(), 0
    draws = group_draws([f"{number:02}" for number in range(patients)])
    holds = {"Kish": 0, "count": 0, "complete": 0, "percentiles": 0}
    while done < repetitions:
        counts, right = draw_classes(rng, patients, classes, unequal)
        if not counts.any(axis=0).all():
            continue  # where a class is missing, the figure is another one
        done += 1
        with np.errstate(invalid="ignore"):
            rates = (draws @ right) / (draws @ counts)  # (R, classes)
        value = (right.sum(axis=0) / counts.sum(axis=0)).mean()
        drawn, number = np.nanmean(rates, axis=1), kish((counts / counts.sum(axis=0)).sum(axis=1))
        intervals = {
            "Kish": figure_interval(value, drawn, number),
            "count": figure_interval(value, drawn, patients),
            "complete": figure_interval(value, rates.mean(axis=1), number),
            "percentiles": np.percentile(drawn, [2.5, 97.5]),
        }
        for name, (low, high) in intervals.items():
            holds[name] += low <= truth <= high
    return {name: count / repetitions for name, count in holds.items()}


def draw_boxes(
    rng: np.random.Generator, patients: int, classes: np.ndarray, unequal: bool
) -> list[ImageResult]:
    """Frames with a box each, found with a probability of the patient's and its class's, among false boxes."""
    results = []
    for patient, count in enumerate(
        rng.choice(FRAMES, patients) if unequal else np.full(patients, 22)
    ):
        shares, skill = (
            rng.dirichlet(1.2 * classes),
            rng.normal(0, 1) + rng.normal(0, 0.5, len(classes)),
        )
        for frame in range(count):
            results.append(
                _frame(
                    rng, f"{patient:03}", frame, rng.choice(len(classes), p=shares), skill, classes
                )
            )
    return results


def _frame(
    rng: np.random.Generator,
    patient: str,
    number: int,
    box_class: int,
    skill: np.ndarray,
    classes: np.ndarray,
) -> ImageResult:
    found = rng.binomial(1, 1 / (1 + np.exp(0.2 - skill[box_class])))
    false = rng.poisson(1.5)
    scores = np.clip(np.r_[rng.normal(0.6, 0.2, found), rng.normal(0.4, 0.2, false)], 0, 1)
    order = np.argsort(-scores)
    return ImageResult(
        image=f"{patient}-{number}",
        group=patient,
        height=100,
        width=100,
        true_boxes_xyxy=BOX[None],
        true_classes=np.array([box_class]),
        true_view=-1,
        boxes_xyxy=np.repeat([BOX, ELSEWHERE], [found, false], axis=0)[order],
        scores=scores[order],
        classes=np.r_[np.full(found, box_class), rng.choice(len(classes), false, p=classes)][order],
        view_probabilities=np.zeros(0),
    )


def cover_average_precision(
    patients: int, classes: np.ndarray, unequal: bool, repetitions: int = AP_REPETITIONS
) -> dict[str, float]:
    """As `cover_one_training`, of COCO's AP50 as it is evaluated; the truth is that of 1,500 patients."""
    rng = np.random.default_rng([patients, unequal])
    whole = draw_boxes(rng, 1500, classes, unequal)
    truth = _ap50(whole, np.ones((1, len(whole))))[0]
    holds, done = {"Kish": 0, "count": 0, "percentiles": 0}, 0
    while done < repetitions:
        results = draw_boxes(rng, patients, classes, unequal)
        counts = box_counts(results, len(classes))
        if not counts.any(axis=0).all():
            continue
        done += 1
        (value,) = _ap50(results, np.ones((1, len(results))))
        drawn = _ap50(results, group_draws([result.group for result in results]))
        intervals = {
            "Kish": figure_interval(value, drawn, effective_groups(results, counts)),
            "count": figure_interval(value, drawn, patients),
            "percentiles": np.percentile(drawn, [2.5, 97.5]),
        }
        for name, (low, high) in intervals.items():
            holds[name] += low <= truth <= high
    return {name: count / repetitions for name, count in holds.items()}


def _ap50(results: Sequence[ImageResult], draws: np.ndarray) -> np.ndarray:
    return resampled_ap(coco_evaluation(results, len(EVEN)), draws)[:, 1]


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


def average_precision_table(repetitions: int) -> dict[str, Coverage]:
    """Name of the cell -> its coverage; ten patients."""
    cells = {name: cell for name, cell in training_cells().items() if cell[0] == 10}
    return {name: cover_average_precision(*cell, repetitions) for name, cell in cells.items()}


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
        "--repetitions", type=whole_number(1), default=REPETITIONS, help=f"(default: {REPETITIONS})"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("docs/explanation/statistics_coverage.png")
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
