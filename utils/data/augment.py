"""Augmentation: what becomes of a training frame, decided by (seed, epoch, frame) alone.

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
from utils.data.boxes import xyxy_to_xywh

FILL = (114, 114, 114)  # grey outside a moved frame, as the letterbox's
# YOLOv5's: what has to be left of a box that is cut off.
MIN_SIDE_PX = 2
MIN_AREA_SHARE = 0.1
MAX_ASPECT = 100
MIN_DEPTH = 0.1  # of a point in the perspective's division; 1 is the frame's plane
# Both parameters of mix-up's Beta distribution, as YOLOv5's: nearly half and half.
MIXUP_BETA = 32.0
# A mosaic's quadrants: whether a tile ends, rather than starts, at the mosaic's centre, in x and in
# y.
QUADRANTS = ((True, True), (False, True), (True, False), (False, False))

# (H, W, 3) uint8 RGB, and (n, 5) float32: class, xc, yc, w, h as fractions.
Sample = tuple[np.ndarray, np.ndarray]


class Augmenter:
    """Makes the frame of an epoch; see the module's docstring.

    Args:
        hyp: the augmentation keys.
        seed: of the training.
        load: a frame's number -> the sample as it is.
        views: of every frame, -1 where unknown.
        mirrored_classes: what each box class is after a flip left to right; () if the same.
    """

    def __init__(
        self,
        hyp: HyperParameters,
        seed: int,
        load: Callable[[int], Sample],
        views: Sequence[int],
        mirrored_classes: Sequence[int] = (),
    ):
        self.hyp = hyp
        self.seed = seed
        self.load = load
        self.views = tuple(views)
        self.mirrored_classes = np.array(mirrored_classes, dtype=np.float32)
        self._of_view: dict[int, list[int]] = defaultdict(list)
        for index, view in enumerate(self.views):
            self._of_view[view].append(index)

    def __call__(self, epoch: int, index: int) -> Sample:
        """The sample of frame `index` in an epoch."""
        draw = np.random.default_rng((self.seed, epoch, index))
        sample = self._moved(index, draw)
        if draw.random() < self.hyp.mixup:
            partner = self._moved(self._partner(index, draw), draw)
            sample = _mixup(sample, partner, draw)
        frame, boxes = sample
        return recoloured(frame, self.hyp, draw), boxes

    def _partner(self, index: int, draw: np.random.Generator) -> int:
        """The number of a drawn frame of the same view."""
        alike = self._of_view[self.views[index]]
        return alike[draw.integers(len(alike))]

    def _moved(self, index: int, draw: np.random.Generator) -> Sample:
        """A frame, or a mosaic that it is the first part of, put through one drawn matrix."""
        sample = self.load(index)
        height, width = sample[0].shape[:2]
        if draw.random() >= self.hyp.mosaic:
            matrix, is_mirrored = geometry(self.hyp, height, width, draw)
            return self._named(_compose([(sample, matrix)], height, width), is_mirrored)
        tiles = [sample]
        for _ in QUADRANTS[1:]:
            tiles.append(self.load(self._partner(index, draw)))
        # The canvas is twice as large; its matrix brings the canvas' middle to the frame's.
        matrix, is_mirrored = geometry(self.hyp, height, width, draw)
        matrix = matrix @ translation(-width / 2, -height / 2)
        x, y = draw.uniform(0.5, 1.5, 2) * (width, height)
        parts = []
        for tile, (ends_x, ends_y) in zip(tiles, QUADRANTS, strict=True):
            place = translation(x - width * ends_x, y - height * ends_y)
            parts.append((tile, matrix @ place))
        return self._named(_compose(parts, height, width), is_mirrored)

    def _named(self, sample: Sample, is_mirrored: bool) -> Sample:
        """The sample, with the classes that its boxes are in a mirror image."""
        frame, boxes = sample
        if is_mirrored and len(self.mirrored_classes):
            boxes[:, 0] = self.mirrored_classes[boxes[:, 0].astype(int)]
        return frame, boxes


def geometry(
    hyp: HyperParameters, height: int, width: int, draw: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """A drawn (3, 3) matrix from pixels of the frame to those of the result; whether it mirrors.

    The origin is the corner. Applied in this order: to the middle, perspective, rotation and scale,
    shear, back and translation, flips.
    """
    centred = translation(-width / 2, -height / 2)
    perspective = np.eye(3)
    perspective[2, :2] = draw.uniform(-hyp.perspective, hyp.perspective, 2)
    angle = np.radians(draw.uniform(-hyp.degrees, hyp.degrees))
    scale = draw.uniform(1 - hyp.scale, 1 + hyp.scale)
    cos = scale * np.cos(angle)
    sin = scale * np.sin(angle)
    turned = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    sheared = np.eye(3)
    sheared[0, 1], sheared[1, 0] = np.tan(np.radians(draw.uniform(-hyp.shear, hyp.shear, 2)))
    shift_x, shift_y = draw.uniform(0.5 - hyp.translate, 0.5 + hyp.translate, 2)
    moved = translation(shift_x * width, shift_y * height)
    flipped = np.eye(3)
    if draw.random() < hyp.flipud:
        flipped[1] = 0, -1, height
    is_mirrored = draw.random() < hyp.fliplr
    if is_mirrored:
        flipped[0] = -1, 0, width
    return flipped @ moved @ sheared @ turned @ perspective @ centred, is_mirrored


def translation(x: float, y: float) -> np.ndarray:
    """The (3, 3) matrix that moves by x and y pixels."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=float)


def _compose(parts: Sequence[tuple[Sample, np.ndarray]], height: int, width: int) -> Sample:
    """Every sample moved by its (3, 3) matrix onto one grey canvas of height x width pixels."""
    canvas = np.full((height, width, 3), FILL, dtype=np.uint8)
    # OpenCV's coordinates are those of pixel centres.
    to_corner = translation(0.5, 0.5)
    to_centre = translation(-0.5, -0.5)
    rows = []
    for (frame, boxes), matrix in parts:
        of_centres = to_centre @ matrix @ to_corner
        cv2.warpPerspective(
            frame, of_centres, (width, height), canvas, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT
        )
        rows.append(moved_boxes(boxes, matrix, height, width))
    return canvas, np.concatenate(rows)


def moved_boxes(boxes: np.ndarray, matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """The bounding boxes of moved boxes, clipped to the frame.

    Left out are boxes of which too little is left, by YOLOv5's measures.

    Args:
        boxes: (n, 5) class, xc, yc, w, h as fractions of the frame.
        matrix: (3, 3), from pixels to pixels.

    Returns:
        (m, 5) float32, of the same kind.
    """
    frame_size = (width, height)
    moved, in_front = _moved_corners(boxes[:, 1:], matrix, frame_size)
    low = moved.min(axis=1)
    high = moved.max(axis=1)
    low_in = low.clip(0, frame_size)
    high_in = high.clip(0, frame_size)
    side = high_in - low_in
    share = side.prod(axis=1) / (high - low).prod(axis=1).clip(min=1e-9)
    aspect = side.max(axis=1) / side.min(axis=1).clip(min=1e-9)
    is_large = (side > MIN_SIDE_PX).all(axis=1)
    kept = in_front & is_large & (share > MIN_AREA_SHARE) & (aspect < MAX_ASPECT)
    boxes_xywh = xyxy_to_xywh(np.concatenate((low_in, high_in), axis=1))
    boxes_xywhn = boxes_xywh / (width, height, width, height)
    return np.column_stack((boxes[:, :1], boxes_xywhn))[kept].astype(np.float32)


def _moved_corners(
    boxes_xywhn: np.ndarray, matrix: np.ndarray, frame_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) -> where their corners go, (n, 4, 2) pixels, and whether all are in front, (n,).

    A strong perspective can put a corner behind the viewer.
    """
    centres = boxes_xywhn[:, :2]
    halves = boxes_xywhn[:, 2:] / 2
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners = (centres[:, None] + signs * halves[:, None]) * frame_size  # (n, 4, 2)
    ones = np.ones((len(boxes_xywhn), 4, 1))
    moved = np.concatenate((corners, ones), axis=2) @ matrix.T
    depth = moved[..., 2:]
    in_front = (depth > MIN_DEPTH).all(axis=(1, 2))
    return moved[..., :2] / depth.clip(min=MIN_DEPTH), in_front


def _mixup(a: Sample, b: Sample, draw: np.random.Generator) -> Sample:
    """Both frames laid over each other, with the boxes of both.

    Zhang et al. 2017, arXiv 1710.09412.
    """
    share = draw.beta(MIXUP_BETA, MIXUP_BETA)
    frame = cv2.addWeighted(a[0], share, b[0], 1 - share, 0)
    return frame, np.concatenate((a[1], b[1]))


def recoloured(frame: np.ndarray, hyp: HyperParameters, draw: np.random.Generator) -> np.ndarray:
    """A frame, (H, W, 3) uint8 RGB, in other colours and brightness.

    Hue, saturation and value are multiplied by drawn factors in 1 +- hsv_h, hsv_s and hsv_v; then
    the fraction of full brightness is raised to a power in e^(+-gamma).
    """
    hue, saturation, value = 1 + draw.uniform(-1, 1, 3) * (hyp.hsv_h, hyp.hsv_s, hyp.hsv_v)
    exponent = np.exp(draw.uniform(-hyp.gamma, hyp.gamma))
    levels = np.arange(256)
    if hyp.hsv_h or hyp.hsv_s or hyp.hsv_v:
        columns = (
            (levels * hue) % 180,
            (levels * saturation).clip(max=255),
            (levels * value).clip(max=255),
        )
        table = np.stack(columns, axis=1)[None].astype(np.uint8)
        hsv = cv2.LUT(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV), table)
        frame = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if hyp.gamma:
        table = (255 * (levels / 255) ** exponent).round().astype(np.uint8)
        frame = cv2.LUT(frame, table)
    return frame
