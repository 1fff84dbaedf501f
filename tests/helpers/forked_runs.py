"""Trainings as processes that are killed or signalled at a chosen place, without their imports.

`Forge` starts this file as a process that has imported everything, and forks itself for each
training. In the fork, `at` says what happens where:

- {"file_operation": 7}: SIGKILL before the 7th time that a file in the project's folder is opened
  for writing, renamed or removed, or a folder is made;
- {"call": "module:Class.function", "nth": 1, "signal": 15}: that signal when the function is called
  for the nth time.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Attributes:
        code: as a shell would give it; negative: killed by that signal.
        after_s: seconds from the signal to the end; None if it was not reached.
        file_operations: how many there were; None if the process was killed.
    """

    code: int
    stderr: str
    after_s: float | None
    file_operations: int | None


class Forge:
    """A context manager; `run` trains in a fork of a process that has imported everything."""

    def __enter__(self) -> Forge:
        surroundings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env=surroundings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def run(self, arguments: Sequence[str], notes: Path, **at: object) -> Ended:
        """Run train_joint_gradnorm.py.

        Args:
            notes: a folder for what the process writes to stderr.
            at: see the module's docstring.
        """
        notes.mkdir(exist_ok=True)
        order = {"arguments": list(arguments), "notes": str(notes), "at": at}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code, ended = json.loads(self._process.stdout.readline())
        after_s = None
        if (notes / "signalled").exists():
            after_s = ended - float((notes / "signalled").read_text())
        operations = None
        if (notes / "file_operations").exists():
            operations = int((notes / "file_operations").read_text())
        return Ended(code, (notes / "stderr").read_text(), after_s, operations)


# ---- the process ---------------------------------------------------------------------------------


def serve() -> None:
    import utils.commands.train_joint_gradnorm  # noqa: F401  torch and all, once for all forks

    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _train(order["arguments"], Path(order["notes"]), order["at"])
        _, status = os.waitpid(pid, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), time.time()]), flush=True)


def _train(arguments: Sequence[str], notes: Path, at: Mapping[str, object]) -> None:
    """In the fork: train, and end the process."""
    import train_joint_gradnorm
    from utils.core.script import run_script

    for old in ("signalled", "file_operations"):
        (notes / old).unlink(missing_ok=True)
    with (notes / "stderr").open("w") as stderr, (notes / "stdout").open("w") as stdout:
        os.dup2(stderr.fileno(), 2)
        os.dup2(stdout.fileno(), 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["train_joint_gradnorm.py", *arguments]
    operations: list[str] = []
    _note_operations(operations, arguments, at.get("file_operation"))
    if "call" in at:
        _signal_at(notes, **at)
    code = 1
    try:
        run_script(train_joint_gradnorm.main)
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        (notes / "file_operations").write_text(str(len(operations)))
        sys.stderr.flush()
        os._exit(code)


def _note_operations(seen: list[str], arguments: Sequence[str], kill_at: int | None) -> None:
    """Append every file operation to `seen`, and kill the process before one of them."""
    folders = [text.partition("=")[2] for text in arguments if text.startswith("--project=")]

    def hook(event: str, details: tuple) -> None:
        is_change = event in CHANGES
        if event == "open":
            is_change = bool(details[2] & (os.O_WRONLY | os.O_RDWR))
        if is_change and str(details[0]).startswith(tuple(folders)):
            seen.append(event)
            if len(seen) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _signal_at(notes: Path, call: str, number: int, nth: int = 1) -> None:
    module, _, path = call.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = []

    @functools.wraps(original)
    def signalled(*args: object, **kwargs: object) -> object:
        calls.append(None)
        if len(calls) == nth:
            (notes / "signalled").write_text(str(time.time()))
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(owner, name, signalled)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve()
