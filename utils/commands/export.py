"""What export.py does: files of a checkpoint's model for other programs, compared with it."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
from pathlib import Path

import torch
from torch import nn

from utils.checkpoints.checkpoint import averaged_weights
from utils.checkpoints.model_file import ModelMetadata, load_any, model_from_checkpoint
from utils.checkpoints.onnx_model import OnnxModel
from utils.core.files import refuse_unwritable
from utils.core.options import (
    usual_confidence,
)
from utils.core.script import LOGGER, UserError
from utils.inference import export


def run(args: argparse.Namespace) -> None:
    paths = {suffix: Path(args.weights).with_suffix(f".{suffix}") for suffix in args.include}
    for path in paths.values():
        if path.parent.is_dir():  # else there are no such weights
            refuse_unwritable(path)
    content = load_any(args.weights)
    metadata = ModelMetadata.of_checkpoint(content)
    metadata = dataclasses.replace(metadata, imgsz=args.imgsz or metadata.imgsz)
    model = model_from_checkpoint(content, averaged_weights(content), args.weights).eval()
    if args.nms and "detection" not in model.tasks:
        raise UserError(
            f"--nms: {args.weights} finds no boxes, so there is nothing to suppress; leave it out"
        )
    program = export.exported_program(export.Deployed(model, args.half))
    for suffix, path in paths.items():
        write = WRITERS[suffix]
        LOGGER.info(f"{path}: {write(path, program, model, metadata, args)}")


def write_onnx(
    path: Path,
    program: torch.export.ExportedProgram,
    model: nn.Module,
    metadata: ModelMetadata,
    args: argparse.Namespace,
) -> str:
    """Write the file; returns what there is to report of it."""
    proto = export.onnx_model(program, model.tasks, args.opset)
    properties = properties_of(metadata)
    compared = "not compared with PyTorch, as onnxruntime is not installed"
    if importlib.util.find_spec("onnxruntime"):
        exported = OnnxModel(proto.SerializeToString(), path)
        deviations = export.deviations(
            model, lambda images: list(exported.run(images).values()), metadata.imgsz
        )
        compared = comparison(deviations)
    if args.nms:
        suppression = export.Suppression(confidence_for(args, metadata), args.iou_thres)
        proto = export.with_suppression(proto, suppression)
        properties["suppression"] = json.dumps(dataclasses.asdict(suppression))
        compared += " (before suppression)"
    export.write_onnx(path, proto, properties)
    outputs = ", ".join(output.name for output in proto.graph.output)
    return f"{size_of(path)}, opset {export.opset_of(proto)}, images -> {outputs}; {compared}"


def confidence_for(args: argparse.Namespace, metadata: ModelMetadata) -> float:
    """The lowest confidence of a box: what is asked for, else the checkpoint's, else the usual."""
    if args.conf_thres is not None:
        return args.conf_thres
    if metadata.confidence is not None:
        return metadata.confidence
    return usual_confidence()


def write_program(
    path: Path,
    program: torch.export.ExportedProgram,
    model: nn.Module,
    metadata: ModelMetadata,
    args: argparse.Namespace,
) -> str:
    """Write the file; returns what there is to report of it."""
    export.write_program(path, program, properties_of(metadata))
    exported = torch.export.load(path).module()
    return f"{size_of(path)}; {comparison(export.deviations(model, exported, metadata.imgsz))}"


# Suffix of a file -> what writes it and returns what there is to report
WRITERS = {"onnx": write_onnx, "pt2": write_program}


def properties_of(metadata: ModelMetadata) -> dict[str, str]:
    return metadata.to_properties() | {"stride": json.dumps(export.STRIDE)}


def size_of(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f} MiB"


def comparison(deviations: dict[str, float]) -> str:
    largest = ", ".join(f"{name} {value:.1g}" for name, value in deviations.items())
    return f"largest deviation from PyTorch: {largest}"
