"""The layers YOLOv5 (v6.0 and later) is made of. Attribute names are those of its state dicts.

A layer's `output_weight` is the weight of the convolution that makes its output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conv(nn.Module):
    """Convolution without bias, batch norm, SiLU: (B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int | None = None,
    ):
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    @property
    def output_weight(self) -> Tensor:
        return self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """1x1 then 3x3 convolution, with a residual connection if `shortcut` and the widths agree."""

    def __init__(self, in_channels: int, out_channels: int, shortcut: bool = True):
        super().__init__()
        self.cv1 = Conv(in_channels, out_channels, 1)
        self.cv2 = Conv(out_channels, out_channels, 3)
        self.add = shortcut and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(nn.Module):
    """Cross-stage-partial block (Wang et al. 2019) of `repeats` bottlenecks, three convolutions around them."""

    def __init__(self, in_channels: int, out_channels: int, repeats: int = 1, shortcut: bool = True):
        super().__init__()
        hidden = out_channels // 2
        self.cv1 = Conv(in_channels, hidden)
        self.cv2 = Conv(in_channels, hidden)
        self.cv3 = Conv(2 * hidden, out_channels)
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut) for _ in range(repeats)))

    @property
    def output_weight(self) -> Tensor:
        return self.cv3.output_weight

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), dim=1))


class SPPF(nn.Module):
    """Spatial pyramid pooling by three max-pools in a row (equal to pools of 5, 9 and 13 side by side)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 5):
        super().__init__()
        hidden = in_channels // 2
        self.cv1 = Conv(in_channels, hidden)
        self.cv2 = Conv(4 * hidden, out_channels)
        self.m = nn.MaxPool2d(kernel, stride=1, padding=kernel // 2)

    @property
    def output_weight(self) -> Tensor:
        return self.cv2.output_weight

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.cv1(x)]
        for _ in range(3):
            levels.append(self.m(levels[-1]))
        return self.cv2(torch.cat(levels, dim=1))


class Concat(nn.Module):
    """Concatenates a list of tensors along `dim`."""

    def __init__(self, dim: int = 1):
        super().__init__()
        self.dim = dim

    def forward(self, xs: list[Tensor]) -> Tensor:
        return torch.cat(xs, dim=self.dim)


class CBAM(nn.Module):
    """Convolutional block attention (Woo et al., ECCV 2018, arXiv:1807.06521): what matters, then where.

    Channel attention, their eq. 2: one perceptron reads every channel's mean and maximum over the map. Spatial
    attention, their eq. 3: a 7x7 convolution reads the mean and the maximum over the channels. Each scales the
    features by a sigmoid. Pooling is by `mean` and `amax`, whose backward passes are deterministic on CUDA.

    Args:
        channels: of the features; unchanged.
        reduction: how much narrower the perceptron's hidden layer is.
        kernel: of the spatial convolution, odd.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7):
        super().__init__()
        hidden = max(channels // reduction, 4)
        self.perceptron = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        pooled = torch.stack((x.mean(dim=(2, 3)), x.amax(dim=(2, 3))))  # (2, B, C)
        x = x * self.perceptron(pooled).sum(dim=0).sigmoid()[:, :, None, None]
        pooled = torch.cat((x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)), dim=1)  # (B, 2, H, W)
        return x * self.spatial(pooled).sigmoid()


class ViewHead(nn.Module):
    """Image-level classifier: mean and maximum of every channel over the frame, dropout, one linear layer.

    Nothing is normalised over the batch, so a batch of one and a map of one cell are as good as any; `mean` and
    `amax` have deterministic backward passes and take any frame size. Small, because a thousand frames with
    contradictory labels are soon learnt by heart.

    Args:
        view_count: number of views.
        in_channels: width of the features read.
        dropout: share of the pooled features left out in training.
    """

    def __init__(self, view_count: int, in_channels: int, dropout: float = 0.5):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * in_channels, view_count)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, views) logits."""
        pooled = torch.cat((x.mean(dim=(2, 3)), x.amax(dim=(2, 3))), dim=1)  # (B, 2 C)
        return self.linear(self.drop(pooled))
