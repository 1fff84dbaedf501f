"""Frames with their truth and predictions as columns that a page reads in milliseconds.

A column is a list of whole numbers, of all frames one after the other; alike numbers that follow
each other take next to no room once they are packed. Boxes are whole pixels of the original image.
Of the detections those of at least `LEAST_SCORE` are kept, at most `MOST_BOXES` a frame, the
surest.

Every detection has its kind of error (`utils.evaluation.error_kinds`) and the true box that it is
about, by its number in the frame. As no detection changes its kind with the threshold, the page can
tell kinds and missed boxes at any.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.options import USUAL_CONFIDENCE
from utils.evaluation.frame_kinds import frame_kinds
from utils.evaluation.results import ImageResult
from utils.report.page import packed

LEAST_SCORE = 0.05
MOST_BOXES = 20
STEPS = 65535  # of a score or a probability
LOSS_DIGITS = 4


def frame_set(
    name: str,
    parts: Sequence[Sequence[ImageResult]],
    data: DataConfig,
    page: Path,
    confidence: float | None,
) -> dict[str, object]:
    """The frames that one network, or the networks of several folds, predicted.

    Args:
        name: what a reader picks the set by.
        parts: the results of each network; the kinds of errors are each network's own.
        data: of any; classes, views and clips are the same.
        page: the HTML file, from which the pictures are found.
        confidence: from which on boxes are shown at first; None: the usual.
    """
    results = [result for part in parts for result in part]
    folder = common_folder(results)
    if confidence is None:
        confidence = USUAL_CONFIDENCE
    content = _frames(results, folder, data) | _true_boxes(results)
    content |= _detections(parts, len(data.names))
    return {
        "name": name,
        "root": address_of(folder, page.parent),
        "confidence": round(confidence, 2),
        "frames": len(results),
        "packed": packed(content),
    }


def _frames(
    results: Sequence[ImageResult], folder: str, data: DataConfig
) -> dict[str, Sequence[object]]:
    """Where each frame is from, and what is known of it as a whole; names below `folder`."""
    clips = [data.clip_of(result.image) or ("", 0) for result in results]
    patients = [patient_of(result) for result in results]
    patient_names = sorted(set(patients))
    clip_names = sorted({clip for clip, _ in clips})
    return {
        "names": [Path(os.path.relpath(result.image, folder)).as_posix() for result in results],
        "patients": patient_names,
        "clips": clip_names,
        "patient": _numbers(patients, patient_names),
        "clip": _numbers([own for own, _ in clips], clip_names),
        "number": [number for _, number in clips],
        "width": [int(result.width) for result in results],
        "height": [int(result.height) for result in results],
        "loss": [_loss(result) for result in results],
        "view": [int(result.true_view) for result in results],
        "said": _whole(_probabilities(results, len(data.view_names)) * STEPS),
    }


def _numbers(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """The place of every name among the known ones."""
    place = {name: number for number, name in enumerate(known)}
    return [place[name] for name in names]


def common_folder(results: Sequence[ImageResult]) -> str:
    """The folder that all images lie below."""
    return os.path.commonpath([os.path.dirname(os.path.abspath(own.image)) for own in results])


def address_of(folder: str | Path, page: Path) -> str:
    """How a page in the folder `page` names another folder: a relative URL where there is one."""
    try:
        return quote(Path(os.path.relpath(folder, page.absolute())).as_posix())
    except ValueError:  # another drive
        return Path(folder).as_uri()


def patient_of(result: ImageResult) -> str:
    """The patient's name; empty where none is known."""
    if result.group == result.image:
        return ""
    return result.group


def _whole(numbers: np.ndarray) -> list[int]:
    """Rounded, in one list; below zero there is nothing."""
    return np.rint(numbers).clip(0).astype(int).ravel().tolist()


def _loss(result: ImageResult) -> float | None:
    """None where it was not measured."""
    if not math.isfinite(result.detection_loss):
        return None
    return float(f"{result.detection_loss:.{LOSS_DIGITS}g}")


def _probabilities(results: Sequence[ImageResult], views: int) -> np.ndarray:
    """(frames, views); zeros where the network names no view."""
    said = np.zeros((len(results), views))
    for row, result in zip(said, results, strict=True):
        row[: len(result.view_probabilities)] = result.view_probabilities
    return said


def _true_boxes(results: Sequence[ImageResult]) -> dict[str, list[int]]:
    return {
        "true_count": [len(result.true_classes) for result in results],
        "true_box": _whole(np.concatenate([result.true_boxes_xyxy for result in results])),
        "true_class": _whole(np.concatenate([own.true_classes for own in results])),
    }


def _detections(parts: Sequence[Sequence[ImageResult]], class_count: int) -> dict[str, list[int]]:
    """Of all frames' detections; `meant` is `NO_BOX` where a detection is about no true box."""
    found: dict[str, list[int]] = {
        key: [] for key in ("count", "box", "score", "class", "kind", "meant")
    }
    for results in parts:
        for result, (kinds, meant) in zip(results, frame_kinds(results, class_count), strict=True):
            kept = np.flatnonzero(result.scores >= LEAST_SCORE)[:MOST_BOXES]
            found["count"].append(len(kept))
            found["box"] += _whole(result.boxes_xyxy[kept])
            found["score"] += _whole(result.scores[kept] * STEPS)
            found["class"] += result.classes[kept].tolist()
            found["kind"] += kinds[kept].tolist()
            found["meant"] += meant[kept].tolist()
    return found
