"""The monitor reads what a disk or another program may leave of a run, and tells the rest."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up_runs import FIGURES, log_epochs, set_progress

from utils.loggers.monitor import describe, is_alive, read_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty run folder."""
    path = tmp_path / "exp"
    path.mkdir()
    return path


ODD_VALUES = (
    None,
    True,
    False,
    "",
    "3",
    "\x1b[2J",
    [],
    [1],
    {},
    {"a": 1},
    -1,
    -(10**30),
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    -float("inf"),
    1e300,
    0,
)
KEYS = ("state", "pid", "updated", "epoch", "epochs", "batch", "batches", "started")
ODD_CELLS = (
    "",
    " ",
    "x",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "3.5",
    "0x3",
    "9" * 400,
    '"',
    "\x1b[2J",
)
ODD_JSON = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"3",
    b'"text"',
    b"[" * 60_000,
    b"{}",
    b"NaN",
    b'{"pid": 9' + b"9" * 5000,
    b"\xff\xfe",
    b"\x00",
    b"\xef\xbb\xbf{}",
    b'{"updated": ' + b"1" * 5000 + b"}",
)
ODD_CSV = (
    b"",
    b"\n",
    b"\n\n\n",
    b"\xff\xfe\n\xff\n",
    b"\x00\n\x00\n",
    b"epoch\n",
    b"epoch\n\n\n",
    b"x\n1\n",
    b'"epoch\n0\n',
    b'epoch,a\n0,"\n1,2\n',
    b"epoch,epoch\n0,1\n",
    b"epoch\n" + b"9" * 200_000 + b"\n",
    b"e" * 200_000 + b"\n1\n",
    b'epoch\n"' + b"9" * 200_000,
    b"epoch\r1\r",
    b"epoch;a\n0;1\n",
    b",,,\n,,,\n",
)


def shown(folder: Path) -> str:
    """The run in words, which name it."""
    text = "\n".join(describe(read_run(folder), time.time()))
    assert text.startswith(f"{folder}: ") and len(text) < 2000
    return text


@pytest.mark.parametrize("key", KEYS)
def test_an_odd_value_of_the_progress_counts_as_not_said(folder: Path, key: str):
    log_epochs(folder, epochs=2)
    known = {"pid": os.getpid(), "state": "training", "updated": time.time(), "epoch": 1}
    known |= {"epochs": 10, "batch": 3, "batches": 10}
    for value in ODD_VALUES:
        (folder / "progress.json").write_text(json.dumps(known | {key: value}))
        assert "metrics  mAP50 0.658" in shown(folder)


@pytest.mark.parametrize(
    "pid", [value for value in ODD_VALUES if value != 1.5] + [-2, 2**31, 2**63]
)
def test_only_a_process_that_there_can_be_is_said_to_train(folder: Path, pid: object):
    content = {"pid": pid, "state": "training", "updated": time.time(), "epoch": 1}
    (folder / "progress.json").write_text(json.dumps(content))
    assert read_run(folder).state in ("no process known", "dead")


def test_a_process_that_has_ended_trains_no_more(folder: Path):
    """Even where its parent has not asked how."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(end='')"], stdout=subprocess.PIPE
    ) as process:
        process.stdout.read()  # closed by its end
        content = {"pid": process.pid, "state": "training", "updated": time.time()}
        (folder / "progress.json").write_text(json.dumps(content))
        for _ in range(100):
            if read_run(folder).state == "dead":
                return
            time.sleep(0.05)
        pytest.fail("still said to train")


@pytest.mark.parametrize("number", [0, -1, -(2**31)])
def test_a_group_of_processes_is_no_process(number: int):
    assert not is_alive(number)


@pytest.mark.parametrize("content", ODD_JSON, ids=lambda content: repr(content[:20]))
def test_an_odd_progress_hides_no_figures(folder: Path, content: bytes):
    log_epochs(folder)
    (folder / "progress.json").write_bytes(content)
    text = shown(folder)
    assert ": no process known, last sign of life" in text and "mAP50 0.658" in text
    assert ("\n  problem  " in text) == (not content.endswith(b"{}"))


@pytest.mark.parametrize("name", ["results.csv", "gradnorm.csv"])
@pytest.mark.parametrize("content", ODD_CSV, ids=lambda content: repr(content[:20]))
def test_an_odd_table_hides_no_progress(folder: Path, name: str, content: bytes):
    set_progress(folder, epoch=3, batch=4, batches=10)
    (folder / name).write_bytes(content)
    assert "  epoch    4/10   batch 5/10   " in shown(folder)


@pytest.mark.parametrize("column", ["epoch", *FIGURES])
def test_an_odd_cell_hides_no_other(folder: Path, column: str):
    other = "metrics/mAP_0.5"
    for cell in ODD_CELLS:
        row = {name: str(value) for name, value in FIGURES.items()} | {"epoch": "0", column: cell}
        lines = [",".join(row), ",".join(row.values()), ""]
        (folder / "results.csv").write_text("\n".join(lines))
        is_hidden = column in ("epoch", other) or cell == '"'
        assert is_hidden or "mAP50 0.658" in shown(folder)
        shown(folder)


@pytest.mark.parametrize("name", ["progress.json", "results.csv", "gradnorm.csv"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling", "refused"])
def test_a_file_that_is_none_hides_no_other(folder: Path, monkeypatch, name: str, kind: str):
    log_epochs(folder)
    set_progress(folder)
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to(folder / "nothing")
    else:
        path.write_text("{}\n")
        refuse_to_open(monkeypatch, path)
    text = shown(folder)
    assert ("  problem  " in text) == (kind == "refused")
    assert name == "results.csv" or "mAP50 0.658" in text
    assert name == "progress.json" or ": training" in text


def refuse_to_open(monkeypatch: pytest.MonkeyPatch, refused: Path) -> None:
    """As the system does to others than the owner and root."""
    really_open = Path.open

    def open_or_refuse(path: Path, *arguments: object, **options: object):
        if path == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_or_refuse)
