"""The GradNorm paper's toy problem."""

import numpy as np
import pytest

from docs import toy_gradnorm


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_papers_toy(seed):
    """The small task's weight rises and settles, and the sum of the normalised test losses ends
    lower.
    """
    equal, balanced = (
        toy_gradnorm.train_toy(seed, toy_gradnorm.STEPS, balanced=b) for b in (False, True)
    )
    settled = balanced.weights[len(balanced.weights) // 2 :, 0]
    assert balanced.weights[0, 0] == 1
    assert (
        settled.min() > 1.9 and settled.max() < 1.999 and np.ptp(settled) < 0.1
    )  # and not because of a bound
    assert balanced.losses[-1].sum() < equal.losses[-1].sum()


def test_the_start_of_the_papers_toy():
    """In a second: with GradNorm the task of sigma 1 gets the weight, and learns where it else
    gets worse.
    """
    equal, balanced = (
        toy_gradnorm.train_toy(0, 1000, balanced=b, learning_rate=1e-3) for b in (False, True)
    )
    assert equal.weights.tolist() == [[1, 1]] * len(equal.steps)
    assert balanced.weights[-1, 0] > 1.9
    assert balanced.losses[-1, 0] < 1.05 < equal.losses[-1, 0]
