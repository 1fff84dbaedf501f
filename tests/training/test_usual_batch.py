"""Which batches' gradient norms count, and how those of data with few views are made comparable."""

import pytest

from models.gradnorm import TaskGradients
from utils.training.trainer import UsualBatch


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
