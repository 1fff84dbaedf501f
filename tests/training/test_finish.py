"""What a run has at its end, and a run that was killed just before it."""

import json
from pathlib import Path

import pytest
from small_runs import assert_same_run, new_job, resume, run, small_options

from utils.training.finish import run_summary
from utils.training.setup import Setup
from utils.training.validation import validate


@pytest.fixture(scope="module")
def options(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return small_options(tiny_data, tmp_path_factory.mktemp("cfg")) | {"epochs": 1}


def test_a_run_killed_while_it_writes_its_summary_is_finished_by_resume(
    options, tmp_path, monkeypatch
):
    whole = run(options, tmp_path / "whole")
    monkeypatch.setattr("utils.training.finish.write_evaluation", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(options, tmp_path / "broken")
    monkeypatch.undo()
    resume(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", whole)
    left, right = (
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "broken", whole)
    )
    assert left == right and (tmp_path / "broken/summary.json").exists()


def test_a_summary_counts_the_model_and_names_every_part(options, tmp_path):
    setup = Setup(new_job(options | {"project": str(tmp_path)}))
    validate(setup, 0)
    summary = run_summary(setup, epochs=1, seconds=2.0)
    layers = [parameter.numel() for parameter in setup.model.parameters()]
    assert summary["parameters"] == sum(layers)
    assert summary["best"].keys() == summary["average_window_epochs"].keys() == {"joint"}
    assert summary["gradnorm"]["updates"] == 0 and summary["seconds"] == 2.0
