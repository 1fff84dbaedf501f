"""Errors by kind: what is wrong with every detection, and what fixing each kind alone gives in AP.

D. Bolya, S. Foley, J. Hays, J. Hoffman: TIDE: A General Toolbox for Identifying Object Detection
Errors. ECCV 2020, arXiv:2008.08115. Their symbols and ours:

    t_f = 0.5       FOUND_IOU       from this IoU on a detection finds a true box of its class
    t_b = 0.1       NEAR_IOU        up to this IoU a detection has nothing to do with a true box
    IoU_max         own             a detection's highest IoU with a true box of its class
                    other           its highest IoU with a true box of another class

COCO's matches at t_f say which detections are right: by falling score, each takes the true box of
its class that it overlaps most among those not yet taken. Every other detection is of the first
kind below that fits (in their program's order), and every fix leaves the scores as they are:

    kind            what it is                              what the oracle does
    loose box       t_b <= own < t_f                        its box becomes the true box
    wrong class     other >= t_f                            its class becomes the true box's
    duplicate       own >= t_f, but its true box is taken   it is removed
    background      own and other <= t_b                    it is removed
    wrong both      the rest: t_b < other < t_f             it is removed: what was meant is unknown
    missed          a true box that no detection is right   the true box is dropped from the truth
                    about, nor would be, if loose boxes
                    and wrong classes were fixed

A loose box or wrong class that is fixed becomes right, with two exceptions, for which it is
removed instead: its true box is taken already, or one of the same kind with a higher score is
fixed into that box. The gain of a kind is

    delta AP(kind) = mAP_0.5(kind fixed, all others left) - mAP_0.5

by COCO's AP at t_f, mean over the classes that have a true box. Gains do not add up: one fix can
hide behind another.

Counts are of the detections from a confidence on, the one of P, R and F1; a detection counts for
the class it names, a missed box for its own. At a higher confidence no detection changes its kind,
but boxes become missed. Gains are of all detections, as AP is: boxes that are missed at that
confidence but found below it add nothing to the gain of "missed".

Where this deviates from TIDE, and why:

- Classes without a true box are outside the mean, as in COCO; TIDE counts them as 0 if they are
  ever named.
- A class all of whose boxes are missed has no truth once that is fixed. Its AP is then 1 if it is
  never named, since nothing is left to find, and else 0. TIDE says 0, or leaves it out of the mean
  if it is never named.
- Each kind is fixed by itself. Where a loose box and a wrong class mean the same true box, their
  program lets only the higher score be fixed: fixing wrong classes then removes one for the sake of
  a loose box that stays, and gains less.
- 300 detections an image instead of 100, as all APs here.
- Their gains on top of these, of no false positive and of no false negative at all, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.evaluation.average_precision import coco_ap
from utils.evaluation.matching import NO_BOX, Matches
from utils.evaluation.results import nan_mean

FOUND_IOU = 0.5
NEAR_IOU = 0.1
KINDS = ("right", "loose box", "wrong class", "wrong both", "duplicate", "background", "missed")
NO_CLASS = -1


@dataclass(frozen=True)
class DetectionKinds:
    """Detections of all images by falling score, and the true boxes of all images."""

    scores: np.ndarray  # (m,)
    classes: np.ndarray  # (m,) int
    kinds: np.ndarray  # (m,) str, of `KINDS`
    meant: np.ndarray  # (m,) index of the true box found, or that would be if fixed; or `NO_BOX`
    true_classes: np.ndarray  # (n,) int; `NO_CLASS` where the box was dropped

    @property
    def is_missed(self) -> np.ndarray:
        """(n,) bool, of the true boxes."""
        return ~np.isin(np.arange(len(self.true_classes)), self.meant)

    def select(self, rows: np.ndarray) -> DetectionKinds:
        """Only some detections, (m,) bool or indices."""
        return replace(
            self,
            scores=self.scores[rows],
            classes=self.classes[rows],
            kinds=self.kinds[rows],
            meant=self.meant[rows],
        )

    def fixed(self, kind: str) -> DetectionKinds:
        """What the oracle of this kind of error makes of it."""
        if kind == "missed":
            left = np.where(self.is_missed, NO_CLASS, self.true_classes)
            return replace(self, true_classes=left)
        is_taken = np.isin(self.meant, self.meant[self.kinds == "right"])
        is_fixable = (self.kinds == kind) & (self.meant != NO_BOX) & ~is_taken
        fixable = np.flatnonzero(is_fixable)
        # The first detection that means a box is the one with the highest score
        boxes, first = np.unique(self.meant[fixable], return_index=True)
        chosen = fixable[first]
        kinds = self.kinds.copy()
        kinds[chosen] = "right"
        classes = self.classes.copy()
        classes[chosen] = self.true_classes[boxes]
        return replace(self, kinds=kinds, classes=classes).select(kinds != kind)

    def mean_ap(self, classes: np.ndarray) -> float:
        """COCO AP at `FOUND_IOU`, mean over `classes` (c,)."""
        return nan_mean([self._ap(index) for index in classes])

    def _ap(self, index: int) -> float:
        is_right = self.kinds[self.classes == index] == "right"
        boxes = (self.true_classes == index).sum()
        if not boxes:
            return float(not len(is_right))
        return coco_ap(is_right, boxes)


def error_kinds(names: Sequence[str], evaluation: Matches, confidence: float) -> dict[str, object]:
    """How many boxes are of which kind, and what fixing each kind gives in mAP at IoU 0.5.

    Args:
        confidence: from which on boxes are counted.

    Returns:
        `counts`, kind -> boxes of all classes; `per_class`, the same of each class beside its
        `name`; and `delta_mAP_0.5`, kind of error -> gain, NaN where there is no true box.
    """
    found = detection_kinds(evaluation)
    shown = found.select(found.scores >= confidence)
    rows = [{"name": name} | _counts(shown, index) for index, name in enumerate(names)]
    totals = {}
    for kind in KINDS:
        totals[kind] = sum(row[kind] for row in rows)
    present = np.unique(found.true_classes)
    ap = found.mean_ap(present)
    gains = {kind: found.fixed(kind).mean_ap(present) - ap for kind in KINDS[1:]}
    return {"counts": totals, "per_class": rows, "delta_mAP_0.5": gains}


def detection_kinds(evaluation: Matches) -> DetectionKinds:
    """The kind of every detection, and which true box it means."""
    overlaps = evaluation.overlaps
    kinds = _kinds(evaluation.box != NO_BOX, overlaps.own, overlaps.other)
    boxes = {
        "right": evaluation.box,
        "loose box": overlaps.own_box,
        "wrong class": overlaps.other_box,
    }
    meant = np.select([kinds == kind for kind in boxes], list(boxes.values()), NO_BOX)
    by_score = np.argsort(-evaluation.scores, kind="stable")
    classes = evaluation.found.classes
    everything = DetectionKinds(evaluation.scores, classes, kinds, meant, evaluation.truth.classes)
    return everything.select(by_score)


def _kinds(is_right: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The first kind that fits each detection, (m,) str."""
    fits = {
        "right": is_right,
        "loose box": (own >= NEAR_IOU) & (own < FOUND_IOU),
        "wrong class": other >= FOUND_IOU,
        "duplicate": own >= FOUND_IOU,
        "background": np.maximum(own, other) <= NEAR_IOU,
    }
    return np.select(list(fits.values()), list(fits), "wrong both")


def _counts(found: DetectionKinds, index: int) -> dict[str, int]:
    """Kind -> boxes of one class."""
    kinds = found.kinds[found.classes == index]
    missed = found.is_missed & (found.true_classes == index)
    return {kind: (kinds == kind).sum() for kind in KINDS} | {"missed": missed.sum()}
