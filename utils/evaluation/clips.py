"""What the frames of a clip, or the clips of a patient, say together.

Of a clip with F frames, s_fc the highest score of a box of class c in frame f (0 without a box),
and p_f the frame's view probabilities (zeros without an answer are no frame's):

    evidence of a class    e_c = mean over f of s_fc
    view                   p = mean over f of p_f
    a box of class c       s' = min(1, s (e_c / mean over classes of e_c) ** STRENGTH)
    any finding            max over c of e_c
    a patient              max over the patient's clips, class by class

Nothing is tracked and nothing is fitted. The mean does not grow with the length of a clip, as the
highest score of any frame does; it falls where a finding shows in a part of the frames only. A
patient has a finding if one of the clips shows it, hence the maximum. STRENGTH was picked on two
folds and measured on three others (docs/recipe.md).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.core.data_config import DataConfig
from utils.evaluation.results import ImageResult

STRENGTH = 0.25
LEAST_EVIDENCE = 1e-6  # so that no factor is infinite or undefined


@dataclass(frozen=True)
class Unit:
    """A clip or a patient: truth and evidence.

    Attributes:
        group: the patient, or `name` where patients are unknown.
        frames: how many there are.
        present: (classes,) bool, a frame has a true box of the class.
        evidence: (classes,) from 0 to 1.
        votes: (views,) frames that are labelled with each view.
        view_probabilities: (views,); empty without a view head.
    """

    name: str
    group: str
    frames: int
    present: np.ndarray
    evidence: np.ndarray
    votes: np.ndarray
    view_probabilities: np.ndarray


def highest_scores(scores: np.ndarray, classes: np.ndarray, class_count: int) -> np.ndarray:
    """(classes,) the highest score of each class in a frame; 0 where it has no box.

    Args:
        scores, classes: (n,) of the frame's boxes.
    """
    highest = np.zeros(class_count)
    np.maximum.at(highest, classes, scores)
    return highest


def class_evidence(highest: Sequence[np.ndarray]) -> np.ndarray:
    """(classes,) of a clip, from the `highest_scores` of its frames."""
    return np.mean(highest, axis=0)


def mean_view(probabilities: Iterable[np.ndarray]) -> np.ndarray:
    """(views,) of a clip, from its frames' probabilities; empty where no frame has any."""
    known = [frame for frame in probabilities if len(frame)]
    if not known:
        return np.zeros(0)
    return np.mean(known, axis=0)


def score_factors(evidence: np.ndarray, strength: float = STRENGTH) -> np.ndarray:
    """(classes,) what the scores of a clip's boxes are multiplied by; all 1 for one class.

    Args:
        evidence: (classes,) of the clip.
        strength: 0 leaves every score as it is.
    """
    floored = evidence + LEAST_EVIDENCE
    return (floored / floored.mean()) ** strength


def rescored(scores: np.ndarray, classes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """(n,) the scores of boxes times their class's factor, at most 1."""
    return np.minimum(scores * factors[classes], 1)


def clips_of(results: Sequence[ImageResult], data: DataConfig) -> dict[str, list[int]]:
    """Clip -> the numbers of its frames; frames that `clip_pattern` does not find are in none."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, result in enumerate(results):
        clip = data.clip_of(result.image)
        if clip:
            found[clip[0]].append(number)
    return dict(found)


def clip_units(
    results: Sequence[ImageResult],
    clips: Mapping[str, Sequence[int]],
    class_count: int,
    view_count: int,
) -> list[Unit]:
    """One a clip."""
    units = []
    for name, numbers in clips.items():
        frames = [results[number] for number in numbers]
        group = frames[0].group
        if group == frames[0].image:  # no patient is known
            group = name
        unit = Unit(
            name=name,
            group=group,
            frames=len(frames),
            present=_present(frames, class_count),
            evidence=class_evidence([_highest_of(frame, class_count) for frame in frames]),
            votes=_votes(frames, view_count),
            view_probabilities=mean_view(frame.view_probabilities for frame in frames),
        )
        units.append(unit)
    return units


def patient_units(clips: Sequence[Unit]) -> list[Unit]:
    """One a patient; it has no view, whose clips show several."""
    by_patient: dict[str, list[Unit]] = defaultdict(list)
    for clip in clips:
        by_patient[clip.group].append(clip)
    units = []
    for patient, own in by_patient.items():
        unit = Unit(
            name=patient,
            group=patient,
            frames=sum(clip.frames for clip in own),
            present=np.any([clip.present for clip in own], axis=0),
            evidence=patient_evidence([clip.evidence for clip in own]),
            votes=np.sum([clip.votes for clip in own], axis=0),
            view_probabilities=np.zeros(0),
        )
        units.append(unit)
    return units


def patient_evidence(clips: Sequence[np.ndarray]) -> np.ndarray:
    """(classes,) of a patient, from the evidence of all clips."""
    return np.max(clips, axis=0)


def with_clip_evidence(
    results: Sequence[ImageResult],
    clips: Mapping[str, Sequence[int]],
    class_count: int,
    strength: float = STRENGTH,
) -> list[ImageResult]:
    """The results with the boxes of clips rescored and sorted again; the rest stays as it is."""
    pooled = list(results)
    for numbers in clips.values():
        frames = [results[number] for number in numbers]
        highest = [_highest_of(frame, class_count) for frame in frames]
        factors = score_factors(class_evidence(highest), strength)
        for number, frame in zip(numbers, frames, strict=True):
            pooled[number] = _pooled(frame, factors)
    return pooled


def _pooled(frame: ImageResult, factors: np.ndarray) -> ImageResult:
    scores = rescored(frame.scores, frame.classes, factors)
    order = np.argsort(-scores, kind="stable")
    return dataclasses.replace(
        frame,
        boxes_xyxy=frame.boxes_xyxy[order],
        classes=frame.classes[order],
        scores=scores[order],
    )


def _highest_of(frame: ImageResult, class_count: int) -> np.ndarray:
    return highest_scores(frame.scores, frame.classes, class_count)


def _present(frames: Sequence[ImageResult], class_count: int) -> np.ndarray:
    """(classes,) bool: a frame has a true box of the class."""
    shown = np.concatenate([frame.true_classes for frame in frames])
    return np.bincount(shown, minlength=class_count) > 0


def _votes(frames: Sequence[ImageResult], view_count: int) -> np.ndarray:
    """(views,) how many frames are labelled with each."""
    known = [frame.true_view for frame in frames if frame.true_view >= 0]
    return np.bincount(known, minlength=view_count)
