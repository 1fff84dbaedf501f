"""Class imbalance: weights by inverse frequency, the sampler that draws by them, the view loss that counts by them."""

import logging
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from small_runs import assert_same_run, new_job, resume, run, small_options

from utils.checkpoint import load_checkpoint
from utils.config import DataConfig, HyperParameters
from utils.dataloaders import EpochSampler, Split, make_loader
from utils.engine import Trainer, evaluate
from utils.general import UserError
from utils.imbalance import inverse_frequencies, sampling_weights, view_loss_weights
from utils.labels import FrameLabels
from utils.loss import JointLoss, view_loss

VIEWS = (0, 1, 1, -1, 1, 1, 0, 1, 1, -1)  # 2 of A4C, 6 of PSAX, none of PLAX, 2 unknown
GROUPS = ("P1", "P1", "P1", "P1", "P2", "P2", None, "P3", "P3", "P3")
DATA = DataConfig(Path("data.yaml"), Path(), {}, ("AR",), ("A4C", "PSAX", "PLAX"), group_pattern=r"^(P\d+)_")
SPLIT = Split(
    "train",
    tuple(Path(f"{group}_{number}.png" if group else f"{number}.png") for number, group in enumerate(GROUPS)),
    tuple(FrameLabels(view=view) for view in VIEWS),
)


# ---- weights -----------------------------------------------------------------------------------------------


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
def test_frames_are_weighed_by_what_they_show(sampler: str, expected: dict, caplog: pytest.LogCaptureFixture):
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
    images = tuple(Path(f"P{number}_{copy}.png") for number in range(20) for copy in range(1 + (number == 7)))
    sampling_weights(HyperParameters(sampler="groups"), DATA, Split("train", images, (FrameLabels(),) * 21))
    assert caplog.records[0].message.endswith("P7 0.53 to P19 1.05 (20 in all)")


def test_by_default_nothing_is_weighed_or_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    assert sampling_weights(HyperParameters(), DATA, SPLIT) is None
    assert view_loss_weights(HyperParameters(), DATA, SPLIT) is None
    assert not caplog.records


def test_groups_need_a_pattern():
    with pytest.raises(UserError, match=r"data\.yaml: sampler groups needs the key 'group_pattern'"):
        sampling_weights(HyperParameters(sampler="groups"), replace(DATA, group_pattern=None), SPLIT)


def test_views_are_not_balanced_twice():
    with pytest.raises(UserError, match="balance the views twice"):
        HyperParameters(sampler="views", view_loss_weights="inverse")


# ---- the sampler -------------------------------------------------------------------------------------------


def drawn(weights: torch.Tensor | None, seed: int = 0, epoch: int = 0, length: int = len(SPLIT.images)) -> list[int]:
    sampler = EpochSampler(length, seed, weights)
    sampler.set_epoch(epoch)
    assert len(sampler) == length
    return list(sampler)


def test_frames_come_as_often_as_their_weight_says():
    weights = sampling_weights(HyperParameters(sampler="views"), DATA, SPLIT)
    counts = np.array([np.bincount(drawn(weights, epoch=epoch), minlength=10) for epoch in range(2000)])
    assert (counts.sum(axis=1) == 10).all()
    assert (np.abs(counts - weights.numpy()) < 1).all()  # the whole number below or above, every epoch
    np.testing.assert_allclose(counts.mean(axis=0), weights, atol=0.05)
    assert (counts[:, [3, 9]] == 1).all()  # frames without a view


def test_an_epoch_holds_the_views_in_equal_numbers():
    rng = np.random.default_rng(0)
    views = rng.choice(3, 1000, p=(0.1, 0.6, 0.3))
    split = Split("train", (Path("a.png"),) * 1000, tuple(FrameLabels(view=int(view)) for view in views))
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
    orders = {(seed, epoch): drawn(weights, seed, epoch, 100) for seed in range(3) for epoch in range(3)}
    assert len(set(map(tuple, orders.values()))) == 9
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert all(drawn(weights, seed, epoch, 100) == order for (seed, epoch), order in orders.items())
    assert torch.equal(torch.get_rng_state(), before)


# ---- the loss ----------------------------------------------------------------------------------------------


def test_the_view_loss_counts_frames_by_their_views_weight(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    weights = view_loss_weights(HyperParameters(view_loss_weights="inverse"), DATA, SPLIT)
    assert weights.tolist() == pytest.approx([8 / (2 * 2), 8 / (2 * 6), 1])
    assert caplog.records[0].message == "view_loss_weights inverse: PSAX 0.67, PLAX 1.00, A4C 2.00"
    logits, views = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.tensor(VIEWS)
    each = torch.stack([weights[v] * F.cross_entropy(row, v) for row, v in zip(logits, views, strict=True) if v >= 0])
    torch.testing.assert_close(view_loss(logits, views, weights), each.mean())
    # A network that knows nothing has the loss that it has without weights.
    torch.testing.assert_close(view_loss(torch.zeros(10, 3), views, weights), torch.tensor(3.0).log())


def test_weights_apply_in_training_only():
    outputs, batch = {"classify": torch.randn(2, 3)}, {"views": torch.tensor([0, 1])}
    plain, weighted = JointLoss(None), JointLoss(None, torch.tensor([5.0, 5.0, 1.0]))
    assert weighted(outputs, batch)["view"] == pytest.approx(5 * plain(outputs, batch)["view"])
    assert weighted.eval()(outputs, batch)["view"] == plain(outputs, batch)["view"]


# ---- in a training -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def options(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Options for 9 frames: 1, 4 and 4 of a patient; 5, 2 and none of a view, 2 without."""
    folder = tmp_path_factory.mktemp("skewed")
    shutil.copytree(tiny_data.parent, folder, dirs_exist_ok=True)
    images = sorted((folder / "frames/images/train").iterdir())
    for path in images[:3]:
        path.unlink()
    for path, view in zip(images[3:], ["1 0 0", "0 1 0", ""] * 2 + ["1 0 0"] * 3, strict=True):
        (folder / "frames/labels/train" / f"{path.stem}.txt").write_text(f"0 0.5 0.5 0.2 0.2\n{view}\n")
    return small_options(folder / "data.yaml", tmp_path_factory.mktemp("cfg"))


@pytest.mark.parametrize("recipe", [{"sampler": "groups", "view_loss_weights": "inverse"}, {"sampler": "views"}])
def test_resume_is_exact(options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: dict):
    def failing_step(self, epoch, index, *rest):
        if (epoch, index) == (1, 1):
            raise OSError("power failure")
        return step(self, epoch, index, *rest)

    step = Trainer._step
    whole = run(options, tmp_path / "whole", **recipe)
    monkeypatch.setattr(Trainer, "_step", failing_step)
    with pytest.raises(OSError, match="power failure"):
        run(options, tmp_path / "broken", **recipe)
    monkeypatch.undo()
    resume(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", whole)


def test_a_training_draws_by_weight(options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def note(self, epoch, index, batch, reader):
        seen.extend(batch["paths"])
        step(self, epoch, index, batch, reader)

    step, seen = Trainer._step, []
    monkeypatch.setattr(Trainer, "_step", note)
    run(options, tmp_path / "run", sampler="groups", epochs=1)
    patients = Counter(Path(path).name[:3] for path in seen)
    assert len(seen) == 9 and patients["P01"] == 3  # its one frame


def test_the_training_loss_is_weighted_and_the_validation_loss_is_not(options: dict, tmp_path: Path):
    """Training: of one batch, which is that of the same network in either run."""
    changes = {"epochs": 1, "batch_size": 12}
    folders = [run(options, tmp_path / kind, **changes, view_loss_weights=kind) for kind in ("equal", "inverse")]
    (_, plain), (folder, logged) = [(folder, pd.read_csv(folder / "results.csv").iloc[0]) for folder in folders]
    assert abs(logged["train/view_loss"] / plain["train/view_loss"] - 1) > 0.01
    job = new_job(options)
    job.model.load_state_dict(load_checkpoint(folder / "weights/last.pt")["ema"]["model"])
    loader = make_loader(job.frames.val, 12, 0, pin_memory=False, match=job.criterion.matcher)
    _, losses = evaluate(job.model, loader, job.run.precision, job.frames.data, job.criterion)
    assert logged["val/view_loss"] == pytest.approx(losses["view"], rel=1e-5)
