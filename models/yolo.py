"""YOLOv5 from its YAML, alone and with a view head: `DetectionModel`, `YOLOv5WithClassification`.

A model is a list of layers, each reading one or more earlier ones. Which layers both heads depend on (the
*trunk*), and which trunk outputs the rest reads (the *cut*), is derived from that graph: with the view head
on layer 17 (P3) the trunk is layers 0-17 and the cut is the outputs of layers 10, 14 and 17.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.common import C3, CBAM, SPPF, Concat, Conv, ViewHead
from utils.config import SIZES, read_yaml_mapping
from utils.general import TASKS, UserError

PLACEHOLDERS = {"nc", "anchors", "views"}  # names in a row's args that stand for a value
Features = dict[int, Tensor]  # a layer's number -> its output


class Detect(nn.Module):
    """YOLOv5's detection layer: a 1x1 convolution a level.

    Args:
        class_count: number of box classes, nc.
        anchors: a list a level of w, h, w, h, ... in pixels.
        channels: width of each level's features.
        strides: pixels a cell of each level.
    """

    def __init__(self, class_count: int, anchors: list[list[float]], channels: list[int], strides: list[int]):
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
        """(levels, anchors, 2) pixels; fitted ones or a checkpoint's may have replaced the YAML's."""
        return self.anchors * self.anchors.new_tensor(self.strides).view(-1, 1, 1)

    def set_anchors_px(self, anchors_px: Tensor) -> None:
        """Take other anchors, (levels * anchors, 2) pixels, those of the finest level first."""
        self.anchors.copy_(anchors_px.view_as(self.anchors) / self.anchors.new_tensor(self.strides).view(-1, 1, 1))

    def _initialise_biases(self) -> None:
        """Start from about 8 objects in a 640 px image and uniform classes (Lin et al. 2017, section 3.3)."""
        for conv, stride in zip(self.m, self.strides, strict=True):
            bias = conv.bias.detach().view(self.anchors.shape[1], -1)
            bias[:, 4] += math.log(8 / (640 / stride) ** 2)
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
    """Raw maps -> (B, N, 5 + nc) float32: xywh in pixels, objectness and class scores after the sigmoid.

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
            torch.arange(height, device=raw.device), torch.arange(width, device=raw.device), indexing="ij"
        )
        cell = torch.stack((x, y), dim=-1)  # (H, W, 2)
        xy = (scores[..., :2] * 2 - 0.5 + cell) * stride
        wh = (scores[..., 2:4] * 2).square() * (level_anchors * stride)[:, None, None]
        decoded.append(torch.cat((xy, wh, scores[..., 4:]), dim=-1).view(batch, -1, outputs))
    return torch.cat(decoded, dim=1)


class LayerGraph(nn.Module):
    """The layers of a model YAML in `self.model`, and who reads whom in `self.sources`.

    Args:
        cfg: a parsed model YAML in YOLOv5's syntax: `depth_multiple`, `width_multiple`, `anchors`, and
            `backbone` + `head`, rows of [from, number, module, args].
        counts: what the names in the rows' args stand for: nc, and views for a model with a view head.
    """

    def __init__(self, cfg: Mapping, counts: Mapping[str, int]):
        super().__init__()
        self.sources: list[tuple[int, ...]] = []
        layers: list[nn.Module] = []
        self._channels, self._strides = [3], [1]  # of the layer before, then of every layer built
        for index, row in enumerate([*cfg["backbone"], *cfg["head"]]):
            sources, layer = self._build_layer(index, row, cfg, counts)
            self.sources.append(sources)
            layers.append(layer)
        self.model = nn.Sequential(*layers)
        self._read_later = {s for i, sources in enumerate(self.sources) for s in sources if s != i - 1}

    def _build_layer(
        self, index: int, row: list, cfg: Mapping, counts: Mapping[str, int]
    ) -> tuple[tuple[int, ...], nn.Module]:
        sources_given, number, name, args = row
        sources = tuple(
            index + s if s < 0 else s for s in (sources_given if isinstance(sources_given, list) else [sources_given])
        )
        if name not in BUILDERS:
            raise UserError(f"model layer {index}: unknown module '{name}', expected {', '.join(BUILDERS)}")
        if any(not -1 <= s < index for s in sources) or (index > 0 and -1 in sources):
            raise UserError(f"model layer {index}: reads {list(sources)}, expected layers 0 to {index - 1}")
        widths = [self._channels[s + 1] for s in sources]
        strides = [self._strides[s + 1] for s in sources]
        scale = _Scale(cfg.get("depth_multiple", 1.0), cfg.get("width_multiple", 1.0))
        values = [counts.get(a, cfg.get(a, a)) if isinstance(a, str) else a for a in args]
        if unknown := PLACEHOLDERS & {value for value in values if isinstance(value, str)}:
            raise UserError(f"model layer {index}, {name}: {sorted(unknown)} has no value in this kind of model")
        layer, width, stride = BUILDERS[name](scale, widths, strides, number, values)
        self._channels.append(width)
        self._strides.append(stride)
        return sources, layer

    def run(self, layers: Iterable[int], known: Features) -> Features:
        """Run `layers` in order on the outputs in `known`; -1 is the input image. Returns all outputs kept.

        Kept are those that a layer other than the next one reads, and the last of `layers`.
        """
        outputs = dict(known)
        previous, x = None, None
        for index in layers:
            inputs = [x if s == previous and x is not None else outputs[s] for s in self.sources[index]]
            x = self.model[index](inputs if _takes_a_list(self.model[index]) else inputs[0])
            previous = index
            if index in self._read_later:
                outputs[index] = x
        outputs[previous] = x
        return outputs

    def ancestors(self, index: int) -> set[int]:
        """The layers that layer `index` depends on."""
        found: set[int] = set()
        waiting = list(self.sources[index])
        while waiting:
            layer = waiting.pop()
            if layer >= 0 and layer not in found:
                found.add(layer)
                waiting.extend(self.sources[layer])
        return found

    def index_of(self, kind: type[nn.Module]) -> int:
        """The number of the one layer of type `kind`."""
        found = [index for index, layer in enumerate(self.model) if isinstance(layer, kind)]
        if len(found) != 1:
            raise UserError(f"the model has {len(found)} layers of type {kind.__name__}, expected exactly one")
        return found[0]


def _takes_a_list(layer: nn.Module) -> bool:
    return isinstance(layer, Concat | Detect)


class DetectionModel(LayerGraph):
    """YOLOv5: images (B, 3, H, W) in [0, 1], H and W multiples of 32 -> {"detect": raw maps}.

    Args:
        cfg: a model YAML's path or content.
        nc: number of box classes; the YAML's `nc` if None.
        size: see `sized`.
    """

    kind = "detection"
    tasks = ("detection",)
    detection_path = ""  # of the detector in the state dict

    def __init__(self, cfg: str | Path | Mapping, nc: int | None = None, size: str = "", **counts: int):
        cfg = sized(cfg, size)
        self.cfg = {**cfg, "nc": nc if nc is not None else cfg["nc"]}
        super().__init__(self.cfg, {"nc": self.cfg["nc"], **counts})
        self.detect_index = self.index_of(Detect)

    @property
    def detect(self) -> Detect:
        """The detection layer."""
        return self.model[self.detect_index]

    def forward(self, images: Tensor) -> dict[str, object]:
        layers = [*sorted(self.ancestors(self.detect_index)), self.detect_index]
        return {"detect": self.run(layers, {-1: images})[self.detect_index]}

    def decode(self, raw_maps: list[Tensor]) -> Tensor:
        """Raw maps -> (B, N, 5 + nc), see `decode`."""
        return decode(raw_maps, self.detect.anchors, self.detect.strides)

    def arguments(self) -> dict[str, object]:
        """What `type(self)(**arguments)` needs to build this architecture again, anchors included; plain values."""
        anchors = {"anchors": self.detect.anchors_px().flatten(1).tolist()} if self.detect is not None else {}
        return {"cfg": {**self.cfg, **anchors}, "nc": self.cfg["nc"]}


class YOLOv5WithClassification(DetectionModel):
    """YOLOv5 with a view head on one of its layers.

    Args:
        cfg: a model YAML's path or content with one `ViewHead` row; its `from` is where the head attaches.
        nc: number of box classes.
        views: number of views.
        size: see `sized`.
        tasks: of one alone, the other's head is removed: the single-task reference.

    Attributes:
        trunk_layers: the layers that both heads depend on.
        cut: the trunk layers whose outputs a layer outside the trunk reads.
    """

    kind = "joint"

    def __init__(
        self,
        cfg: str | Path | Mapping,
        nc: int | None = None,
        views: int = 3,
        size: str = "",
        tasks: Sequence[str] = TASKS,
    ):
        super().__init__(cfg, nc, size, views=views)
        self.view_count, self.tasks = views, tuple(tasks)
        self.view_index = self.index_of(ViewHead)
        detection_needs = self.ancestors(self.detect_index)
        view_needs = self.ancestors(self.view_index)
        shared = detection_needs & view_needs
        self.trunk_layers = tuple(sorted(shared))
        self.detection_layers = (*sorted(detection_needs - shared), self.detect_index)
        self.view_layers = (*sorted(view_needs - shared), self.view_index)
        read_outside = {s for i in (*self.detection_layers, *self.view_layers) for s in self.sources[i]}
        self.cut = tuple(sorted(read_outside & shared))
        # Removed only now, so that a seed gives the layers that stay the weights they have beside both heads.
        removed = {"detection": self.detection_layers, "classification": self.view_layers}
        for index in (index for task in TASKS if task not in self.tasks for index in removed[task]):
            self.model[index] = nn.Identity()

    @property
    def detect(self) -> Detect | None:
        return super().detect if "detection" in self.tasks else None

    def trunk(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> the outputs at the cut, by layer number."""
        outputs = self.run(self.trunk_layers, {-1: images})
        return {index: outputs[index] for index in self.cut}

    def heads(self, features: Features, view_features: Features | None = None) -> dict[str, object]:
        """The cut's outputs -> {"detect": raw maps, "classify": (B, views) logits}, of the tasks there are.

        `view_features`, if given, are read by the view head in place of `features`: aliases that tell the
        two tasks' gradients apart.
        """
        view_features = features if view_features is None else view_features
        outputs = {}
        if "detection" in self.tasks:
            outputs["detect"] = self.run(self.detection_layers, features)[self.detect_index]
        if "classification" in self.tasks:
            outputs["classify"] = self.run(self.view_layers, view_features)[self.view_index]
        return outputs

    def forward(
        self, images: Tensor, tap: Callable[[Features], tuple[Features, Features]] | None = None
    ) -> dict[str, object]:
        """Trunk and heads; `tap` maps the cut's outputs to the pair that the two heads read."""
        features = self.trunk(images)
        return self.heads(*tap(features)) if tap else self.heads(features)

    def last_shared_parameter(self) -> Tensor:
        """The weight of the trunk's last convolution: W in the GradNorm paper."""
        layers = [self.model[index] for index in reversed(self.trunk_layers)]
        return next(layer.output_weight for layer in layers if hasattr(layer, "output_weight"))

    def trunk_parameters(self) -> dict[str, list[nn.Parameter]]:
        """The trained parameters of the "trunk" and of each of its layers, "0" to the last; none if all are frozen."""
        layers = {
            str(index): [parameter for parameter in self.model[index].parameters() if parameter.requires_grad]
            for index in self.trunk_layers
        }
        layers = {name: parameters for name, parameters in layers.items() if parameters}
        everything = [parameter for parameters in layers.values() for parameter in parameters]
        return {"trunk": everything, **layers} if everything else {}

    def arguments(self) -> dict[str, object]:
        return {**super().arguments(), "views": self.view_count, "tasks": list(self.tasks)}


def load_model_yaml(
    cfg: str | Path | Mapping, required: tuple[str, ...] = ("nc", "anchors", "backbone", "head")
) -> dict:
    """The content of a model YAML, with the keys it must have.

    Raises:
        UserError: no such file, not a mapping, or keys missing.
    """
    source = "model configuration"
    if not isinstance(cfg, Mapping):
        source = str(cfg)
        cfg = read_yaml_mapping(Path(cfg), "expected a model YAML, e.g. models/yolov5s_joint.yaml")
    missing = [key for key in required if key not in cfg]
    if missing:
        raise UserError(f"{source}: keys {missing} are missing; expected YOLOv5's model YAML")
    return dict(cfg)


def sized(cfg: str | Path | Mapping, size: str) -> dict:
    """The content of a model YAML, in one of YOLOv5's sizes; "" is the size that the YAML has."""
    scale = dict(zip(("depth_multiple", "width_multiple"), SIZES[size], strict=True)) if size else {}
    return load_model_yaml(cfg) | scale


class _Scale:
    """A YAML's depth and width multiples."""

    def __init__(self, depth: float, width: float):
        self.depth, self.width = depth, width

    def repeats(self, number: int) -> int:
        return max(round(number * self.depth), 1) if number > 1 else number

    def channels(self, width: int) -> int:
        return math.ceil(width * self.width / 8) * 8


# A builder takes (scale, channels of the sources, strides of the sources, number, args) and returns the
# layer, its output's channels and its output's stride in pixels.
def _build_conv(scale, widths, strides, number, args):
    out = scale.channels(args[0])
    stride = args[2] if len(args) > 2 else 1
    return Conv(widths[0], out, *args[1:]), out, strides[0] * stride


def _build_c3(scale, widths, strides, number, args):
    out = scale.channels(args[0])
    return C3(widths[0], out, scale.repeats(number), *args[1:]), out, strides[0]


def _build_sppf(scale, widths, strides, number, args):
    out = scale.channels(args[0])
    return SPPF(widths[0], out, *args[1:]), out, strides[0]


def _build_upsample(scale, widths, strides, number, args):
    _, factor, mode = args
    return nn.Upsample(scale_factor=factor, mode=mode), widths[0], strides[0] // factor


def _build_concat(scale, widths, strides, number, args):
    if len(set(strides)) != 1:
        raise UserError(f"model: Concat reads layers of strides {strides}, expected one stride")
    return Concat(*args), sum(widths), strides[0]


def _build_cbam(scale, widths, strides, number, args):
    return CBAM(widths[0], *args), widths[0], strides[0]


def _build_detect(scale, widths, strides, number, args):
    class_count, anchors = args
    return Detect(class_count, anchors, widths, strides), 0, 0


def _build_view_head(scale, widths, strides, number, args):
    view_count, dropout = args
    return ViewHead(view_count, widths[0], dropout), 0, 0


BUILDERS = {
    "Conv": _build_conv,
    "C3": _build_c3,
    "SPPF": _build_sppf,
    "nn.Upsample": _build_upsample,
    "Concat": _build_concat,
    "CBAM": _build_cbam,
    "Detect": _build_detect,
    "ViewHead": _build_view_head,
}
