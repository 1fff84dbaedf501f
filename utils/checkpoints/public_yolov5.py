"""Reads a checkpoint as the public YOLOv5 writes it, a pickled model, without running anything that is in it.

Such a file is a zip archive: `data.pkl`, a pickle that builds the model's objects and names classes and functions to
do so, and `data/N`, the tensors' bytes. A pickle can name any function of the machine and call it. `Reader` lets it
name those on its list only, and has stand-ins for all of them: a class of the model becomes a `Part` that takes its
attributes and does nothing, a function that rebuilds a tensor becomes ours. Whatever else is named is refused.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from utils.core.script import UserError

STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
# Whose classes become parts: the public trainer's models, and the layers they are built of.
PART_MODULES = ("models.yolo", "models.common", "torch.nn.modules.")


class Part:
    """Stands in for a model or a layer of the file: it has the attributes, and no behaviour."""


class Reader(pickle.Unpickler):
    """See the module's docstring."""

    def __init__(self, archive: zipfile.ZipFile, folder: str):
        super().__init__(archive.open(f"{folder}/data.pkl"))
        self._archive, self._folder = archive, folder
        self._bytes: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> object:
        if f"{module}.{name}" in STAND_INS:
            return STAND_INS[f"{module}.{name}"]
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module.startswith(PART_MODULES) and "." not in name:
            return Part
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not a part of a YOLOv5 model")

    def persistent_load(self, pid: object) -> Tensor:
        """The flat tensor of a storage: ("storage", type, number of the file in data/, device, length)."""
        _, dtype, number, _, length = pid
        if number not in self._bytes:
            content = bytearray(self._archive.read(f"{self._folder}/data/{number}"))
            self._bytes[number] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        if len(self._bytes[number]) < length:
            raise pickle.UnpicklingError(f"data/{number} is too short")
        return self._bytes[number]


def _rebuild_tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *rest: object) -> Tensor:
    return torch.as_strided(storage, size, stride, offset).clone()


def _rebuild_parameter(data: Tensor, *rest: object) -> Tensor:
    return data


STAND_INS: dict[str, Callable] = {
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "collections.OrderedDict": OrderedDict,
    "__builtin__.set": set,
    "builtins.set": set,
    "torch.Size": tuple,
    "pathlib.PosixPath": lambda *parts: "/".join(parts),
    "pathlib.WindowsPath": lambda *parts: "/".join(parts),
}


def is_official(path: Path) -> bool:
    """Whether the file is a zip archive whose pickle names the public trainer's model class."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(f"{_folder(archive)}/data.pkl")
    except (OSError, KeyError, StopIteration, zipfile.BadZipFile):
        return False
    return b"models.yolo" in content


def _folder(archive: zipfile.ZipFile) -> str:
    """The one folder of the archive, named by whoever wrote it."""
    return next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("/data.pkl")


def read_official(path: str | Path) -> dict[str, Tensor]:
    """The state dict, in float32, of the model in a public YOLOv5 checkpoint: its moving average if it has one.

    The names are YOLOv5's, so ours (`model.0.conv.weight`, ...).

    Raises:
        UserError: the file is damaged, or names something that is not a part of a YOLOv5 model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = Reader(archive, _folder(archive)).load()
        model = content.get("ema") or content["model"]
        state = state_dict(model)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: refused: {error}; nothing in it was executed") from None
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{path}: not a readable YOLOv5 checkpoint ({type(error).__name__}: {error})") from None
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def state_dict(part: object, prefix: str = "") -> dict[str, Tensor]:
    """Parameters and buffers of a part and of all below it, named as `nn.Module.state_dict` names them."""
    attributes: Mapping = vars(part)
    own = {**attributes.get("_parameters", {}), **attributes.get("_buffers", {})}
    found = {f"{prefix}{name}": tensor for name, tensor in own.items() if isinstance(tensor, Tensor)}
    for name, below in attributes.get("_modules", {}).items():
        if below is not None:
            found |= state_dict(below, f"{prefix}{name}.")
    return found
