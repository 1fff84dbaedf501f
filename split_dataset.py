"""Split a data set by patient, its classes and views in every part; give each clip one view.

python split_dataset.py --data data/echo_phantom.yaml --val 0.15 --test 0.2 --out runs/split
python split_dataset.py --data data/echo_phantom.yaml --folds 5 --out runs/folds    # 5 folds
python split_dataset.py --data data/echo_phantom.yaml --harmonise-views --out runs/harmonised
python split_dataset.py --data data/echo_phantom.yaml --harmonise-views --folds 5 --out runs/both
python split_dataset.py --data my.yaml --apply decisions.json --out runs/corrected    # labels

The frames of all splits are taken together and divided anew: every part gets its share of the
patients with each class and view, then of the frames. Patients with almost identical frames stay
together. DIR gets train.txt, val.txt, test.txt and a data.yaml for --data of the other scripts;
with --folds, each of DIR/fold0, DIR/fold1, ... does. No image is copied. --harmonise-views writes
copies of the label files to DIR/labels, with the view that more than 60 % of a clip's labelled
frames show; clips without such a view keep their labels and are listed in DIR/undecided.csv. By
itself it leaves the splits as they are. --apply does the same with the decisions that were made on
the page of doubts, see check_dataset.py --predictions.
"""

from __future__ import annotations

import argparse

from utils.core.arguments import add_skip_bad_labels, filled, given_options, script_parser
from utils.core.options import warn_without_effect
from utils.core.script import UserError, run_script
from utils.core.settings import number, whole_number


def main() -> None:
    args = parse_arguments()
    # Torch takes seconds to import; help and wrong options do not wait for it.
    from utils.commands.split_dataset import run

    run(args)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument("--data", required=True, type=filled, help="data.yaml of the data set")
    parser.add_argument(
        "--out",
        type=filled,
        required=True,
        metavar="DIR",
        help="new or empty folder outside the data set",
    )
    parser.add_argument(
        "--folds",
        type=whole_number(2),
        metavar="K",
        help="K pairs of train and val, each frame in one val; at least 2",
    )
    parser.add_argument(
        "--val",
        type=number(0, 1),
        help="share of the frames for val, such as 0.15; between 0 and 1",
    )
    parser.add_argument(
        "--test",
        type=number(0, 1),
        help="share of the frames for test; between 0 and 1 (default: no test split)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        help="the same gives the same split; at least 0 (default: 0)",
    )
    parser.add_argument(
        "--by",
        choices=("group", "image"),
        default="group",
        help="keep together what group_pattern finds, or (image) split frame by frame "
        "(default: group)",
    )
    parser.add_argument(
        "--harmonise-views", action="store_true", help="give each clip the view of its majority"
    )
    parser.add_argument(
        "--apply",
        type=filled,
        metavar="FILE",
        help="decisions on labels: corrected copies of the label files are written to DIR/labels",
    )
    add_skip_bad_labels(parser)
    return parser


def parse_arguments() -> argparse.Namespace:
    parser = build_parser()
    args = parser.parse_args()
    check_shares(args)
    if args.apply and args.harmonise_views:
        raise UserError(
            "--apply and --harmonise-views: one after the other; "
            "apply first, then harmonise what that made"
        )
    if not (args.folds or args.val or args.harmonise_views or args.apply):
        raise UserError(
            "nothing to do: give --folds K, --val SHARE (and --test SHARE), --harmonise-views "
            "or --apply FILE"
        )
    if not (args.folds or args.val):
        alone = "--harmonise-views"
        if args.apply:
            alone = "--apply"
        idle = dict.fromkeys(("seed", "by"), f"{alone} alone, which keeps the splits")
        warn_without_effect(given_options(parser, args), idle)
    return args


def check_shares(args: argparse.Namespace) -> None:
    """Raise a `UserError` for --val, --test and --folds that make no split."""
    given = [share for share in (args.val, args.test) if share is not None]
    if not all(0 < share < 1 for share in given) or sum(given) >= 1:
        raise UserError(
            f"--val and --test are {given}, "
            "expected shares above 0 that leave some frames for train"
        )
    if args.folds is not None and given:
        raise UserError(f"--folds {args.folds} goes with neither --val nor --test; leave them out")
    if args.test and not args.val:
        raise UserError(
            "--test without --val: a data.yaml needs a train and a val split; give both"
        )


if __name__ == "__main__":
    run_script(main)
