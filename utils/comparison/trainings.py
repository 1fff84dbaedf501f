"""Trains what a comparison consists of: a process of its own for every arm, seed and data set.

Each training is a call of a training script, so its run folder is like any other and its command
can be given again by hand. A `Training` knows whether its folder holds it finished, begun, or
something else. Nothing is kept in memory that the folders do not hold: a comparison that was killed
goes on where its trainings stopped. One that it left at work is not disturbed: a training holds the
lock of its run folder, and the next comparison waits for its end.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from tqdm import tqdm

from utils.comparison.arms import Arm, options_of
from utils.core.files import ROOT, write_json, write_text
from utils.core.hyperparameters import HyperParameters, load_hyperparameters
from utils.core.lock import is_in_use
from utils.core.options import TrainOptions
from utils.core.script import LOGGER, UserError
from utils.core.signals import Interrupted, signals_held_back, unwound_by_signals
from utils.core.terminal import one_line
from utils.core.values import from_mapping, to_mapping
from utils.core.yaml_reader import read_yaml_mapping

# What may differ between the halves of a comparison: where it runs, not what it computes
INDIFFERENT = {
    "device",
    "workers",
    "cache",
    "index",
    "project",
    "name",
    "exist_ok",
    "hyp",
    "report",
}
SPLITS = ("train", "val", "test")
POLL_S = 1.0


@dataclass(frozen=True)
class Training:
    """One arm trained once.

    Attributes:
        data: the data.yaml; one of a comparison's folds, or its only one.
        common: the options, and keys of the hyp file, that all arms share.
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

    @property
    def options(self) -> dict[str, object]:
        """Those that all arms share, and over them the arm's own."""
        return {**self.common, **self.arm.options}

    def _settings(self) -> tuple[TrainOptions, HyperParameters]:
        given = self.options | options_of(self.arm, self.needed)
        return read_settings(self.arm, given | {"data": self.data, "seed": self.seed})

    def _matches(self) -> bool:
        """Whether the run in the folder was started with these options, as far as they matter."""
        if self.needed is not None and not (self.needed / "summary.json").exists():
            return False
        options, hyp = self._settings()
        if relevant(options) != _read_relevant(self.folder / "opt.yaml", type(options)):
            return False
        return relevant(hyp) == _read_relevant(self.folder / "hyp.yaml", type(hyp))

    @property
    def _hyp_file(self) -> Path:
        return self.folder.parent / "hyp" / f"{self.folder.name}.yaml"

    def write_hyp(self) -> None:
        """Write the hyper-parameters of a new training to the file that its command names."""
        self._hyp_file.parent.mkdir(exist_ok=True)
        _, hyp = self._settings()
        write_text(self._hyp_file, yaml.safe_dump(to_mapping(hyp), sort_keys=False))

    def command(self) -> list[str]:
        """The training as a command line, without the interpreter: new, or the rest of one."""
        if self.is_begun:
            device = _as_arguments({"device": self.common["device"]})
            return [self.arm.script, "--resume", str(self.folder / "weights" / "last.pt"), *device]
        options, _ = self._settings()
        chosen = {}
        for name, value in to_mapping(options).items():
            if name in self.options:
                chosen[name] = value
        chosen |= {"data": self.data, "seed": self.seed, "hyp": str(self._hyp_file)}
        place = {"project": str(self.folder.parent), "name": self.folder.name, "exist_ok": True}
        return [self.arm.script, *_as_arguments(chosen | place)]


def run_name(fold: str, arm: str, seed: int) -> str:
    """Of a run folder; `fold` is empty where there is one data set."""
    name = f"{arm}-seed{seed}"
    if fold:
        return f"{fold}-{name}"
    return name


def read_settings(arm: Arm, given: Mapping[str, object]) -> tuple[TrainOptions, HyperParameters]:
    """The options and the hyper-parameters that an arm is trained with.

    Args:
        given: options of the arm's script, and keys that lie over the hyp file.

    Raises:
        UserError: a wrong name, type or value.
    """
    names = {field.name for field in dataclasses.fields(arm.options_kind)}
    of_script = {key: value for key, value in given.items() if key in names}
    over_hyp = {key: value for key, value in given.items() if key not in names}
    options = from_mapping(arm.options_kind, of_script)
    return options, load_hyperparameters(options.hyp, over_hyp)


def relevant(options: TrainOptions | HyperParameters) -> dict[str, object]:
    """What makes a training another one."""
    return {key: value for key, value in to_mapping(options).items() if key not in INDIFFERENT}


def _read_relevant(path: Path, kind: type) -> dict[str, object] | None:
    """What a run was started with; None: it cannot be read.

    An option that did not exist then has its default.
    """
    try:
        return relevant(from_mapping(kind, read_yaml_mapping(path, "")))
    except UserError:
        return None


def _as_arguments(given: Mapping[str, object]) -> list[str]:
    arguments = []
    for name, value in given.items():
        if value is False or value == "":
            continue
        arguments.append(f"--{name.replace('_', '-')}")
        if isinstance(value, list):
            arguments += map(str, value)
        elif value is not True:
            arguments.append(str(value))
    return arguments


def check_fingerprints(folder: Path, fingerprints: Mapping[str, Mapping[str, object]]) -> None:
    """Note what data a comparison is about, or compare with what was noted.

    Args:
        fingerprints: data set -> split -> its fingerprint, and key of the data.yaml -> its value;
            what was not asked for before is noted now.

    Raises:
        UserError: a data set is not what it was when the comparison began.
    """
    path = folder / "data.json"
    known = {}
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
    for data, conditions in fingerprints.items():
        before = known.get(data, {})
        for key, found in conditions.items():
            if before.get(key, found) == found:
                continue
            what = "images or labels"
            if key not in SPLITS:
                what = f"{key} ({before[key]!r} -> {found!r})"
            raise UserError(
                f"{data}: {what} changed since {folder} was begun; "
                "restore them, or start anew with another --name"
            )
        known[data] = before | conditions
    write_json(path, known)


def train_all(trainings: Sequence[Training], jobs: int = 1) -> None:
    """Train what is not finished, `jobs` at a time, each with its share of the cores.

    Raises:
        UserError: a training failed; its last words are passed on.
        Interrupted: by a stop signal; the trainings were told to stop and can be resumed.
    """
    waiting = [training for training in trainings if not training.is_finished]
    LOGGER.info(f"{len(trainings)} trainings, {len(trainings) - len(waiting)} of them finished")
    for training in waiting:
        if is_in_use(training.folder):
            LOGGER.info(
                f"{training.folder}: a training that was left behind is at work there; "
                "waiting for its end"
            )
    running: list[_Running] = []
    with unwound_by_signals(), _Progress(trainings) as progress:
        try:
            while waiting or running:
                with signals_held_back():  # every process that is started is in `running`
                    _fill(running, waiting, jobs)
                time.sleep(POLL_S)
                ended = [own for own in running if own.process.poll() is not None]
                running = [own for own in running if own not in ended]
                late = [own.training for own in ended if own.was_late()]
                waiting += late
                progress.show([own.training for own in running])
        except Interrupted as stop:
            _stop([own.process for own in running])
            stop.args = ("stopped; the same command goes on from here",)
            raise
        except BaseException:
            _stop([own.process for own in running])
            raise


@dataclass(frozen=True)
class _Running:
    """A training at work."""

    training: Training
    process: subprocess.Popen

    def was_late(self) -> bool:
        """Whether it ended because one that was left behind had locked its folder in the meantime.

        Raises:
            UserError: it failed.
        """
        exit_code = self.process.returncode
        if exit_code == 0:
            return False
        folder = self.training.folder
        if is_in_use(folder):
            return True
        log = folder.parent / "logs" / f"{folder.name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = ""
        if lines:
            last = lines[-1].split("\r")[-1]
        raise UserError(
            f"{folder}: the training ended with exit code {exit_code}: {last} (see {log})"
        )


def _fill(running: list[_Running], waiting: list[Training], jobs: int) -> None:
    """Start trainings that wait, until `jobs` are running."""
    while len(running) < jobs:
        training = _next(waiting)
        if training is None:
            return
        waiting.remove(training)
        if not training.is_finished:  # as it may be by now
            running.append(_Running(training, _start(training, jobs)))


def _next(waiting: Sequence[Training]) -> Training | None:
    """The first training whose options are known, and whose folder no other process writes into."""
    for training in waiting:
        is_known = training.needed is None or (training.needed / "summary.json").exists()
        if is_known and not is_in_use(training.folder):
            return training
    return None


def _start(training: Training, jobs: int) -> subprocess.Popen:
    if training.folder.exists() and not training.is_begun:
        _set_aside(training.folder)
    if not training.is_begun:
        training.write_hyp()
    command = training.command()
    log_folder = training.folder.parent / "logs"
    log_folder.mkdir(exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = dict(os.environ)
    if jobs > 1:
        environment["OMP_NUM_THREADS"] = str(threads)
    with (log_folder / f"{training.folder.name}.log").open("a", encoding="utf-8") as log:
        log.write(f"\n$ python {' '.join(command)}\n")
        log.flush()
        return subprocess.Popen(
            [sys.executable, str(ROOT / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # so that a Ctrl-C reaches it once, through us
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


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """Tell trainings to stop at the end of their batch, and wait until they have."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


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
