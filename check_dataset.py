"""Look for what is wrong with a data set, and how good a score on it can be, before training on it.

python check_dataset.py --data data/echo_phantom.yaml    # a summary; details in runs/check/exp
python check_dataset.py --data my.yaml --strict --out reports/my_data    # for CI: doubts fail, too
python check_dataset.py --data my.yaml --plausible plausible.yaml    # are view columns in order?
python check_dataset.py --data my.yaml --folds runs/folds --predictions runs/compare/exp    # labels

Exit code: 0 clean, 1 findings, 2 could not run. Errors and leaks count always, doubts with --strict
only.
"""

from __future__ import annotations

import argparse

from utils.core.arguments import filled, script_parser
from utils.core.options import warn_without_effect
from utils.core.script import run_script
from utils.curation.kinds import KINDS, LEVELS


def main() -> None:
    args = parse_arguments()
    # Torch takes seconds to import; help and wrong options do not wait for it.
    from utils.commands.check_dataset import run

    run(args)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, epilog=described_findings())
    parser.add_argument("--data", required=True, type=filled, help="data.yaml")
    parser.add_argument("--strict", action="store_true", help="exit with 1 for doubts as well")
    parser.add_argument(
        "--out",
        type=filled,
        metavar="DIR",
        help="folder to write into (default: runs/check/exp, exp2, ...)",
    )
    parser.add_argument(
        "--plausible",
        type=filled,
        metavar="FILE",
        help="YAML with a line for each box class, such as 'MR: [A4C, PLAX]': the views it can be "
        "seen from; all orders of the view columns are scored by the share of frames that they "
        "make implausible",
    )
    parser.add_argument(
        "--predictions",
        nargs="+",
        type=filled,
        metavar="RUN",
        help="run folders, or a folder of them, whose networks never saw the frames that they "
        "predicted: labels are ranked by how much speaks against them",
    )
    parser.add_argument(
        "--folds",
        type=filled,
        metavar="DIR",
        help="folder of the fold*/data.yaml that the networks of --predictions were trained with",
    )
    return parser


def parse_arguments() -> argparse.Namespace:
    args = build_parser().parse_args()
    if args.folds and not args.predictions:
        warn_without_effect({"folds"}, {"folds": "a check without --predictions"})
    return args


def described_findings() -> str:
    """All kinds of findings, level by level."""
    lines = ["What is found. Only doubts need --strict to make the exit code 1.", ""]
    for level, title in LEVELS.items():
        lines.append(f"{title}:")
        lines += [f"  {meaning}" for own, meaning in KINDS.values() if own == level]
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
