"""Whatever a script reads, only regular files are opened; others are said in a line."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_files import write_image, write_yaml

from models.dual_backbone import DualBackbone
from models.graph import load_model_yaml
from utils.checkpoints.checkpoint import load_checkpoint
from utils.checkpoints.model_file import load_any, open_model
from utils.checkpoints.public_yolov5 import is_public_yolov5
from utils.comparison.protocol_file import load_protocol
from utils.core.data_config import load_data_config
from utils.core.device import select_compute
from utils.core.hyperparameters import load_hyperparameters
from utils.core.script import UserError
from utils.curation.frames import inspect_image
from utils.data.image_list import read_image_list
from utils.data.images import read_image
from utils.data.labels import read_label_file
from utils.data.splits import load_split
from utils.evaluation.predictions import read_predictions
from utils.inference.kinds import Content, Kind
from utils.inference.reader import FrameReader
from utils.inference.sources import Source, find_sources

KINDS = {
    "pipe": (os.mkfifo, "it is a named pipe"),
    "folder": (Path.mkdir, "it is a folder"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "terminal": (lambda path: path.symlink_to("/dev/tty"), "it is a device"),
    "link loop": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
}


def open_onnx(path: Path) -> object:
    return open_model(path, DualBackbone, select_compute("off", torch.device("cpu")))


def watch(path: Path) -> object:
    source = Source(path, Path("x"), None, Content(Kind.VIDEO, 0))
    assert source.count() == 0
    return list(source.frames())


READERS = {
    "image": ("a.png", read_image),
    "label": ("a.txt", lambda path: read_label_file(path, 4, 3)),
    "list": ("a.txt", read_image_list),
    "data": ("a.yaml", load_data_config),
    "hyp": ("a.yaml", load_hyperparameters),
    "model": ("a.yaml", load_model_yaml),
    "protocol": ("a.yaml", load_protocol),
    "checkpoint": ("a.pt", load_checkpoint),
    "weights": ("a.pt", load_any),
    "ONNX": ("a.onnx", open_onnx),
    "predictions": ("a.npz", read_predictions),
    "video": ("a.mp4", watch),
}


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """A read that waits is a failure, not a test that never ends."""

    def stop(*_: object) -> None:
        pytest.fail("waits for a file")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_it_is_refused_in_one_line(tmp_path: Path, reader: str, kind: str):
    name, read = READERS[reader]
    path = tmp_path / name
    make, found = KINDS[kind]
    make(path)
    with pytest.raises(UserError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and found in message and "\n" not in message


@pytest.mark.parametrize("kind", KINDS)
def test_an_audit_reports_an_image_of_another_kind(tmp_path: Path, kind: str):
    make, found = KINDS[kind]
    make(tmp_path / "a.png")
    _, problems = inspect_image(tmp_path / "a.png", None)
    assert found in problems["unreadable_image"]


def test_a_folder_of_all_kinds_has_frames_and_problems(tmp_path: Path):
    image = write_image(tmp_path / "whole.png")
    for kind, (make, _) in KINDS.items():
        make(tmp_path / f"{kind}.png")
    reader = FrameReader(find_sources([str(tmp_path)]))
    assert [frame.path for frame in reader] == [image]
    assert len(reader.problems) == len(KINDS)


@pytest.mark.parametrize("key", ["path", "labels", "train"])
def test_a_link_loop_in_a_data_yaml_is_no_traceback(tmp_path: Path, key: str):
    (tmp_path / "loop").symlink_to("loop")
    content = {"train": "x", "val": "y", "names": ["AR"]} | {key: "loop"}
    data = load_data_config(write_yaml(tmp_path, content))
    with pytest.raises(UserError, match="no folder or"):
        load_split(data, "train")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_no_public_checkpoint(tmp_path: Path, kind: str):
    KINDS[kind][0](tmp_path / "a.pt")
    assert not is_public_yolov5(tmp_path / "a.pt")
