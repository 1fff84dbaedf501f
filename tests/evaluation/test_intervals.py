"""Intervals against SciPy's and statsmodels' tests, published worked examples, and their
definitions.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from utils.evaluation.intervals import (
    Estimate,
    Variance,
    figure_interval,
    holm,
    kish,
    nadeau_bengio,
    over_patients,
    over_units,
    pooled,
    satterthwaite,
)
from utils.evaluation.results import group_draws

# Made up; unequal variances, unequal numbers
SAMPLES = np.array([3.2, 4.1, 2.8, 5.0, 3.9]), np.array([2.0, 6.5, 1.1, 7.9, 3.3, 5.2, 0.4])
# Hours of sleep gained by two drugs (Student 1908), R's data set `sleep`
SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)
# Areas under the curve of two drugs (Wellek 2003, p. 212), the equivalence example of SAS/STAT's
# TTEST procedure
AREAS = (
    [103.4, 59.92, 68.17, 94.54, 69.48, 72.17, 74.37, 84.44, 96.74, 94.26, 48.52, 95.68],
    [90.11, 77.71, 77.71, 97.51, 58.21, 101.3, 79.84, 96.06, 89.30, 97.22, 61.62, 85.80],
)


def test_the_mean_of_units_is_scipys_one_sample_t():
    values = SAMPLES[1]
    found, expected = over_units(values), stats.ttest_1samp(values, 0)
    assert found.p_value() == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(expected.confidence_interval(0.95))
    assert found.interval(0.9) == pytest.approx(expected.confidence_interval(0.9))


def test_satterthwaites_degrees_of_freedom_are_welchs():
    first, second = SAMPLES
    parts = [Variance(sample.var(ddof=1) / len(sample), len(sample) - 1) for sample in SAMPLES]
    found = satterthwaite(first.mean() - second.mean(), parts)
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert (found.df, found.p_value()) == pytest.approx((expected.df, expected.pvalue))
    assert found.interval() == pytest.approx(expected.confidence_interval(0.95))


def test_rs_example_of_welchs_test():
    """example(t.test) prints t = -1.8608, df = 17.776, p-value = 0.07939, -3.3654832 to 0.2054832."""
    first, second = (np.array(hours) for hours in SLEEP)
    found = satterthwaite(
        first.mean() - second.mean(), [Variance(own.var(ddof=1) / 10, 9) for own in (first, second)]
    )
    assert found.value / found.error == pytest.approx(-1.8608, abs=5e-5)
    assert (found.df, found.p_value()) == (
        pytest.approx(17.776, abs=5e-4),
        pytest.approx(0.07939, abs=5e-6),
    )
    assert found.interval() == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


def test_sas_example_of_an_equivalent_ratio():
    """Geometric mean ratio 0.9412, 90 % interval 0.8634 to 1.0260, equivalent within 0.8 to 1.25."""
    first, second = (np.log(areas) for areas in AREAS)
    found = over_units(first - second)
    assert np.exp([found.value, *found.interval(0.9)]) == pytest.approx(
        [0.9412, 0.8634, 1.0260], abs=5e-5
    )
    assert found.p_equivalence(np.log(1.25)) < 0.05 < found.p_equivalence(np.log(1.15))


@pytest.mark.parametrize("margin", [0.5, 1.5, 4.0])
def test_equivalence_is_statsmodels_two_one_sided_tests(margin: float):
    first, second = SAMPLES[0], SAMPLES[1][:5]
    found = over_units(first - second)
    assert found.p_equivalence(margin) == pytest.approx(
        ttost_paired(first, second, -margin, margin)[0]
    )
    low, high = found.interval(0.9)
    assert (found.p_equivalence(margin) < 0.05) == (-margin < low and high < margin)


def test_the_difference_that_would_be_seen_is_the_one_of_that_power():
    """By the noncentral t: the sum of two quantiles is a little off."""
    sample = np.random.default_rng(0).normal(size=20)
    found = over_units(sample)
    power = TTestPower().power(found.detectable(0.8) / sample.std(ddof=1), nobs=20, alpha=0.05)
    assert power == pytest.approx(0.8, abs=0.01)
    assert Estimate(0.0, 0.052, 23.0).detectable() == pytest.approx(
        (2.0687 + 0.8575) * 0.052, abs=1e-5
    )


def test_holm_is_statsmodels():
    p_values = np.random.default_rng(1).uniform(0, 0.2, 12)
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )  # x3, x2 then 0.06, x2, x4
    assert holm([0.04]) == pytest.approx([0.04]) and holm([]).size == 0


def crossed(seeds: int, patients: int, spread: tuple[float, float, float]) -> np.ndarray:
    """Differences (seeds, patients): of the training, of the patient, of the rest."""
    rng = np.random.default_rng(3)
    shapes = (seeds, 1), (1, patients), (seeds, patients)
    return 0.3 + sum(rng.normal(0, sd, shape) for sd, shape in zip(spread, shapes, strict=True))


def test_variances_are_those_of_a_mixed_model():
    """Restricted maximum likelihood on a balanced table; what is left over is in both variances."""
    seeds, patients = 6, 12
    table = crossed(seeds, patients, (0.10, 0.12, 0.08))
    seed, patient = (index.ravel() for index in np.indices(table.shape))
    frame = pd.DataFrame({"y": table.ravel(), "seed": seed, "patient": patient, "all": 1})
    parts = {"seed": "0 + C(seed)", "patient": "0 + C(patient)"}
    fit = MixedLM.from_formula(
        "y ~ 1", groups="all", vc_formula=parts, re_formula="0", data=frame
    ).fit()
    rest = fit.scale / (seeds * patients)
    of = dict(zip(fit.model.exog_vc.names, fit.vcomp, strict=True))
    resample_counts = group_draws([str(number) for number in range(patients)], 100_000) / patients
    over_patients_found = over_patients(resample_counts @ table.mean(axis=0), patients)
    assert over_patients_found.value == pytest.approx(of["patient"] / patients + rest, rel=0.02)
    over_seeds_found = pooled([table.mean(axis=1)])
    assert over_seeds_found.value / seeds == pytest.approx(of["seed"] / seeds + rest, rel=0.001)
    assert (over_patients_found.df, over_seeds_found.df) == (patients - 1, seeds - 1)


def test_a_pooled_variance_is_the_one_of_an_analysis_of_variance():
    samples = [[0.1, 0.3, 0.2], [0.5, 0.9], [0.7], []]
    found = pooled(samples)
    assert (found.value, found.df) == (pytest.approx((2 * 0.01 + 1 * 0.08) / 3), 3)
    assert pooled([[0.3], [0.4]]).df == 0 and np.isnan(pooled([]).value)


def test_kishs_number_is_the_count_of_equal_weights_and_less_of_unequal_ones():
    assert kish(np.full(7, 0.3)) == pytest.approx(7)
    frames = np.array([1, 8, 9, 10, 11, 17, 25, 29, 40, 68])
    assert kish(frames) == kish(frames / 218) == pytest.approx(218**2 / (frames**2).sum())
    assert kish(np.array([0, 0, 5])) == 1 and kish(np.zeros(3)) == 0


def test_nadeau_and_bengios_error_is_wider_by_the_share_of_test_to_training():
    values = [0.1, 0.3, 0.2, 0.4, 0.3]
    found, plain = nadeau_bengio(values), over_units(values)
    assert (found.value, found.df) == (plain.value, plain.df)
    assert (found.error / plain.error) ** 2 == pytest.approx(1 + 5 / 4)


def test_there_is_no_interval_where_nothing_is_known():
    assert over_units([0.1, 0.2]) is nadeau_bengio([0.1, 0.2]) is None
    assert over_units([0.1 + 0.2, 0.3, 0.3]) is None  # the same but for rounding
    drawn = np.array([0.1, 0.2, np.nan, 0.3])
    assert over_patients(drawn, 1.9) is over_patients(np.full(9, np.nan), 9) is None
    assert over_patients(drawn, 3).value == pytest.approx(
        1.5 * 0.01
    )  # what is undefined is left out
    assert np.isnan(figure_interval(1.0, np.ones(50), 5)).all()


def test_a_figures_interval_stays_in_its_range():
    drawn = np.linspace(0.5, 1, 100)
    low, high = figure_interval(0.9, drawn, 4)
    assert 0 < low < 0.9 and high == 1
