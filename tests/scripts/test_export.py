"""export.py and the scripts that read what it writes.

Equal to PyTorch, of any batch and size, and what is refused.
"""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from small_models import assert_equal_outputs, load, mini_models, noise, stirred
from torch import nn

import detect
import export as script
import val
from models.yolo import YOLOv5WithClassification
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.checkpoints.model_file import ModelMetadata, model_from_checkpoint, open_model
from utils.checkpoints.onnx_model import OnnxModel
from utils.core.data_config import load_data_config
from utils.core.device import select_compute
from utils.core.files import ROOT
from utils.core.script import LOGGER, run_script
from utils.data.boxes import non_max_suppression
from utils.data.dataset import JointDataset
from utils.data.labels import label_text
from utils.data.loader import make_loader
from utils.data.splits import load_split
from utils.inference import export
from utils.inference.predictor import Predictor

pytest.importorskip("onnxscript", reason="needs pip install '.[export]'")
pytest.importorskip("onnxruntime", reason="needs pip install '.[export]'")

onnx = pytest.importorskip("onnx", reason="needs pip install '.[export]'")
NEWEST_OPSET = onnx.defs.onnx_opset_version()
FLOAT32 = select_compute("off", torch.device("cpu"))
SHAPES = [
    (1, 3, 96, 64),
    (3, 3, 64, 160),
]  # neither the batch nor the sides of the example that is traced
PRIOR = {"majority": 1, "by_class": {0: 2, 3: 1}}


def save(model: nn.Module, path: Path, like: Path) -> Path:
    own = {
        "kind": model.kind,
        "arguments": model.arguments(),
        "model": model.state_dict(),
        "view_prior": PRIOR,
    }
    save_checkpoint(path, load_checkpoint(like) | own)
    return path


def open_onnx(path: Path) -> OnnxModel:
    return OnnxModel(path.read_bytes(), path)


def call(main: Callable[[], None], *command: object) -> str:
    """Run a script's `main` in this process; returns what it logs."""
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr(LOGGER, "info", said.append)
        patch.setattr(sys, "argv", ["script.py", *map(str, command)])
        patch.chdir(ROOT)
        main()
    return "\n".join(said)


@pytest.fixture(scope="module")
def frames(tiny_data: Path) -> torch.Tensor:
    """(8, 3, 96, 96) the tiny data's validation frames, in [0, 1]."""
    dataset = JointDataset(load_split(load_data_config(tiny_data), "val"), 96, cache="off")
    (batch,) = make_loader(dataset, len(dataset), 0, False)
    return batch["images"] / 255


def of_shape(frames: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    batch, _, height, width = shape
    return frames.repeat(1, 1, 1, 2)[:batch, :, :height, :width]


@pytest.fixture(scope="module")
def checkpoint(
    trained: Path, frames: torch.Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """YOLOv5s with a view head, an eighth of its width, least deep; its norms fit the tiny data."""
    torch.manual_seed(0)
    cfg = yaml.safe_load((ROOT / "models/yolov5s_joint.yaml").read_text())
    model = YOLOv5WithClassification(
        cfg | {"width_multiple": 0.125, "depth_multiple": 0.1}, nc=4, views=3
    )
    return save(stirred(model, frames), tmp_path_factory.mktemp("export") / "best.pt", trained)


@pytest.fixture(scope="module")
def said(checkpoint: Path) -> str:
    """What export.py says while it writes best.onnx and best.pt2 beside the checkpoint."""
    return call(script.main, "--weights", checkpoint, "--include", "onnx", "pt2", "--imgsz", 96)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, said: str) -> Path:
    """The best.onnx of the checkpoint."""
    return checkpoint.with_suffix(".onnx")


# ---- the same answers as PyTorch -----------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_onnx_equals_pytorch(
    checkpoint: Path, exported: Path, frames: torch.Tensor, shape: tuple[int, ...]
):
    images = of_shape(frames, shape)
    assert_equal_outputs(open_onnx(exported).run(images), load(checkpoint), images)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_exported_program_equals_pytorch(
    checkpoint, exported: Path, frames: torch.Tensor, shape: tuple[int, ...]
):
    program, images = (
        torch.export.load(exported.with_suffix(".pt2")).module(),
        of_shape(frames, shape),
    )
    assert_equal_outputs(
        dict(zip(("boxes", "views"), program(images), strict=True)), load(checkpoint), images
    )


def test_the_line_says_how_large_and_how_far_off(said: str, exported: Path):
    onnx_line, program_line = said.splitlines()
    size = f"{exported.stat().st_size / 2**20:.1f} MiB"
    assert (
        onnx_line.startswith(f"{exported}: {size}, opset ")
        and "images -> boxes, views" in onnx_line
    )
    assert program_line.startswith(f"{exported.with_suffix('.pt2')}: ")
    for line in (onnx_line, program_line):
        boxes, scores, views = (
            float(part.split()[-1]) for part in line.rpartition("PyTorch: ")[2].split(", ")
        )
        assert (
            0 < boxes < 1 and 0 < scores < 1e-2 and views < 1e-2
        )  # on noise, which these weights do not know


# ---- metadata ------------------------------------------------------------------------------------


def test_metadata_come_back(checkpoint: Path, exported: Path):
    content, properties = load_checkpoint(checkpoint), open_onnx(exported).properties
    metadata = ModelMetadata.of_properties(properties, exported)
    expected = ModelMetadata(
        kind="joint",
        names=content["names"],
        view_names=content["view_names"],
        imgsz=96,
        rect=False,
        data=content["options"]["data"],
        confidence=content["confidence"],
        view_prior=PRIOR,
        fingerprint=content["fingerprint"],
    )
    assert metadata == expected
    assert (
        json.loads(properties["format"]) == "yolov5-joint-gradnorm"
        and json.loads(properties["stride"]) == 32
    )
    extra = {"metadata.json": ""}
    torch.export.load(exported.with_suffix(".pt2"), extra_files=extra)
    assert json.loads(extra["metadata.json"]) == properties


# ---- suppression and float16 ---------------------------------------------------------------------


def test_nms_and_half_from_the_command_line(
    trained: Path, tmp_path: Path, refused: Callable[..., str]
):
    model = stirred(mini_models()["joint"])
    path = save(model, tmp_path / "best.pt", trained)
    said = call(
        script.main, "--weights", path, "--nms", "--half", "--conf-thres", 0.4, "--iou-thres", 0.5
    )
    assert "images -> detections, views" in said and "before suppression" in said
    exported, images = open_onnx(path.with_suffix(".onnx")), noise(SHAPES[1])
    assert json.loads(exported.properties["suppression"]) == {"confidence": 0.4, "iou": 0.5}
    tensors = onnx.load(path.with_suffix(".onnx")).graph.initializer
    assert {tensor.data_type for tensor in tensors if tensor.name.endswith("conv.weight")} == {
        onnx.TensorProto.FLOAT16
    }
    with torch.no_grad():
        expected = export.answers(model, images)
    found = exported.run(images)
    torch.testing.assert_close(found["views"], expected["views"], rtol=0, atol=5e-3)
    for rows, ours in zip(
        found["detections"], non_max_suppression(expected["boxes"], 0.4, 0.5), strict=True
    ):
        scores = rows[:, 4][rows[:, 4] > 0]
        assert math.isclose(len(scores), len(ours), rel_tol=0.1) and len(ours) > 3
        assert scores.min() > 0.4 and torch.allclose(scores[:3], ours[:3, 4], atol=0.02)
    for main in (val.main, detect.main):
        source = ("--source", ROOT / "docs/toy_gradnorm.png") if main is detect.main else ()
        assert "exported with --nms" in refused(
            main, "--weights", path.with_suffix(".onnx"), *source
        )


# ---- the scripts that read it --------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_labels(checkpoint: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data with labels by the checkpoint itself, so that any other answer than its own
    costs accuracy.
    """
    folder = tmp_path_factory.mktemp("own") / "data"
    shutil.copytree(tiny_data.parent, folder)
    predictor = Predictor(load(checkpoint), FLOAT32, 96, 0.4, 0.6)
    for path in sorted((folder / "frames/images/val").iterdir()):
        prediction = predictor(cv2.imread(str(path))[..., ::-1])
        text = label_text(prediction.labels(), 3)
        (folder / "frames/labels/val" / f"{path.stem}.txt").write_text(text)
    return folder / "data.yaml"


def evaluation(weights: Path, data: Path, folder: Path) -> dict:
    """What val.py measures."""
    place = ("--project", folder, "--name", weights.suffix, "--amp", "off", "--workers", 0)
    call(val.main, "--weights", weights, "--data", data, "--imgsz", 96, "--batch-size", 3, *place)
    return json.loads((folder / weights.suffix / "metrics.json").read_text())


@pytest.mark.usefixtures("no_pictures")
def test_val_measures_the_same(checkpoint: Path, exported: Path, own_labels: Path, tmp_path: Path):
    ours, theirs = (evaluation(path, own_labels, tmp_path) for path in (checkpoint, exported))
    assert ours["detection"]["mAP_0.5"] > 0.5 and ours["views"]["accuracy"] == 1
    assert flat(theirs) == pytest.approx(flat(ours), abs=1e-3, nan_ok=True)


def flat(metrics: object, name: str = "") -> dict[str, object]:
    """Nested metrics as one mapping, the numbers by their path."""
    if isinstance(metrics, dict | list):
        items = metrics.items() if isinstance(metrics, dict) else enumerate(metrics)
        return {
            key: value
            for part, below in items
            for key, value in flat(below, f"{name}/{part}").items()
        }
    return {name: metrics} if isinstance(metrics, int | float) else {}


def test_a_predictor_says_the_same(checkpoint: Path, exported: Path):
    image = np.random.default_rng(0).integers(0, 256, (70, 50, 3), np.uint8)
    opened = [open_model(path, model_from_checkpoint, FLOAT32) for path in (checkpoint, exported)]
    ours, theirs = (Predictor.of(*pair, FLOAT32, 64, 0.1)(image) for pair in opened)
    assert len(ours.scores) > 3
    np.testing.assert_allclose(theirs.boxes_xyxy, ours.boxes_xyxy, rtol=1e-4, atol=0.02)
    np.testing.assert_allclose(theirs.view_probabilities, ours.view_probabilities, atol=1e-5)


@pytest.mark.slow
def test_the_example_for_strangers_prints_what_detect_finds(
    checkpoint: Path, tiny_data: Path, tmp_path: Path
):
    weights = shutil.copy(checkpoint, tmp_path / "best.pt")
    call(script.main, "--weights", weights, "--nms", "--imgsz", 96, "--conf-thres", 0.1)
    frame = sorted((tiny_data.parent / "frames/images/val").iterdir())[0]
    command = [sys.executable, ROOT / "docs/how-to/onnx_example.py", "best.onnx", frame]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr

    model, metadata = open_model(checkpoint, model_from_checkpoint, FLOAT32)
    image = cv2.cvtColor(cv2.imread(str(frame)), cv2.COLOR_BGR2RGB)
    found = Predictor.of(model, metadata, FLOAT32, 96, 0.1)(image)
    *rows, view = ended.stdout.replace("[", " ").replace("]", " ").split("\n")[:-1]
    best = np.array([row.split()[1:] for row in rows[:3]], float)
    assert len(rows) > 3
    np.testing.assert_allclose(best[:, 0], found.scores[:3], atol=0.02)
    inside = best[:, 1:].clip(0, np.tile(image.shape[1::-1], 2))
    np.testing.assert_allclose(inside, found.boxes_xyxy[:3], atol=1)
    assert view.split()[0] == metadata.view_names[found.view_probabilities.argmax()]


def test_detect_reads_it_with_its_own_size_and_confidence(
    exported: Path, tiny_data: Path, tmp_path: Path, monkeypatch
):
    predictors, original = [], Predictor.predict
    monkeypatch.setattr(
        Predictor, "predict", lambda self, images: predictors.append(self) or original(self, images)
    )
    source = tiny_data.parent / "frames/images/val"
    call(
        detect.main,
        "--weights",
        exported,
        "--source",
        source,
        "--project",
        tmp_path,
        "--save-csv",
        "--nosave",
    )
    assert {(p.size, p.confidence) for p in predictors} == {(96, 0.25)}
    assert (tmp_path / "exp/predictions.csv").read_text().count("\n") > 8


# ---- what is refused -----------------------------------------------------------------------------


@pytest.fixture
def refused(capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Run a script's `main`, expect it to refuse in one line, and return it."""

    def run(main: Callable[[], None], *command: object) -> str:
        with pytest.raises(SystemExit) as stop:
            call(lambda: run_script(main), *command)
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1, (
            error
        )
        return error.removeprefix("error: ")

    return run


def test_a_wrong_opset_is_refused_before_the_checkpoint_is_read(refused: Callable[..., str]):
    message = refused(script.main, "--weights", "none.pt", "--opset", 999)
    assert message == f"--opset is 999, expected 18 to {NEWEST_OPSET}\n"


def test_without_onnx_the_opset_waits_for_the_message_that_onnx_is_missing(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "onnx.defs", None)
    assert script.opset("999") == 999


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--imgsz", 100], "--imgsz is 100, expected a multiple of 32"),
        (["--opset", 17], f"--opset is 17, expected 18 to {NEWEST_OPSET}"),
        (["--nms", "--include", "onnx", "pt2"], "--nms is for ONNX only"),
        (["--conf-thres", 2], "--conf-thres is 2.0, expected 0 to 1"),
    ],
)
def test_wrong_options(
    refused: Callable[..., str], checkpoint: Path, arguments: list, expected: str
):
    assert refused(script.main, "--weights", checkpoint, *arguments).startswith(expected)


def test_suppression_without_a_detector(refused: Callable[..., str], trained: Path, tmp_path: Path):
    path = save(mini_models()["classification"], tmp_path / "best.pt", trained)
    assert refused(script.main, "--weights", path, "--nms").startswith(
        f"--nms: {path} finds no boxes"
    )


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_checkpoint(
    refused: Callable[..., str], checkpoint: Path, tmp_path: Path, share: float
):
    content, path = checkpoint.read_bytes(), tmp_path / "best.pt"
    path.write_bytes(content[: int(share * len(content))])
    assert refused(script.main, "--weights", path).startswith(f"{path}: ")
    assert list(tmp_path.iterdir()) == [path]


def test_a_foreign_checkpoint(
    refused: Callable[..., str], hostile_checkpoint: tuple, tmp_path: Path
):
    torch.save({"model": {}}, tmp_path / "foreign.pt")
    assert "not a checkpoint of this project" in refused(
        script.main, "--weights", tmp_path / "foreign.pt"
    )
    path, marker = hostile_checkpoint
    assert (
        refused(script.main, "--weights", path).startswith(f"{path}: refused")
        and not marker.exists()
    )
    assert "no such checkpoint" in refused(script.main, "--weights", tmp_path / "missing.pt")


@pytest.mark.parametrize("content", [b"", b"no model\n", None], ids=["empty", "text", "truncated"])
def test_a_file_that_is_no_onnx(
    refused: Callable[..., str], exported: Path, tmp_path: Path, content: bytes | None
):
    path = tmp_path / "x.onnx"
    path.write_bytes(exported.read_bytes()[:5000] if content is None else content)
    message = refused(val.main, "--weights", path)
    assert message.startswith(f"{path}: ") and "ONNX model" in message
    assert "no such file" in refused(val.main, "--weights", tmp_path / "missing.onnx")


def test_an_onnx_model_of_others(refused: Callable[..., str], exported: Path, tmp_path: Path):
    foreign, path = onnx.load(exported), tmp_path / "foreign.onnx"
    del foreign.metadata_props[:]
    onnx.save(foreign, path)
    for main in (val.main, detect.main):
        source = ("--source", ROOT / "docs/toy_gradnorm.png") if main is detect.main else ()
        message = refused(main, "--weights", path, *source)
        assert message.startswith(
            f"{path}: not an export of this project (it has no metadata of this project)"
        )


def test_onnx_cannot_be_explained(refused: Callable[..., str], exported: Path):
    message = refused(
        detect.main, "--weights", exported, "--source", ROOT / "docs/toy_gradnorm.png", "--explain"
    )
    assert message.startswith(f"--explain: {exported} is ONNX")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package(
    refused: Callable[..., str], monkeypatch, exported: Path, checkpoint: Path, package: str
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(export, "exported_program", lambda deployed: None)
    command = (
        (val.main, "--weights", exported)
        if package == "onnxruntime"
        else (script.main, "--weights", checkpoint)
    )
    message = refused(*command)
    assert (
        message.startswith(f"ONNX needs the package {package}")
        and "pip install '.[export]'" in message
    )


def test_a_full_disk_leaves_the_old_file(exported: Path, tmp_path: Path, monkeypatch):
    path = tmp_path / "best.onnx"
    path.write_bytes(b"old")
    monkeypatch.setattr(
        Path,
        "write_bytes",
        lambda self, content: (_ for _ in ()).throw(OSError(28, "No space left")),
    )
    with pytest.raises(OSError, match="cannot be written"):
        export.write_onnx(path, onnx.load(exported), {})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
