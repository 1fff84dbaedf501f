"""Errors by kind: what is wrong with every detection, and what mending each kind alone would give in AP.

D. Bolya, S. Foley, J. Hays, J. Hoffman: TIDE: A General Toolbox for Identifying Object Detection
Errors. ECCV 2020, arXiv:2008.08115. Their symbols and ours:

    t_f = 0.5       FOUND_IOU       from this IoU on a detection finds a true box of its class
    t_b = 0.1       NEAR_IOU        up to this IoU a detection has nothing to do with a true box
    IoU_max         own             a detection's highest IoU with a true box of its class
                    other           its highest IoU with a true box of another class

COCO's matches at t_f say which detections are right: by falling score, each takes the true box of
its class that it overlaps most among those not yet taken. Every other detection is of the first
kind below that fits (in their program's order), and every mend leaves the scores as they are:

    kind            what it is                                      what the oracle does
    loose box       t_b <= own < t_f                                its box becomes the true box
    wrong class     other >= t_f                                    its class becomes the true box's
    duplicate       own >= t_f, but its true box is taken           it is removed
    background      own and other <= t_b                            it is removed
    wrong both      the rest: t_b < other < t_f                     it is removed, since what was meant is unknown
    missed          a true box that no detection is right about,    the true box is dropped from the truth
                    nor would be, if loose boxes and wrong
                    classes were mended

A loose box or wrong class that is mended becomes right, with two exceptions, for which it is
removed instead: its true box is taken already, or one of the same kind with a higher score is
mended into that box. The gain of a kind is

    delta AP(kind) = mAP_0.5(kind mended, all others left) - mAP_0.5

by COCO's AP at t_f, mean over the classes that have a true box. Gains do not add up: one mend can
hide behind another.

Counts are of the detections from a confidence on, the one of P, R and F1; a detection counts for
the class it names, a missed box for its own. At a higher confidence no detection changes its kind,
but boxes become missed. Gains are of all detections, as AP is: boxes that are missed at that
confidence but found below it add nothing to the gain of "missed".

Where this deviates from TIDE, and why:

- Classes without a true box are outside the mean, as in COCO; TIDE counts them as 0 if they are
  ever named.
- A class all of whose boxes are missed has no truth once that is mended. Its AP is then 1 if it is
  never named, since nothing is left to find, and else 0. TIDE says 0, or leaves it out of the mean
  if it is never named.
- Each kind is mended by itself. Where a loose box and a wrong class mean the same true box, their
  program lets only the higher score mend: mending wrong classes then removes one for the sake of a
  loose box that stays, and gains less.
- 300 detections an image instead of 100, as all APs here.
- Their gains on top of these, of no false positive and of no false negative at all, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from utils.evaluation.average_precision import coco_ap, coco_matches
from utils.evaluation.results import ImageResult, nan_mean

FOUND_IOU, NEAR_IOU = 0.5, 0.1
KINDS = ("right", "loose box", "wrong class", "wrong both", "duplicate", "background", "missed")
NO_BOX, NO_CLASS = -1, -1


@dataclass(frozen=True)
class Judged:
    """Detections of all images by falling score, and the true boxes of all images."""

    scores: np.ndarray  # (m,)
    classes: np.ndarray  # (m,) int
    kinds: np.ndarray  # (m,) str, of `KINDS`
    meant: (
        np.ndarray
    )  # (m,) index of the true box that a detection finds, or would find if mended; or `NO_BOX`
    true_classes: np.ndarray  # (n,) int; `NO_CLASS` where the box was dropped

    @property
    def is_missed(self) -> np.ndarray:
        """(n,) bool, of the true boxes."""
        return ~np.isin(np.arange(len(self.true_classes)), self.meant)

    def select(self, rows: np.ndarray) -> Judged:
        """Only some detections, (m,) bool or indices."""
        chosen = {
            name: getattr(self, name)[rows] for name in ("scores", "classes", "kinds", "meant")
        }
        return replace(self, **chosen)

    def mend(self, kind: str) -> Judged:
        """What the oracle of this kind of error makes of it."""
        if kind == "missed":
            return replace(self, true_classes=np.where(self.is_missed, NO_CLASS, self.true_classes))
        taken = self.meant[self.kinds == "right"]
        mendable = np.flatnonzero(
            (self.kinds == kind) & (self.meant != NO_BOX) & ~np.isin(self.meant, taken)
        )
        boxes, first = np.unique(
            self.meant[mendable], return_index=True
        )  # the highest score of each box
        kinds, classes = self.kinds.copy(), self.classes.copy()
        kinds[mendable[first]] = "right"
        classes[mendable[first]] = self.true_classes[boxes]
        return replace(self, kinds=kinds, classes=classes).select(kinds != kind)

    def mean_ap(self, classes: np.ndarray) -> float:
        """COCO AP at `FOUND_IOU`, mean over `classes` (c,)."""
        return nan_mean([self._ap(index) for index in classes])

    def _ap(self, index: int) -> float:
        is_right = self.kinds[self.classes == index] == "right"
        boxes = (self.true_classes == index).sum()
        return coco_ap(is_right, boxes) if boxes else float(not len(is_right))


def error_kinds(
    results: Sequence[ImageResult], names: Sequence[str], evaluation: COCOeval, confidence: float
) -> dict:
    """How many boxes are of which kind from `confidence` on, and what mending each kind gives in mAP at IoU 0.5.

    Args:
        evaluation: `coco_evaluation` of the same results.

    Returns:
        `counts`, kind -> boxes of all classes; `per_class`, the same of each class beside its
        `name`; and `delta_mAP_0.5`, kind of error -> gain, NaN where there is no true box.
    """
    judged = judge(results, evaluation)
    shown = judged.select(judged.scores >= confidence)
    rows = [{"name": name} | _counts(shown, index) for index, name in enumerate(names)]
    present = np.unique(judged.true_classes)
    ap = judged.mean_ap(present)
    return {
        "counts": {kind: sum(row[kind] for row in rows) for kind in KINDS},
        "per_class": rows,
        "delta_mAP_0.5": {kind: judged.mend(kind).mean_ap(present) - ap for kind in KINDS[1:]},
    }


def judge(results: Sequence[ImageResult], evaluation: COCOeval) -> Judged:
    """The kind of every detection, and which true box it means.

    Args:
        evaluation: `coco_evaluation` of the same results.
    """
    scores, classes, true_classes = (
        np.concatenate([getattr(result, name) for result in results])
        for name in ("scores", "classes", "true_classes")
    )
    first_boxes = np.cumsum([0, *(len(result.true_classes) for result in results)])[:-1]
    overlaps = [
        _overlaps(result, first) for result, first in zip(results, first_boxes, strict=True)
    ]
    own, other, own_box, other_box = (
        np.concatenate([overlap[name] for overlap in overlaps])
        for name in ("own", "other", "own_box", "other_box")
    )
    matched = coco_matches(evaluation, len(scores))
    kinds = _kinds(matched != NO_BOX, own, other)
    boxes = {"right": matched, "loose box": own_box, "wrong class": other_box}
    meant = np.select([kinds == kind for kind in boxes], list(boxes.values()), NO_BOX)
    by_score = np.argsort(-scores, kind="stable")
    return Judged(scores, classes, kinds, meant, true_classes).select(by_score)


def _overlaps(result: ImageResult, first_box: int) -> dict[str, np.ndarray]:
    """Of every detection (m,) its highest IoU with a box of its own and of another class, and the index of that box."""
    corners = (
        torch.as_tensor(boxes, dtype=torch.float64)
        for boxes in (result.boxes_xyxy, result.true_boxes_xyxy)
    )
    iou = np.pad(
        box_iou(*corners).numpy(), ((0, 0), (0, 1))
    )  # the last column overlaps nothing: there may be no box
    is_own = result.classes[:, None] == np.append(result.true_classes, NO_CLASS)
    own, other = iou * is_own, iou * ~is_own
    highest = {"own": own.max(1), "other": other.max(1)}
    return highest | {
        "own_box": first_box + own.argmax(1),
        "other_box": first_box + other.argmax(1),
    }


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


def _counts(judged: Judged, index: int) -> dict[str, int]:
    """Kind -> boxes of one class."""
    kinds = judged.kinds[judged.classes == index]
    missed = judged.is_missed & (judged.true_classes == index)
    return {kind: (kinds == kind).sum() for kind in KINDS} | {"missed": missed.sum()}
