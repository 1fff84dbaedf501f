"""Train the solutions and the baselines under one protocol, evaluate them, and say what the figures carry.

python compare_solutions.py --arms fixed gradnorm dual --epochs 50 --seeds 0 1 2     # on the embedded phantom
python compare_solutions.py --data path/to/data.yaml --name mine                     # all arms; again: goes on
python compare_solutions.py --folds path/to/folds --arms gradnorm dual               # what split_dataset.py wrote
python compare_solutions.py --rescore runs/compare/mine --data path/to/data.yaml     # its report again, no network
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

from utils.checkpoints.checkpoint import averaged_weights, load_checkpoint
from utils.checkpoints.model_file import model_from_checkpoint
from utils.comparison.arms import ARM_NAMES, JOINT, Arm, expand
from utils.comparison.evaluation import fingerprints, judge, measure_networks, predict
from utils.comparison.kept import Kept, open_kept, write_record
from utils.comparison.per_patient import write_per_patient
from utils.comparison.pictures import draw_comparison
from utils.comparison.report import to_markdown, write_report
from utils.comparison.trainings import Trial, check_fingerprints, train_all
from utils.core.device import select_device, select_precision
from utils.core.files import run_folder
from utils.core.lock import lock_folder
from utils.core.names import TASKS
from utils.core.options import JointOptions, filled, given_options, warn_without_effect
from utils.core.script import LOGGER, UserError, run_script

SHARED = ("epochs", "imgsz", "batch_size", "size", "hyp", "amp", "device")  # options that every training is given


def main() -> None:
    args = parse_arguments()
    if args.rescore:
        rescore(args)
    else:
        compare(args)


def rescore(args: argparse.Namespace) -> None:
    """Make the report of a finished comparison again, without a network."""
    folder = Path(args.rescore)
    kept = open_kept(folder, data_sets(args))
    with lock_folder(folder, wait=True):
        publish(folder, kept)


def compare(args: argparse.Namespace) -> None:
    """Train what is missing, let everything predict what is missing, and report."""
    folder = run_folder(args.project, args.name)
    trials = plan(args, folder)
    precision = select_precision(args.amp, select_device(args.device))
    splits = ("train", "val", "test") if args.test else ("train", "val")
    arms = [trial.arm for trial in trials]
    found = {data: fingerprints(data, splits, arms) for data in dict.fromkeys(trial.data for trial in trials)}
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder, wait=True) as lock:  # until no other comparison works there
        check_fingerprints(folder, found)
        train_all(trials, args.jobs)
        lock.confirm()
        split = "test" if args.test else "val"
        predict(trials, load_model, precision, split)
        write_record(folder, trials, measure_networks(trials, load_model, precision), split)
        publish(folder, open_kept(folder, list(found)))


def publish(folder: Path, kept: Kept) -> None:
    """Make the tables and pictures of a comparison from the files of its folder and the truth in its data sets."""
    results = judge(kept)
    write_report(folder, results)
    write_per_patient(folder, kept)
    draw_comparison(folder)
    LOGGER.info(f"\n{to_markdown(results)}\neverything is in {folder}")


def parse_arguments() -> argparse.Namespace:
    base = JointOptions()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=filled, default=base.data, help=f"data.yaml (default: {base.data})")
    parser.add_argument("--folds", type=filled, metavar="DIR", help="folder of fold*/data.yaml, in place of --data")
    parser.add_argument("--arms", nargs="+", default=list(ARM_NAMES), metavar="ARM", help=f"of {', '.join(ARM_NAMES)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--epochs", type=int, default=base.epochs, help=f"(default: {base.epochs})")
    parser.add_argument("--imgsz", type=int, default=base.imgsz, help=f"pixels (default: {base.imgsz})")
    parser.add_argument("--batch-size", type=int, default=base.batch_size, help=f"(default: {base.batch_size})")
    parser.add_argument("--size", default="s", help="YOLOv5's n, s, m, l or x, of all arms (default: s)")
    parser.add_argument("--hyp", default=base.hyp, help=f"of all arms (default: {base.hyp})")
    parser.add_argument("--diagnose-interval", type=int, default=10, help="batches; 0: never (default: 10)")
    parser.add_argument("--amp", default=base.amp, help="auto, off, bf16 or fp16 (default: auto)")
    parser.add_argument("--device", default=base.device, help="auto, cpu, or a CUDA device's number (default: auto)")
    parser.add_argument("--test", action="store_true", help="report the test split; thresholds stay validation's")
    parser.add_argument(
        "--rescore", type=filled, metavar="DIR", help="a finished comparison: its report from its files"
    )
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, which share the cores (default: 1)")
    parser.add_argument("--project", default="runs/compare", help="folder of comparisons (default: runs/compare)")
    parser.add_argument("--name", default="exp", help="of this comparison; an existing one goes on (default: exp)")
    args = parser.parse_args()
    if args.jobs < 1 or len(set(args.seeds)) < len(args.seeds):
        raise UserError("--jobs must be at least 1 and --seeds must differ from each other")
    check_arguments(args, given_options(parser, args))
    return args


def check_arguments(args: argparse.Namespace, given: set[str]) -> None:
    """Raise a `UserError` for what the trainings would refuse, or what is said twice; say what has no effect."""
    for seed in args.seeds:
        JointOptions(seed=seed, diagnose_interval=args.diagnose_interval, **{n: getattr(args, n) for n in SHARED})
    repeated = [arm for arm in dict.fromkeys(args.arms) if args.arms.count(arm) > 1]
    if repeated:
        raise UserError(f"--arms has {', '.join(repeated)} more than once; give every arm once")
    idle = {}
    if args.folds:
        idle["data"] = f"--folds {args.folds}"
    if not any(is_diagnosed(arm) for arm in expand(args.arms)):
        unmeasured = "none of which balances two losses of one network"
        idle["diagnose_interval"] = f"--arms {' '.join(args.arms)}, {unmeasured}"
    if args.rescore:
        idle |= dict.fromkeys(vars(args).keys() - {"data", "folds", "rescore"}, f"--rescore {args.rescore}")
    warn_without_effect(given, idle)


def is_diagnosed(arm: Arm) -> bool:
    """Whether the arm's tasks can interfere."""
    return arm.script == JOINT and arm.tasks == TASKS


def plan(args: argparse.Namespace, folder: Path) -> list[Trial]:
    """Every training that the comparison needs, seed by seed, so that a part of it is a comparison already."""
    common = {name: getattr(args, name) for name in SHARED}
    trials = []
    for data in data_sets(args):
        fold = f"{Path(data).parent.name}-" if args.folds else ""
        for seed in args.seeds:
            for arm in expand(args.arms):
                options = common | ({"diagnose_interval": args.diagnose_interval} if is_diagnosed(arm) else {})
                needed = folder / f"{fold}{arm.needs}-seed{seed}" if arm.needs else None
                trials.append(Trial(arm, data, seed, options, folder / f"{fold}{arm.name}-seed{seed}", needed))
    return trials


def data_sets(args: argparse.Namespace) -> list[str]:
    """The data.yaml to train on, or one for every fold."""
    if not args.folds:
        return [args.data]
    found = sorted(str(path) for path in Path(args.folds).glob("*/data.yaml"))
    if len(found) < 2:
        raise UserError(
            f"--folds {args.folds}: {len(found)} folds; expected DIR/*/data.yaml, as split_dataset.py writes"
        )
    return found


def load_model(weights: Path) -> tuple[nn.Module, dict[str, object]]:
    """The averaged network in a checkpoint, and the checkpoint."""
    content = load_checkpoint(weights)
    return model_from_checkpoint(content, averaged_weights(content), weights), content


if __name__ == "__main__":
    run_script(main)
