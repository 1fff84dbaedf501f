"""What a training leaves at its end: metrics, predictions, model card, pictures, summary.json."""

from __future__ import annotations

import platform
import time

import torch

from models.gradnorm_balancer import GradNorm
from utils.core import distributed
from utils.core.device import peak_memory_mib
from utils.core.files import write_json, write_text
from utils.core.script import LOGGER
from utils.evaluation.evaluate import write_evaluation
from utils.evaluation.predictions import FILE_NAME, write_predictions
from utils.evaluation.tables import format_table
from utils.loggers.balance import balance_summary, describe_balance
from utils.loggers.model_card import model_card
from utils.loggers.records import GRADNORM_FILE, RunRecords, metric_cells
from utils.plots.run import draw_run
from utils.training.learner import describe_best
from utils.training.resume import FINISHED
from utils.training.setup import Setup
from utils.training.state import best_epochs
from utils.training.validation import prediction_header, summarise_results, validate


def finish(setup: Setup, records: RunRecords, epoch: int, start_time: float) -> dict[str, object]:
    """Write what a finished run has more than an interrupted one, and say how it went.

    Args:
        epoch: the last one.
        start_time: when this process began to train, seconds since the epoch 1970.

    Returns:
        The content of summary.json.
    """
    if setup.metrics is None:  # resumed after the last epoch
        validate(setup, epoch)
    if not setup.metrics["resamples"]:  # stopped early
        setup.metrics = summarise_results(setup, intervals=True)
    summary = run_summary(setup, epoch + 1, time.time() - start_time)
    if distributed.is_main():
        write_results(setup, summary)
        records.finish(epoch)
        records.progress("finished", epoch)
        # The last of all: a run without it is not finished, and `--resume` goes on with it.
        write_json(setup.job.run.folder / FINISHED, summary)
        report(setup, summary)
    return summary


def run_summary(setup: Setup, epochs: int, seconds: float) -> dict[str, object]:
    """The content of summary.json.

    Args:
        epochs: that were trained.
        seconds: since this process began to train.
    """
    balancer = setup.job.balancer
    summary = {
        "epochs": epochs,
        "best": best_epochs(setup),
        "last": metric_cells(setup.metrics),
        "weights": balancer.weights,
        "seconds": seconds,
        "peak_memory_mib": peak_memory_mib(setup.compute.device),
        "parameters": sum(parameter.numel() for parameter in setup.model.parameters()),
        "precision": str(setup.compute),
        "torch": torch.__version__,
        "machine": platform.platform(),
        "processes": distributed.world_size(),
        "fingerprint": setup.fingerprint,
        "average_window_epochs": _average_windows(setup),
    }
    if isinstance(balancer, GradNorm):
        summary["gradnorm"] = balance_summary(
            setup.job.run.folder / GRADNORM_FILE, balancer.skipped
        )
    return summary


def _average_windows(setup: Setup) -> dict[str, float]:
    """Part -> how many epochs' steps its moving average is worth."""
    batches = len(setup.train_loader)
    windows = {}
    for learner in setup.learners:
        windows[learner.part.name] = round(learner.ema.window_steps() / batches, 3)
    return windows


def write_results(setup: Setup, summary: dict[str, object]) -> None:
    """Metrics, predictions, model card and pictures; by the process that writes."""
    run, frames = setup.job.run, setup.job.frames
    run.confirm()
    write_evaluation(run.folder, setup.metrics, setup.results)
    write_predictions(run.folder / FILE_NAME, setup.results, prediction_header(setup))
    train, val = frames.train.split, frames.val.split
    card = model_card(summary, setup.metrics, setup.options, frames.data, train, val)
    write_text(run.folder / "MODEL_CARD.md", card)
    LOGGER.info("drawing pictures")
    draw_run(run.folder)


def report(setup: Setup, summary: dict[str, object]) -> None:
    """Print the last epoch's metrics, what the balancer did, and where everything is."""
    LOGGER.info(f"\nlast epoch's averaged weights on {setup.job.frames.val.split.name}:")
    LOGGER.info(format_table(setup.metrics))
    if "gradnorm" in summary:
        LOGGER.info(f"\n{describe_balance(summary['gradnorm'])}")
    best = describe_best(setup.learners)
    LOGGER.info(f"\n{best}\neverything is in {setup.job.run.folder}")
