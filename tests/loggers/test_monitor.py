"""The monitor's view of a run agrees with what was written, however the run ended."""

import csv
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from made_up_runs import COLUMNS, FIGURES, log_epochs, set_progress

from utils.core.files import CsvLog, ProgressFile, write_json
from utils.loggers.monitor import (
    TAIL_BYTES,
    RunStatus,
    describe,
    duration,
    is_alive,
    read_rows,
    read_run,
)
from utils.loggers.records import GRADNORM_COLUMNS, TIME_COLUMNS


def text_of(status: RunStatus) -> str:
    return "\n".join(describe(status, time.time()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty run folder."""
    path = tmp_path / "exp"
    path.mkdir()
    return path


# ---- figures -------------------------------------------------------------------------------------


def test_figures_are_those_of_the_last_row(folder: Path):
    log_epochs(folder, epochs=1, **dict.fromkeys(FIGURES, 9.0))
    log = CsvLog(folder / "results.csv", COLUMNS)
    log.append({"epoch": 1, **FIGURES})
    status = read_run(folder)
    assert status.losses == {"box": 0.0253, "obj": 0.0054, "cls": 0.0002, "view": 0.0507}
    assert status.metrics == {"mAP50": 0.658, "mAP50-95": 0.246, "view accuracy": 0.683}
    assert status.weights == {"detection": 1.5, "classification": 0.5}
    assert status.ratio == 3.0


def test_weights_are_gradnorms_newest(folder: Path):
    log_epochs(folder)
    log = CsvLog(folder / "gradnorm.csv", GRADNORM_COLUMNS)
    for step, weight in ((9, 1.0), (19, 1.98)):
        log.append(
            {
                "step": step,
                "epoch": 0,
                "weight/detection": weight,
                "weight/classification": 2 - weight,
            }
        )
    assert read_run(folder).weights == {"detection": 1.98, "classification": 0.02}
    assert read_run(folder).ratio == pytest.approx(99)
    assert "detection 1.980   classification 0.020   ratio 99\n" in text_of(read_run(folder))


def test_a_single_task_has_no_ratio_and_no_figures_of_the_other(folder: Path):
    columns = tuple(name for name in COLUMNS if name != "metrics/view_accuracy")
    log_epochs(folder, columns=columns, **{"train/view_loss": None, "weight/classification": None})
    status = read_run(folder)
    assert (status.losses["view"], status.metrics["view accuracy"], status.ratio) == (
        None,
        None,
        None,
    )
    assert status.losses["box"] == 0.0253
    text = text_of(status)
    assert "view -\n" in text and text.endswith("view accuracy -") and "ratio" not in text


def test_figures_have_the_data_sets_word_for_a_view(folder: Path):
    log_epochs(folder, **FIGURES)
    data = folder / "data.yaml"
    (folder / "opt.yaml").write_text(f"data: {data}\n")
    for content, name in (
        ("cls_title: projection\n", "projection accuracy"),
        ("cls_title: []\n", "view accuracy"),
        ("[", "view accuracy"),
    ):
        data.write_text(content)
        assert read_run(folder).metrics[name] == FIGURES["metrics/view_accuracy"]
    data.unlink()
    assert "view accuracy" in read_run(folder).metrics


def test_a_weight_of_zero_has_no_ratio(folder: Path):
    log_epochs(folder, **{"weight/classification": 0.0})
    assert read_run(folder).ratio is None


def test_before_the_first_epoch_ends(folder: Path):
    set_progress(folder, batch=0, batches=66)
    status = read_run(folder)
    assert (status.epoch, status.batch, status.epoch_s, status.left_s) == (1, 1, None, None)
    assert re.findall(r"^  (\w+) +-$", text_of(status), re.MULTILINE) == ["losses", "weights"]


# ---- files that are being written ----------------------------------------------------------------


def test_a_torn_last_line_does_not_count(folder: Path):
    log_epochs(folder, epochs=3)
    path = folder / "results.csv"
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    path.write_bytes(whole[:start])
    expected = read_rows(path)
    assert [row["epoch"] for row in expected] == ["0", "1"]
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert read_rows(path) == expected, whole[start:end]
    path.write_bytes(whole)
    assert [row["epoch"] for row in read_rows(path)] == ["0", "1", "2"]


def test_a_torn_header_is_an_empty_log(folder: Path):
    log_epochs(folder)
    path = folder / "results.csv"
    whole = path.read_bytes()
    for end in (0, 1, 20, whole.index(b"\n"), whole.index(b"\n") + 1):
        path.write_bytes(whole[:end])
        assert read_rows(path) == [], whole[:end]


def test_a_line_of_another_width_does_not_count(folder: Path):
    (folder / "results.csv").write_text("epoch,time/epoch_s\n0,10\n1\n2,11,5\n3,12\n")
    assert [row["epoch"] for row in read_rows(folder / "results.csv")] == ["0", "3"]


@pytest.mark.parametrize("rows", [1, 100, 5_000, 5_001, 40_000])
def test_the_end_of_a_long_log(folder: Path, rows: int):
    path = folder / "gradnorm.csv"
    lines = [
        f"{step:020},{step}\n" for step in range(rows)
    ]  # a cut in the first cell keeps the width
    path.write_text("".join(["step,epoch\n", *lines]))
    with path.open() as stream:
        expected = list(csv.DictReader(stream))
    found = read_rows(path)
    assert found and found == expected[-len(found) :]
    left_out = rows - len(found)
    assert left_out == 0 or len("".join(lines[left_out - 1 :])) >= TAIL_BYTES >= len(
        "".join(lines[left_out:])
    )


def test_progress_is_replaced_while_it_is_read(folder: Path):
    set_progress(folder, batch=0, batches=100)
    file = ProgressFile(folder / "progress.json", interval_s=0)

    def write() -> None:
        for batch in range(100):
            file.update(state="training", epoch=0, epochs=1, batch=batch, batches=100)

    writer = threading.Thread(target=write)
    writer.start()
    batches = [read_run(folder).batch]
    while writer.is_alive():
        batches.append(read_run(folder).batch)
    writer.join()
    assert batches == sorted(batches) and read_run(folder).batch == 100


# ---- states --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_alive_and_gone(gone: int, monkeypatch: pytest.MonkeyPatch):
    assert is_alive(os.getpid()) and not is_alive(gone)

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert is_alive(1)


def test_looking_for_a_process_leaves_it_alone():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_alive(process.pid)
        process.communicate(b"\n")
        assert process.returncode == 0


def test_training(folder: Path):
    set_progress(folder, epoch=3, batch=4, batches=10)
    status = read_run(folder)
    assert (status.state, status.epoch, status.epochs, status.batch, status.batches) == (
        "training",
        4,
        10,
        5,
        10,
    )
    assert f": training (process {os.getpid()}), last sign of life 0." in text_of(status)
    assert "  epoch    4/10   batch 5/10   " in text_of(status)


def test_killed_while_it_trained(folder: Path, gone: int):
    log_epochs(folder)
    fields = {"pid": gone, "state": "training", "epoch": 1, "epochs": 10, "batch": 4, "batches": 10}
    write_json(folder / "progress.json", {**fields, "updated": time.time() - 7200})
    status = read_run(folder)
    assert (status.state, status.left_s) == ("dead", None)
    assert f": dead (process {gone} is gone), last sign of life 2.0 h ago" in text_of(status)


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_an_end_is_believed_whether_the_process_lives_or_not(folder: Path, gone: int, state: str):
    log_epochs(folder)
    for pid in (os.getpid(), gone):
        write_json(
            folder / "progress.json",
            {"pid": pid, "updated": 0.0, "state": state, "epoch": 9, "epochs": 10},
        )
        status = read_run(folder)
        assert (status.state, status.epoch, status.batch, status.left_s) == (state, 10, None, None)
        assert "  epoch    10/10   batch -   epoch time 22.0 s   time left -\n" in text_of(status)


def test_without_progress_the_table_tells(folder: Path):
    log_epochs(folder, epochs=3)
    os.utime(folder / "results.csv", (1000.0, 1000.0))
    status = read_run(folder)
    assert (status.state, status.epoch, status.epochs, status.updated) == (
        "no process known",
        3,
        None,
        1000.0,
    )
    assert "  epoch    3/-   batch -   epoch time 22.0 s" in text_of(status)


# ---- times ---------------------------------------------------------------------------------------


def log_times(folder: Path, seconds: list[float]) -> None:
    log = CsvLog(folder / "results.csv", ("epoch", *TIME_COLUMNS))
    for epoch, epoch_s in enumerate(seconds):
        log.append({"epoch": epoch, "time/epoch_s": epoch_s, "time/val_s": 2.0})


def test_time_left(folder: Path):
    """Median of 92, 12 and 22 s; epoch 4 of 10 is half done: 6.5 epochs at 22 s."""
    log_times(folder, [90.0, 10.0, 20.0])
    set_progress(folder, epoch=3, batch=4, batches=10)
    status = read_run(folder)
    assert status.epoch_s == 22.0
    assert status.left_s == pytest.approx(143.0)
    assert "epoch time 22.0 s   time left 2.4 min" in text_of(status)


@pytest.mark.parametrize(("epochs", "left_s"), [(3, 22.0), (2, 0.0)])
def test_an_epoch_with_a_row_is_over(folder: Path, epochs: int, left_s: float):
    """The progress still tells of a batch in it."""
    log_times(folder, [20.0, 20.0])
    set_progress(folder, epoch=1, epochs=epochs, batch=7, batches=10)
    assert read_run(folder).left_s == pytest.approx(left_s)


def test_epochs_without_times_do_not_count(folder: Path):
    log_epochs(folder, **dict.fromkeys(TIME_COLUMNS))
    assert read_run(folder).epoch_s is None
    CsvLog(folder / "results.csv", COLUMNS).append({"epoch": 1, **FIGURES})
    assert read_run(folder).epoch_s == 22.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-1.0, "0.0 s"),
        (119.9, "119.9 s"),
        (120.0, "2.0 min"),
        (5400.0, "90.0 min"),
        (9000.0, "2.5 h"),
        (216000.0, "2.5 d"),
    ],
)
def test_durations(seconds: float | None, text: str):
    assert duration(seconds) == text
