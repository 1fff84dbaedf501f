"""Trains on the machines of a Ray cluster: a task of Ray's for every training.

Ray places the tasks, lets each wait for the training that it needs, and begins anew what a lost
machine or a killed process left. A task does what `LocalEngine` does: it starts the training's
process, which goes on where the last one stopped, and waits for its end.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.comparison.engine import POLL_S, TrainingProcess
from utils.comparison.trainings import Training
from utils.core.lock import is_in_use
from utils.core.script import LOGGER, UserError
from utils.core.signals import signals_held_back, stop_if_asked

RETRIES = 3
REFUSED = 2  # exit code of a `UserError`: the next attempt would end in the same way


class Lost(Exception):
    """A training ended early, by something that may not happen again."""


class RayEngine:
    """The machines of a Ray cluster.

    Args:
        address: HOST:PORT of the cluster; "auto" is the one that this machine belongs to.
        device: "auto", a GPU where there are any, or "cpu".
        jobs: how many trainings share the cores of a machine, or one of its GPUs.
    """

    def __init__(self, address: str, device: str, jobs: int):
        if device not in ("auto", "cpu"):
            raise UserError(f"--device {device}: --engine ray chooses the GPU; use auto or cpu")
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no network beyond the cluster
        try:
            import ray  # of an optional extra
        except ImportError as error:
            raise UserError(f"--engine ray: {error}; install it: pip install '.[ray]'") from None
        self._ray = ray
        self._address = address
        self._device = device
        self._jobs = jobs
        self._pending: dict[object, Training] = {}  # by Ray's reference to the task
        self._failures: list[str] = []

    @property
    def at_work(self) -> list[Training]:
        return [training for training in self._pending.values() if is_in_use(training.folder)]

    def begin(self, trainings: Sequence[Training]) -> None:
        with signals_held_back():  # after it they are ours again, which Ray takes to itself
            self._connect()
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        share = share_of(self._device, self._jobs, machines)
        task = self._ray.remote(max_retries=RETRIES, retry_exceptions=[Lost], **share)(_train)
        references = {}
        for training in sorted(trainings, key=lambda own: own.needed is not None):
            needed = references.get(training.needed)
            reference = task.remote(training, os.getcwd(), share["num_cpus"], needed)
            references[training.folder] = reference
            self._pending[reference] = training

    def look(self) -> bool:
        ended, _ = self._ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        stop_if_asked()  # Ray swallows what a handler raises while it waits
        for reference in ended:
            self._note_end(self._pending.pop(reference), reference)
        if self._failures and not self._pending:
            raise UserError("; ".join(self._failures))
        return bool(self._pending)

    def stop(self) -> None:
        for reference in self._pending:
            self._ray.cancel(reference)
        if self._pending:
            self._ray.wait(list(self._pending), num_returns=len(self._pending))
        self._ray.shutdown()

    def _connect(self) -> None:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            self._ray.init(self._address, include_dashboard=False, **quiet)
        except Exception as error:  # of kinds that Ray does not list
            words = f"--address {self._address}: {_first_line(error)}"
            raise UserError(f"{words}; start Ray there first: ray start --head") from None

    def _note_end(self, training: Training, reference: object) -> None:
        """Say of a training that failed how it did; the others go on."""
        try:
            self._ray.get(reference)
            return
        except Exception as error:
            cause = getattr(error, "cause", error)
        failure = str(cause)
        if not isinstance(cause, UserError | Lost):
            failure = f"{training.folder}: {type(cause).__name__}: {_first_line(cause)}"
        if failure not in self._failures:  # as that of the training that this one needs is
            LOGGER.warning(f"{failure}; the other trainings go on")
            self._failures.append(failure)


def share_of(
    device: str, jobs: int, machines: Sequence[Mapping[str, float]]
) -> dict[str, int | float]:
    """What a training asks for: its part of the smallest machine, or of a GPU and its cores."""
    cores = min((own["CPU"] for own in machines if "CPU" in own), default=1)
    gpus = 0
    with_gpu = [own for own in machines if own.get("GPU", 0) >= 1]
    if device == "auto" and with_gpu:
        cores = min(own.get("CPU", 0) / own["GPU"] for own in with_gpu)
        gpus = math.floor(10_000 / jobs) / 10_000  # Ray counts in ten-thousandths
    return {"num_cpus": max(1, int(cores / jobs)), "num_gpus": gpus}


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _train(training: Training, folder: str, threads: int, needed: None) -> None:
    """The task, on one of the machines, when what it needs has ended."""
    for place in (folder, training.folder.parent, training.data):
        if not Path(folder, place).exists():
            raise UserError(
                f"{training.folder}: {socket.gethostname()} has no {Path(folder, place)}; all "
                "machines must see the project, the comparison and the data at the same paths"
            )
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray cancels by it; `&` ignores it
    while is_in_use(training.folder):  # by one that was left behind, or that lost its machine
        time.sleep(POLL_S)
    if training.is_finished:
        return
    own = TrainingProcess.start(training, threads, own_session=False)  # so that Ray can end it
    exit_code = own.wait()
    if exit_code == REFUSED and not own.was_late():
        raise UserError(own.last_words())
    if exit_code != 0:
        raise Lost(own.last_words())
