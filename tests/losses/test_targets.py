"""Which anchors answer for a box."""

import pytest
import torch

from utils.losses.targets import AnchorMatcher, LevelTargets, match_anchors


def test_matching_takes_the_own_cell_and_the_two_nearest_neighbours():
    box = torch.tensor([[0, 1, 2.3 / 8, 4.8 / 8, 2.0 / 8, 2.0 / 8]])
    match = match_anchors(box, torch.tensor([[2.0, 2.0]]), 8, 8, anchor_t=4.0)
    # Centre (2.3, 4.8): left of the middle of its cell and below it.
    assert sorted(zip(match.index[3].tolist(), match.index[2].tolist(), strict=True)) == [
        (1, 4),
        (2, 4),
        (2, 5),
    ]
    assert (match.boxes_xywh[:, :2] > -0.5).all()
    assert (match.boxes_xywh[:, :2] < 1.5).all()


@pytest.mark.parametrize(
    ("side", "matches"), [(1.0, True), (3.99, True), (4.01, False), (0.26, True), (0.24, False)]
)
def test_matching_bounds_the_ratio_of_sides(side, matches):
    box = torch.tensor([[0, 0, 0.5, 0.5, side / 8, 1 / 8]])
    assert bool(len(match_anchors(box, torch.tensor([[1.0, 1.0]]), 8, 8, 4.0))) is matches


def test_a_box_on_the_far_edge_stays_on_the_map():
    box = torch.tensor([[0, 0, 1.0, 1.0, 0.2, 0.2]])
    match = match_anchors(box, torch.tensor([[2.0, 2.0]]), 8, 8, 4.0)
    assert len(match)
    assert match.index[2].max() == match.index[3].max() == 7
    assert (match.boxes_xywh[:, :2] <= 1.0).all()


# ---- matching ahead of time ----------------------------------------------------------------------


def test_targets_made_by_the_loader_are_the_matches_of_every_level():
    torch.manual_seed(0)
    anchors = torch.rand(3, 3, 2) * 4 + 0.5
    boxes = torch.cat((torch.tensor([[0, 1], [1, 3], [1, 0]]), torch.rand(3, 4) * 0.5 + 0.2), dim=1)
    made = AnchorMatcher(anchors, (8, 16, 32))(boxes, 64, 96)
    levels = made["targets"].split(made["target_counts"])
    assert sum(made["target_counts"]) > 3
    for rows, level_anchors, stride in zip(levels, anchors, (8, 16, 32), strict=True):
        expected, found = (
            match_anchors(boxes, level_anchors, 64 // stride, 96 // stride, 4.0),
            LevelTargets.of_rows(rows),
        )
        assert all(torch.equal(a, b) for a, b in zip(found.index, expected.index, strict=True))
        assert torch.equal(found.class_number, expected.class_number)
        assert torch.equal(found.boxes_xywh, expected.boxes_xywh)
        assert torch.equal(found.anchor_sizes, expected.anchor_sizes)


def test_a_batch_without_boxes_has_no_targets():
    made = AnchorMatcher(torch.ones(3, 3, 2), (8, 16, 32))(torch.zeros(0, 6), 64, 64)
    assert made["targets"].shape == (0, 11) and made["target_counts"] == [0, 0, 0]
