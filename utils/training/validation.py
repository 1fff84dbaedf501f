"""The evaluation of a training's moving averages on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import nn

from utils.core import distributed
from utils.core.data_config import DataConfig
from utils.core.device import fused_copy
from utils.core.script import LOGGER
from utils.core.values import to_mapping
from utils.evaluation.evaluate import evaluate
from utils.evaluation.metrics import confidence_of, summarise
from utils.evaluation.predictions import Header
from utils.evaluation.results import ImageResult
from utils.evaluation.summary import Summary
from utils.evaluation.thresholds import chosen_on
from utils.loggers.records import loss_cells, metric_cells
from utils.training.setup import Setup

SHOWN_METRICS = {
    "mAP50": "metrics/mAP_0.5",
    "mAP50-95": "metrics/mAP_0.5:0.95",
    "view accuracy": "metrics/view_accuracy",
}


def validate(setup: Setup, epoch: int) -> dict[str, float]:
    """Evaluate the moving average; returns cells of results.csv.

    Results and metrics are kept in `setup`; the last epoch's metrics have intervals.
    """
    # Each process has moved its own.
    distributed.equalise([*setup.model.buffers(), *setup.ema_model.buffers()])
    setup.results, losses = _evaluate(setup, setup.ema_model)
    setup.metrics = summarise_results(setup, intervals=epoch == setup.options.epochs - 1)
    cells = metric_cells(setup.metrics) | loss_cells("val", losses)
    shown = _one_line(cells, setup.job.frames.data)
    LOGGER.info(f"epoch {epoch + 1}: {shown}")
    return cells


def summarise_results(setup: Setup, intervals: bool) -> Summary:
    """The metrics of the last evaluation, and the thresholds that it chooses, as rank 0 has them."""
    return distributed.from_main(distributed.by_main(partial(_summary, setup, intervals)))


def _summary(setup: Setup, intervals: bool) -> Summary:
    data = setup.job.frames.data
    metrics = summarise(
        setup.results,
        data.names,
        data.view_names,
        view_prior=setup.prior,
        intervals=intervals,
        tasks=setup.tasks,
        cls_title=data.cls_title,
    )
    metrics["thresholds"] = to_mapping(chosen_on(setup.results, data, setup.tasks))
    return metrics


def prediction_header(setup: Setup) -> Header:
    """Of the predictions that the last evaluation's metrics are of."""
    prior = None
    if setup.prior:
        prior = to_mapping(setup.prior)
    return Header.of(
        setup.job.frames.data,
        setup.job.frames.val,
        setup.tasks,
        setup.compute,
        confidence_of(setup.metrics),
        prior,
        setup.fingerprint.partition("-")[0],
        setup.metrics["thresholds"],
    )


def _evaluate(setup: Setup, average: nn.Module) -> tuple[list[ImageResult], dict[str, float]]:
    """Results and mean losses of a moving average."""
    data = setup.job.frames.data
    return evaluate(fused_copy(average), setup.val_loader, setup.compute, data, setup.criterion)


def _one_line(cells: Mapping[str, float | None], data: DataConfig) -> str:
    """The metrics that one follows during a training."""
    texts = []
    for label, column in SHOWN_METRICS.items():
        value = cells.get(column)
        text = "-" if value is None else f"{value:.3f}"
        texts.append(f"{data.said(label)} {text}")
    return ", ".join(texts)
