"""View heads behind a stop-gradient, and the averages that a study records beside the run's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from small_runs import (
    EPOCHS,
    assert_same_run,
    break_run,
    new_job,
    resume,
    run,
    small_options,
    write_tiny_data,
)

from models.yolo import YOLOv5WithClassification
from utils.checkpoints.checkpoint import load_checkpoint
from utils.core.script import UserError
from utils.evaluation.predictions import read_predictions

PRIVATE = ("model.25.", "model.26.", "model.27.")  # of view heads


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def options(data: Path, tmp_path: Path) -> dict[str, object]:
    """Of a training whose view head is behind a stop-gradient."""
    return with_heads(small_options(data, tmp_path), [{"zero_start": True}])


def with_heads(
    options: dict, heads: list[dict], reads: tuple[object, ...] = (17, 20, [17, 20, 23])
) -> dict:
    """`options` with these heads in the model YAML, each behind a stop-gradient and without
    dropout.
    """
    path = Path(options["cfg"])
    cfg = yaml.safe_load(path.read_text())
    rows = [
        [source, 1, "ViewHead", ["views", 0.0], {"stop_gradient": True} | keys]
        for source, keys in zip(reads, heads, strict=False)
    ]
    path.write_text(
        yaml.safe_dump(cfg | {"head": [*cfg["head"][: 25 - len(cfg["backbone"])], *rows]})
    )
    return options


def weights_of(folder: Path, part: str = "model") -> dict[str, torch.Tensor]:
    content = load_checkpoint(folder / "weights" / "last.pt")
    return content["ema"]["model"] if part == "ema" else content["model"]


def test_the_detector_is_trained_bit_for_bit_as_it_is_alone(options: dict, tmp_path: Path):
    joint = run(options, tmp_path / "joint")
    alone = run(options, tmp_path / "alone", tasks=["detection"])
    for part in ("model", "ema"):
        detector = {n: t for n, t in weights_of(alone, part).items() if not n.startswith(PRIVATE)}
        beside = weights_of(joint, part)
        assert all(torch.equal(tensor, beside[name]) for name, tensor in detector.items())
    start = new_job(options | {"project": str(tmp_path), "name": "start"}).model.state_dict()
    assert not torch.equal(
        start["model.25.linear.weight"], weights_of(joint)["model.25.linear.weight"]
    )


def test_heads_beside_each_other_are_trained_as_each_is_alone(data: Path, tmp_path: Path):
    heads = [{"pooling": "attention", "zero_start": True}, {"layer_norm": True, "zero_start": True}]
    both = run(with_heads(small_options(data, tmp_path), heads), tmp_path / "both")
    alone = run(
        with_heads(small_options(data, tmp_path), heads[1:], reads=(20,)), tmp_path / "alone"
    )
    beside = weights_of(both)
    for name, tensor in weights_of(alone).items():
        assert torch.equal(tensor, beside[name.replace("model.25.", "model.26.")])


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


def test_a_resumed_run_with_recorded_averages_is_the_same(options: dict, tmp_path: Path):
    hyp = tmp_path / "hyp.yaml"
    hyp.write_text("record_averages: [ramp, 0.5, 2]\nnominal_batch_size: null\n")
    options = options | {"hyp": str(hyp)}
    whole = run(options, tmp_path / "whole")
    break_run(options, tmp_path / "halves", (1, 0))
    resume(tmp_path / "halves")
    assert_same_run(whole, tmp_path / "halves")
    content = load_checkpoint(whole / "weights" / "last.pt")
    averages = [content["ema"]["model"], *content["recorded"].values()]
    heads = [average["model.25.linear.weight"] for average in averages]
    assert list(content["recorded"]) == ["0.5", "2"] and not torch.equal(heads[1], heads[2])


def test_every_epochs_predictions_of_every_average_and_head_are_kept(data: Path, tmp_path: Path):
    hyp = tmp_path / "hyp.yaml"
    hyp.write_text("record_averages: [ramp, 1]\nnominal_batch_size: null\n")
    options = with_heads(small_options(data, tmp_path), [{}, {"pooling": "mean"}]) | {
        "hyp": str(hyp)
    }
    folder = run(options, tmp_path / "run")
    kept = {path.stem for path in (folder / "predictions").iterdir()}
    assert kept == {f"epoch{epoch}_{name}" for epoch in range(EPOCHS) for name in ("ramp", "1")}
    last = read_predictions(folder / "predictions" / f"epoch{EPOCHS - 1}_ramp.npz").arrays
    final = read_predictions(folder / "predictions.npz").arrays
    assert all(
        np.array_equal(last[name], final[name], equal_nan=name == "detection_losses")
        for name in final
    )
    window = read_predictions(folder / "predictions" / f"epoch{EPOCHS - 1}_1.npz").arrays
    assert not np.array_equal(last["view_probabilities"], window["view_probabilities"])
    assert last["beside_probabilities"].shape == (8, 1, 3)
    assert np.allclose(last["beside_probabilities"].sum(-1), 1, atol=1e-6)
    assert not np.allclose(last["beside_probabilities"][:, 0], last["view_probabilities"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [
                [17, 1, "ViewHead", ["views"]],
                [20, 1, "ViewHead", ["views"], {"stop_gradient": True}],
            ],
            "2 view heads",
        ),
        (
            [[17, 1, "Conv", [64]], [25, 1, "ViewHead", ["views"], {"stop_gradient": True}]],
            r"nothing would train layers \[25\]",
        ),
        ([[17, 1, "Conv", [64]]], "no ViewHead row"),
    ],
)
def test_heads_that_would_disturb_or_be_disturbed_are_refused(rows: list, message: str):
    cfg = yaml.safe_load(Path("models/yolov5n_joint.yaml").read_text())
    with pytest.raises(UserError, match=message):
        YOLOv5WithClassification(cfg | {"head": [*cfg["head"][:-1], *rows]}, nc=4)
