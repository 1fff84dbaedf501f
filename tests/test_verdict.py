"""What the figures of a comparison carry: differences with intervals against simulations, Delta-m, the claims."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_results import NAMES, VIEWS, random_results

from models.yolo import DetectionModel
from utils.arms import GRID, find_arm
from utils.claims import LEVELS, examine
from utils.metrics import group_draws, summarise
from utils.outcomes import Outcome, count_gflops, epochs_to_reach, late_spread
from utils.report import collect, summarise_interference
from utils.verdict import COMPARED, RESAMPLES, best_of, delta_m, difference, mean_and_deviation, resample

METRICS = tuple(metric for metrics in COMPARED.values() for metric in metrics)
# What the same patients do to every arm.
NOISE = dict(zip(METRICS, np.random.default_rng(0).normal(0, 0.02, (4, RESAMPLES)), strict=True))


def outcome(arm: str, seed: int = 0, noise: Mapping = NOISE, factor: float = 1.0, **figures: float | None) -> Outcome:
    """Of a training whose figures are `figures`, and on resampled patients those plus noise, times `factor`."""
    resampled = {m: (figures[m] + noise[m]) * factor for m in METRICS if figures.get(m) is not None}
    scaled = {name: value if value is None else value * factor for name, value in figures.items()}
    others = dict.fromkeys(("fitness", "validation_fitness", "detection_loss_fall"), scaled.get("mAP50", 0.0))
    return Outcome(arm, (0, seed), {"epochs_to_90_mAP50": None, **others, **scaled}, {"training_s": 1.0}, resampled)


def arms(**figures: Sequence[float] | float) -> dict[str, list[Outcome]]:
    """arm -> its outcomes, whose every compared metric is the value given for their seed."""
    given = {arm.replace("_", "-"): np.atleast_1d(values) for arm, values in figures.items()}
    return {
        arm: [outcome(arm, seed, **dict.fromkeys(METRICS, value)) for seed, value in enumerate(values)]
        for arm, values in given.items()
    }


# ---- differences ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "word"), [(0.03, "better"), (-0.03, "worse"), (0.0, "not distinguishable")])
def test_a_constant_shift_has_no_width(shift: float, word: str):
    """Seeds and patients move both arms alike, so that nothing is left of them."""
    reference = np.array([0.3, 0.5, 0.4])
    found = arms(gradnorm=reference + shift, fixed=reference)
    for metric in METRICS:
        result = difference(found["gradnorm"], found["fixed"], metric)
        assert [result.value, result.low, result.high] == pytest.approx([shift] * 3)
        assert (result.word, result.units, result.relative) == (word, 3, False)
        assert (result.arm, result.reference, result.metric) == ("gradnorm", "fixed", metric)


def test_a_constant_ratio_has_no_width():
    fixed = arms(fixed=[0.3, 0.5])["fixed"]
    more = [outcome("dual", o.unit[1], factor=1.2, **{m: o.figures[m] for m in METRICS}) for o in fixed]
    result = difference(more, fixed, "mAP50", relative=True)
    assert [result.value, result.low, result.high] == pytest.approx([0.2] * 3)


def test_an_arm_is_not_distinguishable_from_itself():
    own = arms(equal=[0.9, 0.1, 0.3, 0.2])["equal"]
    result = difference(own, own, "mAP50")
    assert (result.value, result.low, result.high, result.word) == (0, 0, 0, "not distinguishable")


def test_outcomes_are_paired_by_unit_whatever_their_order():
    found = arms(gradnorm=[0.3, 0.5, 0.9, 0.2], fixed=[0.1, 0.4, 0.8])
    expected = difference(found["gradnorm"][:3], found["fixed"], "mAP50")
    assert difference(found["gradnorm"][::-1], found["fixed"], "mAP50").value == pytest.approx(expected.value)
    assert expected.value == pytest.approx(0.4 / 3) and expected.units == 3
    assert expected.low == pytest.approx(0.1) and expected.high == pytest.approx(0.2)


def test_a_pair_has_no_difference_where_there_is_nothing_to_compare():
    found = arms(gradnorm=[0.3], fixed=[0.1])
    elsewhere = [dataclasses.replace(found["fixed"][0], unit=(1, 0))]
    assert difference(found["gradnorm"], elsewhere, "mAP50") is None
    assert difference(found["gradnorm"], [], "mAP50") is None
    assert difference(found["gradnorm"], [outcome("detection-only", mAP50=0.1)], "view_accuracy") is None
    undefined = [outcome("fixed", mAP50=None)]
    assert difference(found["gradnorm"], undefined, "mAP50") is None
    nothing = arms(fixed=[0.0])["fixed"]
    assert difference(found["gradnorm"], nothing, "mAP50", relative=True) is None


def test_about_95_of_100_intervals_hold_the_truth():
    """Arms differ by 0.3 for a training and a patient drawn from all there could be; both add to the spread."""
    rng, seeds, patients, repeats, hits = np.random.default_rng(0), 8, 30, 300, 0
    draws = group_draws([str(patient) for patient in range(patients)], RESAMPLES, seed=3) / patients
    for _ in range(repeats):
        common = rng.normal(0, 3, (seeds, patients))
        of_seed, of_patient = rng.normal(0, 0.7, (seeds, 1)), rng.normal(0, 1.4, patients)
        apart = 0.3 + of_seed + of_patient + rng.normal(0, 1, (seeds, patients))
        pair = [
            [Outcome(arm, (0, seed), {"mAP50": x.mean()}, {}, {"mAP50": draws @ x}) for seed, x in enumerate(values)]
            for arm, values in (("dual", common + apart), ("gradnorm", common))
        ]
        result = difference(*pair, "mAP50")
        hits += result.low <= 0.3 <= result.high
    assert 0.88 < hits / repeats < 0.99  # 0.8 and less if seeds, or patients, were left out


def test_resampled_metrics_are_those_of_the_resampled_patients():
    results = random_results(images=12, groups=4)
    found = resample(results, len(NAMES), len(VIEWS), ("detection", "classification"), seed=5)
    assert found.keys() == set(METRICS) and all(len(values) == RESAMPLES for values in found.values())
    draws = group_draws([result.group for result in results], RESAMPLES, seed=5)
    for number in (0, 1, 2):
        counts = draws[number]
        copies = [r for r, count in zip(results, counts, strict=True) for _ in range(count)]
        metrics = summarise(copies, NAMES, VIEWS, intervals=False)
        detection, views = metrics["detection"], metrics["views"]
        expected = [detection["mAP_0.5"], detection["mAP_0.5:0.95"], views["accuracy"], views["balanced_accuracy"]]
        assert [found[metric][number] for metric in METRICS] == pytest.approx(expected, abs=1e-9)


def test_a_tasks_metrics_do_not_depend_on_what_else_is_asked_and_the_draws_are_shared():
    """Two arms with the same views differ by nothing in them, whatever they detect."""
    results = random_results(images=12, groups=4)
    blind = [
        dataclasses.replace(r, boxes_xyxy=r.boxes_xyxy[:1], scores=r.scores[:1], classes=r.classes[:1]) for r in results
    ]
    both = resample(results, len(NAMES), len(VIEWS), ("detection", "classification"), seed=0)
    alone = resample(blind, len(NAMES), len(VIEWS), ("classification",), seed=0)
    assert alone.keys() == {"view_accuracy", "view_balanced_accuracy"}
    assert all(np.array_equal(both[metric], values, equal_nan=True) for metric, values in alone.items())


# ---- Delta-m, the best of a grid ---------------------------------------------------------------------------------


def test_delta_m_by_hand():
    found = arms(dual=[0.4, 0.8])["dual"]
    single = {
        "detection": [outcome("detection-only", seed, mAP50=value) for seed, value in ((1, 0.6), (0, 0.2))],
        "classification": [outcome("classification-only", seed, view_accuracy=0.8) for seed in (0, 1)],
    }
    gain = delta_m(found, single)
    assert gain["value"] == pytest.approx((0.6 / 0.4 - 1 + 0.6 / 0.8 - 1) / 2)
    assert gain["low"] < gain["value"] < gain["high"]
    twice = [outcome("dual", o.unit[1], factor=2, **{m: o.figures[m] for m in METRICS}) for o in found]
    of_itself = delta_m(twice, dict.fromkeys(("detection", "classification"), found))
    assert list(of_itself.values()) == pytest.approx([1.0] * 3)  # twice as good at both


def test_delta_m_needs_both_tasks():
    found = arms(dual=[0.4], detection_only=[0.3], classification_only=[0.3])
    single = {"detection": found["detection-only"], "classification": found["classification-only"]}
    assert delta_m(found["dual"], single) and delta_m(found["dual"], {"detection": single["detection"]}) is None
    assert delta_m([outcome("detection-only", mAP50=0.3)], single) is None
    blind = [outcome("detection-only", mAP50=0.0)]
    assert delta_m(found["dual"], single | {"detection": blind}) is None


def test_the_best_of_the_grid_is_chosen_on_validation_whatever_is_reported():
    """On the test split the last arm of the grid is best."""
    found = arms(**{name.replace("-", "_"): [0.1 + 0.1 * number, 0.1] for number, name in enumerate(GRID)})
    chosen = [dataclasses.replace(o, figures={**o.figures, "validation_fitness": 0.9}) for o in found["ratio-4"]]
    assert best_of(found) == GRID[-1] and best_of(found | {"ratio-4": chosen}) == "ratio-4"
    results = collect_made_up(found | {"ratio-4": chosen} | arms(gradnorm=[0.4, 0.3]))
    assert results["tuned"] == "ratio-4" and results["arms"]["tuned"]["runs"] == results["arms"]["ratio-4"]["runs"]
    assert ["gradnorm", "tuned"] in [[d["arm"], d["reference"]] for d in results["differences"]]
    del found["ratio-15"]  # of a part of the grid there is no best
    assert collect_made_up(found)["tuned"] is None


def collect_made_up(found: Mapping[str, Sequence[Outcome]]) -> dict:
    return collect({}, [find_arm(name) for name in found], found, {})


def test_means_and_deviations_leave_out_what_is_undefined():
    three = [outcome("dual", seed, mAP50=value, F1=None) for seed, value in enumerate((0.2, None, 0.4))]
    found = mean_and_deviation(three)
    assert found["mAP50"] == pytest.approx((0.3, np.std([0.2, 0.4], ddof=1))) and "F1" not in found
    assert mean_and_deviation(three[:1])["mAP50"] == (0.2, None) and mean_and_deviation([]) == {}


# ---- the claims ----------------------------------------------------------------------------------------------


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


# ---- interference ----------------------------------------------------------------------------------------------


def test_interference_is_summarised_by_place():
    cosines = {"cut": [0.1, -0.3, 0.5, np.nan], "3": [-0.2], "trunk": [np.nan]}
    rows = [
        {"place": place, "cosine": cosine, "magnitude_similarity": similarity}
        for place, values in cosines.items()
        for cosine, similarity in zip(values, (0.2, 0.4, 0.9, 0.7), strict=False)
    ]
    found = summarise_interference(pd.DataFrame(rows))
    assert list(found) == ["cut", "3"]  # of the trunk nothing is known
    half = 1.96 * np.std([0.1, -0.3, 0.5], ddof=1) / np.sqrt(3)
    expected = {
        "cosine": 0.1,
        "cosine_half_width": half,
        "magnitude_similarity": 0.5,
        "conflicting": 1 / 3,
        "batches": 3,
    }
    assert found["cut"] == pytest.approx(expected)
    assert (found["3"]["cosine"], found["3"]["cosine_half_width"], found["3"]["conflicting"]) == (-0.2, 0, 1)


# ---- a run's own figures ---------------------------------------------------------------------------------------


def test_epochs_to_reach_and_late_spread_by_hand():
    curve = pd.Series([0.1, 0.5, 0.46, 0.4, 0.44, 0.5])
    assert epochs_to_reach(curve) == 2 and epochs_to_reach(curve[::-1]) == 1
    assert epochs_to_reach(pd.Series([0.1, 0.0])) is None and epochs_to_reach(pd.Series([0.1, np.nan])) is None
    assert epochs_to_reach(pd.Series([np.nan, 0.1])) == 2 and epochs_to_reach(pd.Series([], dtype=float)) is None
    assert late_spread(pd.Series([9.0] * 8 + [0.1, 0.3])) == pytest.approx(np.std([0.1, 0.3], ddof=1))
    assert late_spread(pd.Series([0.1] * 9)) is None and late_spread(pd.Series([np.nan] * 10)) is None


# The public YOLOv5's table, at 640 px and 80 classes: 10^9 operations.
@pytest.mark.parametrize(("size", "gflops"), [("n", 4.5), ("s", 16.5), ("m", 49.0), ("l", 109.1), ("x", 205.7)])
def test_operations_are_the_published_ones(size: str, gflops: float):
    with torch.device("meta"):
        model = DetectionModel("models/yolov5s.yaml", size=size)
    assert count_gflops(model.eval(), 640) == pytest.approx(gflops, rel=0.01)
