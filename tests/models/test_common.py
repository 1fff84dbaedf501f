"""Layers that YOLOv5 lacks: the view head and CBAM."""

import pytest
import torch

from models.common import CBAM, ViewHead


def test_attention_scales_by_what_it_pools():
    """With zero weights both attentions are sigmoid(0).

    A channel's or a place's own bias turns it on or off.
    """
    torch.manual_seed(0)
    x, cbam = torch.rand(2, 8, 5, 6) + 0.5, CBAM(8)
    for parameter in cbam.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(cbam(x), x / 4)
    with torch.no_grad():
        cbam.perceptron[2].bias[3] = 20.0  # counted twice, for the mean and for the maximum
        cbam.perceptron[2].bias[5] = -20.0
    y = cbam(x)
    torch.testing.assert_close(y[:, 3], x[:, 3] / 2)
    torch.testing.assert_close(y[:, 5], torch.zeros_like(x[:, 5]))
    torch.testing.assert_close(y[:, 0], x[:, 0] / 4)
    with torch.no_grad():
        cbam.perceptron[2].bias.zero_()
        cbam.spatial.weight[0, 1, 3, 3] = 1.0  # a place's maximum over the channels
    torch.testing.assert_close(cbam(x), x / 2 * (x / 2).amax(1, keepdim=True).sigmoid())


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (1, 3, 5), (2, 40, 40)])
@pytest.mark.parametrize("training", [True, False])
def test_view_head_is_finite_at_any_size_and_batch(shape, training):
    batch, height, width = shape
    head = ViewHead(3, [16]).train(training)
    x = torch.randn(batch, 16, height, width, requires_grad=True)
    logits = head(x)
    logits.sum().backward()
    assert logits.shape == (batch, 3)
    assert logits.isfinite().all()
    assert x.grad.isfinite().all()
