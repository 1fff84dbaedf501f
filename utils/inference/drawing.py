"""A prediction drawn on its image, in the style of the plots, as an array of pixels.

OpenCV draws: matplotlib takes 66 ms for such a picture, ten times as long as a network on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.colors import to_rgb

from utils.core.terminal import plain
from utils.inference.predictor import Prediction, view_text
from utils.plots.frames import LABEL, MOST_BOXES, MOST_LABELS, STRIP, best_first, label_corner
from utils.plots.lettering import CAPITAL, Lettering, lettering
from utils.plots.style import CLASS_COLOURS, CLASSIFICATION, INK, shorten

# Units; a unit is a pixel, or more of them where the image's longer side is longer.
SIDE = 640
MARGIN = 8
CAPTION = 36
LETTERS = 19.8  # size of those of a label
CAPTION_LETTERS = 22.9
LINE = 3.75  # of a box
HALO = 7.5  # black, below the line, so that it shows on any image
LABEL_MARGIN = 5  # left and right of its words
OPACITY = 0.7  # of the colour where attention is 1


Colour = tuple[int, int, int]


def rgb(code: str) -> Colour:
    """Red, green and blue, 0 to 255, of a colour as the plots name it."""
    return tuple(round(255 * part) for part in to_rgb(code))


COLOURS = tuple(map(rgb, CLASS_COLOURS))
TEXT = rgb(INK)
BLACK = (0, 0, 0)


@dataclass(frozen=True)
class Scale:
    """The units of a picture.

    Attributes:
        pixels: a unit has.
        height, width: of the image as it is drawn, in pixels.
    """

    pixels: float
    height: int
    width: int

    @classmethod
    def of(cls, image: np.ndarray) -> Scale:
        height, width = image.shape[:2]
        longest = max(height, width)
        enlarged = max(1, SIDE / longest)
        sides = (max(1, round(enlarged * height)), max(1, round(enlarged * width)))
        return cls(max(1, longest / SIDE), *sides)

    def __call__(self, units: float) -> int:
        """In whole pixels."""
        return round(self.pixels * units)


def draw_prediction(
    image: np.ndarray, prediction: Prediction, names: Sequence[str], view_names: Sequence[str]
) -> np.ndarray:
    """The image with boxes, classes and confidences, and above it the view and its probability.

    Beside it, if the prediction has it, the attention to that view, on the image in grey. No label
    covers a box that it can avoid: there is room for labels above and below the image.

    Args:
        image: (height, width, 3) uint8 RGB; it is drawn at its own size, or enlarged to `SIDE`
            pixels.
        names, view_names: of the box classes and the views.

    Returns:
        (h, w, 3) uint8 RGB, of the same size for images of the same size.
    """
    scale = Scale.of(image)
    panels = 1 + (prediction.attention is not None)
    margin, caption, strip = map(scale, (MARGIN, CAPTION, STRIP))
    height = caption + scale.height + 2 * strip
    picture = np.full((height, panels * (scale.width + margin) + margin, 3), 255, np.uint8)
    rows = slice(caption + strip, caption + strip + scale.height)
    _paste(picture[rows, margin : margin + scale.width], image)
    _draw_boxes(picture, scale, prediction, names)
    view = "no view"
    if len(prediction.view_probabilities):
        view = view_text(prediction.view_probabilities, prediction.least_probability, view_names)
        words = f"{view} {prediction.view_probabilities.max():.2f}"
        _write_caption(picture, scale, margin, words)
    if prediction.attention is not None:
        left = scale.width + 2 * margin
        _write_caption(picture, scale, left, f"evidence for {view} (Grad-CAM)")
        _paste(picture[rows, left : left + scale.width], tint(image, prediction.attention))
    return picture


def _paste(place: np.ndarray, image: np.ndarray) -> None:
    """Fill a part of a picture with an image, enlarged to it."""
    if place.shape != image.shape:
        image = cv2.resize(image, place.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    place[:] = image


def _write_caption(picture: np.ndarray, scale: Scale, left: int, words: str) -> None:
    """Words above a panel."""
    letters = _fitting(plain(words), CAPTION_LETTERS * scale.pixels, scale.width, is_bold=True)
    letters.write(picture, left, scale(CAPTION - 6), TEXT)


def _fitting(words: str, size_px: float, width_px: float, is_bold: bool = False) -> Lettering:
    """The words, made smaller where they are wider than this."""
    letters = lettering(words, size_px, is_bold)
    if letters.width <= width_px:
        return letters
    return lettering(words, size_px * width_px / letters.width, is_bold)


def _draw_boxes(
    picture: np.ndarray, scale: Scale, prediction: Prediction, names: Sequence[str]
) -> None:
    """The boxes' outlines and labels, and how many there are beside them."""
    origin = np.tile((scale(MARGIN), scale(CAPTION) + scale(STRIP)), 2)
    zoom = np.tile((scale.width / prediction.width, scale.height / prediction.height), 2)
    boxes_xyxy = prediction.boxes_xyxy * zoom + origin
    shown = best_first(boxes_xyxy, prediction.scores)[:MOST_BOXES]
    for index in shown:
        _outline(picture, boxes_xyxy[index], BLACK, scale(HALO))
        _outline(picture, boxes_xyxy[index], _colour(prediction, index), scale(LINE))
    labels = _Labels(picture, scale)
    if len(shown) < len(boxes_xyxy):
        labels.say_how_many(len(boxes_xyxy) - len(shown))
    for index in shown[:MOST_LABELS]:
        words = f"{shorten(names[prediction.classes[index]], 20)} {prediction.scores[index]:.2f}"
        others = boxes_xyxy[shown] / scale.pixels
        labels.add(words, _colour(prediction, index), boxes_xyxy[index] / scale.pixels, others)


def _colour(prediction: Prediction, index: int) -> Colour:
    return COLOURS[prediction.classes[index] % len(COLOURS)]


def _outline(picture: np.ndarray, box_xyxy: np.ndarray, colour: Colour, line: int) -> None:
    """A box's edges, in whole pixels so that they are sharp; what lies outside is cut off."""
    outside = np.rint(box_xyxy - (line / 2) * np.array([1, 1, -1, -1])).astype(int)
    left, top, right, bottom = outside.clip(0).tolist()
    picture[top : top + line, left:right] = colour
    picture[max(top, bottom - line) : bottom, left:right] = colour
    picture[top:bottom, left : left + line] = colour
    picture[top:bottom, max(left, right - line) : right] = colour


class _Labels:
    """The words beside the boxes of a picture; where they are, in units."""

    def __init__(self, picture: np.ndarray, scale: Scale):
        self._picture = picture
        self._scale = scale
        right = MARGIN + scale.width / scale.pixels
        self._area = (MARGIN, CAPTION, right, len(picture) / scale.pixels)
        self._taken: list[tuple[float, ...]] = []  # xyxy

    def add(self, words: str, colour: Colour, box_xyxy: np.ndarray, boxes_xyxy: np.ndarray) -> None:
        """A label where it covers least of all boxes and of the labels so far."""
        letters = self._letters(words)
        size = (letters.width / self._scale.pixels + 2 * LABEL_MARGIN, LABEL)
        x, y = label_corner(box_xyxy, size, boxes_xyxy, self._taken, self._area)
        self._taken.append((x, y, x + size[0], y + size[1]))
        left, top, right, bottom = map(self._scale, self._taken[-1])
        self._picture[top:bottom, left:right] = colour
        self._write(letters, x + LABEL_MARGIN, y)

    def say_how_many(self, count: int) -> None:
        """Below the image: so many boxes are not drawn."""
        letters = self._letters(f"{count} more boxes")
        _, _, right, bottom = self._area
        place = (right - letters.width / self._scale.pixels, bottom - LABEL, right, bottom)
        self._taken.append(place)
        self._write(letters, *place[:2])

    def _letters(self, words: str) -> Lettering:
        left, _, right, _ = self._area
        widest = self._scale(right - left - 2 * LABEL_MARGIN)
        return _fitting(words, LETTERS * self._scale.pixels, widest)

    def _write(self, letters: Lettering, left: float, top: float) -> None:
        """Capital letters in the middle of a label's height."""
        middle = self._scale(top + LABEL / 2)
        baseline = round(middle + CAPITAL * letters.size_px / 2)
        letters.write(self._picture, self._scale(left), baseline, TEXT)


def tint(image: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """The image in grey, covered by the colour of classification as far as there is attention.

    Args:
        image: (height, width, 3) uint8 RGB; so is what is returned.
        attention: (height, width) in [0, 1].
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    opacity = OPACITY * attention[..., None]
    return (grey * (1 - opacity) + np.array(rgb(CLASSIFICATION)) * opacity).round().astype(np.uint8)
