"""What compare_solutions.py does: the missing trainings, their predictions, and the report."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

from utils.checkpoints.checkpoint import averaged_weights, load_checkpoint
from utils.checkpoints.model_file import model_from_checkpoint
from utils.commands.report import report
from utils.comparison.engine import Engine, LocalEngine, train_all
from utils.comparison.evaluation import evaluate_arms, fingerprints, measure_networks, predict
from utils.comparison.kept import Kept, open_kept, write_record
from utils.comparison.per_patient import write_per_patient
from utils.comparison.pictures import draw_comparison
from utils.comparison.protocol_record import note_protocol, noted_protocol, protocol_summary
from utils.comparison.ray_engine import RayEngine
from utils.comparison.report import to_markdown, write_report
from utils.comparison.trainings import Training, check_fingerprints, run_name
from utils.core.device import select_compute, select_device
from utils.core.files import run_folder
from utils.core.lock import lock_folder
from utils.core.script import LOGGER


def run(args: argparse.Namespace) -> None:
    if args.rescore:
        rescore(args)
    else:
        compare(args)


def rescore(args: argparse.Namespace) -> None:
    """Make the report of a finished comparison again, without a network."""
    folder = Path(args.rescore)
    kept = open_kept(folder, list(args.protocol.data.values()))
    with lock_folder(folder, wait=True):
        publish(folder, kept, args.report)


def compare(args: argparse.Namespace) -> None:
    """Train what is missing, let everything predict what is missing, and report."""
    protocol = args.protocol
    folder = run_folder(args.project, args.name)
    engine = engine_of(args)
    trainings = plan(args, folder)
    compute = select_compute(protocol.options["amp"], select_device(args.device))
    splits = tuple(dict.fromkeys(("train", "val", protocol.split)))
    found = {data: fingerprints(data, splits, protocol.arms) for data in protocol.data.values()}
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder, wait=True) as lock:  # until no other comparison works there
        check_fingerprints(folder, found)
        note_protocol(folder, protocol, trainings)
        train_all(trainings, engine)
        lock.confirm()
        predict(trainings, load_model, compute, protocol.split)
        write_record(
            folder, trainings, measure_networks(trainings, load_model, compute), protocol.split
        )
        publish(folder, open_kept(folder, list(found)), args.report)


def engine_of(args: argparse.Namespace) -> Engine:
    """Where the trainings run."""
    if args.engine == "ray":
        return RayEngine(args.address, args.device, args.jobs)
    return LocalEngine(args.jobs)


def publish(folder: Path, kept: Kept, with_page: bool = False) -> None:
    """Make a comparison's tables and pictures from its folder's files and its data sets' labels.

    Args:
        with_page: write report.html, too.
    """
    results = evaluate_arms(kept, noted_protocol(folder))
    results["fixed_before"] = protocol_summary(folder)
    write_report(folder, results)
    write_per_patient(folder, kept)
    LOGGER.info("drawing pictures")
    draw_comparison(folder)
    if with_page:
        report([folder], data_sets=list(kept.truths))
    LOGGER.info(f"\n{to_markdown(results)}\neverything is in {folder}")


def plan(args: argparse.Namespace, folder: Path) -> list[Training]:
    """Every training that the comparison needs.

    They go fold by fold and seed by seed, so that a part of them is a comparison already.
    """
    protocol = args.protocol
    trainings = []
    for fold, data in protocol.data.items():
        for seed in protocol.seeds:
            for arm in protocol.arms:
                options = protocol.common_options(arm) | {"device": args.device}
                own_folder = folder / run_name(fold, arm.name, seed)
                needed = None
                if arm.needs:
                    needed = folder / run_name(fold, arm.needs, seed)
                trainings.append(Training(arm, data, seed, options, own_folder, needed))
    return trainings


def load_model(weights: Path) -> tuple[nn.Module, dict[str, object]]:
    """The averaged network in a checkpoint, and the checkpoint."""
    content = load_checkpoint(weights)
    return model_from_checkpoint(content, averaged_weights(content), weights), content
