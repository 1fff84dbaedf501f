"""Thresholds that a model's file keeps, chosen on validation frames: for other patients.

    of a clip's evidence    the highest mean over the classes of sensitivity + specificity - 1
                            (Youden 1950); also that of a patient, whose evidence is the best clip's
    of a view               the lowest probability from which `SURE` of the answers are right

On the frames on which they were chosen they flatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.names import TASKS
from utils.evaluation.clips import Unit, clip_units, clips_of
from utils.evaluation.results import ImageResult
from utils.evaluation.views import has_view

SURE = 0.8
# Task -> the threshold that goes with its network
BY_TASK = dict(zip(TASKS, ("clip_evidence", "view_probability"), strict=True))


@dataclass(frozen=True)
class Thresholds:
    """What a model's file keeps of them.

    Attributes:
        clip_evidence: from which a clip, or a patient, shows a finding; None where validation had
            no clips, or evidence did not tell them apart.
        view_probability: a view of less is unknown; None where no threshold reached `SURE`.
    """

    clip_evidence: float | None = None
    view_probability: float | None = None


def chosen_on(results: Sequence[ImageResult], data: DataConfig, tasks: Sequence[str]) -> Thresholds:
    """The thresholds that are best on these frames.

    Args:
        tasks: those the model answers.
    """
    evidence = None
    if "detection" in tasks:
        clips = clip_units(results, clips_of(results, data), len(data.names), len(data.view_names))
        evidence = evidence_threshold(clips)
    labelled = [result for result in results if has_view(result)]
    top = np.array([result.view_probabilities.max() for result in labelled])
    answers = [result.view_probabilities.argmax() == result.true_view for result in labelled]
    return Thresholds(evidence, view_threshold(top, np.array(answers, bool)))


def evidence_threshold(units: Sequence[Unit]) -> float | None:
    """The one at which clips are told apart best, halfway between two of them.

    Classes that no clip shows, or that every clip shows, have no say.
    """
    if not units:
        return None
    present = np.array([unit.present for unit in units])
    evidence = np.array([unit.evidence for unit in units])
    has_both = present.any(axis=0) & ~present.all(axis=0)
    values = np.unique(evidence[:, has_both])
    candidates = (values[1:] + values[:-1]) / 2
    gain = np.zeros(len(candidates))
    for number in np.flatnonzero(has_both):
        truth = present[:, number]
        gain += _share_from(candidates, evidence[truth, number])
        gain -= _share_from(candidates, evidence[~truth, number])
    if gain.max(initial=0) <= 0:
        return None
    return float(candidates[gain.argmax()])


def view_threshold(top: np.ndarray, is_right: np.ndarray) -> float | None:
    """The one that leaves the most answers, `SURE` of them right; 0 if all may stay.

    Args:
        top: (n,) the probability of each answer.
        is_right: (n,) bool.
    """
    order = np.argsort(-top, kind="stable")
    after = np.append(top[order][1:], -np.inf)
    is_end = after < top[order]  # what has the same probability is answered together
    accuracy = is_right[order].cumsum() / np.arange(1, len(top) + 1)
    enough = np.flatnonzero(is_end & (accuracy >= SURE - 1e-9))  # but for rounding
    if not len(enough):
        return None
    last = enough[-1]
    if last == len(top) - 1:
        return 0.0
    return float((top[order][last] + after[last]) / 2)


def _share_from(thresholds: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The share of the values that reach each threshold."""
    return 1 - np.searchsorted(np.sort(values), thresholds) / len(values)
