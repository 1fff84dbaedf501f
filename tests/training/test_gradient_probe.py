"""Which batches' gradient norms count, how those of data with few views are made comparable, what
is measured when.
"""

import numpy as np
import pytest
import torch

from models.gradnorm import TaskGradients
from models.gradnorm_balancer import LossWeighting
from utils.data.label_table import LabelTable
from utils.data.labels import UNKNOWN_VIEW, FrameLabels
from utils.training.gradient_probe import GradientProbe, UsualBatch, interference_rows


@pytest.mark.parametrize(
    ("frames", "views", "is_full"),
    [(16, 16, True), (16, 8, True), (16, 7, False), (15, 15, False), (2, 2, False)],
)
def test_a_full_batch_has_the_usual_size_and_half_of_it_a_view(
    frames: int, views: int, is_full: bool
):
    assert UsualBatch(16, 15.9).is_full({"frames": frames, "views": views}) == is_full


def test_norms_of_full_batches_stay():
    gradients = TaskGradients({"detection": 3.0, "classification": 5.0})
    assert UsualBatch(16, 8.0).comparable(gradients, {"frames": 2, "views": 1}) is gradients


def test_where_few_frames_have_a_view_every_batch_counts_and_norms_grow_with_the_root_of_its_frames():
    usual = UsualBatch(16, 4.0)
    gradients = TaskGradients({"detection": 3.0, "classification": 5.0}, cosine=0.2)
    assert usual.is_full({"frames": 4, "views": 1})
    found = usual.comparable(gradients, {"frames": 4, "views": 1})
    assert found == TaskGradients({"detection": 1.5, "classification": 2.5}, cosine=0.2)
    assert usual.comparable(gradients, {"frames": 16, "views": 4}) == gradients


def test_a_usual_batch_has_the_views_of_the_data():
    boxes = np.zeros((0, 5))
    views = (0, 1, UNKNOWN_VIEW, UNKNOWN_VIEW)
    labels = LabelTable.of(FrameLabels(boxes, view) for view in views)
    assert UsualBatch.of(labels, 2) == UsualBatch(2, 1.0)
    assert UsualBatch.of(labels, 16) == UsualBatch(4, 2.0)


class Curious(LossWeighting):
    """Wants gradients in every batch."""

    wants_gradients = True


def probe_of(balancer: LossWeighting, interval: int = 0) -> GradientProbe:
    return GradientProbe(balancer, torch.nn.Identity(), UsualBatch(4, 4.0), interval)


WEIGHTS = {"detection": 1.0, "classification": 1.0}
FULL = {"frames": 4, "views": 4}


@pytest.mark.parametrize(
    ("totals", "labelled", "full", "wanted_at"),
    [
        (FULL, True, True, "features"),
        ({"frames": 4, "views": 0}, False, False, None),
        ({"frames": 3, "views": 3}, True, False, None),
    ],
)
def test_a_balancer_is_given_gradients_of_full_batches_with_views_only(
    totals: dict, labelled: bool, full: bool, wanted_at: str | None
):
    plan = probe_of(Curious(WEIGHTS)).plan(0, totals)
    assert (plan.labelled, plan.full, plan.wanted_at) == (labelled, full, wanted_at)
    assert bool(plan.forward_options) == (wanted_at == "features")


def test_at_the_shared_weight_the_forward_pass_is_as_ever():
    balancer = Curious(WEIGHTS)
    balancer.place = "weights"
    plan = probe_of(balancer).plan(0, FULL)
    assert plan.wanted_at == "weights" and not plan.forward_options


def test_interference_is_measured_at_its_interval_where_there_are_views():
    probe = probe_of(LossWeighting(WEIGHTS), interval=3)
    steps = [step for step in range(7) if probe.plan(step, FULL).diagnosed]
    assert steps == [0, 3, 6]
    assert not probe.plan(3, {"frames": 4, "views": 0}).diagnosed
    assert not probe_of(LossWeighting(WEIGHTS)).plan(0, FULL).forward_options


def test_the_rows_of_a_batch_are_the_cut_the_trunk_and_its_layers():
    gradients = TaskGradients({"detection": 3.0, "classification": 4.0}, cosine=0.5)
    measured = {"weights": gradients, "trunk": gradients, "0": gradients, "features": gradients}
    rows = interference_rows(measured)
    assert [row["place"] for row in rows] == ["cut", "trunk", "0"]
    assert rows[0]["norm/classification"] == 4.0 and rows[0]["cosine"] == 0.5
    assert rows[0]["magnitude_similarity"] == pytest.approx(24 / 25)
