"""The columns of a run's CSV files, and which metric goes into which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.core.names import LOSSES, TASKS
from utils.training.learner import Network

RESULT_COLUMNS = (
    "epoch",
    *(f"train/{name}_loss" for name in LOSSES),
    "metrics/precision",
    "metrics/recall",
    "metrics/mAP_0.5",
    "metrics/mAP_0.5:0.95",
    "metrics/mAP_0.3",
    "metrics/view_accuracy",
    "metrics/view_balanced_accuracy",
    "metrics/view_macro_f1",
    "metrics/fitness",
    "best",
    *(f"val/{name}_loss" for name in LOSSES),
    *(f"weight/{task}" for task in TASKS),
)
TIME_COLUMNS = ("time/epoch_s", "time/val_s")
GRADNORM_COLUMNS = (
    "step",
    "epoch",
    "batch",
    *(f"loss/{name}" for name in (*TASKS, "total")),
    *(f"{kind}/{task}" for kind in ("weight", "norm", "target", "rate") for task in TASKS),
    "cosine",
    "skipped_unlabelled",
    "skipped_nonfinite",
    "skipped_partial",
    "skipped_zero",
    "at_bound",
)
INTERFERENCE_COLUMNS = (
    *("step", "epoch", "batch", "place", "cosine", "magnitude_similarity"),
    *(f"norm/{task}" for task in TASKS),
)


def result_columns(networks: Sequence[Network]) -> tuple[str, ...]:
    """The columns of results.csv; several networks have a fitness and rates each."""
    fitness = [f"metrics/{network.name}_fitness" for network in networks if len(networks) > 1]
    rates = [column for network in networks for column in rate_columns(network, networks)]
    return (*RESULT_COLUMNS, *fitness, *rates, *TIME_COLUMNS)


def rate_columns(network: Network, networks: Sequence[Network]) -> list[str]:
    """Where the learning rates of a network's biases, weights and norms go: YOLOv5's columns if it is the only one."""
    prefix = "" if len(networks) == 1 else f"{network.name}_"
    return [f"x/{prefix}lr{group}" for group in range(3)]


def loss_cells(split: str, losses: Mapping[str, float]) -> dict[str, float]:
    """The columns of results.csv that mean losses on "train" or "val" fill."""
    return {f"{split}/{name}_loss": losses[name] for name in LOSSES if name in losses}


def metric_cells(metrics: Mapping[str, dict]) -> dict[str, float]:
    """The columns of results.csv that a `summarise` result fills."""
    cells = {"metrics/fitness": metrics["fitness"]}
    if "detection" in metrics:
        names = ("precision", "recall", "mAP_0.5", "mAP_0.5:0.95", "mAP_0.3")
        cells |= {f"metrics/{name}": metrics["detection"][name] for name in names}
    if "views" in metrics:
        names = ("accuracy", "balanced_accuracy", "macro_f1")
        cells |= {f"metrics/view_{name}": metrics["views"].get(name) for name in names}
    return cells
