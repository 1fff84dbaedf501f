"""Take frames for a data set out of DICOM clips and videos, and nothing that names the patient.

python extract_frames.py --source clinic/ --out frames --key safe/key.csv    # can be led back
python extract_frames.py --source clinic/ --out frames --fps 5 --only-colour
python extract_frames.py --source clinic/ --out frames --every 10 --manufacturer

DIR gets images/P0001_C002_F0017.png (patient, clip, frame), sheets/P0001_C002.png (a clip at a
glance), extracted.csv, and a data.yaml with train.txt and val.txt, by patient. Everything outside
the image region is black. Text inside it stays: look at every sheet before you give frames away.
Numbers are drawn at random; with --key they are counted, and that file, which only you should have,
says who they are. Nothing that is written or printed names a file of --source.
"""

from __future__ import annotations

import argparse

from utils.core.arguments import filled, script_parser
from utils.core.script import run_script
from utils.core.settings import HUGE, TINY, number, whole_number


def main() -> None:
    args = parse_arguments()
    # OpenCV takes a while to import; help and wrong options do not wait for it.
    from utils.commands.extract_frames import run

    run(args)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--source",
        required=True,
        type=filled,
        metavar="DIR",
        help="folder of DICOM files, by whatever names, and videos; searched to any depth",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=filled,
        metavar="DIR",
        help="new or empty folder outside --source",
    )
    parser.add_argument(
        "--key",
        type=filled,
        metavar="FILE",
        help="table that leads from a number back to the patient, outside --out; if it is there, "
        "known patients and clips keep their numbers, and counting goes on",
    )
    add_selection(parser)
    parser.add_argument(
        "--manufacturer",
        action="store_true",
        help="write the machine's make, as one of a few words, into extracted.csv",
    )
    return parser


def add_selection(parser: argparse.ArgumentParser) -> None:
    """The options that choose frames."""
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--every",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="keep the first of every N frames; at least 1 (default: 1)",
    )
    rate.add_argument(
        "--fps",
        type=number(TINY, HUGE),
        help="keep at most so many frames a second, by the clip's own times; above 0",
    )
    parser.add_argument("--only-colour", action="store_true", help="keep frames with flow colour")


def parse_arguments() -> argparse.Namespace:
    return build_parser().parse_args()


if __name__ == "__main__":
    run_script(main)
