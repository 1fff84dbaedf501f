"""The claims about the solutions, beside figures that support or contradict them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from made_up_outcomes import METRICS, arms, outcome

from utils.comparison.claims import LEVELS, RATIOS, Claim, check_claims
from utils.comparison.outcomes import Outcome

MARGINS = {"mAP50": 0.08}


def claim_of(found: Mapping[str, Sequence[Outcome]], start: str, epochs: int = 50) -> Claim:
    (claim,) = [
        claim for claim in check_claims(found, epochs, MARGINS) if claim.claim.startswith(start)
    ]
    return claim


def verdict_of(found: Mapping[str, Sequence[Outcome]], start: str) -> str:
    return claim_of(found, start).verdict


@pytest.mark.parametrize(
    ("arm", "claim", "least"),
    [
        ("gradnorm", "GradNorm: detection", 0.10),
        ("gradnorm", "GradNorm: classification", 0.05),
        ("dual", "dual backbone: detection", 0.15),
        ("dual", "dual backbone: classification", 0.10),
    ],
)
def test_a_claimed_gain(arm: str, claim: str, least: float):
    """Trainings vary by some thousandths, and by a tenth."""
    for gain, spread, verdict in (
        (least + 0.02, 0.001, "supported"),
        (least - 0.02, 0.001, "contradicted"),
        (-0.1, 0.001, "contradicted"),
        (least + 0.02, 0.05, "not shown"),
        (least - 0.02, 0.05, "not shown"),
    ):
        seeds = np.array([0.5 - spread, 0.5, 0.5 + spread])
        found = arms(fixed=seeds)
        found[arm] = [
            outcome(arm, seed, factor=1 + gain, **dict.fromkeys(METRICS, value))
            for seed, value in enumerate(seeds)
        ]
        assert verdict_of(found, claim) == verdict
    assert not check_claims(arms(fixed=[0.5, 0.5]), 50, MARGINS)


def test_of_one_training_nothing_follows():
    found = arms(fixed=0.5, gradnorm=0.9)
    claim = claim_of(found, "GradNorm: detection")
    assert (
        claim.verdict == "not shown" and claim.measured == "mAP50 +80.0% no interval against fixed"
    )


def course(arm: str, seed: int, first: int, last: float = 0.5) -> Outcome:
    """Reaches 0.45 at epoch `first` of 20, and ends at `last`."""
    values = np.where(np.arange(1, 21) >= first, 0.45, 0.0)
    values[-1] = last
    own = outcome(arm, seed, mAP50=last)
    return Outcome(**{**vars(own), "courses": {"mAP50": values}})


@pytest.mark.parametrize(
    ("epochs", "verdict"),
    [
        ((5, 5, 6), "supported"),
        ((10, 10, 11), "contradicted"),
        ((5, 8, 11), "not shown"),
        ((5, 5), "not shown"),
    ],
)
def test_the_claim_of_faster_convergence(epochs: Sequence[int], verdict: str):
    found = {
        "gradnorm": [course("gradnorm", seed, value) for seed, value in enumerate(epochs)],
        "fixed": [course("fixed", seed, 10) for seed in range(len(epochs))][::-1],
    }
    assert verdict_of(found, "GradNorm: converges") == verdict


def test_an_arm_that_ends_low_does_not_converge_sooner_for_that():
    """Both reach 0.9 x 0.3 at the same epoch, though that is all that one of them reaches."""
    found = {
        "gradnorm": [course("gradnorm", seed, 10, last=0.3) for seed in range(3)],
        "fixed": [course("fixed", seed, 10, last=0.9) for seed in range(3)],
    }
    assert "of fixed's: 1.00 no interval" in claim_of(found, "GradNorm: converges").measured
    nothing = found | {"fixed": [course("fixed", seed, 10, last=0.0) for seed in range(3)]}
    assert not [claim for claim in check_claims(nothing, 50, MARGINS) if "converges" in claim.claim]


@pytest.mark.parametrize(
    ("alone", "verdict"),
    [
        (0.3, "supported"),
        (0.52, "supported within 0.08"),
        (0.54, "not shown"),
        (0.7, "contradicted"),
    ],
)
def test_the_claim_of_independence(alone: float, verdict: str):
    spread = np.array([-0.02, 0, 0.02])
    found = arms(
        dual=0.5 + spread, detection_only=alone + spread, classification_only=alone + spread
    )
    assert (
        verdict_of(found, "dual backbone: as good as independent training (detection)") == verdict
    )
    views = verdict_of(found, "dual backbone: as good as independent training (classification)")
    assert views == ("not shown" if "within" in verdict else verdict)  # there is no margin for it
    same = dict.fromkeys(("dual", "detection-only"), found["dual"])
    assert (
        verdict_of(same, "dual backbone: as good as independent training (detection)")
        == "supported"
    )


def test_the_claim_of_the_best_ratio():
    others = {name.replace("-", "_"): [0.3, 0.31, 0.32] for name in RATIOS if name != "ratio-15"}
    assert verdict_of(arms(**others, ratio_15=[0.4, 0.41, 0.42]), "15:1") == "supported"
    assert verdict_of(arms(**others, ratio_15=[0.3, 0.31, 0.33]), "15:1") == "not shown"
    better = {**others, "equal": [0.6, 0.61, 0.62]}
    claim = claim_of(arms(**better, ratio_15=[0.4, 0.41, 0.42]), "15:1")
    assert (claim.verdict, claim.measured) == (
        "contradicted",
        "number 2 of 5 by fitness; best: equal",
    )


def test_claimed_levels_are_shown_by_a_lower_limit_and_tested_by_as_many_epochs():
    for value, shown in ((0.95, 2), (0.75, 1), (0.55, 0)):
        figures = dict.fromkeys((*LEVELS, *METRICS), value)
        seeds = {
            arm: [outcome(arm, seed, **figures) for seed in range(4)]
            for arm in ("gradnorm", "fixed")
        }
        claim = claim_of(
            seeds,
            "at least mAP50 0.6, precision 0.7, recall 0.7, F1 0.6, view accuracy 0.85 within 50",
        )
        assert claim.verdict == f"{shown} of 5 shown"
        assert claim_of(seeds, "at least", epochs=15).verdict == "not tested (15 epochs)"


@pytest.mark.parametrize(
    ("fall", "verdict"), [(0.9, "supported"), (0.82, "not shown"), (0.5, "contradicted")]
)
def test_the_fall_of_the_loss(fall: float, verdict: str):
    found = {
        "gradnorm": [
            outcome("gradnorm", seed, mAP50=0.5, detection_loss_fall=fall + shift)
            for seed, shift in enumerate((-0.01, 0.0, 0.01))
        ]
    }
    assert verdict_of(found, "detection loss") == verdict
    assert claim_of(found, "detection loss", epochs=49).verdict == "not tested (49 epochs)"
