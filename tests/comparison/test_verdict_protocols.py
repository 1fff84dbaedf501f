"""The protocols of docs/verdict say what can be trained, and name the files that they need."""

import shutil
from pathlib import Path

import pytest

from utils.comparison.protocol_file import load_protocol
from utils.core.files import ROOT
from utils.core.names import BALANCERS

PROTOCOLS = {  # -> trainings
    "weight-curve": 15,
    "depth-curve": 6,
    "permuted": 3,
    "rivals": 32,
    "yolov5s": 10,
}


def loaded(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The protocol, beside folds that are empty but for their names."""
    for docs in ("verdict", "recipe"):
        shutil.copytree(ROOT / "docs" / docs, folder / "docs" / docs)
    for folds in ("recipe/folds", "verdict/permuted"):
        for number in range(5):
            fold = folder / "runs" / folds / f"fold{number}"
            fold.mkdir(parents=True)
            (fold / "data.yaml").touch()
    monkeypatch.chdir(ROOT)
    return load_protocol(folder / "docs" / "verdict" / f"{name}.yaml")


@pytest.mark.parametrize(("name", "trainings"), PROTOCOLS.items())
def test_a_protocol_is_valid_and_spends_its_budget(
    name: str, trainings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    protocol = loaded(name, tmp_path, monkeypatch)
    assert protocol.planned == protocol.budget.trainings == trainings
    for arm in protocol.arms:
        options, _ = protocol.settings(arm)
        assert (ROOT / options.cfg).is_file()
        assert options.size == ("s" if name == "yolov5s" else "n")
        assert (options.epochs, options.batch_size) == (20, 16)


def test_every_balancer_is_among_the_rivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    protocol = loaded("rivals", tmp_path, monkeypatch)
    balancers = {protocol.settings(arm)[1].balancer for arm in protocol.arms}
    assert balancers == set(BALANCERS)


@pytest.mark.parametrize("name", ["depth-curve", "permuted"])
def test_a_curve_differs_from_ratio_1_in_the_network_or_the_data_only(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    weights = loaded("weight-curve", tmp_path / "weights", monkeypatch)
    (reference,) = [arm for arm in weights.arms if arm.name == "ratio-1"]
    expected, expected_hyp = weights.settings(reference)
    protocol = loaded(name, tmp_path / name, monkeypatch)
    for arm in protocol.arms:
        options, hyp = protocol.settings(arm)
        assert hyp == expected_hyp
        same = {"cfg": expected.cfg, "data": expected.data}
        assert vars(options) | same == vars(expected) | same
