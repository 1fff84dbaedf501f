"""The claims about the solutions, judged by figures that support or contradict them."""

from collections.abc import Mapping, Sequence

import pytest
from made_up_outcomes import METRICS, arms, outcome

from utils.comparison.arms import GRID
from utils.comparison.claims import LEVELS, examine
from utils.comparison.outcomes import Outcome


def verdict_of(found: Mapping[str, Sequence[Outcome]], start: str) -> str:
    (claim,) = [claim for claim in examine(found) if claim.claim.startswith(start)]
    return claim.verdict


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
    fixed = arms(fixed=[0.5, 0.5])
    for seeds, verdict in (
        ((least + 0.01, least + 0.02), "supported"),
        ((least - 0.02, least - 0.01), "contradicted"),
        ((-0.1, -0.2), "contradicted"),
        ((least - 0.05, least + 0.05), "not shown"),
    ):
        gained = {
            arm: [outcome(arm, seed, factor=1 + gain, **dict.fromkeys(METRICS, 0.5)) for seed, gain in enumerate(seeds)]
        }
        assert verdict_of(fixed | gained, claim) == verdict
    assert not examine(fixed)


@pytest.mark.parametrize(
    ("epochs", "verdict"), [((7, 8), "supported"), ((9, 12), "contradicted"), ((7, 9), "not shown")]
)
def test_the_claim_of_faster_convergence(epochs: tuple[int, int], verdict: str):
    found = {
        "gradnorm": [outcome("gradnorm", seed, epochs_to_90_mAP50=value) for seed, value in enumerate(epochs)],
        "fixed": [outcome("fixed", seed, epochs_to_90_mAP50=10.0) for seed in (1, 0)],
    }
    assert verdict_of(found, "GradNorm: converges") == verdict


@pytest.mark.parametrize(("alone", "verdict"), [(0.4, "supported"), (0.5, "not contradicted"), (0.6, "contradicted")])
def test_the_claim_of_independence(alone: float, verdict: str):
    found = arms(dual=[0.5, 0.5], detection_only=[alone, alone], classification_only=[alone, alone])
    for task in ("detection", "classification"):
        assert verdict_of(found, f"dual backbone: as good as independent training ({task})") == verdict


def test_the_claim_of_the_best_ratio():
    others = {name.replace("-", "_"): [0.3, 0.4] for name in GRID if name != "ratio-15"}
    assert verdict_of(arms(**others, ratio_15=[0.35, 0.45]), "15:1") == "supported"
    assert verdict_of(arms(**others, ratio_15=[0.3, 0.4]), "15:1") == "not shown"
    assert verdict_of(arms(**{**others, "equal": [0.6, 0.6]}, ratio_15=[0.35, 0.45]), "15:1") == "contradicted"
    (claim,) = examine(arms(**{**others, "equal": [0.6, 0.6]}, ratio_15=[0.35, 0.45]))
    assert claim.measured == "number 2 of 5 by fitness; best: equal"


def test_claimed_levels_and_the_fall_of_the_loss():
    for value, verdict, reached in ((0.9, "reached", 5), (0.65, "not reached", 2), (0.5, "not reached", 0)):
        figures = dict.fromkeys((*LEVELS, *METRICS, "detection_loss_fall"), value)
        claims = examine({arm: [outcome(arm, **figures)] for arm in ("gradnorm", "dual")})
        levels = [claim.verdict for claim in claims if claim.claim.endswith(("(gradnorm)", "(dual)"))]
        assert levels == [f"{reached} of 5 reached"] * 2
        assert [claim.verdict for claim in claims if "82 %" in claim.claim] == [verdict]
