"""Find boxes and views in images, videos, DICOM, folders, globs; draw, write or explain them.

python detect.py --weights runs/train/exp/weights/last.pt --source frames/    # pictures
python detect.py --weights last.pt --source "frames/*.jpg" clip.mp4 --save-txt --save-csv
python detect.py --weights last.pt --source study/    # DICOM, by content: pip install .[dicom]
python detect.py --weights last.pt --source frame.jpg --explain    # what the view was decided by
python detect.py --weights last.pt --source frames/ --data my.yaml --save-csv    # a view a clip

A clip is a file of several frames, or the images that a clip_pattern puts together: my.yaml's, else
that of the model's training. Its view is the one with the highest mean probability; its boxes are
rescored by what all its frames show (--clip-evidence). --save-txt writes label files as training
reads them. Nothing is written beside the sources.
"""

from __future__ import annotations

import argparse

from utils.core.arguments import (
    add_device,
    add_image_size,
    add_iou_threshold,
    add_result_folder,
    filled,
    given_options,
    script_parser,
)
from utils.core.script import UserError, run_script
from utils.core.settings import number, whole_number


def main() -> None:
    args = parse_arguments()
    # Torch takes seconds to import; help and wrong options do not wait for it.
    from utils.commands.detect import run

    run(args)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--weights",
        required=True,
        type=filled,
        help="last.pt of a run, or last.onnx made of it",
    )
    parser.add_argument(
        "--source",
        required=True,
        nargs="+",
        type=filled,
        help="images, videos, DICOM, folders and quoted globs",
    )
    parser.add_argument(
        "--data", type=filled, help="data.yaml whose clip_pattern tells which images are a clip"
    )
    add_image_size(parser)
    parser.add_argument(
        "--batch-size",
        type=whole_number(1),
        default=16,
        help="frames that the model looks at together; at least 1 (default: 16)",
    )
    parser.add_argument(
        "--conf-thres",
        type=number(0, 1),
        help="lowest confidence of a box; 0 to 1 (default: the checkpoint's)",
    )
    add_iou_threshold(parser, default=0.45)
    parser.add_argument(
        "--max-det",
        type=whole_number(1),
        default=300,
        help="boxes an image, at most; at least 1 (default: 300)",
    )
    parser.add_argument(
        "--view-thres",
        type=number(0, 1),
        help="a view of less probability is unknown; 0 to 1 (default: the checkpoint's, from "
        "which four of five were right on validation; 0 where it has none)",
    )
    add_device(parser)
    parser.add_argument(
        "--clip-evidence",
        action=argparse.BooleanOptionalAction,
        help="rescore boxes by what all frames of their clip show; with --save-csv write clips.csv "
        "and patients.csv (default: of DICOM, and where the model was trained on clips)",
    )
    add_outputs(parser)
    return parser


def add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--explain",
        action="store_true",
        help="draw beside the picture what the view was decided by (Grad-CAM)",
    )
    parser.add_argument("--nosave", action="store_true", help="no pictures and videos")
    parser.add_argument(
        "--save-txt", action="store_true", help="write label files with boxes and view"
    )
    parser.add_argument(
        "--save-csv", action="store_true", help="write predictions.csv, with confidences and clips"
    )
    parser.add_argument(
        "--save-coco",
        action="store_true",
        help="write coco.json, frames and boxes in COCO's format",
    )
    parser.add_argument(
        "--save-crop", action="store_true", help="write every box's pixels, in a folder a class"
    )
    add_result_folder(parser, "runs/detect")


def parse_arguments() -> argparse.Namespace:
    parser = build_parser()
    args = parser.parse_args()
    args.given = given_options(parser, args)
    if args.explain and args.nosave:
        raise UserError("--explain is a part of the pictures; leave out --nosave")
    if args.explain and args.clip_evidence:
        raise UserError("--explain shows frames one by one; leave out --clip-evidence")
    return args


if __name__ == "__main__":
    run_script(main)
