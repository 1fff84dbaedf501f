"""A word for every contrast that counts, and none for the others."""

import dataclasses

import pytest
from made_up_outcomes import arms, folds

from utils.comparison.protocol import Contrast, Protocol
from utils.comparison.statistics import (
    FOLDS,
    IDENTICAL,
    NO_INTERVAL,
    ONE_TRAINING,
    SEEDS,
    TOO_FEW,
    Found,
    difference,
)
from utils.comparison.words import difference_section, relative_span, state
from utils.evaluation.intervals import Estimate

BOXES, VIEWS = (
    Contrast("gradnorm", "fixed", "mAP50"),
    Contrast("gradnorm", "fixed", "view_balanced_accuracy"),
)
OTHER = Contrast("dual", "gradnorm", "mAP50")
ALONE = Protocol((BOXES,), {"mAP50": 0.08})


def found(value: float, error: float, basis: str = FOLDS) -> Found:
    """With many degrees of freedom: the 95 % interval is 1.96 errors wide to each side."""
    return Found(
        value, (value,), basis, Estimate(value, error, 1e6), Estimate(value, 1.5 * error, 1e6)
    )


@pytest.mark.parametrize(
    ("value", "error", "word"),
    [
        (0.20, 0.05, "better"),
        (-0.20, 0.05, "worse"),
        (0.05, 0.01, "better, but by less than 0.08"),
        (-0.05, 0.01, "worse, but by less than 0.08"),
        (0.01, 0.02, "equivalent within 0.08"),
        (0.01, 0.06, "not shown"),
        (0.08, 0.06, "not shown"),
    ],
)
def test_the_four_words(value: float, error: float, word: str):
    (statement,) = state({BOXES: found(value, error)}, ALONE)
    assert statement.word == word and statement.is_counted
    assert (statement.low > 0 or statement.high < 0) == word.startswith(("better", "worse"))
    within = abs(value) + 1.645 * error < 0.08  # the 90 % interval lies within the margin
    assert (statement.p_equivalence < 0.05) == within == ("0.08" in word)
    assert statement.detectable == pytest.approx(2.80 * error, rel=1e-3)


def test_without_a_margin_nothing_is_equivalent():
    (statement,) = state({BOXES: found(0.001, 0.001)}, Protocol((BOXES,), {}))
    assert statement.word == "not shown" and statement.p_equivalence is statement.margin is None


def test_words_carry_the_correction_for_all_that_was_promised():
    """p is 0.032 each: significant alone, and not if four were promised, trained or not."""
    both = {BOXES: found(0.30, 0.14), VIEWS: found(0.30, 0.14)}
    assert [own.word for own in state(both, Protocol((BOXES,), {}))] == ["better", "exploratory"]
    counted = (BOXES, VIEWS, OTHER, Contrast("gradnorm", "detection-only", "mAP50"))
    statements = state(both, Protocol(counted, {}))
    assert [own.word for own in statements] == ["not shown"] * 2
    assert [own.p_value for own in statements] == pytest.approx([0.0321 * 4] * 2, abs=1e-3)


def test_equivalences_are_corrected_among_themselves():
    """p is 0.040 each: 90 % intervals lie within the margin, and two are too many for it."""
    both = {BOXES: found(0.0, 0.08 / 1.75), VIEWS: found(0.0, 0.15 / 1.75)}
    protocol = Protocol((BOXES, VIEWS), {"mAP50": 0.08, "view_balanced_accuracy": 0.15})
    assert [own.word for own in state(both, protocol)] == ["not shown"] * 2
    one = dataclasses.replace(protocol, margins={"mAP50": 0.08})
    assert [own.word for own in state(both, one)] == ["equivalent within 0.08", "not shown"]


def test_what_counts_comes_first_and_the_rest_is_exploratory_however_clear():
    statements = state({OTHER: found(0.5, 0.01), BOXES: found(0.0, 0.1)}, ALONE)
    assert [(own.arm, own.word) for own in statements] == [
        ("gradnorm", "not shown"),
        ("dual", "exploratory"),
    ]
    assert statements[1].p_value is statements[1].margin is statements[1].detectable is None
    assert statements[1].low > 0.4


@pytest.mark.parametrize("basis", [IDENTICAL, TOO_FEW, NO_INTERVAL])
def test_where_there_is_no_interval_its_reason_is_the_word(basis: str):
    (statement,) = state({BOXES: Found(0.2, (0.1, 0.3), basis)}, ALONE)
    assert statement.word == basis and statement.low is statement.p_value is None


def test_one_training_never_gets_a_word():
    (statement,) = state({BOXES: found(0.9, 0.01, ONE_TRAINING)}, ALONE)
    assert (
        statement.word == "of this training" and statement.p_value is None and statement.low > 0.8
    )


# ---- the section of the report -------------------------------------------------------------------

ABOUT = {"resampled": "patients (group_pattern)", "resamples": 2000}


def section(own: Found, *others: Found) -> str:
    contrasts = {BOXES: own} | dict(zip((OTHER, VIEWS), others, strict=False))
    differences = [dataclasses.asdict(statement) for statement in state(contrasts, ALONE)]
    return difference_section({"differences": differences, "protocol": ABOUT})


def test_a_row_says_all_of_it():
    """The review's example: 10 patients, 3 seeds."""
    estimate = Estimate(-0.009, 0.0526, 13)
    text = section(Found(-0.009, (), SEEDS, estimate), found(0.1, 0.01))
    cells = ["`gradnorm` - `fixed`", "mAP50", "-0.009 [-0.123, +0.105]", "0.867", "within 0.08: no"]
    assert f"| {' | '.join(cells)} | not shown; 0.159 would have been seen |" in text
    assert "| +0.100 [+0.080, +0.120] | - | - | exploratory |" in text


def test_nadeau_and_bengio_stand_beside_every_better():
    assert "better (Nadeau-Bengio [+0.053, +0.347])" in section(found(0.2, 0.05))
    assert "(Nadeau-Bengio [" not in section(found(0.0, 0.05))


def test_the_text_describes_the_procedures_that_were_used_and_no_other():
    seeds, one, several = (
        section(found(0.2, 0.05, basis)) for basis in (SEEDS, ONE_TRAINING, FOLDS)
    )
    assert (
        "pooled over the arms" in seeds
        and "2000 bootstrap resamples" in seeds
        and "over the folds" not in seeds
    )
    assert "of this one training" in one and "Holm's correction" not in one
    assert "over the folds' differences" in several and "bootstrap" not in several
    assert "{" not in seeds + one + several
    assert "Holm's correction" in seeds and "exploratory" not in seeds
    assert "are exploratory" in section(found(0.2, 0.05), found(0.1, 0.01))


def test_values_stand_where_an_interval_would():
    few = difference(arms(gradnorm=[0.5, 0.6], fixed=[0.3, 0.5]), BOXES)
    assert "| +0.150 (+0.200, +0.100) | - | - | too few trainings |" in section(few)
    assert "values of all of them" in section(few)
    same = folds(fixed=[[0.3], [0.4], [0.5]])["fixed"]
    assert "| identical |" in section(difference({"gradnorm": same, "fixed": same}, BOXES))
    assert difference_section({"differences": [], "protocol": ABOUT}) == ""


def test_a_gain_of_one_training_says_so():
    gain = {"value": 0.1, "low": -0.05, "high": 0.3, "basis": FOLDS}
    assert relative_span(gain) == "[-5.0%, +30.0%]"
    assert relative_span(gain | {"basis": ONE_TRAINING}) == "[-5.0%, +30.0%] (of this training)"
    assert (
        relative_span({"value": 0.1, "low": None, "high": None, "basis": TOO_FEW})
        == "too few trainings"
    )
