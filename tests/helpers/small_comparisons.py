"""Comparisons of small trainings, in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import compare_solutions
import train_joint_dual_backbone
import train_joint_gradnorm
from utils.commands import compare_solutions as command
from utils.comparison import engine
from utils.comparison.arms import DUAL, JOINT
from utils.core.files import ROOT
from utils.core.options import JointOptions
from utils.training import timing
from utils.training.setup import Job
from utils.training.trainer import Trainer, train

SCRIPTS = {JOINT: train_joint_gradnorm, DUAL: train_joint_dual_backbone}
ARMS = (
    "fixed",
    "equal",
    "ratio-15",
    "gradnorm",
    "gradnorm-static",
    "dual",
    "detection-only",
    "classification-only",
)
PICTURES = (
    "solution_comparison_analysis.png",
    "solution_comparison_analysis.pdf",
    "interference.png",
)


class InThisProcess:
    """Stands in for `subprocess.Popen`: the training takes place here.

    It has the threads that it would have there.
    """

    def __init__(self, words: Sequence[str], **options: object):
        script, threads = SCRIPTS[Path(words[1]).name], torch.get_num_threads()
        torch.set_num_threads(int(options["env"].get("OMP_NUM_THREADS", threads)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words[1:])
            script.main()
        torch.set_num_threads(threads)
        self.returncode = 0

    def poll(self) -> int:
        return self.returncode


def not_again(command: Sequence[str], **options: object) -> None:
    pytest.fail(f"a training starts: {' '.join(command)}")


def compare(
    patch: pytest.MonkeyPatch,
    start: Callable,
    folder: Path,
    *given: object,
    pictures: bool = False,
) -> dict:
    """A comparison in this process, where `start` stands in for `subprocess.Popen`.

    Returns:
        Its results.
    """
    patch.chdir(ROOT)
    if not pictures:
        patch.setattr(command, "draw_comparison", lambda folder: None)
    patch.setattr(engine, "POLL_S", 0.0)
    patch.setattr(engine, "subprocess", SimpleNamespace(Popen=start, DEVNULL=None, STDOUT=None))
    patch.setattr(timing, "LATENCY_CALLS", 1)
    patch.setattr(timing, "LATENCY_WARM_UP", 0)
    patch.setattr(sys, "argv", ["compare_solutions.py", *map(str, given), *place(folder)])
    compare_solutions.main()
    return results_of(folder)


def place(folder: Path) -> list[str]:
    return [f"--project={folder.parent}", f"--name={folder.name}"]


def results_of(folder: Path) -> dict:
    return json.loads((folder / "comparison_results.json").read_text(encoding="utf-8"))


def without_costs(results: object) -> object:
    """What is the same on every machine and at every moment."""
    if isinstance(results, dict):
        return {key: without_costs(value) for key, value in results.items() if key != "costs"}
    return [without_costs(value) for value in results] if isinstance(results, list) else results


def write_hyp(folder: Path) -> None:
    """hyp.yaml of all comparisons of `comparison_arguments`."""
    rules = yaml.safe_load((ROOT / JointOptions.hyp).read_text(encoding="utf-8"))
    content = yaml.safe_dump(rules | {"gradnorm_interval": 2})
    (folder / "hyp.yaml").write_text(content, encoding="utf-8")


def comparison_arguments(data: Path, hyp: Path) -> list[str]:
    """Of 12 frames of 64 px, 2 epochs of 3 batches, an update of the weights every two."""
    options = {
        "data": data,
        "hyp": hyp,
        "epochs": 2,
        "imgsz": 64,
        "batch-size": 4,
        "size": "n",
        "seeds": 0,
        "diagnose-interval": 2,
        "device": "cpu",
        "amp": "off",
        "jobs": 2,
    }
    return [f"--{name}={value}" for name, value in options.items()]


@dataclass(frozen=True)
class Compared:
    """A finished comparison, and what its trainings saw.

    Attributes:
        starts: run -> the weights at first.
        batches: run -> the names of the frames of every batch.
        generators: run -> the state of PyTorch's random numbers after every batch.
    """

    folder: Path
    starts: dict[str, dict[str, torch.Tensor]]
    batches: dict[str, list[list[str]]]
    generators: dict[str, list[torch.Tensor]]

    @classmethod
    def read(cls, folder: Path) -> Compared:
        """What `compare_all_arms` left."""
        return cls(folder / "whole", **torch.load(folder / "notes.pt", weights_only=True))


def compare_all_arms(folder: Path, arguments: Sequence[str]) -> None:
    """Compare all arms in the folder `whole`; what their trainings saw is in notes.pt."""
    notes = {"starts": {}, "batches": {}, "generators": {}}

    def train_and_note(job: Job) -> None:
        start = {name: tensor.clone() for name, tensor in job.model.state_dict().items()}
        notes["starts"][job.run.folder.name] = start
        train(job, note)

    def note(trainer: Trainer, epoch: int, index: int, batch: dict) -> None:
        run = trainer.job.run.folder.name
        names = [Path(path).name for path in batch["paths"]]
        notes["batches"].setdefault(run, []).append(names)
        notes["generators"].setdefault(run, []).append(torch.get_rng_state())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.training.finish.draw_run", lambda folder: [])
        for script in SCRIPTS.values():
            patch.setattr(f"utils.commands.{script.__name__}.train", train_and_note)
        arms = ("--arms", *ARMS)
        compare(patch, InThisProcess, folder / "whole", *arguments, *arms, pictures=True)
    torch.save(notes, folder / "notes.pt")
