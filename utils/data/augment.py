"""Augmentation: what a training frame looks like in an epoch, decided by (seed, epoch, frame) alone.

Geometry is one 3x3 matrix a frame (scale, rotation, shear, translation, perspective, flips), by
which OpenCV moves the pixels and `moved_boxes` the boxes; colour is one table a channel. The keys
are YOLOv5's and mean what they mean there, but that any frame may be mixed, not mosaics alone;
`gamma` is ours. Mosaic and mix-up take their other frames from those of the same view, so that a
frame's view stays true of what is made of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from utils.core.hyperparameters import HyperParameters

FILL = (114, 114, 114)  # grey outside a moved frame, as the letterbox's
MIN_SIDE_PX, MIN_AREA_SHARE, MAX_ASPECT = (
    2,
    0.1,
    100,
)  # YOLOv5's: what has to be left of a box that is cut off
MIN_DEPTH = 0.1  # of a point in the perspective's division; 1 is the frame's plane
MIXUP_BETA = (
    32.0  # both parameters of mix-up's Beta distribution, as YOLOv5's: nearly half and half
)
# A mosaic's quadrants: whether a tile ends, rather than starts, at the mosaic's centre, in x and in
# y.
QUADRANTS = ((True, True), (False, True), (True, False), (False, False))

Sample = tuple[
    np.ndarray, np.ndarray
]  # (H, W, 3) uint8 RGB and (n, 5) float32: class, xc, yc, w, h as fractions


class Augmenter:
    """Makes the frame of an epoch; see the module's docstring.

    Args:
        hyp: the augmentation keys.
        seed: of the training.
        load: a frame's number -> the sample as it is.
        views: of every frame, -1 where unknown.
    """

    def __init__(
        self, hyp: HyperParameters, seed: int, load: Callable[[int], Sample], views: Sequence[int]
    ):
        self.hyp, self.seed, self.load, self.views = hyp, seed, load, tuple(views)
        self._of_view: dict[int, list[int]] = defaultdict(list)
        for index, view in enumerate(self.views):
            self._of_view[view].append(index)

    def __call__(self, epoch: int, index: int) -> Sample:
        """The sample of frame `index` in an epoch."""
        draw = np.random.default_rng((self.seed, epoch, index))
        frame, boxes = self._moved(index, draw)
        if draw.random() < self.hyp.mixup:
            frame, boxes = _mixed(
                (frame, boxes), self._moved(self._partner(index, draw), draw), draw
            )
        return recoloured(frame, self.hyp, draw), boxes

    def _partner(self, index: int, draw: np.random.Generator) -> int:
        alike = self._of_view[self.views[index]]
        return alike[draw.integers(len(alike))]

    def _moved(self, index: int, draw: np.random.Generator) -> Sample:
        """A frame, or a mosaic that it is the first part of, put through one drawn matrix."""
        frame, boxes = self.load(index)
        height, width = frame.shape[:2]
        if draw.random() >= self.hyp.mosaic:
            return _painted(
                [((frame, boxes), geometry(self.hyp, height, width, draw))], height, width
            )
        others = [self.load(self._partner(index, draw)) for _ in QUADRANTS[1:]]
        # The canvas is twice as large; its matrix brings the canvas' middle to the frame's.
        matrix = geometry(self.hyp, height, width, draw) @ translation(-width / 2, -height / 2)
        x, y = draw.uniform(0.5, 1.5, 2) * (width, height)
        places = [
            translation(x - width * ends_x, y - height * ends_y) for ends_x, ends_y in QUADRANTS
        ]
        parts = zip([(frame, boxes), *others], places, strict=True)
        return _painted([(sample, matrix @ place) for sample, place in parts], height, width)


def geometry(
    hyp: HyperParameters, height: int, width: int, draw: np.random.Generator
) -> np.ndarray:
    """A drawn (3, 3) matrix from pixels of the frame to pixels of the result, whose origin is the corner.

    Applied in this order: to the middle, perspective, rotation and scale, shear, back and
    translation, flips.
    """
    centred = translation(-width / 2, -height / 2)
    perspective = np.eye(3)
    perspective[2, :2] = draw.uniform(-hyp.perspective, hyp.perspective, 2)
    angle = np.radians(draw.uniform(-hyp.degrees, hyp.degrees))
    scale = draw.uniform(1 - hyp.scale, 1 + hyp.scale)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turned = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    sheared = np.eye(3)
    sheared[0, 1], sheared[1, 0] = np.tan(np.radians(draw.uniform(-hyp.shear, hyp.shear, 2)))
    shift_x, shift_y = draw.uniform(0.5 - hyp.translate, 0.5 + hyp.translate, 2)
    moved = translation(shift_x * width, shift_y * height)
    flipped = np.eye(3)
    if draw.random() < hyp.flipud:
        flipped[1] = 0, -1, height
    if draw.random() < hyp.fliplr:
        flipped[0] = -1, 0, width
    return flipped @ moved @ sheared @ turned @ perspective @ centred


def translation(x: float, y: float) -> np.ndarray:
    """The (3, 3) matrix that moves by x and y pixels."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=float)


def _painted(parts: Sequence[tuple[Sample, np.ndarray]], height: int, width: int) -> Sample:
    """Every sample moved by its matrix onto one grey canvas."""
    canvas = np.full((height, width, 3), FILL, dtype=np.uint8)
    # OpenCV's coordinates are those of pixel centres.
    to_corner, to_centre = translation(0.5, 0.5), translation(-0.5, -0.5)
    rows = []
    for (frame, boxes), matrix in parts:
        of_centres = to_centre @ matrix @ to_corner
        cv2.warpPerspective(
            frame, of_centres, (width, height), canvas, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT
        )
        rows.append(moved_boxes(boxes, matrix, height, width))
    return canvas, np.concatenate(rows)


def moved_boxes(boxes: np.ndarray, matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """(n, 5) class and xywh as fractions -> those of the moved boxes' bounding boxes, clipped to the frame.

    Left out are boxes of which too little is left, by YOLOv5's measures.
    """
    centres, halves = boxes[:, 1:3], boxes[:, 3:5] / 2
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners = (centres[:, None] + signs * halves[:, None]) * (width, height)  # (n, 4, 2) pixels
    moved = np.concatenate((corners, np.ones((len(boxes), 4, 1))), axis=2) @ matrix.T
    in_front = (moved[..., 2] > MIN_DEPTH).all(
        axis=1
    )  # a strong perspective can put a corner behind the viewer
    moved = moved[..., :2] / moved[..., 2:].clip(min=MIN_DEPTH)
    low, high = moved.min(axis=1), moved.max(axis=1)
    low_in, high_in = low.clip(0, (width, height)), high.clip(0, (width, height))
    side, whole = high_in - low_in, high - low
    share = side.prod(axis=1) / whole.prod(axis=1).clip(min=1e-9)
    aspect = side.max(axis=1) / side.min(axis=1).clip(min=1e-9)
    kept = (
        in_front
        & (side > MIN_SIDE_PX).all(axis=1)
        & (share > MIN_AREA_SHARE)
        & (aspect < MAX_ASPECT)
    )
    xywhn = np.concatenate(((low_in + high_in) / 2, side), axis=1) / (width, height, width, height)
    return np.column_stack((boxes[:, :1], xywhn))[kept].astype(np.float32)


def _mixed(a: Sample, b: Sample, draw: np.random.Generator) -> Sample:
    """Both frames laid over each other, with the boxes of both (Zhang et al. 2017, arXiv 1710.09412)."""
    share = draw.beta(MIXUP_BETA, MIXUP_BETA)
    return cv2.addWeighted(a[0], share, b[0], 1 - share, 0), np.concatenate((a[1], b[1]))


def recoloured(frame: np.ndarray, hyp: HyperParameters, draw: np.random.Generator) -> np.ndarray:
    """Hue, saturation and value times a factor in 1 +- hsv_h, hsv_s, hsv_v; then to the power of e^(+-gamma)."""
    hue, saturation, value = 1 + draw.uniform(-1, 1, 3) * (hyp.hsv_h, hyp.hsv_s, hyp.hsv_v)
    exponent = np.exp(draw.uniform(-hyp.gamma, hyp.gamma))
    levels = np.arange(256)
    if hyp.hsv_h or hyp.hsv_s or hyp.hsv_v:
        tables = (
            (levels * hue) % 180,
            (levels * saturation).clip(max=255),
            (levels * value).clip(max=255),
        )
        hsv = cv2.LUT(
            cv2.cvtColor(frame, cv2.COLOR_RGB2HSV), np.stack(tables, axis=1)[None].astype(np.uint8)
        )
        frame = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if hyp.gamma:
        frame = cv2.LUT(frame, (255 * (levels / 255) ** exponent).round().astype(np.uint8))
    return frame
