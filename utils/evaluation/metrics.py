"""What `metrics.json` holds, as plain types, and the one number by which epochs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from utils.core.names import TASKS
from utils.core.title import DEFAULT_TITLE
from utils.evaluation.detection import detection_metrics
from utils.evaluation.results import RESAMPLES, ImageResult, ViewPrior, group_draws, has_no_groups
from utils.evaluation.summary import Summary
from utils.evaluation.views import view_metrics


def summarise(
    results: Sequence[ImageResult],
    names: Sequence[str],
    view_names: Sequence[str],
    confidence: float | None = None,
    view_prior: ViewPrior | None = None,
    intervals: bool = True,
    tasks: Sequence[str] = TASKS,
    cls_title: str = DEFAULT_TITLE,
) -> Summary:
    """Everything an evaluation reports, as plain types that JSON can hold.

    `confidence` is the threshold of P, R, F1, localisation and confusion; None takes the one that
    maximises F1 here, if any does. Undefined figures are None. `tasks` are those the model answers:
    "detection" and "views" are there for them only. `cls_title` is what the data set calls a view.

    `intervals` adds 95 % intervals over groups, of this one training
    (`utils.evaluation.intervals`), which takes a second or two; without it there are none. Beside
    them are `effective_groups`, Kish's number of groups behind a figure, and
    `incomplete_resamples`, how many resamples lack a class or view: there the mean is over the
    others; without these, intervals of rare classes are too narrow
    (docs/explanation/statistics.md).
    """
    groups = [result.group for result in results]
    group_count = None
    interval_unit = "images"
    if not has_no_groups(results):
        group_count = len(set(groups))
        interval_unit = f"patients (group_pattern), {group_count} groups"
    resamples = 0
    resample_counts = None
    if intervals:
        resamples = RESAMPLES
        resample_counts = group_draws(groups)
    metrics = {
        "names": names,
        "view_names": view_names,
        "cls_title": cls_title,
        "images": len(results),
        "groups": group_count,
        "boxes": sum(len(result.true_classes) for result in results),
    }
    if "detection" in tasks:
        metrics["detection"] = detection_metrics(results, names, confidence, resample_counts)
    if "classification" in tasks:
        metrics["views"] = view_metrics(results, names, view_names, view_prior, resample_counts)
    metrics["interval_unit"] = interval_unit
    metrics["resamples"] = resamples
    summary = plain(metrics)
    summary["fitness"] = fitness(fitness_parts(summary, tasks))
    return summary


def fitness_parts(metrics: Summary, tasks: Sequence[str] = TASKS) -> dict[str, float]:
    """Task -> how good an evaluation is for it, from 0, useless, to 1, perfect.

    It has those of `tasks` that can be told.

    Detection: 0.1 AP50 + 0.9 AP50-95, as in YOLOv5. Classification: balanced view accuracy above
    chance, (b - 1 / views) / (1 - 1 / views).
    """
    parts = {}
    detection = metrics.get("detection", {})
    if "detection" in tasks and detection.get("mAP_0.5") is not None:
        parts["detection"] = 0.1 * detection["mAP_0.5"] + 0.9 * detection["mAP_0.5:0.95"]
    balanced = metrics.get("views", {}).get("balanced_accuracy")
    count = len(metrics.get("view_names", ()))
    if "classification" in tasks and balanced is not None and count > 1:
        parts["classification"] = (balanced - 1 / count) / (1 - 1 / count)
    return parts


def fitness(parts: Mapping[str, float], detection_scale: float = 1.0) -> float:
    """The mean of `fitness_parts`; 0 without any.

    Args:
        detection_scale: what the detection's part is divided by. To compare epochs of one training
            it is the highest part so far: AP50-95 moves by some thousandths where the view's
            accuracy moves by some hundredths, so that without a common scale the view's noise
            decides (98 % of the variance over 21 trainings).
    """
    scaled = dict(parts)
    if "detection" in scaled:
        scaled["detection"] /= detection_scale
    if not scaled:
        return 0.0
    return sum(scaled.values()) / len(scaled)


def plain(value: object) -> object:
    """Numpy's types as Python's, NaN as None, so that JSON can hold the result."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value != value:  # only NaN differs from itself
        return None
    return value


def confidence_of(metrics: Summary) -> float | None:
    """The threshold of the boxes; None without boxes, or where no threshold finds any."""
    if "detection" not in metrics:
        return None
    return metrics["detection"]["confidence"]
