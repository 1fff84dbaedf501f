"""The pictures of a whole run folder, among them short, partial and damaged ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from made_up_runs import dual_table, metrics, results_table, updates_table, val_batch
from pixels import count_of, pixels

from utils.core.files import ROOT
from utils.core.script import UserError
from utils.plots.frames import CAPTION, GAP, TILE
from utils.plots.run import draw_evaluation, draw_run, main, read_table
from utils.plots.style import CLASSIFICATION, DETECTION, TASK_COLOURS

TRAINING_PICTURES = ["results.png", "gradnorm_weight_evolution.png", "gradnorm_analysis_report.png"]
EVALUATION_PICTURES = [
    "PR_curve.png",
    "FROC_curve.png",
    "errors.png",
    "confusion_matrix_detection.png",
    "confusion_matrix_views.png",
    "val_batch_labels.png",
    "val_batch_pred.png",
]


def make_run(folder: Path, epochs: int = 20, **options) -> Path:
    """A run folder with every file that pictures are drawn from."""
    folder.mkdir(parents=True, exist_ok=True)
    results_table(epochs).to_csv(folder / "results.csv", index=False)
    updates_table(epochs).to_csv(folder / "gradnorm.csv", index=False)
    evaluation = metrics(**options)
    (folder / "metrics.json").write_text(json.dumps(evaluation), encoding="utf-8")
    records = val_batch(
        folder / "frames", 16, len(evaluation["names"]), len(evaluation["view_names"])
    )
    (folder / "val_batch.json").write_text(json.dumps(records), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "exp ü")
    draw_run(folder)
    return folder


@pytest.mark.parametrize("name", TRAINING_PICTURES + EVALUATION_PICTURES)
def test_every_picture_of_a_run_is_drawn(run_folder: Path, name: str):
    image = pixels(run_folder / name)
    assert min(image.shape[:2]) > 600
    assert 0.003 < (image < 200).any(axis=-1).mean() < 0.9
    edges = (image[0], image[-1], image[:, 0], image[:, -1])
    assert all((edge == 255).all() for edge in edges), (
        "something is cut off at the edge of the picture"
    )


def test_nothing_else_is_left_in_the_folder(run_folder: Path):
    made = {path.name for path in run_folder.iterdir()} - {"frames"}
    files = {"results.csv", "gradnorm.csv", "metrics.json", "val_batch.json"}
    assert made == files | set(TRAINING_PICTURES) | set(EVALUATION_PICTURES)


def test_drawing_again_gives_the_same_bytes_whatever_the_users_settings(run_folder: Path):
    before = {path: path.read_bytes() for path in run_folder.glob("*.png")}
    with matplotlib.rc_context(
        {"font.size": 30, "axes.facecolor": "black", "savefig.bbox": "tight"}
    ):
        drawn = draw_run(run_folder)
    assert [path.name for path in drawn] == TRAINING_PICTURES + EVALUATION_PICTURES
    assert {path: path.read_bytes() for path in drawn} == before


@pytest.mark.parametrize("start", [0, 7, 20])
def test_the_pictures_of_a_dual_run(tmp_path: Path, start: int):
    dual_table(20, start).to_csv(tmp_path / "results.csv", index=False)
    drawn = draw_run(tmp_path)
    assert [path.name for path in drawn] == ["results.png", "learning_rates.png"]
    for path in drawn:
        image = pixels(path)
        edges = (image[0], image[-1], image[:, 0], image[:, -1])
        assert min(image.shape[:2]) > 600 and all((edge == 255).all() for edge in edges)
        assert count_of(path, DETECTION) > 500 and count_of(path, CLASSIFICATION) > 500


def test_tasks_keep_their_colours(run_folder: Path):
    for name in ("results.png", "gradnorm_weight_evolution.png", "gradnorm_analysis_report.png"):
        assert min(count_of(run_folder / name, colour) for colour in TASK_COLOURS.values()) > 500


def test_short_partial_and_empty_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("utils.plots.style.DPI", 40)
    sparse = results_table(7, every=3)
    detection_only = updates_table(2).filter(regex="^(?!.*classification|cosine)")
    for number, (results, updates) in enumerate(
        [
            (results_table(1), updates_table(1).head(1)),
            (sparse, updates_table(7).head(0)),
            (sparse[["epoch"]], detection_only),
            (results_table(3).head(0), updates_table(1)[["step", "epoch", "batch"]]),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        results.to_csv(folder / "results.csv", index=False)
        updates.to_csv(folder / "gradnorm.csv", index=False)
        expected = TRAINING_PICTURES if len(results) else TRAINING_PICTURES[1:]
        assert [path.name for path in draw_run(folder)] == expected


def test_a_run_of_another_kind_has_fewer_pictures(tmp_path: Path):
    results_table(2).to_csv(tmp_path / "results.csv", index=False)
    assert [path.name for path in draw_run(tmp_path)] == ["results.png"]
    only_views = {**metrics(), "detection": None}
    (tmp_path / "metrics.json").write_text(json.dumps(only_views))
    assert [path.name for path in draw_evaluation(tmp_path)] == ["confusion_matrix_views.png"]


@pytest.mark.parametrize(
    "torn", ["7,0.0", "7", "7,0.01,0.02,0.03,0.04,0.05,0.06,0.07,0.08,0.09,0.1,0.11,0.12,0.1"]
)
def test_a_torn_last_row_is_not_drawn(torn: str, tmp_path: Path):
    path = tmp_path / "results.csv"
    results_table(7).to_csv(path, index=False)
    whole = read_table(path, ("epoch",))
    path.write_text(path.read_text() + torn)
    pd.testing.assert_frame_equal(read_table(path, ("epoch",)), whole)
    assert len(whole) == 7


def test_cells_of_a_table(tmp_path: Path):
    path = tmp_path / "gradnorm.csv"
    path.write_text(
        "step,epoch,batch,cosine,at_bound\r\n9,0,9,inf,\r\n19,0,19,,detection\r\n29,0,29,0.5,\r\n"
    )
    table = read_table(path, ("step", "epoch", "batch"))
    assert table["step"].tolist() == [9, 19, 29]
    assert table["cosine"].isna().tolist() == [True, True, False]
    assert (table["at_bound"] == "detection").tolist() == [False, True, False]


@pytest.mark.parametrize("text", ["", "epoch,tra", "a,b\n1,2\n"])
def test_a_table_without_its_columns(text: str, tmp_path: Path):
    path = tmp_path / "results.csv"
    path.write_text(text)
    if "\n" in text:
        with pytest.raises(UserError, match=r"results\.csv: no column epoch; found: a, b"):
            read_table(path, ("epoch",))
    else:
        assert read_table(path, ("epoch",)).empty


def test_an_evaluation_of_an_earlier_version_has_neither_froc_curve_nor_errors(tmp_path: Path):
    evaluation = metrics()
    del evaluation["detection"]["froc"], evaluation["detection"]["errors"]
    (tmp_path / "metrics.json").write_text(json.dumps(evaluation))
    assert [path.name for path in draw_evaluation(tmp_path)] == [
        EVALUATION_PICTURES[i] for i in (0, 3, 4)
    ]


def tile(image: np.ndarray, index: int) -> np.ndarray:
    """The place of a frame in a mosaic, its caption left out."""
    left, height = GAP + index % 4 * (TILE + GAP), (image.shape[0] - 60) // 4
    top = 60 + index // 4 * height + CAPTION
    return image[top : top + height - CAPTION, left : left + TILE]


def test_truth_and_prediction_show_the_same_frames_in_the_same_places(run_folder: Path):
    records = json.loads((run_folder / "val_batch.json").read_text())
    truth, prediction = (
        pixels(run_folder / f"val_batch_{kind}.png") for kind in ("labels", "pred")
    )
    assert truth.shape == prediction.shape
    for index, record in enumerate(records):
        is_same = np.array_equal(tile(truth, index), tile(prediction, index))
        assert is_same == (not record["truth"]["boxes_xyxy"]), f"frame {index}"


def test_no_labelled_view(tmp_path: Path):
    (tmp_path / "metrics.json").write_text(json.dumps(metrics(labelled=0)))
    assert [path.name for path in draw_evaluation(tmp_path)] == EVALUATION_PICTURES[:5]


def test_a_broken_json_file_is_named(tmp_path: Path):
    results_table(1).to_csv(tmp_path / "results.csv", index=False)
    (tmp_path / "metrics.json").write_text('{"names": [')
    with pytest.raises(UserError, match=r"metrics\.json: not a JSON file"):
        draw_run(tmp_path)


def test_command_line_refuses_a_folder_without_results(tmp_path: Path):
    command = [sys.executable, "-m", "utils.plots", str(tmp_path)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and not refused.stdout
    assert (
        refused.stderr.startswith(f"error: {tmp_path}: no results.csv")
        and refused.stderr.count("\n") == 1
    )


def test_command_line_names_what_it_drew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    results_table(2).to_csv(tmp_path / "results.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["plots", str(tmp_path)])
    main()
    assert capsys.readouterr().out.split() == [str(tmp_path / "results.png")]


def test_a_folder_whose_name_is_not_utf8_has_pictures(tmp_path: Path):
    """The picture of the gradients' interference has the run's name."""
    folder = tmp_path / os.fsdecode(b"\xe9\n")
    folder.mkdir()
    results_table(2).to_csv(folder / "results.csv", index=False)
    rows = [(epoch, epoch, 0, "cut", 0.1, 0.2) for epoch in range(4)]
    columns = ["epoch", "step", "batch", "place", "cosine", "magnitude_similarity"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "interference.csv", index=False)
    assert folder / "interference.png" in draw_run(folder)
