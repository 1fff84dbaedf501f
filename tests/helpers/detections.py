"""Videos, made-up predictions, and the table that detect.py writes of them."""

import csv
from pathlib import Path

import cv2
import numpy as np

from utils.inference.predictor import Prediction


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_video(path: Path, shades: list[int], codec: str = "mp4v", rate: float = 12.5) -> Path:
    """A video whose frames are of one shade of grey each."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (96, 64))
    for shade in shades:
        writer.write(np.full((64, 96, 3), shade, np.uint8))
    writer.release()
    return path


def prediction(
    boxes: list = (), view: tuple = (), size: tuple = (60, 100), **changes: object
) -> Prediction:
    """Of `boxes`: (x1, y1, x2, y2, confidence, class)."""
    rows = np.array(boxes, float).reshape(-1, 6)
    known = {"boxes_xyxy": rows[:, :4], "scores": rows[:, 4], "classes": rows[:, 5].astype(int)}
    return Prediction(*size, **known, view_probabilities=np.array(view), **changes)
