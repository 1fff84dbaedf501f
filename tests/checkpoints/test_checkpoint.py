"""Checkpoints come back as they were, hold data only, and are never half-written."""

import contextlib
import errno
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from traps import Trap

from models.yolo import YOLOv5WithClassification
from utils.checkpoints.checkpoint import (
    FORMAT,
    VERSION,
    read_checkpoint,
    save_checkpoint,
    transfer_weights,
)
from utils.core.script import UserError

CONTENT = {
    "kind": "joint",
    "epoch": 3,
    "best_fitness": float("-inf"),
    "confidence": None,
    "names": ["AR", "\u5fc3"],
    "options": {"data": "a b.yaml", "cos_lr": True, "lr0": 0.1},
    "model": {
        "model.0.conv.weight": torch.arange(6.0).reshape(2, 3),
        "model.0.bn.num_batches_tracked": torch.tensor(7),
    },
    "ema": {"model": {"x": torch.tensor([1.5], dtype=torch.bfloat16)}, "updates": 11},
}


# ---- round trip ----------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path: Path):
    path = tmp_path / "new/folder/\u5fc3 last.pt"
    save_checkpoint(path, CONTENT)
    loaded = read_checkpoint(path)
    assert (loaded.pop("format"), loaded.pop("version")) == (FORMAT, VERSION)
    assert loaded.keys() == CONTENT.keys()
    plain = CONTENT.keys() - {"model", "ema"}
    assert {key: loaded[key] for key in plain} == {key: CONTENT[key] for key in plain}
    for name, tensor in CONTENT["model"].items():
        assert loaded["model"][name].dtype == tensor.dtype and torch.equal(
            loaded["model"][name], tensor
        )
    assert loaded["ema"]["model"]["x"].dtype == torch.bfloat16 and loaded["ema"]["updates"] == 11
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_optimiser_state_goes_through_a_file(tmp_path: Path):
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW([{"params": layer.parameters(), "name": "decay"}], lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path / "a.pt", {"optimizer": optimizer.state_dict()})
    loaded = read_checkpoint(tmp_path / "a.pt")["optimizer"]
    assert loaded["param_groups"] == optimizer.state_dict()["param_groups"]
    for key, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(loaded["state"][key][name], value) for name, value in state.items())


# ---- files that are no checkpoints ---------------------------------------------------------------


def saved(content: object, **options: object) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path, **options)


def cut(share: float, write: Callable[[Path], object]) -> Callable[[Path], None]:
    """What `write` writes, its end missing."""

    def write_part(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return write_part


def plain_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")


OURS = {"format": FORMAT, "version": VERSION, **CONTENT}
NO_CHECKPOINTS = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("weights: see the other folder\n"),
    "YAML": lambda path: path.write_text("lr0: 0.01\n"),
    "picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
    "zeros": lambda path: path.write_bytes(bytes(1000)),
    "zip of something else": plain_zip,
    "half a checkpoint": cut(0.5, saved(OURS)),
    "almost a checkpoint": cut(0.99, saved(OURS)),
    "half a checkpoint, old container": cut(0.5, saved(OURS, _use_new_zipfile_serialization=False)),
    "a pickle cut in a number": lambda path: path.write_bytes(b"\x80\x02}q\x00X\x06\x00"),
    "a pickle cut before its value": lambda path: path.write_bytes(b"\x80\x02}q\x00X\x01\x00\x00\x00a"),
    "a pickle that pops too much": lambda path: path.write_bytes(b"\x80\x020."),
    "a pickle with an unhashable key": lambda path: path.write_bytes(b"\x80\x02}}Ns."),
    "foreign state dict": saved({"model.0.weight": torch.zeros(2)}),
    "foreign format": saved({**OURS, "format": "another"}),
    "no dictionary": saved([1, 2, 3]),
    "a tensor": saved(torch.zeros(3)),
    "a whole model": saved(nn.Linear(2, 2)),
    "another version": saved({**OURS, "version": VERSION + 1}),
    "no version": saved({"format": FORMAT}),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_CHECKPOINTS)
@pytest.mark.filterwarnings("ignore")  # torch's remarks on old containers
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path: Path, kind: str):
    path = tmp_path / "a.pt"
    NO_CHECKPOINTS[kind](path)
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


# ---- hostile files -------------------------------------------------------------------------------


TRAPS = {
    "open": lambda marker: Trap(open, str(marker), "w"),
    "os.system": lambda marker: Trap(os.system, f'echo 1 > "{marker}"'),
}
CONTAINERS = {
    "pickle": lambda content, path, protocol: path.write_bytes(pickle.dumps(content, protocol)),
    "zip": lambda content, path, protocol: torch.save(content, path, pickle_protocol=protocol),
    "old container": lambda content, path, protocol: torch.save(
        content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("place", ["alone", "inside"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_execute_is_refused(
    tmp_path: Path, trap: str, container: str, protocol: int, place: str
):
    path, marker = tmp_path / "hostile.pt", tmp_path / "created"
    content = TRAPS[trap](marker)
    CONTAINERS[container](
        content if place == "alone" else OURS | {"model": content}, path, protocol
    )
    with pytest.raises(UserError, match=rf"{re.escape(str(path))}: refused"):
        read_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("trap", TRAPS)
def test_the_traps_would_work(tmp_path: Path, trap: str):
    path, marker = tmp_path / "hostile.pt", tmp_path / "created"
    path.write_bytes(pickle.dumps(TRAPS[trap](marker)))
    careless = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", careless, str(path)], check=True, timeout=60)
    assert marker.exists()


# ---- never half-written --------------------------------------------------------------------------


@contextlib.contextmanager
def room_for(byte_count: int) -> Iterator[None]:
    """Within the context the system refuses to let a file grow beyond this size."""
    resource = pytest.importorskip("resource", reason="needs limits, which Windows lacks")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (byte_count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.99, 1])
@pytest.mark.parametrize("name", ["last.pt", "\u5fc3.pt"])
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, name: str, share: float):
    """Wherever in the file the disk gets full, the error names the file and says what the system
    said.
    """
    path, larger = tmp_path / name, CONTENT | {"model": {"weight": torch.zeros(100, 1000)}}
    save_checkpoint(path, larger)
    size = path.stat().st_size
    save_checkpoint(path, CONTENT)
    before = path.read_bytes()
    with (
        pytest.raises(OSError, match="cannot be written: File too large") as error,
        room_for(int(share * (size - 1))),
    ):
        save_checkpoint(path, larger)
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_what_has_nothing_to_do_with_the_disk_is_not_blamed_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*arguments: object) -> None:
        raise RuntimeError("a tensor of a strange kind")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="strange"):
        save_checkpoint(tmp_path / "last.pt", CONTENT)


# ---- transfer ------------------------------------------------------------------------------------


def two_layers(inner: int, outputs: int = 1) -> nn.Module:
    return nn.Sequential(nn.Linear(2, inner), nn.Linear(inner, outputs))


def test_matching_tensors_are_transferred_and_the_rest_is_left(caplog: pytest.LogCaptureFixture):
    source, target = two_layers(3), two_layers(3, outputs=5)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with caplog.at_level("INFO"):
        count = transfer_weights(
            target, {**source.state_dict(), "9.weight": torch.zeros(1)}, "old.pt"
        )
    after = target.state_dict()
    assert count == 2
    assert all(
        torch.equal(after[name], source.state_dict()[name]) for name in ("0.weight", "0.bias")
    )
    assert all(torch.equal(after[name], before[name]) for name in ("1.weight", "1.bias"))
    (record,) = caplog.records
    assert (
        "old.pt" in record.message
        and "2 of 4" in record.message
        and re.search(r"left.*: 1$", record.message)
    )


def test_everything_is_transferred_to_the_same_architecture(caplog: pytest.LogCaptureFixture):
    source, target = two_layers(3), two_layers(3)
    with caplog.at_level("INFO"):
        assert transfer_weights(target, source.state_dict(), "old.pt") == 4
    assert "4 of 4" in caplog.text and "left" not in caplog.text
    assert all(
        torch.equal(target.state_dict()[name], tensor)
        for name, tensor in source.state_dict().items()
    )


@pytest.mark.parametrize(
    ("nc", "views", "tasks", "left"),
    [
        (
            2,
            2,
            ["detection", "classification"],
            "model.24.m.0, model.24.m.1, model.24.m.2, model.25.linear",
        ),
        (2, 3, ["detection", "classification"], "model.24.m.0, model.24.m.1, model.24.m.2"),
        (4, 5, ["detection", "classification"], "model.25.linear"),
        (2, 0, ["detection"], "model.24.m.0, model.24.m.1, model.24.m.2"),
    ],
)
def test_of_other_classes_all_but_the_heads_is_taken_and_said(
    nc: int, views: int, tasks: list, left: str, caplog: pytest.LogCaptureFixture
):
    cfg = "models/yolov5n_joint.yaml"
    source = YOLOv5WithClassification(cfg, nc=4, views=3)
    target = YOLOv5WithClassification(cfg, nc=nc, views=views, tasks=tasks)
    with caplog.at_level("INFO"):
        count = transfer_weights(target, source.state_dict(), "other.pt")
    total = len(target.state_dict())
    assert f"other.pt: transferred {count} of {total} tensors" in caplog.text
    assert f"left as initialised: {left}" in caplog.text
    assert total - count == 2 * len(left.split(", "))
    trunk = "model.0.conv.weight"
    assert torch.equal(target.state_dict()[trunk], source.state_dict()[trunk])


def test_nothing_to_transfer_is_an_error():
    with pytest.raises(UserError, match=r"old\.pt: none of its 4 tensors"):
        transfer_weights(
            two_layers(3), nn.Sequential(nn.Linear(7, 7), nn.Linear(7, 7)).state_dict(), "old.pt"
        )
