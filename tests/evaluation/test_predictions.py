"""A file of predictions gives back what was predicted, with the truth of the data set, and nothing
else is in it.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_up_results import random_results
from small_runs import run, small_options

from utils.checkpoints.checkpoint import load_checkpoint
from utils.core.data_config import load_data_config
from utils.core.script import UserError
from utils.core.values import to_mapping
from utils.data.splits import load_split
from utils.evaluation.metrics import summarise
from utils.evaluation.predictions import (
    ARRAYS,
    Header,
    Predictions,
    names_below,
    read_predictions,
    results_from,
    write_coco_predictions,
    write_predictions,
)
from utils.evaluation.results import ImageResult
from utils.evaluation.thresholds import chosen_on

HEADER = Header(
    names=["AR", "MR", "PR"],
    view_names=["A4C", "PSAX", "PLAX"],
    tasks=["detection", "classification"],
    split="val",
    fingerprint="0123456789abcdef",
    image_size=320,
    precision="float32",
    torch="2.0",
    machine="a machine",
    confidence=0.1,
    view_prior={"majority": 1, "by_class": {0: 2, 2: 0}},
)


@pytest.fixture(scope="module")
def finished(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training."""
    folder = tmp_path_factory.mktemp("runs")
    return run(small_options(tiny_data, folder), folder / "whole")


@pytest.fixture
def written(finished: Path) -> Predictions:
    return read_predictions(finished / "predictions.npz")


@pytest.fixture
def data_folder(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the data set, which may be spoilt."""
    return shutil.copytree(tiny_data.parent, tmp_path / "data")


def rescored(predictions: Predictions, source: Path) -> list[ImageResult]:
    data = load_data_config(source)
    return results_from(predictions, load_split(data, predictions.header.split), data)


def test_what_is_written_is_read(tmp_path: Path):
    results = random_results()
    write_predictions(tmp_path / "file.npz", results, HEADER)
    found = read_predictions(tmp_path / "file.npz")
    assert dataclasses.replace(found.header, view_prior=None) == dataclasses.replace(
        HEADER, view_prior=None
    )
    assert found.header.prior.by_class == {0: 2, 2: 0} and found.header.prior.majority == 1
    assert found.arrays["images"].tolist() == [result.image for result in results]
    for frame, result in zip(found.frames(), results, strict=True):
        assert (frame.height, frame.width) == (100, 200) and np.isnan(frame.detection_loss)
        np.testing.assert_allclose(frame.boxes_xyxy, result.boxes_xyxy, atol=1 / 512)
        np.testing.assert_allclose(frame.scores, result.scores, atol=0.5 / 65535)
        np.testing.assert_array_equal(frame.classes, result.classes)
        np.testing.assert_allclose(frame.view_probabilities, result.view_probabilities, rtol=1e-7)


def test_equal_predictions_give_equal_bytes(tmp_path: Path):
    for name in ("a.npz", "b.npz"):
        write_predictions(tmp_path / name, random_results(), HEADER)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_frames_without_detections_views_and_losses_are_kept(tmp_path: Path):
    some = random_results(2)[0]
    nothing = dataclasses.replace(
        some,
        boxes_xyxy=np.zeros((0, 4)),
        scores=np.zeros(0),
        classes=np.zeros(0, int),
        view_probabilities=np.zeros(0),
    )
    write_predictions(tmp_path / "file.npz", [nothing], HEADER)
    (frame,) = read_predictions(tmp_path / "file.npz").frames()
    assert (
        frame.boxes_xyxy.shape == (0, 4) and len(frame.scores) == len(frame.view_probabilities) == 0
    )


def test_rounding_hardly_moves_the_figures(tmp_path: Path):
    exact = random_results(200, 40)
    write_predictions(tmp_path / "file.npz", exact, HEADER)
    frames = read_predictions(tmp_path / "file.npz").frames()
    rounded = [
        dataclasses.replace(result, boxes_xyxy=frame.boxes_xyxy, scores=frame.scores)
        for result, frame in zip(exact, frames, strict=True)
    ]
    figures = [
        summarise(results, HEADER.names, HEADER.view_names, intervals=False)
        for results in (exact, rounded)
    ]
    before, after = (found["detection"] for found in figures)
    assert after["mAP_0.5"] == pytest.approx(before["mAP_0.5"], abs=1e-4)
    assert after["mAP_0.5:0.95"] == pytest.approx(before["mAP_0.5:0.95"], abs=5e-4)


# ---- a training's file ---------------------------------------------------------------------------


def test_a_training_is_scored_again_to_the_last_digit(
    written: Predictions, finished: Path, tiny_data: Path
):
    results, header = rescored(written, tiny_data), written.header
    found = summarise(
        results, header.names, header.view_names, None, header.prior, tasks=header.tasks
    )
    expected = json.loads((finished / "metrics.json").read_text())
    thresholds = expected.pop("thresholds")
    assert json.loads(json.dumps(found)) == expected
    assert (
        header.thresholds
        == thresholds
        == load_checkpoint(finished / "weights/last.pt")["thresholds"]
    )
    data = load_data_config(tiny_data)
    assert to_mapping(chosen_on(results, data, header.tasks)) == thresholds
    assert header.confidence == expected["detection"]["confidence"]


def test_every_frame_has_its_loss(written: Predictions):
    losses = written.arrays["detection_losses"]
    assert len(losses) == 8 and np.isfinite(losses).all() and (losses > 0).all()


def test_the_file_holds_no_truth_no_pixel_and_no_path(
    written: Predictions, finished: Path, tiny_data: Path
):
    with np.load(finished / "predictions.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {*ARRAYS, "header"}
        text = str(archive["header"]) + " ".join(archive["images"])
    assert "/" not in text and str(tiny_data.parent) not in text
    assert all(Path(name).name == name for name in written.arrays["images"])
    frames = len(written.arrays["images"])
    assert (
        sum(array.size for array in written.arrays.values())
        == frames * 8 + written.arrays["counts"].sum() * 6
    )


def test_a_data_set_elsewhere_serves_as_well(
    written: Predictions, data_folder: Path, tiny_data: Path
):
    pairs = zip(
        rescored(written, data_folder / "data.yaml"), rescored(written, tiny_data), strict=True
    )
    for moved, result in pairs:
        assert moved.image != result.image and moved.group == result.group
        np.testing.assert_array_equal(moved.true_boxes_xyxy, result.true_boxes_xyxy)
        np.testing.assert_array_equal(moved.boxes_xyxy, result.boxes_xyxy)


def test_a_changed_label_is_refused(written: Predictions, data_folder: Path):
    label = min((data_folder / "frames/labels/val").iterdir())
    label.write_text("3 0.5 0.5 0.1 0.1\n0 1 0\n")
    with pytest.raises(
        UserError,
        match=r"val of .*a label or .* is not what it was when .*; name the data set as it",
    ):
        rescored(written, data_folder / "data.yaml")


def test_a_missing_and_another_image_are_named(written: Predictions, data_folder: Path):
    images = sorted((data_folder / "frames/images/val").iterdir())
    images[-1].unlink()
    with pytest.raises(UserError, match=r"7 images, expected 8, as .* has it"):
        rescored(written, data_folder / "data.yaml")
    images[2].unlink()
    with pytest.raises(UserError, match=f"image 3 is {images[3].name}, expected {images[2].name}"):
        rescored(written, data_folder / "data.yaml")


@pytest.mark.parametrize("key", ["names", "cls_names"])
def test_other_names_are_refused(written: Predictions, data_folder: Path, key: str):
    path = data_folder / "data.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | {key: content[key][::-1]}))
    with pytest.raises(UserError, match=f"{path}: {key} .* has predictions of "):
        rescored(written, path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_what_is_no_file_of_predictions_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "file.npz"
    with pytest.raises(UserError, match=r"no such file; expected the predictions\.npz"):
        read_predictions(path)
    path.write_bytes(content)
    with pytest.raises(
        UserError, match="no file of predictions, or a damaged one; evaluate the weights again"
    ):
        read_predictions(path)


def test_a_pickle_is_not_read(tmp_path: Path):
    path = tmp_path / "file.npz"
    arrays = dict.fromkeys(ARRAYS, np.zeros(1)) | {"images": np.array([Path("a.png")], object)}
    np.savez(path, header=np.array("{}"), **arrays)
    with pytest.raises(UserError, match="no file of predictions"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "version 99 of the format, expected 1"),
        ({"view": "PLAX"}, "header: unknown key 'view'"),
    ],
)
def test_another_version_and_unknown_facts_are_refused(tmp_path: Path, change: dict, message: str):
    path = tmp_path / "file.npz"
    write_predictions(path, random_results(3), HEADER)
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files}
    np.savez(
        path,
        **content | {"header": np.array(json.dumps(json.loads(str(content["header"])) | change))},
    )
    with pytest.raises(UserError, match=message):
        read_predictions(path)


# ---- COCO's format -------------------------------------------------------------------------------


def test_cocos_format_has_every_detection(tmp_path: Path):
    results = random_results(5)
    write_coco_predictions(tmp_path / "predictions.json", results)
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert [row["image_id"] for row in rows] == [
        str(i) for i, result in enumerate(results) for _ in result.scores
    ]
    boxes = np.array([row["bbox"] for row in rows])
    corners = np.column_stack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]))
    np.testing.assert_allclose(
        corners, np.concatenate([result.boxes_xyxy for result in results]), atol=1e-9
    )


def test_names_are_paths_below_the_common_folder():
    assert names_below([Path("/data/a/x/1.png"), Path("/data/a/y/1.png")]) == ["x/1.png", "y/1.png"]
    assert names_below([Path("/data/a/x/1.png")]) == ["1.png"]
