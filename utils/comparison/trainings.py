"""Trains what a comparison consists of: a process of its own for every arm, seed and data set.

Each training is a call of a training script, so its run folder is like any other and its command
can be given again by hand. A `Trial` knows whether its folder holds it finished, begun, or
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
from utils.core.files import ROOT, write_atomically, write_json
from utils.core.hyperparameters import HyperParameters, load_hyperparameters
from utils.core.lock import is_in_use
from utils.core.options import TrainOptions
from utils.core.script import LOGGER, Interrupted, StopSignals, UserError
from utils.core.values import from_mapping, read_yaml_mapping, to_mapping

# What may differ between the halves of a comparison: where it runs, not what it computes
INDIFFERENT = {"device", "workers", "cache", "project", "name", "exist_ok", "hyp"}
SPLITS = ("train", "val", "test")
POLL_S = 1.0


@dataclass(frozen=True)
class Trial:
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
        return all(
            relevant(content) == _read_relevant(self.folder / f"{name}.yaml", type(content))
            for name, content in zip(("opt", "hyp"), self._settings(), strict=True)
        )

    @property
    def _hyp_file(self) -> Path:
        return self.folder.parent / "hyp" / f"{self.folder.name}.yaml"

    def write_hyp(self) -> None:
        """Write the hyper-parameters of a new training to the file that its command names."""
        self._hyp_file.parent.mkdir(exist_ok=True)
        _, hyp = self._settings()
        text = yaml.safe_dump(to_mapping(hyp), sort_keys=False)
        write_atomically(self._hyp_file, lambda path: path.write_text(text, encoding="utf-8"))

    def command(self) -> list[str]:
        """The training as a command line, without the interpreter: a new one, or the rest of one."""
        if self.is_begun:
            device = _as_arguments({"device": self.common["device"]})
            return [self.arm.script, "--resume", str(self.folder / "weights" / "last.pt"), *device]
        options, _ = self._settings()
        chosen = {
            name: value for name, value in to_mapping(options).items() if name in self.options
        }
        chosen |= {"data": self.data, "seed": self.seed, "hyp": str(self._hyp_file)}
        place = {"project": str(self.folder.parent), "name": self.folder.name, "exist_ok": True}
        return [self.arm.script, *_as_arguments(chosen | place)]


def run_name(fold: str, arm: str, seed: int) -> str:
    """Of a run folder; `fold` is empty where there is one data set."""
    return f"{fold}-{arm}-seed{seed}" if fold else f"{arm}-seed{seed}"


def read_settings(arm: Arm, given: Mapping[str, object]) -> tuple[TrainOptions, HyperParameters]:
    """The options and the hyper-parameters that an arm is trained with.

    Args:
        given: options of the arm's script, and keys that lie over the hyp file.

    Raises:
        UserError: a wrong name, type or value.
    """
    names = {field.name for field in dataclasses.fields(arm.options_kind)}
    options = from_mapping(
        arm.options_kind, {key: value for key, value in given.items() if key in names}
    )
    over_hyp = {key: value for key, value in given.items() if key not in names}
    return options, load_hyperparameters(options.hyp, over_hyp)


def relevant(options: TrainOptions | HyperParameters) -> dict[str, object]:
    """What makes a training another one."""
    return {key: value for key, value in to_mapping(options).items() if key not in INDIFFERENT}


def _read_relevant(path: Path, kind: type) -> dict[str, object] | None:
    """What a run was started with; an option that did not exist then has its default. None: cannot be read."""
    try:
        return relevant(from_mapping(kind, read_yaml_mapping(path, "")))
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


def check_fingerprints(folder: Path, fingerprints: Mapping[str, Mapping[str, object]]) -> None:
    """Note what data a comparison is about, or compare with what was noted.

    Args:
        fingerprints: data set -> split -> its fingerprint, and key of the data.yaml -> its value;
            what was not asked for before is noted now.

    Raises:
        UserError: a data set is not what it was when the comparison began.
    """
    path = folder / "data.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for data, facts in fingerprints.items():
        before = known.get(data, {})
        for key, found in facts.items():
            if before.get(key, found) != found:
                what = (
                    "images or labels" if key in SPLITS else f"{key} ({before[key]!r} -> {found!r})"
                )
                raise UserError(
                    f"{data}: {what} changed since {folder} was begun; restore them, or start anew with another --name"
                )
        known[data] = before | facts
    write_json(path, known)


def train_all(trials: Sequence[Trial], jobs: int = 1) -> None:
    """Train what is not finished, `jobs` at a time, each with its share of the cores.

    Raises:
        UserError: a training failed; its last words are passed on.
        Interrupted: SIGINT or SIGTERM; the trainings were told to stop and can be resumed.
    """
    waiting = [trial for trial in trials if not trial.is_finished]
    LOGGER.info(f"{len(trials)} trainings, {len(trials) - len(waiting)} of them finished")
    for trial in waiting:
        if is_in_use(trial.folder):
            LOGGER.info(
                f"{trial.folder}: a training that was left behind is at work there; waiting for its end"
            )
    running: list[tuple[Trial, subprocess.Popen]] = []
    with _Progress(trials) as progress, StopSignals() as signals:
        try:
            while waiting or running:
                while len(running) < jobs and (trial := _next(waiting)):
                    waiting.remove(trial)
                    if not trial.is_finished:  # as it may be by now
                        running.append((trial, _start(trial, jobs)))
                time.sleep(POLL_S)
                if signals.received is not None:
                    raise Interrupted(
                        "stopped; the same command goes on from here", signals.received
                    )
                ended = [
                    (trial, process) for trial, process in running if process.poll() is not None
                ]
                running = [pair for pair in running if pair not in ended]
                waiting += [
                    trial for trial, process in ended if _was_late(trial, process.returncode)
                ]
                progress.show([trial for trial, _ in running])
        except BaseException:
            _stop([process for _, process in running])
            raise


def _next(waiting: Sequence[Trial]) -> Trial | None:
    """The first training whose options are known, and whose folder no other process writes into."""
    for trial in waiting:
        is_known = trial.needed is None or (trial.needed / "summary.json").exists()
        if is_known and not is_in_use(trial.folder):
            return trial
    return None


def _start(trial: Trial, jobs: int) -> subprocess.Popen:
    if trial.folder.exists() and not trial.is_begun:
        _set_aside(trial.folder)
    if not trial.is_begun:
        trial.write_hyp()
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


def _was_late(trial: Trial, exit_code: int) -> bool:
    """Whether an ended training found that one which was left behind had locked its folder in the meantime.

    Raises:
        UserError: it failed.
    """
    if exit_code == 0:
        return False
    if is_in_use(trial.folder):
        return True
    log = trial.folder.parent / "logs" / f"{trial.folder.name}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1].split("\r")[-1] if lines else ""
    raise UserError(
        f"{trial.folder}: the training ended with exit code {exit_code}: {last} (see {log})"
    )


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """Tell trainings to stop at the end of their batch, and wait until they have."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


class _Progress:
    """One line about all trainings: which are at work, their epochs, and the time left."""

    def __init__(self, trials: Sequence[Trial]):
        self.trials, total = trials, sum(trial.options["epochs"] for trial in trials)
        self.bar = tqdm(total=total, initial=self._done(), unit="epoch", dynamic_ncols=True)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def show(self, running: Sequence[Trial]) -> None:
        self.bar.n = self._done()
        self.bar.set_description_str(
            ", ".join(f"{t.folder.name} {_epoch(t)}/{t.options['epochs']}" for t in running)
        )
        self.bar.refresh()

    def _done(self) -> int:
        return sum(_epoch(trial) for trial in self.trials)


def _epoch(trial: Trial) -> int:
    """Epochs that a trial's results.csv holds."""
    path = trial.folder / "results.csv"
    return max(path.read_text(encoding="utf-8").count("\n") - 1, 0) if path.exists() else 0
