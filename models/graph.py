"""A model YAML as a graph of layers: which layer reads which, and how each is built.

A model is a list of layers, each reading one or more earlier ones. Which layers both heads depend on (the
*trunk*), and which trunk outputs the rest reads (the *cut*), is derived from that graph: with the view head
on layer 17 (P3) the trunk is layers 0-17 and the cut is the outputs of layers 10, 14 and 17.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor, nn

from models.common import C3, CBAM, SPPF, Concat, Conv, Detect, ViewHead
from utils.core.files import find_file
from utils.core.options import SIZES
from utils.core.script import UserError
from utils.core.values import read_yaml_mapping

PLACEHOLDERS = {"nc", "anchors", "views"}  # names in a row's args that stand for a value
Features = dict[int, Tensor]  # a layer's number -> its output


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

    def clipped_parts(self) -> tuple[list[nn.Parameter], ...]:
        """The parameters whose gradients are clipped together: by default all of them."""
        return (list(self.parameters()),)

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
        cfg = read_yaml_mapping(find_file(cfg), "expected a model YAML, e.g. models/yolov5s_joint.yaml")
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
