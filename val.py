"""Evaluate a checkpoint, or what export.py made of it, on a data set's split.

python val.py --weights runs/train/exp/weights/last.pt       # the data it was trained on
python val.py --weights runs/train/exp/weights/last.onnx     # the same by onnxruntime, on the CPU
python val.py --weights runs/train/exp/weights/last.pt --data my.yaml --task test
python val.py --weights yolov5s.pt --data my.yaml            # a public YOLOv5: boxes only
python val.py --predictions runs/val/exp/predictions.npz --data my.yaml    # without a network
"""

from __future__ import annotations

import argparse

from utils.core.arguments import (
    add_device,
    add_image_size,
    add_iou_threshold,
    add_result_folder,
    add_skip_bad_labels,
    add_workers,
    filled,
    given_options,
    script_parser,
)
from utils.core.options import TrainOptions
from utils.core.script import run_script
from utils.core.settings import add_argument, number, whole_number


def main() -> None:
    args = parse_arguments()
    # Torch takes seconds to import; help and wrong options do not wait for it.
    from utils.commands.val import run

    run(args)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=filled, help="last.pt of a run, or last.onnx made of it")
    source.add_argument(
        "--predictions", type=filled, metavar="FILE", help="predictions.npz, in place of a network"
    )
    parser.add_argument(
        "--data", type=filled, help="data.yaml (default: the one it was trained on)"
    )
    parser.add_argument(
        "--task",
        choices=("train", "val", "test"),
        default="val",
        help="split to evaluate on (default: val)",
    )
    add_image_size(parser)
    parser.add_argument(
        "--batch-size",
        type=whole_number(1),
        default=16,
        help="images a batch; at least 1 (default: 16)",
    )
    parser.add_argument(
        "--conf-thres",
        type=number(0, 1),
        help="confidence at which P, R, F1 are taken; 0 to 1 "
        "(default: the one in the checkpoint, chosen on validation)",
    )
    add_iou_threshold(parser, default=0.6)
    parser.add_argument(
        "--save-json", action="store_true", help="write predictions.json too, COCO's result format"
    )
    parser.add_argument(
        "--save-coco",
        action="store_true",
        help="write coco.json too: frames and the boxes above the confidence as a COCO data set",
    )
    parser.add_argument(
        "--report", action="store_true", help="write report.html too, a page to look at the frames"
    )
    add_device(parser)
    add_workers(parser, default=2)
    parser.add_argument(
        "--amp", default="auto", help="how to compute: auto, off, bf16 or fp16 (default: auto)"
    )
    add_result_folder(parser, "runs/val")
    add_argument(parser, TrainOptions, "index")
    add_skip_bad_labels(parser)
    return parser


def parse_arguments() -> argparse.Namespace:
    parser = build_parser()
    args = parser.parse_args()
    args.given = given_options(parser, args)
    return args


if __name__ == "__main__":
    run_script(main)
