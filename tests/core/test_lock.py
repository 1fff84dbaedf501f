"""A folder has one writer.

Who is refused, who takes over, who notices, and what is left at the end.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from utils.core import lock
from utils.core.files import ROOT
from utils.core.lock import LOCK_NAME, FolderInUse, Holder, claim_run_folder, is_in_use, lock_folder
from utils.core.script import UserError
from utils.core.signals import Interrupted, unwound_by_signals
from utils.core.values import to_mapping

HOLD = """
import sys, time
from pathlib import Path
from utils.core.lock import lock_folder

held = lock_folder(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path):
    """A process that holds the lock of `tmp_path`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        yield process
        process.kill()


def write_lock(folder: Path, age_s: float = 0.0, **changes: object) -> Path:
    """A lock of this process, but for `changes`, touched so long ago."""
    holder = to_mapping(Holder.this_process()) | changes
    path = folder / LOCK_NAME
    path.write_text(json.dumps(holder))
    touch(path, age_s)
    return path


def touch(path: Path, age_s: float) -> None:
    now = path.stat().st_mtime
    os.utime(path, (now - age_s, now - age_s))


def test_the_second_is_refused_in_one_line_that_names_the_first(
    other: subprocess.Popen, tmp_path: Path
):
    with pytest.raises(FolderInUse) as refused:
        lock_folder(tmp_path)
    message = str(refused.value)
    assert message.startswith(
        f"{tmp_path}: process {other.pid} on host {socket.gethostname()} is at work there"
    )
    assert "\n" not in message and is_in_use(tmp_path)


@pytest.mark.parametrize("age_s", [0.0, 6.0])
def test_a_lock_without_a_name_is_of_a_process_killed_while_it_made_it(
    tmp_path: Path, age_s: float
):
    (tmp_path / LOCK_NAME).touch()
    touch(tmp_path / LOCK_NAME, age_s)
    if age_s:
        lock_folder(tmp_path)
    else:  # it may still be writing its name
        with pytest.raises(FolderInUse):
            lock_folder(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_process_is_replaced_at_once(other: subprocess.Popen, tmp_path: Path, number: int):
    other.send_signal(number)
    while not lock._read_lock(
        tmp_path / LOCK_NAME
    ).is_free:  # it may be a zombie by then, which is dead too
        time.sleep(0.01)
    with lock_folder(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "age_s", "is_taken_over"),
    [
        ({"host": "elsewhere"}, 0, False),
        ({"host": "elsewhere"}, 590, False),
        ({"host": "elsewhere"}, 610, True),
        ({"host": "elsewhere"}, -3600, False),  # a clock that was set back
        ({"host": "elsewhere", "pid": 2**22 + 1}, 0, False),  # whether it lives is not known here
        ({"pid": 2**22 + 1}, 0, True),
        ({"pid": 2**22 + 1, "machine": "another of this name"}, 0, False),
        ({"pid": 2**22 + 1, "machine": "another of this name"}, 610, True),
        ({"started": "1"}, 0, True),  # the number is another process's by now
        ({"pid": os.getppid(), "started": ""}, 0, False),
        ({"pid": os.getppid(), "started": ""}, 610, True),
        ({"pid": 1, "started": "", "host": "elsewhere"}, 0, False),
        ({"pid": 10**30}, 0, True),
    ],
)
def test_when_a_lock_is_free(tmp_path: Path, changes: dict, age_s: float, is_taken_over: bool):
    write_lock(tmp_path, age_s, **changes)
    assert is_in_use(tmp_path) == (not is_taken_over)
    if not is_taken_over:
        with pytest.raises(FolderInUse):
            lock_folder(tmp_path)
        return
    with lock_folder(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shift_s", [-86400.0, 86400.0])
def test_this_machines_clock_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift_s: float
):
    real_time = time.time
    monkeypatch.setattr(time, "time", lambda: real_time() + shift_s)
    write_lock(tmp_path, host="elsewhere")
    assert is_in_use(tmp_path)
    touch(tmp_path / LOCK_NAME, 601)
    assert not is_in_use(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"pid": 1}',
        b'{"host": 3}',
        b"\xff\xfe",
        b'{"unknown": "key"}',
        b"1e999",
    ],
)
def test_a_lock_that_cannot_be_read_is_somebodys_for_ten_minutes(tmp_path: Path, content: bytes):
    path = tmp_path / LOCK_NAME
    path.write_bytes(content)
    with pytest.raises(FolderInUse, match="on host \\(unknown\\)"):
        lock_folder(tmp_path)
    touch(path, 610)
    with lock_folder(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_of_many_that_find_a_stale_lock_one_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Threads stand for processes, so that a lock of this process is not free for them."""
    monkeypatch.setattr(Holder, "is_this_process", lambda self: False)

    def try_it(_: int) -> lock.FolderLock | None:
        try:
            return lock_folder(folder)
        except FolderInUse:
            return None

    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_lock(folder, host="elsewhere", age_s=700)
        with ThreadPoolExecutor(8) as pool:
            held = [each for each in pool.map(try_it, range(8)) if each is not None]
        assert len(held) == 1
        assert [path.name for path in folder.iterdir()] == [LOCK_NAME]
        held[0].confirm()
        held[0].release()


def test_one_that_died_while_it_took_over_is_replaced_too(tmp_path: Path):
    path = write_lock(tmp_path, host="elsewhere", age_s=700)
    content = path.read_bytes()
    takeover = tmp_path / f"{LOCK_NAME}.{lock.hashlib.sha256(content).hexdigest()[:16]}"
    takeover.write_text(json.dumps(to_mapping(Holder.this_process()) | {"pid": 2**22 + 1}))
    with lock_folder(tmp_path):
        assert [each.name for each in tmp_path.iterdir()] == [LOCK_NAME]


def test_a_holder_that_was_replaced_notices_and_leaves_the_lock_alone(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(lock, "CONFIRM_INTERVAL_S", 0.0)
    first = lock_folder(tmp_path)
    first.confirm()
    path = write_lock(tmp_path, host="elsewhere")
    with pytest.raises(UserError, match=f"^{path}: removed or taken over by another process"):
        first.confirm()
    first.release()
    assert path.exists()
    path.unlink()


def test_a_lock_that_was_removed_is_noticed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(lock, "CONFIRM_INTERVAL_S", 0.0)
    with lock_folder(tmp_path) as held:
        (tmp_path / LOCK_NAME).unlink()
        with pytest.raises(UserError, match="removed or taken over"):
            held.confirm()


def test_it_is_touched_while_it_is_held_and_only_then(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(lock, "TOUCH_INTERVAL_S", 0.01)
    held, path = lock_folder(tmp_path), tmp_path / LOCK_NAME
    touch(path, 3000)
    time.sleep(0.2)
    assert lock._read_lock(path).untouched_s < 60
    path.write_text("another's")
    touch(path, 3000)
    time.sleep(0.1)
    assert lock._read_lock(path).untouched_s > 2000
    held.release()


def test_a_waiting_process_gets_it_in_the_end(
    other: subprocess.Popen, tmp_path: Path, monkeypatch, caplog
):
    caplog.set_level("INFO")

    def end_the_other(seconds: float) -> None:
        other.kill()
        other.wait()

    monkeypatch.setattr(lock.time, "sleep", end_the_other)
    with lock_folder(tmp_path, wait=True):
        assert caplog.text.count("waiting for it") == 1 and str(other.pid) in caplog.text


def test_a_lock_that_is_forgotten_is_given_back(tmp_path: Path):
    lock_folder(tmp_path)
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_child_process_gives_nothing_back(tmp_path: Path):
    with lock_folder(tmp_path) as held:
        child = os.fork()
        if child == 0:
            held.release()
            os._exit(0)
        os.waitpid(child, 0)
        assert (tmp_path / LOCK_NAME).exists()


# ---- run folders ---------------------------------------------------------------------------------


def test_what_stays_empty_is_removed_with_the_parents_that_were_made(tmp_path: Path):
    with claim_run_folder(tmp_path / "runs/train", "a/exp") as claimed:
        assert claimed.folder == tmp_path / "runs/train/a/exp"
    assert list(tmp_path.iterdir()) == []
    with (
        claim_run_folder(tmp_path / "runs/train", "exp") as first,
        claim_run_folder(tmp_path / "runs/train", "exp"),
    ):
        (first.folder / "file").touch()
    assert [path.name for path in (tmp_path / "runs/train").rglob("*")] == ["exp", "file"]


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: (folder / "kept").touch()])
def test_a_folder_that_was_there_stays(tmp_path: Path, make: Callable):
    (tmp_path / "exp").mkdir()
    make(tmp_path / "exp")
    before = list(tmp_path.rglob("*"))
    with claim_run_folder(tmp_path, "exp", exist_ok=True) as claimed:
        assert claimed.folder == tmp_path / "exp"
    assert list(tmp_path.rglob("*")) == before


def test_exist_ok_onto_a_live_run(other: subprocess.Popen, tmp_path: Path):
    with pytest.raises(FolderInUse, match=f"process {other.pid} on host"):
        claim_run_folder(tmp_path.parent, tmp_path.name, exist_ok=True)
    with claim_run_folder(tmp_path.parent, tmp_path.name) as claimed:
        assert claimed.folder.name == f"{tmp_path.name}2"


# ---- signals -------------------------------------------------------------------------------------


def claim_new(folder: Path) -> lock.FolderLock:
    return claim_run_folder(folder, "exp")


@pytest.mark.parametrize("begin", [claim_new, lock_folder])
def test_a_signal_while_the_lock_is_made_leaves_none(
    begin: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    create = lock._create

    def interrupted(path: Path, content: bytes) -> bool:
        is_new = create(path, content)
        signal.raise_signal(signal.SIGTERM)
        return is_new

    monkeypatch.setattr(lock, "_create", interrupted)
    with pytest.raises(Interrupted), unwound_by_signals():
        begin(tmp_path)
    gc.collect()
    assert list(tmp_path.iterdir()) == []
