"""A training's own figures, by hand."""

import numpy as np
import pandas as pd
import pytest

from utils.comparison.outcomes import epochs_to_reach, late_spread


def test_epochs_to_reach_and_late_spread_by_hand():
    curve = pd.Series([0.1, 0.5, 0.46, 0.4, 0.44, 0.5])
    assert epochs_to_reach(curve) == 2 and epochs_to_reach(curve[::-1]) == 1
    assert (
        epochs_to_reach(pd.Series([0.1, 0.0])) is None
        and epochs_to_reach(pd.Series([0.1, np.nan])) is None
    )
    assert (
        epochs_to_reach(pd.Series([np.nan, 0.1])) == 2
        and epochs_to_reach(pd.Series([], dtype=float)) is None
    )
    assert late_spread(pd.Series([9.0] * 8 + [0.1, 0.3])) == pytest.approx(
        np.std([0.1, 0.3], ddof=1)
    )
    assert (
        late_spread(pd.Series([0.1] * 9)) is None and late_spread(pd.Series([np.nan] * 10)) is None
    )
