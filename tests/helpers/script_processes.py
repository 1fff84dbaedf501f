"""Scripts in processes of their own, forked from one that has imported what takes seconds.

But for these imports they are what a user starts: with files, locks, signals and an end of their
own. `tests/scripts/test_help.py` and others start each script afresh.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

from utils.core.files import ROOT

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "script_processes",
        "utils.commands.compare_solutions",
        "utils.commands.detect",
        "utils.commands.train_joint_dual_backbone",
        "utils.commands.train_joint_gradnorm",
        "utils.commands.val",
    ]
)


@dataclass(frozen=True)
class Ended:
    """What `subprocess.run` returns."""

    returncode: int
    stdout: str
    stderr: str


class ScriptProcess:
    """A script at work, with the methods of `subprocess.Popen`.

    Args:
        script: its path, below the project's folder or in full.
        arguments: of its command line.
        cwd: where it works.
        environment: variables beside those of this process.
    """

    def __init__(
        self, script: str | Path, *arguments: object, cwd: Path = ROOT, **environment: str
    ):
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        command = [str(ROOT / script), *map(str, arguments)]
        self._process = FORKS.Process(target=_run, args=(command, cwd, environment, self._files))
        self._process.start()
        weakref.finalize(self, self._process.kill)  # a test that fails leaves nothing behind

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code; None while it is at work."""
        return self.returncode

    def wait(self, timeout_s: float = 300) -> int:
        """Wait for the end; returns the exit code."""
        self._process.join(timeout_s)
        if self.returncode is None:
            self.kill()
            raise TimeoutError(f"still at work after {timeout_s} s: {self._texts()}")
        return self.returncode

    def communicate(self, timeout_s: float = 300) -> tuple[str, str]:
        """Wait for the end; returns what went to stdout and stderr."""
        self.wait(timeout_s)
        stdout, stderr = self._texts()
        return stdout, stderr

    def _texts(self) -> list[str]:
        return [path.read_text(encoding="utf-8") for path in self._files]

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_script_process(
    script: str | Path, *arguments: object, cwd: Path = ROOT, **environment: str
) -> Ended:
    """Run a script to its end."""
    process = ScriptProcess(script, *arguments, cwd=cwd, **environment)
    stdout, stderr = process.communicate()
    return Ended(process.returncode, stdout, stderr)


def _run(command: list[str], cwd: Path, environment: dict[str, str], files: list[Path]) -> None:
    import torch

    os.setsid()
    os.chdir(cwd)
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:  # which is read when torch is imported
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    for number, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
