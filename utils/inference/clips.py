"""Predictions of frames, pooled over their clips: see `utils.evaluation.clips`.

Every frame is looked at twice: the first time the model predicts, down to the confidence from which
boxes count as evidence; then each clip's boxes are rescored and those below the threshold dropped.
The second time frames are read only to be drawn, so that no clip has to fit into memory.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from utils.evaluation.clips import (
    STRENGTH,
    class_evidence,
    highest_scores,
    rescored,
    score_factors,
)
from utils.evaluation.evaluate import LEAST_CONFIDENCE
from utils.inference.predictor import Prediction, Predictor
from utils.inference.sources import Frame

MOST_BOXES = 300  # a frame, as in validation
ROUNDING = 1e-9


@dataclass(frozen=True)
class PooledFrames:
    """What was found in all frames of a run.

    Attributes:
        predictions: one a frame, in their order.
        evidence: clip -> (classes,); without clips of which no frame was scored.
    """

    predictions: list[Prediction]
    evidence: dict[str, np.ndarray]


def pooled_frames(
    batches: Iterable[Sequence[Frame]],
    predictor: Predictor,
    class_count: int,
    last_files: Mapping[str, Path],
) -> PooledFrames:
    """Predict every frame; boxes of a clip are rescored by the clip's evidence.

    Frames of no clip are predicted as they are without this.

    Args:
        last_files: clip -> the last file with frames of it. After it the clip's boxes are rescored,
            so that only those which are shown stay in memory.
    """
    attentive = predictor
    if predictor.confidence is not None:
        least = min(LEAST_CONFIDENCE, predictor.confidence)
        attentive = replace(
            predictor, confidence=least, max_detections=MOST_BOXES, several_labels=True
        )
    pool = _Pool(predictor, class_count)
    place = None  # file and clip of the frame before
    for batch in batches:
        predictions = _predictions(batch, predictor, attentive)
        for frame, prediction in zip(batch, predictions, strict=True):
            if place and place[0] != frame.path and last_files.get(place[1]) == place[0]:
                pool.rescore(place[1])
            pool.add(frame.clip, prediction)
            place = (frame.path, frame.clip)
    for clip in list(pool.waiting):
        pool.rescore(clip)
    return PooledFrames(pool.predictions, pool.evidence)


class _Pool:
    """What was found so far; `waiting` are the frames' numbers of clips that may go on."""

    def __init__(self, predictor: Predictor, class_count: int):
        self.predictions: list[Prediction] = []
        self.evidence: dict[str, np.ndarray] = {}
        self.waiting: dict[str, list[int]] = defaultdict(list)
        self._highest: dict[str, list[np.ndarray]] = defaultdict(list)
        self._predictor = predictor
        self._class_count = class_count

    def add(self, clip: str | None, prediction: Prediction) -> None:
        if clip is not None:
            self.waiting[clip].append(len(self.predictions))
            if prediction.is_scored:
                highest = highest_scores(prediction.scores, prediction.classes, self._class_count)
                self._highest[clip].append(highest)
            prediction = self._without_hopeless(prediction)
        self.predictions.append(prediction)

    def _without_hopeless(self, prediction: Prediction) -> Prediction:
        """Less the boxes that no evidence lifts to the confidence, since long clips have many."""
        if not len(prediction.classes):
            return prediction
        highest_factor = self._class_count**STRENGTH  # of a class that has all of the evidence
        kept = prediction.scores * highest_factor > self._predictor.confidence - ROUNDING
        return dataclasses.replace(
            prediction,
            boxes_xyxy=prediction.boxes_xyxy[kept],
            scores=prediction.scores[kept],
            classes=prediction.classes[kept],
        )

    def rescore(self, clip: str) -> None:
        """No further frame of the clip will come."""
        numbers = self.waiting.pop(clip)
        highest = self._highest.pop(clip, None)
        if highest is None:
            return
        evidence = class_evidence(highest)
        self.evidence[clip] = evidence
        for number in numbers:
            prediction = self.predictions[number]
            self.predictions[number] = with_evidence(prediction, evidence, self._predictor)


def _predictions(
    batch: Sequence[Frame], predictor: Predictor, attentive: Predictor
) -> list[Prediction]:
    """Of frames of no clip by the one, of others by the attentive one, in the frames' order."""
    alone = predictor.predict([frame.image for frame in batch if frame.clip is None])
    others = attentive.predict([frame.image for frame in batch if frame.clip is not None])
    answers = {True: iter(alone), False: iter(others)}
    return [next(answers[frame.clip is None]) for frame in batch]


def with_evidence(prediction: Prediction, evidence: np.ndarray, predictor: Predictor) -> Prediction:
    """The prediction with scores rescored by the clip's evidence, as its user asked for boxes.

    A box has its best class only, which the evidence may have changed.

    Args:
        prediction: with a box for every class that may be shown there.
        evidence: (classes,) of the clip.
        predictor: how sure and how many boxes are.
    """
    if not len(prediction.classes):
        return prediction
    scores = rescored(prediction.scores, prediction.classes, score_factors(evidence))
    order = np.argsort(-scores, kind="stable")
    _, first = np.unique(prediction.boxes_xyxy[order], axis=0, return_index=True)
    kept = order[np.sort(first)]
    kept = kept[scores[kept] > predictor.confidence][: predictor.max_detections]
    return dataclasses.replace(
        prediction,
        boxes_xyxy=prediction.boxes_xyxy[kept],
        scores=scores[kept],
        classes=prediction.classes[kept],
    )
