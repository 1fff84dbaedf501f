"""Frames with their boxes and views drawn on them, alone and as a mosaic."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from utils.core.pixels import decode, to_8_bits
from utils.core.script import UserError
from utils.core.title import DEFAULT_TITLE, plural
from utils.core.user_file import read_regular
from utils.plots.style import CLASS_COLOURS, DPI, GREY, INK, PALE, new_figure, shorten

GRID = 4  # columns; all others are pixels
TILE = 430  # side of a frame
GAP = 20  # between frames
HEAD = 60  # room for the title
STRIP = 30  # room for labels above and below a frame
CAPTION = 58  # room for the words above a frame
LABEL = 25  # height of a box's label
MOST_BOXES = 100  # that are drawn in a frame; more could not be told apart
MOST_LABELS = 20  # of these; more would hide the frame
HALO = (withStroke(linewidth=3.6, foreground="black"),)  # of a box, so that it shows on any frame


def plot_mosaic(
    records: Sequence[Mapping],
    names: Sequence[str],
    view_names: Sequence[str],
    path: Path,
    *,
    predicted: bool,
    cls_title: str = DEFAULT_TITLE,
) -> None:
    """Up to 16 validation frames with boxes and views, each in the same place in both pictures.

    Args:
        records: of `val_batch.json`; boxes in pixels of the original image.
        names, view_names: of the box classes and the views.
        path: the PNG to write.
        predicted: draw what the model says (with confidences, and whether the view is right), not
            the truth.
        cls_title: what the data set calls a view.
    """
    records = records[: GRID * GRID]
    frames = [read_frame(Path(record["path"]), record.get("bits")) for record in records]
    aspects = [frame.shape[0] / frame.shape[1] for frame in frames if frame is not None]
    tile_height = STRIP + int(TILE * min(max(aspects, default=0.75), 1.2)) + STRIP
    row_height = CAPTION + tile_height + GAP
    width = GRID * (TILE + GAP) + GAP
    height = HEAD + row_height * math.ceil(len(records) / GRID)
    source = "truth"
    title = "Validation frames: true boxes"
    if predicted:
        source = "prediction"
        title = "Validation frames: predicted boxes"
    if view_names:
        title += f" and {plural(cls_title)}"
    with new_figure(path, width / DPI, height / DPI, "none") as figure:
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        ax.axis("off")  # one unit is one pixel, y downwards, as in an image
        ax.text(GAP, 34, title, fontsize=12, weight="bold", va="center")
        for index, (record, frame) in enumerate(zip(records, frames, strict=True)):
            row, column = divmod(index, GRID)
            left = GAP + column * (TILE + GAP)
            top = HEAD + row * row_height
            caption, text_style = _view_caption(record, view_names, predicted, cls_title)
            caption = f"{index + 1}   {caption}"
            _write_caption(ax, left, top + CAPTION - 8, caption, text_style)
            area = (left, top + CAPTION, left + TILE, top + CAPTION + tile_height)
            if frame is None:
                _draw_lost_frame(ax, area, Path(record["path"]).name)
            else:
                draw_frame(ax, area, frame, record[source], names)


def _write_caption(ax: Axes, x: float, y: float, caption: str, text_style: Mapping) -> None:
    """Words above a frame, so small that they are not wider than it."""
    text = ax.text(x, y, textwrap.fill(caption, 36), va="bottom", **text_style)
    text.set_fontsize(text.get_fontsize() * min(1, TILE / text.get_window_extent().width))


def read_frame(path: Path, bits: int | None) -> np.ndarray | None:
    """uint8 RGB (H, W, 3), or None if there is no such image any more.

    Args:
        bits: stored in an image of 16 bits a channel, see `utils.core.pixels`.
    """
    try:
        return to_8_bits(decode(read_regular(path)), bits)
    except (OSError, UserError):
        return None


def _view_caption(
    record: Mapping, view_names: Sequence[str], predicted: bool, title: str = DEFAULT_TITLE
) -> tuple[str, dict]:
    """The words above a frame and how they look: a wrong view stands out without any colour."""
    if not view_names:
        return "", {}
    true_view = record["truth"]["view"]
    true_name, true_colour = f"{title} unlabelled", GREY
    if true_view >= 0:
        true_name, true_colour = shorten(view_names[true_view], 24), INK
    if not predicted:
        return true_name, {"color": true_colour}
    probabilities = record["prediction"].get("view_probabilities")
    if not probabilities:
        return f"{title} not predicted", {"color": GREY}
    view = int(np.argmax(probabilities))
    said = f"{shorten(view_names[view], 24)} {probabilities[view]:.2f}"
    if true_view < 0:
        return f"{said}, unlabelled", {"color": GREY}
    if view == true_view:
        return f"{said}, right", {}
    box = {"facecolor": INK, "edgecolor": "none", "pad": 3}
    return f"{said}, wrong, is {true_name}", {"color": "white", "weight": "bold", "bbox": box}


def _draw_lost_frame(ax: Axes, area: tuple[float, ...], name: str) -> None:
    x1, y1, x2, y2 = area
    ax.add_patch(Rectangle((x1, y1 + STRIP), x2 - x1, y2 - y1 - 2 * STRIP, color=PALE))
    words = f"image not found:\n{shorten(name, 30)}"
    ax.text((x1 + x2) / 2, (y1 + y2) / 2, words, ha="center", va="center")


def draw_frame(
    ax: Axes, area: tuple[float, ...], frame: np.ndarray, drawn: Mapping, names: Sequence[str]
) -> None:
    """A frame in the middle of `area` (x1 y1 x2 y2), a strip left for labels above and below.

    Of many boxes the first `MOST_LABELS` have labels; those after `MOST_BOXES` are counted in
    words.
    """
    x1, y1, x2, y2 = area
    height, width = frame.shape[:2]
    scale = min((x2 - x1) / width, (y2 - y1 - 2 * STRIP) / height)
    left = (x1 + x2 - scale * width) / 2
    top = (y1 + y2 - scale * height) / 2
    ax.imshow(frame, extent=(left, left + scale * width, top + scale * height, top), aspect="auto")
    boxes_xyxy = np.reshape(drawn["boxes_xyxy"], (-1, 4)) * scale + (left, top, left, top)
    _draw_boxes(ax, area, boxes_xyxy, drawn, names)


def _draw_boxes(
    ax: Axes,
    area: tuple[float, ...],
    boxes_xyxy: np.ndarray,
    drawn: Mapping,
    names: Sequence[str],
) -> None:
    """The boxes' outlines and labels, and how many there are beside them."""
    shown = best_first(boxes_xyxy, drawn.get("scores"))[:MOST_BOXES]
    spots = []  # of the texts so far, xyxy
    if len(shown) < len(boxes_xyxy):
        spots.append(_write_how_many(ax, area, len(boxes_xyxy) - len(shown)))
    boxes_xyxy = boxes_xyxy[shown]
    for place, (index, box) in enumerate(zip(shown, boxes_xyxy, strict=True)):
        number = drawn["classes"][index]
        colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
        outline = {"edgecolor": colour, "linewidth": 1.8, "path_effects": HALO, "fill": False}
        ax.add_artist(Rectangle(box[:2], *(box[2:] - box[:2]), **outline))
        if place >= MOST_LABELS:
            continue
        words = shorten(names[number], 20)
        if "scores" in drawn:
            words += f" {drawn['scores'][index]:.2f}"
        text = ax.text(0, 0, words, fontsize=9.5, va="center_baseline", ha="center", zorder=4)
        size = (text.get_window_extent().width + 10, LABEL)
        x, y = label_corner(box, size, boxes_xyxy, spots, area)
        spots.append((x, y, x + size[0], y + LABEL))
        ax.add_artist(Rectangle((x, y), *size, color=colour, zorder=3))
        text.set_position((x + size[0] / 2, y + LABEL / 2))


def best_first(boxes_xyxy: np.ndarray, scores: Sequence[float] | None) -> np.ndarray:
    """The numbers of the boxes, as they are where all get labels.

    Otherwise they go from the surest on; true boxes, from the largest.
    """
    if len(boxes_xyxy) <= MOST_LABELS:
        return np.arange(len(boxes_xyxy))
    worth = scores
    if scores is None:
        worth = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    return np.argsort(-np.asarray(worth), kind="stable")


def _write_how_many(ax: Axes, area: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Say below a frame how many boxes are not drawn; the text's place, xyxy."""
    _, _, right, bottom = area
    words = f"{count} more boxes"
    text = ax.text(right, bottom - LABEL / 2, words, fontsize=9.5, va="center", ha="right")
    return right - text.get_window_extent().width, bottom - LABEL, right, bottom


def label_corner(
    box_xyxy: np.ndarray,
    size: Sequence[float],
    boxes_xyxy: np.ndarray,
    taken_xyxy: Sequence[Sequence[float]],
    area: Sequence[float],
) -> np.ndarray:
    """Upper left corner of a label beside its box: where it covers least of boxes and other labels.

    Args:
        size: width and height of the label.
        boxes_xyxy, taken_xyxy: all boxes, and the labels that are placed already.
        area: x1 y1 x2 y2, in which it must lie.
    """
    width, height = size
    x1, y1, x2, y2 = np.add(box_xyxy, (-4, -4, 4, 4))  # half the line and a little air
    above, below = y1 - height, y2
    left, right = x1 - width, x2
    corners = [(x1, above), (x2 - width, above), (x1, below), (x2 - width, below)]
    corners += [(right, y1), (right, y2 - height), (left, y1), (left, y2 - height)]
    corners = np.clip(corners, area[:2], np.subtract(area[2:], size))
    spots = np.hstack([corners, corners + size])
    # Text on text cannot be read
    cost = _overlaps(spots, boxes_xyxy) + 10 * _overlaps(spots, taken_xyxy)
    return corners[np.argmin(cost)]


def _overlaps(a_xyxy: np.ndarray, b_xyxy: Sequence) -> np.ndarray:
    """The area of each of `a` (N, 4) that lies under `b` (M, 4), summed over `b`: (N,)."""
    a, b = a_xyxy[:, None], np.reshape(b_xyxy, (1, -1, 4))
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return sides.clip(0).prod(axis=-1).sum(axis=-1)
