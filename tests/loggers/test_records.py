"""The tables of a run: their columns, who writes them, and how a resumed run cuts them back."""

from pathlib import Path

import pandas as pd
import pytest

from utils.core.options import TrainOptions
from utils.core.script import UserError
from utils.loggers.records import (
    GRADNORM_COLUMNS,
    RESULT_COLUMNS,
    TIME_COLUMNS,
    RunRecords,
    metric_cells,
    rate_columns,
    result_columns,
)


def records_in(folder: Path, confirm=lambda: None) -> RunRecords:
    return RunRecords(folder, ["joint"], 5, tensorboard=False, confirm=confirm)


def write_rows(records: RunRecords, epochs: range) -> None:
    """A row an epoch in every table."""
    for epoch in epochs:
        now = {"step": 3 * epoch, "epoch": epoch, "batch": 0}
        records.update(now | {"cosine": 0.5})
        records.interference([now | {"place": "cut"}, now | {"place": "trunk"}])
        records.epoch({"epoch": epoch, "best": "joint"})


def epochs_in(folder: Path) -> dict[str, list[int]]:
    return {path.name: pd.read_csv(path)["epoch"].tolist() for path in folder.glob("*.csv")}


def test_one_part_has_the_columns_of_yolov5_and_several_have_their_own():
    rates = ("x/lr0", "x/lr1", "x/lr2")
    assert result_columns(["joint"]) == (*RESULT_COLUMNS, *rates, *TIME_COLUMNS)
    columns = result_columns(["a", "b"])
    assert {"metrics/a_fitness", "metrics/b_fitness", "x/a_lr0", "x/b_lr2"} <= set(columns)
    assert len(set(columns)) == len(columns) and "x/lr0" not in columns
    assert rate_columns("b", ["a", "b"]) == ["x/b_lr0", "x/b_lr1", "x/b_lr2"]


def test_metrics_without_a_task_fill_no_column_of_it():
    cells = metric_cells({"fitness": 0.5, "views": {"accuracy": 0.75}})
    assert cells["metrics/fitness"] == 0.5 and cells["metrics/view_accuracy"] == 0.75
    assert cells.keys() <= set(RESULT_COLUMNS) and "metrics/mAP_0.5" not in cells


def test_a_new_run_leaves_nothing_of_an_old_one(tmp_path: Path):
    records = records_in(tmp_path)
    write_rows(records, range(2))
    for name in ("summary.json", "predictions.npz", "predictions_test.npz"):
        (tmp_path / name).touch()
    records.begin(3, {"opt": TrainOptions(epochs=7)})
    assert [path.name for path in tmp_path.iterdir()] == ["opt.yaml"]
    assert "epochs: 7\n" in (tmp_path / "opt.yaml").read_text()


def test_a_resumed_run_loses_the_rows_of_its_epoch_and_of_later_ones(tmp_path: Path):
    records = records_in(tmp_path)
    write_rows(records, range(3))
    records.cut_back(1, batches=3)
    assert epochs_in(tmp_path) == {
        "results.csv": [0],
        "gradnorm.csv": [0],
        "interference.csv": [0, 0],
    }
    write_rows(records, range(1, 3))
    assert epochs_in(tmp_path)["results.csv"] == [0, 1, 2]
    assert tuple(pd.read_csv(tmp_path / "gradnorm.csv").columns) == GRADNORM_COLUMNS


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("utils.core.distributed.rank", lambda: 1)
    records = records_in(tmp_path)
    records.begin(3, {"opt": TrainOptions()})
    write_rows(records, range(1))
    records.progress("finished", 0)
    records.cut_back(0, batches=3)
    records.finish(0)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_this_runs_own_any_more_is_left_alone(tmp_path: Path):
    def refuse() -> None:
        raise UserError("another run's folder")

    records = records_in(tmp_path, refuse)
    row = {"epoch": 0}
    writes = (
        lambda: records.epoch(row),
        lambda: records.update(row),
        lambda: records.interference([row]),
        lambda: records.progress("training", 0, batch=0, batches=3),
    )
    for write in writes:
        with pytest.raises(UserError, match="another run's folder"):
            write()
    assert not list(tmp_path.iterdir())


def test_progress_is_written_at_once_when_the_state_changes(tmp_path: Path):
    records = records_in(tmp_path)
    path = tmp_path / "progress.json"
    for batch in range(3):
        records.progress("training", 1, batch=batch, batches=3)
    assert '"batch": 0' in path.read_text()  # the next ones came within seconds
    records.progress("stopped", 1)
    assert '"state": "stopped"' in path.read_text() and '"epochs": 5' in path.read_text()
