"""Trains what a comparison consists of: a process of its own for every arm, seed and data set.

Each training is a call of a training script, so its run folder is like any other and its command can be given
again by hand. A `Trial` knows whether its folder holds it finished, begun, or something else. Nothing is kept in
memory that the folders do not hold: a comparison that was killed goes on where its trainings stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from utils.comparison.arms import DUAL, Arm, options_of
from utils.core.files import ROOT, write_json
from utils.core.hyperparameters import HyperParameters, load_hyperparameters
from utils.core.options import DualOptions, JointOptions, TrainOptions, split_arguments
from utils.core.script import LOGGER, Interrupted, StopSignals, UserError
from utils.core.values import from_mapping, read_yaml_mapping, to_mapping

# What may differ between the halves of a comparison: where it runs, not what it computes
INDIFFERENT = {"device", "workers", "cache", "project", "name", "exist_ok", "hyp"}
POLL_S = 1.0


@dataclass(frozen=True)
class Trial:
    """One arm trained once.

    Attributes:
        data: the data.yaml; one of a comparison's folds, or its only one.
        common: the options that all arms share.
        folder: of the run.
        needed: the run folder that the arm's options come from, or None.
    """

    arm: Arm
    data: str
    seed: int
    common: Mapping[str, object]
    folder: Path
    needed: Path | None = None

    @property
    def is_finished(self) -> bool:
        return self._holds("summary.json")

    @property
    def is_begun(self) -> bool:
        return self._holds("weights/last.pt")

    def _holds(self, name: str) -> bool:
        return (self.folder / name).exists() and self._matches()

    def _given(self) -> dict[str, object]:
        arm_options = options_of(self.arm, self.needed)
        return {**self.common, **arm_options, "data": self.data, "seed": self.seed}

    def _matches(self) -> bool:
        """Whether the run in the folder was started with these options, as far as they matter."""
        if self.needed is not None and not (self.needed / "summary.json").exists():
            return False
        options, over_hyp = split_arguments(self._given(), DualOptions if self.arm.script == DUAL else JointOptions)
        wanted = {"opt": options, "hyp": load_hyperparameters(options.hyp, over_hyp)}
        return all(
            _relevant(content) == _read_relevant(self.folder / f"{name}.yaml", type(content))
            for name, content in wanted.items()
        )

    def command(self) -> list[str]:
        """The training as a command line, without the interpreter: a new one, or the rest of one."""
        if self.is_begun:
            device = _as_arguments({"device": self.common["device"]})
            return [self.arm.script, "--resume", str(self.folder / "weights" / "last.pt"), *device]
        place = {"project": str(self.folder.parent), "name": self.folder.name, "exist_ok": True}
        return [self.arm.script, *_as_arguments(self._given() | place)]


def _relevant(options: TrainOptions | HyperParameters) -> dict[str, object]:
    return {key: value for key, value in to_mapping(options).items() if key not in INDIFFERENT}


def _read_relevant(path: Path, kind: type) -> dict[str, object] | None:
    """What a run was started with; an option that did not exist then has its default. None: cannot be read."""
    try:
        return _relevant(from_mapping(kind, read_yaml_mapping(path, "")))
    except UserError:
        return None


def _as_arguments(given: Mapping[str, object]) -> list[str]:
    arguments = []
    for name, value in given.items():
        if value is False or value == "":
            continue
        values = [] if value is True else value if isinstance(value, list) else [value]
        arguments += [f"--{name.replace('_', '-')}", *map(str, values)]
    return arguments


@contextlib.contextmanager
def sole_use(folder: Path) -> Iterator[IO]:
    """Wait until no other comparison, nor a training that one left behind, works in `folder`; yields the lock.

    The lock belongs to the open file, which trainings inherit: it outlives a comparison that was killed for as
    long as its training goes on.
    """
    import fcntl  # absent on Windows, where comparisons are not locked against each other

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOGGER.info(f"{folder}: another comparison, or a training it left behind, is at work; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def check_fingerprints(folder: Path, fingerprints: Mapping[str, Mapping[str, str]]) -> None:
    """Note what data a comparison is about, or compare with what was noted.

    Args:
        fingerprints: data set -> split -> its fingerprint; a split that was not asked for before is noted now.

    Raises:
        UserError: a data set is not what it was when the comparison began.
    """
    path = folder / "data.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for data, splits in fingerprints.items():
        before = known.get(data, {})
        if any(before.get(split, found) != found for split, found in splits.items()):
            raise UserError(
                f"{data}: images or labels changed since {folder} was begun; "
                "restore them, or start anew with another --name"
            )
        known[data] = before | splits
    write_json(path, known)


def train_all(trials: Sequence[Trial], lock: IO, jobs: int = 1) -> None:
    """Train what is not finished, `jobs` at a time, each with its share of the cores.

    Raises:
        UserError: a training failed; its last words are passed on.
        Interrupted: SIGINT or SIGTERM; the trainings were told to stop and can be resumed.
    """
    waiting = [trial for trial in trials if not trial.is_finished]
    LOGGER.info(f"{len(trials)} trainings, {len(trials) - len(waiting)} of them finished")
    running: list[tuple[Trial, subprocess.Popen]] = []
    with _Progress(trials) as progress, StopSignals() as signals:
        try:
            while waiting or running:
                while len(running) < jobs and (trial := _next(waiting)):
                    waiting.remove(trial)
                    if not trial.is_finished:  # as it may be once the run that it needs is there
                        running.append((trial, _start(trial, lock, jobs)))
                time.sleep(POLL_S)
                if signals.received is not None:
                    raise Interrupted("stopped; the same command goes on from here", signals.received)
                running = [(trial, process) for trial, process in running if not _has_ended(trial, process)]
                progress.show([trial for trial, _ in running])
        except BaseException:
            _stop([process for _, process in running])
            raise


def _next(waiting: Sequence[Trial]) -> Trial | None:
    """The first training whose options are known."""
    return next((t for t in waiting if t.needed is None or (t.needed / "summary.json").exists()), None)


def _start(trial: Trial, lock: IO, jobs: int) -> subprocess.Popen:
    if trial.folder.exists() and not trial.is_begun:
        _set_aside(trial.folder)
    command = trial.command()
    log_folder = trial.folder.parent / "logs"
    log_folder.mkdir(exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if jobs > 1 else {})
    with (log_folder / f"{trial.folder.name}.log").open("a", encoding="utf-8") as log:
        log.write(f"\n$ python {' '.join(command)}\n")
        log.flush()
        return subprocess.Popen(
            [sys.executable, str(ROOT / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(lock.fileno(),),
            start_new_session=True,  # so that a Ctrl-C reaches it once, through us
        )


def _set_aside(folder: Path) -> None:
    """Move a run that cannot be gone on with out of the way: of other options, or killed before it began."""
    number = 1
    while (target := folder.parent / "replaced" / f"{folder.name}-{number}").exists():
        number += 1
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    LOGGER.info(f"{folder}: of other options, or hardly begun; moved to {target}")


def _has_ended(trial: Trial, process: subprocess.Popen) -> bool:
    if process.poll() is None:
        return False
    if process.returncode != 0:
        log = trial.folder.parent / "logs" / f"{trial.folder.name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = lines[-1].split("\r")[-1] if lines else ""
        raise UserError(f"{trial.folder}: the training ended with exit code {process.returncode}: {last} (see {log})")
    return True


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """Tell trainings to stop at the end of their batch, and wait until they have."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


class _Progress:
    """One line about all trainings: which are at work, their epochs, and the time left."""

    def __init__(self, trials: Sequence[Trial]):
        self.trials, self.epochs = trials, trials[0].common["epochs"]
        self.bar = tqdm(total=len(trials) * self.epochs, initial=self._done(), unit="epoch", dynamic_ncols=True)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def show(self, running: Sequence[Trial]) -> None:
        self.bar.n = self._done()
        self.bar.set_description_str(", ".join(f"{t.folder.name} {_epoch(t)}/{self.epochs}" for t in running))
        self.bar.refresh()

    def _done(self) -> int:
        return sum(_epoch(trial) for trial in self.trials)


def _epoch(trial: Trial) -> int:
    """Epochs that a trial's results.csv holds."""
    path = trial.folder / "results.csv"
    return max(path.read_text(encoding="utf-8").count("\n") - 1, 0) if path.exists() else 0
