"""Figures over the held-out frames of all folds together, where that has a meaning.

The headline of a cross-validation is the mean over folds and its spread. Frames of several folds go
into one figure only where nothing depends on a common scale of the folds' confidences, as five
models have none (Forman and Scholz, Apples-to-apples in cross-validation studies, 2010): the view
of frames and of clips, its calibration, and counts of boxes, each fold's at a threshold of its own.
Average precision is never pooled. A fold's threshold is the median of the other folds', so that it
was chosen on other patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

import numpy as np

from utils.comparison.words import said
from utils.core.data_config import DataConfig
from utils.core.files import markdown_table
from utils.core.names import TASKS
from utils.core.options import USUAL_CONFIDENCE
from utils.data.labels import UNKNOWN_VIEW, majority_view
from utils.evaluation.average_precision import match_predictions
from utils.evaluation.results import ImageResult, nan_mean
from utils.evaluation.views import view_metrics

COLUMNS = {  # figure -> heading
    "precision": "P",
    "recall": "R",
    "f1": "F1",
    "class_f1": "mean F1 of classes",
    "view_accuracy": "view acc.",
    "view_balanced_accuracy": "balanced",
    "view_macro_f1": "macro F1",
    "view_ece": "ECE",
    "clip_accuracy_vote": "clips, vote",
    "clip_accuracy_mean": "clips, mean",
}
NOTE = (
    "All held-out frames of the folds together: {frames} frames of {groups} groups (patients), "
    "{clips} clips whose view is known. P, R and F1 count the boxes of all classes, matched at "
    "IoU 0.5, each fold's at the median of the thresholds that the other folds chose. A clip's "
    "view is that of most of its frames (vote), or the one with the highest mean probability. "
    "Mean ± standard deviation over seeds. Average precision is not pooled: confidences of "
    "several models have no common scale."
)


@dataclass(frozen=True)
class Fold:
    """What a fold's model says of the frames that it has not seen.

    Attributes:
        results: of the held-out frames.
        confidence: the threshold with the best F1 on the fold's validation split; None where none
            finds a box.
    """

    results: Sequence[ImageResult]
    confidence: float | None = None


def other_folds_thresholds(chosen: Sequence[float | None]) -> list[float]:
    """For each fold the median of the others' thresholds; the usual one where no other has any.

    Args:
        chosen: each fold's own, with the best F1 on its validation split; None where none finds a
            box.
    """
    found = []
    for number in range(len(chosen)):
        others = [own for fold, own in enumerate(chosen) if fold != number and own is not None]
        threshold = USUAL_CONFIDENCE
        if others:
            threshold = median(others)
        found.append(threshold)
    return found


def out_of_fold(
    held_out: Mapping[str, Mapping[int, Sequence[Fold]]],
    tasks: Mapping[str, Sequence[str]],
    data: DataConfig,
) -> dict[str, list[dict]]:
    """Arm -> the `pooled` figures of each of its seeds.

    It is empty where the folds are none of a cross-validation.

    Args:
        held_out: arm -> seed -> its folds.
        tasks: arm -> those that it is trained for.
        data: of any fold; classes, views and clips are the same in all.
    """
    found = {}
    for arm, by_seed in held_out.items():
        if all(_is_cross_validation(folds) for folds in by_seed.values()):
            found[arm] = [pooled(folds, data, tasks[arm]) for folds in by_seed.values()]
    return found


def _is_cross_validation(folds: Sequence[Fold]) -> bool:
    """There is more than one fold, and no frame is held out twice."""
    images = [result.image for result in _all_results(folds)]
    return len(folds) > 1 and len(set(images)) == len(images)


def _all_results(folds: Iterable[Fold]) -> list[ImageResult]:
    results = []
    for fold in folds:
        results += fold.results
    return results


def pooled(
    folds: Sequence[Fold], data: DataConfig, tasks: Sequence[str] = TASKS
) -> dict[str, object]:
    """The figures of one training a fold over all held-out frames, as plain values.

    Returns:
        "frames", "groups" and "clips", how many; "figures", by the names in `COLUMNS`, None where
        undefined; "classes", a row for each with its counts; "thresholds" of the folds.
    """
    results = _all_results(folds)
    chosen = other_folds_thresholds([fold.confidence for fold in folds])
    clips = _clips(results, data)
    figures = {}
    classes = []
    if "detection" in tasks:
        classes = _class_rows(folds, chosen, data.names)
        figures |= _box_figures(classes)
    if "classification" in tasks:
        figures |= _view_figures(results, data) | _clip_figures(clips)
    return {
        "frames": len(results),
        "groups": len({result.group for result in results}),
        "clips": len(clips),
        "figures": {name: _plain(value) for name, value in figures.items()},
        "classes": classes,
        "thresholds": chosen,
    }


def _plain(value: float) -> float | None:
    if np.isnan(value):
        return None
    return float(value)


def _class_rows(folds: Sequence[Fold], chosen: Sequence[float], names: Sequence[str]) -> list[dict]:
    """Each class's boxes found, found wrongly and missed, and the groups that show it."""
    found, predicted, true = np.zeros((3, len(names)), int)
    groups: list[set[str]] = [set() for _ in names]
    for fold, threshold in zip(folds, chosen, strict=True):
        for result in fold.results:
            kept = result.scores >= threshold
            classes = result.classes[kept]
            true_classes = result.true_classes
            matches, _ = match_predictions(
                result.boxes_xyxy[kept], classes, result.true_boxes_xyxy, true_classes
            )
            found += np.bincount(classes[matches[:, 0]], minlength=len(names))
            predicted += np.bincount(classes, minlength=len(names))
            true += np.bincount(true_classes, minlength=len(names))
            for number in np.unique(true_classes):
                groups[number].add(result.group)
    rows = []
    for index, name in enumerate(names):
        row = {
            "name": name,
            "groups": len(groups[index]),
            "found": int(found[index]),
            "wrong": int(predicted[index] - found[index]),
            "missed": int(true[index] - found[index]),
        }
        rows.append(row)
    return rows


def _box_figures(rows: Sequence[Mapping]) -> dict[str, float]:
    """Of the counts of all classes, and the mean F1 over the classes that are there."""
    found = np.array([row["found"] for row in rows])
    wrong = np.array([row["wrong"] for row in rows])
    missed = np.array([row["missed"] for row in rows])
    present = found + missed > 0
    return {
        "precision": _share(found.sum(), (found + wrong).sum()),
        "recall": _share(found.sum(), (found + missed).sum()),
        "f1": _share(2 * found.sum(), (2 * found + wrong + missed).sum()),
        "class_f1": nan_mean(2 * found[present] / (2 * found + wrong + missed)[present]),
    }


def _share(part: float, whole: float) -> float:
    if not whole:
        return np.nan
    return part / whole


def _view_figures(results: Sequence[ImageResult], data: DataConfig) -> dict[str, float]:
    metrics = view_metrics(results, data.names, data.view_names)
    names = ("accuracy", "balanced_accuracy", "macro_f1", "ece")
    return {f"view_{name}": metrics[name] for name in names}


@dataclass(frozen=True)
class _Clip:
    """A clip's view and what the model says of its frames, (frames, views) probabilities."""

    view: int
    probabilities: np.ndarray


def _clips(results: Iterable[ImageResult], data: DataConfig) -> list[_Clip]:
    """The clips with a known view, of frames whose view was predicted."""
    members: dict[str, list[ImageResult]] = {}
    for result in results:
        clip = data.clip_of(result.image)
        if clip and len(result.view_probabilities):
            members.setdefault(clip[0], []).append(result)
    clips = []
    for own in members.values():
        view = _true_view(own, len(data.view_names))
        if view != UNKNOWN_VIEW:
            clips.append(_Clip(view, np.array([result.view_probabilities for result in own])))
    return clips


def _true_view(results: Iterable[ImageResult], view_count: int) -> int:
    """The view that decides a clip; -1 where none does."""
    known = [result.true_view for result in results if result.true_view != UNKNOWN_VIEW]
    if not known:
        return UNKNOWN_VIEW
    return majority_view(np.bincount(known, minlength=view_count).tolist())


def _clip_figures(clips: Sequence[_Clip]) -> dict[str, float]:
    """The share of clips whose view is right: that of most frames, or of the mean probability.

    Of several views of equally many frames the first counts.
    """
    views = np.array([clip.view for clip in clips])
    votes = np.array([np.bincount(clip.probabilities.argmax(1)).argmax() for clip in clips])
    means = np.array([clip.probabilities.mean(0).argmax() for clip in clips])
    return {
        "clip_accuracy_vote": nan_mean(votes == views),
        "clip_accuracy_mean": nan_mean(means == views),
    }


def out_of_fold_section(results: Mapping) -> str:
    """The report's section on the pooled figures.

    Args:
        results: with what `out_of_fold` found as "out_of_fold".
    """
    arms = {arm: seeds for arm, seeds in results.get("out_of_fold", {}).items() if seeds}
    if not arms:
        return ""
    rows = []
    for arm, seeds in arms.items():
        cells = [_mean_and_deviation(seeds, name) for name in COLUMNS]
        rows.append([f"`{arm}`", *cells])
    headings = [said(results, heading) for heading in COLUMNS.values()]
    table = markdown_table(["arm", *headings], rows)
    first_seeds = [seeds[0] for seeds in arms.values()]
    counts = max(first_seeds, key=lambda pooled: pooled["clips"])  # of an arm with a view
    return f"## Out of fold\n\n{table}\n\n{said(results, NOTE).format(**counts)}"


def _mean_and_deviation(seeds: Sequence[Mapping], name: str) -> str:
    values = [seed["figures"].get(name) for seed in seeds]
    if None in values:
        return "-"
    mean = f"{fmean(values):.3f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {stdev(values):.3f}"
