"""Weights of other programs, and other files, are recognised and said by name."""

import gzip
import io
import json
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_files import write_image
from torch import nn

from models.dual_backbone import DualBackbone
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.checkpoints.foreign import foreign_kind
from utils.checkpoints.model_file import load_any, open_model
from utils.core.device import select_compute
from utils.core.script import UserError

STATE = {"0.weight": torch.zeros(2, 2), "0.bias": torch.zeros(2)}


def of_package(module: str) -> Callable[[Path], object]:
    """A checkpoint whose pickle names a class of another package."""
    opcodes = f"\x80\x02}}X\x05\x00\x00\x00modelc{module}\nModel\n)\x81s.".encode("latin-1")

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("best/data.pkl", opcodes)
            archive.writestr("best/version", "3\n")

    return write


def members(*names: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")

    return write


def torchscript(path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))


def safetensors(path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("a.pt"), io.BytesIO())


def saved(content: object, **options: object) -> Callable[[Path], object]:
    return lambda path: torch.save(content, path, **options)


def content(*parts: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(b"".join(parts))


FILES = {
    "TorchScript": (torchscript, "a TorchScript program"),
    "safetensors": (safetensors, "a safetensors file"),
    "state dict": (saved(STATE), "a state dict"),
    "state dict in a dict": (saved({"epoch": 3, "state_dict": STATE}), "a state dict"),
    "tensor": (saved(torch.zeros(3)), "a single tensor"),
    "YOLOv8": (of_package("ultralytics.nn.tasks"), "a checkpoint of YOLOv8 or later"),
    "early YOLOv8": (of_package("ultralytics.yolo.engine"), "a checkpoint of YOLOv8 or later"),
    "YOLOv8's folders": (of_package("ultralytics.models.yolo"), "a checkpoint of YOLOv8 or later"),
    "YOLOX": (of_package("yolox.models"), "a checkpoint of YOLOX"),
    "old container": (
        saved(STATE, _use_new_zipfile_serialization=False),
        "a pickle, or of PyTorch before 1.6",
    ),
    "exported program": (members("a/archive_format", "a/data/w"), "an exported program"),
    "arrays": (lambda path: np.savez(path.open("wb"), a=1), "a file of NumPy arrays"),
    "array": (lambda path: np.save(path.open("wb"), 1), "a NumPy array"),
    "zip": (members("readme.txt"), "a zip archive"),
    "cut zip": (content(b"PK\x03\x04", bytes(50)), "a part of a zip archive"),
    "gzip": (content(gzip.compress(b"x")), "a compressed file"),
    "tar": (tar, "an archive (tar)"),
    "HDF5": (content(b"\x89HDF\r\n\x1a\n", bytes(50)), "an HDF5 file"),
    "TensorFlow Lite": (content(bytes(4), b"TFL3", bytes(50)), "a TensorFlow Lite model"),
    "TensorRT": (content(b"ftrt", bytes(50)), "a TensorRT engine"),
    "ONNX": (content(b"\x08\x08\x12\x07pytorch", bytes(50)), "an ONNX model"),
    "ONNX without a producer": (content(b"\x08\x08\x3a\x07", bytes(50)), "an ONNX model"),
    "words": (content(b"see the other folder\n"), "a text file"),
    "YAML": (content("lr0: 0.01 # \u5fc3\n".encode() * 999), "a text file"),
    "web page": (content(b"\n<!DOCTYPE html><html>"), "a web page"),
    "Git LFS": (content(b"version https://git-lfs.github.com/spec/v1\n"), "a pointer of Git LFS"),
    "empty": (content(), "empty"),
    "picture": (write_image, "a picture"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_file_of_another_kind_is_said_by_name(tmp_path: Path, kind: str):
    path = tmp_path / "a.pt"
    write, named = FILES[kind]
    write(path)
    with pytest.raises(UserError) as error, warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's remarks would be further lines
        load_any(path)
    message = str(error.value)
    assert message.startswith(f"{path}: refused: it is {named}") and "\n" not in message
    assert "; " in message  # what to do


@pytest.mark.parametrize("kind", ["TorchScript", "safetensors", "state dict", "words", "empty"])
def test_a_file_of_another_kind_in_the_place_of_onnx(tmp_path: Path, kind: str):
    path = tmp_path / "a.onnx"
    FILES[kind][0](path)
    with pytest.raises(UserError) as error:
        open_model(path, DualBackbone, select_compute("off", torch.device("cpu")))
    assert str(error.value).startswith(f"{path}: ") and "ONNX" in str(error.value)


@pytest.mark.parametrize("spoil", ["encrypted", "packed", "damaged"])
def test_an_archive_that_cannot_be_unpacked_is_refused(tmp_path: Path, spoil: str):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"models.yolo" * 99)
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    if spoil == "encrypted":
        content[directory + 8] |= 1
    elif spoil == "packed":
        content[directory + 10] = 98
    else:
        content[50:54] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_any(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_core_ml_model_is_no_onnx(tmp_path: Path):
    path = tmp_path / "a.mlmodel"
    path.write_bytes(b"\x08\x04\x12\x05\x0a\x03\x0a\x01x" + bytes(50))
    assert foreign_kind(path) == ("", "")


def test_our_own_are_not_foreign(trained: Path, tmp_path: Path):
    assert foreign_kind(trained) == ("", "")
    options = {"data": "/home/ultralytics/yolox/mmengine/data.yaml"}
    save_checkpoint(tmp_path / "code.pt", load_checkpoint(trained) | {"options": options})
    assert foreign_kind(tmp_path / "code.pt") == ("", "")
