"""Labels to doubt: what networks that never saw a frame say against its label.

**Views.** Confident learning (C. G. Northcutt, L. Jiang, I. L. Chuang: Confident Learning:
Estimating Uncertainty in Dataset Labels. JAIR 70, 2021) by the package cleanlab: a frame's doubt is
1 - its label quality (`get_label_quality_scores`, the default method), and `find_label_issues` says
which labels it takes for wrong.

**Boxes.** The idea of U. Tkachenko, A. Thyagarajan, J. Mueller: ObjectLab: Automated Diagnosis of
Mislabeled Images in Object Detection Data (2023), over our kinds of errors. Scores of several
networks have no common scale, so evidence is how sure a detection is among the right ones: of a
network,

    q(s, c)   share of its right detections of class c whose score is at most s
    support   of a true box: q of the detection that is right about it; 0 without one
    silence   of class c: the mean support of its true boxes

    kind          what is doubted                                  doubt
    class         a label at whose place another class is found    q (1 - support)
    loose         a label that a detection overlaps a little       q (1 - IoU) (1 - support)
    not labelled  nothing, where a detection is                    q
    no support    a label that nothing is found at                 silence
    moved         the last two in one frame and of one class       the higher one

That nothing is found says less than that something is: silence is 1/2 for a class that is always
found, and no machine removes a box for it.

**Clips.** Those whose frames are labelled with several views, with the view that is the likeliest
over the clip; the doubt is that of the most doubtful frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torchvision.ops import box_iou

from utils.core.data_config import DataConfig
from utils.core.script import UserError
from utils.data.labels import UNKNOWN_VIEW
from utils.evaluation.clips import clips_of, mean_view
from utils.evaluation.error_kinds import KINDS, NO_BOX
from utils.evaluation.frame_kinds import frame_kinds
from utils.evaluation.results import ImageResult

LEAST_SCORE = 0.05  # of a detection that speaks
NOT_LABELLED, NO_SUPPORT, MOVED = "not labelled", "no support", "moved"
# Kind of error -> kind of doubt
DOUBTED = {
    "loose box": "loose",
    "wrong class": "class",
    "background": NOT_LABELLED,
    "wrong both": NOT_LABELLED,
}
LIKELY = 0.5  # above which a box is taken for wrong by a machine


@dataclass(frozen=True)
class Doubt:
    """A label that is doubted.

    Attributes:
        subject: "view", "box" or "clip".
        kind: of a box, see above; else the subject.
        frame: number of the frame; of a clip, its most doubtful one.
        doubt: 0 to 1.
        label: number of the true box in the frame, or `NO_BOX`.
        found: number of the detection in the frame, or `NO_BOX`.
        view: the likely one; -1 of a box.
        is_issue: taken for wrong without a person.
    """

    subject: str
    kind: str
    frame: int
    doubt: float
    label: int = NO_BOX
    found: int = NO_BOX
    view: int = UNKNOWN_VIEW
    is_issue: bool = False


def rank_views(results: Sequence[ImageResult]) -> list[Doubt]:
    """The frames whose view is known and which the network names another view, by falling doubt.

    Raises:
        UserError: cleanlab is not installed.
    """
    known = [number for number, own in enumerate(results) if _has_view(own)]
    if not known:
        return []
    views = np.array([results[number].true_view for number in known])
    said = np.array([results[number].view_probabilities for number in known], float)
    said /= said.sum(axis=1, keepdims=True)
    quality, is_issue = _confident_learning(views, said)
    doubts = []
    for number, view, own, good, wrong in zip(known, views, said, quality, is_issue, strict=True):
        likely = int(own.argmax())
        if likely != view:
            doubt = Doubt("view", "view", number, 1 - float(good), view=likely)
            doubts.append(replace(doubt, is_issue=bool(wrong)))
    return _ranked(doubts)


def _has_view(result: ImageResult) -> bool:
    return result.true_view != UNKNOWN_VIEW and len(result.view_probabilities) > 0


def _confident_learning(views: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each label's quality, 0 to 1, and whether it is taken for wrong."""
    try:
        from cleanlab.filter import find_label_issues  # of an optional extra
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise UserError(
            f"--predictions needs an extra package ({error}); install it: pip install '.[labels]'"
        ) from None
    quality = get_label_quality_scores(views, said)
    return quality, find_label_issues(views, said, n_jobs=1)


def rank_clips(
    results: Sequence[ImageResult], data: DataConfig, views: Sequence[Doubt]
) -> list[Doubt]:
    """The clips whose frames are labelled with several views, by falling doubt.

    Args:
        views: what `rank_views` found.
    """
    doubt_of = {own.frame: own.doubt for own in views}
    doubts = []
    for numbers in clips_of(results, data).values():
        labelled = [number for number in numbers if _has_view(results[number])]
        shown = {results[number].true_view for number in labelled}
        if len(shown) < 2:
            continue
        likely = int(mean_view(results[own].view_probabilities for own in numbers).argmax())
        worst = max(labelled, key=lambda number: doubt_of.get(number, 0))
        doubts.append(Doubt("clip", "clip", worst, doubt_of.get(worst, 0.0), view=likely))
    return _ranked(doubts)


def rank_boxes(parts: Sequence[Sequence[ImageResult]], class_count: int) -> list[Doubt]:
    """The boxes to doubt by falling doubt; frames are numbered over all parts.

    Args:
        parts: what each network predicted.
    """
    doubts = []
    first = 0
    for results in parts:
        frames = frame_kinds(results, class_count)
        sureness = _Sureness.of(results, frames, class_count)
        for number, (result, (kinds, meant)) in enumerate(zip(results, frames, strict=True)):
            doubts += _doubts_of(result, kinds, meant, sureness, first + number)
        first += len(results)
    return _ranked(doubts)


@dataclass(frozen=True)
class _Sureness:
    """How sure a network's right detections are.

    Attributes:
        scores: of each class, sorted.
        silence: (classes,) what it means that nothing is found.
    """

    scores: tuple[np.ndarray, ...]
    silence: tuple[float, ...]

    @classmethod
    def of(
        cls,
        results: Sequence[ImageResult],
        frames: Sequence[tuple[np.ndarray, np.ndarray]],
        class_count: int,
    ) -> _Sureness:
        scores = np.concatenate([result.scores for result in results])
        classes = np.concatenate([result.classes for result in results])
        kinds = np.concatenate([kinds for kinds, _ in frames])
        is_right = (kinds == KINDS.index("right")) & (scores >= LEAST_SCORE)
        true = np.concatenate([result.true_classes for result in results])
        counts = np.bincount(true, minlength=class_count)
        own = tuple(np.sort(scores[is_right & (classes == c)]) for c in range(class_count))
        silence = []
        for sorted_scores, count in zip(own, counts.tolist(), strict=True):
            found = len(sorted_scores)
            # The shares are 1 / found, 2 / found, ..., 1
            silence.append((found + 1) / 2 / max(count, 1) * (found > 0))
        return cls(own, tuple(silence))

    def share(self, score: float, box_class: int) -> float:
        """q of the module's docstring; 0 for a class that was never found."""
        scores = self.scores[box_class]
        return float(np.searchsorted(scores, score, side="right")) / max(len(scores), 1)


def _doubts_of(
    result: ImageResult, kinds: np.ndarray, meant: np.ndarray, sureness: _Sureness, frame: int
) -> list[Doubt]:
    """The doubts of one frame, at most one for a label and one for a detection."""
    kept = np.flatnonzero(result.scores >= LEAST_SCORE)
    shares = {int(d): sureness.share(result.scores[d], result.classes[d]) for d in kept}
    boxes = (result.boxes_xyxy, result.true_boxes_xyxy)
    iou = box_iou(*(torch.from_numpy(own) for own in boxes)).numpy()
    support = {int(meant[d]): shares[d] for d in shares if KINDS[kinds[d]] == "right"}
    of_labels: dict[int, Doubt] = {}
    unlabelled = []
    for d, share in shares.items():
        kind = DOUBTED.get(KINDS[kinds[d]])
        if kind == NOT_LABELLED:
            unlabelled.append(_box(kind, frame, share, found=d))
        elif kind:
            label = int(meant[d])
            doubt = share * (1 - support.get(label, 0))
            if kind == "loose":
                doubt *= 1 - iou[d, label]
            if label not in of_labels or doubt > of_labels[label].doubt:
                of_labels[label] = _box(kind, frame, doubt, label, d)
    for label, box_class in enumerate(result.true_classes.tolist()):
        if label not in of_labels and label not in support:
            of_labels[label] = _box(NO_SUPPORT, frame, sureness.silence[box_class], label)
    return _with_moved(list(of_labels.values()), unlabelled, result)


def _box(kind: str, frame: int, doubt: float, label: int = NO_BOX, found: int = NO_BOX) -> Doubt:
    return Doubt("box", kind, frame, float(doubt), label, found, is_issue=bool(doubt > LIKELY))


def _with_moved(
    of_labels: list[Doubt], unlabelled: list[Doubt], result: ImageResult
) -> list[Doubt]:
    """A label without support and an unlabelled box of its class are one doubt."""
    left = list(unlabelled)
    doubts = []
    for own in of_labels:
        box_class = result.true_classes[own.label]
        alike = [other for other in left if result.classes[other.found] == box_class]
        if own.kind == NO_SUPPORT and alike:
            other = max(alike, key=lambda one: one.doubt)
            left.remove(other)
            doubt = max(own.doubt, other.doubt)
            own = _box(MOVED, own.frame, doubt, own.label, other.found)
        doubts.append(own)
    return doubts + left


def _ranked(doubts: Sequence[Doubt]) -> list[Doubt]:
    return sorted(doubts, key=lambda own: -own.doubt)
