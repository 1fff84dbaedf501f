"""How a row of a model YAML becomes a layer: the modules it may name, and what each expects.

Nothing in a row is evaluated: a module is a name in `MODULES`, an arg a number, a truth value or a
known word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from models.common import C3, CBAM, SPPF, Concat, Conv, Detect, ViewHead, same_padding
from utils.core.script import UserError
from utils.core.values import is_whole

STRIDES = [8, 16, 32]  # of the levels that boxes are found on: P3, P4, P5
COARSEST = STRIDES[-1]  # image sizes are multiples of it
MOST_CHANNELS = 4096
MOST_REPEATS = 100
MOST_CLASSES = 10_000
MOST_ANCHORS = 20
LARGEST_ANCHOR_PX = 1e5


class Scale:
    """A YAML's depth and width multiples."""

    def __init__(self, depth: float, width: float):
        self.depth = depth
        self.width = width

    def repeats(self, number: int) -> int:
        if number <= 1:
            return number
        return max(round(number * self.depth), 1)

    def channels(self, width: int) -> int:
        scaled = math.ceil(width * self.width / 8) * 8
        if scaled > MOST_CHANNELS:
            raise UserError(f"{width} channels times {self.width:g} is more than {MOST_CHANNELS}")
        return scaled


@dataclass(frozen=True)
class Inputs:
    """What a builder knows besides a row's args.

    Attributes:
        widths, strides: of the layers read, channels and pixels.
        number: of the row, not scaled.
        values: of the names that args may hold.
        keys: of the row, by name.
    """

    scale: Scale
    widths: list[int]
    strides: list[int]
    number: int
    values: Mapping
    keys: Mapping[str, object]


# A builder takes the inputs and a row's args, and returns the layer, its output's channels and its
# output's stride in pixels.
Built = tuple[nn.Module, int, int]


def _build_conv(
    inputs: Inputs, channels: int, kernel: int = 1, stride: int = 1, padding: int | None = None
) -> Built:
    out = inputs.scale.channels(channels)
    around = same_padding(kernel, padding)
    if not kernel - stride <= 2 * around < kernel:
        raise UserError(
            f"kernel {kernel}, stride {stride} and padding {around} give maps that are not "
            f"1/{stride} of the size; expected an odd kernel, or a padding that suits it"
        )
    return Conv(inputs.widths[0], out, kernel, stride, padding), out, inputs.strides[0] * stride


def _build_c3(inputs: Inputs, channels: int, shortcut: bool = True) -> Built:
    out = inputs.scale.channels(channels)
    repeats = inputs.scale.repeats(inputs.number)
    return C3(inputs.widths[0], out, repeats, shortcut), out, inputs.strides[0]


def _build_sppf(inputs: Inputs, channels: int, kernel: int = 5) -> Built:
    out = inputs.scale.channels(channels)
    return SPPF(inputs.widths[0], out, kernel), out, inputs.strides[0]


def _build_upsample(inputs: Inputs, size: None, factor: int, mode: str) -> Built:
    if inputs.strides[0] % factor:
        raise UserError(
            f"makes a map of stride {inputs.strides[0]} {factor} times as large, finer than pixels"
        )
    layer = nn.Upsample(scale_factor=factor, mode=mode)
    return layer, inputs.widths[0], inputs.strides[0] // factor


def _build_concat(inputs: Inputs, dimension: int = 1) -> Built:
    if len(set(inputs.strides)) != 1:
        raise UserError(f"reads layers of strides {inputs.strides}, expected one stride")
    return Concat(dimension), sum(inputs.widths), inputs.strides[0]


def _build_cbam(inputs: Inputs, *args: int) -> Built:
    return CBAM(inputs.widths[0], *args), inputs.widths[0], inputs.strides[0]


def _build_detect(inputs: Inputs, classes: int, anchors: object) -> Built:
    if classes != inputs.values.get("nc"):
        raise UserError(f"finds {classes} classes, expected nc, {inputs.values.get('nc')}")
    if inputs.strides != STRIDES:
        raise UserError(
            f"reads layers of strides {inputs.strides}, expected {STRIDES} (P3, P4, P5); "
            "models with a level P2 or P6, or without one of these, are not supported here"
        )
    return Detect(classes, ordered_anchors(anchors), inputs.widths, inputs.strides), 0, 0


def _build_view_head(inputs: Inputs, views: int, dropout: float = 0.5) -> Built:
    if views != inputs.values.get("views"):
        raise UserError(f"names {views} views, expected views, {inputs.values.get('views')}")
    return ViewHead(views, inputs.widths, dropout, **inputs.keys), 0, 0


def ordered_anchors(anchors: object) -> list[list[float]]:
    """A YAML's anchors, those of the finest level first, whichever way they are listed.

    Like YOLOv5 (`check_anchor_order`), this compares the mean areas, in pixels, of the first level
    and the last.

    Raises:
        UserError: they are no list of widths and heights a level, equally many a level.
    """
    if not isinstance(anchors, list | tuple):
        raise UserError(
            f"anchors are {anchors!r}, expected {len(STRIDES)} lists of widths and heights in "
            "pixels; take YOLOv5's, and --autoanchor to fit them to the data"
        )
    if len(anchors) != len(STRIDES):
        raise UserError(f"anchors of {len(anchors)} levels, expected {len(STRIDES)}")
    for level in anchors:
        if not isinstance(level, list | tuple) or not all(_is_length(side) for side in level):
            raise UserError(
                f"anchors of a level are {level!r}, "
                "expected numbers above 0: width, height, width, ..."
            )
        in_pairs = len(level) % 2 == 0 and 0 < len(level) <= 2 * MOST_ANCHORS
        if not in_pairs or len(level) != len(anchors[0]):
            counts = [len(level) for level in anchors]
            raise UserError(f"anchors of {counts} numbers a level, expected equally many, in pairs")
    if _mean_area(anchors[0]) <= _mean_area(anchors[-1]):
        return list(anchors)
    return list(reversed(anchors))


def _is_length(value: object) -> bool:
    return type(value) in (int, float) and 0 < value <= LARGEST_ANCHOR_PX


def _mean_area(level: Sequence[float]) -> float:
    areas = [width * height for width, height in zip(level[::2], level[1::2], strict=True)]
    return sum(areas) / len(areas)


@dataclass(frozen=True)
class _Arg:
    """An entry of a row's args.

    Attributes:
        name: in errors.
        expected: in words.
        holds: whether a value is right.
        is_optional: whether it may be left out, at the end of the row.
    """

    name: str
    expected: str
    holds: Callable[[object], bool]
    is_optional: bool = False

    def check(self, value: object) -> None:
        """Raise a `UserError` if a value is not right."""
        if not self.holds(value):
            raise UserError(f"{self.name} is {value!r}, expected {self.expected}")


@dataclass(frozen=True)
class Module:
    """A name that a row may have.

    Attributes:
        build: see `Built`.
        args: what the row's args are.
        is_repeated: the row's number has a meaning.
        reads_several: whether it may read more than one layer.
        keys: what may stand in a mapping after the args.
    """

    build: Callable[..., Built]
    args: tuple[_Arg, ...]
    is_repeated: bool = False
    reads_several: bool = False
    keys: tuple[_Arg, ...] = ()

    def check(self, args: Sequence[object], keys: Mapping[str, object]) -> None:
        """Raise a `UserError` if a row's args and keys are not those of this module."""
        least = sum(not arg.is_optional for arg in self.args)
        if not least <= len(args) <= len(self.args):
            names = ", ".join(arg.name for arg in self.args)
            span = f"{least}"
            if least < len(self.args):
                span = f"{least} to {len(self.args)}"
            raise UserError(f"{len(args)} args, expected {span}: {names}")
        known = {key.name: key for key in self.keys}
        for name in keys:
            if name not in known:
                raise UserError(
                    f"unknown key {name!r}, expected some of {', '.join(known) or '(none)'}"
                )
        for arg, value in zip(self.args, args, strict=False):
            arg.check(value)
        for name, value in keys.items():
            known[name].check(value)


def _whole(name: str, low: int, high: int, is_optional: bool = True) -> _Arg:
    expected = f"a whole number from {low} to {high}"
    return _Arg(name, expected, lambda value: is_whole(value, low, high), is_optional)


def _one_of(name: str, *values: object, is_optional: bool = False) -> _Arg:
    def holds(value: object) -> bool:
        return any(value is allowed or value == allowed for allowed in values)

    return _Arg(name, " or ".join(map(str, values)), holds, is_optional)


def _yes_or_no(name: str) -> _Arg:
    return _Arg(name, "True or False", lambda value: isinstance(value, bool), is_optional=True)


def _is_odd_kernel(value: object) -> bool:
    return is_whole(value, 1, 31) and value % 2 == 1


def _is_padding(value: object) -> bool:
    return value is None or is_whole(value, 0, 15)


def _is_dropout(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 1


_CHANNELS = _whole("channels", 1, MOST_CHANNELS, is_optional=False)
_ODD = _Arg("kernel", "an odd number from 1 to 31", _is_odd_kernel, is_optional=True)
_PADDING = _Arg("padding", "None or 0 to 15", _is_padding, is_optional=True)
_SHORTCUT = _yes_or_no("shortcut")
_DROPOUT = _Arg("dropout", "0 or more, below 1", _is_dropout, is_optional=True)
_ANY = _Arg("anchors", "", lambda value: True)  # the builder looks at them
MODULES = {
    "Conv": Module(
        _build_conv, (_CHANNELS, _whole("kernel", 1, 31), _whole("stride", 1, 32), _PADDING)
    ),
    "C3": Module(_build_c3, (_CHANNELS, _SHORTCUT), is_repeated=True),
    "SPPF": Module(_build_sppf, (_CHANNELS, _ODD)),
    "nn.Upsample": Module(
        _build_upsample,
        (
            _one_of("size", None),
            _whole("factor", 1, 32, is_optional=False),
            _one_of("mode", "nearest", "nearest-exact", "bilinear", "bicubic"),
        ),
    ),
    "Concat": Module(
        _build_concat, (_one_of("dimension", 1, is_optional=True),), reads_several=True
    ),
    "CBAM": Module(_build_cbam, (_whole("reduction", 1, MOST_CHANNELS), _ODD)),
    "Detect": Module(
        _build_detect, (_whole("nc", 0, MOST_CLASSES, is_optional=False), _ANY), reads_several=True
    ),
    "ViewHead": Module(
        _build_view_head,
        (_whole("views", 0, MOST_CLASSES, is_optional=False), _DROPOUT),
        reads_several=True,
        keys=(_yes_or_no("stop_gradient"),),
    ),
}
