"""val.py: the rows that it prints of the same clips, and predictions that are scored again."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_files import split_frame_by_frame
from small_runs import run, small_options

import val
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.commands import val as command
from utils.core.data_config import DataConfig
from utils.core.script import run_script
from utils.curation.reference import same_clip_reference
from utils.data import dataset as dataset_module
from utils.data.splits import load_split
from utils.evaluation.predictions import read_predictions
from utils.evaluation.results import SAME_CLIP


@pytest.fixture(scope="module")
def finished(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training."""
    folder = tmp_path_factory.mktemp("runs")
    return run(small_options(tiny_data, folder), folder / "whole")


@pytest.fixture
def mixed(tiny_data: Path, tmp_path: Path) -> DataConfig:
    return split_frame_by_frame(tiny_data, tmp_path)


def reference_of(data: DataConfig, split: str = "val") -> dict | None:
    """With a model of the data's training split."""
    return same_clip_reference(
        data, load_split(data, split), load_split(data, "train").fingerprint()
    )


def test_val_prints_and_writes_the_reference(
    mixed: DataConfig, trained: Path, tmp_path: Path, monkeypatch, caplog
):
    caplog.set_level("INFO")
    fingerprint = load_split(mixed, "train").fingerprint()
    save_checkpoint(
        tmp_path / "mixed.pt", load_checkpoint(trained) | {"fingerprint": f"{fingerprint}-of-val"}
    )
    command = [
        "--weights",
        tmp_path / "mixed.pt",
        "--data",
        mixed.source,
        "--project",
        tmp_path,
        "--name",
        "out",
    ]
    monkeypatch.setattr(sys, "argv", ["val.py", *map(str, command)])
    run_script(val.main)
    written = json.loads((tmp_path / "out/metrics.json").read_text())["reference"]
    assert written == json.loads(json.dumps(reference_of(mixed)))
    assert f"\n{SAME_CLIP}  " in caplog.text and (tmp_path / "out/FROC_curve.png").exists()


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """val.py with more arguments, in this process; returns its run folder."""

    def run(name: str, *given: object) -> Path:
        monkeypatch.setattr(
            sys, "argv", ["val.py", *map(str, given), f"--project={tmp_path}", f"--name={name}"]
        )
        run_script(val.main)
        return tmp_path / name

    return run


PICTURES = (
    "PR_curve",
    "FROC_curve",
    "confusion_matrix_detection",
    "confusion_matrix_views",
    "val_batch_pred",
    "clip_ROC",
    "risk_coverage",
    "clip_calibration",
)


@pytest.mark.parametrize("given", [[], pytest.param(["--conf-thres=0.01"], marks=pytest.mark.slow)])
def test_predictions_come_to_the_same_without_a_network(
    checkpoints: dict[str, Path],
    mixed: DataConfig,
    evaluate: Callable,
    monkeypatch,
    given: list[str],
):
    saved = ("--save-json", "--save-coco")
    first = evaluate(
        "first", "--weights", checkpoints["joint"], "--data", mixed.source, *saved, *given
    )
    monkeypatch.setattr(command, "open_model", lambda *args: pytest.fail("a network is made"))
    again = evaluate(
        "again", "--predictions", first / "predictions.npz", "--data", mixed.source, *saved
    )
    for name in ("metrics.json", "predictions.json", "coco.json", "val_batch.json"):
        assert (first / name).read_text() == (again / name).read_text()
    for name in PICTURES:
        assert (first / f"{name}.png").read_bytes() == (again / f"{name}.png").read_bytes()
    assert json.loads((first / "predictions.json").read_text())


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("index", ["auto", "off"])
def test_every_image_is_decoded_once(
    checkpoints: dict[str, Path], mixed: DataConfig, evaluate: Callable, monkeypatch, index: str
):
    decoded = []
    decode_image = dataset_module.decode_image

    def note(content: bytes, path: Path) -> np.ndarray:
        decoded.append(path)
        return decode_image(content, path)

    monkeypatch.setattr(dataset_module, "decode_image", note)
    evaluate("out", "--weights", checkpoints["joint"], "--data", mixed.source, f"--index={index}")
    assert sorted(decoded) == sorted(load_split(mixed, "val").images)


@pytest.mark.usefixtures("no_pictures")
def test_a_trainings_predictions_are_what_its_weights_predict(
    finished: Path, tiny_data: Path, evaluate: Callable
):
    by_weights = evaluate("weights", "--weights", finished / "weights/last.pt", "--amp=off")
    by_file = evaluate("file", "--predictions", finished / "predictions.npz", "--data", tiny_data)
    found, expected = (
        json.loads((folder / "metrics.json").read_text()) for folder in (by_file, by_weights)
    )
    for task in ("detection", "views"):
        numbers = {key: value for key, value in expected[task].items() if isinstance(value, float)}
        assert {key: found[task][key] for key in numbers} == pytest.approx(numbers, abs=1e-3)
    assert found["reference"] == expected["reference"]


@pytest.mark.usefixtures("no_pictures")
def test_options_of_a_network_have_no_effect_beside_predictions(
    finished: Path, tiny_data: Path, evaluate: Callable, caplog
):
    idle = [
        "--task=test",
        "--imgsz=32",
        "--batch-size=1",
        "--iou-thres=0.5",
        "--device=cpu",
        "--amp=off",
    ]
    folder = evaluate(
        "idle", "--predictions", finished / "predictions.npz", "--data", tiny_data, *idle
    )
    warned = [
        message for message in caplog.messages if "has no effect beside --predictions" in message
    ]
    assert len(warned) == len(idle) and (folder / "metrics.json").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--predictions=FILE"],
            "--data is missing: predictions do not say where their frames lie",
        ),
        (["--predictions=FILE", "--data=MIXED"], "4 images, expected 8|image 1 is .*, expected "),
        (["--predictions=missing.npz", "--data=MIXED"], "missing.npz: no such file"),
        (["--predictions=FILE", "--weights=last.pt"], "not allowed with argument"),
        ([], "one of the arguments --weights --predictions is required"),
    ],
)
def test_predictions_that_cannot_be_scored(
    finished: Path, mixed: DataConfig, evaluate: Callable, capsys, given: list[str], message: str
):
    names = {"FILE": str(finished / "predictions.npz"), "MIXED": str(mixed.source)}
    for name, path in names.items():
        given = [argument.replace(name, path) for argument in given]
    with pytest.raises(SystemExit) as stop:
        evaluate("out", *given)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and re.search(message, error) and "Traceback" not in error


def test_frames_without_flow_colour_have_no_boxes_where_colour_is_needed(
    checkpoints: dict[str, Path], tiny_data: Path, evaluate: Callable, tmp_path: Path, caplog
):
    caplog.set_level("INFO")
    folder = Path(shutil.copytree(tiny_data.parent, tmp_path / "data"))
    data = folder / "data.yaml"
    data.write_text(data.read_text() + "\nneeds_colour: true\n")
    grey = min((folder / "frames/images/val").glob("*.png"))
    cv2.imwrite(str(grey), cv2.imread(str(grey), cv2.IMREAD_GRAYSCALE))
    place = evaluate("grey", "--weights", checkpoints["joint"], "--data", data)
    kept = read_predictions(place / "predictions.npz")
    counts = [len(frame.scores) for frame in kept.frames()]
    assert counts[0] == 0 and min(counts[1:]) > 0
    assert "1 of 8 frames show no flow colour; no box is looked for there" in caplog.text
