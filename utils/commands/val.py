"""What val.py does: a network, or predictions in a file, against the truth of a split."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from utils.checkpoints.model_file import ModelMetadata, is_onnx, model_from_checkpoint, open_model
from utils.commands.report import report as write_page
from utils.core.data_config import DataConfig, load_data_config
from utils.core.device import Compute, select_compute, select_device
from utils.core.files import write_json
from utils.core.lock import claim_run_folder
from utils.core.options import (
    USUAL_CONFIDENCE,
    usual_confidence,
    warn_without_effect,
)
from utils.core.script import LOGGER, UserError
from utils.curation.reference import same_clip_reference
from utils.data.dataset import JointDataset
from utils.data.flow_colour import has_flow_colour
from utils.data.images import read_image
from utils.data.loader import make_loader
from utils.data.splits import Split, load_split
from utils.evaluation.clip_metrics import clip_metrics
from utils.evaluation.coco import CocoFrame, coco_document
from utils.evaluation.evaluate import evaluate, write_evaluation
from utils.evaluation.metrics import confidence_of, plain, summarise
from utils.evaluation.predictions import (
    FILE_NAME,
    Header,
    read_predictions,
    results_from,
    write_coco_predictions,
    write_predictions,
)
from utils.evaluation.results import ImageResult
from utils.evaluation.risk_coverage import risk_of_views
from utils.evaluation.tables import format_table
from utils.evaluation.thresholds import BY_TASK
from utils.plots.run import draw_evaluation

# Of the frames that are predicted, and how; predictions in a file have them behind them
NETWORK_OPTIONS = ("task", "imgsz", "batch_size", "iou_thres", "device", "workers", "amp")


def run(args: argparse.Namespace) -> None:
    with claim_run_folder(args.project, args.name, args.exist_ok) as claimed:
        if args.predictions:
            rescore(args, claimed.folder)
        else:
            evaluate_network(args, claimed.folder)


def evaluate_network(args: argparse.Namespace, folder: Path) -> None:
    """Let the network predict the split, and report on it in the folder."""
    compute = select_compute(args.amp, select_device(args.device))
    model, metadata = open_model(args.weights, model_from_checkpoint, compute)
    warn_without_effect(args.given, without_effect(model, args.weights))
    data = matching_data(args.data or metadata.data, metadata, args.weights, model.tasks)
    split = load_split(data, args.task, args.skip_bad_labels, args.index)
    results, header = predict(args, model, metadata, compute, data, split)
    write_predictions(folder / FILE_NAME, results, header)
    report(args, data, split, results, header, folder)


def predict(
    args: argparse.Namespace,
    model: nn.Module,
    metadata: ModelMetadata,
    compute: Compute,
    data: DataConfig,
    split: Split,
) -> tuple[list[ImageResult], Header]:
    """The model's predictions of the split, and what a file of them begins with."""
    dataset = JointDataset(split, args.imgsz or metadata.imgsz, rect=metadata.rect)
    loader = make_loader(dataset, args.batch_size, args.workers, compute.device.type == "cuda")
    results, _ = evaluate(model, loader, compute, data, iou=args.iou_thres)
    if data.needs_colour or metadata.needs_colour:
        results = without_boxes_in_grey(results)
    confidence = args.conf_thres
    if confidence is None:
        confidence = metadata.confidence
    prior = None
    if list(data.names) == list(metadata.names):
        prior = metadata.view_prior
    trained_on = metadata.fingerprint.partition("-")[0]  # the training split's
    thresholds = {name: getattr(metadata, name) for name in BY_TASK.values()}
    header = Header.of(
        data, dataset, model.tasks, compute, confidence, prior, trained_on, thresholds
    )
    return results, header


def without_boxes_in_grey(results: Sequence[ImageResult]) -> list[ImageResult]:
    """The results, without the boxes of frames that show no flow colour; says how many there are.

    Their views stay, since a file of predictions has a view for every frame.
    """
    nothing = {
        "boxes_xyxy": np.zeros((0, 4)),
        "scores": np.zeros(0),
        "classes": np.zeros(0, int),
    }
    kept = list(results)
    grey = 0
    for number, result in enumerate(results):
        if not has_flow_colour(read_image(Path(result.image), result.bits)):
            kept[number] = dataclasses.replace(result, **nothing)
            grey += 1
    LOGGER.info(f"{grey} of {len(results)} frames show no flow colour; no box is looked for there")
    return kept


def rescore(args: argparse.Namespace, folder: Path) -> None:
    """Report in the folder on the predictions in a file, beside the truth in the data set."""
    predictions = read_predictions(args.predictions)
    header = predictions.header
    idle = dict.fromkeys(NETWORK_OPTIONS, f"--predictions {args.predictions}")
    warn_without_effect(args.given, idle | without_effect(header, args.predictions))
    if not args.data:
        raise UserError(
            "--data is missing: predictions do not say where their frames lie; name the data.yaml"
        )
    data = load_data_config(args.data)
    data = dataclasses.replace(data, bits=data.bits or header.bits)
    split = load_split(data, header.split, args.skip_bad_labels, args.index)
    results = results_from(predictions, split, data)
    report(args, data, split, results, header, folder)


def report(
    args: argparse.Namespace,
    data: DataConfig,
    split: Split,
    results: Sequence[ImageResult],
    header: Header,
    folder: Path,
) -> None:
    """Write what the predictions come to into the folder."""
    confidence = args.conf_thres
    if confidence is None:
        confidence = header.confidence
    if confidence is None and "detection" in header.tasks:
        confidence = usual_confidence()
    metrics = summarise(
        results,
        data.names,
        data.view_names,
        confidence,
        header.prior,
        tasks=header.tasks,
        cls_title=data.cls_title,
    )
    metrics["reference"] = same_clip_reference(data, split, header.trained_on, args.skip_bad_labels)
    kept = header.kept_thresholds
    metrics["clips"] = plain(clip_metrics(results, data, kept, header.tasks))
    metrics["risk_coverage"] = plain(risk_of_views(results, kept.view_probability))
    write_evaluation(folder, metrics, results)
    if args.save_json:
        write_coco_predictions(folder / "predictions.json", results)
    if args.save_coco:
        confidence = confidence_of(metrics)
        if confidence is None:
            confidence = USUAL_CONFIDENCE
        frames = [coco_frame(result, confidence, data) for result in results]
        write_json(folder / "coco.json", coco_document(frames, data.names))
    LOGGER.info("drawing pictures")
    draw_evaluation(folder)
    if args.report:
        write_predictions(folder / FILE_NAME, results, header)  # of another folder, perhaps
        write_page([folder], data_sets=[str(data.source)])
    LOGGER.info(f"{format_table(metrics)}\neverything is in {folder}")


def coco_frame(result: ImageResult, confidence: float, data: DataConfig) -> CocoFrame:
    """What is predicted of a frame, boxes of at least this confidence."""
    kept = result.scores >= confidence
    view = None
    if len(result.view_probabilities):
        view = data.view_names[result.view_probabilities.argmax()]
    return CocoFrame(
        file_name=result.image,
        frame=None,
        height=result.height,
        width=result.width,
        boxes_xyxy=result.boxes_xyxy[kept],
        scores=result.scores[kept],
        classes=result.classes[kept],
        view=view,
    )


def without_effect(predictor: nn.Module | Header, source: str) -> dict[str, str]:
    """Options that change nothing for a model, or for predictions of one -> because of what."""
    idle = {}
    if "detection" not in predictor.tasks:
        no_boxes = f"{source}, which finds no boxes"
        idle |= dict.fromkeys(("conf_thres", "iou_thres", "save_json"), no_boxes)
    if is_onnx(source):
        as_exported = f"{source}: ONNX runs on the CPU as it was exported"
        idle |= dict.fromkeys(("device", "amp"), as_exported)
    return idle


def matching_data(
    path: str, metadata: ModelMetadata, weights: str, tasks: Sequence[str]
) -> DataConfig:
    """The data set, if its classes and views are those of the model, as far as it answers for them.

    Where its images' stored bits are unknown, they are taken to be those of the training images.

    Raises:
        UserError: they are not.
    """
    if not path:
        raise UserError(
            f"--data is missing: {weights} does not say what it was trained on; name a data.yaml"
        )
    data = load_data_config(path)
    if "detection" in tasks:
        _refuse_other_names("names", data.names, metadata.names, data, weights)
    if "classification" in tasks:
        _refuse_other_names("cls_names", data.view_names, metadata.view_names, data, weights)
    return dataclasses.replace(data, bits=data.bits or metadata.bits)


def _refuse_other_names(
    key: str, names: Sequence[str], trained: Sequence[str], data: DataConfig, weights: str
) -> None:
    """Raise a `UserError` if the data.yaml's `key` lists others than the model was trained on."""
    if list(names) != list(trained):
        raise UserError(
            f"{data.source}: {key} {list(names)}, but {weights} was trained on {list(trained)}"
        )
