"""The evaluation loop: a model's predictions for all frames of a loader, and files to draw from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from utils.core import distributed
from utils.core.data_config import DataConfig
from utils.core.device import Compute
from utils.core.files import write_json
from utils.core.options import USUAL_CONFIDENCE
from utils.data.dataset import JointDataset
from utils.data.detections import boxes_in_pixels, no_detections
from utils.data.loader import Batch, Labels
from utils.evaluation.metrics import confidence_of
from utils.evaluation.predictions import FramePrediction, packed, unpacked
from utils.evaluation.results import ImageResult
from utils.evaluation.summary import Summary
from utils.losses.joint import LOSS_READ_INTERVAL, JointLoss, LossMeter

LEAST_CONFIDENCE = 0.001  # of a detection that counts towards AP
MOSAIC_FRAMES = 16


def on_device(batch: Batch, device: torch.device) -> Labels:
    """What the losses read of a batch, its tensors on `device`."""
    read = {}
    for key in ("views", "targets", "target_counts"):
        if key not in batch:
            continue
        value = batch[key]
        if isinstance(value, Tensor):
            value = value.to(device, non_blocking=True)
        read[key] = value
    return read


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: DataLoader,
    compute: Compute,
    data: DataConfig,
    criterion: JointLoss | None = None,
    iou: float = 0.6,
) -> tuple[list[ImageResult], dict[str, float]]:
    """Predict every frame of `loader` and set it beside its labels.

    Of several processes each takes its batches, and the first one has all results.

    Args:
        criterion: if given, the mean losses are returned too, and every result has its detection
            loss.
        iou: threshold of non-maximum suppression.

    Returns:
        One result a frame, boxes in pixels of the original image, down to confidence 0.001 and at
        most 300, rounded to what `utils.evaluation.predictions` keeps, but none in other processes
        than the first; and loss name -> mean over the batches, weighted by their images.
    """
    model.eval()
    if criterion:
        criterion.eval()
    numbers: list[int] = []
    predictions: list[FramePrediction] = []
    meter = LossMeter(LOSS_READ_INTERVAL)
    dataset = loader.dataset
    is_quiet = not distributed.is_main()
    batches = tqdm(loader, dataset.split.name, unit="batch", leave=False, disable=is_quiet)
    for index, batch in enumerate(batches):
        with compute.autocast():
            outputs = model(compute.images(batch["images"]))
        labels = on_device(batch, compute.device)
        losses = [math.nan] * len(batch["paths"])
        if criterion:
            meter.add(index, criterion(outputs, labels), batch["paths"])
        if criterion and "detect" in outputs:
            losses = criterion.detection_loss.of_frames(outputs["detect"], labels).tolist()
        own = batch["indices"].tolist()
        numbers += own
        predictions += _predictions(model, outputs, dataset, own, losses, iou)
    meter.read()
    results = []
    for number, prediction in _of_all_processes(numbers, predictions):
        results.append(prediction.beside_truth(data, dataset.split, number, dataset.bits))
    losses = {}
    if criterion:
        losses = meter.means()
    return results, losses


def _of_all_processes(
    numbers: Sequence[int], predictions: Sequence[FramePrediction]
) -> list[tuple[int, FramePrediction]]:
    """Number and rounded prediction of every frame, in order; nothing in others than rank 0."""
    own = {}
    if numbers:  # a process may have had nothing to do
        own = {"numbers": np.array(numbers)} | packed(predictions)
    numbered = []
    for share in distributed.to_main(own):
        if share:
            numbered += zip(share["numbers"].tolist(), unpacked(share), strict=True)
    return sorted(numbered, key=itemgetter(0))


def _predictions(
    model: nn.Module,
    outputs: Mapping[str, object],
    dataset: JointDataset,
    numbers: Sequence[int],
    detection_losses: Sequence[float],
    iou: float,
) -> list[FramePrediction]:
    """Of the frames of a batch, which are these of the data set."""
    sizes = dataset.original_sizes[numbers].tolist()
    detections = no_detections(len(numbers))
    if "detect" in outputs:
        letterboxes = [dataset.letterbox(number) for number in numbers]
        limits = {"confidence": LEAST_CONFIDENCE, "iou": iou, "several_labels": True}
        detections = boxes_in_pixels(model, outputs["detect"], letterboxes, sizes, **limits)
    probabilities = _probabilities(outputs, len(numbers))
    predictions = []
    for index, (height, width) in enumerate(sizes):
        prediction = FramePrediction(
            height=height,
            width=width,
            boxes_xyxy=detections[index][:, :4],
            scores=detections[index][:, 4],
            classes=detections[index][:, 5],
            view_probabilities=probabilities[index],
            detection_loss=detection_losses[index],
        )
        predictions.append(prediction)
    return predictions


def _probabilities(outputs: Mapping[str, object], images: int) -> Sequence[np.ndarray]:
    """(views,) of every image; empty without a view head."""
    if "classify" not in outputs:
        return [np.zeros(0)] * images
    return outputs["classify"].float().softmax(dim=1).cpu().numpy()


def write_evaluation(folder: Path, metrics: Summary, results: Sequence[ImageResult]) -> None:
    """Write metrics.json and val_batch.json, from which the evaluation's pictures are drawn."""
    write_json(folder / "metrics.json", metrics)
    confidence = confidence_of(metrics)
    if confidence is None:
        confidence = USUAL_CONFIDENCE
    records = [_mosaic_record(result, confidence) for result in _spread(results)]
    write_json(folder / "val_batch.json", records)


def _spread(results: Sequence[ImageResult]) -> list[ImageResult]:
    """At most `MOSAIC_FRAMES` results, evenly spaced: a mosaic shows more than one patient."""
    count = min(MOSAIC_FRAMES, len(results))
    return [results[i * len(results) // count] for i in range(count)]


def _mosaic_record(result: ImageResult, confidence: float) -> dict[str, object]:
    kept = result.scores >= confidence
    return {
        "path": result.image,
        "bits": result.bits,
        "truth": {
            "boxes_xyxy": result.true_boxes_xyxy.round(2).tolist(),
            "classes": result.true_classes.tolist(),
            "view": int(result.true_view),
        },
        "prediction": {
            "boxes_xyxy": result.boxes_xyxy[kept].round(2).tolist(),
            "scores": result.scores[kept].round(4).tolist(),
            "classes": result.classes[kept].tolist(),
            "view_probabilities": result.view_probabilities.round(4).tolist(),
        },
    }
