"""Run folders and data sets that pages are made of, without a training."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import yaml
from made_up_runs import log_epochs

from utils.core.data_config import load_data_config
from utils.core.device import Compute, select_compute, select_device
from utils.core.files import write_json
from utils.data.dataset import JointDataset
from utils.data.splits import load_split
from utils.evaluation.metrics import plain, summarise
from utils.evaluation.predictions import FILE_NAME, FramePrediction, Header, write_predictions
from utils.evaluation.results import ImageResult

CARD = "# Model card\n\n- finds boxes of `AR`\n\n| split | frames |\n| --- | --- |\n| val | 8 |\n"

# File names that are markup, long, or written from right to left
HOSTILE = (
    "<script>document.title='pwned'<%2Fscript>",
    "\"'><img src=x onerror=\"document.title='pwned'\">",
    "x" * 200,
    "\u202egpj.\u05d0\u05d1\u05d2",
    "&amp;#{{7*7}}$&",
)


def unpacked(text: str) -> object:
    """What `utils.report.page.packed` packed."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def cpu() -> Compute:
    return select_compute("off", select_device("cpu"))


def write_run(
    folder: Path, data_yaml: Path, seed: int = 0, split: str = "val", confused: int = 0
) -> Path:
    """A run's files, with predictions that are the truth and some noise.

    Args:
        confused: so many frames have surely found boxes of another class.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = load_data_config(data_yaml)
    frames = load_split(data, split)
    dataset = JointDataset(frames, 64, cache="off")
    results = noisy_results(data_yaml, split, seed)
    for index in range(confused):
        results[index] = as_another_class(results[index], len(data.names))
    trained_on = load_split(data, "train").fingerprint()
    header = Header.of(data, dataset, ["detection", "classification"], cpu(), 0.3, None, trained_on)
    write_predictions(folder / FILE_NAME, results, header)
    metrics = summarise(
        results, data.names, data.view_names, intervals=False, cls_title=data.cls_title
    )
    write_json(folder / "metrics.json", plain(metrics))
    log_epochs(folder, 3)
    (folder / "MODEL_CARD.md").write_text(CARD, encoding="utf-8")
    (folder / "opt.yaml").write_text(yaml.safe_dump({"data": str(data_yaml)}), encoding="utf-8")
    return folder


def noisy_results(data_yaml: Path, split: str = "val", seed: int = 0) -> list[ImageResult]:
    """The truth moved by some pixels, false boxes beside it, views right three times in four."""
    rng = np.random.default_rng(seed)
    data = load_data_config(data_yaml)
    frames = load_split(data, split)
    results = []
    for index, path in enumerate(frames.images):
        width, height = image_size(path)
        nothing = FramePrediction(
            height, width, np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), np.zeros(0)
        )
        truth = nothing.beside_truth(data, frames, index, None)
        near = truth.true_boxes_xyxy + rng.normal(0, 6, truth.true_boxes_xyxy.shape)
        corner = rng.uniform(0, 100, (2, 2))
        boxes = np.vstack((near, np.hstack((corner, corner + 30))))
        classes = np.append(truth.true_classes, rng.integers(len(data.names), size=2))
        scores = np.append(rng.uniform(0.5, 1, len(near)), rng.uniform(0.06, 0.6, 2))
        order = np.argsort(-scores)
        probabilities = rng.dirichlet(np.ones(len(data.view_names)))
        if truth.true_view >= 0 and index % 4:
            probabilities[truth.true_view] += 2
        found = FramePrediction(
            height=height,
            width=width,
            boxes_xyxy=boxes[order],
            scores=scores[order],
            classes=classes[order],
            view_probabilities=(probabilities / probabilities.sum()).astype(np.float32),
            detection_loss=float(rng.uniform(0, 1)),
        )
        results.append(found.beside_truth(data, frames, index, None))
    return results


def as_another_class(result: ImageResult, class_count: int) -> ImageResult:
    """The true boxes, found for sure and called something else."""
    return replace(
        result,
        boxes_xyxy=result.true_boxes_xyxy,
        scores=np.full(len(result.true_classes), 0.999),
        classes=(result.true_classes + 1) % class_count,
    )


def image_size(path: Path) -> tuple[int, int]:
    """Width and height."""
    content = np.fromfile(path, np.uint8)
    height, width = cv2.imdecode(content, cv2.IMREAD_COLOR).shape[:2]
    return width, height


def with_names(tiny: Path, folder: Path, names: list[str], classes: list[str]) -> Path:
    """A copy of the tiny phantom whose first validation images, and classes, are named so."""
    shutil.copytree(tiny.parent, folder, dirs_exist_ok=True)
    images = sorted((folder / "frames/images/val").iterdir())
    for image, name in zip(images, names, strict=False):
        label = folder / "frames/labels/val" / f"{image.stem}.txt"
        label.rename(label.with_name(f"{name}.txt"))
        image.rename(image.with_name(f"{name}{image.suffix}"))
    content = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))
    text = yaml.safe_dump(content | {"names": classes}, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return folder / "data.yaml"
