"""A model YAML as a graph of layers: which layer reads which, and how each is built.

A model is a list of layers, each reading one or more earlier ones. Which layers both heads depend
on (the *trunk*), and which trunk outputs the rest reads (the *cut*), is derived from that graph:
with the view head on layer 17 (P3) the trunk is layers 0-17 and the cut is the outputs of layers
10, 14 and 17.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from models.builders import COARSEST, MODULES, MOST_CLASSES, MOST_REPEATS, Inputs, Module, Scale
from models.common import Concat, Detect
from utils.core.files import find_file
from utils.core.options import SIZES
from utils.core.script import LOGGER, UserError
from utils.core.values import did_you_mean, is_whole
from utils.core.yaml_reader import read_yaml_mapping

CONFIGURATION = "model configuration"  # what errors call one that is no file
MODEL_YAML_HINT = "expected a model YAML, e.g. models/yolov5s_joint.yaml"
PLACEHOLDERS = {"nc", "anchors", "views"}  # names in a row's args that stand for a value
LARGEST_MULTIPLE = 4.0
SILU = ("nn.SiLU()", "nn.SiLU(inplace=True)", "nn.SiLU(True)", "torch.nn.SiLU()")


def _is_silu(value: object) -> bool:
    return isinstance(value, str) and value.replace(" ", "") in SILU


# Keys of YOLOv5's model YAMLs for which there is one value here: that value in words, and whether
# it is this one.
FIXED_KEYS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "activation": ("nn.SiLU()", _is_silu),
    "ch": ("3", lambda value: value == 3),
    "channel_multiple": ("8", lambda value: value == 8),
}
BRANCH_KEY = "view_branches_after"  # see models/branches.py
KNOWN_KEYS = {
    *("nc", "anchors", "backbone", "head", "depth_multiple", "width_multiple"),
    BRANCH_KEY,
    *FIXED_KEYS,
}
Features = dict[int, Tensor]  # a layer's number -> its output


class LayerGraph(nn.Module):
    """The layers of a model YAML in `self.model`, and who reads whom in `self.sources`.

    Args:
        cfg: a parsed model YAML in YOLOv5's syntax: `depth_multiple`, `width_multiple`, `anchors`,
            and `backbone` + `head`, rows of [from, number, module, args] or [from, number, module,
            args, {key: value}].
        counts: what the names in the rows' args stand for: nc, and views for a model with a view
            head.
        source: the YAML's name, for errors.

    Raises:
        UserError: the YAML describes no model that can be built here; says which layer is wrong.
    """

    def __init__(self, cfg: Mapping, counts: Mapping[str, int], source: str = CONFIGURATION):
        super().__init__()
        self.source = source
        self.sources: list[tuple[int, ...]] = []
        layers: list[nn.Module] = []
        # Of the image, then of every layer built.
        self._channels = [3]
        self._strides = [1]
        scale = Scale(
            depth=_multiple(cfg, "depth_multiple", source),
            width=_multiple(cfg, "width_multiple", source),
        )
        values = {"nc": cfg.get("nc"), "anchors": cfg.get("anchors"), **counts}
        for index, row in enumerate(checked_rows(cfg, source)):
            try:
                sources, layer = self._build_layer(index, row, values, scale)
            except UserError as error:
                raise UserError(f"{source}: model layer {index}{error}") from None
            self.sources.append(sources)
            layers.append(layer)
        self.model = nn.Sequential(*layers)
        self._kept = self._layers_to_keep()

    def _build_layer(
        self, index: int, row: Sequence, values: Mapping, scale: Scale
    ) -> tuple[tuple[int, ...], nn.Module]:
        """Errors begin after the layer's number."""
        given, number, name, args, *rest = row
        if not isinstance(name, str) or name not in MODULES:
            raise UserError(f": unknown module {name!r}, expected {', '.join(MODULES)}")
        try:
            sources = self._sources_of(index, given)
            inputs = self._inputs(sources, number, values, scale, rest)
            layer, width, stride = _make(MODULES[name], inputs, _resolve(args, values))
        except UserError as error:
            raise UserError(f", {name}: {error}") from None
        self._channels.append(width)
        self._strides.append(stride)
        return sources, layer

    def _layers_to_keep(self) -> set[int]:
        """The heads, and the layers that another one than the next reads."""
        kept = {index for index, stride in enumerate(self._strides[1:]) if stride == 0}
        for index, sources in enumerate(self.sources):
            kept |= set(sources) - {index - 1}
        return kept

    def _sources_of(self, index: int, given: object) -> tuple[int, ...]:
        """The numbers of the layers read, none of which is a head; -1 is the image."""
        sources = layers_read(index, given)
        heads = [s for s in sources if self._strides[s + 1] == 0]
        if heads:
            raise UserError(f"reads {heads}, which are heads and have no map to read")
        return sources

    def _inputs(
        self,
        sources: tuple[int, ...],
        number: object,
        values: Mapping,
        scale: Scale,
        rest: Sequence[object],
    ) -> Inputs:
        """What a row's builder knows; `rest` holds nothing, or the keys after the row's args."""
        if not is_whole(number, 1, MOST_REPEATS):
            raise UserError(f"number is {number!r}, expected 1 to {MOST_REPEATS}")
        keys: object = {}
        if rest:
            keys = rest[0]
        if not isinstance(keys, Mapping):
            raise UserError(
                f"after the args: {keys!r}, expected keys like {{stop_gradient: True}}, or nothing"
            )
        widths = [self._channels[s + 1] for s in sources]
        strides = [self._strides[s + 1] for s in sources]
        return Inputs(scale, widths, strides, number, values, keys)

    def run(self, layers: Iterable[int], known: Features) -> Features:
        """Run `layers` in order on the outputs in `known`; -1 is the input image.

        Returns:
            The outputs kept: those that a layer other than the next one reads, those of heads, and
            the last of `layers`.
        """
        outputs = dict(known)
        previous = None
        for index in layers:
            layer = self.model[index]
            inputs = [outputs[s] for s in self.sources[index]]
            if len(inputs) > 1 or isinstance(layer, Concat | Detect):
                x = layer(inputs)
            else:
                x = layer(inputs[0])
            if previous is not None and previous not in self._kept:
                del outputs[previous]  # so that its memory is free again
            outputs[index] = x
            previous = index
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

    def indices_of(self, kind: type[nn.Module]) -> list[int]:
        """The numbers of the layers of type `kind`."""
        return [index for index, layer in enumerate(self.model) if isinstance(layer, kind)]

    def index_of(self, kind: type[nn.Module]) -> int:
        """The number of the one layer of type `kind`."""
        found = self.indices_of(kind)
        if len(found) != 1:
            raise UserError(
                f"{self.source}: the model has {len(found)} layers of type {kind.__name__}, "
                "expected exactly one"
            )
        return found[0]


def checked_rows(cfg: Mapping, source: str) -> list[Sequence]:
    """All rows of a model YAML; raise a `UserError` if one is none."""
    rows = [*cfg["backbone"], *cfg["head"]]
    for index, row in enumerate(rows):
        if not isinstance(row, list | tuple) or len(row) not in (4, 5):
            raise UserError(
                f"{source}: model layer {index}: found {row!r}, "
                "expected [from, number, module, args]"
            )
    return rows


def layers_read(index: int, given: object) -> tuple[int, ...]:
    """The numbers of the layers that layer `index` names in its row; -1 is the image.

    Raises:
        UserError: they are no numbers of layers before it.
    """
    entries = given
    if not isinstance(given, list | tuple):
        entries = [given]
    if not entries or any(type(entry) is not int for entry in entries):
        raise UserError(f"reads {given!r}, expected a layer's number, or several in a list")
    sources = tuple(_absolute(index, entry) for entry in entries)
    if any(not -1 <= s < index for s in sources) or (index > 0 and -1 in sources):
        raise UserError(f"reads {list(sources)}, expected layers 0 to {index - 1}")
    return sources


def _absolute(index: int, entry: int) -> int:
    """The number of the layer that layer `index` names by `entry`: negative ones count back."""
    if entry < 0:
        return index + entry
    return entry


def _make(module: Module, inputs: Inputs, args: Sequence[object]) -> tuple[nn.Module, int, int]:
    """A layer, its output's channels and its output's stride in pixels; 0 and 0 of a head."""
    if inputs.scale.repeats(inputs.number) > 1 and not module.is_repeated:
        raise UserError(f"number is {inputs.number}, expected 1; only C3 is repeated here")
    if len(inputs.widths) > 1 and not module.reads_several:
        raise UserError(f"reads {len(inputs.widths)} layers, expected one")
    module.check(args, inputs.keys)
    layer, width, stride = module.build(inputs, *args)
    if stride and COARSEST % stride:
        raise UserError(
            f"its map has a stride of {stride}, expected a divisor of {COARSEST}; "
            "models with a level P6 are not supported here"
        )
    return layer, width, stride


def source_of(cfg: str | Path | Mapping) -> str:
    """What errors call a model YAML: its path, if it has one."""
    if isinstance(cfg, Mapping):
        return CONFIGURATION
    return str(cfg)


def load_model_yaml(
    cfg: str | Path | Mapping, required: tuple[str, ...] = ("nc", "anchors", "backbone", "head")
) -> dict:
    """The content of a model YAML, with the keys it must have.

    Raises:
        UserError: no such file, not a mapping, keys missing, or a key that asks for what is not
            done here.
    """
    source = source_of(cfg)
    if not isinstance(cfg, Mapping):
        cfg = read_yaml_mapping(find_file(cfg), MODEL_YAML_HINT)
        for key in sorted(cfg.keys() - KNOWN_KEYS, key=str):
            LOGGER.warning(
                f"warning: {source}: unknown key '{key}' is ignored{did_you_mean(key, KNOWN_KEYS)}"
            )
    missing = [key for key in required if key not in cfg]
    if missing:
        raise UserError(f"{source}: keys {missing} are missing; expected YOLOv5's model YAML")
    for key, (expected, holds) in FIXED_KEYS.items():
        if cfg.get(key) is not None and not holds(cfg[key]):
            raise UserError(
                f"{source}: {key} is {cfg[key]!r}, expected {expected}, which is all there is here"
            )
    for key in ("backbone", "head"):
        if not isinstance(cfg[key], list | tuple) or not cfg[key]:
            raise UserError(
                f"{source}: {key} is {cfg[key]!r}, expected rows of [from, number, module, args]"
            )
    return dict(cfg)


def sized(cfg: str | Path | Mapping, size: str) -> dict:
    """The content of a model YAML, in one of YOLOv5's sizes; "" is the size that the YAML has."""
    content = load_model_yaml(cfg)
    if size:
        content["depth_multiple"], content["width_multiple"] = SIZES[size]
    return content


def without_fixed_keys(cfg: Mapping) -> dict:
    """A model YAML's content without the keys for which there is one value only."""
    return {key: value for key, value in cfg.items() if key not in FIXED_KEYS}


def class_count(nc: object, source: str, fewest: int = 1) -> int:
    """The number of box classes, checked.

    Raises:
        UserError: it is none.
    """
    if not is_whole(nc, fewest, MOST_CLASSES):
        raise UserError(
            f"{source}: nc is {nc!r}, expected a whole number from {fewest} to {MOST_CLASSES}"
        )
    return nc


def _multiple(cfg: Mapping, key: str, source: str) -> float:
    value = cfg.get(key, 1.0)
    if type(value) not in (int, float) or not 0 < value <= LARGEST_MULTIPLE:
        raise UserError(
            f"{source}: {key} is {value!r}, expected a number above 0, at most {LARGEST_MULTIPLE:g}"
        )
    return value


def _resolve(args: object, values: Mapping) -> list[object]:
    """A row's args with names replaced by what they stand for; PyYAML reads None as text."""
    if not isinstance(args, list | tuple):
        raise UserError(f"args are {args!r}, expected a list")
    named = {**values, "None": None}
    resolved, unknown = [], []
    for arg in args:
        if isinstance(arg, str):
            arg = named.get(arg, arg)
        if isinstance(arg, str) and arg in PLACEHOLDERS:
            unknown.append(arg)
        resolved.append(arg)
    if unknown:
        raise UserError(f"{sorted(unknown)} has no value in this kind of model")
    return resolved
