"""Checkpoints of tensors and plain types, read without running anything.

`torch.load(weights_only=True)` refuses every object that a pickle could execute, so a file from a
stranger is either data or an error.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from models.graph import without_fixed_keys
from utils.checkpoints.foreign import refuse_content, refuse_file
from utils.checkpoints.schema import check_checkpoint, check_resumable
from utils.core.files import write_atomically
from utils.core.script import LOGGER, UserError
from utils.core.user_file import require_regular

FORMAT = "yolov5-joint-gradnorm"
VERSION = 2
YAMLS = ("cfg", "classifier_cfg")  # arguments of models that are a model YAML's content
# Versions that evaluate and fine-tune; only the newest is resumed, as the defaults changed.
READABLE = (1, 2)


def save_checkpoint(path: Path, content: Mapping[str, object]) -> None:
    """Write `content` (tensors and plain types) to a temporary file, then rename it to `path`.

    Raises:
        OSError: see `write_atomically`.
    """
    stamped = {"format": FORMAT, "version": VERSION, **content}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: _save(stamped, temporary))


def _save(content: Mapping[str, object], path: Path) -> None:
    with path.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:
            # PyTorch fails on what it has not written, and so hides the file system's error.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: str | Path) -> dict[str, object]:
    """Read a checkpoint of this project onto the CPU, and hold it against the schema.

    A confidence of 0, which older versions stored where no threshold found a box, becomes None; and
    the model YAML in an older file loses the keys that were passed by then, and are honoured or
    refused now.

    Raises:
        UserError: see `read_checkpoint`; a key is missing or wrong, or weights are not finite.
    """
    content = read_checkpoint(path)
    check_checkpoint(content, path)
    content = content | {"confidence": content["confidence"] or None}
    if content["version"] == 1:
        arguments = dict(content["arguments"])
        for key in arguments.keys() & set(YAMLS):
            arguments[key] = without_fixed_keys(arguments[key])
        content["arguments"] = arguments
    return content


def require_resumable(content: Mapping[str, object], path: str | Path) -> None:
    """Hold what `load_checkpoint` returned against what resuming its training needs.

    Raises:
        UserError: it was written by an older version, or a key is missing or wrong.
    """
    if content["version"] != VERSION:
        raise UserError(
            f"{path}: written by an older version "
            f"(format {content['version']}, expected {VERSION}), whose defaults differ; "
            f"it evaluates and fine-tunes (--weights {path}), but cannot be resumed"
        )
    check_resumable(content, path)


def read_checkpoint(path: str | Path) -> dict[str, object]:
    """Whatever a file of this project's format holds, its bytes checked against its checksums.

    Raises:
        UserError: no such file, no regular one, damaged, one that holds objects rather than data,
            or another format or version.
    """
    path = Path(path)
    require_checkpoint_file(path)
    try:
        _verify(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: refused: the file is damaged, or holds Python objects that loading would "
            "execute; expected a checkpoint of tensors and plain values, "
            "as train_joint_gradnorm.py writes"
        ) from None
    except Exception as error:  # a damaged file can raise anything
        raise UserError(
            f"{path}: not a readable checkpoint ({reason_of(error)}); is the file complete?"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        refuse_content(path, content)
        raise UserError(
            f"{path}: not a checkpoint of this project; expected one from train_joint_gradnorm.py"
        )
    version = content.get("version")
    if type(version) is not int or version not in READABLE:
        expected = " or ".join(map(str, READABLE))
        raise UserError(
            f"{path}: checkpoint version {version}, expected {expected}; "
            "use the program that wrote it"
        )
    return content


def require_checkpoint_file(path: Path) -> None:
    """Raise a `UserError` for what cannot be a checkpoint, as its first bytes show."""
    try:
        require_regular(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such checkpoint; "
            "expected a .pt file such as runs/train/exp/weights/last.pt; "
            "to train from YOLOv5's own, use --weights yolov5s.pt --download"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}; "
            "expected a .pt file such as runs/train/exp/weights/last.pt"
        ) from None
    refuse_file(path)


def reason_of(error: Exception) -> str:
    """The first line of an error's text; its type where it has none."""
    if not str(error):
        return type(error).__name__
    return str(error).splitlines()[0]


def _verify(path: Path) -> None:
    """Compare a zip archive with its checksums; PyTorch does not.

    Raises:
        pickle.UnpicklingError: it is no zip archive, so a bare pickle, or nothing that PyTorch
            writes.
        zipfile.BadZipFile: the bytes are not those that were written.
    """
    if not zipfile.is_zipfile(path):
        raise pickle.UnpicklingError
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise zipfile.BadZipFile(f"{damaged} differs from its checksum")


def averaged_weights(content: Mapping[str, object]) -> Mapping[str, torch.Tensor]:
    """The moving average's state dict, where a checkpoint has one besides the trained weights."""
    if "ema" in content:
        return content["ema"]["model"]
    return content["model"]


def transfer_weights(
    model: nn.Module, state: Mapping[str, torch.Tensor], source: str | Path
) -> int:
    """Copy the tensors whose name and shape `model` shares with `state`, and log how many.

    Returns:
        How many.

    Raises:
        UserError: nothing matches.
    """
    own = model.state_dict()
    matching = {name: t for name, t in state.items() if name in own and own[name].shape == t.shape}
    if not matching:
        raise UserError(
            f"{source}: none of its {len(state)} tensors fits this model; "
            "is it another architecture?"
        )
    model.load_state_dict(matching, strict=False)
    message = f"{source}: transferred {len(matching)} of {len(own)} tensors"
    left = {name.rsplit(".", 1)[0] for name in own.keys() - matching.keys()}
    if left:
        message += f"; left as initialised: {', '.join(sorted(left))}"
    LOGGER.info(message)
    return len(matching)
