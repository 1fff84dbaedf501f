"""The layers YOLOv5 (v6.0 and later) is made of, the view head, and raw maps to boxes (`decode`).

Attribute names are those of YOLOv5's state dicts. A layer's `output_weight` is the weight of the
convolution that makes its output.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def same_padding(kernel: int, padding: int | None = None) -> int:
    """Pixels around a map so that an odd kernel keeps its size; `padding`, if it is given."""
    if padding is None:
        return kernel // 2
    return padding


class Conv(nn.Module):
    """Convolution without bias, batch norm, SiLU.

    (B, in, H, W) -> (B, out, H / stride, W / stride).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int | None = None,
    ):
        super().__init__()
        around = same_padding(kernel, padding)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, around, bias=False)
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
        if self.add:
            return x + y
        return y


class C3(nn.Module):
    """Cross-stage-partial block (Wang et al. 2019): `repeats` bottlenecks, three convolutions."""

    def __init__(
        self, in_channels: int, out_channels: int, repeats: int = 1, shortcut: bool = True
    ):
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
    """Spatial pyramid pooling by three max-pools in a row; equal to pools of 5, 9 and 13."""

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
    """Convolutional block attention (Woo et al., ECCV 2018, arXiv:1807.06521).

    Channel attention, their eq. 2: one perceptron reads every channel's mean and maximum over the
    map. Spatial attention, their eq. 3: a 7x7 convolution reads the mean and the maximum over the
    channels. Each scales the features by a sigmoid. Pooling is by `mean` and `amax`, whose backward
    passes are deterministic on CUDA.

    Args:
        channels: of the features; unchanged.
        reduction: how much narrower the perceptron's hidden layer is.
        kernel: of the spatial convolution, odd.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7):
        super().__init__()
        hidden = max(channels // reduction, 4)
        self.perceptron = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        self.spatial = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        of_channels = torch.stack((x.mean(dim=(2, 3)), x.amax(dim=(2, 3))))  # (2, B, C)
        x = x * self.perceptron(of_channels).sum(dim=0).sigmoid()[:, :, None, None]
        mean = x.mean(dim=1, keepdim=True)
        largest = x.amax(dim=1, keepdim=True)
        of_cells = torch.cat((mean, largest), dim=1)  # (B, 2, H, W)
        return x * self.spatial(of_cells).sigmoid()


class ViewHead(nn.Module):
    """Image-level classifier: every channel pooled over the frame, dropout, one linear layer.

    A channel is pooled to its mean and its maximum. Nothing is normalised over the batch, so a
    batch of one and a map of one cell are as good as any; `mean` and `amax` have deterministic
    backward passes and take any frame size. Small, because a thousand frames with contradictory
    labels are soon learnt by heart.

    Args:
        view_count: number of views.
        channels: width of each map that is read.
        dropout: share of the pooled features left out in training.
        stop_gradient: the head learns from the maps, and nothing before it learns from the head.
    """

    def __init__(
        self,
        view_count: int,
        channels: Sequence[int],
        dropout: float = 0.5,
        stop_gradient: bool = False,
    ):
        super().__init__()
        self.map_count = len(channels)
        self.stop_gradient = stop_gradient
        self.drop = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * sum(channels), view_count)

    def forward(self, maps: Tensor | list[Tensor]) -> Tensor:
        """One (B, C, H, W) or several -> (B, views) logits."""
        if isinstance(maps, Tensor):
            maps = [maps]
        # In training only, so that Grad-CAM can still ask what a trained head attends to.
        if self.stop_gradient and self.training:
            maps = [x.detach() for x in maps]
        pooled = []
        for x in maps:
            pooled += [x.mean(dim=(2, 3)), x.amax(dim=(2, 3))]
        return self.linear(self.drop(torch.cat(pooled, dim=1)))


class Detect(nn.Module):
    """YOLOv5's detection layer: a 1x1 convolution a level.

    Args:
        class_count: number of box classes, nc.
        anchors: a list a level of w, h, w, h, ... in pixels.
        channels: width of each level's features.
        strides: pixels a cell of each level.
    """

    def __init__(
        self, class_count: int, anchors: list[list[float]], channels: list[int], strides: list[int]
    ):
        super().__init__()
        self.class_count = class_count
        self.strides = tuple(strides)
        anchors_px = torch.tensor(anchors, dtype=torch.float32).view(len(anchors), -1, 2)
        # In stride units, as in YOLOv5's state dicts.
        self.register_buffer("anchors", anchors_px / torch.tensor(strides).view(-1, 1, 1))
        outputs = anchors_px.shape[1] * (5 + class_count)
        self.m = nn.ModuleList(nn.Conv2d(width, outputs, 1) for width in channels)
        self._initialise_biases()

    def anchors_px(self) -> Tensor:
        """(levels, anchors, 2) pixels; the YAML's, unless others have replaced them."""
        return self.anchors * self._strides_px()

    def set_anchors_px(self, anchors_px: Tensor) -> None:
        """Take other anchors, (levels * anchors, 2) pixels, those of the finest level first."""
        self.anchors.copy_(anchors_px.view_as(self.anchors) / self._strides_px())

    def _strides_px(self) -> Tensor:
        """(levels, 1, 1) pixels a cell."""
        return self.anchors.new_tensor(self.strides).view(-1, 1, 1)

    def _initialise_biases(self) -> None:
        """Start from about 8 objects in a 640 px image and uniform classes.

        Lin et al. 2017, section 3.3.
        """
        for conv, stride in zip(self.m, self.strides, strict=True):
            bias = conv.bias.detach().view(self.anchors.shape[1], -1)
            bias[:, 4] += math.log(8 / (640 / stride) ** 2)
            if self.class_count:  # none for data without boxes, whose detector is taken away
                bias[:, 5:] += math.log(0.6 / (self.class_count - 0.99999))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """[(B, C, H, W)] -> [(B, anchors, H, W, 5 + nc)] raw maps."""
        maps = []
        for x, conv in zip(levels, self.m, strict=True):
            raw = conv(x)
            batch, _, height, width = raw.shape
            raw = raw.view(batch, self.anchors.shape[1], -1, height, width)
            maps.append(raw.permute(0, 1, 3, 4, 2).contiguous())
        return maps


def decode(raw_maps: list[Tensor], anchors: Tensor, strides: Iterable[int]) -> Tensor:
    """Raw maps -> (B, N, 5 + nc) float32: xywh in pixels, then objectness and class scores.

    The scores are after the sigmoid, in [0, 1].

    Args:
        raw_maps: (B, anchors, H, W, 5 + nc) a level.
        anchors: (levels, anchors, 2) in stride units.
        strides: pixels a cell of each level.
    """
    decoded = []
    for raw, level_anchors, stride in zip(raw_maps, anchors, strides, strict=True):
        batch, _, height, width, outputs = raw.shape
        scores = raw.float().sigmoid()
        y, x = torch.meshgrid(
            torch.arange(height, device=raw.device),
            torch.arange(width, device=raw.device),
            indexing="ij",
        )
        cell = torch.stack((x, y), dim=-1)  # (H, W, 2)
        xy = (scores[..., :2] * 2 - 0.5 + cell) * stride
        wh = (scores[..., 2:4] * 2).square() * (level_anchors * stride)[:, None, None]
        decoded.append(torch.cat((xy, wh, scores[..., 4:]), dim=-1).view(batch, -1, outputs))
    return torch.cat(decoded, dim=1)
