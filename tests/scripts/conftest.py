"""Fixtures of the tests of whole commands."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from forked_runs import Forge
from made_once import made_once
from small_comparisons import (
    Compared,
    compare,
    compare_all_arms,
    comparison_arguments,
    not_again,
    place,
    write_hyp,
)

import compare_solutions
import split_dataset
from utils.commands import compare_solutions as command
from utils.comparison.trainings import Training
from utils.core.files import ROOT
from utils.core.script import run_script
from utils.inference.predictor import Prediction, Predictor


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that do not look at them: they take longer than all else."""
    monkeypatch.setattr("utils.commands.val.draw_evaluation", lambda folder: [])
    monkeypatch.setattr("utils.training.finish.draw_run", lambda folder: [])


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Prediction]:
    """What the predictor said, in order."""
    predictions = []
    original = Predictor.predict

    def note(self: Predictor, images: list[np.ndarray]) -> list[Prediction]:
        found = original(self, images)
        predictions.extend(found)
        return found

    monkeypatch.setattr(Predictor, "predict", note)
    return predictions


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    """Trains in forks of a process that has imported everything."""
    with Forge() as forge:
        yield forge


@pytest.fixture(scope="session")
def arguments(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of all comparisons here."""
    folder = made_once(tmp_path_factory, "hyp", write_hyp)
    return comparison_arguments(tiny_data, folder / "hyp.yaml")


@pytest.fixture(scope="session")
def compared(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """A finished comparison of all arms."""
    folder = made_once(
        tmp_path_factory, "compared", lambda folder: compare_all_arms(folder, arguments)
    )
    return Compared.read(folder)


@pytest.fixture(scope="session")
def real_folds(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five folds of the real frames, as split_dataset.py makes them: fold0/data.yaml, ..."""

    def fill(folder: Path) -> None:
        data = shared_dir / "regurgitation" / "data.yaml"
        with pytest.MonkeyPatch.context() as patch:
            given = [f"--data={data}", "--folds=5", f"--out={folder / 'folds'}"]
            patch.setattr(sys, "argv", ["split_dataset.py", *given])
            split_dataset.main()

    return made_once(tmp_path_factory, "real_folds", fill) / "folds"


@pytest.fixture
def linked(compared: Compared, tmp_path: Path) -> Path:
    """A copy of the finished comparison's folder.

    Its files may be replaced or removed, but not appended to.
    """
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


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A data.yaml whose folder may be spoilt."""
    shutil.copytree(tiny_data.parent, tmp_path / "data")
    return tmp_path / "data/data.yaml"
