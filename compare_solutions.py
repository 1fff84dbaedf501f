"""Train the solutions and the baselines under one protocol, evaluate them, and report.

python compare_solutions.py --arms fixed gradnorm dual --epochs 50 --seeds 0 1 2    # the phantom
python compare_solutions.py --data path/to/data.yaml --name mine    # all arms; again: resumed
python compare_solutions.py --folds path/to/folds --arms gradnorm dual    # of split_dataset.py
python compare_solutions.py --protocol docs/example-protocol.yaml    # a file fixes what counts
python compare_solutions.py --rescore runs/compare/mine --data path/to/data.yaml    # report again
"""

from __future__ import annotations

import argparse

from utils.comparison.arms import ARM_NAMES, Arm, expand
from utils.comparison.protocol import COMMON, MARGINS, Protocol, built_in_contrasts
from utils.comparison.protocol_file import check_settings, find_folds, load_protocol
from utils.core.arguments import add_device, filled, script_parser
from utils.core.options import JointOptions, warn_without_effect
from utils.core.script import UserError, errors_in, run_script
from utils.core.settings import (
    argument_type,
    help_text,
    option_name,
    setting_of,
    whole_number,
)

MOST_JOBS = 64
DEFAULTS = {
    "data": JointOptions.data,
    "folds": "",
    "arms": list(ARM_NAMES),
    "seeds": [0, 1, 2],
    "test": False,
    **COMMON,
}


def main() -> None:
    args = parse_arguments()
    # Torch takes seconds to import; help and wrong options do not wait for it.
    from utils.commands.compare_solutions import run

    run(args)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--protocol",
        type=filled,
        metavar="FILE",
        help="YAML that fixes what the options below would",
    )
    add_protocol_options(parser)
    parser.add_argument(
        "--rescore",
        type=filled,
        metavar="DIR",
        help="a finished comparison: its report again, from its files and the data sets",
    )
    parser.add_argument(
        "--report", action="store_true", help="write report.html too, a page to look at it with"
    )
    add_device(parser)
    parser.add_argument(
        "--jobs",
        type=whole_number(1, MOST_JOBS),
        default=1,
        help="trainings at a time, which share the cores; with --engine ray those of each "
        f"machine, or each GPU; 1 to {MOST_JOBS} (default: 1)",
    )
    add_engine(parser)
    parser.add_argument(
        "--project", default="runs/compare", help="folder of comparisons (default: runs/compare)"
    )
    parser.add_argument(
        "--name",
        default="exp",
        help="name of this comparison; an existing one is resumed (default: exp)",
    )
    return parser


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Where the trainings run."""
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="who runs the trainings: this machine, or a Ray cluster (default: local)",
    )
    parser.add_argument(
        "--address",
        type=filled,
        default="auto",
        metavar="HOST:PORT",
        help="of the Ray cluster; auto is the one that this machine belongs to (default: auto)",
    )


def add_protocol_options(parser: argparse.ArgumentParser) -> None:
    """What a protocol file fixes; an option that is not given is None."""
    parser.add_argument(
        "--data", type=filled, help=f"data.yaml of all arms (default: {DEFAULTS['data']})"
    )
    parser.add_argument(
        "--folds", type=filled, metavar="DIR", help="folder of fold*/data.yaml, in place of --data"
    )
    parser.add_argument(
        "--arms", nargs="+", metavar="ARM", help=f"of {', '.join(ARM_NAMES)} (default: all)"
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=whole_number(0),
        help="seeds of every arm's trainings; at least 0 (default: 0 1 2)",
    )
    for name, default in COMMON.items():
        add_common_option(parser, name, default)
    parser.add_argument(
        "--test",
        action="store_true",
        default=None,
        help="report the test split; thresholds stay validation's",
    )


def add_common_option(parser: argparse.ArgumentParser, name: str, default: object) -> None:
    """An option of all arms' trainings, with the default that a comparison has."""
    field = JointOptions.__dataclass_fields__[name]
    choices = setting_of(field).choices
    metavar = f"{{{','.join(choices)}}}" if choices else None
    parser.add_argument(
        option_name(name),
        type=argument_type(type(default)),
        metavar=metavar,
        help=help_text(field, default=str(default)),
    )


def parse_arguments() -> argparse.Namespace:
    """The arguments, with the `Protocol` that they make as `protocol`."""
    args = build_parser().parse_args()
    JointOptions(device=args.device)
    if args.engine == "local" and args.address != "auto":
        warn_without_effect(["address"], {"address": "--engine local"})
    given = {name: getattr(args, name) for name in DEFAULTS if getattr(args, name) is not None}
    if args.rescore:
        unused = given.keys() - {"data", "folds"}
        warn_without_effect(given, dict.fromkeys(unused, f"--rescore {args.rescore}"))
        given = {name: value for name, value in given.items() if name not in unused}
    if args.protocol and given:
        options = ", ".join(option_name(name) for name in given)
        raise UserError(
            f"--protocol {args.protocol} fixes {options} as well; "
            "leave them out, or change the file"
        )
    if args.protocol:
        args.protocol = load_protocol(args.protocol)
    else:
        args.protocol = protocol_of(given)
    return args


def protocol_of(given: dict[str, object]) -> Protocol:
    """The protocol that the command line's options make: `given` over `DEFAULTS`.

    Raises:
        UserError: for what the trainings would refuse, or what is given twice.
    """
    chosen = DEFAULTS | given
    refuse_repeated(chosen)
    with errors_in("--arms"):
        arms = tuple(expand(chosen["arms"]))
    split = "test" if chosen["test"] else "val"
    data = {"": chosen["data"]}
    if chosen["folds"]:
        with errors_in("--folds"):
            data = find_folds(chosen["folds"])
    warn_without_effect(given, idle_options(chosen, arms))
    protocol = Protocol(
        counted=built_in_contrasts(arms),
        margins=MARGINS,
        data=data,
        arms=arms,
        seeds=tuple(chosen["seeds"]),
        options={name: chosen[name] for name in COMMON},
        split=split,
    )
    for seed in protocol.seeds:
        JointOptions(seed=seed)
    protocol.settings(Arm("", ""))
    check_settings(protocol)
    return protocol


def refuse_repeated(chosen: dict[str, object]) -> None:
    """Raise a `UserError` for an arm or a seed that is there twice."""
    for name in ("arms", "seeds"):
        values = chosen[name]
        repeated = [str(value) for value in dict.fromkeys(values) if values.count(value) > 1]
        if repeated:
            raise UserError(f"--{name} has {', '.join(repeated)} more than once; give each once")


def idle_options(chosen: dict[str, object], arms: tuple[Arm, ...]) -> dict[str, str]:
    """Option that changes nothing -> because of what."""
    idle = {}
    if chosen["folds"]:
        idle["data"] = f"--folds {chosen['folds']}"
    if not any(arm.has_interference for arm in arms):
        unmeasured = "none of which balances two losses of one network"
        idle["diagnose_interval"] = f"--arms {' '.join(chosen['arms'])}, {unmeasured}"
    return idle


if __name__ == "__main__":
    run_script(main)
