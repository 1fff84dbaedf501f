"""Comparisons: one protocol for all arms, from the command line or a file."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from small_comparisons import (
    ARMS,
    Compared,
    InThisProcess,
    compare,
    not_again,
    results_of,
)

import compare_solutions
from utils.commands import compare_solutions as command
from utils.comparison.arms import JOINT, average_weights, expand
from utils.core.names import TASKS

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
        arm: compared.generators[f"{arm}-seed0"][-1].numpy().tobytes()
        for arm in ("fixed", "dual", "detection-only")
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


@pytest.mark.usefixtures("no_pictures")
def test_folds_are_units_and_the_test_split_is_reported(
    arguments: list[str], tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    content = yaml.safe_load(tiny_data.read_text()) | {"path": str(tiny_data.parent / "frames")}
    content |= {"val": "images/train", "test": "images/val"}
    for name in ("fold1", "fold2"):
        (tmp_path / "folds" / name).mkdir(parents=True)
        (tmp_path / "folds" / name / "data.yaml").write_text(yaml.safe_dump(content))
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


@pytest.mark.usefixtures("no_pictures")
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
