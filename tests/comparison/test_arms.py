"""The arms of a comparison.

Their weights, which of them stand for others, and the average of GradNorm's.
"""

import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import run, small_options

from utils.comparison.arms import (
    ARM_NAMES,
    DUAL,
    WEIGHT_SUM,
    Arm,
    average_weights,
    expand,
    find_arm,
    options_of,
)
from utils.core.files import ROOT
from utils.core.hyperparameters import HyperParameters, load_hyperparameters
from utils.core.names import BALANCERS, TASKS
from utils.core.options import DualOptions, JointOptions, split_arguments
from utils.core.script import UserError
from utils.training.trainer import Trainer

SCALED = (WEIGHT_SUM * 100 / 101, WEIGHT_SUM / 101)


def weights_of(arm: Arm, needed: Path | None = None) -> list[float]:
    options = options_of(arm, needed)
    return [options[f"initial_{task}_weight"] for task in TASKS]


@given(st.floats(1e-3, 1e3))
def test_the_weights_of_a_ratio_have_it_and_the_common_sum(ratio: float):
    detection, classification = weights_of(find_arm(f"ratio-{ratio}"))
    assert detection + classification == pytest.approx(WEIGHT_SUM)
    assert detection / classification == pytest.approx(ratio)


def test_all_arms_that_balance_start_with_the_common_sum_but_those_that_start_as_the_original():
    balanced = [arm for arm in expand(ARM_NAMES) if "initial_detection_weight" in arm.options]
    sums = {arm.name: sum(weights_of(arm)) for arm in balanced}
    for name in ("fixed", "gradnorm", "gradnorm-alpha-0.5"):
        assert sums.pop(name) == 1.01 and weights_of(find_arm(name)) == [1.0, 0.01]
    assert sums.keys() == {"fixed-scaled", "equal", "ratio-15"}
    assert list(sums.values()) == pytest.approx([WEIGHT_SUM] * len(sums))
    ratios = [
        weights_of(find_arm(name)) for name in ("equal", "ratio-1", "fixed-scaled", "ratio-100")
    ]
    assert ratios[0] == ratios[1] and ratios[2] == ratios[3] == list(SCALED)


def test_an_arms_options_are_its_scripts():
    for arm in expand([*ARM_NAMES, *BALANCERS]):
        options, over_hyp = split_arguments(
            arm.options, DualOptions if arm.script == DUAL else JointOptions
        )
        hyp = load_hyperparameters(options.hyp, over_hyp)
        assert (ROOT / arm.script).is_file() and getattr(options, "tasks", list(TASKS)) == list(
            arm.tasks
        )
        assert hyp.balancer == arm.options.get("balancer", HyperParameters().balancer)
    assert find_arm("gradnorm-alpha-0.5").options["gradnorm_alpha"] == 0.5


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "GradNorm",
            "gradnorm-",
            "all",
            "../fixed",
            "ratio-",
            "ratio-x",
            "ratio-0",
            "ratio--1",
            "ratio-inf",
        ),
        *("ratio-nan", "gradnorm-alpha-", "gradnorm-alpha-0", "gradnorm-alpha-high"),
    ],
)
def test_an_unknown_arm_is_refused(name: str):
    with pytest.raises(UserError, match="expected") as error:
        expand(["equal", name])
    assert f"'{name}'" in str(error.value) and "\n" not in str(error.value)


def test_every_arm_is_trained_once_and_after_what_it_needs():
    assert [arm.name for arm in expand(["gradnorm-static", "equal", "gradnorm", "equal"])] == [
        "gradnorm",
        "gradnorm-static",
        "equal",
    ]
    assert [arm.name for arm in expand(ARM_NAMES)] == list(ARM_NAMES)


def test_the_arm_that_was_chosen_on_what_it_reported_is_gone_and_the_message_names_another():
    with pytest.raises(UserError, match="gone: it was the best of five ratios") as refused:
        expand(["fixed", "tuned"])
    message = str(refused.value)
    assert "\n" not in message
    (ratio,) = re.findall(r"ratio-\d+", message)
    assert ratio in ARM_NAMES
    (page,) = re.findall(r"docs/\S+\.md", message)
    assert "## Choose on some folds, report on others" in (ROOT / page).read_text(encoding="utf-8")


# ---- the average of GradNorm's weights -----------------------------------------------------------


def write_logs(folder: Path, epochs: int, batches: int, updates: dict[int, float]) -> None:
    """The tables of a run whose detection weight is `updates[step]` from the batch after that step
    on.
    """
    rows = [
        {"step": step, "epoch": step // batches, "batch": step % batches}
        | {"weight/detection": weight, "weight/classification": WEIGHT_SUM - weight}
        for step, weight in sorted(updates.items())
    ]
    pd.DataFrame(rows).to_csv(folder / "gradnorm.csv", index=False)
    pd.DataFrame({"epoch": range(epochs)}).to_csv(folder / "results.csv", index=False)


@given(st.integers(2, 5), st.integers(1, 8), st.data())
def test_the_average_is_that_over_the_batches(
    tmp_path_factory, epochs: int, batches: int, data: st.DataObject
):
    steps = st.integers(0, epochs * batches - 1)
    updates = data.draw(st.dictionaries(steps, st.floats(0.02, 1.98), min_size=1)) | {
        (epochs - 1) * batches: 1.5
    }
    folder = tmp_path_factory.mktemp("run")
    write_logs(folder, epochs, batches, updates)
    weights, totals = (1.0, 0.01), [0.0, 0.0]
    for step in range(epochs * batches):
        totals = [total + weight for total, weight in zip(totals, weights, strict=True)]
        if step in updates:
            weights = updates[step], WEIGHT_SUM - updates[step]
    expected = [WEIGHT_SUM * total / sum(totals) for total in totals]
    assert average_weights(folder) == pytest.approx(expected)


def test_the_average_of_a_real_run(tiny_data: Path, tmp_path: Path):
    """Against the weights that every batch was given."""
    given_weights = [[1.0, 0.01]]

    def note_the_next(trainer: Trainer, epoch: int, index: int, batch: dict) -> None:
        given_weights.append([trainer.job.balancer.weights[task] for task in TASKS])

    options = small_options(tiny_data, tmp_path) | find_arm("gradnorm").options
    folder = run(options, tmp_path / "run", on_step=note_the_next, noval=True)
    given_weights.pop()  # no batch follows the last one
    assert len(given_weights) == 9 and given_weights[0] != given_weights[-1]
    totals = [sum(weights) for weights in zip(*given_weights, strict=True)]
    average = [WEIGHT_SUM * total / sum(totals) for total in totals]
    assert average_weights(folder) == pytest.approx(average, rel=1e-5)
    static = find_arm("gradnorm-static")
    assert static.needs == "gradnorm" and weights_of(static, folder) == pytest.approx(
        average, rel=1e-5
    )
    assert options_of(static, folder)["balancer"] == "fixed"


def test_without_an_update_the_weights_are_those_at_the_start(tmp_path: Path):
    assert average_weights(tmp_path) == SCALED
