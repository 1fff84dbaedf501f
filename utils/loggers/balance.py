"""What GradNorm did in a training, in figures and words, from the rows of `gradnorm.csv`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from utils.core.names import TASKS

REASONS = {
    "unlabelled": "without a label of every task",
    "nonfinite": "with a loss or norm that is not finite",
    "partial": "that were not full when an update was due",
    "zero": "with a norm or a first loss of zero",
}


def balance_summary(path: Path, skipped: Mapping[str, int]) -> dict[str, object]:
    """The content of summary.json's "gradnorm".

    Args:
        path: gradnorm.csv, which is missing where there was no update.
        skipped: reason -> batches left out.

    Returns:
        "updates": their number; "on_floor": task -> share of the updates after which its weight lay
        on its lower bound; "median_log_gap": median of |log G - log target| over tasks and updates,
        None without any; "skipped": as given.
    """
    rows = pd.DataFrame()
    if path.exists():
        rows = pd.read_csv(path, keep_default_na=False)
    if rows.empty:
        return {
            "updates": 0,
            "on_floor": dict.fromkeys(TASKS, 0.0),
            "median_log_gap": None,
            "skipped": dict(skipped),
        }
    on_floor = {task: float((rows["at_bound"] == task).mean()) for task in TASKS}
    norms = rows[[f"norm/{task}" for task in TASKS]].to_numpy(float)
    targets = rows[[f"target/{task}" for task in TASKS]].to_numpy(float).clip(min=1e-300)
    gap = np.abs(np.log(norms) - np.log(targets))
    return {
        "updates": len(rows),
        "on_floor": on_floor,
        "median_log_gap": float(np.median(gap)),
        "skipped": dict(skipped),
    }


def describe_balance(summary: Mapping) -> str:
    """`balance_summary` in a sentence or two."""
    left_out = _left_out(summary["skipped"])
    if not summary["updates"]:
        return (
            f"GradNorm never acted: the weights are those that the training began with{left_out}."
        )
    sentences = [
        f"GradNorm updated the weights {summary['updates']} times{left_out}; "
        f"the median |log G - log target| is {summary['median_log_gap']:.2f}."
    ]
    for task, share in summary["on_floor"].items():
        if share:
            sentences.append(
                f"The floor, not GradNorm, set the weight of {task} in {share:.0%} of the updates."
            )
    return " ".join(sentences)


def _left_out(skipped: Mapping[str, int]) -> str:
    reasons = [f"{count} batches {REASONS[reason]}" for reason, count in skipped.items() if count]
    if not reasons:
        return ""
    return f"; left out: {', '.join(reasons)}"
