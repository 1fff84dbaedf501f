"""Detections of all images matched to their true boxes by COCO's rule, as arrays.

By falling score, a detection takes the true box of its class that it overlaps most among those not
yet taken, of equal ones the last.

pycocotools goes from box to box with a dict a box. So does faster-coco-eval before its C++ begins,
and it tells the matches of one threshold only, where intervals need those of all. Here every pair
of a detection and a true box is a row of arrays, and a step of the rule treats one detection in
each image. pycocotools comes to the same figures (tests/evaluation/test_matching.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
COCO_IOU_THRESHOLDS = np.r_[0.3, IOU_THRESHOLDS]
AT_HALF = 1  # where 0.5 is among these
HIGHEST_THRESHOLD = 1 - 1e-10  # COCO's
IMAGES_AT_ONCE = 1000  # so that memory does not grow with the pairs
NO_BOX = -1


@dataclass(frozen=True)
class Boxes:
    """Boxes of all images, image after image; they are numbered in this order."""

    starts: np.ndarray  # (images + 1,) number of an image's first box
    classes: np.ndarray  # (n,) int
    boxes_xyxy: np.ndarray  # (n, 4)

    @classmethod
    def of(cls, classes: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]) -> Boxes:
        """From those of each image."""
        counts = [len(own) for own in classes]
        starts = np.concatenate(([0], np.cumsum(counts, dtype=int)))
        return cls(starts, np.concatenate(classes), np.concatenate(boxes_xyxy).astype(float))

    @property
    def image(self) -> np.ndarray:
        """(n,) the image of each box."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


@dataclass(frozen=True)
class Overlaps:
    """A detection's highest IoU with the true boxes of its image, and the first box that has it.

    Where it overlaps none, the IoU is 0 and the box means nothing; (m,) each.
    """

    own: np.ndarray  # with boxes of its own class
    own_box: np.ndarray
    other: np.ndarray  # with boxes of another class
    other_box: np.ndarray

    @classmethod
    def none(cls, count: int) -> Overlaps:
        """Of so many detections, to be filled in."""
        return cls(np.zeros(count), np.zeros(count, int), np.zeros(count), np.zeros(count, int))

    @classmethod
    def of(cls, truth: Boxes, found: Boxes) -> Overlaps:
        """In so few images that all pairs of boxes may be in memory."""
        overlaps = cls.none(len(found.classes))
        _Pairs.of(truth, found, range(len(truth.starts) - 1)).note_overlaps(overlaps)
        return overlaps

    def of_any_class(self) -> tuple[np.ndarray, np.ndarray]:
        """The IoU and the box, whatever its class."""
        box = np.where(self.own > self.other, self.own_box, self.other_box)
        is_even = self.own == self.other
        box[is_even] = np.minimum(self.own_box, self.other_box)[is_even]
        return np.maximum(self.own, self.other), box


@dataclass(frozen=True)
class Matches:
    """All detections beside the true boxes, both numbered image after image."""

    truth: Boxes
    found: Boxes
    scores: np.ndarray  # (m,)
    class_count: int
    is_right: np.ndarray  # (m, T) bool: takes a box, at `COCO_IOU_THRESHOLDS`
    box: np.ndarray  # (m,) that it takes at IoU 0.5, or `NO_BOX`
    overlaps: Overlaps

    @classmethod
    def of(cls, truth: Boxes, found: Boxes, scores: np.ndarray, class_count: int) -> Matches:
        count = len(scores)
        overlaps = Overlaps.none(count)
        is_right = np.zeros((count, len(COCO_IOU_THRESHOLDS)), bool)
        box = np.full(count, NO_BOX)
        images = len(truth.starts) - 1
        for first in range(0, images, IMAGES_AT_ONCE):
            pairs = _Pairs.of(truth, found, range(first, min(first + IMAGES_AT_ONCE, images)))
            pairs.note_overlaps(overlaps)
            pairs.match(scores, is_right, box)
        return cls(truth, found, scores, class_count, is_right, box, overlaps)

    @property
    def images(self) -> int:
        return len(self.truth.starts) - 1


@dataclass(frozen=True)
class _Pairs:
    """Each detection of some images with each true box of its image, in their order; (p,) each."""

    image: np.ndarray
    detection: np.ndarray
    box: np.ndarray
    is_own: np.ndarray  # bool: of the same class
    iou: np.ndarray
    coco_iou: np.ndarray  # COCO's has corners that went through width and height

    @classmethod
    def of(cls, truth: Boxes, found: Boxes, images: range) -> _Pairs:
        starts = found.starts[images.start : images.stop + 1]
        image = np.repeat(np.array(images), np.diff(starts))  # of each detection
        counts = truth.starts[image + 1] - truth.starts[image]
        detection = np.repeat(np.arange(starts[0], starts[-1]), counts)
        image = np.repeat(image, counts)
        ends = np.repeat(counts.cumsum(), counts)
        box = truth.starts[image + 1] - (ends - np.arange(len(image)))
        is_own = found.classes[detection] == truth.classes[box]
        corners = found.boxes_xyxy[detection], truth.boxes_xyxy[box]
        rebuilt = map(_rebuilt, corners)
        sizes = [pair[:, 2:] - pair[:, :2] for pair in corners]
        return cls(image, detection, box, is_own, _iou(*corners, *sizes), _iou(*rebuilt, *sizes))

    def note_overlaps(self, overlaps: Overlaps) -> None:
        """Fill in what there is of these detections."""
        if not len(self.detection):
            return
        begins = _begins(self.detection)
        own = self.detection[begins]
        overlaps.own[own], overlaps.own_box[own] = self._highest(self.is_own, begins)
        overlaps.other[own], overlaps.other_box[own] = self._highest(~self.is_own, begins)

    def _highest(self, counts: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Among the pairs that count, each detection's highest IoU and its first box."""
        iou = self.iou * counts
        highest = np.maximum.reduceat(iou, begins)
        is_highest = iou == np.repeat(highest, np.diff(begins, append=len(iou)))
        after_all = self.box.max() + 1
        return highest, np.minimum.reduceat(np.where(is_highest, self.box, after_all), begins)

    def match(self, scores: np.ndarray, is_right: np.ndarray, box_at_half: np.ndarray) -> None:
        """Fill in which detections take a box, and which one; the best of every image first."""
        near = np.flatnonzero(self.is_own & (self.coco_iou >= COCO_IOU_THRESHOLDS[0]))
        if not len(near):
            return
        order = np.lexsort((-scores[self.detection[near]], self.image[near]))
        near = near[order]
        begins = _begins(self.detection[near])
        images = self.image[near[begins]]
        place = np.arange(len(begins)) - np.searchsorted(images, images)  # in its image, from 0
        places = np.repeat(place, np.diff(begins, append=len(near)))
        by_place = np.argsort(places, kind="stable")
        near = near[by_place]
        ends = np.searchsorted(places[by_place], np.arange(place.max() + 2))
        first_box = self.box[0]
        taken = np.zeros((self.box[-1] + 1 - first_box, len(COCO_IOU_THRESHOLDS)), bool)
        for start, end in pairwise(ends):
            pairs = near[start:end]
            boxes = self._take(pairs, taken, first_box)
            own = self.detection[pairs[_begins(self.detection[pairs])]]
            is_right[own] = boxes != NO_BOX
            box_at_half[own] = boxes[:, AT_HALF]

    def _take(self, pairs: np.ndarray, taken: np.ndarray, first_box: int) -> np.ndarray:
        """The boxes (d, T) that detections take, no two of which are of one image."""
        iou = self.coco_iou[pairs, None]
        box = self.box[pairs, None]
        is_free = ~taken[box[:, 0] - first_box]
        is_free &= iou >= np.minimum(COCO_IOU_THRESHOLDS, HIGHEST_THRESHOLD)
        begins = _begins(self.detection[pairs])
        highest = np.maximum.reduceat(iou * is_free, begins)
        is_highest = is_free & (iou == np.repeat(highest, np.diff(begins, append=len(pairs)), 0))
        boxes = np.maximum.reduceat(np.where(is_highest, box, NO_BOX), begins)
        rows, columns = np.nonzero(boxes != NO_BOX)
        taken[boxes[rows, columns] - first_box, columns] = True
        return boxes


def _begins(numbers: np.ndarray) -> np.ndarray:
    """Where another number begins in (p,) numbers, equal ones of which stand together."""
    return np.flatnonzero(np.diff(numbers, prepend=-1))


def _rebuilt(boxes_xyxy: np.ndarray) -> np.ndarray:
    """With corners as COCO has them, which keeps left, top, width and height."""
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    return np.hstack((low, low + (high - low)))


def _iou(
    a_xyxy: np.ndarray, b_xyxy: np.ndarray, a_sizes: np.ndarray, b_sizes: np.ndarray
) -> np.ndarray:
    """Of rows (p, 4) with widths and heights (p, 2); 0 where they do not touch."""
    sides = np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:]) - np.maximum(a_xyxy[:, :2], b_xyxy[:, :2])
    common = _area(sides.clip(0))
    union = _area(a_sizes) + _area(b_sizes) - common
    return np.divide(common, union, out=np.zeros(len(common)), where=common > 0)


def _area(sizes: np.ndarray) -> np.ndarray:
    """(p, 2) -> (p,); `prod` is slow along so short an axis."""
    return sizes[:, 0] * sizes[:, 1]


def first_claims(iou: np.ndarray, box: np.ndarray, least: float, boxes: int) -> np.ndarray:
    """Which detections are right by YOLOv5's rule (v7.0), (m,) bool.

    A detection claims the box that it overlaps most, if by `least` or more; of `boxes` true boxes
    each takes its first claimant. So detections come by falling score within an image, and leaving
    out the last ones changes nothing for the others.
    """
    claimants = np.flatnonzero(iou >= least)
    first = np.full(boxes, len(iou))
    np.minimum.at(first, box[claimants], claimants)
    is_right = np.zeros(len(iou), bool)
    is_right[first[first < len(iou)]] = True
    return is_right
