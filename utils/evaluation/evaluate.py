"""The evaluation loop: a model's predictions for every frame of a loader, and the files that keep them."""

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
from utils.core.device import Precision
from utils.core.files import write_json
from utils.core.options import USUAL_CONFIDENCE
from utils.data.boxes import non_max_suppression
from utils.data.dataset import JointDataset
from utils.evaluation.metrics import confidence_of
from utils.evaluation.predictions import FramePrediction
from utils.evaluation.results import ImageResult, no_heads
from utils.losses.joint import LOSS_READ_INTERVAL, JointLoss, LossReader

MOSAIC_FRAMES = 16


def on_device(batch: Mapping[str, object], device: torch.device) -> dict[str, object]:
    """What the losses read of a batch, its tensors on `device`."""
    read = {key: batch[key] for key in ("views", "targets", "target_counts") if key in batch}
    return {
        k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in read.items()
    }


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: DataLoader,
    precision: Precision,
    data: DataConfig,
    criterion: JointLoss | None = None,
    iou: float = 0.6,
) -> tuple[list[ImageResult], dict[str, float]]:
    """Predict every frame of `loader` and set it beside its labels; of several processes each takes its batches.

    Args:
        criterion: if given, the mean losses are returned too, and every result has its detection
            loss.
        iou: threshold of non-maximum suppression.

    Returns:
        One result a frame, boxes in pixels of the original image, down to confidence 0.001 and at
        most 300, rounded to what `utils.evaluation.predictions` keeps; and loss name -> mean over
        the batches, weighted by their images.
    """
    model.eval()
    if criterion:
        criterion.eval()
    numbered: list[tuple[int, ImageResult]] = []
    reader = LossReader(LOSS_READ_INTERVAL)
    dataset, quiet = loader.dataset, not distributed.is_main()
    for index, batch in enumerate(
        tqdm(loader, dataset.split.name, unit="batch", leave=False, disable=quiet)
    ):
        with precision.autocast():
            outputs = model(precision.images(batch["images"]))
        labels, losses = on_device(batch, precision.device), [math.nan] * len(batch["paths"])
        if criterion:
            reader.add(index, criterion(outputs, labels), batch["paths"])
        if criterion and "detect" in outputs:
            losses = criterion.detection_loss.of_frames(outputs["detect"], labels).tolist()
        detections, probabilities = _predictions(model, outputs, len(batch["paths"]), iou)
        beside = _beside_probabilities(outputs, len(batch["paths"]))
        frames = zip(
            batch["indices"].tolist(), detections, probabilities, losses, beside, strict=True
        )
        for number, boxes, views, loss, others in frames:
            prediction = _frame_prediction(dataset, number, boxes, views, loss, others)
            numbered.append(
                (number, prediction.beside_truth(data, dataset.split, number, dataset.bits))
            )
    reader.read()
    results = [result for _, result in sorted(distributed.gathered(numbered), key=itemgetter(0))]
    return results, reader.means() if criterion else {}


def _predictions(
    model: nn.Module, outputs: Mapping[str, object], images: int, iou: float
) -> tuple[Sequence[Tensor], Sequence[np.ndarray]]:
    """Boxes (n, 6) after NMS and view probabilities (views,) of every image; empty without the head for them."""
    detections, probabilities = [torch.zeros(0, 6)] * images, [np.zeros(0)] * images
    if "detect" in outputs:
        decoded = model.decode(outputs["detect"])
        found = non_max_suppression(decoded, confidence=0.001, iou=iou, several_labels=True)
        # One copy to the host for the whole batch.
        detections = torch.cat(found).cpu().split([len(boxes) for boxes in found])
    if "classify" in outputs:
        probabilities = outputs["classify"].float().softmax(dim=1).cpu().numpy()
    return detections, probabilities


def _beside_probabilities(outputs: Mapping[str, object], images: int) -> Sequence[np.ndarray]:
    """(heads, views) of every image, by the view heads that are trained beside the first."""
    if "classify_beside" not in outputs:
        return [no_heads()] * images
    return outputs["classify_beside"].float().softmax(dim=2).transpose(0, 1).cpu().numpy()


def _frame_prediction(
    dataset: JointDataset,
    index: int,
    detections: Tensor,
    probabilities: np.ndarray,
    detection_loss: float,
    beside_probabilities: np.ndarray,
) -> FramePrediction:
    height, width = dataset.original_sizes[index]
    return FramePrediction(
        height=height,
        width=width,
        boxes_xyxy=dataset.letterboxes[index].restore(
            detections[:, :4].double().numpy(), height, width
        ),
        scores=detections[:, 4].numpy(),
        classes=detections[:, 5].numpy(),
        view_probabilities=probabilities,
        detection_loss=detection_loss,
        beside_probabilities=beside_probabilities,
    )


def write_evaluation(folder: Path, metrics: Mapping, results: Sequence[ImageResult]) -> None:
    """Write metrics.json and val_batch.json, from which the evaluation's pictures are drawn."""
    write_json(folder / "metrics.json", metrics)
    chosen = confidence_of(metrics)
    confidence = USUAL_CONFIDENCE if chosen is None else chosen
    write_json(folder / "val_batch.json", [_mosaic_record(r, confidence) for r in _spread(results)])


def _spread(results: Sequence[ImageResult]) -> list[ImageResult]:
    """At most `MOSAIC_FRAMES` results, evenly spaced, so that a mosaic shows more than one patient."""
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
