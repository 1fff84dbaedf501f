"""The protocols of docs/second_domain differ in what they are about, and in nothing else."""

import shutil
from pathlib import Path

import pytest

from utils.comparison.protocol import Protocol
from utils.comparison.protocol_file import load_protocol
from utils.core.data_config import load_data_config
from utils.core.files import ROOT

TRANSFERS = ("transfer-chest", "transfer-echo")
LABELS = ("labels-5", "labels-10", "labels-20", "labels-all")
FOLDS = ("domain/folds/chest", "recipe/folds", *(f"domain/labels/{n}" for n in (5, 10, 20)))
WEIGHTS = (
    "runs/domain/pretrained/phantom/weights/last.pt",
    "runs/domain/pretrained/echo/weights/last.pt",
    "runs/domain/pretrained/chest/weights/last.pt",
    "shared/reference/yolov5n_public_finetune.pt",
)
OF_THE_START = {"weights": "", "data": "", "epochs": 0}


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Reads a protocol, beside folds and weights that are empty but for their names."""
    root = tmp_path / "checkout"
    for docs in ("second_domain", "recipe"):
        shutil.copytree(ROOT / "docs" / docs, root / "docs" / docs)
    for folds in FOLDS:
        for number in range(3):
            fold = root / "runs" / folds / f"fold{number}"
            fold.mkdir(parents=True)
            (fold / "data.yaml").touch()
    for weights in WEIGHTS:
        place = root / weights
        if weights.startswith("shared"):
            place = tmp_path / weights
        place.parent.mkdir(parents=True)
        place.touch()
    monkeypatch.chdir(ROOT)

    def load(name: str) -> Protocol:
        return load_protocol(root / "docs" / "second_domain" / f"{name}.yaml")

    return load


def settings_of(protocol: Protocol) -> dict[str, tuple]:
    """Arm -> its options and its hyper-parameters."""
    found = {}
    for arm in protocol.arms:
        options, hyp = protocol.settings(arm)
        found[arm.name] = (vars(options), hyp)
    return found


@pytest.mark.parametrize(
    ("name", "trainings"),
    [*dict.fromkeys(TRANSFERS, 12).items(), ("interference", 9), *dict.fromkeys(LABELS, 4).items()],
)
def test_a_protocol_is_valid_and_spends_its_budget(loaded, name: str, trainings: int):
    protocol = loaded(name)
    assert protocol.planned == protocol.budget.trainings == trainings


def test_the_starts_differ_in_the_weights_only(loaded):
    found = [settings_of(loaded(name)) for name in TRANSFERS]
    arms = [settings for protocol in found for settings in protocol.values()]
    for options, hyp in arms:
        assert options | OF_THE_START == arms[0][0] | OF_THE_START
        assert hyp == arms[0][1]
    for protocol in found:
        weights = {name: options["weights"] for name, (options, _) in protocol.items()}
        assert weights.pop("scratch") == ""
        assert all(Path(file).is_file() for file in weights.values())
        assert len(set(weights.values())) == 3


def test_scratch_is_the_stop_gradient_that_interference_is_measured_from(loaded):
    scratch = settings_of(loaded("transfer-chest"))["scratch"]
    assert settings_of(loaded("interference"))["stop-gradient"] == scratch


def test_the_label_curves_points_differ_in_their_folds_only(loaded):
    protocols = [loaded(name) for name in LABELS]
    assert len({path for one in protocols for path in one.data.values()}) == 8
    for one in protocols:
        assert settings_of(one) == settings_of(protocols[0])
        assert one.counted == ()


def test_the_template_names_what_the_images_show():
    data = load_data_config(ROOT / "data" / "chest_xray.yaml")
    assert data.names == ("Left Lung", "Right Lung")
    assert data.view_names == ("PA", "AP", "AP Supine")
    assert data.group_of("valid/images/Q002_01.jpg") == "Q002"
