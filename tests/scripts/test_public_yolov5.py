"""A public YOLOv5 file where a user gives one.

Val.py, detect.py, export.py and the hub, boxes only.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from script_processes import run_script_process
from small_models import mini_models, stirred

import detect
import export
import hubconf
import val
from utils.core.script import LOGGER, run_script

# They are the same as of a model of this project.
pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few layers pickled as the public trainer does, in half precision."""
    path = tmp_path_factory.mktemp("public") / "yolov5.pt"
    model = stirred(mini_models()["dual"].detector)
    model.yaml, model.names = model.cfg, {0: "AR", 1: "MR", 2: "PR", 3: "TR"}
    torch.save({"epoch": 3, "model": None, "ema": model.half(), "opt": {"imgsz": 64}}, path)
    return path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Run a script's `main` in this process; returns what it says."""
    said: list[str] = []
    for level in ("info", "warning"):
        monkeypatch.setattr(LOGGER, level, said.append)

    def run(main: Callable[[], None], *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["script.py", *map(str, arguments)])
        main()
        return "\n".join(said)

    return run


def without_views(data: Path, folder: Path) -> Path:
    """The same frames in a data.yaml, and label files, of boxes only, as for YOLOv5."""
    shutil.copytree(data.parent, folder)
    content = yaml.safe_load(data.read_text())
    del content["cls_names"]
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    for path in (folder / "frames/labels").rglob("*.txt"):
        lines = [line for line in path.read_text().splitlines() if len(line.split()) > 4]
        path.write_text("".join(f"{line}\n" for line in lines))
    return folder / "data.yaml"


@pytest.mark.parametrize("has_views", [True, False])
def test_it_is_evaluated(call, weights: Path, tiny_data: Path, tmp_path: Path, has_views: bool):
    data = tiny_data if has_views else without_views(tiny_data, tmp_path / "boxes")
    place = ("--project", tmp_path, "--name", "val", "--workers", 0)
    said = call(val.main, "--weights", weights, "--data", data, *place)
    metrics = json.loads((tmp_path / "val/metrics.json").read_text())
    assert "detection" in metrics and "views" not in metrics and metrics["images"] == 8
    assert metrics["detection"]["confidence"] == 0.25 and "the usual 0.25 is taken" in said


def test_it_detects_and_answers_in_the_hub(call, weights: Path, tiny_data: Path, tmp_path: Path):
    images = tiny_data.parent / "frames/images/val"
    place = ("--project", tmp_path, "--name", "out", "--nosave", "--save-csv")
    assert "8 frames; " in call(
        detect.main, "--weights", weights, "--source", images, "--conf-thres", 0.001, *place
    )
    boxes, view = hubconf.joint(weights, device="cpu", conf_thres=0.001).predict(
        min(images.iterdir())
    )
    assert len(boxes) and view is None
    assert (tmp_path / "out/predictions.csv").read_text().count("\n") > 8


@pytest.mark.slow
def test_it_is_exported_and_the_export_evaluated(
    call, weights: Path, tiny_data: Path, tmp_path: Path
):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs pip install '.[export]'")
    shutil.copy(weights, tmp_path / "a.pt")
    assert "images -> boxes;" in call(export.main, "--weights", tmp_path / "a.pt")
    place = ("--project", tmp_path, "--name", "val", "--workers", 0)
    call(val.main, "--weights", tmp_path / "a.onnx", "--data", tiny_data, *place)
    assert (tmp_path / "val/metrics.json").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--data is missing: {weights} does not say what it was trained on"),
        (
            ("--data", "{other}"),
            "{other}: names ['a', 'b', 'c', 'd'], but {weights} was trained on ['AR', ",
        ),
    ],
)
def test_what_val_cannot_know_is_one_line(
    weights, tiny_data, tmp_path, capsys, monkeypatch, arguments, expected
):
    other = tmp_path / "other.yaml"
    other.write_text(
        yaml.safe_dump(yaml.safe_load(tiny_data.read_text()) | {"names": ["a", "b", "c", "d"]})
    )
    given = [argument.format(other=other) for argument in arguments]
    monkeypatch.setattr(
        sys, "argv", ["val.py", "--weights", str(weights), *given, "--project", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as stop:
        run_script(val.main)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(
        "error: " + expected.format(weights=weights, other=other)
    )


def test_a_process(shared_dir: Path, tiny_data: Path, tmp_path: Path):
    weights = shared_dir / "reference/yolov5s_official_format.pt"
    source = tiny_data.parent / "frames/images/val"
    options = ("--weights", weights, "--source", source, "--nosave", "--device", "cpu")
    done = run_script_process("detect.py", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "8 frames; " in done.stdout and "the usual 0.25 is taken" in done.stdout
