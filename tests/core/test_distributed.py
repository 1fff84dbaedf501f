"""The shares of several processes come to the mean over all frames."""

import pytest

from utils.core import distributed


def test_alone_a_share_is_exactly_one():
    counts = {"frames": 3, "views": 2, "matches0": 7}
    assert set(distributed.rank_weights(counts, distributed.totals(counts)).values()) == {1.0}
    assert distributed.rank_weights({"views": 0}, {"views": 0}) == {"views": 0.0}


def test_the_average_of_shared_means_is_the_mean_of_all(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    parts = [[1.0, 4.0], [2.0], []]
    totals = {"n": sum(map(len, parts))}
    means = [sum(part) / len(part) if part else 0.0 for part in parts]
    terms = [
        m * distributed.rank_weights({"n": len(part)}, totals)["n"]
        for m, part in zip(means, parts, strict=True)
    ]
    assert sum(terms) / 3 == pytest.approx(7 / 3)
