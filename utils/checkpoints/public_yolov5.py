"""Reads a checkpoint of the public YOLOv5, a pickled model, without running anything in it.

Such a file is a zip archive: `data.pkl`, a pickle that builds the model's objects and names classes
and functions to do so, and `data/N`, the tensors' bytes. A pickle can name any function of the
machine and call it. `Reader` lets it name those on its list only, and has stand-ins for all of
them: a class of the model becomes a `Part` that takes its attributes and does nothing, a function
that rebuilds a tensor becomes ours, and what a trainer notes beside the model (dates, options,
NumPy's numbers) becomes a `Note`, which nobody calls. Whatever else is named is refused.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.builders import COARSEST, STRIDES
from models.common import Detect
from models.graph import load_model_yaml
from models.yolo import DetectionModel
from utils.checkpoints.checkpoint import FORMAT
from utils.checkpoints.foreign import ZIP_ERRORS, foreign_kind
from utils.checkpoints.schema import check_checkpoint, check_finite, is_mapping
from utils.core.script import UserError
from utils.core.user_file import require_regular
from utils.core.values import is_whole

STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Whose classes become parts: the public trainer's models, and the layers they are built of.
PART_MODULES = ("models.yolo", "models.common", "models.experimental", "torch.nn.modules.")
USUAL_SIZE = 640  # pixels, YOLOv5's default
# What a layer does besides its weights: class -> the attributes that decide it.
BEHAVIOUR = {
    "Conv2d": ("kernel_size", "stride", "padding", "dilation", "groups"),
    "BatchNorm2d": ("eps",),
    "MaxPool2d": ("kernel_size", "stride", "padding"),
    "Upsample": ("size", "scale_factor", "mode"),
    "Bottleneck": ("add",),
}


class Part:
    """Stands in for a model or a layer of the file: it has the attributes, and no behaviour.

    Each class that a file names has a subclass of this one, of the same name.
    """


class Note:
    """Stands in for what is noted beside a model: a date, options, a number.

    At most its attributes are read.
    """

    def __new__(cls, *arguments: object, **named: object) -> Note:
        return super().__new__(cls)

    def __init__(self, *arguments: object, **named: object):
        pass

    def __setstate__(self, state: object) -> None:
        if is_mapping(state):
            vars(self).update(state)


class Reader(pickle.Unpickler):
    """See the module's docstring."""

    def __init__(self, archive: zipfile.ZipFile, folder: str):
        super().__init__(archive.open(f"{folder}/data.pkl"))
        self._archive = archive
        self._folder = folder
        self._bytes: dict[str, Tensor] = {}
        self._parts: dict[str, type[Part]] = {}

    def find_class(self, module: str, name: str) -> object:
        if f"{module}.{name}" in STAND_INS:
            return STAND_INS[f"{module}.{name}"]
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module.startswith(PART_MODULES) and "." not in name:
            return self._parts.setdefault(name, type(name, (Part,), {}))
        raise pickle.UnpicklingError(
            f"it names {module}.{name}, which is not a part of a YOLOv5 model"
        )

    def persistent_load(self, pid: object) -> Tensor:
        """The flat tensor of a storage.

        Args:
            pid: "storage", type, number of the file in data/, device, length.
        """
        _, dtype, number, _, length = pid
        if number not in self._bytes:
            self._bytes[number] = self._tensor(number, dtype)
        if len(self._bytes[number]) < length:
            raise pickle.UnpicklingError(f"data/{number} is too short")
        return self._bytes[number]

    def _tensor(self, number: str, dtype: torch.dtype) -> Tensor:
        content = bytearray(self._archive.read(f"{self._folder}/data/{number}"))
        if not content:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(content, dtype=dtype)


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple, stride: tuple, *rest: object
) -> Tensor:
    return torch.as_strided(storage, size, stride, offset).clone()


def _rebuild_parameter(data: Tensor, *rest: object) -> Tensor:
    return data


NOTES = (
    "torch.device",
    "argparse.Namespace",
    "types.SimpleNamespace",
    "_codecs.encode",  # bytes, which dates and NumPy's numbers are made of
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib._local.PosixPath",  # Python 3.13
    "pathlib._local.WindowsPath",
    "datetime.datetime",
    "datetime.date",
    "datetime.time",
    "datetime.timedelta",
    "datetime.timezone",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
)
STAND_INS: dict[str, Callable] = dict.fromkeys(NOTES, Note) | {
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch.Size": tuple,
    "collections.OrderedDict": OrderedDict,
    "__builtin__.set": set,
    "builtins.set": set,
}


def is_public_yolov5(path: str | Path) -> bool:
    """Whether a file is a zip archive whose pickle names the public trainer's model class.

    And not our format.
    """
    try:
        require_regular(path)
        with zipfile.ZipFile(path) as archive:
            content = archive.read(f"{_folder(archive)}/data.pkl")
    except (StopIteration, *ZIP_ERRORS):
        return False
    is_ours = FORMAT.encode() in content
    return b"models.yolo" in content and not is_ours and not any(foreign_kind(path))


def _folder(archive: zipfile.ZipFile) -> str:
    """The one folder of the archive, named by whoever wrote it."""
    file = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
    return file.removesuffix("/data.pkl")


def read_public_yolov5(path: str | Path) -> dict[str, Tensor]:
    """The state dict, in float32, of the model in a public YOLOv5 checkpoint.

    Of its moving average, if it has one. The names are YOLOv5's, so ours
    (`model.0.conv.weight`, ...).

    Raises:
        UserError: the file is damaged, or names something that is not a part of a YOLOv5 model.
    """
    return _read(path)[1]


def public_checkpoint(path: str | Path) -> dict[str, object]:
    """A public YOLOv5 detector as `load_checkpoint` returns one of ours.

    It has boxes only, no threshold and no data. The architecture is that of the YAML in the file,
    and the layers in the file must do what ours do.

    Raises:
        UserError: see `read_public_yolov5`; or a model that cannot be built here, such as one with
            a level P6.
    """
    model, state, content = _read(path)
    cfg = getattr(model, "yaml", None)
    if not is_mapping(cfg):
        raise UserError(f"{path}: no detector of the public YOLOv5: it holds no model YAML")
    built = _build(cfg, state, path)
    difference = next(_differences(model, built), None)
    if difference:
        raise UserError(
            f"{path}: {difference}; a model of a changed YOLOv5, which is not supported here"
        )
    checkpoint = {
        "version": None,
        "kind": built.kind,
        "arguments": built.arguments(),
        "options": {"imgsz": _image_size(content.get("opt")), "data": "", "rect": False},
        "names": _names(model, built.cfg["nc"], path),
        "view_names": [],
        "view_prior": None,
        "confidence": None,
        "fingerprint": "",
        "model": state,
    }
    check_checkpoint(checkpoint, path)
    return checkpoint


def _read(path: str | Path) -> tuple[Part, dict[str, Tensor], Mapping]:
    """The model of a public checkpoint, averaged if there is such, its state dict, all content."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = Reader(archive, _folder(archive)).load()
        model = content.get("ema") or content["model"]
        if not isinstance(model, Part):
            raise TypeError(f"its model is a {type(model).__name__}")
        state = state_dict(model)
        for name, tensor in state.items():
            if tensor.is_floating_point():
                state[name] = tensor.float()
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: refused: {error}; nothing in it was executed") from None
    except Exception as error:  # a damaged file can raise anything
        raise UserError(
            f"{path}: not a readable YOLOv5 checkpoint ({type(error).__name__}: {error})"
        ) from None
    check_finite(state, path, "model")
    return model, state, content


def _build(cfg: Mapping, state: Mapping[str, Tensor], path: str | Path) -> DetectionModel:
    """The YAML's model with the anchors of the weights; the YAML may have only their number."""
    try:
        cfg = load_model_yaml(cfg)
        last = len(cfg["backbone"]) + len(cfg["head"]) - 1
        levels = state.get(f"model.{last}.anchors")
        if levels is None or levels.dim() != 3:
            raise UserError("no detector of the public YOLOv5: its last layer has no anchors")
        anchors = [
            (level * stride).flatten().tolist()
            for level, stride in zip(levels, STRIDES, strict=False)
        ]
        return DetectionModel(cfg | {"anchors": anchors})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _differences(part: Part, ours: nn.Module, place: str = "") -> Iterator[str]:
    """What the layers of the file do otherwise than ours of the same place."""
    attributes = vars(part)
    found = type(part).__name__
    expected = type(ours).__name__
    if place and found != expected:
        yield f"layer {place} is {found}, expected {expected}"
        return
    for name in BEHAVIOUR.get(expected, ()):
        own = getattr(ours, name)
        if name in attributes and repr(attributes[name]) != repr(own):
            yield f"layer {place} has {name} {attributes[name]!r}, expected {own}"
    strides = attributes.get("stride")
    if isinstance(ours, Detect) and isinstance(strides, Tensor):
        expected_strides = list(ours.strides)
        if strides.tolist() != expected_strides:
            yield f"layer {place} has strides {strides.tolist()}, expected {expected_strides}"
    children = dict(ours.named_children())
    for name, below in attributes.get("_modules", {}).items():
        if isinstance(below, Part) and name in children:  # others are missed with their weights
            place_below = f"{place}.{name}".removeprefix(".")
            yield from _differences(below, children[name], place_below)


def _names(model: Part, count: int, path: str | Path) -> list[str]:
    """Of the box classes, in the file a list, or a mapping of numbers."""
    unnamed = [str(number) for number in range(count)]  # as YOLOv5 calls them
    names = getattr(model, "names", unnamed)
    if isinstance(names, Mapping):
        names = [names.get(number) for number in range(len(names))]
    is_list = isinstance(names, list | tuple) and len(names) == count
    if not is_list or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: names are {names!r}, expected {count}, as the model has classes")
    return list(names)


def _image_size(options: object) -> int:
    """Side of the square it was trained for, pixels; YOLOv5's default where the file has none.

    A multiple of 32, as in YOLOv5.
    """
    if isinstance(options, Note):
        options = vars(options)
    if not is_mapping(options):
        return USUAL_SIZE
    size = options.get("imgsz", options.get("img_size", USUAL_SIZE))
    if isinstance(size, list | tuple) and size:
        size = size[0]
    if not is_whole(size, 1, 2**16):
        return USUAL_SIZE
    return -(-size // COARSEST) * COARSEST


def state_dict(part: object, prefix: str = "") -> dict[str, Tensor]:
    """Parameters and buffers of a part and of all below it, named as by `nn.Module.state_dict`."""
    attributes: Mapping = vars(part)
    own = {**attributes.get("_parameters", {}), **attributes.get("_buffers", {})}
    found = {
        f"{prefix}{name}": tensor for name, tensor in own.items() if isinstance(tensor, Tensor)
    }
    for name, below in attributes.get("_modules", {}).items():
        if below is not None:
            found |= state_dict(below, f"{prefix}{name}.")
    return found
