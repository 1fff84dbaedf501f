"""Box conversions, the IoU family and non-maximum suppression."""

import pytest
import torch

from utils.data.boxes import non_max_suppression, pairwise_iou, xywh_to_xyxy, xyxy_to_xywh

KINDS = ("iou", "giou", "diou", "ciou")


@pytest.mark.parametrize("kind", KINDS)
def test_iou_family_equals_the_reference(golden, kind):
    a, b = torch.from_numpy(golden["iou_a"]), torch.from_numpy(golden["iou_b"])
    expected = torch.from_numpy(golden[kind]).flatten()
    torch.testing.assert_close(pairwise_iou(a, b, kind), expected, rtol=0, atol=1e-6)


def test_iou_family_by_hand():
    # Two 2 x 2 squares, the second one to the right: overlap 2, union 6, hull 3 x 2, centres 1
    # apart.
    a, b = torch.tensor([[1.0, 1, 2, 2]]), torch.tensor([[2.0, 1, 2, 2]])
    values = {kind: pairwise_iou(a, b, kind).item() for kind in KINDS}
    assert values["iou"] == pytest.approx(1 / 3, abs=1e-6)
    assert values["giou"] == pytest.approx(1 / 3, abs=1e-6)  # the hull is the union
    assert values["diou"] == pytest.approx(1 / 3 - 1 / 13, abs=1e-6)
    assert values["ciou"] == pytest.approx(values["diou"], abs=1e-6)  # same shape: no aspect term


def test_ciou_gradient_is_finite_for_a_degenerate_prediction():
    a = torch.tensor([[0.5, 0.5, 1e-9, 1e-9]], requires_grad=True)
    pairwise_iou(a, torch.tensor([[0.5, 0.5, 0.2, 0.1]]), "ciou").sum().backward()
    assert a.grad.isfinite().all()


def test_conversions_are_inverse():
    boxes = torch.rand(50, 4, dtype=torch.float64) + 0.1
    torch.testing.assert_close(xyxy_to_xywh(xywh_to_xyxy(boxes)), boxes)


@pytest.mark.parametrize("name", ["predict", "val"])
def test_suppression_rows_equal_the_reference(golden, name):
    settings = {
        "predict": {"confidence": 0.25, "iou": 0.45},
        "val": {"confidence": 0.001, "iou": 0.6, "several_labels": True},
    }
    found = non_max_suppression(torch.from_numpy(golden["nms_input"]), **settings[name])
    for image, rows in enumerate(found):
        expected = torch.from_numpy(golden[f"nms_{name}_{image}"])
        assert rows.shape == expected.shape
        assert torch.equal(rows, expected)


def test_suppression_by_hand():
    box, far = [10.0, 10, 4, 4], [50.0, 50, 4, 4]
    rows = torch.tensor(
        [
            [*box, 1.0, 0.9, 0.1],
            [*box, 0.9, 0.9, 0.1],  # suppressed: same place, same class, lower score
            [*box, 0.8, 0.1, 0.9],  # kept: another class
            [*far, 0.7, 0.9, 0.1],  # kept: another place
            [*far, 0.1, 0.9, 0.1],  # below the confidence
        ]
    )
    (found,) = non_max_suppression(rows[None], confidence=0.25, iou=0.45)
    torch.testing.assert_close(found[:, 4], torch.tensor([0.9, 0.72, 0.63]))
    assert found[:, 5].tolist() == [0, 1, 0]
    assert found[0, :4].tolist() == [8, 8, 12, 12]


def test_suppression_of_nothing():
    for rows in non_max_suppression(torch.zeros(2, 10, 9)):
        assert rows.shape == (0, 6)


def test_several_labels_keep_a_box_once_a_class():
    rows = torch.tensor([[[10.0, 10, 4, 4, 1.0, 0.6, 0.5]]])
    assert len(non_max_suppression(rows, 0.25)[0]) == 1
    assert non_max_suppression(rows, 0.25, several_labels=True)[0][:, 5].tolist() == [0, 1]
