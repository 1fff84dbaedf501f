"""Predictions as a COCO data set, which tools for labelling and for looking at boxes read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CocoFrame:
    """A frame and what was found in it.

    Attributes:
        file_name: of the image, or of the video that it is a frame of.
        frame: its number in the video, from 1; None for an image.
        boxes_xyxy: (n, 4) pixels.
        scores, classes: (n,).
        view: name of the view; None where there is none.
    """

    file_name: str
    frame: int | None
    height: int
    width: int
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    view: str | None


def coco_document(frames: Iterable[CocoFrame], names: Sequence[str]) -> dict[str, object]:
    """COCO's format, of plain types: `images`, `categories`, `annotations`.

    Boxes are [left, top, width, height] in pixels, categories are numbered as the classes, images
    and annotations from 1, since pycocotools takes an annotation 0 for none. Beside COCO's keys an
    annotation has its `score`, as in COCO's results, and an image its `view` and, of a video, its
    `frame`.
    """
    images = []
    annotations = []
    for image_id, frame in enumerate(frames, start=1):
        image = {
            "id": image_id,
            "file_name": frame.file_name,
            "height": frame.height,
            "width": frame.width,
            "view": frame.view,
        }
        if frame.frame is not None:
            image["frame"] = frame.frame
        images.append(image)
        found = zip(frame.boxes_xyxy.tolist(), frame.scores, frame.classes, strict=True)
        for box_xyxy, score, number in found:
            annotation = _annotation(box_xyxy, float(score), int(number))
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    return {"images": images, "categories": categories, "annotations": annotations}


def _annotation(box_xyxy: Sequence[float], score: float, number: int) -> dict[str, object]:
    left, top, right, bottom = box_xyxy
    width = right - left
    height = bottom - top
    return {
        "category_id": number,
        "bbox": [round(value, 3) for value in (left, top, width, height)],
        "area": round(width * height, 3),
        "iscrowd": 0,
        "score": round(score, 6),
    }
