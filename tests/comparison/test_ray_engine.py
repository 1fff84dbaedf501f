"""What the engine asks of Ray, with a stand-in for it; tests/scripts/test_ray_cluster.py has Ray."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_ray import FakeRay
from made_up_trainings import made_up_trainings

from utils.comparison import engine
from utils.comparison.engine import train_all
from utils.comparison.ray_engine import RayEngine, share_of
from utils.core.files import ROOT
from utils.core.script import UserError, run_script


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")  # is set back at the end
    return fake


@pytest.fixture
def train_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray: FakeRay) -> Callable:
    """Train arms, each by a script of these lines: name -> the arm it needs, or None.

    The lines may call `attempt`, which says how often the arm was begun.
    """
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(engine, "POLL_S", 0.01)
    data = tmp_path / "data.yaml"
    data.touch()
    attempt = """
def attempt():
    note = folder.parent / f"attempts of {folder.name}"
    with note.open("a") as stream:
        stream.write("x")
    return len(note.read_text())
"""

    def run(lines: str, needs: dict[str, str | None], data: Path = data) -> None:
        trainings = made_up_trainings(tmp_path, attempt + lines, needs, str(data))
        train_all(trainings, RayEngine("auto", "cpu", 1))

    return run


def attempts(folder: Path, arm: str) -> int:
    path = folder / "runs" / f"attempts of {arm}"
    return len(path.read_text()) if path.exists() else 0


def test_one_arm_that_fails_is_reported_once_while_the_others_finish(
    train_with: Callable, tmp_path: Path, ray: FakeRay
):
    lines = """
attempt()
if folder.name == "bad":
    print("a line\\nerror: no such option")
    sys.exit(2)
(folder / "summary.json").touch()
"""
    needs = {"needs-bad": "bad", "needs-good": "good", "bad": None, "good": None}
    with pytest.raises(UserError) as failed:
        train_with(lines, needs)
    log = tmp_path / "runs/logs/bad.log"
    assert str(failed.value) == (
        f"{tmp_path / 'runs/bad'}: the training ended with exit code 2: error: no such option "
        f"(see {log})"
    )
    assert [attempts(tmp_path, arm) for arm in needs] == [0, 1, 1, 1]
    assert (tmp_path / "runs/needs-good/summary.json").exists() and not ray.is_connected


@pytest.mark.parametrize(
    ("failing", "begun", "is_well"), [(1, 2, True), (3, 4, True), (9, 4, False)]
)
@pytest.mark.parametrize("end", ["sys.exit(1)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_lost_training_is_begun_again_up_to_three_times(
    train_with: Callable, tmp_path: Path, failing: int, begun: int, is_well: bool, end: str
):
    lines = f"""
if attempt() <= {failing}:
    {end}
(folder / "summary.json").touch()
"""
    if is_well:
        train_with(lines, {"a": None})
    else:
        with pytest.raises(UserError, match="the training ended with exit code"):
            train_with(lines, {"a": None})
    assert attempts(tmp_path, "a") == begun
    assert (tmp_path / "runs/a/summary.json").exists() == is_well


def test_a_training_has_the_cores_that_were_asked_for(
    train_with: Callable, tmp_path: Path, ray: FakeRay
):
    train_with("(folder / 'summary.json').write_text(os.environ['OMP_NUM_THREADS'])", {"a": None})
    (task,) = ray.tasks
    assert task.options["num_cpus"] == 4 and task.options["num_gpus"] == 0
    assert (tmp_path / "runs/a/summary.json").read_text() == "4"


@pytest.mark.parametrize(
    ("device", "jobs", "machines", "cores", "gpus"),
    [
        ("cpu", 1, [{"CPU": 8}, {"CPU": 4}], 4, 0),
        ("cpu", 2, [{"CPU": 8}, {"CPU": 4}, {}], 2, 0),
        ("cpu", 2, [{"CPU": 8, "GPU": 4}], 4, 0),
        ("auto", 16, [{"CPU": 8}], 1, 0),
        ("auto", 1, [{"CPU": 64, "GPU": 8}, {"CPU": 16, "GPU": 1}, {"CPU": 2}], 8, 1),
        ("auto", 2, [{"CPU": 64, "GPU": 8}], 4, 0.5),
        ("auto", 1, [], 1, 0),
    ],
)
def test_what_a_training_asks_for(
    device: str, jobs: int, machines: list[dict], cores: int, gpus: float
):
    assert share_of(device, jobs, machines) == {"num_cpus": cores, "num_gpus": gpus}


def test_as_many_trainings_as_asked_for_fit_on_a_gpu():
    for jobs in range(1, 65):
        share = share_of("auto", jobs, [{"CPU": 64, "GPU": 1}])["num_gpus"]
        assert 1 - 0.0064 < round(share * 10_000) * jobs / 10_000 <= 1


def test_a_machine_without_the_data_says_so_and_is_not_asked_again(
    train_with: Callable, tmp_path: Path, ray: FakeRay
):
    with pytest.raises(UserError) as failed:
        train_with("", {"a": None}, tmp_path / "elsewhere/data.yaml")
    assert f"has no {tmp_path}/elsewhere/data.yaml; all machines must see" in str(failed.value)
    assert ray.tasks[0].attempts == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_every_task_back_though_ray_swallows_it(
    train_with: Callable, ray: FakeRay, capsys: pytest.CaptureFixture, number: int
):
    before = signal.getsignal(number)
    ray.during_wait = lambda: signal.raise_signal(number)
    ray.init = lambda address, **options: signal.signal(number, signal.SIG_DFL)
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: train_with("", {"a": None, "b": None}))
    assert stop.value.code == 128 + number and signal.getsignal(number) is before
    assert "stopped; the same command goes on from here" in capsys.readouterr().err
    assert ray.cancelled == ray.tasks and len(ray.tasks) == 2 and not ray.is_connected


def test_a_task_that_is_cancelled_stops_its_training(
    train_with: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(seconds: float) -> None:  # as Ray does
        if (tmp_path / "runs/a/began").exists():
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(engine.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_with("wait_for_the_end()", {"a": None})
    assert (tmp_path / "runs/a/stopped").exists()


def test_no_statistics_are_sent(ray: FakeRay):
    RayEngine("auto", "cpu", 1)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_without_a_cluster_a_line_says_how_to_start_one(train_with: Callable, ray: FakeRay):
    def refuse(address: str, **options: object) -> None:
        raise ConnectionError(f"no Ray at {address}\nmore about it")

    ray.init = refuse
    with pytest.raises(UserError) as refused:
        train_with("", {"a": None})
    assert str(refused.value) == (
        "--address auto: no Ray at auto; start Ray there first: ray start --head"
    )
