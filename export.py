"""Write a checkpoint's model for other programs, as ONNX or as PyTorch's exported program.

python export.py --weights runs/train/exp/weights/last.pt                       # last.onnx
python export.py --weights runs/train/exp/weights/last.pt --include onnx pt2    # and last.pt2
python export.py --weights runs/train/exp/weights/last.pt --nms --half    # NMS inside, in float16

The files are written beside the checkpoint. Input and outputs: docs/how-to/export.md
Needs: pip install '.[export]'
"""

from __future__ import annotations

import argparse
import contextlib

from utils.core.arguments import MOST_SIDE, filled, given_options, image_side, script_parser
from utils.core.names import OLDEST_OPSET, STRIDE
from utils.core.options import warn_without_effect
from utils.core.script import UserError, run_script
from utils.core.settings import MANY, number, whole_number


def main() -> None:
    args = parse_arguments()
    # Torch takes seconds to import; help and wrong options do not wait for it.
    from utils.commands.export import run

    run(args)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--weights",
        required=True,
        type=filled,
        help="checkpoint, such as runs/train/exp/weights/last.pt",
    )
    parser.add_argument(
        "--include",
        nargs="+",
        choices=("onnx", "pt2"),
        default=["onnx"],
        help="formats to write; pt2: a program of torch.export (default: onnx)",
    )
    parser.add_argument(
        "--imgsz",
        type=image_side,
        help=f"side that the file recommends, pixels; a multiple of {STRIDE}, "
        f"at most {MOST_SIDE} (default: as trained)",
    )
    parser.add_argument("--half", action="store_true", help="weights and convolutions in float16")
    parser.add_argument(
        "--nms", action="store_true", help="non-maximum suppression in the graph (ONNX only)"
    )
    parser.add_argument(
        "--conf-thres",
        type=number(0, 1),
        help="of --nms: lowest confidence; 0 to 1 (default: the checkpoint's)",
    )
    parser.add_argument(
        "--iou-thres",
        type=number(0, 1),
        default=0.45,
        help="of --nms: IoU; 0 to 1 (default: 0.45)",
    )
    parser.add_argument(
        "--opset",
        type=opset,
        help=f"ONNX's operator set; at least {OLDEST_OPSET}, at most the newest that the installed "
        "onnx knows (default: the exporter's choice)",
    )
    return parser


def opset(text: str) -> int:
    """An ONNX operator set, as an argument."""
    newest = MANY
    with contextlib.suppress(ImportError):  # the export will say that onnx is missing
        from onnx.defs import onnx_opset_version

        newest = onnx_opset_version()
    return whole_number(OLDEST_OPSET, newest)(text)


def parse_arguments() -> argparse.Namespace:
    parser = build_parser()
    args = parser.parse_args()
    warn_without_effect(given_options(parser, args), without_effect(args))
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


if __name__ == "__main__":
    run_script(main)
