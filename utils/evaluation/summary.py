"""Everything an evaluation reports, as plain types, and the one number by which epochs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from utils.core.names import TASKS
from utils.evaluation.detection import detection_metrics
from utils.evaluation.results import RESAMPLES, ImageResult, ViewPrior, group_draws, has_no_groups
from utils.evaluation.views import view_metrics


def summarise(
    results: Sequence[ImageResult],
    names: Sequence[str],
    view_names: Sequence[str],
    confidence: float | None = None,
    view_prior: ViewPrior | None = None,
    intervals: bool = True,
    tasks: Sequence[str] = TASKS,
) -> dict:
    """Everything an evaluation reports, as plain types that JSON can hold.

    `confidence` is the threshold of P, R, F1, localisation and confusion; None takes the one that maximises
    F1 here, if any does. Undefined figures are None. `intervals` adds 95 % bootstrap intervals over groups, which takes
    a second or two; without it there are none. `tasks` are those the model answers: "detection" and "views" are
    there for them only.
    """
    groups = [result.group for result in results]
    draws = group_draws(groups) if intervals else None
    parts = {
        "detection": ("detection", lambda: detection_metrics(results, names, confidence, draws)),
        "classification": ("views", lambda: view_metrics(results, names, view_names, view_prior, draws)),
    }
    metrics = _plain(
        {
            "names": names,
            "view_names": view_names,
            "images": len(results),
            "boxes": sum(len(result.true_classes) for result in results),
            **{parts[task][0]: parts[task][1]() for task in tasks},
            "interval_unit": "images"
            if has_no_groups(results)
            else f"patients (group_pattern), {len(set(groups))} groups",
            "resamples": RESAMPLES if intervals else 0,
        }
    )
    return metrics | {"fitness": fitness(metrics, tasks)}


def fitness(metrics: Mapping, tasks: Sequence[str] = TASKS) -> float:
    """How good an evaluation is for `tasks`: the mean of what each is judged by, of those that are defined.

    Detection: 0.1 AP50 + 0.9 AP50-95, as in YOLOv5. Classification: balanced view accuracy.
    """
    detection = metrics.get("detection", {"mAP_0.5": None})
    parts = {"classification": metrics.get("views", {}).get("balanced_accuracy"), "detection": None}
    if detection["mAP_0.5"] is not None:
        parts["detection"] = 0.1 * detection["mAP_0.5"] + 0.9 * detection["mAP_0.5:0.95"]
    defined = [parts[task] for task in tasks if parts[task] is not None]
    return sum(defined) / len(defined) if defined else 0.0


def _plain(value: object) -> object:
    """Numpy's types as Python's, NaN as None, so that JSON can hold the result."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if value != value else value  # only NaN differs from itself


def confidence_of(metrics: Mapping[str, dict]) -> float | None:
    """The threshold of a `summarise` result's boxes; None without boxes, or where no threshold finds any."""
    return metrics["detection"]["confidence"] if "detection" in metrics else None
