"""When the host waits for the GPU in a training: to measure gradients and to show losses only."""

import contextlib
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gpu
import pytest
import torch
from small_runs import run, small_options
from torch.autograd import DeviceType
from torch.profiler import profile, record_function

from utils.core.files import ROOT
from utils.training.gradient_probe import GradientPlan, GradientProbe
from utils.training.trainer import Trainer

pytestmark = pytest.mark.gpu

NEVER = 1_000_000  # batches
READ_EVERY = 3  # batches, in place of LOSS_READ_INTERVAL
# What CUDA's functions are called that wait; copies to pageable memory wait by the second of them
WAITING = ("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy")
# Today: the norms, the losses' means, each of the two losses; in fp16 the loss scale as well
MOST_WAITS_OF_AN_UPDATE = 5


@dataclass(frozen=True)
class Step:
    """A batch of a training.

    Attributes:
        waits: where the host waited for the GPU.
        measured: whether gradients were measured, for GradNorm.
        read: whether the losses were read.
    """

    name: str
    waits: list[str]
    measured: bool
    read: bool

    @property
    def kind(self) -> str:
        kinds = ["usual"]
        if self.read:
            kinds.append("losses read")
        if self.measured:
            kinds.append("gradients measured")
        return kinds[-1]


@pytest.fixture(scope="module")
def options(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Of two epochs of six batches, frames in memory."""
    changes = {"epochs": 2, "batch_size": 2, "workers": 0, "device": gpu.DEVICE}
    return small_options(tiny_data, tmp_path_factory.mktemp("cfg")) | changes


def is_own(path: Path) -> bool:
    return path.is_relative_to(ROOT) and "site-packages" not in path.parts


def where() -> str:
    """The line of this project that is at work, and the line of torch that it called."""
    frames = traceback.extract_stack()[:-2]  # without this and who asks
    frames = [frame for frame in frames if Path(frame.filename).name != "warnings.py"]
    own = [frame for frame in frames if is_own(Path(frame.filename))]
    inner, place = frames[-1], own[-1]
    text = f"{Path(place.filename).relative_to(ROOT)}:{place.lineno} {place.line}"
    if inner is not place:
        text += f" (in {Path(inner.filename).name}:{inner.lineno} {inner.name})"
    return text


@contextlib.contextmanager
def waits_noted() -> Iterator[list[str]]:
    """Within the context, the places where the host waits for the GPU."""
    found: list[str] = []

    def note(message: Warning | str, *others: object) -> None:
        if "called a synchronizing CUDA operation" in str(message):
            found.append(where())

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        if gpu.DEVICE == "cpu":
            yield found
            return
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[GradientPlan]:
    """What was to be measured in every batch, in order."""
    made = []
    original = GradientProbe.plan

    def plan(self: GradientProbe, *arguments: object) -> GradientPlan:
        made.append(original(self, *arguments))
        return made[-1]

    monkeypatch.setattr(GradientProbe, "plan", plan)
    return made


def noted_steps(options: dict, folder: Path, plans: list[GradientPlan]) -> list[Step]:
    """All steps of a training but the first epoch's, and each epoch's first."""
    steps = []
    with waits_noted() as waits:

        def note(trainer: Trainer, epoch: int, index: int, batch: dict) -> None:
            # What is done after this, until the next batch is there, counts for the next.
            if epoch and index:
                measured = plans[-1].wanted_at is not None
                read = (index + 1) % READ_EVERY == 0
                steps.append(Step(f"epoch {epoch} batch {index}", list(waits), measured, read))
            waits.clear()

        run(options, folder, on_step=note)
    return steps


def report(steps: list[Step]) -> str:
    """How often the host waits in every kind of step, and where."""
    rows = []
    for kind in sorted({step.kind for step in steps}):
        of_kind = [step for step in steps if step.kind == kind]
        counts = [len(step.waits) for step in of_kind]
        rows.append(f"{kind}: {len(of_kind)} steps, waits in each {counts}")
        places = Counter(place for step in of_kind for place in step.waits)
        rows += [f"    {count} times at {place}" for place, count in places.most_common()]
    return "\n".join(rows)


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("at", ["features", "weights"])
def test_a_usual_batch_never_waits(
    options: dict,
    tmp_path: Path,
    plans: list[GradientPlan],
    monkeypatch: pytest.MonkeyPatch,
    amp: str,
    at: str,
):
    """But to read the losses, once in a while, and to measure gradients, once an interval."""
    if amp == "fp16" and gpu.DEVICE == "cpu":
        pytest.skip("fp16 needs CUDA")
    monkeypatch.setattr("utils.training.trainer.LOSS_READ_INTERVAL", READ_EVERY)
    changes = {"amp": amp, "gradnorm_place": at, "gradnorm_interval": 4}
    steps = noted_steps(options | changes, tmp_path / "run", plans)
    text = report(steps)
    print(f"{amp}, {at}\n{text}")
    assert {step.kind for step in steps} >= {"usual", "gradients measured"}, text
    for step in steps:
        most = int(step.read)
        if step.measured:
            most += MOST_WAITS_OF_AN_UPDATE
        assert len(step.waits) <= most, f"{step.name}, {step.kind}: {step.waits}\n{text}"


def test_a_wait_would_be_seen():
    if gpu.DEVICE == "cpu":
        pytest.skip("a CPU waits for nothing")
    ones = torch.ones(3, device=gpu.DEVICE)
    with waits_noted() as waits:
        ones.sum().item()
        ones.nonzero()
        ones + ones
    assert len(waits) >= 2 and all("test_host_waits" in place for place in waits), waits


class ProfiledSteps:
    """Profiles the second epoch but its first batch, every step marked."""

    def __init__(self) -> None:
        self.profiler = profile()  # of all that this PyTorch can see
        self.count = 0
        self._mark = record_function("a training step")

    def __call__(self, trainer: Trainer, epoch: int, index: int, batch: dict) -> None:
        if epoch == 0:
            return
        if index == 0:
            self.profiler.start()
        else:
            self._mark.__exit__(None, None, None)
            self.count += 1
        if index + 1 == len(trainer.train_loader):
            self.profiler.stop()
        else:
            self._mark = record_function("a training step")
            self._mark.__enter__()


def test_the_profiler_sees_no_wait_of_a_usual_batch(
    options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("utils.training.trainer.LOSS_READ_INTERVAL", NEVER)
    profiled = ProfiledSteps()
    run(options | {"gradnorm_interval": NEVER}, tmp_path / "run", on_step=profiled)
    events = profiled.profiler.events()
    spans = []
    for event in events:
        if event.name == "a training step" and event.device_type == DeviceType.CPU:
            spans.append(event.time_range)
    assert len(spans) == profiled.count > 0
    within = Counter()
    for event in events:
        if any(span.start <= event.time_range.start < span.end for span in spans):
            within[event.name] += 1
    called = {name: count for name, count in within.items() if name.startswith("cuda")}
    if gpu.DEVICE != "cpu" and not called:
        pytest.skip("the profiler sees nothing of CUDA here")
    text = f"{profiled.count} steps called of CUDA: {called}"
    print(text)
    waits = {name: count for name, count in called.items() if name.startswith(WAITING)}
    waits.pop("cudaMemcpyAsync", None)
    assert not waits, text
