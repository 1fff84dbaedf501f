"""Groups are spread over the parts of a split as evenly as they can be."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from eight_patients import load_all, make_set
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.core.data_config import load_data_config
from utils.curation.balance import Content, assign_groups, content_of, imbalance


def content(counts: object) -> Content:
    counts = np.array(counts, dtype=np.int64)
    counts = np.column_stack([counts.sum(axis=1), counts])
    names = ("frames", *(f"class {number}" for number in range(counts.shape[1] - 1)))
    return Content(names, counts, np.arange(len(counts)))


COUNTS = st.integers(1, 3).flatmap(
    lambda columns: st.lists(st.lists(st.integers(0, 9), min_size=columns, max_size=columns), min_size=3, max_size=7)
)
COUNTS = COUNTS.filter(lambda rows: np.array(rows).any(axis=0).all())


@given(COUNTS, st.sampled_from([(0.5, 0.5), (0.8, 0.2), (0.6, 0.2, 0.2)]))
@settings(max_examples=25, deadline=None)
def test_the_best_of_all_assignments_is_found(counts: list, shares: tuple[float, ...]):
    groups = content(counts)

    def rank(part: object) -> tuple[int, float]:
        sums = groups.sums(np.array(part), len(shares))
        return int((sums[:, 1:] == 0).sum()), imbalance(sums, shares)

    best = min(rank(part) for part in product(range(len(shares)), repeat=len(counts)))
    found = rank(assign_groups(groups, shares))
    assert found[0] == best[0] and found[1] == pytest.approx(best[1])


def test_imbalance_is_zero_for_exact_shares_and_relative_to_them():
    assert imbalance(np.array([[80, 8], [20, 2]]), [0.8, 0.2]) == pytest.approx(0)
    # 0.9 / 0.8 and 0.1 / 0.2 of both columns
    assert imbalance(np.array([[90, 9], [10, 1]]), [0.8, 0.2]) == pytest.approx(np.sqrt((0.125**2 + 0.5**2) / 2))


def test_a_rare_class_reaches_every_part():
    counts = np.zeros((200, 2), int)
    counts[:, 0] = 10
    counts[[3, 50, 120], 1] = 1
    groups = content(counts)
    assert (groups.sums(assign_groups(groups, [0.7, 0.15, 0.15]), 3) > 0).all()


def test_the_seed_alone_decides():
    groups = content(np.random.default_rng(0).integers(0, 20, (40, 3)))
    first, again, other = (assign_groups(groups, [0.8, 0.2], seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_what_frames_hold_is_counted(tmp_path: Path):
    frames = {
        "P1_V1_F1.png": "0 .5 .5 .1 .1\n0 .4 .5 .1 .1\n1 .5 .5 .1 .1\n",
        "P1_V1_F2.png": "0 1 0",
        "P2_V1_F1.png": "",
    }
    path = make_set(tmp_path, frames)
    found = content_of(load_all(path), load_data_config(path))
    assert found.names == ("frames", "class AR", "class MR", "no box", "view PSAX")
    assert found.counts.tolist() == [[2, 1, 1, 1, 1], [1, 0, 0, 1, 0]]
    assert len(content_of(load_all(path), load_data_config(path), by_image=True).counts) == 3
