"""The pictures: drawn from synthetic run folders, among them short, partial and damaged ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from utils import plots
from utils.general import UserError

ROOT = Path(__file__).resolve().parents[1]
NAMES, VIEWS = ["AR", "MR", "PR", "TR"], ["A4C", "PSAX", "PLAX"]
TRAINING_PICTURES = ["results.png", "gradnorm_weight_evolution.png", "gradnorm_analysis_report.png"]
EVALUATION_PICTURES = [
    "PR_curve.png",
    "FROC_curve.png",
    "confusion_matrix_detection.png",
    "confusion_matrix_views.png",
    "val_batch_labels.png",
    "val_batch_pred.png",
]


def results_table(epochs: int, every: int = 1) -> pd.DataFrame:
    """Rows like a real run's, validated every so many epochs and after the last."""
    rng, time = np.random.default_rng(0), np.arange(epochs)
    fall, rise = np.exp(-time / max(1, epochs / 4)), 1 - np.exp(-(time + 1) / max(1, epochs / 5))
    table = {"epoch": time}
    for name, start, end in (
        ("box", 0.11, 0.045),
        ("obj", 0.03, 0.017),
        ("cls", 0.04, 0.006),
        ("view", 1.1, 0.2),
    ):
        table[f"train/{name}_loss"] = end + (start - end) * fall + rng.normal(0, 0.02 * end, epochs)
        table[f"val/{name}_loss"] = end * 1.3 + (start - end) * fall + rng.normal(0, 0.05 * end, epochs)
    scores = {"precision": 0.73, "recall": 0.62, "mAP_0.5": 0.65, "mAP_0.5:0.95": 0.25, "mAP_0.3": 0.78}
    scores |= {"view_accuracy": 0.71, "view_balanced_accuracy": 0.67, "view_macro_f1": 0.66, "fitness": 0.48}
    for name, end in scores.items():
        score = np.clip(end * rise + rng.normal(0, 0.02, epochs), 0, 1)
        table[f"metrics/{name}"] = np.where((time % every == every - 1) | (time == epochs - 1), score, np.nan)
    for group in range(3):
        table[f"x/lr{group}"] = 1e-3 * (0.01 + 0.99 * (1 + np.cos(np.pi * time / epochs)) / 2)
    return pd.DataFrame(table)


def updates_table(epochs: int, batches: int = 66, interval: int = 10) -> pd.DataFrame:
    """Rows like GradNorm's with the mission's start, 1.0 and 0.01, and noise as of single batches."""
    rng = np.random.default_rng(1)
    step = np.arange(interval - 1, epochs * batches, interval)
    count, time = len(step), np.arange(len(step)) / max(1, len(step))
    detection = 1.1 + 0.7 * np.exp(-time * 8) - 0.4 * time
    weights = {"detection": detection, "classification": 2 - detection}
    table = {"step": step, "epoch": step // batches, "batch": step % batches}
    scale = {"detection": (0.18, 0.07, 0.004), "classification": (1.1, 0.2, 0.03)}
    for task, (start, end, norm) in scale.items():
        table[f"loss/{task}"] = (end + (start - end) * np.exp(-time * 4)) * rng.normal(1, 0.15, count)
        table[f"weight/{task}"] = weights[task]
        table[f"norm/{task}"] = weights[task] * norm * np.exp(rng.normal(0, 0.3, count))
        table[f"target/{task}"] = 0.012 * np.exp(rng.normal(0, 0.1, count))
        table[f"rate/{task}"] = rng.normal(1, 0.1, count)
    table["loss/total"] = sum(weights[task] * table[f"loss/{task}"] for task in scale)
    table |= {"cosine": rng.normal(0.02, 0.06, count), "skipped_unlabelled": 0, "skipped_nonfinite": 0}
    frame = pd.DataFrame(table).assign(at_bound="")
    frame.loc[frame.index[5::40], ["norm/detection", "target/detection"]] = np.nan
    frame.loc[frame.index[5::40], "skipped_unlabelled"] = 1
    frame.loc[frame.index[2:5], "at_bound"] = "classification"
    return frame


def metrics(names: list[str] = NAMES, views: list[str] = VIEWS, labelled: int = 183) -> dict:
    """What an evaluation writes, as far as it is drawn."""
    rng, recall = np.random.default_rng(2), np.linspace(0, 1, 101)
    power = rng.uniform(1, 6, len(names))
    curves = [np.round(1 - recall**p, 4).tolist() for p in power]
    rows = [{"name": name, "AP_0.5": float(np.mean(curve))} for name, curve in zip(names, curves, strict=True)]
    rates = 2.0 ** (np.arange(-60, 61) / 20)
    froc = [np.round(rates / (rates + size), 4) for size in rng.uniform(0.02, 1, len(names))]
    boxes = rng.poisson(3, (len(names) + 1,) * 2) + np.diag(rng.integers(20, 90, len(names) + 1))
    boxes[-1, -1] = 0
    confusion = rng.poisson(8, (len(views),) * 2) + np.diag(rng.integers(20, 70, len(views)))
    return {
        "names": names,
        "view_names": views,
        "detection": {
            "mAP_0.5": float(np.mean(curves)),
            "confidence": 0.312,
            "per_class": rows,
            "confusion": boxes.tolist(),
            "pr_curve": {"recall": recall.tolist(), "precision": curves},
            "froc": {
                "false_positives": rates[::20].tolist(),
                "mean": float(np.mean(froc)),
                "per_class": [{"name": n, "mean": float(own.mean())} for n, own in zip(names, froc, strict=True)],
                "curve": {"false_positives": rates.tolist(), "sensitivity": np.array(froc).tolist()},
            },
        },
        "views": {"images": labelled, "confusion": (confusion * (labelled > 0)).tolist()},
    }


def val_batch(folder: Path, count: int = 16, classes: int = 4, views: int = 3) -> list[dict]:
    """Records for frames that are written into `folder`: boxes at every edge, many, none, unknown views."""
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for index in range(count):
        height, width = ((320, 430), (495, 700), (240, 240))[index % 3]
        path = folder / f"Bild ü é {index}.png"
        noise = rng.integers(0, 90, (height // 8, width // 8, 3), dtype=np.uint8)
        cv2.imencode(".png", cv2.resize(noise, (width, height)))[1].tofile(path)
        centres, sizes = rng.uniform(0.1, 0.9, (index % 4, 2)), rng.uniform(0.1, 0.5, (index % 4, 2))
        corners = np.clip(np.hstack([centres - sizes / 2, centres + sizes / 2]), 0, 1)
        if index == 4:
            corners = np.array([[0.0, 0.0, 1.0, 1.0]])
        boxes = (corners * (width, height, width, height)).round(1)
        number = rng.integers(0, classes, len(boxes)).tolist()
        view = -1 if index % 7 == 6 else int(rng.integers(views))
        probabilities = rng.dirichlet(np.ones(views) * 0.4) * 0.5
        probabilities[view if index % 3 else 0] += 0.5
        moved = np.clip(boxes + rng.normal(0, 6, boxes.shape), 0, (width, height, width, height))
        scores = rng.uniform(0.3, 1, len(boxes)).tolist()
        truth = {"boxes_xyxy": boxes.tolist(), "classes": number, "view": view}
        prediction = {"boxes_xyxy": moved.tolist(), "scores": scores, "classes": number}
        prediction["view_probabilities"] = probabilities.tolist()
        records.append({"path": str(path), "truth": truth, "prediction": prediction})
    return records


def make_run(folder: Path, epochs: int = 20, **options) -> Path:
    """A run folder with every file that pictures are drawn from."""
    folder.mkdir(parents=True, exist_ok=True)
    results_table(epochs).to_csv(folder / "results.csv", index=False)
    updates_table(epochs).to_csv(folder / "gradnorm.csv", index=False)
    evaluation = metrics(**options)
    (folder / "metrics.json").write_text(json.dumps(evaluation), encoding="utf-8")
    records = val_batch(folder / "frames", 16, len(evaluation["names"]), len(evaluation["view_names"]))
    (folder / "val_batch.json").write_text(json.dumps(records), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "exp ü")
    plots.draw_run(folder)
    return folder


def pixels(path: Path) -> np.ndarray:
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def count_of(path: Path, colour: str) -> int:
    rgb = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return int((pixels(path) == rgb).all(axis=-1).sum())


@pytest.mark.parametrize("name", TRAINING_PICTURES + EVALUATION_PICTURES)
def test_every_picture_of_a_run_is_drawn(run_folder: Path, name: str):
    image = pixels(run_folder / name)
    assert min(image.shape[:2]) > 600
    assert 0.003 < (image < 200).any(axis=-1).mean() < 0.9
    edges = (image[0], image[-1], image[:, 0], image[:, -1])
    assert all((edge == 255).all() for edge in edges), "something is cut off at the edge of the picture"


def test_nothing_else_is_left_in_the_folder(run_folder: Path):
    made = {path.name for path in run_folder.iterdir()} - {"frames"}
    files = {"results.csv", "gradnorm.csv", "metrics.json", "val_batch.json"}
    assert made == files | set(TRAINING_PICTURES) | set(EVALUATION_PICTURES)


def test_drawing_again_gives_the_same_bytes_whatever_the_users_settings(run_folder: Path):
    before = {path: path.read_bytes() for path in run_folder.glob("*.png")}
    with plots.matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.bbox": "tight"}):
        drawn = plots.draw_run(run_folder)
    assert [path.name for path in drawn] == TRAINING_PICTURES + EVALUATION_PICTURES
    assert {path: path.read_bytes() for path in drawn} == before


def test_every_column_of_the_results_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plots, "DPI", 40)
    table = results_table(6)
    plots.plot_results(table[["epoch"]], tmp_path / "none.png")
    pictures = {"none": pixels(tmp_path / "none.png").tobytes()}
    for column in table.columns.drop("epoch"):
        plots.plot_results(table[["epoch", column]], tmp_path / "one.png")
        pictures[column] = pixels(tmp_path / "one.png").tobytes()
    assert len(set(pictures.values())) == len(pictures)


def dual_table(epochs: int, start: int = 0) -> pd.DataFrame:
    """Rows of a dual run whose classifier rests for `start` epochs."""
    table = results_table(epochs)
    for task in plots.TASK_COLOURS:
        renamed = {f"x/lr{group}": f"x/{task}_lr{group}" for group in range(3)}
        table = table.join(table[list(renamed)].rename(columns=renamed))
    table = table.drop(columns=list(renamed))
    table.loc[
        : start - 1, [column for column in table if "x/classification" in column or column == "train/view_loss"]
    ] = np.nan
    return table


@pytest.mark.parametrize("start", [0, 7, 20])
def test_the_pictures_of_a_dual_run(tmp_path: Path, start: int):
    dual_table(20, start).to_csv(tmp_path / "results.csv", index=False)
    drawn = plots.draw_run(tmp_path)
    assert [path.name for path in drawn] == ["results.png", "learning_rates.png"]
    for path in drawn:
        image = pixels(path)
        edges = (image[0], image[-1], image[:, 0], image[:, -1])
        assert min(image.shape[:2]) > 600 and all((edge == 255).all() for edge in edges)
        assert count_of(path, plots.DETECTION) > 500 and count_of(path, plots.CLASSIFICATION) > 500


def test_a_dual_run_has_a_best_epoch_for_each_task():
    table = dual_table(9)
    for task, best in {"detection": 2, "classification": 6}.items():
        table[f"metrics/{task}_fitness"] = (table["epoch"] == best) * 0.5
    assert plots._best_rows(table) == {plots.DETECTION: 2, plots.CLASSIFICATION: 6}
    joint = results_table(9).assign(**{"metrics/fitness": [0, 0, 0, 0, 1, 0, 0, 0, 0]})
    assert set(plots._best_rows(joint).values()) == {4}


@pytest.mark.parametrize("part", ["weight", "norm", "target", "loss", "cosine", "at_bound"])
def test_every_series_of_the_updates_is_drawn(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plots, "DPI", 40)
    table, results = updates_table(2), results_table(2)
    other = table.drop(columns=[column for column in table if column.split("/")[0] == part])
    is_analysis = part in ("loss", "cosine")
    for name, updates in (("with.png", table), ("without.png", other)):
        if is_analysis:
            plots.plot_gradnorm_analysis(updates, results, tmp_path / name)
        else:
            plots.plot_weight_evolution(updates, tmp_path / name)
    assert not np.array_equal(pixels(tmp_path / "with.png"), pixels(tmp_path / "without.png"))


def test_tasks_keep_their_colours(run_folder: Path):
    for name in ("results.png", "gradnorm_weight_evolution.png", "gradnorm_analysis_report.png"):
        assert min(count_of(run_folder / name, colour) for colour in plots.TASK_COLOURS.values()) > 500


def test_short_partial_and_empty_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plots, "DPI", 40)
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
        assert [path.name for path in plots.draw_run(folder)] == expected


def test_a_run_of_another_kind_has_fewer_pictures(tmp_path: Path):
    results_table(2).to_csv(tmp_path / "results.csv", index=False)
    assert [path.name for path in plots.draw_run(tmp_path)] == ["results.png"]
    only_views = {**metrics(), "detection": None}
    (tmp_path / "metrics.json").write_text(json.dumps(only_views))
    assert [path.name for path in plots.draw_evaluation(tmp_path)] == ["confusion_matrix_views.png"]


@pytest.mark.parametrize("torn", ["7,0.0", "7", "7,0.01,0.02,0.03,0.04,0.05,0.06,0.07,0.08,0.09,0.1,0.11,0.12,0.1"])
def test_a_torn_last_row_is_not_drawn(torn: str, tmp_path: Path):
    path = tmp_path / "results.csv"
    results_table(7).to_csv(path, index=False)
    whole = plots.read_table(path, ("epoch",))
    path.write_text(path.read_text() + torn)
    pd.testing.assert_frame_equal(plots.read_table(path, ("epoch",)), whole)
    assert len(whole) == 7


def test_cells_of_a_table(tmp_path: Path):
    path = tmp_path / "gradnorm.csv"
    path.write_text("step,epoch,batch,cosine,at_bound\r\n9,0,9,inf,\r\n19,0,19,,detection\r\n29,0,29,0.5,\r\n")
    table = plots.read_table(path, ("step", "epoch", "batch"))
    assert table["step"].tolist() == [9, 19, 29]
    assert table["cosine"].isna().tolist() == [True, True, False]
    assert (table["at_bound"] == "detection").tolist() == [False, True, False]


@pytest.mark.parametrize("text", ["", "epoch,tra", "a,b\n1,2\n"])
def test_a_table_without_its_columns(text: str, tmp_path: Path):
    path = tmp_path / "results.csv"
    path.write_text(text)
    if "\n" in text:
        with pytest.raises(UserError, match=r"results\.csv: no column epoch; found: a, b"):
            plots.read_table(path, ("epoch",))
    else:
        assert plots.read_table(path, ("epoch",)).empty


def test_updates_lie_in_their_epoch():
    table = updates_table(5, batches=66, interval=10)
    position = plots._epochs_trained(table)
    assert position.is_monotonic_increasing
    assert (np.ceil(position) == table["epoch"] + 1).all()
    assert np.allclose(position, (table["step"] + 1) / 66, atol=10 / 66)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (0.02, "0.02"),
        (50, "50"),
        (1e-4, "0.0001"),
        (2e-5, "2·10⁻⁵"),
        (1e-12, "10⁻¹²"),
        (5e6, "5·10⁶"),
    ],
)
def test_numbers_of_a_log_axis(value: float, text: str):
    assert plots._plain(value) == text


def test_a_class_without_boxes_has_no_curve(tmp_path: Path):
    detection = metrics()["detection"]
    plots.plot_pr_curve(detection, tmp_path / "all.png")
    for absent in ([-1.0] * 101, [None] * 101, None):
        detection["pr_curve"]["precision"][1], detection["per_class"][1]["AP_0.5"] = absent, None
        plots.plot_pr_curve(detection, tmp_path / "absent.png")
        assert count_of(tmp_path / "all.png", plots.CLASS_COLOURS[1]) > 500
        assert count_of(tmp_path / "absent.png", plots.CLASS_COLOURS[1]) == 0
    froc = detection["froc"]
    plots.plot_froc_curve(froc, tmp_path / "all.png")
    froc["curve"]["sensitivity"][1], froc["per_class"][1]["mean"] = [None] * 121, None
    plots.plot_froc_curve(froc, tmp_path / "absent.png")
    assert count_of(tmp_path / "all.png", plots.CLASS_COLOURS[1]) > 500
    assert count_of(tmp_path / "absent.png", plots.CLASS_COLOURS[1]) == 0


def test_an_evaluation_of_an_earlier_version_has_no_froc_curve(tmp_path: Path):
    evaluation = metrics()
    del evaluation["detection"]["froc"]
    (tmp_path / "metrics.json").write_text(json.dumps(evaluation))
    assert [path.name for path in plots.draw_evaluation(tmp_path)] == [EVALUATION_PICTURES[i] for i in (0, 2, 3)]


def test_shares_of_a_matrix_are_of_the_side_that_holds_the_truth(tmp_path: Path):
    matrix = [[8, 0], [2, 0]]  # by row both counts are all there is, by column they are 80 % and 20 %
    for side in ("row", "column"):
        plots.plot_confusion_matrix(matrix, "ab", "ab", "r", "c", "t", tmp_path / f"{side}.png", share_of=side)
    assert count_of(tmp_path / "row.png", plots.DETECTION) > 10_000
    assert count_of(tmp_path / "column.png", plots.DETECTION) == 0


def test_matrices_with_long_names_many_classes_or_nothing_counted(tmp_path: Path):
    long = ["severe eccentric mitral regurgitation with Coanda effect", "$x_1$ {50 %} \\frac"]
    for number, (matrix, names) in enumerate(
        [([[1, 2], [3, 40_000]], long), (np.eye(60), [f"class {i}" for i in range(60)]), ([[0]], ["one"])]
    ):
        path = tmp_path / f"{number}.png"
        plots.plot_confusion_matrix(matrix, names, names, "true", "predicted", "Title", path)
        assert max(pixels(path).shape) < 4000


def tile(image: np.ndarray, index: int) -> np.ndarray:
    """The place of a frame in a mosaic, its caption left out."""
    left, height = plots.GAP + index % 4 * (plots.TILE + plots.GAP), (image.shape[0] - 60) // 4
    top = 60 + index // 4 * height + plots.CAPTION
    return image[top : top + height - plots.CAPTION, left : left + plots.TILE]


def test_truth_and_prediction_show_the_same_frames_in_the_same_places(run_folder: Path):
    records = json.loads((run_folder / "val_batch.json").read_text())
    truth, prediction = (pixels(run_folder / f"val_batch_{kind}.png") for kind in ("labels", "pred"))
    assert truth.shape == prediction.shape
    for index, record in enumerate(records):
        is_same = np.array_equal(tile(truth, index), tile(prediction, index))
        assert is_same == (not record["truth"]["boxes_xyxy"]), f"frame {index}"


def test_lost_and_broken_images_become_grey_tiles(tmp_path: Path):
    records = val_batch(tmp_path, 5)
    Path(records[0]["path"]).unlink()
    Path(records[1]["path"]).write_bytes(b"")
    Path(records[2]["path"]).write_bytes(b"not an image")
    for predicted in (False, True):
        plots.plot_mosaic(records, NAMES, VIEWS, tmp_path / "mosaic.png", predicted=predicted)
        one_tile = plots.TILE * plots.TILE * 0.6
        assert 3 * one_tile < count_of(tmp_path / "mosaic.png", plots.PALE) < 4 * plots.TILE**2


@pytest.mark.parametrize(
    ("view", "probabilities", "true_words", "predicted_words"),
    [
        (1, [0.1, 0.7, 0.2], "PSAX", "PSAX 0.70, right"),
        (2, [0.1, 0.7, 0.2], "PLAX", "PSAX 0.70, wrong, is PLAX"),
        (-1, [0.1, 0.7, 0.2], "view unlabelled", "PSAX 0.70, unlabelled"),
        (0, [], "A4C", "view not predicted"),
    ],
)
def test_words_of_the_view(view: int, probabilities: list[float], true_words: str, predicted_words: str):
    record = {"truth": {"view": view}, "prediction": {"view_probabilities": probabilities}}
    assert plots._view_caption(record, VIEWS, predicted=False)[0] == true_words
    assert plots._view_caption(record, VIEWS, predicted=True)[0] == predicted_words


def test_labels_stay_in_their_tile_and_off_their_box_and_each_other():
    rng, area = np.random.default_rng(4), (20, 100, 450, 500)
    frame = np.array([20, 100 + plots.STRIP, 450, 500 - plots.STRIP])
    for _ in range(300):
        corners = np.sort(rng.uniform(frame[:2], frame[2:], (2, 2)), axis=0).ravel()
        for box in (corners, frame, np.where(rng.random(4) < 0.5, corners, frame)):
            size = np.array([rng.uniform(20, 200), plots.LABEL])
            first = plots._label_corner(box, size, [box], [], area)
            second = plots._label_corner(box, size, [box], [[*first, *(first + size)]], area)
            for corner in (first, second):
                assert (corner >= area[:2]).all() and (corner + size <= area[2:]).all()
                assert plots._overlaps(np.array([[*corner, *(corner + size)]]), [box]) == 0
            assert plots._overlaps(np.array([[*first, *(first + size)]]), [[*second, *(second + size)]]) == 0


def test_long_names_and_few_frames(tmp_path: Path):
    names, views = (
        ["severe eccentric mitral regurgitation, $a$ $b"] * 4,
        ["apical four chamber, zoomed in"] * 3,
    )
    records = val_batch(tmp_path, 3)
    plots.plot_mosaic(records, names, views, tmp_path / "mosaic.png", predicted=True)
    image = pixels(tmp_path / "mosaic.png")
    assert (image[:, -plots.GAP // 2 :] == 255).all()


def test_no_labelled_view(tmp_path: Path):
    (tmp_path / "metrics.json").write_text(json.dumps(metrics(labelled=0)))
    assert [path.name for path in plots.draw_evaluation(tmp_path)] == EVALUATION_PICTURES[:4]


def test_a_broken_json_file_is_named(tmp_path: Path):
    results_table(1).to_csv(tmp_path / "results.csv", index=False)
    (tmp_path / "metrics.json").write_text('{"names": [')
    with pytest.raises(UserError, match=r"metrics\.json: not a JSON file"):
        plots.draw_run(tmp_path)


def test_command_line_refuses_a_folder_without_results(tmp_path: Path):
    command = [sys.executable, "-m", "utils.plots", str(tmp_path)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and not refused.stdout
    assert refused.stderr.startswith(f"error: {tmp_path}: no results.csv") and refused.stderr.count("\n") == 1


def test_command_line_names_what_it_drew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    results_table(2).to_csv(tmp_path / "results.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["plots", str(tmp_path)])
    plots.main()
    assert capsys.readouterr().out.split() == [str(tmp_path / "results.png")]
