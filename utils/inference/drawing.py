"""A prediction drawn on its image, in the style of the plots, as an array of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from utils.core.terminal import plain
from utils.inference.predictor import Prediction, view_text
from utils.plots.frames import STRIP, draw_frame
from utils.plots.style import CLASSIFICATION, DPI, styled_figure

# Units; a unit is a pixel, or more of them where the image's longer side is longer.
SIDE = 640
MARGIN = 8
CAPTION = 36
OPACITY = 0.7  # of the colour where attention is 1


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
    scale = SIDE / max(image.shape[:2])
    height = scale * image.shape[0]
    width = scale * image.shape[1]
    panels = 1 + (prediction.attention is not None)
    total_width = panels * (width + MARGIN) + MARGIN
    total_height = CAPTION + height + 2 * STRIP
    with styled_figure(total_width / DPI, total_height / DPI, "none") as figure:
        ax = figure.add_axes(
            (0, 0, 1, 1), xlim=(0, total_width), ylim=(total_height, 0), autoscale_on=False
        )
        ax.axis("off")
        area = (MARGIN, CAPTION, MARGIN + width, total_height)
        draw_frame(ax, area, image, vars(prediction), names)
        view = "no view"
        if len(prediction.view_probabilities):
            least = prediction.least_probability
            view = view_text(prediction.view_probabilities, least, view_names)
            _write(ax, MARGIN, f"{view} {prediction.view_probabilities.max():.2f}", width)
        if prediction.attention is not None:
            left = width + 2 * MARGIN
            _write(ax, left, f"evidence for {view} (Grad-CAM)", width)
            extent = (left, left + width, CAPTION + STRIP + height, CAPTION + STRIP)
            ax.imshow(tint(image, prediction.attention), extent=extent, aspect="auto")
        figure.set_dpi(DPI * max(1, 1 / scale))
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _write(ax: Axes, x: float, words: str, width: float) -> None:
    """A caption above a panel, made smaller where it is wider than the panel."""
    text = ax.text(x, CAPTION - 6, plain(words), fontsize=11, weight="bold", va="baseline")
    text.set_fontsize(text.get_fontsize() * min(1, width / text.get_window_extent().width))


def tint(image: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """The image in grey, covered by the colour of classification as far as there is attention.

    Args:
        image: (height, width, 3) uint8 RGB; so is what is returned.
        attention: (height, width) in [0, 1].
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    opacity = OPACITY * attention[..., None]
    colour = 255 * np.array(to_rgb(CLASSIFICATION))
    return (grey * (1 - opacity) + colour * opacity).round().astype(np.uint8)
