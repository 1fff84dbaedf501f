"""What a user can get wrong on the command line or in the data.

One clear message, exit code 2, nothing written.
"""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from deep_images import deepen
from script_processes import run_script_process

import train_joint_dual_backbone
import train_joint_gradnorm
import val
from utils.commands import train_joint_dual_backbone as dual_command
from utils.commands import train_joint_gradnorm as joint_command
from utils.core.files import ROOT
from utils.core.script import run_script

SCRIPTS = {
    "train": train_joint_gradnorm.main,
    "dual": train_joint_dual_backbone.main,
    "val": val.main,
}


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> Callable[..., str]:
    """Run a script's `main` in this process, expect it to refuse, and return its message."""
    monkeypatch.chdir(ROOT)
    runs = tmp_path / "runs"
    for module in (joint_command, dual_command):
        monkeypatch.setattr(
            module, "train", lambda job: pytest.fail("not refused: the training starts")
        )

    def run(script: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments), "--project", str(runs)])
        with pytest.raises(SystemExit) as stop:
            run_script(SCRIPTS[script])
        return message_of(stop.value.code, capsys.readouterr().err, runs)

    return run


def message_of(exit_code: object, stderr: str, runs: Path) -> str:
    assert exit_code == 2
    assert "Traceback" not in stderr
    assert len(re.findall(r"^error: ", stderr, re.MULTILINE)) == 1, stderr
    assert not runs.exists()
    return stderr.partition("error: ")[2]


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A data.yaml whose folder may be spoilt."""
    shutil.copytree(tiny_data.parent, tmp_path / "data")
    return tmp_path / "data/data.yaml"


def first(data: Path, kind: str, split: str) -> Path:
    return min((data.parent / "frames" / kind / split).iterdir())


# ---- the data ------------------------------------------------------------------------------------


def spoil_label(data: Path, split: str) -> list[str]:
    path = first(data, "labels", split)
    path.write_text("0 0.5 0.5 0.1 0.1\n9 0.5 0.5 0.1 0.1\n0 1 0\n")
    return [f"{path}:2: found class 9", "expected"]


def spoil_view(data: Path, split: str) -> list[str]:
    path = first(data, "labels", split)
    path.write_text("0 0.5 0.5 0.1 0.1\n[1, 1, 0]\n")
    return [f"{path}:2: found 2 ones", "expected a one-hot view"]


def spoil_image(data: Path, split: str) -> list[str]:
    path = first(data, "images", split)
    path.write_bytes(b"")
    return [str(path), "cannot be read as an image"]


def empty_folder(data: Path, split: str) -> list[str]:
    folder = first(data, "images", split).parent
    shutil.rmtree(folder)
    folder.mkdir()
    return [f"{split}: no images in {folder}"]


def missing_folder(data: Path, split: str) -> list[str]:
    folder = first(data, "images", split).parent
    shutil.rmtree(folder)
    return [f"{split}: no folder", str(folder)]


def no_labels(data: Path, split: str) -> list[str]:
    shutil.rmtree(data.parent / "frames/labels" / split)
    return [f"{split}: none of"]


def share_label(data: Path, split: str) -> list[str]:
    path = first(data, "images", split)
    twin = Path(shutil.copy(path, path.with_suffix(".jpg")))
    return [str(first(data, "labels", split)), f"belongs to {twin} and {path}, expected one image"]


def unsaid_depth(data: Path, split: str) -> list[str]:
    largest = deepen(data.parent / "frames/images" / split, 12)
    return [f"{split}: the largest value of its", f"images of 16 bits is {largest}", "'bits: 12'"]


SPOILT = [
    *(spoil_label, spoil_view, spoil_image, empty_folder, missing_folder, no_labels),
    *(share_label, unsaid_depth),
]


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize(
    ("script", "split"), [("train", "train"), ("train", "val"), ("val", "val")]
)
def test_bad_data(refused, data: Path, trained: Path, spoil, script: str, split: str):
    expected = spoil(data, split)
    arguments = ("--weights", trained) if script == "val" else ("--imgsz", 64)
    message = refused(script, "--data", data, *arguments)
    assert all(part in message for part in expected), message


def test_bad_labels_of_all_splits_are_collected(refused, data: Path):
    expected = spoil_label(data, "train") + spoil_view(data, "val")
    message = refused("train", "--data", data)
    assert all(part in message for part in expected), message


def test_no_view_at_all(refused, data: Path):
    for path in (data.parent / "frames/labels/train").iterdir():
        path.write_text("0 0.5 0.5 0.1 0.1\n")
    assert "no training frame has a view" in refused("train", "--data", data)


def test_data_without_the_names_of_views(refused, data: Path):
    data.write_text(re.sub(r"cls_names:\n(- .*\n)*", "", data.read_text()))
    assert f"{data}: key 'cls_names' is missing" in refused("train", "--data", data)


def test_a_model_of_other_classes(refused, data: Path, trained: Path):
    data.write_text(data.read_text().replace("- AR", "- XR"))
    message = refused("val", "--data", data, "--weights", trained)
    assert str(data) in message and "XR" in message and str(trained) in message


# ---- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--epochs", "0"], "--epochs is 0, expected at least 1"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--imgsz", "100"], "--imgsz is 100, expected a multiple of 32"),
        (["--amp", "nonsense"], "--amp is 'nonsense', expected one of auto, off, bf16, fp16"),
        (["--device", "nonsense"], "--device is 'nonsense', expected auto, cpu"),
        (["--device", "\u00b2"], "--device is '\u00b2', expected auto, cpu"),
        (["--device", "7"], "--device 7: this machine has 0 CUDA devices; use --device cpu"),
        (["--device", "9" * 5000], "--device 999"),
        (["--amp", "fp16", "--device", "cpu"], "--amp fp16 needs a CUDA device"),
        (["--freeze", "99"], "--freeze 99: the model has"),
        (["--gradnorm-alpha", "-1"], "--gradnorm-alpha is -1.0, expected"),
        (["--data", "missing.yaml"], "missing.yaml: no such file"),
        (["--data", ""], "--data is empty; leave it out for data/echo_phantom.yaml"),
        (["--cfg", ""], "--cfg is empty; leave it out for models/yolov5s_joint.yaml"),
        (["--hyp", ""], "--hyp is empty; leave it out for"),
        (["--data", "data"], "data: cannot be read: it is a folder; --data takes a data.yaml"),
        (["--hyp", "missing.yaml"], "missing.yaml: no such file"),
        (["--cfg", "missing.yaml"], "missing.yaml: no such file"),
        (["--weights", "missing.pt"], "missing.pt: no such checkpoint"),
        (["--resume", "missing.pt"], "missing.pt: no such checkpoint"),
        (["--resume"], "--resume: no "),
        (["--device", ""], "--device is empty; leave it out for auto"),
        (
            ["--save-period", "-7"],
            "--save-period is -7, expected at least 1 (epochs), or -1 for never",
        ),
        (["--name", ""], "--name is '', expected the name of a folder inside --project"),
        (["--name", "."], "--name is '.', expected"),
        (["--name", "../exp"], "--name is '../exp', expected"),
        (["--name", "/tmp/exp"], "--name is '/tmp/exp', expected"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_with_wrong_options(
    refused, monkeypatch, tiny_data: Path, arguments: list[str], expected: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    data = [] if {"--data", "--resume"} & set(arguments) else ["--data", tiny_data]
    assert refused("train", *data, *arguments).startswith(expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            "--freeze-task detection --freeze-task classification",
            "--freeze-task detection and classification: nothing",
        ),
        ("--classification-start-epoch 50", "--classification-start-epoch is 50, expected 0 to 49"),
        ("--classification-epochs 51", "--classification-epochs is 51, expected 1 to 50"),
        (
            "--freeze-task detection --classification-start-epoch 5",
            "--freeze-task detection goes with neither",
        ),
        ("--detection-lr0 -0.1", "--detection-lr0 is -0.1, expected"),
        ("--classification-weight-decay -1", "--classification-weight-decay is -1.0, expected"),
        ("--freeze 99", "--freeze 99: the model has"),
        ("--classifier-cfg=", "--classifier-cfg is empty; leave it out for models/"),
        ("--classifier-cfg missing.yaml", "missing.yaml: no such file; expected a model YAML"),
        (
            "--classifier-cfg models/yolov5s.yaml",
            "models/yolov5s.yaml: the model has 0 layers of type ViewHead",
        ),
        (
            "--classifier-cfg models/yolov5s_joint.yaml",
            "models/yolov5s_joint.yaml: expected one ViewHead",
        ),
        (
            "--cfg models/yolov5s_joint.yaml",
            "models/yolov5s_joint.yaml: model layer 25, ViewHead: ['views'] has no value",
        ),
        (
            "--cfg models/view_classifier.yaml",
            "models/view_classifier.yaml: keys ['nc', 'anchors'] are missing",
        ),
    ],
)
def test_the_dual_script_with_wrong_options(
    refused, tiny_data: Path, arguments: str, expected: str
):
    assert refused("dual", "--data", tiny_data, *arguments.split()).startswith(expected)


def test_weights_of_a_joint_model_in_the_dual_script(refused, trained: Path, tiny_data: Path):
    message = refused("dual", "--data", tiny_data, "--weights", trained)
    assert message.startswith(f"{trained} (model of kind 'joint'): none of its")
    assert "of kind 'dual'" in refused("dual", "--resume", trained)


def test_rates_of_two_networks_in_the_joint_script(refused, tiny_data: Path):
    message = refused("train", "--data", tiny_data, "--hyp", "hyp/dual_backbone_rules.yaml")
    assert "'detection_lr0'" in message and "use lr0" in message


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("dual", ["--freeze-task", "both"]),
        ("dual", ["--gradnorm-alpha", "1.5"]),
        ("train", ["--lr0", "1"]),
        ("train", ["--cache", "disc"]),
        ("train", ["--epochs", "three"]),
        ("train", ["--gradnorm-rule", "paper"]),
        ("val", ["--weights", "a.pt", "--task", "tset"]),
        ("val", ["--weights", ""]),
        ("val", ["--data", ""]),
        ("val", []),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_options_that_the_parser_refuses(monkeypatch, capsys, script: str, arguments: list[str]):
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as stop:
        run_script(SCRIPTS[script])
    culprit = arguments[-2] if arguments else "--weights"
    assert stop.value.code == 2 and culprit in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--amp", "nonsense"], "--amp is 'nonsense'"),
        (["--device", "7"], "--device 7: this machine has 0"),
        (["--batch-size", "0"], "--batch-size"),
        (["--imgsz", "100"], "--imgsz"),
        (["--conf-thres", "2"], "--conf-thres is 2.0"),
        (["--iou-thres", "-1"], "--iou-thres is -1.0"),
        (["--data", "missing.yaml"], "missing.yaml: no such file"),
        (["--task", "test"], "no split 'test'"),
        (["--name", ""], "--name is ''"),
        (["--name", ".."], "--name is '..'"),
        (["--device", ""], "--device is ''"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_val_with_wrong_options(
    refused, monkeypatch, trained: Path, arguments: list[str], expected: str
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert expected in refused("val", "--weights", trained, *arguments)


def test_an_unknown_hyp_key_names_the_nearest(refused, tmp_path: Path):
    (tmp_path / "hyp.yaml").write_text("lr0: 0.01\nmosiac: 1.0\n")
    message = refused("train", "--hyp", tmp_path / "hyp.yaml")
    assert message.startswith(
        f"{tmp_path / 'hyp.yaml'}: unknown key 'mosiac'; did you mean 'mosaic'?"
    )


def test_resume_takes_no_other_options(refused, trained: Path):
    message = refused("train", "--resume", trained, "--epochs", "3", "--gradnorm-alpha", "1")
    assert message.startswith("--resume") and message.strip().endswith(
        "leave out --epochs, --gradnorm-alpha"
    )


def test_a_checkpoint_for_evaluation_cannot_be_resumed(refused, trained: Path):
    assert f"{trained}: cannot be resumed" in refused("train", "--resume", trained)


# ---- checkpoints ---------------------------------------------------------------------------------


TAKES_A_CHECKPOINT = [
    (script, option) for script in ("train", "dual") for option in ("--weights", "--resume")
]
TAKES_A_CHECKPOINT += [("val", "--weights")]


@pytest.mark.parametrize(("script", "option"), TAKES_A_CHECKPOINT)
@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint\n", b"\x89PNG\r\n\x1a\n"], ids=["empty", "text", "picture"]
)
def test_a_file_that_is_no_checkpoint(
    refused, tmp_path: Path, tiny_data: Path, script: str, option: str, content: bytes
):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    data = [] if option == "--resume" else ["--data", tiny_data]
    assert str(path) in refused(script, option, path, *data)


@pytest.mark.parametrize(("script", "option"), TAKES_A_CHECKPOINT)
def test_a_hostile_checkpoint(
    refused, hostile_checkpoint: tuple, tiny_data: Path, script: str, option: str
):
    path, marker = hostile_checkpoint
    data = [] if option == "--resume" else ["--data", tiny_data]
    assert refused(script, option, path, *data).startswith(f"{path}: refused")
    assert not marker.exists()


# ---- for real ------------------------------------------------------------------------------------


def refused_for_real(tmp_path: Path, *command: object) -> str:
    ended = run_script_process(*command, "--project", tmp_path / "runs")
    return message_of(ended.returncode, ended.stderr, tmp_path / "runs")


def test_a_wrong_label_file_for_real(data: Path, tmp_path: Path):
    expected = spoil_label(data, "train")
    message = refused_for_real(tmp_path, "train_joint_gradnorm.py", "--data", data)
    assert all(part in message for part in expected), message


@pytest.mark.parametrize("spoil", [share_label, unsaid_depth])
def test_images_that_would_be_misread_for_real(data: Path, tmp_path: Path, spoil):
    expected = spoil(data, "train")
    message = refused_for_real(tmp_path, "train_joint_gradnorm.py", "--data", data, "--imgsz", 64)
    assert all(part in message for part in expected), message


def test_a_hostile_checkpoint_for_real(hostile_checkpoint: tuple, tmp_path: Path):
    path, marker = hostile_checkpoint
    assert refused_for_real(tmp_path, "val.py", "--weights", path).startswith(f"{path}: refused")
    assert not marker.exists()
