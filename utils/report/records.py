"""Frames with their truth and predictions as columns that a page reads in milliseconds.

A column is numbers of one type, little-endian, in base64; a page of 20,000 frames has some two
million bytes of them. Boxes are whole pixels of the original image. Of the detections those of at
least `LEAST_SCORE` are kept, at most `MOST_BOXES` a frame, the surest.

Every detection has its kind of error (`utils.evaluation.error_kinds`) and the true box that it is
about, by its number in the frame. As no detection changes its kind with the threshold, the page can
tell kinds and missed boxes at any.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from utils.core.data_config import DataConfig
from utils.core.options import USUAL_CONFIDENCE
from utils.evaluation.error_kinds import NO_BOX
from utils.evaluation.frame_kinds import frame_kinds
from utils.evaluation.results import ImageResult

LEAST_SCORE = 0.05
MOST_BOXES = 20
STEPS = 65535  # of a score or a probability
NO_TRUE_BOX = 65535


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
    clips = [data.clip_of(result.image) or ("", 0) for result in results]
    patients = [patient_of(result) for result in results]
    patient_names = sorted(set(patients))
    clip_names = sorted({clip for clip, _ in clips})
    return {
        "name": name,
        "root": address_of(folder, page.parent),
        "names": [Path(os.path.relpath(result.image, folder)).as_posix() for result in results],
        "confidence": round(confidence, 2),
        "patients": patient_names,
        "clips": clip_names,
        "columns": {
            "patient": column(_numbers(patients, patient_names), "uint32"),
            "clip": column(_numbers([own for own, _ in clips], clip_names), "uint32"),
            "number": column([number for _, number in clips], "uint32"),
            "size": column([(result.width, result.height) for result in results], "uint32"),
            "loss": column([result.detection_loss for result in results], "float32"),
            "view": column([result.true_view for result in results], "int16"),
            "said": column(_probabilities(results, len(data.view_names)), "uint16"),
        }
        | _true_boxes(results)
        | _detections(parts, len(data.names)),
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


def column(values: Sequence[object] | np.ndarray, kind: str) -> dict[str, str]:
    """Numbers as the page reads them."""
    content = np.asarray(values).astype(np.dtype(kind).newbyteorder("<"))
    return {"type": kind, "base64": base64.b64encode(content.tobytes()).decode("ascii")}


def _probabilities(results: Sequence[ImageResult], views: int) -> np.ndarray:
    """(frames, views) in steps; zeros where the network names no view."""
    said = np.zeros((len(results), views))
    for row, result in zip(said, results, strict=True):
        row[: len(result.view_probabilities)] = result.view_probabilities
    return np.rint(said * STEPS)


def _true_boxes(results: Sequence[ImageResult]) -> dict[str, dict[str, str]]:
    boxes = np.concatenate([result.true_boxes_xyxy for result in results])
    return {
        "true_count": column([len(result.true_classes) for result in results], "uint16"),
        "true_box": column(np.rint(boxes).clip(0), "uint16"),
        "true_class": column(np.concatenate([own.true_classes for own in results]), "uint16"),
    }


def _detections(
    parts: Sequence[Sequence[ImageResult]], class_count: int
) -> dict[str, dict[str, str]]:
    counts = []
    rows: dict[str, list[np.ndarray]] = {
        key: [] for key in ("box", "score", "class", "kind", "meant")
    }
    for results in parts:
        for result, (kinds, meant) in zip(results, frame_kinds(results, class_count), strict=True):
            kept = np.flatnonzero(result.scores >= LEAST_SCORE)[:MOST_BOXES]
            counts.append(len(kept))
            rows["box"].append(np.rint(result.boxes_xyxy[kept]).clip(0))
            rows["score"].append(np.rint(result.scores[kept] * STEPS))
            rows["class"].append(result.classes[kept])
            rows["kind"].append(kinds[kept])
            numbers = np.where(meant[kept] == NO_BOX, NO_TRUE_BOX, meant[kept])
            rows["meant"].append(numbers)
    types = {"kind": "uint8"}
    found = {"count": column(counts, "uint16")}
    for key, values in rows.items():
        found[key] = column(np.concatenate(values), types.get(key, "uint16"))
    return found
