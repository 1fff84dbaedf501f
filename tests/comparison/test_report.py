"""What the report of a comparison says of interference, and of what its means are over."""

import numpy as np
from made_up_outcomes import arms, folds, interference_rows

from utils.comparison.arms import find_arm
from utils.comparison.protocol import Contrast, Protocol
from utils.comparison.report import to_markdown
from utils.comparison.results import collect
from utils.core.title import titled

ABOUT = {
    **{
        "title": "made up",
        "split": "validation",
        "data_line": "`a.yaml`",
        "epochs": 50,
        "imgsz": 64,
    },
    **{"resampled": "patients (group_pattern)", "limits": ["few"], "seeds": [0], "units": 1},
}


def report_of(outcomes: dict, *counted: Contrast, about: dict = ABOUT) -> str:
    made_up = {name: find_arm(name) for name in outcomes}
    rows = {"gradnorm": interference_rows({(0, seed): [0.1 * seed, 0.2] for seed in range(3)})}
    return to_markdown(
        collect(about, Protocol(counted, {}), list(made_up.values()), outcomes, rows)
    )


def test_a_report_says_what_its_means_are_over():
    several = np.random.default_rng(0).uniform(0.3, 0.6, (2, 3, 2))
    assert "over 3 folds, each the mean of 2 trainings." in report_of(
        folds(gradnorm=several[0], fixed=several[1])
    )
    assert "over 3 trainings." in report_of(arms(gradnorm=[0.3, 0.4, 0.5], fixed=[0.3, 0.4, 0.4]))


def test_a_report_is_in_the_words_of_its_data():
    outcomes = arms(gradnorm=[0.7, 0.71, 0.72], fixed=[0.3, 0.31, 0.32], dual=[0.5, 0.6, 0.5])
    text = report_of(outcomes, about=ABOUT | {"cls_title": "projection"})
    assert "| projection acc. | balanced |" in text
    assert "balanced projection accuracy" in text
    assert titled(text, "season") == text  # the word view is nowhere
    assert titled(report_of(outcomes), "projection") == text


def test_only_what_was_fixed_before_gets_a_word():
    counted = Contrast("gradnorm", "fixed", "view_balanced_accuracy")
    text = report_of(arms(gradnorm=[0.7, 0.71, 0.72], fixed=[0.3, 0.31, 0.32]), counted)
    (row,) = [
        line
        for line in text.splitlines()
        if line.startswith("| `gradnorm` - `fixed` | balanced view accuracy")
    ]
    assert row.endswith("| better |")
    others = [
        line
        for line in text.splitlines()
        if line.startswith("| `gradnorm` - `fixed` |") and line != row
    ]
    assert len(others) == 3 and all(line.endswith("| - | - | exploratory |") for line in others)
    assert "| `gradnorm` | cut | +0.1500 | [" in text
