"""A folder that one process at a time writes into: run folders, and the folder of a comparison.

The lock is a file, `.lock`, that its holder makes exclusively, which holds on network file systems
as well, where `flock` does not. It names host and process, and is touched every minute. The next
process takes it over if its process is dead, as far as this machine can tell, or if it was not
touched for ten minutes by the file system's own clock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from utils.core.files import (
    TEMPORARY_NAME,
    naming,
    new_run_folder,
    refuse_unwritable,
    run_folder,
    write_atomically,
)
from utils.core.script import LOGGER, UserError
from utils.core.signals import signals_held_back
from utils.core.values import from_mapping, to_mapping

LOCK_NAME = ".lock"
TOUCH_INTERVAL_S = 60.0
STALE_S = 600.0
UNSIGNED_S = 5.0
CONFIRM_INTERVAL_S = 1.0
POLL_S = 1.0
RESULT_SUFFIXES = (".csv", ".json", ".md", ".npz", ".png", ".yaml")


class FolderInUse(UserError):
    """Another process works in the folder."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        host: its name.
        machine: what tells it, since it was started, from others of that name; "" if unknown.
        pid: of the process.
        started: when the process began, in the system's words; "" if unknown.
        token: of this very lock; none is ever used twice.
    """

    host: str
    machine: str
    pid: int
    started: str
    token: str

    @classmethod
    def this_process(cls) -> Holder:
        pid = os.getpid()
        return cls(
            socket.gethostname(), _machine(), pid, _process_start(pid) or "", secrets.token_hex(8)
        )

    def is_dead(self) -> bool:
        """Whether the process is known to be gone; that of another machine never is."""
        if (self.host, self.machine) != (socket.gethostname(), _machine()):
            return False
        start = _process_start(self.pid)
        is_another = "" not in (start, self.started) and start != self.started
        return start is None or is_another

    def is_this_process(self) -> bool:
        """Whether it is this process: all but the token, which each lock draws anew, is the same.

        Its lock was then left by an earlier use of the folder that is over.
        """
        return replace(self, token="") == replace(Holder.this_process(), token="")


UNKNOWN = Holder(host="(unknown)", machine="", pid=0, started="", token="")


@dataclass(frozen=True)
class _Found:
    """A lock file as it was at one moment.

    Attributes:
        content: its bytes.
        holder: who they name; `UNKNOWN` if that is not readable.
        untouched_s: how long ago it was touched, by its file system's clock.
    """

    content: bytes
    holder: Holder
    untouched_s: float

    @property
    def is_free(self) -> bool:
        if not self.content:  # whoever made it was killed before it could write its name
            return self.untouched_s > UNSIGNED_S
        return self.untouched_s > STALE_S or self.holder.is_dead() or self.holder.is_this_process()


class FolderLock:
    """The right of this process to write into a folder.

    As a context manager it gives the right back at the end. It is also given back when the object
    is forgotten, and at the end of the process.

    Args:
        folder: that is locked.
        holder: who the lock file names.
        made: folders to be removed at the end, in this order, if nothing was written into them.
    """

    def __init__(self, folder: Path, holder: Holder, made: Sequence[Path] = ()):
        self.folder = folder
        self._path = folder / LOCK_NAME
        self._content = _to_bytes(holder)
        self._confirmed = time.monotonic()
        done = threading.Event()
        threading.Thread(
            target=_keep_touching, args=(self._path, self._content, done), daemon=True
        ).start()
        self.release = weakref.finalize(
            self, _give_back, self._path, self._content, done, os.getpid(), tuple(made)
        )

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def confirm(self) -> None:
        """See that the folder is still this process's own.

        The file is read at most once a second, so that this may be called often.

        Raises:
            UserError: this process slept so long that another one took the folder over, or the lock
                was removed.
        """
        now = time.monotonic()
        if now - self._confirmed < CONFIRM_INTERVAL_S:
            return
        self._confirmed = now
        if not _is_held(self._path, self._content):
            raise UserError(
                f"{self._path}: removed or taken over by another process while this one "
                f"(process {os.getpid()}) was at work in the folder; nothing more is written there"
            )


def claim_run_folder(project: str | Path, name: str, exist_ok: bool = False) -> FolderLock:
    """Make and lock a run folder; see `new_run_folder`.

    Folders that stay empty are removed at the end.

    Raises:
        FolderInUse: with `exist_ok`, another process works in it.
        UserError: see `run_folder`; or with `exist_ok`, a folder stands where a file will be.
        OSError: it cannot be written to.
    """
    wanted = run_folder(project, name)
    is_there = wanted.is_dir()
    parents = [parent for parent in wanted.parents if not parent.exists()]
    with signals_held_back():
        folder = new_run_folder(project, name, exist_ok)
        made = parents
        if not (exist_ok and is_there):
            made = [folder, *parents]
        locked = lock_folder(folder, made=made)
    try:
        for path in folder.iterdir():
            if path.suffix in RESULT_SUFFIXES and path.is_dir():
                refuse_unwritable(path)
    except BaseException:
        locked.release()
        raise
    return locked


def lock_folder(folder: Path, wait: bool = False, made: Sequence[Path] = ()) -> FolderLock:
    """Lock a folder that exists.

    Args:
        wait: until nobody else works in it, however long that takes.
        made: see `FolderLock`.

    Raises:
        FolderInUse: another process works in it, and `wait` is false.
    """
    holder = Holder.this_process()
    is_announced = False
    while True:
        try:
            with signals_held_back():  # no signal comes between the file and its owner
                _seize(folder / LOCK_NAME, holder)
                return FolderLock(folder, holder, made)
        except FolderInUse as error:
            if not wait:
                raise
            if not is_announced:
                LOGGER.info(f"{error}; waiting for it")
            is_announced = True
        time.sleep(POLL_S)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left in a locked folder, and in the folders in it.

    These are the files of `write_atomically`, but for those of a process that is alive.
    """
    for place in (folder, *filter(Path.is_dir, folder.iterdir())):
        for path in place.glob(".*.tmp"):
            found = TEMPORARY_NAME.fullmatch(path.name)
            if found is None or path.name.startswith(f".{LOCK_NAME}."):
                continue
            pid = int(found["pid"])
            if pid == os.getpid() or not is_alive(pid):
                path.unlink(missing_ok=True)


def is_in_use(folder: Path) -> bool:
    """Whether a process, as far as this machine can tell, works in a folder."""
    found = _read_lock(folder / LOCK_NAME)
    return found is not None and not found.is_free


def _seize(path: Path, holder: Holder) -> None:
    """Make the lock file, or take over one that is free.

    Of several processes that find the same free lock one gets it: who takes over `.lock` holds
    another lock for that, whose name nobody uses for any other content of `.lock`.
    """
    while not _create(path, _to_bytes(holder)):
        found = _read_lock(path)
        if found is None:
            continue  # it was given back this moment
        if not found.is_free:
            raise FolderInUse(
                f"{path.parent}: process {found.holder.pid} on host {found.holder.host} is at work "
                f"there, last sign of life {max(found.untouched_s, 0):.0f} s ago; "
                f"wait until it has ended, or stop it (after {STALE_S:.0f} s "
                "without a sign of life it counts as dead)"
            )
        name = hashlib.sha256(found.content).hexdigest()[:16]
        takeover = path.with_name(f"{path.name}.{name}")
        _seize(takeover, holder)
        try:
            if _is_held(path, found.content):
                write_atomically(path, partial(_write, content=_to_bytes(holder)))
                return
        finally:
            takeover.unlink(missing_ok=True)


def _create(path: Path, content: bytes) -> bool:
    """Write a new file; False if there is one of that name."""
    try:
        stream = path.open("xb", buffering=0)
    except FileExistsError:
        return False
    with stream:
        try:
            with naming(path):
                stream.write(content)
        except OSError:  # the disk is full
            path.unlink()
            raise
    return True


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _read_lock(path: Path) -> _Found | None:
    """A lock file as it is now; None if there is none."""
    try:
        content = path.read_bytes()
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return None
    with tempfile.TemporaryFile(dir=path.parent) as probe:
        untouched_s = os.fstat(probe.fileno()).st_mtime - touched
    try:
        holder = from_mapping(Holder, json.loads(content))
    except (ValueError, TypeError, AttributeError):  # not JSON, or that of something else
        holder = UNKNOWN
    return _Found(content, holder, untouched_s)


def _is_held(path: Path, content: bytes) -> bool:
    """Whether a lock file has this content."""
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False


def _to_bytes(holder: Holder) -> bytes:
    return (json.dumps(to_mapping(holder)) + "\n").encode()


def _keep_touching(path: Path, content: bytes, done: threading.Event) -> None:
    """Touch a lock file every minute while it is ours."""
    while not done.wait(TOUCH_INTERVAL_S):
        with contextlib.suppress(OSError):  # a file system may be away for a while
            if _is_held(path, content):
                os.utime(path)


def _give_back(
    path: Path, content: bytes, done: threading.Event, pid: int, made: Sequence[Path]
) -> None:
    """Remove our lock file, and the folders made for the run if they are empty."""
    if os.getpid() != pid:
        return  # a child process holds nothing
    done.set()
    with contextlib.suppress(OSError):
        if _is_held(path, content):
            path.unlink()
    for folder in made:
        with contextlib.suppress(OSError):  # it is in use
            folder.rmdir()


def _machine() -> str:
    """This start of this machine, and the namespace in which its process numbers count (Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """Whether a process of that number runs here; one that has ended may still be listed."""
    return _process_start(pid) is not None


def _exists(pid: int) -> bool:
    """Whether there is a process of that number on this machine."""
    if pid <= 0:  # these stand for groups of processes
        return False
    try:
        os.kill(pid, 0)  # signal 0 is never delivered
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _process_start(pid: int) -> str | None:
    """When a process of this machine began, "" if unknown; None if it is gone."""
    if not _exists(pid):
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *others = stat.rpartition(")")[2].split()
    if state in "ZX":  # it has ended
        return None
    return others[18]  # field 22 of proc(5), in clock ticks
