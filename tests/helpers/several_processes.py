"""Trainings in several processes, as torchrun starts them, and whether they are those of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from script_processes import ScriptProcess
from small_runs import TIMES

from utils.checkpoints.checkpoint import load_checkpoint
from utils.core.files import ROOT

# Runs a training script without what depends on how frames are spread over processes: batch norm's
# own statistics, and dropout. After every step all ranks must hold the same bits. A rank told to
# fail does so once, in the second epoch.
LAUNCHER = """
import os, sys
import torch
import torch.nn.functional as F
import {script} as script
import utils.commands.{script} as command
from utils.core import distributed
from utils.core.script import run_script
from utils.training import finish
from utils.training.trainer import train

torch.nn.BatchNorm2d.forward = lambda self, x: F.batch_norm(
    x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
torch.nn.Dropout.forward = lambda self, x: x

def check(trainer, epoch, index, batch):
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if epoch == 1 and restarts == "0" and os.environ.get("FAILING_RANK") == os.environ["RANK"]:
        os._exit(1)
    tensors = (*trainer.model.parameters(), *trainer.ema_model.parameters())
    state = ([t.double().sum().item() for t in tensors], trainer.job.balancer.weights)
    assert all(other == state for other in distributed.gathered([state]))

finish.draw_run = lambda folder: []  # nobody looks at the pictures
assert command.train is train
command.train = lambda job: train(job, check)
run_script(script.main)
"""


def launch(
    folder: Path,
    script: ModuleType,
    options: dict,
    processes: int,
    *torchrun: str,
    **environment: str,
) -> Path:
    """Train into `folder`, by `torchrun` if it is given options, else with the variables it sets."""
    launcher = folder.parent / "launcher.py"
    launcher.write_text(LAUNCHER.format(script=script.__name__))
    place = {"project": folder.parent, "name": folder.name, "optimizer": "SGD", "workers": 0}
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in (options | place).items()]
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if torchrun:
        run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *run, *torchrun, str(launcher), *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return folder
    run_in_processes(processes, launcher, *arguments, **environment)
    return folder


def run_in_processes(processes: int, script: Path, *arguments: object, **environment: str) -> None:
    """Run a script as every rank, with the variables that torchrun sets, until all have ended."""
    started = []
    for surroundings in surroundings_of_ranks(processes):
        started.append(ScriptProcess(script, *arguments, **environment | surroundings))
    for process in started:
        stdout, stderr = process.communicate(500)
        assert process.returncode == 0, stdout + stderr


def surroundings_of_ranks(processes: int) -> list[dict[str, str]]:
    """The variables that torchrun sets for every rank; none for a single process."""
    if processes == 1:
        return [{}]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    common["LOCAL_WORLD_SIZE"] = str(processes)
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def assert_same_training(one: Path, several: Path) -> None:
    """Weights, figures and rows agree within float tolerance."""
    a, b = (load_checkpoint(folder / "weights" / "last.pt") for folder in (one, several))
    for kind in ("model", "ema"):
        left, right = (state[kind]["model"] if kind == "ema" else state[kind] for state in (a, b))
        for name in left:
            torch.testing.assert_close(
                left[name], right[name], rtol=1e-4, atol=1e-6, msg=lambda text, n=name: n + text
            )
    for name in ("results.csv", "gradnorm.csv"):
        assert (one / name).exists() == (several / name).exists()
        if (one / name).exists():
            left, right = (
                pd.read_csv(folder / name).drop(columns=TIMES, errors="ignore")
                for folder in (one, several)
            )
            # Validation losses are means of batches, which are smaller where there are more
            # processes.
            left, right = (
                table.loc[:, ~table.columns.str.startswith("val/")] for table in (left, right)
            )
            pd.testing.assert_frame_equal(left, right, rtol=1e-3, atol=1e-6)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (one, several)]
    assert metrics[0]["views"]["accuracy"] == metrics[1]["views"]["accuracy"]
    assert metrics[0]["detection"]["mAP_0.5"] == pytest.approx(
        metrics[1]["detection"]["mAP_0.5"], abs=1e-6
    )
