"""Comparisons: one protocol for all arms, run folders that are gone on with, kills, mistakes, the report."""

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from small_runs import assert_same_run

import compare_solutions
import train_joint_dual_backbone
import train_joint_gradnorm
from utils.checkpoints.checkpoint import load_checkpoint
from utils.commands import compare_solutions as command
from utils.comparison import evaluation, kept, pictures, trainings
from utils.comparison.arms import DUAL, JOINT, average_weights, expand
from utils.comparison.report import to_csv, to_latex, to_markdown
from utils.comparison.trainings import Training, check_fingerprints, train_all
from utils.core.files import ROOT
from utils.core.names import TASKS
from utils.core.options import USUAL_CONFIDENCE, JointOptions
from utils.core.script import UserError, run_script
from utils.evaluation.metrics import summarise
from utils.plots import interference
from utils.training import timing
from utils.training.setup import Job
from utils.training.trainer import Trainer, train

SCRIPTS = {JOINT: train_joint_gradnorm, DUAL: train_joint_dual_backbone}
ARMS = (
    "fixed",
    "tuned",
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
    """Stands in for `subprocess.Popen`: the training takes place here, with the threads that it would have there."""

    def __init__(self, command: Sequence[str], **options: object):
        script, threads = SCRIPTS[Path(command[1]).name], torch.get_num_threads()
        torch.set_num_threads(int(options["env"].get("OMP_NUM_THREADS", threads)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", command[1:])
            script.main()
        torch.set_num_threads(threads)
        self.returncode = 0

    def poll(self) -> int:
        return self.returncode


def not_again(command: Sequence[str], **options: object) -> None:
    pytest.fail(f"a training starts: {' '.join(command)}")


def compare(patch: pytest.MonkeyPatch, start: Callable, folder: Path, *given: object) -> dict:
    """A comparison in this process, where `start` stands in for `subprocess.Popen`; returns its results."""
    patch.chdir(ROOT)
    patch.setattr(trainings, "POLL_S", 0.0)
    patch.setattr(trainings, "subprocess", SimpleNamespace(Popen=start, DEVNULL=None, STDOUT=None))
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


@pytest.fixture(scope="module")
def arguments(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of all comparisons here: 12 frames of 64 px, 2 epochs of 3 batches, an update of the weights every two."""
    hyp = tmp_path_factory.mktemp("hyp") / "hyp.yaml"
    rules = yaml.safe_load((ROOT / JointOptions.hyp).read_text(encoding="utf-8"))
    hyp.write_text(yaml.safe_dump(rules | {"gradnorm_interval": 2}), encoding="utf-8")
    options = {
        "data": tiny_data,
        "hyp": hyp,
        "epochs": 2,
        "imgsz": 64,
        "batch-size": 4,
        "size": "n",
        "seeds": 0,
    }
    options |= {"diagnose-interval": 2, "device": "cpu", "amp": "off", "jobs": 2}
    return [f"--{name}={value}" for name, value in options.items()]


@dataclass
class Compared:
    """A finished comparison, and what its trainings saw: run -> the weights at first, the frames of every batch."""

    folder: Path
    starts: dict[str, dict] = field(default_factory=dict)
    batches: dict[str, list] = field(default_factory=dict)
    generators: dict[str, list] = field(default_factory=dict)

    def train_and_note(self, job: Job) -> None:
        self.starts[job.run.folder.name] = {
            name: tensor.clone() for name, tensor in job.model.state_dict().items()
        }
        train(job, self.note)

    def note(self, trainer: Trainer, epoch: int, index: int, batch: dict) -> None:
        run = trainer.job.run.folder.name
        self.batches.setdefault(run, []).append([Path(path).name for path in batch["paths"]])
        self.generators.setdefault(run, []).append(torch.get_rng_state().numpy().tobytes())


@pytest.fixture(scope="module")
def compared(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Compared:
    found = Compared(tmp_path_factory.mktemp("compare") / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.training.finish.draw_run", lambda folder: [])
        for script in SCRIPTS.values():
            command = f"utils.commands.{script.__name__}"
            patch.setattr(f"{command}.train", found.train_and_note)
        compare(patch, InThisProcess, found.folder, *arguments, "--arms", *ARMS)
    return found


@pytest.fixture
def linked(compared: Compared, tmp_path: Path) -> Path:
    """A copy of the finished comparison's folder, whose files may be replaced or removed, but not appended to."""
    return shutil.copytree(compared.folder, tmp_path / "linked", copy_function=os.link)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> Callable[..., list[Training]]:
    """The trainings of a comparison in a folder, with more arguments."""

    def make(folder: Path, *given: object) -> list[Training]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(
            sys, "argv", ["compare_solutions.py", *arguments, *map(str, given), *place(folder)]
        )
        return command.plan(compare_solutions.parse_arguments(), folder)

    return make


# ---- one protocol --------------------------------------------------------------------------------


def test_the_kth_batch_holds_the_same_frames_in_every_arm(compared: Compared):
    """Whatever random numbers an arm draws."""
    assert set(compared.batches) == {f"{arm.name}-seed0" for arm in expand(ARMS)}
    order = compared.batches["fixed-seed0"]
    assert all(batches == order for batches in compared.batches.values())
    epochs = [[frame for batch in order[first : first + 3] for frame in batch] for first in (0, 3)]
    assert (
        epochs[0] != epochs[1]
        and sorted(epochs[0]) == sorted(epochs[1])
        and len(set(epochs[0])) == 12
    )
    drawn = {
        arm: compared.generators[f"{arm}-seed0"][-1] for arm in ("fixed", "dual", "detection-only")
    }
    assert len(set(drawn.values())) == 3


def test_what_arms_have_in_common_starts_from_the_same_values(compared: Compared):
    values: dict[str, list[torch.Tensor]] = {}
    for start in compared.starts.values():
        for name, tensor in start.items():
            values.setdefault(name.removeprefix("detector."), []).append(tensor)
    assert all(torch.equal(tensor, tensors[0]) for tensors in values.values() for tensor in tensors)
    arms = len(compared.starts)
    layers = {
        "model.0.conv.weight": 0,
        "model.24.m.0.weight": 1,
        "model.25.linear.weight": 2,
    }  # missing in so many arms
    assert {name: arms - len(values[name]) for name in layers} == layers


def test_every_arm_is_a_run_folder_of_its_own(compared: Compared):
    for arm in expand(ARMS):
        folder = compared.folder / f"{arm.name}-seed0"
        options, hyp = (
            yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in ("opt", "hyp")
        )
        given = options | hyp
        assert (
            {key: given[key] for key in arm.options} == arm.options
            and given["seed"] == 0
            and given["size"] == "n"
        )
        results = pd.read_csv(folder / "results.csv")
        rows = dict(
            zip(TASKS, (results["train/box_loss"], results["train/view_loss"]), strict=True)
        )
        assert [task for task in TASKS if rows[task].notna().all()] == list(arm.tasks)
        assert (folder / "interference.csv").exists() == (
            arm.script == JOINT and len(arm.tasks) == 2
        )
    static = pd.read_csv(compared.folder / "gradnorm-static-seed0/results.csv").iloc[-1]
    average = average_weights(compared.folder / "gradnorm-seed0")
    assert [static[f"weight/{task}"] for task in TASKS] == pytest.approx(average, rel=1e-5)


def test_the_figures_are_those_that_training_found_on_validation(compared: Compared):
    results = results_of(compared.folder)
    columns = {
        "mAP50": "mAP_0.5",
        "precision": "precision",
        "view_accuracy": "view_accuracy",
        "fitness": "fitness",
    }
    for arm in expand(ARMS):
        (run,) = results["arms"][arm.name]["runs"]
        summary = json.loads((compared.folder / f"{arm.name}-seed0/summary.json").read_text())
        last = {key: summary["last"].get(f"metrics/{column}") for key, column in columns.items()}
        assert {key: run["figures"].get(key) for key in columns} == pytest.approx(last, abs=1e-6)
        assert run["figures"]["validation_fitness"] == pytest.approx(
            run["figures"]["fitness"], abs=1e-5
        )
        assert run["figures"]["parameters_millions"] == summary["parameters"] / 1e6
        assert run["costs"].keys() == {"training_s", "peak_memory_mib", "latency_ms"} and run[
            "unit"
        ] == [0, 0]
    grid = {
        arm.name: results["arms"][arm.name]["figures"]["fitness"][0] for arm in expand(["tuned"])
    }
    assert grid[results["tuned"]] == max(grid.values())


def test_folds_are_units_and_the_test_split_is_reported(
    arguments: list[str], tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    content = yaml.safe_load(tiny_data.read_text()) | {"path": str(tiny_data.parent / "frames")}
    content |= {"val": "images/train", "test": "images/val"}
    for name in ("fold1", "fold2"):
        (tmp_path / "folds" / name).mkdir(parents=True)
        (tmp_path / "folds" / name / "data.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr("utils.training.finish.draw_run", lambda folder: [])
    folds = [
        "--folds",
        tmp_path / "folds",
        "--arms",
        "classification-only",
        "--epochs",
        1,
        "--test",
    ]
    results = compare(monkeypatch, InThisProcess, tmp_path / "compared", *arguments, *folds)
    runs = results["arms"]["classification-only"]["runs"]
    assert [run["unit"] for run in runs] == [[0, 0], [1, 0]] and results["protocol"]["units"] == 2
    assert (
        results["protocol"]["split"] == "test"
        and "8, 8 frames of 2, 2 patients" in results["protocol"]["data_line"]
    )
    assert {path.name for path in tmp_path.glob("compared/fold*")} == {
        f"fold{number}-classification-only-seed0" for number in (1, 2)
    }
    history = pd.read_csv(tmp_path / "compared/fold1-classification-only-seed0/results.csv")
    figures = runs[0]["figures"]
    assert figures["validation_fitness"] == history["metrics/fitness"].iloc[-1]
    assert figures["view_accuracy"] != pytest.approx(history["metrics/view_accuracy"].iloc[-1])


# ---- a protocol file -----------------------------------------------------------------------------


def write_protocol(
    folder: Path, arguments: Sequence[str], **changes: object
) -> tuple[Path, list[str]]:
    """A file that fixes what `arguments` say, of one arm, and the arguments that are left."""
    given = dict(argument.removeprefix("--").split("=") for argument in arguments)
    left = [f"--{name}={given.pop(name)}" for name in ("device", "jobs")]
    data = given.pop("data")
    seeds = [int(given.pop("seeds"))]
    options = {
        name.replace("-", "_"): int(value) if value.isdecimal() else value
        for name, value in given.items()
    }
    content = {
        "question": "?",
        "data": data,
        "seeds": seeds,
        "options": options,
        "arms": {"dual": "dual"},
    }
    content |= {"compare": [], "margins": {}, "budget": {"trainings": 4}}
    path = folder / "protocol.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False), encoding="utf-8")
    return path, left


def test_a_protocol_that_says_what_the_command_line_said_trains_nothing_again(
    linked: Path, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    arms = {name: name for name in ("fixed", "gradnorm", "detection-only")}
    contrast = {"arm": "gradnorm", "reference": "fixed", "metric": "mAP50"}
    counted = {"compare": [contrast], "margins": {"mAP50": 0.1}}
    path, left = write_protocol(tmp_path, arguments, arms=arms, **counted)
    found = compare(monkeypatch, not_again, linked, "--protocol", path, *left)
    assert list(found["arms"]) == list(arms)
    summary = found["fixed_before"]
    assert summary["text"] == path.read_text() and summary["margins"] == {"mAP50": 0.1}
    assert summary["departures"] == ["3 trainings had begun before the protocol was noted"]
    write_protocol(tmp_path, arguments, arms=arms, **counted | {"margins": {"mAP50": 0.2}})
    summary = compare(monkeypatch, not_again, linked, "--protocol", path, *left)["fixed_before"]
    assert summary["departures"][1].startswith(
        '`margins`: {"mAP50": 0.1} -> {"mAP50": 0.2} (noted at '
    )


def test_arms_of_a_protocol_have_options_and_hyper_parameters_of_their_own(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    own = {
        "tasks": ["classification"],
        "epochs": 1,
        "imgsz": 96,
        "gradient_clip": 5.0,
        "fliplr": 0.5,
    }
    arms = {"own": {"script": "joint", "options": own}, "usual": "classification-only"}
    path, left = write_protocol(tmp_path, arguments, arms=arms)
    monkeypatch.setattr("utils.training.finish.draw_run", lambda folder: [])
    found = compare(monkeypatch, InThisProcess, tmp_path / "compared", "--protocol", path, *left)
    hyp = {
        arm: yaml.safe_load((tmp_path / f"compared/{arm}-seed0/hyp.yaml").read_text())
        for arm in arms
    }
    assert {key for key in hyp["own"] if hyp["own"][key] != hyp["usual"][key]} == {
        "gradient_clip",
        "fliplr",
    }
    history = {arm: pd.read_csv(tmp_path / f"compared/{arm}-seed0/results.csv") for arm in arms}
    assert [len(history[arm]) for arm in arms] == [1, 2]
    assert found["fixed_before"]["departures"] == []
    for arm in arms:  # each was evaluated at its own size, as in training
        (run,) = found["arms"][arm]["runs"]
        last = history[arm]["metrics/fitness"].iloc[-1]
        assert run["figures"]["fitness"] == pytest.approx(last, abs=1e-5)


def test_what_a_protocol_fixes_is_not_given_beside_it(
    refused: Callable, arguments: list[str], tmp_path: Path
):
    path, _ = write_protocol(tmp_path, arguments)
    found = refused(tmp_path / "compared", "--protocol", path)
    fixed = "--data, --seeds, --epochs, --imgsz, --batch-size, --hyp, --amp, --size, --diagnose-interval"
    assert f"--protocol {path} fixes {fixed} as well; leave them out, or change the file" in found
    assert not (tmp_path / "compared").exists()


def test_trainings_go_fold_by_fold(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
):
    for number in range(2):
        (tmp_path / f"folds/fold{number}").mkdir(parents=True)
        (tmp_path / f"folds/fold{number}/data.yaml").touch()
    monkeypatch.setattr(
        sys, "argv", ["", *arguments, "--folds", str(tmp_path / "folds"), "--arms", "fixed", "dual"]
    )
    trainings = command.plan(compare_solutions.parse_arguments(), tmp_path)
    assert [training.folder.name for training in trainings] == [
        *("fold0-fixed-seed0", "fold0-dual-seed0", "fold1-fixed-seed0", "fold1-dual-seed0")
    ]


# ---- again from the files ------------------------------------------------------------------------


@pytest.fixture
def rescore(monkeypatch: pytest.MonkeyPatch, tiny_data: Path) -> Callable[..., dict]:
    """`--rescore` on a folder where no network can be made; returns its results."""

    def run(folder: Path, *given: object) -> dict:
        monkeypatch.setattr(command, "load_model", lambda path: pytest.fail("a network is made"))
        arguments = [f"--rescore={folder}", f"--data={tiny_data}", *map(str, given)]
        monkeypatch.setattr(sys, "argv", ["compare_solutions.py", *arguments])
        compare_solutions.main()
        return results_of(folder)

    return run


TABLES = (
    "comparison_results.json",
    "report.md",
    "comparison.csv",
    "comparison.tex",
    "per_patient.csv",
)


def test_a_report_is_made_again_from_the_files(compared: Compared, linked: Path, rescore: Callable):
    for name in (*TABLES, *PICTURES):
        (linked / name).unlink()
    for weights in linked.glob("*/weights"):
        shutil.rmtree(weights)
    rescore(linked)
    for name in (*TABLES, *PICTURES):
        assert (linked / name).read_bytes() == (compared.folder / name).read_bytes()


def test_a_copy_for_readers_suffices_and_tells_no_secret(
    compared: Compared, tmp_path: Path, tiny_data: Path, rescore: Callable
):
    kept.main([str(compared.folder), str(tmp_path / "copy")])
    assert rescore(tmp_path / "copy") == results_of(compared.folder)
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert not {"last.pt", "val_batch.json", "progress.json", ".lock"} & {
        path.name for path in files
    }
    assert {"predictions.npz", "opt.yaml", "gradnorm.csv", "per_patient.csv"} <= {
        path.name for path in files
    }
    secrets = [str(ROOT), str(compared.folder), str(tiny_data.parent), str(Path.home())]
    for path in files:
        if path.suffix in (".json", ".yaml", ".csv", ".md", ".tex"):
            assert not [
                secret for secret in secrets if f"{secret}/" in path.read_text(encoding="utf-8")
            ], path


def test_a_changed_label_and_other_data_are_refused(
    linked: Path, rescore: Callable, data: Path, monkeypatch: pytest.MonkeyPatch
):
    before = {name: (linked / name).read_bytes() for name in TABLES}
    label = min((data.parent / "frames/labels/val").iterdir())
    label.write_text("3 0.5 0.5 0.1 0.1\n0 1 0\n")
    with pytest.raises(UserError, match=r"a label or an image's size in bytes is not what it was"):
        rescore(linked, "--data", data)
    with pytest.raises(
        UserError, match=r"no such file; expected the folder of a finished comparison"
    ):
        rescore(linked / "missing")
    assert {name: (linked / name).read_bytes() for name in TABLES} == before


def test_what_rescoring_has_no_use_for_is_said(
    linked: Path, rescore: Callable, caplog: pytest.LogCaptureFixture
):
    rescore(linked, "--epochs", 7, "--test")
    warned = [message for message in caplog.messages if "has no effect beside --rescore" in message]
    assert len(warned) == 2


# ---- going on ------------------------------------------------------------------------------------


KILLED_ARMS = ("gradnorm-static", "dual")


@pytest.fixture(scope="module")
def part(
    compared: Compared, arguments: list[str], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """What a comparison of fewer arms comes to where they are finished; `thresholds` are those of its evaluations."""
    folder = shutil.copytree(
        compared.folder, tmp_path_factory.mktemp("part") / "linked", copy_function=os.link
    )
    thresholds = []

    def summarise_and_note(
        results: list, names: tuple, views: tuple, confidence: float, **options: object
    ) -> dict:
        thresholds.append(confidence)
        return summarise(results, names, views, confidence, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "summarise", summarise_and_note)
        found = compare(patch, not_again, folder, *arguments, "--arms", *KILLED_ARMS)
    return SimpleNamespace(results=without_costs(found), thresholds=thresholds)


def test_finished_arms_are_only_evaluated(compared: Compared, part: SimpleNamespace):
    whole, found = without_costs(results_of(compared.folder)), part.results
    assert list(found["arms"]) == ["gradnorm", *KILLED_ARMS]
    for key in ("arms", "interference"):
        assert found[key] == {
            arm: values for arm, values in whole[key].items() if arm in found["arms"]
        }
    assert found["protocol"] == whole["protocol"] and found["tuned"] is None
    assert found["differences"] == [
        d for d in whole["differences"] if {d["arm"], d["reference"]} <= set(found["arms"])
    ]


def test_the_threshold_is_the_one_that_training_chose(compared: Compared, part: SimpleNamespace):
    runs = [compared.folder / f"{arm}-seed0" for arm in part.results["arms"]]
    chosen = [load_checkpoint(run / "weights/last.pt")["confidence"] for run in runs]
    assert part.thresholds == [
        USUAL_CONFIDENCE if confidence is None else confidence for confidence in chosen
    ]


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ([], lambda training: False),
        (["--device=auto"], lambda training: False),
        (["--seeds", "0", "1"], lambda training: training.seed == 1),
        (["--epochs=3"], lambda training: True),
        (["--size=s"], lambda training: True),
        (
            ["--diagnose-interval=1"],
            lambda training: training.arm.script == JOINT and len(training.arm.tasks) == 2,
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_trained_again(
    compared: Compared, plan: Callable, changes: list[str], again: Callable
):
    trainings = plan(compared.folder, "--arms", *ARMS, *changes)
    assert len(trainings) == (22 if "--seeds" in changes else 11)
    assert [training.is_finished for training in trainings] == [
        not again(training) for training in trainings
    ]


def test_hyper_parameters_matter_and_where_their_file_lies_does_not(
    compared: Compared, plan: Callable, arguments: list[str], tmp_path: Path
):
    given = Path(next(a for a in arguments if a.startswith("--hyp")).partition("=")[2])
    hyp = shutil.copy(given, tmp_path / "other.yaml")
    assert all(
        training.is_finished for training in plan(compared.folder, "--arms", *ARMS, f"--hyp={hyp}")
    )
    hyp.write_text(given.read_text().replace("lr0: 0.001", "lr0: 0.002"))
    assert not any(
        training.is_finished for training in plan(compared.folder, "--arms", *ARMS, f"--hyp={hyp}")
    )


def test_an_option_that_a_run_did_not_know_has_its_default(linked: Path, plan: Callable):
    path = linked / "fixed-seed0/opt.yaml"
    content = yaml.safe_load(path.read_text())
    for change, is_finished in (
        ("skip_bad_labels", True),
        ("diagnose_interval", False),
        (None, False),
    ):
        path.unlink()
        path.write_text(
            yaml.safe_dump({k: v for k, v in content.items() if k != change})
            if change
            else "torn: ["
        )
        (training,) = plan(linked, "--arms", "fixed")
        assert training.is_finished == is_finished


def test_only_what_is_missing_is_trained(
    linked: Path, plan: Callable, monkeypatch: pytest.MonkeyPatch
):
    """`gradnorm` was killed before its last line; the finished arm that needs it waits, and is left as it is."""
    started = []

    def finish(command: Sequence[str], **options: object) -> SimpleNamespace:
        started.append(list(command[1:]))
        (linked / "gradnorm-seed0/summary.json").write_text("{}")
        return SimpleNamespace(poll=lambda: 0, returncode=0)

    (linked / "gradnorm-seed0/summary.json").unlink()
    planned = plan(linked, "--arms", *ARMS)
    assert {t.arm.name for t in planned if not t.is_finished} == {"gradnorm", "gradnorm-static"}
    monkeypatch.setattr(trainings, "POLL_S", 0.0)
    monkeypatch.setattr(
        trainings, "subprocess", SimpleNamespace(Popen=finish, DEVNULL=None, STDOUT=None)
    )
    train_all(planned)
    last = str(linked / "gradnorm-seed0/weights/last.pt")
    assert started == [[str(ROOT / JOINT), "--resume", last, "--device", "cpu"]]


def all_children_of(process: subprocess.Popen) -> list[int]:
    """Of its main thread; Linux."""
    return [
        int(number)
        for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]


@pytest.mark.parametrize(
    "kill", [0, *(pytest.param(kill, marks=pytest.mark.slow) for kill in range(1, 9))]
)
def test_a_killed_comparison_comes_to_the_same(
    compared: Compared, part: SimpleNamespace, arguments: list[str], tmp_path: Path, kill: int
):
    """SIGKILL at a random moment; its trainings go on without it, or, every other time, die with it."""
    chance, folder = random.Random(kill), tmp_path / "killed"
    command = [
        sys.executable,
        "compare_solutions.py",
        *arguments,
        *place(folder),
        "--arms",
        *KILLED_ARMS,
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    finished = (
        chance.choice([0, 1]) if kill else 0
    )  # trainings; the first kill comes while both are at work
    while process.poll() is None and len(list(folder.glob("*/weights"))) < 1 + finished:
        time.sleep(0.01)
    time.sleep(chance.random() * 6 if kill else 0.5)
    children = all_children_of(process) if process.poll() is None else []
    process.kill()
    process.wait()
    for child in children if kill % 2 else []:
        os.kill(child, signal.SIGKILL)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert without_costs(results_of(folder)) == part.results
    for run in ("gradnorm-seed0", "gradnorm-static-seed0", "dual-seed0"):
        assert_same_run(folder / run, compared.folder / run)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_real_comparison_and_its_trainings(
    arguments: list[str], tmp_path: Path, number: int
):
    command = [
        sys.executable,
        "compare_solutions.py",
        *arguments,
        *place(tmp_path / "stopped"),
        "--epochs=1000",
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    runs = [tmp_path / "stopped" / f"{arm}-seed0" for arm in ("fixed", "fixed-scaled")]
    while process.poll() is None and not all((run / "progress.json").exists() for run in runs):
        time.sleep(0.05)
    children = all_children_of(process)
    process.send_signal(number)
    assert "stopped; the same command goes on from here" in process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number and len(children) == 2
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert {json.loads((run / "progress.json").read_text())["state"] for run in runs} == {"stopped"}


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: list[str]
) -> Callable:
    """Start a comparison in a folder, expect it to refuse, and return its message."""

    def run(folder: Path, *given: object) -> str:
        with pytest.raises(SystemExit) as stop:
            run_script(lambda: compare(monkeypatch, not_again, folder, *arguments, *given))
        stderr = capsys.readouterr().err
        assert stop.value.code == 2 and stderr.count("error: ") == 1 and "Traceback" not in stderr
        return stderr.partition("error: ")[2].rstrip()

    return run


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--arms", "fixed", "best"], "--arms: no arm 'best'; expected some of fixed, "),
        (["--arms", "ratio-0"], "--arms: 'ratio-0': expected a number above zero after 'ratio-'"),
        (["--seeds", "1", "1"], "--seeds has 1 more than once; give each once"),
        (["--seeds", "-1"], "--seed is -1, expected at least 0"),
        (["--epochs", "0"], "--epochs is 0, expected at least 1"),
        (["--jobs", "0"], "--jobs is 0, expected at least 1"),
        (["--folds", "missing"], "--folds: missing: 0 folds; expected DIR/*/data.yaml"),
        (["--device", "nonsense"], "--device is 'nonsense'"),
        (["--amp", "nonsense"], "--amp is 'nonsense'"),
        (["--data", "missing.yaml"], "missing.yaml: no such file"),
        (["--test"], "no split 'test'; expected a line 'test: FOLDER or LIST.txt'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options(refused: Callable, tmp_path: Path, given: list[str], message: str):
    found = refused(tmp_path / "compared", *given)
    assert message in found and "\n" not in found and not (tmp_path / "compared").exists()


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A data.yaml whose folder may be spoilt."""
    shutil.copytree(tiny_data.parent, tmp_path / "data")
    return tmp_path / "data/data.yaml"


def test_data_that_cannot_be_compared_on(refused: Callable, data: Path, tmp_path: Path):
    content = yaml.safe_load(data.read_text())
    for spoilt, message in (
        (
            {key: value for key, value in content.items() if key != "cls_names"},
            "key 'cls_names' is missing",
        ),
        (content | {"val": "images/none"}, "val: no images in"),
    ):
        (data.parent / "frames/images/none").mkdir(exist_ok=True)
        data.write_text(yaml.safe_dump(spoilt))
        found = refused(tmp_path / "compared", "--data", data)
        assert message in found and "\n" not in found
    data.write_text(yaml.safe_dump(content))
    label = min((data.parent / "frames/labels/train").iterdir())
    label.write_text("0 0.5 0.5 0.1 0.1\n[1, 1, 0]\n")
    assert f"{label}:2: found 2 ones" in refused(tmp_path / "compared", "--data", data)
    assert not (tmp_path / "compared").exists()


def test_data_that_changed_between_two_halves(refused: Callable, data: Path, tmp_path: Path):
    folder = tmp_path / "compared"
    folder.mkdir()
    (folder / "comparison_results.json").write_text("of the first half")
    check_fingerprints(folder, {str(data): evaluation.fingerprints(str(data), ("train", "val"))})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    label = min((data.parent / "frames/labels/val").iterdir())
    text = label.read_text()
    label.write_text("3 0.5 0.5 0.1 0.1\n0 1 0\n")
    found = refused(folder, "--data", data)
    assert (
        found.startswith(f"{data}: images or labels changed since {folder} was begun")
        and "\n" not in found
    )
    assert {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"
    } == before
    label.write_text(text)
    check_fingerprints(folder, {str(data): evaluation.fingerprints(str(data), ("train", "val"))})


# ---- the report ----------------------------------------------------------------------------------


@pytest.fixture
def results(compared: Compared) -> dict:
    return results_of(compared.folder)


def tables_of(markdown: str) -> dict[str, list[list[str]]]:
    """Heading -> the rows of the table below it, the header first, as cells."""
    sections = re.split(r"^## (.*)$", markdown, flags=re.MULTILINE)[1:]
    return {
        heading: [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in text.splitlines()
            if line.startswith("| ") and "---" not in line
        ]
        for heading, text in zip(sections[::2], sections[1::2], strict=True)
    }


def test_the_files_of_the_report_follow_from_the_results(compared: Compared, results: dict):
    for name, write in (
        ("report.md", to_markdown),
        ("comparison.csv", to_csv),
        ("comparison.tex", to_latex),
    ):
        assert (compared.folder / name).read_text(encoding="utf-8") == write(results)


def test_every_arm_is_in_every_table(results: dict):
    tables, arms = tables_of(to_markdown(results)), [f"`{arm}`" for arm in results["arms"]]
    assert {*ARMS} <= set(results["arms"]) and len(arms) == 12
    for heading in ("Accuracy", "Training", "Cost"):
        assert [row[0] for row in tables[heading][1:]] == arms
    assert all(len(row) == len(rows[0]) for rows in tables.values() for row in rows)
    assert {row[0] for row in tables["Interference"][1:]} == {
        f"`{arm.name}`" for arm in expand(ARMS) if arm.script == JOINT and len(arm.tasks) == 2
    }
    pairs = {row[0] for row in tables["Differences"][1:]}
    assert {"`gradnorm` - `fixed`", "`gradnorm` - `tuned`", "`dual` - `gradnorm`"} <= pairs
    assert {f"{arm} - `detection-only`" for arm in arms if "only" not in arm} <= pairs
    assert [row[2] for row in tables["The claims"][1:]] == [
        claim["verdict"] for claim in results["claims"]
    ]


def test_what_is_missing_is_a_dash(results: dict):
    tables = tables_of(to_markdown(results))
    header, *rows = tables["Accuracy"]
    views = [
        index
        for index, heading in enumerate(header)
        if heading in ("view acc.", "balanced", "macro F1", "ECE")
    ]
    boxes = [index for index in range(1, len(header)) if index not in views]
    cells = {row[0]: row for row in rows}
    assert {cells["`detection-only`"][index] for index in views} == {"-"}
    assert {cells["`classification-only`"][index] for index in boxes} == {"-"}
    assert "-" not in cells["`dual`"] and not re.search(
        r"None|nan", to_markdown(results) + to_latex(results)
    )


def test_means_have_a_deviation_where_there_are_several_trainings(results: dict):
    results["arms"]["dual"]["figures"]["mAP50"] = [0.51234, 0.0126]
    (cells,) = [row for row in tables_of(to_markdown(results))["Accuracy"] if row[0] == "`dual`"]
    assert cells[1] == "0.512 ± 0.013"


def test_the_csv_file_reads_back(results: dict):
    table = pd.read_csv(io.StringIO(to_csv(results))).set_index("arm")
    assert list(table.index) == list(results["arms"]) and table.columns.is_unique
    for name, arm in results["arms"].items():
        (run,) = arm["runs"]
        for key, value in (run["figures"] | run["costs"]).items():
            assert table.loc[name, key] == pytest.approx(
                np.nan if value is None else value, rel=1e-12, nan_ok=True
            )
    assert np.isnan(table.loc["detection-only", "view_accuracy"])


def test_the_latex_table_has_a_cell_for_every_column(results: dict):
    results["arms"]["some_arm"] = results["arms"]["dual"]
    text = to_latex(results)
    (columns,) = re.findall(r"\\begin{tabular}{(\w+)}", text)
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + len(results["arms"])
    assert all(line.count("&") == len(columns) - 1 for line in lines)
    body = text.partition("\n")[2]
    assert text.startswith("% ") and not re.search(r"(?<!\\)[%_#$]|±", body.replace(r"$\pm$", ""))
    assert [line.partition(" &")[0].replace("\\_", "_") for line in lines[1:]] == list(
        results["arms"]
    )
    assert re.findall(r"^\\(\w+)", body, re.MULTILINE) == [
        "begin",
        "toprule",
        "midrule",
        "bottomrule",
        "end",
    ]


def test_pictures_show_something_and_are_drawn_again_from_the_folder(
    compared: Compared, linked: Path
):
    before = {name: (compared.folder / name).read_bytes() for name in PICTURES}
    for name in PICTURES:
        (linked / name).unlink()
    pictures.main([str(linked)])
    assert {name: (linked / name).read_bytes() for name in PICTURES} == before
    for name in PICTURES:
        if name.endswith("png"):
            assert cv2.imread(str(linked / name)).std() > 20
        else:
            assert before[name].startswith(b"%PDF") and len(before[name]) > 10_000


def test_the_picture_leaves_out_what_is_undefined(results: dict, tmp_path: Path):
    arm = results["arms"]["dual"]
    arm["runs"].append(
        {
            "unit": [0, 1],
            "figures": dict.fromkeys(arm["runs"][0]["figures"]),
            "costs": arm["runs"][0]["costs"],
        }
    )
    del results["arms"]["detection-only"]["figures"]["mAP50"]
    pictures.plot_solutions(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").exists()


def test_interference_without_layers_and_in_some_epochs_only(compared: Compared, tmp_path: Path):
    """At the cut alone where one combined gradient descends the trunk; every tenth batch of an epoch of three."""
    rows = pd.read_csv(compared.folder / "fixed-seed0/interference.csv", dtype={"place": str})
    cut, gap = rows[rows["place"] == "cut"], rows.assign(epoch=rows["epoch"] * 3)
    for number, tables in enumerate(({"pcgrad": cut}, {"pcgrad": cut, "fixed": gap})):
        interference.plot_interference(tables, tmp_path / f"{number}.png")
        assert cv2.imread(str(tmp_path / f"{number}.png")).std() > 20
    table = interference._layer_map(gap)
    assert (
        list(table.columns) == [0, 1, 2, 3]
        and table[[1, 2]].isna().all().all()
        and table[3].notna().all()
    )
    assert list(table.index[:5]) == ["0", "1", "2", "3", "4"] and table.index[-1] == "17"


def test_interference_is_drawn_of_this_comparisons_trainings(
    linked: Path, monkeypatch: pytest.MonkeyPatch
):
    drawn = {}
    monkeypatch.setattr(pictures, "plot_interference", lambda tables, path: drawn.update(tables))
    monkeypatch.setattr(pictures, "plot_solutions", lambda *args: None)
    shutil.copytree(
        linked / "fixed-seed0", linked / "fixed-seed1"
    )  # of an earlier comparison of more seeds
    pictures.draw_comparison(linked)
    expected = pd.read_csv(linked / "fixed-seed0/interference.csv", dtype={"place": str})
    pd.testing.assert_frame_equal(drawn["fixed"], expected)
    assert set(drawn) == {"fixed", "equal", "gradnorm"}
