"""Make a page to look at runs, validations or a comparison with: one HTML file, without a server.

python report.py runs/train/exp                        # runs/train/exp/report.html
python report.py runs/train/exp runs/train/exp2        # curves over one another
python report.py runs/compare/exp --folds runs/folds   # a comparison and its trainings
python report.py runs/val/exp --data my.yaml    # a validation does not say where its frames lie
"""

from __future__ import annotations

import argparse

from utils.core.arguments import filled, script_parser
from utils.core.script import run_script


def main() -> None:
    args = parse_arguments()
    # Torch takes seconds to import; help and wrong options do not wait for it.
    from utils.commands.report import run

    run(args)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument(
        "runs",
        nargs="+",
        type=filled,
        metavar="RUN",
        help="folder of a run, a validation or a comparison",
    )
    parser.add_argument(
        "--out",
        type=filled,
        metavar="FILE",
        help="the page (default: report.html in the first folder)",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--data",
        type=filled,
        help="data.yaml with the frames (default: the one that a run was trained on)",
    )
    source.add_argument(
        "--folds", type=filled, metavar="DIR", help="folder of fold*/data.yaml, in place of --data"
    )
    parser.add_argument(
        "--embed",
        action="store_true",
        help="put small pictures of the frames into the page, which are then in whoever's hands "
        "the page is",
    )
    return parser


def parse_arguments() -> argparse.Namespace:
    return build_parser().parse_args()


if __name__ == "__main__":
    run_script(main)
