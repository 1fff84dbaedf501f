"""Whole trainings on the GPU: they end well, a resumed one goes as an uninterrupted one."""

import json
import shutil
from pathlib import Path
from types import ModuleType

import gpu
import numpy as np
import pytest
import torch
import yaml
from script_calls import exit_code_of
from small_runs import break_run, resume, run, small_options

import train_joint_dual_backbone
import train_joint_gradnorm
from utils.checkpoints.checkpoint import load_checkpoint

pytestmark = pytest.mark.gpu

# Largest relative difference of an epoch's losses and weights between two trainings that should be
# the same. cuDNN picks its algorithms by their speed at that moment, so bits may differ.
SAME = {"off": 0.01, "bf16": 0.03, "fp16": 0.03}
PRECISIONS = {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}


@pytest.fixture(params=SAME)
def amp(request: pytest.FixtureRequest) -> str:
    if request.param == "fp16" and gpu.DEVICE == "cpu":
        pytest.skip("fp16 needs CUDA")
    return request.param


@pytest.fixture
def options(tiny_data: Path, tmp_path: Path) -> dict:
    changes = {"device": gpu.DEVICE.removeprefix("cuda:"), "epochs": 2}
    return small_options(tiny_data, tmp_path) | changes


@pytest.fixture
def place(tmp_path: Path) -> dict[str, str]:
    """The options of a run's folder."""
    return {"project": str(tmp_path), "name": "run"}


def call(script: ModuleType, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user types."""
    arguments = []
    for name, value in options.items():
        arguments.append(f"--{name.replace('_', '-')}")
        if value is not True:
            arguments.append(value)
    assert exit_code_of(script, *arguments, monkeypatch=monkeypatch) == 0


def assert_ended_well(folder: Path, amp: str, epochs: int) -> None:
    losses = gpu.losses_of(folder)
    print(f"--amp {amp}:\n{losses.to_string()}")
    assert len(losses) == epochs and np.isfinite(losses.to_numpy()).all()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["precision"].startswith(PRECISIONS[amp]), summary["precision"]
    assert gpu.DEVICE in summary["precision"]
    last = load_checkpoint(folder / "weights/last.pt")
    assert all(torch.isfinite(tensor).all() for tensor in last["model"].values())


def test_the_command_trains_to_its_end(
    options: dict, place: dict, tmp_path: Path, amp: str, monkeypatch: pytest.MonkeyPatch
):
    """With loader processes, and pictures."""
    call(train_joint_gradnorm, options | place | {"amp": amp, "workers": 2}, monkeypatch)
    assert_ended_well(tmp_path / "run", amp, 2)
    assert (tmp_path / "run/gradnorm.csv").read_text().count("\n") >= 2
    assert (tmp_path / "run/results.png").exists()


def test_a_resumed_training_goes_as_an_uninterrupted_one(options: dict, tmp_path: Path, amp: str):
    options |= {"amp": amp, "workers": 0}
    whole, again = (run(options, tmp_path / name) for name in ("whole", "again"))
    break_run(options, tmp_path / "broken", (1, 1))
    resume(tmp_path / "broken")
    expected = gpu.losses_of(whole)
    floor = gpu.largest_relative_difference(gpu.losses_of(again), expected)
    found = gpu.largest_relative_difference(gpu.losses_of(tmp_path / "broken"), expected)
    text = (
        f"--amp {amp}: resumed and uninterrupted differ by {found:.2e}, two uninterrupted by "
        f"{floor:.2e}; at most {SAME[amp]:g}"
    )
    print(text)
    assert max(found, floor) <= SAME[amp], text
    assert loss_scale(tmp_path / "broken") == loss_scale(whole)


def loss_scale(folder: Path) -> float | None:
    """At the end of a run; None if it has none."""
    last = load_checkpoint(folder / "weights/last.pt")
    return last["networks"]["joint"]["stepper"]["scaler"].get("scale")


@pytest.mark.parametrize("mode", ["off", "bf16"])
def test_a_dual_backbone_trains_to_its_end(
    tiny_data: Path, tmp_path: Path, place: dict, mode: str, monkeypatch: pytest.MonkeyPatch
):
    script = train_joint_dual_backbone
    monkeypatch.setattr("utils.training.finish.draw_run", lambda folder: [])
    changes = {"device": gpu.DEVICE.removeprefix("cuda:"), "epochs": 1, "amp": mode}
    call(script, small_options(tiny_data, tmp_path, script) | changes | place, monkeypatch)
    assert_ended_well(tmp_path / "run", mode, 1)


def switch_dropout_off(cfg: Path) -> None:
    """A compiled network draws other random numbers."""
    content = yaml.safe_load(cfg.read_text())
    content["head"][-1][3] = ["views", 0.0]
    cfg.write_text(yaml.safe_dump(content))


def test_a_compiled_network_trains_as_it_does_uncompiled(
    options: dict, tmp_path: Path, no_tf32: None
):
    """`--compile`, the first epoch's losses; a minute or two."""
    if not shutil.which("gcc") and not shutil.which("cc"):
        pytest.skip("torch.compile needs a C compiler")
    options |= {"epochs": 1, "workers": 0}
    switch_dropout_off(Path(options["cfg"]))
    expected = gpu.losses_of(run(options, tmp_path / "eager"))
    compiled = gpu.losses_of(run(options | {"compile": True}, tmp_path / "compiled"))
    difference = gpu.largest_relative_difference(compiled, expected)
    text = f"compiled:\n{compiled.to_string()}\nas written:\n{expected.to_string()}"
    print(f"{text}\nlargest relative difference {difference:.2e}")
    assert difference <= 0.02, text
