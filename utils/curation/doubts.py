"""Labels to doubt: what networks that never saw a frame say against its label.

**Views.** Confident learning (C. G. Northcutt, L. Jiang, I. L. Chuang: Confident Learning:
Estimating Uncertainty in Dataset Labels. JAIR 70, 2021) by the package cleanlab: a frame's doubt is
1 - its label quality (`get_label_quality_scores`, the default method), and `find_label_issues` says
which labels it takes for wrong.

**Boxes.** The kinds of mistakes of U. Tkachenko, A. Thyagarajan, J. Mueller: ObjectLab: Automated
Diagnosis of Mislabeled Images in Object Detection Data (2023), over our kinds of errors. What a
detection says against a label is how much more it scores than the one that is right about it,

    support            of a true box: the score of the detection that is right about it; 0 without
    odds(rival, own)   (rival + 0.01) / (own + 0.01)

    kind          what is doubted                                  evidence e
    class         a label at whose place another class is found    odds(its score, support)
    loose         a label that a detection overlaps a little       odds(its score, support)
    moved         the class's least supported label, where a       odds(that score, support)
                  detection of the class has no label
    no support    a label that nothing speaks against              odds(0, support)
    not labelled  nothing, where a detection is                    its score

Evidence of several kinds, and of several networks, has no common scale: a network may take one
class for another in every tenth frame and hardly ever miss a box. So each kind of evidence is
weighed, network by network, against what it would be if every label had been spoilt in that way: a
removed label leaves its support as a detection without a label, one with the rival's name turns its
odds over, one that was moved away, or that stands where nothing is, has no support. Where nothing
at all is labelled, detections are weighed by themselves, against all labels being removed: where
nearly every frame has a label, such a frame is one to look at, and where many have none, it is not.
Where mistakes would give m times the evidence e, and n times it was seen, the

    doubt   m / (m + n)

is the best fit that never falls with e (isotonic regression). Of mistakes that are as frequent as
each other, this puts the surest first, whatever their kind. A label gets the highest of its doubts,
and a detection speaks once. That nothing is found makes no machine remove a box.

**Clips.** Those whose frames are labelled with several views, with the view that is the likeliest
over the clip; the doubt is that of the most doubtful frame.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import isotonic_regression

from utils.core.data_config import DataConfig
from utils.core.script import UserError
from utils.data.labels import UNKNOWN_VIEW
from utils.evaluation.clips import clips_of, mean_view
from utils.evaluation.error_kinds import KINDS, NO_BOX
from utils.evaluation.frame_kinds import frame_kinds
from utils.evaluation.results import ImageResult

LEAST_SCORE = 0.05  # of a detection that speaks
NOISE = 0.01  # a score that says nothing
CLASS, LOOSE, MOVED = "class", "loose", "moved"
NO_SUPPORT, NOT_LABELLED = "no support", "not labelled"
EMPTY_FRAME = "empty frame"  # "not labelled" where the frame has no label at all
WEIGHED = (CLASS, LOOSE, MOVED, NO_SUPPORT, NOT_LABELLED, EMPTY_FRAME)
# Kind of error -> kind of doubt
DOUBTED = {
    "loose box": LOOSE,
    "wrong class": CLASS,
    "background": NOT_LABELLED,
    "wrong both": NOT_LABELLED,
}
LIKELY = 0.9  # above which a box is taken for wrong by a machine


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


def require_cleanlab() -> None:
    """Raise a `UserError` unless the package for views, of an optional extra, is installed."""
    try:
        importlib.import_module("cleanlab.filter")
    except ImportError as error:
        raise UserError(
            f"--predictions needs an extra package ({error}); install it: pip install '.[labels]'"
        ) from None


def _confident_learning(views: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each label's quality, 0 to 1, and whether it is taken for wrong."""
    require_cleanlab()
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

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
        frames = []
        for result, (kinds, meant) in zip(results, frame_kinds(results, class_count), strict=True):
            frames.append(_Frame(first + len(frames), result, kinds, meant))
        evidence = [own for frame in frames for own in frame.evidence()]
        mistakes = [own for frame in frames for own in frame.mistakes()]
        doubts += _one_each(_weighed(evidence, mistakes))
        first += len(results)
    return _ranked(doubts)


@dataclass(frozen=True)
class _Evidence:
    """Against a label, or against there being none; see the module's docstring."""

    kind: str
    strength: float
    frame: int = 0
    label: int = NO_BOX
    found: int = NO_BOX


def _odds(rival: float, support: float) -> float:
    return (rival + NOISE) / (support + NOISE)


@dataclass(frozen=True)
class _Frame:
    """What a network says of a frame; kinds and meant are those of `frame_kinds`."""

    number: int
    result: ImageResult
    kinds: np.ndarray
    meant: np.ndarray

    def evidence(self) -> Iterator[_Evidence]:
        """Against every label, and against there being none at a detection."""
        support = self._highest("right")
        doubted = set()  # labels against which a detection speaks
        unlabelled: dict[int, int] = {}  # class -> its surest detection without a label
        for d in np.flatnonzero(self.result.scores >= LEAST_SCORE).tolist():
            kind = DOUBTED.get(KINDS[self.kinds[d]])
            score, label = float(self.result.scores[d]), int(self.meant[d])
            if kind == NOT_LABELLED and not len(support):
                yield _Evidence(EMPTY_FRAME, score, self.number, found=d)
            elif kind == NOT_LABELLED:
                unlabelled.setdefault(int(self.result.classes[d]), d)
                yield _Evidence(kind, score, self.number, found=d)
            elif kind:
                doubted.add(label)
                yield _Evidence(kind, _odds(score, support[label]), self.number, label, d)
        for label in np.argsort(support, kind="stable").tolist():
            d = unlabelled.pop(int(self.result.true_classes[label]), None)
            if d is not None:
                strength = _odds(float(self.result.scores[d]), support[label])
                yield _Evidence(MOVED, strength, self.number, label, d)
            elif label not in doubted:
                yield _Evidence(NO_SUPPORT, _odds(0, support[label]), self.number, label)

    def mistakes(self) -> Iterator[_Evidence]:
        """What the evidence would be if each label had been spoilt in each way."""
        supports, rivals = self._highest("right"), self._highest("wrong class")
        for support, rival in zip(supports.tolist(), rivals.tolist(), strict=True):
            yield _Evidence(NO_SUPPORT, _odds(0, 0))
            if support >= LEAST_SCORE:
                yield _Evidence(CLASS, _odds(support, rival))
                yield _Evidence(LOOSE, _odds(support, 0))
                yield _Evidence(MOVED, _odds(support, 0))
                yield _Evidence(NOT_LABELLED, support)
                yield _Evidence(EMPTY_FRAME, support)

    def _highest(self, kind: str) -> np.ndarray:
        """Of each label the highest score of a detection of that kind which is about it, or 0."""
        highest = np.zeros(len(self.result.true_classes))
        own = self.kinds == KINDS.index(kind)
        np.maximum.at(highest, self.meant[own], self.result.scores[own])
        return highest


def _weighed(evidence: Sequence[_Evidence], mistakes: Sequence[_Evidence]) -> list[Doubt]:
    """What some mistake could have caused; the most doubtful first."""
    weighed = []
    for kind in WEIGHED:
        seen = [own for own in evidence if own.kind == kind]
        made = [own.strength for own in mistakes if own.kind == kind]
        shares = share_of_mistakes([own.strength for own in seen], made)
        weighed += zip(shares.tolist(), seen, strict=True)
    weighed.sort(key=lambda pair: (pair[0], pair[1].strength), reverse=True)
    doubts = []
    for doubt, own in weighed:
        if doubt > 0:
            is_issue = doubt > LIKELY and own.kind != NO_SUPPORT
            kind = NOT_LABELLED if own.kind == EMPTY_FRAME else own.kind
            found = Doubt("box", kind, own.frame, doubt, own.label, own.found)
            doubts.append(replace(found, is_issue=is_issue))
    return doubts


def _one_each(doubts: Sequence[Doubt]) -> list[Doubt]:
    """The first of every label and of every detection."""
    taken = set()
    chosen = []
    for own in doubts:
        places = set()
        if own.label != NO_BOX:
            places.add((own.frame, "label", own.label))
        if own.found != NO_BOX:
            places.add((own.frame, "found", own.found))
        if not places & taken:
            taken |= places
            chosen.append(own)
    return chosen


def share_of_mistakes(seen: Sequence[float], made: Sequence[float]) -> np.ndarray:
    """At each strength that was seen, mistakes among mistakes and what was seen; never falling.

    Args:
        seen: (n,) strengths of the evidence, whatever it comes from.
        made: (m,) strengths that mistakes would have.
    """
    strengths, places = np.unique(np.concatenate((seen, made)), return_inverse=True)
    counts = np.bincount(places)
    mistakes = np.bincount(places[len(seen) :], minlength=len(strengths))
    shares = isotonic_regression(mistakes / counts, weights=counts).x
    return shares[places[: len(seen)]]


def _ranked(doubts: Sequence[Doubt]) -> list[Doubt]:
    return sorted(doubts, key=lambda own: -own.doubt)
