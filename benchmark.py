"""Where does my epoch go? Time of every stage of a training, memory, and achieved FLOP/s.

python benchmark.py --data path/to/data.yaml                                    # one training
python benchmark.py --data path/to/data.yaml --against "--amp off --cache off"  # a second one too
python benchmark.py --size n --imgsz 160 --against=--rect --steps 100

Options are those of train_joint_gradnorm.py. Steps of both trainings alternate in blocks of ten,
one interval of GradNorm, so that whatever else the machine does slows both; the ratio printed is
the median over blocks. The weights are thrown away. On CUDA every stage is waited for, so their sum
is more than an epoch in which they overlap; peak memory is the process's, so of both trainings.
"""

from __future__ import annotations

import argparse
import shlex

import train_joint_gradnorm
from utils.core.arguments import filled, script_parser
from utils.core.names import BENCHMARK_BLOCK
from utils.core.options import JointOptions, split_arguments, warn_without_effect
from utils.core.script import UserError, errors_in, run_script
from utils.core.settings import whole_number

WITHOUT_EFFECT = ("exist_ok", "save_period", "noval", "patience", "tensorboard", "report")


def main() -> None:
    args = parse_arguments()
    # Torch takes seconds to import; help and wrong options do not wait for it.
    from utils.commands.benchmark import run

    run(args)


def build_parser() -> argparse.ArgumentParser:
    """The benchmark's own options, beside those of a joint training."""
    parser = script_parser(__doc__)
    parser.add_argument(
        "--steps",
        type=whole_number(),
        default=60,
        help=f"steps to measure; a multiple of {BENCHMARK_BLOCK} (default: 60)",
    )
    parser.add_argument(
        "--against",
        type=filled,
        metavar='"OPTIONS"',
        help="measure a second training, with these options too",
    )
    parser.add_argument(
        "--project",
        default="runs/benchmark",
        help="folder of result folders (default: runs/benchmark)",
    )
    parser.add_argument(
        "--name",
        default="exp",
        help="name of the result folder; a number is added if it exists (default: exp)",
    )
    return parser


def parse_arguments() -> argparse.Namespace:
    """The benchmark's own arguments, and the options of each training by name, `configurations`."""
    args, options = build_parser().parse_known_args()
    if args.steps < BENCHMARK_BLOCK or args.steps % BENCHMARK_BLOCK:
        raise UserError(
            f"--steps is {args.steps}, expected a multiple of {BENCHMARK_BLOCK}, "
            f"such as {6 * BENCHMARK_BLOCK}"
        )
    args.configurations = {"as asked": training_options(options)}
    if args.against:
        with errors_in("--against"):
            more = training_options([*options, *words_of(args.against)])
        args.configurations[args.against] = more
    return args


def words_of(options: str) -> list[str]:
    """The words that a shell would make of the options.

    Raises:
        UserError: a quote is not closed, or the last character escapes nothing.
    """
    try:
        return shlex.split(options)
    except ValueError as error:
        raise UserError(f"{options!r} are no options: {str(error).lower()}; close it") from None


def training_options(arguments: list[str]) -> dict[str, object]:
    """The options of a training; warns of those that the benchmark does not obey."""
    given = vars(train_joint_gradnorm.build_parser("a training's options").parse_args(arguments))
    if "resume" in given:
        raise UserError(
            "--resume: the benchmark trains anew and throws the weights away; leave it out"
        )
    reason = "the benchmark, which trains for --steps only"
    warn_without_effect(given, dict.fromkeys(WITHOUT_EFFECT, reason))
    split_arguments(given, JointOptions)
    return given


if __name__ == "__main__":
    run_script(main)
