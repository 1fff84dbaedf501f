"""What GradNorm did in a training, told from the rows of gradnorm.csv."""

import math
from pathlib import Path

import pytest

from models.gradnorm_balancer import GradNorm
from utils.core.names import TASKS
from utils.loggers.balance import REASONS, balance_summary, describe_balance

HEADER = "step,norm/detection,norm/classification,target/detection,target/classification,at_bound\n"


def written(folder: Path, *floors: str) -> Path:
    """A gradnorm.csv whose norms are e times and 1 / e times their targets."""
    path = folder / "gradnorm.csv"
    path.write_text(
        HEADER + "".join(f"{i},{2 * math.e},1,2,{math.e},{task}\n" for i, task in enumerate(floors))
    )
    return path


def test_the_shares_of_updates_on_the_floor_and_the_gap_are_those_of_the_rows(tmp_path: Path):
    path = written(tmp_path, "classification", "", "classification", "classification")
    summary = balance_summary(path, {"partial": 2, "zero": 0})
    assert summary["updates"] == 4
    assert summary["on_floor"] == {"detection": 0, "classification": 0.75}
    assert summary["median_log_gap"] == pytest.approx(1)
    text = describe_balance(summary)
    assert "The floor, not GradNorm, set the weight of classification in 75% of the updates" in text
    assert (
        "2 batches that were not full" in text and "zero" not in text and "of detection" not in text
    )


def test_a_run_without_an_update_says_that_gradnorm_never_acted(tmp_path: Path):
    summary = balance_summary(tmp_path / "gradnorm.csv", {"unlabelled": 9})
    assert summary["median_log_gap"] is None
    assert describe_balance(summary).startswith("GradNorm never acted")
    assert "9 batches without a label" in describe_balance(summary)


def test_every_reason_has_words():
    assert REASONS.keys() == GradNorm(dict.fromkeys(TASKS, 1.0)).skipped.keys()
