"""Stands in for the package ray: its calls that the engine makes, in this process.

A task is run when it is first waited for, and again as its options say.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace


class TaskError(Exception):
    """What `get` raises for a task that failed."""

    def __init__(self, cause: Exception):
        super().__init__(f"Traceback of a task\n{cause}")
        self.cause = cause


@dataclass(eq=False)
class Task:
    """A task, and the reference to it."""

    function: Callable
    arguments: tuple
    options: dict[str, object]
    attempts: int = 0
    has_ended: bool = False
    error: Exception | None = None

    def run(self) -> None:
        """To its end."""
        for argument in self.arguments:
            if isinstance(argument, Task) and argument.error:
                self.error = argument.error
                self.has_ended = True
        while not self.has_ended:
            self._try()

    def _try(self) -> None:
        given = [None if isinstance(own, Task) else own for own in self.arguments]
        self.attempts += 1
        self.error = None
        may_go_on = self.attempts <= self.options["max_retries"]
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under a Ray that `&` started
        try:
            self.function(*given)
        except Exception as error:
            self.error = TaskError(error)
            is_retried = isinstance(error, tuple(self.options["retry_exceptions"]))
            self.has_ended = not (is_retried and may_go_on)
        else:
            self.has_ended = True
        finally:
            signal.signal(signal.SIGINT, handler)


class FakeRay:
    """Stands in for the module.

    Attributes:
        tasks: all that were given to it.
        cancelled: those that were taken back.
        during_wait: called once while tasks are waited for, like a signal's handler: what it raises
            is lost.
    """

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.cancelled: list[Task] = []
        self.is_connected = False
        self.during_wait: Callable[[], None] | None = None

    def init(self, address: str, **options: object) -> None:
        self.is_connected = True

    def shutdown(self) -> None:
        self.is_connected = False

    def nodes(self) -> list[dict[str, object]]:
        return [
            {"Alive": True, "Resources": {"CPU": 4.0}},
            {"Alive": False, "Resources": {"CPU": 1.0}},
        ]

    def remote(self, **options: object) -> Callable:
        def decorate(function: Callable) -> SimpleNamespace:
            return SimpleNamespace(
                remote=lambda *given: self._submit(Task(function, given, options))
            )

        return decorate

    def _submit(self, task: Task) -> Task:
        self.tasks.append(task)
        return task

    def wait(
        self, tasks: list[Task], num_returns: int, timeout: float | None = None
    ) -> tuple[list[Task], list[Task]]:
        if self.during_wait:
            interrupt = self.during_wait
            self.during_wait = None
            try:
                interrupt()
            except BaseException:
                return [], tasks
        for task in tasks:
            if task not in self.cancelled:
                task.run()
        return tasks, []

    def get(self, task: Task) -> None:
        if task.error:
            raise task.error

    def cancel(self, task: Task) -> None:
        self.cancelled.append(task)
