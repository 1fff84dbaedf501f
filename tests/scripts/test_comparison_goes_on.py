"""Comparisons are made again from their files, and go on where they were left or killed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from script_processes import ScriptProcess, run_script_process
from small_comparisons import (
    ARMS,
    PICTURES,
    Compared,
    compare,
    not_again,
    place,
    results_of,
    without_costs,
)
from small_runs import assert_same_run

import compare_solutions
from utils.checkpoints.checkpoint import load_checkpoint
from utils.commands import compare_solutions as command
from utils.comparison import engine, evaluation, kept
from utils.comparison.arms import JOINT
from utils.comparison.engine import LocalEngine, train_all
from utils.core.files import ROOT
from utils.core.options import USUAL_CONFIDENCE
from utils.core.script import UserError
from utils.evaluation.metrics import summarise

# ---- again from the files ------------------------------------------------------------------------


@pytest.fixture
def rescore(monkeypatch: pytest.MonkeyPatch, tiny_data: Path) -> Callable[..., dict]:
    """`--rescore` on a folder where no network can be made; returns its results."""

    def run(folder: Path, *given: object, pictures: bool = False) -> dict:
        if not pictures:
            monkeypatch.setattr(command, "draw_comparison", lambda folder: None)
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
    rescore(linked, pictures=True)
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
    """What a comparison of fewer arms comes to where they are finished.

    `thresholds` are those of its evaluations.
    """
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
    assert found["protocol"] == whole["protocol"]
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
    assert len(trainings) == (16 if "--seeds" in changes else 8)
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
    """`gradnorm` was killed before its last line.

    The finished arm that needs it waits, and is left as it is.
    """
    started = []

    def finish(command: Sequence[str], **options: object) -> SimpleNamespace:
        started.append(list(command[1:]))
        (linked / "gradnorm-seed0/summary.json").write_text("{}")
        return SimpleNamespace(poll=lambda: 0, returncode=0)

    (linked / "gradnorm-seed0/summary.json").unlink()
    planned = plan(linked, "--arms", *ARMS)
    assert {t.arm.name for t in planned if not t.is_finished} == {"gradnorm", "gradnorm-static"}
    monkeypatch.setattr(engine, "POLL_S", 0.0)
    monkeypatch.setattr(
        engine, "subprocess", SimpleNamespace(Popen=finish, DEVNULL=None, STDOUT=None)
    )
    train_all(planned, LocalEngine())
    last = str(linked / "gradnorm-seed0/weights/last.pt")
    assert started == [[str(ROOT / JOINT), "--resume", last, "--device", "cpu"]]


def all_children_of(process: subprocess.Popen | ScriptProcess) -> list[int]:
    """Of its main thread; Linux."""
    return [
        int(number)
        for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(9))
def test_a_killed_comparison_comes_to_the_same(
    compared: Compared, part: SimpleNamespace, arguments: list[str], tmp_path: Path, kill: int
):
    """SIGKILL at a random moment.

    Its trainings go on without it, or, every other time, die with it.
    """
    chance, folder = random.Random(kill), tmp_path / "killed"
    command = ["compare_solutions.py", *arguments, *place(folder), "--arms", *KILLED_ARMS]
    process = ScriptProcess(*command)
    finished = 0  # trainings; the first kill comes while both are at work
    if kill:
        finished = chance.choice([0, 1])
    while process.poll() is None and len(list(folder.glob("*/weights"))) < 1 + finished:
        time.sleep(0.01)
    time.sleep(chance.random() * 6 if kill else 0.5)
    children = all_children_of(process) if process.poll() is None else []
    process.kill()
    process.wait()
    for child in children if kill % 2 else []:
        os.kill(child, signal.SIGKILL)
    done = run_script_process(*command)
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
