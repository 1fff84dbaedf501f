"""ROC curves and areas against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from utils.evaluation.roc import resampled_areas, roc_curve


def made_up(seed: int, steps: int):
    """Scores of which many are tied where there are few steps."""
    rng = np.random.default_rng(seed)
    is_positive = rng.random(60) < 0.3
    scores = np.round(rng.random(60) + 0.3 * is_positive, steps)
    counts = rng.integers(0, 4, (20, 60))
    return scores, is_positive, counts


@pytest.mark.parametrize("steps", [1, 6])
def test_areas_are_scikit_learns_with_the_counts_as_weights(steps: int):
    scores, is_positive, counts = made_up(0, steps)
    expected = [metrics.roc_auc_score(is_positive, scores, sample_weight=own) for own in counts]
    np.testing.assert_allclose(resampled_areas(scores, is_positive, counts), expected)
    once = np.ones((1, 60), int)
    expected = metrics.roc_auc_score(is_positive, scores)
    assert resampled_areas(scores, is_positive, once)[0] == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 6])
def test_the_curve_is_scikit_learns(steps: int):
    scores, is_positive, _ = made_up(1, steps)
    curve = roc_curve(scores, is_positive)
    false_positives, sensitivity, _ = metrics.roc_curve(
        is_positive, scores, drop_intermediate=False
    )
    np.testing.assert_allclose(curve["false_positive_rate"], false_positives)
    np.testing.assert_allclose(curve["sensitivity"], sensitivity)


def test_a_resample_without_negatives_has_no_area():
    areas = resampled_areas(np.array([0.1, 0.9]), np.array([False, True]), np.array([[0, 2]]))
    assert np.isnan(areas).all()
