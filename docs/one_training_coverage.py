"""How often the 95 % intervals of one training's figures hold the truth.

docs/statistics_coverage.py prints what is simulated here. Patients have as many frames as one of
the ten in `FRAMES`, and one or two of the classes. Whether a frame is right depends on its patient
and its class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.evaluation.average_precision import coco_evaluation, resampled_ap
from utils.evaluation.detection import box_counts
from utils.evaluation.intervals import figure_interval, kish
from utils.evaluation.results import ImageResult, effective_groups, group_draws

# Of the ten validation patients of a real split
FRAMES = np.array([1, 8, 9, 10, 11, 17, 25, 29, 40, 68])
REPETITIONS = 4000
BOX, ELSEWHERE = np.array([10.0, 10, 50, 50]), np.array([60.0, 60, 90, 90])
AP_REPETITIONS = 500
MANY_PATIENTS = 1500  # whose AP is the truth
RARE, EVEN = np.array([0.55, 0.25, 0.15, 0.05]), np.full(4, 0.25)  # how frequent the classes are


def _frame_counts(rng: np.random.Generator, patients: int, unequal: bool) -> np.ndarray:
    """(patients,) how many frames each has."""
    if not unequal:
        return np.full(patients, 22)
    return rng.choice(FRAMES, patients)


def draw_classes(
    rng: np.random.Generator, patients: int, classes: np.ndarray, unequal: bool
) -> np.ndarray:
    """(2, patients, classes): a patient's frames of each class, and how many of them are right."""
    frames = _frame_counts(rng, patients, unequal)
    shares = rng.dirichlet(1.2 * classes, patients)  # a patient has one or two of the classes
    counts = rng.multinomial(frames, shares)
    skill = rng.normal(0, 1, (patients, 1)) + rng.normal(0, 0.5, counts.shape)
    return np.array([counts, rng.binomial(counts, 1 / (1 + np.exp(-0.2 - skill)))])


def cover_one_training(
    patients: int, classes: np.ndarray, unequal: bool, repetitions: int = REPETITIONS
) -> dict[str, float]:
    """Procedure -> the share of intervals that hold the truth.

    That is the mean over classes of the share of frames that are right.

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
    """Frames with a box each, among false boxes; patient and class decide how often it is found."""
    results = []
    for patient, count in enumerate(_frame_counts(rng, patients, unequal)):
        shares = rng.dirichlet(1.2 * classes)
        skill = rng.normal(0, 1) + rng.normal(0, 0.5, len(classes))
        for frame in range(count):
            box_class = rng.choice(len(classes), p=shares)
            results.append(_frame(rng, f"{patient:03}", frame, box_class, skill, classes))
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
    patients: int,
    classes: np.ndarray,
    unequal: bool,
    repetitions: int = AP_REPETITIONS,
    many_patients: int = MANY_PATIENTS,
) -> dict[str, float]:
    """As `cover_one_training`, of COCO's AP50; the truth is that of so many patients."""
    rng = np.random.default_rng([patients, unequal])
    whole = draw_boxes(rng, many_patients, classes, unequal)
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
