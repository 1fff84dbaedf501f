"""What a file is that is given as weights and is none of ours: its kind, and what to do."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from utils.core.script import UserError

OURS = (
    "give a checkpoint of this project, such as weights/last.pt of a run, or of the public YOLOv5"
)
ITS_SOURCE = f"it cannot be trained or read back; {OURS}, from which it was made"
OTHER_PROGRAM = f"its layers are not those of YOLOv5; {OURS}"
ONNX = "an ONNX model"

# Beginning of the content -> what the file is, and what to do
BEGINNINGS: Mapping[bytes, tuple[str, str]] = {
    b"PK\x03\x04": ("a part of a zip archive", "copy or fetch it to its end"),
    b"\x89HDF\r\n": ("an HDF5 file, as of Keras", OTHER_PROGRAM),
    b"\x93NUMPY": ("a NumPy array", OURS),
    b"\x1f\x8b": ("a compressed file (gzip)", "unpack it, and give the checkpoint in it"),
    b"7z\xbc\xaf": ("an archive (7z)", "unpack it, and give the checkpoint in it"),
    b"Rar!": ("an archive (RAR)", "unpack it, and give the checkpoint in it"),
    b"BZh": ("a compressed file (bzip2)", "unpack it, and give the checkpoint in it"),
    b"\xfd7zXZ": ("a compressed file (xz)", "unpack it, and give the checkpoint in it"),
    b"ftrt": ("a TensorRT engine", ITS_SOURCE),
    b"\x89PNG": ("a picture", OURS),
    b"\xff\xd8\xff": ("a picture", OURS),
    b"%PDF": ("a PDF document", OURS),
    b"GGUF": ("a GGUF file of a language model", OTHER_PROGRAM),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file itself: git lfs pull"),
    b"\x80": (
        "a pickle, or of PyTorch before 1.6, which loading would execute",
        f"save it anew with the program that wrote it, or {OURS}",
    ),
}
# Part of a name in a zip archive -> the same
MEMBERS: Mapping[str, tuple[str, str]] = {
    "/constants.pkl": ("a TorchScript program", ITS_SOURCE),
    "/code/": ("a TorchScript program", ITS_SOURCE),
    "archive_format": ("an exported program (.pt2)", ITS_SOURCE),
    "serialized_exported_program": ("an exported program (.pt2)", ITS_SOURCE),
    ".npy": ("a file of NumPy arrays (.npz)", f"predictions go to --predictions; {OURS}"),
    ".mlmodel": ("a Core ML package", ITS_SOURCE),
}
# Part of the pickle in a checkpoint, such as the name of a class -> the same
CLASSES: Mapping[bytes, tuple[str, str]] = {
    b"cultralytics.": (
        "a checkpoint of YOLOv8 or later, or of another model of the package ultralytics",
        OTHER_PROGRAM,
    ),
    b"cyolox.": ("a checkpoint of YOLOX", OTHER_PROGRAM),
    b"cmmengine.": ("a checkpoint of MMDetection", OTHER_PROGRAM),
    b"pytorch-lightning_version": ("a checkpoint of PyTorch Lightning", OTHER_PROGRAM),
}
# What reading a part of an archive raises that is damaged, encrypted or packed in an odd way
ZIP_ERRORS = (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
STATE_KEYS = ("state_dict", "model_state_dict", "model", "ema")  # of state dicts in a dict
BEGINNING_BYTES = 4096
TAR_PLACE = 257
TFLITE_PLACE = 4
SHORTEST_ONNX = 8  # bytes


def foreign_kind(path: str | Path) -> tuple[str, str]:
    """What a regular file is, and what to do; empty where nothing is recognised."""
    path = Path(path)
    with path.open("rb") as stream:
        beginning = stream.read(BEGINNING_BYTES)
    if not beginning:
        return "empty", "was it copied or fetched to its end?"
    if zipfile.is_zipfile(path):
        return _kind_of_archive(path)
    for first, found in BEGINNINGS.items():
        if beginning.startswith(first):
            return found
    if beginning[TAR_PLACE:].startswith(b"ustar"):
        return "an archive (tar)", "unpack it, and give the checkpoint in it"
    if beginning[TFLITE_PLACE:].startswith(b"TFL3"):
        return "a TensorFlow Lite model", ITS_SOURCE
    if _is_safetensors(beginning, path):
        return "a safetensors file", f"it has weights alone, and no architecture; {OURS}"
    if _is_onnx(beginning):
        return ONNX, "let its name end in .onnx"
    return _kind_of_text(beginning)


def _kind_of_archive(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickles = [name for name in names if name.endswith("/data.pkl")]
            for part, found in MEMBERS.items():
                if any(part in name for name in names):
                    return found
            if not pickles:
                return "a zip archive", "unpack it, and give the checkpoint in it"
            content = archive.read(pickles[0])
    except ZIP_ERRORS:
        return "", ""
    for part, found in CLASSES.items():
        if part in content:
            return found
    return "", ""


def _is_safetensors(beginning: bytes, path: Path) -> bool:
    """Whether a header of JSON follows its own length."""
    length = int.from_bytes(beginning[:8], "little")
    return beginning[8:9] == b"{" and 2 <= length <= path.stat().st_size - 8


def _is_onnx(beginning: bytes) -> bool:
    """Whether a version and the producer's name, or the graph, begin a protocol buffer."""
    if beginning[:1] != b"\x08" or len(beginning) < SHORTEST_ONNX:
        return False
    producer = beginning[4 : 4 + beginning[3]]
    has_producer = beginning[2:3] == b"\x12" and producer.isascii()
    return beginning[2:3] == b"\x3a" or (has_producer and producer.decode("ascii").isprintable())


def _kind_of_text(beginning: bytes) -> tuple[str, str]:
    text = beginning.decode("utf-8", "replace")
    is_text = all(character.isprintable() or character.isspace() for character in text)
    if not is_text or text.count("\ufffd") > 1:  # one may be cut at the end
        return "", ""
    if text.lstrip().startswith("<"):
        return "a web page", "it was fetched in place of the file; fetch the file itself"
    return "a text file", OURS


def refuse_file(path: Path) -> None:
    """Raise a `UserError` that says what a regular file is, if that is recognised."""
    _refuse(path, *foreign_kind(path))


def refuse_content(path: Path, content: object) -> None:
    """Raise a `UserError` that says what is in a file, if that is recognised."""
    _refuse(path, *kind_of_content(content))


def _refuse(path: Path, kind: str, fix: str) -> None:
    if kind:
        raise UserError(f"{path}: refused: it is {kind}; {fix}")


def kind_of_content(content: object) -> tuple[str, str]:
    """What plain content of a file is, and what to do; empty where it is not recognised."""
    if isinstance(content, Tensor):
        return "a single tensor", OURS
    if not isinstance(content, Mapping):
        return "", ""
    candidates = [content, *(content.get(key) for key in STATE_KEYS)]
    if any(map(_is_state_dict, candidates)):
        return "a state dict: weights without their architecture and names", OURS
    return "", ""


def _is_state_dict(content: object) -> bool:
    is_filled = isinstance(content, Mapping) and len(content) > 0
    return is_filled and all(isinstance(value, Tensor) for value in content.values())
