"""Train the solutions and the baselines under one protocol, evaluate them, and say what the figures carry.

python compare_solutions.py --arms fixed gradnorm dual --epochs 50 --seeds 0 1 2     # on the embedded phantom
python compare_solutions.py --data path/to/data.yaml --name mine                     # all arms; again: goes on
python compare_solutions.py --folds path/to/folds --arms gradnorm dual               # what split_dataset.py wrote
python compare_solutions.py --protocol docs/example-protocol.yaml                    # all that counts is in a file
python compare_solutions.py --rescore runs/compare/mine --data path/to/data.yaml     # its report again, no network
"""

from __future__ import annotations

import argparse

from utils.comparison.arms import ARM_NAMES, Arm, expand
from utils.comparison.protocol import COMMON, MARGINS, Protocol, built_in_contrasts
from utils.comparison.protocol_file import check_settings, errors_in, find_folds, load_protocol
from utils.core.options import JointOptions, filled, warn_without_effect
from utils.core.script import UserError, run_script

BASE = JointOptions()
DEFAULTS = {
    "data": BASE.data,
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--protocol",
        type=filled,
        metavar="FILE",
        help="YAML that fixes what the options below would",
    )
    add_protocol_options(parser)
    about = "a finished comparison: its report again, from its files and the data sets"
    parser.add_argument("--rescore", type=filled, metavar="DIR", help=about)
    parser.add_argument(
        "--device", default=BASE.device, help="auto, cpu, or a CUDA device's number (default: auto)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="trainings at a time, which share the cores (default: 1)",
    )
    parser.add_argument(
        "--project", default="runs/compare", help="folder of comparisons (default: runs/compare)"
    )
    parser.add_argument(
        "--name", default="exp", help="of this comparison; an existing one goes on (default: exp)"
    )
    return parser


def parse_arguments() -> argparse.Namespace:
    """The arguments, with the `Protocol` that they make as `protocol`."""
    parser = build_parser()
    args = parser.parse_args()
    if args.jobs < 1:
        raise UserError(f"--jobs is {args.jobs}, expected at least 1")
    JointOptions(device=args.device)
    given = {name: getattr(args, name) for name in DEFAULTS if getattr(args, name) is not None}
    if args.rescore:
        unused = dict.fromkeys(given.keys() - {"data", "folds"}, f"--rescore {args.rescore}")
        warn_without_effect(given, unused)
        given = {name: value for name, value in given.items() if name not in unused}
    if args.protocol and given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UserError(
            f"--protocol {args.protocol} fixes {options} as well; leave them out, or change the file"
        )
    args.protocol = load_protocol(args.protocol) if args.protocol else protocol_of(given)
    return args


def add_protocol_options(parser: argparse.ArgumentParser) -> None:
    """What a protocol file fixes; an option that is not given is None."""

    def add(name: str, text: str, **kwargs: object) -> None:
        default = DEFAULTS[name[2:].replace("-", "_")]
        shown = (
            f" (default: {default})"
            if isinstance(default, str | int) and default not in ("", False)
            else ""
        )
        parser.add_argument(name, default=None, help=text + shown, **kwargs)

    add("--data", "data.yaml", type=filled)
    add("--folds", "folder of fold*/data.yaml, in place of --data", type=filled, metavar="DIR")
    add("--arms", f"of {', '.join(ARM_NAMES)}", nargs="+", metavar="ARM")
    add("--seeds", "(default: 0 1 2)", nargs="+", type=int)
    add("--epochs", "of every training", type=int)
    add("--imgsz", "pixels", type=int)
    add("--batch-size", "images a batch", type=int)
    add("--size", "YOLOv5's n, s, m, l or x, of all arms")
    add("--hyp", "hyper-parameter YAML of all arms")
    add("--diagnose-interval", "batches; 0: never", type=int)
    add("--amp", "auto, off, bf16 or fp16")
    add("--test", "report the test split; thresholds stay validation's", action="store_true")


def protocol_of(given: dict[str, object]) -> Protocol:
    """The protocol that the command line's options make: `given` over `DEFAULTS`.

    Raises:
        UserError: for what the trainings would refuse, or what is said twice.
    """
    chosen = DEFAULTS | given
    refuse_repeated(chosen)
    with errors_in("--arms"):
        arms = tuple(expand(chosen["arms"]))
    with errors_in("--folds"):
        data = find_folds(chosen["folds"]) if chosen["folds"] else {"": chosen["data"]}
    warn_without_effect(given, idle_options(chosen, arms))
    protocol = Protocol(
        counted=built_in_contrasts(arms),
        margins=MARGINS,
        data=data,
        arms=arms,
        seeds=tuple(chosen["seeds"]),
        options={name: chosen[name] for name in COMMON},
        split="test" if chosen["test"] else "val",
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
