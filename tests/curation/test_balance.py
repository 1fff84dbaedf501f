"""Groups are spread over the parts of a split as evenly as they can be."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from eight_patients import load_all, make_set
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.core.data_config import load_data_config
from utils.curation.balance import (
    Content,
    assign_groups,
    content_of,
    format_balance,
    groups_of,
    imbalance,
)


def content(counts: object) -> Content:
    """Each row a group of its own."""
    counts = np.array(counts, dtype=np.int64)
    counts = np.column_stack([counts.sum(axis=1), counts])
    names = ("frames", *(f"class {number}" for number in range(counts.shape[1] - 1)))
    return Content(names, counts, (counts > 0).astype(np.int64), np.arange(len(counts)))


COUNTS = st.integers(1, 3).flatmap(
    lambda columns: st.lists(
        st.lists(st.integers(0, 9), min_size=columns, max_size=columns), min_size=3, max_size=7
    )
)
COUNTS = COUNTS.filter(lambda rows: np.array(rows).any(axis=0).all())


@given(COUNTS, st.sampled_from([(0.5, 0.5), (0.8, 0.2), (0.6, 0.2, 0.2)]))
@settings(max_examples=25, deadline=None)
def test_the_best_of_all_assignments_is_found(counts: list, shares: tuple[float, ...]):
    """By classes that miss a part, then by chi-square of the groups and squared relative error of
    the frames.
    """
    units = content(counts)

    def rank(part: object) -> tuple[int, float]:
        frames, groups = (
            found(np.array(part), len(shares)) for found in (units.sums, units.group_sums)
        )
        wanted, expected = (np.outer(shares, found.sum(axis=0)) for found in (frames, groups))
        cost = ((frames / wanted - 1) ** 2 + (groups - expected) ** 2 / expected).sum()
        return int((frames[:, 1:] == 0).sum()), cost

    best = min(rank(part) for part in product(range(len(shares)), repeat=len(counts)))
    found = rank(assign_groups(units, shares))
    assert found[0] == best[0] and found[1] == pytest.approx(best[1])


@pytest.mark.parametrize("seed", range(3))
def test_every_fold_has_its_share_of_the_patients_of_each_class(seed: int):
    """Sixty patients of 1 to 60 frames, classes in every second to every sixth of them."""
    rng = np.random.default_rng(seed)
    holds = rng.random((60, 4)) < [1 / 2, 1 / 3, 1 / 4, 1 / 6]
    holds[~holds.any(axis=1), 0] = True
    units = content(holds * rng.integers(1, 61, (60, 1)))
    part = assign_groups(units, [0.2] * 5, seed)
    groups = units.group_sums(part, 5)
    assert (groups.max(axis=0) - groups.min(axis=0) <= 1).all()
    assert imbalance(units.sums(part, 5), [0.2] * 5) < 0.15


def test_imbalance_is_zero_for_exact_shares_and_relative_to_them():
    assert imbalance(np.array([[80, 8], [20, 2]]), [0.8, 0.2]) == pytest.approx(0)
    # 0.9 / 0.8 and 0.1 / 0.2 of both columns
    assert imbalance(np.array([[90, 9], [10, 1]]), [0.8, 0.2]) == pytest.approx(
        np.sqrt((0.125**2 + 0.5**2) / 2)
    )


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


THREE_PATIENTS = {
    "P1_V1_F1.png": "0 .5 .5 .1 .1\n0 .4 .5 .1 .1\n1 .5 .5 .1 .1\n",
    "P1_V1_F2.png": "0 1 0",
    "P2_V1_F1.png": "",
    "P3_V1_F1.png": "0 .5 .5 .1 .1\n",
}


def count(path: Path, *together: tuple[str, ...]) -> Content:
    """What a data set holds, where images of these names must not be parted."""
    data, frames = load_data_config(path), load_all(path)
    named = {image.name: image for image in frames.images}
    sets = [[named[name] for name in names] for names in together]
    return content_of(frames, data, groups_of(frames.images, data), sets)


def test_what_frames_hold_is_counted(tmp_path: Path):
    found = count(make_set(tmp_path, THREE_PATIENTS))
    assert found.names == ("frames", "class AR", "class MR", "no box", "view PSAX")
    assert found.counts.tolist() == [[2, 1, 1, 1, 1], [1, 0, 0, 1, 0], [1, 1, 0, 0, 0]]
    assert found.groups.tolist() == [[1, 1, 1, 1, 1], [1, 0, 0, 1, 0], [1, 1, 0, 0, 0]]


def test_groups_that_must_not_be_parted_are_one_unit_and_count_as_several(tmp_path: Path):
    path = make_set(tmp_path, THREE_PATIENTS)
    found = count(path, ("P1_V1_F2.png", "P3_V1_F1.png"))
    assert found.counts.tolist() == [[3, 2, 1, 1, 1], [1, 0, 0, 1, 0]]
    names = [image.name for image in load_all(path).images]
    assert [name for name, unit in zip(names, found.unit, strict=True) if unit] == ["P2_V1_F1.png"]
    assert found.groups.tolist() == [[2, 2, 1, 1, 1], [1, 0, 0, 1, 0]]
    chained = count(path, ("P2_V1_F1.png", "P3_V1_F1.png"), ("P1_V1_F2.png", "P3_V1_F1.png"))
    assert chained.groups.tolist() == [[3, 2, 1, 2, 1]]


def test_the_table_has_the_groups_beside_the_share_of_the_frames(tmp_path: Path):
    found = count(make_set(tmp_path, THREE_PATIENTS))
    table = format_balance(found, np.array([0, 1, 1]), ["train", "val"], [0.5, 0.5])
    rows = [line.split() for line in table.splitlines()]
    assert rows[:3] == [
        ["all", "train", "val"],
        ["frames", "4", "2", "2"],
        ["groups", "3", "1", "2"],
    ]
    assert ["class", "AR", "50.0%", "(2)", "50.0%", "(1)", "50.0%", "(1)"] in rows
