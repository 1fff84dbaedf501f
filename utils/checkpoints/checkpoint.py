"""Checkpoints of tensors and plain types, read without running anything.

`torch.load(weights_only=True)` refuses every object that a pickle could execute, so a file from a stranger
is either data or an error.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from utils.core.files import write_atomically
from utils.core.script import LOGGER, UserError

FORMAT = "yolov5-joint-gradnorm"
VERSION = 1


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
            # PyTorch trips over what it has not written, and so hides what the file system said.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: str | Path) -> dict[str, object]:
    """Read a checkpoint of this project onto the CPU.

    Raises:
        UserError: no such file, not a checkpoint, one that holds objects rather than data, or another format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint; expected a .pt file such as runs/train/exp/weights/last.pt; "
            "to train from YOLOv5's own, use --weights yolov5s.pt --download"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: refused: the file is damaged, or holds Python objects that loading would execute; "
            "expected a checkpoint of tensors and plain values, as train_joint_gradnorm.py writes"
        ) from None
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a readable checkpoint ({reason}); is the file complete?") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of this project; expected one from train_joint_gradnorm.py")
    if content.get("version") != VERSION:
        raise UserError(f"{path}: checkpoint version {content.get('version')}, expected {VERSION}; train it again")
    return content


def averaged_weights(content: Mapping[str, object]) -> Mapping[str, torch.Tensor]:
    """The moving average's state dict, where a checkpoint has one besides the trained weights."""
    return content["ema"]["model"] if "ema" in content else content["model"]


def transfer_weights(model: nn.Module, state: Mapping[str, torch.Tensor], source: str | Path) -> int:
    """Copy the tensors whose name and shape `model` shares with `state`; logs n of m and what was left.

    Raises:
        UserError: nothing matches.
    """
    own = model.state_dict()
    matching = {name: t for name, t in state.items() if name in own and own[name].shape == t.shape}
    if not matching:
        raise UserError(f"{source}: none of its {len(state)} tensors fits this model; is it another architecture?")
    model.load_state_dict(matching, strict=False)
    left = sorted({name.rsplit(".", 1)[0] for name in own.keys() - matching.keys()})
    rest = f"; left as initialised: {', '.join(left)}" if left else ""
    LOGGER.info(f"{source}: transferred {len(matching)} of {len(own)} tensors{rest}")
    return len(matching)
