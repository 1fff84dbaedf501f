"""Comparisons on two nodes of a Ray cluster, both on this machine."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import Popen

import pytest
from ray_nodes import RayCluster, RayNode
from script_processes import ScriptProcess
from small_comparisons import (
    Compared,
    compare,
    not_again,
    place,
    results_of,
    without_costs,
)
from small_runs import assert_same_run

from utils.core.files import ROOT
from utils.core.lock import LOCK_NAME, is_in_use

pytest.importorskip("ray", reason="pip install '.[ray]'")
pytestmark = pytest.mark.slow

PATIENCE_S = 900  # on a machine that is busy
CORES = max(1, (os.cpu_count() or 1) // 2)  # each training of `compared` had half of them


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with RayCluster(CORES) as cluster:
        yield cluster


@pytest.fixture
def expected(
    linked: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., object]:
    """What arms come to on the local engine."""

    def evaluate(*arms: str) -> object:
        return without_costs(compare(monkeypatch, not_again, linked, *arguments, "--arms", *arms))

    return evaluate


@pytest.fixture
def start(
    cluster: RayCluster, arguments: list[str], tmp_path: Path
) -> Callable[..., ScriptProcess]:
    """Start the comparison of arms in the folder "compared" on the cluster."""

    def run(*arms: str) -> ScriptProcess:
        on_ray = ("--jobs=1", "--engine=ray", f"--address={cluster.address}")
        where = place(tmp_path / "compared")
        words = ["compare_solutions.py", *arguments, *on_ray, *where, "--arms", *arms]
        return ScriptProcess(*words, **cluster.environment)

    return run


def run_within_an_epoch(process: ScriptProcess, folder: Path, node: RayNode) -> Path:
    """The first run of a node that has finished an epoch, and not all; its process is held."""
    while process.poll() is None:
        for run in folder.glob("*-seed0"):
            if not (run / "results.csv").exists():
                continue
            lines = (run / "results.csv").read_text().count("\n")
            pid = pid_of(run)
            if lines == 2 and node.runs(pid):
                os.kill(pid, signal.SIGSTOP)
                if not (run / "summary.json").exists():
                    return run
                os.kill(pid, signal.SIGCONT)
        time.sleep(0.005)
    pytest.fail(f"no run was met within an epoch: {process.communicate()}")


def starts_of(run: Path) -> list[str]:
    """The commands that a run was begun with, and gone on with."""
    lines = (run.parent / "logs" / f"{run.name}.log").read_text().splitlines()
    return [line for line in lines if line.startswith("$ python ")]


def pid_of(run: Path) -> int:
    """The process that trains it; 0 if there is none."""
    try:
        return json.loads((run / LOCK_NAME).read_text())["pid"]
    except FileNotFoundError:
        return 0


def test_a_machine_that_is_lost_within_an_epoch_changes_nothing(
    cluster: RayCluster, compared: Compared, expected: Callable, start: Callable, tmp_path: Path
):
    arms = ("gradnorm-static", "dual")
    doomed = cluster.add_node(CORES)
    process = start(*arms)
    run = run_within_an_epoch(process, tmp_path / "compared", doomed)
    doomed.kill()
    _, errors = process.communicate(PATIENCE_S)
    assert process.returncode == 0, errors
    assert without_costs(results_of(tmp_path / "compared")) == expected(*arms)
    for name in ("gradnorm-seed0", "gradnorm-static-seed0", "dual-seed0"):
        assert_same_run(tmp_path / "compared" / name, compared.folder / name)
    first, second = starts_of(run)
    assert "--resume" not in first and "--resume" in second


def test_ctrl_c_ends_the_trainings_of_all_machines_and_the_same_command_goes_on(
    cluster: RayCluster, expected: Callable, start: Callable, tmp_path: Path
):
    arms = ("fixed", "dual")
    other = cluster.add_node(CORES)
    process = start(*arms)
    run = run_within_an_epoch(process, tmp_path / "compared", other)
    pid = pid_of(run)
    process.send_signal(signal.SIGINT)
    os.kill(pid, signal.SIGCONT)
    _, errors = process.communicate(PATIENCE_S)
    assert process.returncode == 128 + signal.SIGINT
    assert "stopped; the same command goes on from here" in errors
    assert not any(is_in_use(run) for run in (tmp_path / "compared").glob("*-seed0"))
    assert not Path(f"/proc/{pid}").exists()
    assert json.loads((run / "progress.json").read_text())["state"] == "stopped"
    process = start(*arms)
    _, errors = process.communicate(PATIENCE_S)
    assert process.returncode == 0, errors
    assert without_costs(results_of(tmp_path / "compared")) == expected(*arms)
    assert len(starts_of(run)) == 2


FAILING = """
import sys
from pathlib import Path

from made_up_trainings import made_up_trainings
from utils.comparison.engine import train_all
from utils.comparison.ray_engine import RayEngine
from utils.core.script import run_script

LINES = '''
with (folder.parent / f"attempts of {folder.name}").open("a") as stream:
    print(file=stream)
attempts = len((folder.parent / f"attempts of {folder.name}").read_text())
if folder.name == "bad":
    print("error: no such option")
    sys.exit(2)
if folder.name == "killed" and attempts == 1:
    os.kill(os.getpid(), signal.SIGKILL)
(folder / "summary.json").touch()
'''
NEEDS = {"bad": None, "needs-bad": "bad", "killed": None, "needs-killed": "killed"}

folder, address = sys.argv[1:]
trainings = made_up_trainings(Path(folder), LINES, NEEDS, sys.argv[0])
run_script(lambda: train_all(trainings, RayEngine(address, "cpu", 1)))
"""


def test_one_training_that_fails_is_not_tried_again_and_the_others_finish(
    cluster: RayCluster, tmp_path: Path
):
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    process = ScriptProcess(script, tmp_path, cluster.address, **cluster.environment)
    _, errors = process.communicate(PATIENCE_S)
    runs = tmp_path / "runs"
    assert process.returncode == 2, errors
    complaint = f"{runs / 'bad'}: the training ended with exit code 2: error: no such option (see"
    assert errors.count(f"error: {complaint}") == 1
    attempts = {path.name: len(path.read_text()) for path in runs.glob("attempts of *")}
    assert attempts == {
        "attempts of bad": 1,
        "attempts of killed": 2,
        "attempts of needs-killed": 1,
    }
    assert (runs / "needs-killed/summary.json").exists()


@pytest.fixture
def allocation(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a job of SLURM's on two nodes, both of which are this machine."""
    commands = {
        "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
        "ray": f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT / "tests/helpers")!r})
from ray.scripts.scripts import main
from ray_nodes import options_of_small_nodes
sys.argv += options_of_small_nodes()
main()
""",
    }
    for name, text in commands.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o700)
    job = str(os.getpid())
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    slurm = {"JOB_ID": job, "JOB_NUM_NODES": "2", "CPUS_PER_TASK": str(CORES), "SUBMIT_DIR": "."}
    own = {"PATH": path, "RAY_worker_niceness": "0"}
    yield os.environ | {f"SLURM_{key}": value for key, value in slurm.items()} | own
    shutil.rmtree(f"/tmp/ray-{job}", ignore_errors=True)


@contextlib.contextmanager
def job(words: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[Popen]:
    """A script of SLURM's at work; what it leaves is ended, as SLURM does."""
    with log.open("a") as stream:
        process = Popen(
            words, cwd=ROOT, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_script_for_slurm_stops_in_time_and_goes_on(
    compared: Compared, allocation: dict[str, str], arguments: list[str], tmp_path: Path
):
    run = tmp_path / "compared/dual-seed0"
    log = tmp_path / "job.log"
    script = ["docs/how-to/compare_on_slurm.sh", *arguments, *place(run.parent)]
    words = [*script, "--arms=dual", "--jobs=1"]
    with job(words, allocation, log) as process:
        while process.poll() is None and not (run / "progress.json").exists():
            time.sleep(0.05)
        process.terminate()
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM, log.read_text()
    assert json.loads((run / "progress.json").read_text())["state"] == "stopped"
    with job(words, allocation, log) as process:
        assert process.wait(PATIENCE_S) == 0, log.read_text()
    assert_same_run(run, compared.folder / run.name)
    assert not list(ROOT.glob(".ray-token-*"))
