"""The view head behind a stop-gradient."""

from pathlib import Path

import pytest
import torch
import yaml
from small_runs import new_job, run, small_options, write_tiny_data

from models.yolo import YOLOv5WithClassification
from utils.checkpoints.checkpoint import load_checkpoint
from utils.core.script import UserError

VIEW_HEAD = "model.25."


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def options(data: Path, tmp_path: Path) -> dict[str, object]:
    """Of a training whose view head is behind a stop-gradient."""
    options = small_options(data, tmp_path)
    path = Path(options["cfg"])
    cfg = yaml.safe_load(path.read_text())
    cfg["head"][-1] = [17, 1, "ViewHead", ["views", 0.0], {"stop_gradient": True}]
    path.write_text(yaml.safe_dump(cfg))
    return options


def weights_of(folder: Path, part: str = "model") -> dict[str, torch.Tensor]:
    content = load_checkpoint(folder / "weights" / "last.pt")
    return content["ema"]["model"] if part == "ema" else content["model"]


def test_the_detector_is_trained_bit_for_bit_as_it_is_alone(options: dict, tmp_path: Path):
    joint = run(options, tmp_path / "joint")
    alone = run(options, tmp_path / "alone", tasks=["detection"])
    for part in ("model", "ema"):
        weights = weights_of(alone, part)
        detector = {n: t for n, t in weights.items() if not n.startswith(VIEW_HEAD)}
        beside = weights_of(joint, part)
        assert all(torch.equal(tensor, beside[name]) for name, tensor in detector.items())
    start = new_job(options | {"project": str(tmp_path), "name": "start"}).model.state_dict()
    name = f"{VIEW_HEAD}linear.weight"
    assert not torch.equal(start[name], weights_of(joint)[name])


def test_the_weights_are_one_and_one_and_the_log_says_so(
    options: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", logger="joint")
    job = new_job(options | {"project": str(tmp_path), "name": "run"})
    assert job.balancer.weights == {"detection": 1.0, "classification": 1.0}
    assert "behind a stop-gradient: nothing to balance, the weights are 1 and 1" in caplog.text
    assert "--gradnorm-interval has no effect" in caplog.text


@pytest.mark.parametrize(
    "asked",
    [
        {"balancer": "gradnorm"},
        {"balancer": "pcgrad"},
        {"diagnose_interval": 1},
        {"tasks": ["classification"]},
    ],
)
def test_what_has_no_sense_behind_a_stop_gradient_is_refused(
    options: dict, tmp_path: Path, asked: dict
):
    with pytest.raises(UserError, match="stop-gradient"):
        new_job(options | asked | {"project": str(tmp_path), "name": "run"})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [[17, 1, "ViewHead", ["views"]], [20, 1, "ViewHead", ["views"]]],
            "2 layers of type ViewHead, expected exactly one",
        ),
        (
            [[17, 1, "Conv", [64]], [25, 1, "ViewHead", ["views"], {"stop_gradient": True}]],
            r"nothing would train layers \[25\]",
        ),
        ([[17, 1, "Conv", [64]]], "0 layers of type ViewHead, expected exactly one"),
    ],
)
def test_a_model_has_one_view_head_and_trains_every_layer(rows: list, message: str):
    cfg = yaml.safe_load(Path("models/yolov5n_joint.yaml").read_text())
    with pytest.raises(UserError, match=message):
        YOLOv5WithClassification(cfg | {"head": [*cfg["head"][:-1], *rows]}, nc=4)
