"""What detect.py does: predictions of frames, drawn, written or explained."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from torch import nn
from tqdm import tqdm

from models.common import ViewHead
from utils.checkpoints.model_file import ModelMetadata, is_onnx, model_from_checkpoint, open_model
from utils.core.data_config import load_data_config
from utils.core.device import select_compute, select_device
from utils.core.lock import claim_run_folder
from utils.core.options import warn_without_effect
from utils.core.script import LOGGER, UserError
from utils.inference import outputs
from utils.inference.predictor import Predictor
from utils.inference.sources import FrameReader, Source, find_sources, refuse_folder_of_sources


def run(args: argparse.Namespace) -> None:
    with claim_run_folder(args.project, args.name, args.exist_ok) as claimed:
        detect(args, claimed.folder)


def detect(args: argparse.Namespace, folder: Path) -> None:
    """Write the model's predictions of the sources into the folder."""
    data = load_data_config(args.data) if args.data else None
    sources = find_sources(args.source, data)
    refuse_folder_of_sources(folder, args.source, sources)
    compute = select_compute("auto", select_device(args.device))
    model, metadata = open_model(args.weights, model_from_checkpoint, compute)
    explained = view_head(model, args.weights) if args.explain else None
    limits = (args.imgsz, args.conf_thres, args.iou_thres, args.max_det)
    predictor = Predictor.of(model, metadata, compute, *limits, explained)
    warn_without_effect(args.given, without_effect(model, args.weights))
    write_outputs(args, sources, predictor, metadata, folder)


def write_outputs(
    args: argparse.Namespace,
    sources: Sequence[Source],
    predictor: Predictor,
    metadata: ModelMetadata,
    folder: Path,
) -> None:
    """Write the model's predictions of all frames into the folder."""
    tasks = predictor.model.tasks
    names = metadata.names if "detection" in tasks else []
    view_names = metadata.view_names if "classification" in tasks else []
    reader = FrameReader(sources, metadata.bits)
    tally = outputs.Tally(folder, names, view_names)
    files = [output(folder, names, view_names) for output in wanted(args)]
    with ExitStack() as stack:
        for output in [tally, *files]:
            stack.enter_context(closing(output))
        for frame in tqdm(reader, "detect", unit="frame", leave=False):
            prediction = predictor(frame.image)
            for output in [tally, *files]:
                output.add(frame, prediction)
    for text in [*reader.notes(), *reader.problems]:
        LOGGER.warning(f"warning: {text}")
    parts = [tally.summary()]
    if reader.problems:
        parts.append(f"{len(reader.problems)} of {len(sources)} files not read to their end")
    if files:
        parts.append(f"everything is in {folder}")
    LOGGER.info("\n".join([*tally.clips(), "; ".join(parts)]))


def without_effect(model: nn.Module, weights: str) -> dict[str, str]:
    """Options that change nothing for this model -> because of what."""
    idle = {}
    if "detection" not in model.tasks:
        no_boxes = f"{weights}, which finds no boxes"
        idle |= dict.fromkeys(("conf_thres", "iou_thres", "max_det", "save_crop"), no_boxes)
    if is_onnx(weights):
        idle["device"] = f"{weights}: ONNX runs on the CPU"
    return idle


def view_head(model: nn.Module, weights: str) -> ViewHead:
    """The layer whose decision is to be explained.

    Raises:
        UserError: there is none that can be explained.
    """
    if is_onnx(weights):
        raise UserError(
            f"--explain: {weights} is ONNX, which shows no gradients; "
            "give the checkpoint it was made of"
        )
    heads = [layer for layer in model.modules() if isinstance(layer, ViewHead)]
    if not heads:
        raise UserError(
            f"--explain: {weights} has no view head, so there is no view to explain; leave it out"
        )
    if heads[0].map_count > 1:
        raise UserError(
            f"--explain: the view head of {weights} reads {heads[0].map_count} maps; "
            "expected one to explain"
        )
    return heads[0]


def wanted(args: argparse.Namespace) -> list[type[outputs.Output]]:
    """The outputs that were asked for."""
    asked = {
        outputs.Pictures: not args.nosave,
        outputs.LabelFiles: args.save_txt,
        outputs.Crops: args.save_crop,
        outputs.Table: args.save_csv,
    }
    return [output for output, is_wanted in asked.items() if is_wanted]
