"""TensorBoard's event files say what the CSV files say, a resumed run's too."""

import os
import sys
from pathlib import Path

import pandas as pd
import pytest
from small_runs import EPOCHS, new_job, resume, run, small_options

import train_joint_dual_backbone
import train_joint_gradnorm
from utils.core.script import UserError
from utils.core.signals import Interrupted
from utils.loggers.tensorboard import BATCHES, Board
from utils.training.trainer import Trainer

accumulators = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="the optional extra tensorboard is not installed",
)


def events(folder: Path):
    """What TensorBoard shows of a folder."""
    found = accumulators.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value; fails where a step has two."""
    found = events(folder)
    curves = {}
    for tag in found.Tags()["scalars"]:
        points = found.Scalars(tag)
        curves[tag] = {point.step: point.value for point in points}
        assert len(curves[tag]) == len(points), f"{tag} has a step twice"
    return curves


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path):
    folder = tmp_path / os.fsdecode(b"\xe9")
    with pytest.raises(UserError, match=r"--tensorboard: .* is not UTF-8"):
        Board(folder, enabled=True)
    Board(folder, enabled=False)


def curves_of(table: pd.DataFrame, scale: str) -> dict[str, dict[int, float]]:
    """The same from a CSV file: every column of numbers that has any."""
    columns = table.drop(
        columns=["epoch", "step", "batch", "place"], errors="ignore"
    ).select_dtypes("number")
    points = {
        name: dict(zip(table[scale], values, strict=True)) for name, values in columns.items()
    }
    points = {
        name: {step: value for step, value in curve.items() if value == value}
        for name, curve in points.items()
    }
    return {name: curve for name, curve in points.items() if curve}


def assert_same_curves(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for tag, curve in expected.items():
        assert found[tag] == pytest.approx(curve, rel=2e-5, abs=1e-12)  # six digits in the CSV file


def assert_like_the_tables(folder: Path) -> None:
    assert_same_curves(scalars(folder), curves_of(pd.read_csv(folder / "results.csv"), "epoch"))
    expected = {}
    if (folder / "gradnorm.csv").exists():
        expected |= curves_of(pd.read_csv(folder / "gradnorm.csv"), "step")
    if (folder / "interference.csv").exists():
        for place, rows in pd.read_csv(folder / "interference.csv").groupby("place"):
            expected |= {
                f"interference/{place}/{name}": c for name, c in curves_of(rows, "step").items()
            }
    assert_same_curves(scalars(folder / BATCHES), expected)


@pytest.fixture(scope="module")
def options(tiny_data, tmp_path_factory) -> dict:
    return small_options(tiny_data, tmp_path_factory.mktemp("cfg")) | {
        "tensorboard": True,
        "diagnose_interval": 3,
    }


def test_a_resumed_runs_events_are_its_tables_and_pictures(options, tmp_path):
    def stop(trainer: Trainer, epoch: int, index: int, batch: dict) -> None:
        if (epoch, index) == (1, 2):
            # Rows that are written, and must not count in the end.
            trainer.records.board._writers["step"].flush()
            raise Interrupted("", 2)

    folder = tmp_path / "exp"
    with pytest.raises(Interrupted):
        run(options, folder, on_step=stop)
    assert max(scalars(folder / BATCHES)["cosine"]) >= 3
    resume(folder, pictures=True)
    assert_like_the_tables(folder)
    assert {"metrics/mAP_0.5:0.95", "train/view_loss", "weight/detection", "x/lr0"} <= scalars(
        folder
    ).keys()
    assert {"cosine", "target/detection", "interference/trunk/cosine"} <= scalars(
        folder / BATCHES
    ).keys()
    found = events(folder)
    assert set(found.Tags()["images"]) == {path.stem for path in folder.glob("*.png")}
    assert [image.step for image in found.Images("results")] == [EPOCHS - 1]


def test_a_new_run_in_an_old_folder_begins_anew(tiny_data, tmp_path):
    options = small_options(tiny_data, tmp_path, train_joint_dual_backbone) | {
        "tensorboard": True,
        "exist_ok": True,
    }
    for epochs in (2, 1):
        folder = run(options, tmp_path / "exp", train_joint_dual_backbone, epochs=epochs)
    assert_like_the_tables(folder)
    assert set(scalars(folder)["train/box_loss"]) == {0}


def test_no_event_file_unless_asked_for(options, tmp_path):
    job = new_job({**options, "tensorboard": False, "project": str(tmp_path), "name": "exp"})
    trainer = Trainer(job)
    trainer.open_folder()
    trainer.records.board.row({"epoch": 0, "train/box_loss": 1.0})
    trainer.records.board.finish(0)
    assert not list(tmp_path.rglob("events*")) and not list(tmp_path.rglob(BATCHES))


def test_without_the_package_training_does_not_begin(options, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    job = new_job({**options, "project": str(tmp_path / "runs")}, train_joint_gradnorm)
    message = r"--tensorboard needs an extra package.*pip install '\.\[tensorboard\]'"
    with pytest.raises(UserError, match=message), job.run:
        Trainer(job)
    assert not (tmp_path / "runs").exists()
