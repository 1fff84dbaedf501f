"""The detection loss is YOLOv5's."""

import math

import pytest
import torch

from utils.core.hyperparameters import HyperParameters
from utils.losses.detection import DetectionLoss, LossGains
from utils.losses.joint import view_loss
from utils.losses.targets import AnchorMatcher, match_anchors

REFERENCE_GAINS = LossGains(box=0.05, obj=1.0, cls=0.5)
ANCHORS = torch.tensor([[[1.25, 1.625], [2.0, 3.75], [4.125, 2.875]]] * 3)


def yolov5s_anchors() -> torch.Tensor:
    sizes = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]]
    return torch.tensor(sizes).view(3, 3, 2) / torch.tensor([8.0, 16, 32]).view(3, 1, 1)


def losses_of(
    maps: list[torch.Tensor],
    boxes: torch.Tensor,
    gains: LossGains,
    anchors: torch.Tensor | None = None,
    **options,
) -> dict[str, torch.Tensor]:
    """The detection losses of raw maps at strides 8, 16, 32."""
    matcher = AnchorMatcher(yolov5s_anchors() if anchors is None else anchors, (8, 16, 32))
    height, width = (8 * side for side in maps[0].shape[2:4])
    return DetectionLoss(gains, **options)(maps, matcher(boxes, height, width))


def test_losses_and_gradients_equal_the_reference(golden):
    maps = [torch.from_numpy(golden[f"loss_pred_p{level}"]).requires_grad_() for level in (3, 4, 5)]
    losses = losses_of(maps, torch.from_numpy(golden["loss_targets"]), REFERENCE_GAINS)
    found = torch.stack([losses[name] for name in ("box", "obj", "cls")])
    torch.testing.assert_close(
        found, torch.from_numpy(golden["loss_box_obj_cls"]), rtol=1e-5, atol=0
    )
    total = found.sum() * len(maps[0])
    assert total.item() == pytest.approx(golden["loss_total_times_batch"].item(), rel=1e-5)
    total.backward()
    for raw, level in zip(maps, (3, 4, 5), strict=True):
        expected = torch.from_numpy(golden[f"loss_grad_p{level}"])
        torch.testing.assert_close(raw.grad, expected, rtol=1e-5, atol=1e-8)


def test_losses_without_targets_equal_the_reference(golden):
    maps = [torch.from_numpy(golden[f"loss_pred_p{level}"]).requires_grad_() for level in (3, 4, 5)]
    losses = losses_of(maps, torch.zeros(0, 6), REFERENCE_GAINS)
    found = torch.stack([losses[name] for name in ("box", "obj", "cls")])
    torch.testing.assert_close(
        found.detach(), torch.from_numpy(golden["loss_empty_box_obj_cls"]), rtol=1e-5, atol=0
    )
    sum(losses.values()).backward()
    assert all(raw.grad.isfinite().all() for raw in maps)


def test_an_untrained_map_has_the_losses_computed_by_hand():
    maps = [torch.zeros(1, 3, size, size, 9, requires_grad=True) for size in (8, 4, 2)]
    losses = losses_of(maps, torch.zeros(0, 6), LossGains(1, 1, 1))
    assert losses["obj"].item() == pytest.approx(math.log(2) * (4.0 + 1.0 + 0.4), rel=1e-6)
    assert losses["box"] == losses["cls"] == 0


def test_a_perfect_prediction_has_almost_no_loss():
    anchors = yolov5s_anchors()
    targets = torch.tensor([[0, 2, 0.3, 0.4, 0.1, 0.12]])
    maps = [torch.full((1, 3, size, size, 9), -12.0) for size in (40, 20, 10)]
    for raw, level_anchors in zip(maps, anchors, strict=True):
        match = match_anchors(targets, level_anchors, raw.shape[2], raw.shape[3], 4.0)
        xy = torch.logit((match.boxes_xywh[:, :2] + 0.5) / 2)
        wh = torch.logit((match.boxes_xywh[:, 2:] / match.anchor_sizes).sqrt() / 2)
        rows = torch.full((len(match), 9), -12.0)
        rows[:, :2], rows[:, 2:4], rows[:, 4], rows[:, 5 + 2] = xy, wh, 12.0, 12.0
        raw[match.index] = rows
    losses = losses_of(maps, targets, LossGains(1, 1, 1), anchors)
    assert all(0 <= loss < 1e-3 for loss in losses.values())


def test_several_boxes_in_one_place_give_the_same_loss_every_time():
    raw = [torch.randn(1, 3, size, size, 9) for size in (8, 4, 2)]
    boxes = torch.tensor([[0, 0, 0.4, 0.4, 0.3, 0.3], [0, 1, 0.41, 0.4, 0.25, 0.35]])
    assert len({losses_of(raw, boxes, REFERENCE_GAINS)["obj"].item() for _ in range(5)}) == 1


def test_gains_scale_as_in_yolov5s_trainer():
    gains = LossGains.scaled(
        HyperParameters(box=0.05, obj=1.0, cls=0.5), levels=3, class_count=4, image_size=320
    )
    assert (gains.box, gains.obj, gains.cls) == pytest.approx((0.05, 0.25, 0.025))


def test_label_smoothing_moves_the_class_targets():
    raw, boxes = (
        [torch.zeros(1, 3, s, s, 9) for s in (8, 4, 2)],
        torch.tensor([[0, 0, 0.5, 0.5, 0.3, 0.3]]),
    )
    for map_ in raw:
        map_[..., 5] = 4.0  # confident and right
    plain = losses_of(raw, boxes, REFERENCE_GAINS)["cls"]
    smoothed = losses_of(raw, boxes, REFERENCE_GAINS, label_smoothing=0.2)["cls"]
    assert smoothed > plain


def test_losses_are_float32_whatever_the_network_computed_in():
    raw = [torch.randn(1, 3, s, s, 9).bfloat16() for s in (8, 4, 2)]
    losses = losses_of(raw, torch.tensor([[0, 0, 0.5, 0.5, 0.3, 0.3]]), REFERENCE_GAINS, ANCHORS)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert view_loss(torch.randn(2, 3).bfloat16(), torch.tensor([0, 1])).dtype is torch.float32


def test_the_loss_of_a_frame_is_that_of_a_batch_of_it_alone():
    maps = [torch.randn(3, 3, size, size, 9) for size in (8, 4, 2)]
    boxes = torch.tensor(
        [[0, 0, 0.5, 0.5, 0.3, 0.3], [0, 2, 0.2, 0.6, 0.1, 0.2], [2, 1, 0.7, 0.3, 0.4, 0.3]]
    )
    loss, matcher = DetectionLoss(REFERENCE_GAINS), AnchorMatcher(ANCHORS, (8, 16, 32))
    found = loss.of_frames(maps, matcher(boxes, 64, 64))
    for frame in range(3):
        own = boxes[boxes[:, 0] == frame]
        own[:, 0] = 0
        alone = loss([raw[frame : frame + 1] for raw in maps], matcher(own, 64, 64))
        assert found[frame].item() == pytest.approx(sum(alone.values()).item(), rel=1e-5)
