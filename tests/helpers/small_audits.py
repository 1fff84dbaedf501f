"""Audits of a small data set, and how its files are changed between them."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import yaml

from utils.core.data_config import load_data_config
from utils.curation.audit import Audit, audit
from utils.data.splits import label_path

TRAIN = "images/train"
VAL = "images/val"


def look(frames: Path, **changes: object) -> Audit:
    return audit(replace(load_data_config(frames.parent / "data.yaml"), **changes))


def found_in(result: Audit) -> dict[str, list[set[str]]]:
    """Kind of finding -> the file names of each."""
    names: dict[str, list[set[str]]] = {}
    for finding in result.findings:
        names.setdefault(finding.kind, []).append({path.name for path in finding.files})
    return names


def images_of(frames: Path, split: str = TRAIN) -> list[Path]:
    return sorted((frames / split).iterdir())


def copy(image: Path, target: Path) -> Path:
    """Copy an image and its label file."""
    shutil.copy(image, target)
    shutil.copy(label_path(image), label_path(target))
    return target


def write(path: Path, pixels: np.ndarray) -> None:
    cv2.imencode(path.suffix, pixels)[1].tofile(path)


def move(frames: Path, image: Path) -> Path:
    """Move a training frame into the validation split."""
    target = copy(image, frames / VAL / image.name)
    for path in (image, label_path(image)):
        path.unlink()
    return target


def plausible_file(folder: Path, content: object) -> Path:
    (folder / "plausible.yaml").write_text(yaml.safe_dump(content))
    return folder / "plausible.yaml"
