"""The kinds of errors frame by frame; `utils.evaluation.error_kinds` counts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.evaluation.average_precision import coco_evaluation
from utils.evaluation.error_kinds import KINDS, NO_BOX, detection_kinds
from utils.evaluation.results import ImageResult


def frame_kinds(
    results: Sequence[ImageResult], class_count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every frame's detections the number in `KINDS`, and the true box that each is about.

    The latter is its number in the frame, or `NO_BOX`; (m,) int each.
    """
    counts = [len(result.scores) for result in results]
    nothing = np.zeros(0, int)
    if not sum(counts):
        return [(nothing, nothing) for _ in results]
    found = detection_kinds(coco_evaluation(results, class_count))
    # `found` is by falling score over all frames; back to the order of the frames
    scores = np.concatenate([result.scores for result in results])
    by_score = np.argsort(-scores, kind="stable")
    kinds = np.zeros(len(scores), int)
    meant = np.zeros(len(scores), int)
    kinds[by_score] = [KINDS.index(kind) for kind in found.kinds.tolist()]
    meant[by_score] = found.meant
    first_box = 0
    first = 0
    frames = []
    for result, count in zip(results, counts, strict=True):
        own = slice(first, first + count)
        numbers = np.where(meant[own] == NO_BOX, NO_BOX, meant[own] - first_box)
        frames.append((kinds[own], numbers))
        first += count
        first_box += len(result.true_classes)
    return frames
