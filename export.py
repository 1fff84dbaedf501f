"""Write a checkpoint's model for other programs, as ONNX or as PyTorch's exported program, beside the checkpoint.

python export.py --weights runs/train/exp/weights/last.pt                       # last.onnx
python export.py --weights runs/train/exp/weights/last.pt --include onnx pt2    # and last.pt2, of torch.export
python export.py --weights runs/train/exp/weights/last.pt --nms --half          # suppression in the graph, in float16

Input and outputs are described in utils/inference/export.py, and in the README. Needs: pip install
'.[export]'
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
from pathlib import Path

import torch
from torch import nn

from utils.checkpoints.checkpoint import averaged_weights
from utils.checkpoints.model_file import ModelFacts, load_any, model_from_checkpoint
from utils.checkpoints.onnx_model import OnnxModel
from utils.core.options import (
    check_thresholds,
    given_options,
    usual_confidence,
    warn_without_effect,
)
from utils.core.script import LOGGER, UserError, run_script
from utils.inference import export


def main() -> None:
    args = parse_arguments()
    content = load_any(args.weights)
    facts = ModelFacts.of_checkpoint(content)
    facts = dataclasses.replace(facts, imgsz=args.imgsz or facts.imgsz)
    model = model_from_checkpoint(content, averaged_weights(content), args.weights).eval()
    if args.nms and "detection" not in model.tasks:
        raise UserError(
            f"--nms: {args.weights} finds no boxes, so there is nothing to suppress; leave it out"
        )
    program = export.exported_program(export.Deployed(model, args.half))
    for suffix in dict.fromkeys(args.include):
        path = Path(args.weights).with_suffix(f".{suffix}")
        write = write_onnx if suffix == "onnx" else write_program
        LOGGER.info(f"{path}: {write(path, program, model, facts, args)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", required=True, help="checkpoint, such as runs/train/exp/weights/last.pt"
    )
    parser.add_argument(
        "--include",
        nargs="+",
        choices=("onnx", "pt2"),
        default=["onnx"],
        help="what (default: onnx)",
    )
    parser.add_argument(
        "--imgsz", type=int, help="side that the file recommends, pixels (default: as trained)"
    )
    parser.add_argument("--half", action="store_true", help="weights and convolutions in float16")
    parser.add_argument(
        "--nms", action="store_true", help="non-maximum suppression in the graph (ONNX only)"
    )
    parser.add_argument(
        "--conf-thres", type=float, help="of --nms: lowest confidence (default: the checkpoint's)"
    )
    parser.add_argument("--iou-thres", type=float, default=0.45, help="of --nms (default: 0.45)")
    parser.add_argument(
        "--opset", type=int, help="ONNX's operator set (default: the exporter's choice)"
    )
    args = parser.parse_args()
    check_thresholds(args)
    warn_without_effect(given_options(parser, args), without_effect(args))
    if args.imgsz is not None and (args.imgsz < export.STRIDE or args.imgsz % export.STRIDE):
        raise UserError(f"--imgsz is {args.imgsz}, expected a multiple of {export.STRIDE}")
    if args.opset is not None and args.opset < export.OLDEST_OPSET:
        raise UserError(f"--opset is {args.opset}, expected {export.OLDEST_OPSET} or later")
    if args.nms and "pt2" in args.include:
        raise UserError("--nms is for ONNX only; leave out pt2, or export it by itself")
    return args


def without_effect(args: argparse.Namespace) -> dict[str, str]:
    """Options that change nothing -> because of what."""
    idle = {}
    if not args.nms:
        idle |= dict.fromkeys(("conf_thres", "iou_thres"), "an export without --nms")
    if "onnx" not in args.include:
        idle["opset"] = f"--include {' '.join(args.include)}"
    return idle


def write_onnx(
    path: Path,
    program: torch.export.ExportedProgram,
    model: nn.Module,
    facts: ModelFacts,
    args: argparse.Namespace,
) -> str:
    """Write the file; returns what there is to say of it."""
    proto, properties = export.onnx_model(program, model.tasks, args.opset), properties_of(facts)
    compared = "not compared with PyTorch, as onnxruntime is not installed"
    if importlib.util.find_spec("onnxruntime"):
        exported = OnnxModel(proto.SerializeToString(), path)
        compared = comparison(
            export.deviations(model, lambda images: [*exported.run(images).values()], facts.imgsz)
        )
    if args.nms:
        confidence = facts.confidence if args.conf_thres is None else args.conf_thres
        suppression = export.Suppression(
            usual_confidence() if confidence is None else confidence, args.iou_thres
        )
        proto = export.with_suppression(proto, suppression)
        properties["suppression"] = json.dumps(dataclasses.asdict(suppression))
        compared += " (before suppression)"
    export.write_onnx(path, proto, properties)
    outputs = ", ".join(output.name for output in proto.graph.output)
    return f"{size_of(path)}, opset {export.opset_of(proto)}, images -> {outputs}; {compared}"


def write_program(
    path: Path,
    program: torch.export.ExportedProgram,
    model: nn.Module,
    facts: ModelFacts,
    args: argparse.Namespace,
) -> str:
    """Write the file; returns what there is to say of it."""
    export.write_program(path, program, properties_of(facts))
    exported = torch.export.load(path).module()
    return f"{size_of(path)}; {comparison(export.deviations(model, exported, facts.imgsz))}"


def properties_of(facts: ModelFacts) -> dict[str, str]:
    return facts.to_properties() | {"stride": json.dumps(export.STRIDE)}


def size_of(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f} MiB"


def comparison(deviations: dict[str, float]) -> str:
    largest = ", ".join(f"{name} {value:.1g}" for name, value in deviations.items())
    return f"largest deviation from PyTorch: {largest}"


if __name__ == "__main__":
    run_script(main)
