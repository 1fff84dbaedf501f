"""Predictions of frames, pooled over their clips: see `utils.evaluation.clips`.

Every frame is looked at twice: the first time the model predicts, down to the confidence from which
boxes count as evidence; then each clip's boxes are rescored and those below the threshold dropped.
The second time frames are read only to be drawn, so that no clip has to fit into memory.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.evaluation.clips import class_evidence, highest_scores, rescored, score_factors
from utils.evaluation.evaluate import LEAST_CONFIDENCE
from utils.inference.predictor import Prediction, Predictor
from utils.inference.sources import Frame

MOST_BOXES = 300  # a frame, as in validation


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
    batches: Iterable[Sequence[Frame]], predictor: Predictor, class_count: int
) -> PooledFrames:
    """Predict every frame; boxes of a clip are rescored by the clip's evidence.

    Frames of no clip are predicted as they are without this.
    """
    attentive = predictor
    if predictor.confidence is not None:
        least = min(LEAST_CONFIDENCE, predictor.confidence)
        attentive = replace(
            predictor, confidence=least, max_detections=MOST_BOXES, several_labels=True
        )
    predictions = []
    members: dict[str, list[int]] = defaultdict(list)
    for batch in batches:
        for number, frame in enumerate(batch, start=len(predictions)):
            if frame.clip is not None:
                members[frame.clip].append(number)
        predictions += _predictions(batch, predictor, attentive)
    evidence = {}
    for clip, numbers in members.items():
        own = [predictions[number] for number in numbers]
        scored = [prediction for prediction in own if prediction.is_scored]
        if not scored:
            continue
        highest = [highest_scores(one.scores, one.classes, class_count) for one in scored]
        evidence[clip] = class_evidence(highest)
        for number in numbers:
            predictions[number] = with_evidence(predictions[number], evidence[clip], predictor)
    return PooledFrames(predictions, evidence)


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
