"""How good predictions are by clip and by patient, see `utils.evaluation.clips`.

A clip, or a patient, is positive for a class if one of its frames has a true box of the class, and
called if its evidence reaches the confidence of the boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.names import TASKS
from utils.data.labels import majority_view
from utils.evaluation.average_precision import coco_evaluation, resampled_ap
from utils.evaluation.clips import (
    STRENGTH,
    Unit,
    clip_units,
    clips_of,
    patient_units,
    with_clip_evidence,
)
from utils.evaluation.intervals import figure_interval, kish
from utils.evaluation.results import ImageResult, group_draws
from utils.evaluation.roc import resampled_areas, roc_curve
from utils.evaluation.screening import frame_rates, interval_over_groups

ANY = "any finding"
BINS = 10


def clip_metrics(
    results: Sequence[ImageResult],
    data: DataConfig,
    confidence: float,
    tasks: Sequence[str] = TASKS,
) -> dict[str, object] | None:
    """The part `clips` of `utils.evaluation.summary.Summary`, as arrays, and NaN for None.

    Args:
        confidence: at which a clip or a patient is called.

    Returns:
        None where `clip_pattern` finds no clip. Patients are None where no `group_pattern` is.
    """
    members = clips_of(results, data)
    if not members:
        return None
    clips = clip_units(results, members, len(data.names), len(data.view_names))
    found = {
        "count": len(clips),
        "frames_outside": len(results) - sum(map(len, members.values())),
        "confidence": confidence,
        "strength": STRENGTH,
        "by_clip": None,
        "by_patient": None,
        "with_evidence": None,
        "view": None,
    }
    if "detection" in tasks:
        found["by_clip"] = findings(clips, data.names, confidence, "clip")
        found["with_evidence"] = _frame_ap(results, members, len(data.names))
        if data.group_pattern:
            patients = patient_units(clips)
            found["by_patient"] = findings(patients, data.names, confidence, "patient")
    if "classification" in tasks and data.view_names:
        found["view"] = view_by_clip(clips)
    return found


def findings(
    units: Sequence[Unit], names: Sequence[str], confidence: float, kind: str
) -> dict[str, object]:
    """AUROC, sensitivity and specificity of every class and any finding; their curves.

    Args:
        units: clips or patients.
        kind: what they are called.
    """
    present = np.array([unit.present for unit in units])
    evidence = np.array([unit.evidence for unit in units])
    groups = np.array([unit.group for unit in units])
    draws = group_draws(groups)
    known_groups = groups
    if len(set(groups)) == len(units):  # every unit by itself: Wilson's intervals
        known_groups = None
    rates = frame_rates(names, present, evidence >= confidence, known_groups, draws)
    rows = [rates["any"], *rates["per_class"]]
    truths = np.column_stack((present.any(axis=1), present)).T
    scores = np.column_stack((evidence.max(axis=1), evidence)).T
    curves = []
    for row, truth, score in zip(rows, truths, scores, strict=True):
        row |= _area(score, truth, groups, draws)
        if truth.any() and not truth.all():
            curves.append({"name": row["name"], "auroc": row["auroc"], **roc_curve(score, truth)})
    rows[0].pop("note")
    return {
        "count": len(units),
        "rows": rows,
        "notes": _cannot_be_measured(rows, kind),
        "roc": curves,
        "calibration": calibration(evidence.ravel(), present.ravel()),
    }


def _area(
    scores: np.ndarray, truth: np.ndarray, groups: np.ndarray, draws: np.ndarray
) -> dict[str, object]:
    """AUROC and its 95 % interval over groups; NaN where all, or none, are positive."""
    if truth.all() or not truth.any():
        return {"auroc": np.nan, "auroc_interval": np.full(2, np.nan)}
    area = resampled_areas(scores, truth, np.ones((1, len(scores))))[0]
    resampled = resampled_areas(scores, truth, draws)
    return {
        "auroc": area,
        "auroc_interval": figure_interval(area, resampled, _groups_behind(truth, groups)),
    }


def _groups_behind(truth: np.ndarray, groups: np.ndarray) -> float:
    """Kish's number of groups, which weigh by their shares of the positives and the negatives."""
    is_own = np.unique(groups)[:, None] == groups
    positives = is_own @ truth.astype(float) / truth.sum()
    negatives = is_own @ (~truth).astype(float) / (~truth).sum()
    return kish(positives + negatives)


def _cannot_be_measured(rows: Sequence[Mapping], kind: str) -> list[str]:
    """A sentence for every row that lacks positives or negatives."""
    notes = []
    for row in rows:
        name = row["name"]
        if not row["negatives"]:
            notes.append(
                f"{name}: every {kind} is positive, so AUROC and specificity cannot be measured"
            )
        elif not row["positives"]:
            notes.append(
                f"{name}: no {kind} is positive, so AUROC and sensitivity cannot be measured"
            )
    return notes


def calibration(probabilities: np.ndarray, is_true: np.ndarray) -> dict[str, np.ndarray]:
    """How often what is said with a probability is true, in `BINS` bins of equal width.

    Args:
        probabilities: (n,) from 0 to 1.
        is_true: (n,) bool.

    Returns:
        `said`, the mean probability, `true`, the share, and `count`, (bins,) each; NaN in an empty
        bin.
    """
    bins = np.clip(np.ceil(probabilities * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        said = np.bincount(bins, weights=probabilities, minlength=BINS) / count
        true = np.bincount(bins, weights=is_true, minlength=BINS) / count
    return {"said": said, "true": true, "count": count}


def view_by_clip(clips: Sequence[Unit]) -> dict[str, object]:
    """The clip's view against the majority of its frames' labels.

    Clips whose labels contradict each other without a majority, or that have none, are left out.
    """
    truths = np.array([majority_view(clip.votes) for clip in clips])
    answered = np.array([len(clip.view_probabilities) > 0 for clip in clips])
    labelled = np.array([clip.votes.any() for clip in clips])
    contradicting = np.array([(clip.votes > 0).sum() > 1 for clip in clips])
    chosen = np.flatnonzero((truths >= 0) & answered)
    decided = [clips[number] for number in chosen]
    said = np.array([clip.view_probabilities.argmax() for clip in decided], int)
    top = np.array([clip.view_probabilities.max() for clip in decided], float)
    is_right = said == truths[chosen]
    accuracy = np.nan
    interval = np.full(2, np.nan)
    if len(decided):
        groups = np.array([clip.group for clip in decided])
        everyone = np.ones(len(decided), bool)
        accuracy = is_right.mean()
        interval = interval_over_groups(is_right, everyone, groups, group_draws(groups))
    return {
        "clips": len(decided),
        "accuracy": accuracy,
        "accuracy_interval": interval,
        "contradicting": contradicting.sum(),
        "undecided": (labelled & (truths < 0)).sum(),
        "unlabelled": (~labelled).sum(),
        "calibration": calibration(top, is_right),
    }


def _frame_ap(
    results: Sequence[ImageResult], members: Mapping[str, Sequence[int]], class_count: int
) -> dict[str, float]:
    """COCO's AP of the frames, boxes rescored by the clip's evidence; means over the classes."""
    pooled = with_clip_evidence(results, members, class_count)
    once = np.ones((1, len(pooled)), int)
    ap = resampled_ap(coco_evaluation(pooled, class_count), once)[0]
    return {"mAP_0.5": ap[1], "mAP_0.5:0.95": ap[1:].mean(), "mAP_0.3": ap[0]}
