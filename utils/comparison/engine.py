"""Runs the trainings of a comparison, each a process of its own, where an engine says.

`LocalEngine` has this machine; `ray_engine.py` those of a Ray cluster. Nothing is kept in memory
that the folders do not hold: a comparison that was killed goes on where its trainings stopped. One
that it left at work is not disturbed: a training holds the lock of its run folder, and the next
comparison waits for its end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from utils.comparison.trainings import Training
from utils.core.files import ROOT
from utils.core.lock import is_in_use
from utils.core.script import LOGGER, UserError
from utils.core.signals import Interrupted, signals_held_back, unwound_by_signals
from utils.core.terminal import one_line

POLL_S = 1.0


class Engine(Protocol):
    """Where trainings run."""

    @property
    def at_work(self) -> Sequence[Training]:
        """Those that are running now."""

    def begin(self, trainings: Sequence[Training]) -> None:
        """Take on trainings; one that needs another comes after it."""

    def look(self) -> bool:
        """See to what has ended and what can start; returns whether anything is left.

        Raises:
            UserError: a training failed; its last words are passed on.
        """

    def stop(self) -> None:
        """End what is at work at the end of its batch, and wait until it has."""


def train_all(trainings: Sequence[Training], engine: Engine) -> None:
    """Train what is not finished.

    Raises:
        UserError: a training failed; its last words are passed on.
        Interrupted: by a stop signal; the trainings were told to stop and can be resumed.
    """
    missing = [training for training in trainings if not training.is_finished]
    LOGGER.info(f"{len(trainings)} trainings, {len(trainings) - len(missing)} of them finished")
    for training in missing:
        if is_in_use(training.folder):
            LOGGER.info(
                f"{training.folder}: a training that was left behind is at work there; "
                "waiting for its end"
            )
    is_busy = bool(missing)
    with unwound_by_signals(), _Progress(trainings) as progress:
        try:
            if is_busy:
                engine.begin(missing)
            while is_busy:
                time.sleep(POLL_S)
                is_busy = engine.look()
                progress.show(engine.at_work)
        except Interrupted as stop:
            stop.args = ("stopped; the same command goes on from here",)
            raise
        finally:
            engine.stop()


class LocalEngine:
    """This machine.

    Args:
        jobs: how many trainings run at a time, each with its share of the cores.
    """

    def __init__(self, jobs: int = 1):
        self._jobs = jobs
        self._waiting: list[Training] = []
        self._running: list[TrainingProcess] = []
        self._threads = None
        if jobs > 1:
            self._threads = max(1, (os.cpu_count() or 1) // jobs)

    @property
    def at_work(self) -> list[Training]:
        return [own.training for own in self._running]

    def begin(self, trainings: Sequence[Training]) -> None:
        self._waiting = list(trainings)
        self._fill()

    def look(self) -> bool:
        ended = [own for own in self._running if own.process.poll() is not None]
        self._running = [own for own in self._running if own not in ended]
        for own in ended:
            if own.was_late():
                self._waiting.append(own.training)
            elif own.process.returncode != 0:
                raise UserError(own.last_words())
        self._fill()
        return bool(self._waiting or self._running)

    def stop(self) -> None:
        for own in self._running:
            own.process.terminate()
        for own in self._running:
            own.process.wait()

    def _fill(self) -> None:
        """Start trainings that wait, until `jobs` are running."""
        with signals_held_back():  # every process that is started is in `_running`
            while len(self._running) < self._jobs:
                training = self._next()
                if training is None:
                    return
                self._waiting.remove(training)
                if not training.is_finished:  # as it may be by now
                    self._running.append(TrainingProcess.start(training, self._threads))

    def _next(self) -> Training | None:
        """The first training whose options are known and whose folder nobody writes into."""
        for training in self._waiting:
            is_known = training.needed is None or (training.needed / "summary.json").exists()
            if is_known and not is_in_use(training.folder):
                return training
        return None


@dataclass(frozen=True)
class TrainingProcess:
    """A training at work."""

    training: Training
    process: subprocess.Popen

    @classmethod
    def start(
        cls, training: Training, threads: int | None, own_session: bool = True
    ) -> TrainingProcess:
        """Start a training, or the rest of one.

        Args:
            threads: that it computes with; None leaves that to it.
            own_session: so that a Ctrl-C reaches it once, through us.
        """
        if training.folder.exists() and not training.is_begun:
            _set_aside(training.folder)
        if not training.is_begun:
            training.write_hyp()
        command = training.command()
        environment = dict(os.environ)
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        training.log.parent.mkdir(exist_ok=True)
        with training.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ python {' '.join(command)}\n")
            log.flush()
            process = subprocess.Popen(
                [sys.executable, str(ROOT / command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=own_session,
            )
        return cls(training, process)

    def wait(self) -> int:
        """Wait for its end, and see to it where the wait is broken off; returns the exit code."""
        try:
            while self.process.poll() is None:
                time.sleep(POLL_S)
        except BaseException:
            self.process.terminate()
            self.process.wait()
            raise
        return self.process.returncode

    def was_late(self) -> bool:
        """Whether it ended because one that was left behind had locked its folder meanwhile."""
        return self.process.returncode != 0 and is_in_use(self.training.folder)

    def last_words(self) -> str:
        """How it ended, in a line."""
        log = self.training.log
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = ""
        if lines:
            last = lines[-1].split("\r")[-1]
        return (
            f"{self.training.folder}: the training ended with exit code "
            f"{self.process.returncode}: {last} (see {log})"
        )


def _set_aside(folder: Path) -> None:
    """Move a run out of the way that cannot be resumed: of other options, or killed too early."""
    replaced = folder.parent / "replaced"
    number = 1
    while (replaced / f"{folder.name}-{number}").exists():
        number += 1
    target = replaced / f"{folder.name}-{number}"
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    LOGGER.info(f"{folder}: of other options, or hardly begun; moved to {target}")


class _Progress:
    """One line about all trainings: which are at work, their epochs, and the time left."""

    def __init__(self, trainings: Sequence[Training]):
        self.trainings = trainings
        total = sum(training.options["epochs"] for training in trainings)
        self.bar = tqdm(total=total, initial=self._done(), unit="epoch", dynamic_ncols=True)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def show(self, running: Sequence[Training]) -> None:
        self.bar.n = self._done()
        states = [f"{t.folder.name} {_epoch(t)}/{t.options['epochs']}" for t in running]
        self.bar.set_description_str(one_line(", ".join(states)))
        self.bar.refresh()

    def _done(self) -> int:
        return sum(_epoch(training) for training in self.trainings)


def _epoch(training: Training) -> int:
    """Epochs that a training's results.csv holds."""
    path = training.folder / "results.csv"
    if not path.exists():
        return 0
    return max(path.read_text(encoding="utf-8").count("\n") - 1, 0)
