"""What the report of a comparison says of interference."""

import numpy as np
import pandas as pd
import pytest

from utils.comparison.report import summarise_interference


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
