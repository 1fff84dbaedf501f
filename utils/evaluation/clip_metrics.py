"""How good predictions are by clip and by patient, see `utils.evaluation.clips`.

A clip, or a patient, is positive for a class if one of its frames has a true box of the class, and
called if its evidence reaches a threshold, see `utils.evaluation.thresholds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.names import TASKS
from utils.core.options import USUAL_CONFIDENCE
from utils.data.labels import majority_view
from utils.evaluation.average_precision import coco_evaluation, match_predictions, resampled_ap
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
from utils.evaluation.risk_coverage import kept_from
from utils.evaluation.roc import resampled_areas, roc_curve
from utils.evaluation.screening import frame_rates, froc, interval_over_groups
from utils.evaluation.thresholds import Thresholds, evidence_threshold

ANY = "any finding"
BINS = 10


def clip_metrics(
    results: Sequence[ImageResult],
    data: DataConfig,
    kept: Thresholds,
    tasks: Sequence[str] = TASKS,
) -> dict[str, object] | None:
    """The part `clips` of `utils.evaluation.summary.Summary`, as arrays, and NaN for None.

    Args:
        kept: of the model's file; where it has none for clips, one is chosen here.

    Returns:
        None where `clip_pattern` finds no clip. Patients are None where no `group_pattern` is.
    """
    members = clips_of(results, data)
    if not members:
        return None
    clips = clip_units(results, members, len(data.names), len(data.view_names))
    threshold, source = _choose_threshold(kept.clip_evidence, clips)
    found = {
        "count": len(clips),
        "frames_outside": len(results) - sum(map(len, members.values())),
        "threshold": threshold,
        "threshold_source": source,
        "strength": STRENGTH,
        "by_clip": None,
        "by_patient": None,
        "froc": None,
        "with_evidence": None,
        "view": None,
    }
    if "detection" in tasks:
        found["by_clip"] = findings(clips, data.names, threshold, "clip")
        pooled = with_clip_evidence(results, members, len(data.names))
        found["with_evidence"] = _frame_ap(pooled, len(data.names))
        found["froc"] = froc_by_clip(pooled, members, data.names)
        if data.group_pattern:
            patients = patient_units(clips)
            found["by_patient"] = findings(patients, data.names, threshold, "patient")
    if "classification" in tasks and data.view_names:
        found["view"] = view_by_clip(clips, kept.view_probability)
    return found


def _choose_threshold(kept: float | None, clips: Sequence[Unit]) -> tuple[float, str]:
    """The threshold of evidence, and where it comes from."""
    if kept is not None:
        return kept, "the model's"
    best = evidence_threshold(clips)
    if best is not None:
        return best, "chosen here, where it flatters"
    return USUAL_CONFIDENCE, "the usual one of boxes, for want of any"


def findings(
    units: Sequence[Unit], names: Sequence[str], threshold: float, kind: str
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
    rates = frame_rates(names, present, evidence >= threshold, known_groups, draws)
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


def view_by_clip(
    clips: Sequence[Unit], least_probability: float | None = None
) -> dict[str, object]:
    """The clip's view against the majority of its frames' labels.

    Clips whose labels contradict each other without a majority, or that have none, are left out.

    Args:
        least_probability: a view of less is unknown.
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
    kept = None
    interval = np.full(2, np.nan)
    if len(decided):
        kept = kept_from(least_probability, top, is_right)
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
        "kept": kept,
        "calibration": calibration(top, is_right),
    }


def froc_by_clip(
    results: Sequence[ImageResult], clips: Mapping[str, Sequence[int]], names: Sequence[str]
) -> dict[str, object]:
    """FROC with clips for frames and findings for boxes, see `utils.evaluation.screening.froc`.

    A finding is a class that some frame of a clip has a true box of. It is found as soon as one of
    these is: a box of its class on it, IoU 0.5. False boxes are those of all frames of the clip.
    `any` is of clips that show something, found by any of their findings.

    Args:
        clips: clip -> the numbers of its frames.
    """
    marks = []
    any_marks = []
    findings = []
    for numbers in clips.values():
        frames = [results[number] for number in numbers]
        is_hit, scores, classes = _all_boxes(frames)
        marks.append(_best_hits(is_hit, scores, classes))
        any_marks.append(_best_hits(is_hit, scores, np.zeros_like(classes)))
        findings.append(np.unique(np.concatenate([frame.true_classes for frame in frames])))
    by_class = froc(names, *_joined(marks), np.concatenate(findings), len(clips))
    shows_something = np.zeros(sum(len(own) > 0 for own in findings), int)
    of_any = froc([ANY], *_joined(any_marks), shows_something, len(clips))
    return by_class | {"any": of_any["per_class"][0]}


def _all_boxes(frames: Sequence[ImageResult]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) each, of all boxes found in a clip: whether on a true one of its class; score; class."""
    is_hit = []
    for frame in frames:
        tp, _ = match_predictions(
            frame.boxes_xyxy, frame.classes, frame.true_boxes_xyxy, frame.true_classes
        )
        is_hit.append(tp[:, 0])
    scores = np.concatenate([frame.scores for frame in frames])
    classes = np.concatenate([frame.classes for frame in frames])
    return np.concatenate(is_hit), scores, classes


def _best_hits(
    is_hit: np.ndarray, scores: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of the false boxes, and of the best hit of each class."""
    order = np.argsort(-scores, kind="stable")
    hits = order[is_hit[order]]
    _, first = np.unique(classes[hits], return_index=True)
    kept = np.concatenate((np.flatnonzero(~is_hit), hits[first]))
    return is_hit[kept], scores[kept], classes[kept]


def _joined(marks: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    return [np.concatenate(part) for part in zip(*marks, strict=True)]


def _frame_ap(pooled: Sequence[ImageResult], class_count: int) -> dict[str, float]:
    """COCO's AP of the frames, boxes rescored by the clip's evidence; means over the classes."""
    once = np.ones((1, len(pooled)), int)
    ap = resampled_ap(coco_evaluation(pooled, class_count), once)[0]
    return {"mAP_0.5": ap[1], "mAP_0.5:0.95": ap[1:].mean(), "mAP_0.3": ap[0]}
