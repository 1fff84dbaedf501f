"""Train the solutions and the baselines under one protocol, evaluate them, and say what the figures carry.

python compare_solutions.py --arms fixed gradnorm dual --epochs 50 --seeds 0 1 2     # on the embedded phantom
python compare_solutions.py --data path/to/data.yaml --name mine                     # all arms; again: goes on
python compare_solutions.py --folds path/to/folds --arms gradnorm dual               # what split_dataset.py wrote
python compare_solutions.py --protocol docs/example-protocol.yaml                    # all that counts is in a file
python compare_solutions.py --rescore runs/compare/mine --data path/to/data.yaml     # its report again, no network
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

from utils.checkpoints.checkpoint import averaged_weights, load_checkpoint
from utils.checkpoints.model_file import model_from_checkpoint
from utils.comparison.arms import ARM_NAMES, Arm, expand
from utils.comparison.evaluation import evaluate_arms, fingerprints, measure_networks, predict
from utils.comparison.kept import Kept, open_kept, write_record
from utils.comparison.per_patient import write_per_patient
from utils.comparison.pictures import draw_comparison
from utils.comparison.protocol import COMMON, MARGINS, Protocol, built_in_contrasts
from utils.comparison.protocol_file import check_settings, errors_in, find_folds, load_protocol
from utils.comparison.protocol_record import note_protocol, noted_protocol, protocol_facts
from utils.comparison.report import to_markdown, write_report
from utils.comparison.trainings import Training, check_fingerprints, run_name, train_all
from utils.core.device import select_device, select_precision
from utils.core.files import run_folder
from utils.core.lock import lock_folder
from utils.core.options import JointOptions, filled, warn_without_effect
from utils.core.script import LOGGER, UserError, run_script

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
    if args.rescore:
        rescore(args)
    else:
        compare(args)


def rescore(args: argparse.Namespace) -> None:
    """Make the report of a finished comparison again, without a network."""
    folder = Path(args.rescore)
    kept = open_kept(folder, list(args.protocol.data.values()))
    with lock_folder(folder, wait=True):
        publish(folder, kept)


def compare(args: argparse.Namespace) -> None:
    """Train what is missing, let everything predict what is missing, and report."""
    protocol, folder = args.protocol, run_folder(args.project, args.name)
    trainings = plan(args, folder)
    precision = select_precision(protocol.options["amp"], select_device(args.device))
    splits = tuple(dict.fromkeys(("train", "val", protocol.split)))
    found = {data: fingerprints(data, splits, protocol.arms) for data in protocol.data.values()}
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder, wait=True) as lock:  # until no other comparison works there
        check_fingerprints(folder, found)
        note_protocol(folder, protocol, trainings)
        train_all(trainings, args.jobs)
        lock.confirm()
        predict(trainings, load_model, precision, protocol.split)
        write_record(
            folder, trainings, measure_networks(trainings, load_model, precision), protocol.split
        )
        publish(folder, open_kept(folder, list(found)))


def publish(folder: Path, kept: Kept) -> None:
    """Make the tables and pictures of a comparison from the files of its folder and the truth in its data sets."""
    results = evaluate_arms(kept, noted_protocol(folder))
    results["fixed_before"] = protocol_facts(folder)
    write_report(folder, results)
    write_per_patient(folder, kept)
    draw_comparison(folder)
    LOGGER.info(f"\n{to_markdown(results)}\neverything is in {folder}")


def parse_arguments() -> argparse.Namespace:
    """The arguments, with the `Protocol` that they make as `protocol`."""
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


def plan(args: argparse.Namespace, folder: Path) -> list[Training]:
    """Every training that the comparison needs, fold by fold and seed by seed: a part of it is a comparison already."""
    protocol, trainings = args.protocol, []
    for fold, data in protocol.data.items():
        for seed in protocol.seeds:
            for arm in protocol.arms:
                options = protocol.common_options(arm) | {"device": args.device}
                needed = folder / run_name(fold, arm.needs, seed) if arm.needs else None
                trainings.append(
                    Training(
                        arm, data, seed, options, folder / run_name(fold, arm.name, seed), needed
                    )
                )
    return trainings


def load_model(weights: Path) -> tuple[nn.Module, dict[str, object]]:
    """The averaged network in a checkpoint, and the checkpoint."""
    content = load_checkpoint(weights)
    return model_from_checkpoint(content, averaged_weights(content), weights), content


if __name__ == "__main__":
    run_script(main)
