"""The order of an epoch, in equal numbers or by weight, and which process takes which frames."""

import logging
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from utils.core import distributed
from utils.core.data_config import DataConfig
from utils.core.hyperparameters import HyperParameters
from utils.core.script import UserError
from utils.data.labels import FrameLabels
from utils.data.sampling import (
    EpochSampler,
    EvaluationBatches,
    TrainingBatches,
    inverse_frequencies,
    sampling_weights,
    view_loss_weights,
)
from utils.data.splits import Split
from utils.losses.joint import view_loss

VIEWS = (0, 1, 1, -1, 1, 1, 0, 1, 1, -1)  # 2 of A4C, 6 of PSAX, none of PLAX, 2 unknown
GROUPS = ("P1", "P1", "P1", "P1", "P2", "P2", None, "P3", "P3", "P3")
DATA = DataConfig(
    Path("data.yaml"), Path(), {}, ("AR",), ("A4C", "PSAX", "PLAX"), group_pattern=r"^(P\d+)_"
)
SPLIT = Split(
    "train",
    tuple(
        Path(f"{group}_{number}.png" if group else f"{number}.png")
        for number, group in enumerate(GROUPS)
    ),
    tuple(FrameLabels(view=view) for view in VIEWS),
)


# ---- weights -------------------------------------------------------------------------------------


def test_kinds_carry_the_same_weight_and_a_frame_one_on_average():
    kinds = list("aaaaaabbc")
    weights = inverse_frequencies(kinds)
    assert weights == pytest.approx({"a": 0.5, "b": 1.5, "c": 3.0})
    assert np.mean([weights[kind] for kind in kinds]) == pytest.approx(1)
    assert len({round(weights[kind] * count, 9) for kind, count in Counter(kinds).items()}) == 1


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("views", {-1: 1, 0: 8 / (2 * 2), 1: 8 / (2 * 6)}),
        ("groups", {None: 1, "P1": 9 / (3 * 4), "P2": 9 / (3 * 2), "P3": 9 / (3 * 3)}),
    ],
)
def test_frames_are_weighed_by_what_they_show(
    sampler: str, expected: dict, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    weights = sampling_weights(HyperParameters(sampler=sampler), DATA, SPLIT)
    kinds = VIEWS if sampler == "views" else GROUPS
    assert weights.dtype == torch.float64
    assert weights.tolist() == pytest.approx([expected[kind] for kind in kinds])
    (record,) = caplog.records
    assert record.message.startswith(f"sampler {sampler}: ")
    named = {"views": "PSAX 0.67, A4C 2.00", "groups": "P1 0.75, P3 1.00, P2 1.50"}
    assert record.message.endswith(named[sampler])


def test_many_groups_are_not_all_listed(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    images = tuple(
        Path(f"P{number}_{copy}.png") for number in range(20) for copy in range(1 + (number == 7))
    )
    sampling_weights(
        HyperParameters(sampler="groups"), DATA, Split("train", images, (FrameLabels(),) * 21)
    )
    assert caplog.records[0].message.endswith("P7 0.53 to P19 1.05 (20 in all)")


def test_by_default_nothing_is_weighed_or_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    assert sampling_weights(HyperParameters(), DATA, SPLIT) is None
    assert view_loss_weights(HyperParameters(), DATA, SPLIT) is None
    assert not caplog.records


def test_groups_need_a_pattern():
    with pytest.raises(
        UserError, match=r"data\.yaml: sampler groups needs the key 'group_pattern'"
    ):
        sampling_weights(
            HyperParameters(sampler="groups"), replace(DATA, group_pattern=None), SPLIT
        )


# ---- the sampler ---------------------------------------------------------------------------------


def drawn(
    weights: torch.Tensor | None, seed: int = 0, epoch: int = 0, length: int = len(SPLIT.images)
) -> list[int]:
    sampler = EpochSampler(length, seed, weights)
    sampler.set_epoch(epoch)
    assert len(sampler) == length
    return list(sampler)


def test_frames_come_as_often_as_their_weight_says():
    weights = sampling_weights(HyperParameters(sampler="views"), DATA, SPLIT)
    counts = np.array(
        [np.bincount(drawn(weights, epoch=epoch), minlength=10) for epoch in range(2000)]
    )
    assert (counts.sum(axis=1) == 10).all()
    assert (
        np.abs(counts - weights.numpy()) < 1
    ).all()  # the whole number below or above, every epoch
    np.testing.assert_allclose(counts.mean(axis=0), weights, atol=0.05)
    assert (counts[:, [3, 9]] == 1).all()  # frames without a view


def test_an_epoch_holds_the_views_in_equal_numbers():
    rng = np.random.default_rng(0)
    views = rng.choice(3, 1000, p=(0.1, 0.6, 0.3))
    split = Split(
        "train", (Path("a.png"),) * 1000, tuple(FrameLabels(view=int(view)) for view in views)
    )
    weights = sampling_weights(HyperParameters(sampler="views"), DATA, split)
    counts = np.bincount(views[drawn(weights, length=1000)])
    assert np.abs(counts - 1000 / 3).max() < 25
    assert np.abs(np.bincount(views) - 1000 / 3).max() > 200


def test_copies_of_a_frame_are_spread_over_the_epoch():
    weights = torch.full((1000,), 0.5, dtype=torch.float64)
    weights[0] = 500.5
    places = np.flatnonzero(np.array(drawn(weights, length=1000)) == 0)
    assert len(places) >= 500 and np.histogram(places, 10, (0, 1000))[0].min() > 25


def test_equal_weights_draw_every_frame_once():
    assert sorted(drawn(torch.ones(10, dtype=torch.float64))) == list(range(10))


def test_a_weighted_order_depends_on_seed_and_epoch_alone():
    weights = torch.rand(100, dtype=torch.float64)
    weights *= 100 / weights.sum()
    orders = {
        (seed, epoch): drawn(weights, seed, epoch, 100) for seed in range(3) for epoch in range(3)
    }
    assert len(set(map(tuple, orders.values()))) == 9
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert all(drawn(weights, seed, epoch, 100) == order for (seed, epoch), order in orders.items())
    assert torch.equal(torch.get_rng_state(), before)


# ---- the weights of the view loss ----------------------------------------------------------------


def test_the_view_loss_counts_frames_by_their_views_weight(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    weights = view_loss_weights(HyperParameters(view_loss_weights="inverse"), DATA, SPLIT)
    assert weights.tolist() == pytest.approx([8 / (2 * 2), 8 / (2 * 6), 1])
    assert caplog.records[0].message == "view_loss_weights inverse: PSAX 0.67, PLAX 1.00, A4C 2.00"
    logits, views = (
        torch.randn(10, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor(VIEWS),
    )
    each = torch.stack(
        [
            weights[v] * F.cross_entropy(row, v)
            for row, v in zip(logits, views, strict=True)
            if v >= 0
        ]
    )
    torch.testing.assert_close(view_loss(logits, views, weights), each.mean())
    # A network that knows nothing has the loss that it has without weights.
    torch.testing.assert_close(
        view_loss(torch.zeros(10, 3), views, weights), torch.tensor(3.0).log()
    )


# ---- who takes which frames ----------------------------------------------------------------------


def as_ranks(monkeypatch: pytest.MonkeyPatch, count: int, make) -> list:
    """What `make()` gives on every rank."""
    monkeypatch.setattr(distributed, "world_size", lambda: count)
    found = []
    for number in range(count):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        found.append(make())
    return found


@pytest.mark.parametrize(
    ("length", "size", "ranks"), [(12, 5, 2), (11, 5, 2), (10, 4, 3), (16, 4, 4), (7, 7, 1)]
)
def test_the_ranks_share_every_batch_that_one_process_would_have(monkeypatch, length, size, ranks):
    (whole,) = as_ranks(
        monkeypatch, 1, lambda: list(TrainingBatches(EpochSampler(length, 3), size))
    )
    shares = as_ranks(
        monkeypatch, ranks, lambda: list(TrainingBatches(EpochSampler(length, 3), size))
    )
    left_out = len(whole[-1]) < ranks
    assert {len(share) for share in shares} == {len(whole) - left_out}
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=False):
        assert sorted(key for part in parts for key in part) == sorted(batch)
        assert all(parts) and max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("length", "size", "ranks"), [(183, 16, 2), (183, 16, 7), (3, 16, 4), (5, 1, 2)]
)
def test_every_frame_is_evaluated_once(monkeypatch, length, size, ranks):
    shares = as_ranks(monkeypatch, ranks, lambda: list(EvaluationBatches(length, size)))
    assert sorted(index for share in shares for batch in share for index in batch) == list(
        range(length)
    )
    assert max(len(batch) for share in shares for batch in share) <= -(-size // ranks)


def test_a_batch_smaller_than_the_number_of_processes_is_an_error(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    with pytest.raises(UserError, match=r"--batch-size 3.*4 processes"):
        TrainingBatches(EpochSampler(100, 0), 3)


@pytest.mark.parametrize(
    ("length", "size", "ranks", "least", "batches"),
    [(9, 4, 1, 2, 2), (10, 4, 1, 2, 3), (11, 4, 2, 2, 2), (12, 4, 2, 2, 3), (9, 4, 1, 1, 3)],
)
def test_a_last_batch_with_too_few_frames_for_a_process_is_left_out(
    monkeypatch, length, size, ranks, least, batches
):
    shares = as_ranks(
        monkeypatch, ranks, lambda: list(TrainingBatches(EpochSampler(length, 0), size, least))
    )
    assert {len(share) for share in shares} == {batches}
    assert min(len(batch) for share in shares for batch in share) >= least


@pytest.mark.parametrize(("length", "size", "ranks"), [(9, 1, 1), (1, 4, 1), (9, 3, 2), (3, 8, 2)])
def test_batches_with_too_few_frames_for_a_process_are_an_error(monkeypatch, length, size, ranks):
    monkeypatch.setattr(distributed, "world_size", lambda: ranks)
    expected = f"--batch-size {size}: .* at least {2 * ranks}: .*larger --imgsz"
    with pytest.raises(UserError, match=expected):
        TrainingBatches(EpochSampler(length, 0), size, least_frames=2)


# ---- the order without weights -------------------------------------------------------------------


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(100, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    orders = {(seed, epoch): order(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert all(sorted(numbers) == list(range(100)) for numbers in orders.values())
    assert len(set(map(tuple, orders.values()))) == 9
    torch.manual_seed(99)
    random.seed(99)
    torch.rand(7)
    before = torch.get_rng_state()
    assert order(1, 2) == orders[1, 2]
    assert torch.equal(torch.get_rng_state(), before)
    assert len(EpochSampler(100, 0)) == 100


def test_an_interrupted_epoch_is_the_same_again():
    sampler = EpochSampler(50, 0)
    sampler.set_epoch(3)
    half = iter(sampler)
    started = [next(half) for _ in range(25)]
    assert list(sampler)[:25] == started


@pytest.mark.parametrize(
    ("sampler", "pattern"), [("views", None), ("groups", r"^(Q\d+)?"), ("groups", r"^()")]
)
def test_a_sampler_needs_something_to_balance(sampler: str, pattern: str | None):
    images = (Path("P01.png"), Path("P02.png"))
    split = Split("train", images, (FrameLabels(), FrameLabels()))
    data = DataConfig(Path("data.yaml"), Path(), {}, ("AR",), group_pattern=pattern)
    with pytest.raises(
        UserError, match=rf"data.yaml: sampler {sampler}: no train frame has any; use another"
    ):
        sampling_weights(HyperParameters(sampler=sampler), data, split)
