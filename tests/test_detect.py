"""detect.py: what it finds, writes, draws and refuses; and the predictor, Grad-CAM, sources and outputs behind it."""

import csv
import re
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
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from torch import nn

import detect
from models import model_from_checkpoint
from models.common import ViewHead
from models.dual_backbone import DualBackbone
from models.yolo import YOLOv5WithClassification
from utils import outputs
from utils.boxes import xyxy_to_xywh
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.config import load_data_config
from utils.dataloaders import JointDataset, Letterbox, load_split, make_loader, read_image
from utils.engine import evaluate
from utils.explain import grad_cam, to_image
from utils.general import UserError, run_script
from utils.labels import FrameLabels, label_text, parse_labels, read_label_file
from utils.pictures import CAPTION, MARGIN, OPACITY, SIDE, draw_prediction, tint
from utils.plots import CLASS_COLOURS, CLASSIFICATION, STRIP
from utils.predict import Prediction, Predictor
from utils.sources import Frame, FrameReader, find_sources
from utils.torch_utils import select_precision

ROOT = Path(__file__).resolve().parents[1]
NAMES, VIEWS = ["AR", "MR", "PR", "TR"], ["A4C", "PSAX", "PLAX"]
FLOAT32 = select_precision("off", torch.device("cpu"))
EVERYTHING = ("--save-txt", "--save-csv", "--save-crop")


# ---- models, frames, runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def checkpoints(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained networks of an eighth of the width: both tasks, either task, two backbones; and conftest's."""
    torch.manual_seed(0)
    joint, detector, classifier = (
        yaml.safe_load((ROOT / f"models/{name}.yaml").read_text()) | {"width_multiple": 0.125}
        for name in ("yolov5s_joint", "yolov5s", "view_classifier")
    )
    models = {
        "joint": YOLOv5WithClassification(joint, nc=4, views=3),
        "detection": YOLOv5WithClassification(joint, nc=4, views=3, tasks=["detection"]),
        "classification": YOLOv5WithClassification(joint, nc=4, views=3, tasks=["classification"]),
        "dual": DualBackbone(detector, classifier, nc=4, views=3),
    }
    folder, content = tmp_path_factory.mktemp("checkpoints"), load_checkpoint(trained)
    for name, model in models.items():
        own = {"kind": model.kind, "arguments": model.arguments(), "model": model.state_dict()}
        save_checkpoint(folder / f"{name}.pt", content | own)
    return {name: folder / f"{name}.pt" for name in models} | {"full": trained}


def load(path: Path) -> nn.Module:
    content = load_checkpoint(path)
    return model_from_checkpoint(content, content["model"], path).eval()


@pytest.fixture
def frames(tiny_data: Path, tmp_path: Path) -> Path:
    """A folder with the phantom's eight validation frames, and a file that is no image."""
    shutil.copytree(tiny_data.parent / "frames/images/val", tmp_path / "frames")
    (tmp_path / "frames/notes.txt").write_text("not to be looked at")
    return tmp_path / "frames"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Run detect.py in this process, with results in `tmp_path/runs/exp`; returns what it prints."""
    monkeypatch.setattr(detect.LOGGER, "info", print)
    monkeypatch.setattr(detect.LOGGER, "warning", print)

    def call(weights: Path, *arguments: object) -> str:
        place = () if "--project" in arguments else ("--project", tmp_path / "runs")
        command = ("detect.py", "--weights", weights, *place, *arguments)
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        detect.main()
        return capsys.readouterr().out

    return call


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Prediction]:
    """What the predictor said, in order."""
    predictions, original = [], Predictor.__call__
    note = lambda self, image: predictions.append(original(self, image)) or predictions[-1]  # noqa: E731
    monkeypatch.setattr(Predictor, "__call__", note)
    return predictions


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_video(path: Path, shades: list[int], codec: str = "mp4v", rate: float = 12.5) -> Path:
    """A video whose frames are of one shade of grey each."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (96, 64))
    for shade in shades:
        writer.write(np.full((64, 96, 3), shade, np.uint8))
    writer.release()
    return path


def prediction(boxes: list = (), view: tuple = (), size: tuple = (60, 100), **changes: object) -> Prediction:
    """Of `boxes`: (x1, y1, x2, y2, confidence, class)."""
    rows = np.array(boxes, float).reshape(-1, 6)
    known = {"boxes_xyxy": rows[:, :4], "scores": rows[:, 4], "classes": rows[:, 5].astype(int)}
    return Prediction(*size, **known, view_probabilities=np.array(view), **changes)


def frame(image: np.ndarray, name: str = "a", clip: str | None = None) -> Frame:
    return Frame(image, Path(f"{name}.png"), Path(name), clip)


# ---- labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["joint", "dual", "detection", "classification"])
def test_what_is_saved_is_read_back_as_labels(run, said, checkpoints, frames: Path, tmp_path: Path, kind: str):
    run(checkpoints[kind], "--source", frames, "--save-txt", "--conf-thres", 0.001, "--max-det", 7, "--nosave")
    files = sorted((tmp_path / "runs/exp/labels").iterdir())
    assert [file.stem for file in files] == [image.stem for image in sorted(frames.glob("*.png"))]
    count = sum(len(found.classes) for found in said)
    assert len(said) == 8 and (count == 0 if kind == "classification" else count > 16)
    for file, found in zip(files, said, strict=True):
        labels = read_label_file(file, len(NAMES), len(VIEWS))
        centre, half = labels.boxes[:, 1:3], labels.boxes[:, 3:] / 2
        boxes_xyxy = np.hstack((centre - half, centre + half)) * ([found.width, found.height] * 2)
        np.testing.assert_allclose(boxes_xyxy, found.boxes_xyxy, rtol=0, atol=1e-6)
        assert labels.boxes[:, 0].tolist() == found.classes.tolist()
        assert labels.view == (-1 if kind == "detection" else found.view_probabilities.argmax())


EDGES = st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted).filter(lambda x: x[1] - x[0] > 1e-9)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 3), EDGES, EDGES), max_size=4), st.integers(-1, 4))
def test_label_text_is_read_back(boxes: list, view: int):
    xyxy = torch.tensor([(x[0], y[0], x[1], y[1]) for _, x, y in boxes], dtype=torch.float64).reshape(-1, 4)
    labels = FrameLabels(np.column_stack(([number for number, *_ in boxes], xyxy_to_xywh(xyxy).numpy())), view)
    read = parse_labels(label_text(labels, view_count=5), class_count=4, view_count=5)
    np.testing.assert_allclose(read.boxes, labels.boxes, rtol=0, atol=1e-15)
    assert read.view == view


# ---- the predictor -----------------------------------------------------------------------------------------


class Oracle(nn.Module):
    """A detector that always says the same: rows of xywh in pixels of the square, objectness and class scores."""

    def __init__(self, rows: list):
        super().__init__()
        self.rows = torch.tensor([rows])

    def forward(self, images: torch.Tensor) -> dict:
        return {"detect": images}

    def decode(self, raw: torch.Tensor) -> torch.Tensor:
        return self.rows


def test_boxes_are_in_pixels_of_the_image_and_those_in_the_border_are_dropped():
    rows = [[32, 32, 16, 8, 0.9, 0.1, 1.0], [32, 8, 16, 10, 1.0, 1.0, 0.0], [60, 18, 16, 16, 0.5, 1.0, 0.0]]
    model = Oracle([*rows, [8, 32, 4, 4, 0.3, 1.0, 0.0]])
    found = Predictor(model, FLOAT32, size=64, confidence=0.4)(np.zeros((100, 200, 3), np.uint8))
    # 200 x 100 is scaled by 0.32 and lies in rows 16 to 48 of the square
    np.testing.assert_allclose(found.boxes_xyxy, [[75, 37.5, 125, 62.5], [162.5, 0, 200, 31.25]], atol=1e-6)
    np.testing.assert_allclose(found.scores, [0.9, 0.5], atol=1e-6)
    assert found.classes.tolist() == [1, 0] and (found.height, found.width) == (100, 200)
    assert found.view == -1 and found.labels().view == -1


def test_it_says_what_the_evaluation_says(checkpoints, tiny_data: Path):
    model, data = load(checkpoints["full"]), load_data_config(tiny_data)
    loader = make_loader(JointDataset(load_split(data, "val"), 64, "off"), 4, 0, False)
    expected, _ = evaluate(model, loader, FLOAT32, data)
    predictor = Predictor(model, FLOAT32, 64, confidence=0.001)
    for result in expected:
        found = predictor(read_image(Path(result.image)))
        np.testing.assert_allclose(found.view_probabilities, result.view_probabilities, atol=1e-5)
        np.testing.assert_allclose(found.boxes_xyxy[0], result.boxes_xyxy[0], atol=0.01)
        assert found.classes[0] == result.classes[0]
        assert found.scores[0] == pytest.approx(result.scores[0], abs=1e-5)


@pytest.mark.parametrize(
    ("stored", "given", "expected"), [(0.375, (), 0.375), (0.375, ("--conf-thres", 0.5), 0.5), (None, (), 0.25)]
)
def test_the_confidence_is_the_checkpoints(
    run, checkpoints, monkeypatch, frames: Path, tmp_path: Path, stored: float | None, given: tuple, expected: float
):
    save_checkpoint(tmp_path / "a.pt", load_checkpoint(checkpoints["joint"]) | {"confidence": stored})
    used, original = [], Predictor.__call__
    monkeypatch.setattr(Predictor, "__call__", lambda self, image: used.append(self) or original(self, image))
    run(tmp_path / "a.pt", "--source", min(frames.glob("*.png")), "--nosave", "--max-det", 9, *given)
    assert (used[0].confidence, used[0].size, used[0].max_detections) == (expected, 64, 9)


def test_the_averaged_weights_are_used(run, said, checkpoints, frames: Path, tmp_path: Path):
    content = load_checkpoint(checkpoints["joint"])
    average = {name: tensor.clone() for name, tensor in content["model"].items()}
    average["model.25.linear.bias"][:] = torch.tensor([0.0, 99.0, 0.0])
    save_checkpoint(tmp_path / "a.pt", content | {"ema": {"model": average}})
    run(tmp_path / "a.pt", "--source", min(frames.glob("*.png")), "--nosave")
    np.testing.assert_allclose(said[0].view_probabilities, [0, 1, 0], atol=1e-6)


# ---- Grad-CAM ----------------------------------------------------------------------------------------------


class MeanHead(nn.Module):
    """Logits are linear in the features: what Grad-CAM gives can be written down."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3)) @ self.weight.T


def test_grad_cam_of_a_linear_head():
    torch.manual_seed(0)
    weight, features = torch.randn(3, 5), torch.randn(2, 5, 4, 6)
    head = MeanHead(weight)
    maps = grad_cam(head, features, torch.tensor([2, 0]))
    expected = (
        torch.stack([torch.einsum("c,chw->hw", weight[view], x) for view, x in zip((2, 0), features, strict=True)]) / 24
    )
    torch.testing.assert_close(maps, expected.clamp(min=0))
    assert (maps > 0).any() and (maps == 0).any()
    assert head.weight.grad is None and not maps.requires_grad


def test_grad_cam_of_the_view_head():
    """The mean's weights are shared out over the map, the maximum's fall on one cell; their mean is the same."""
    torch.manual_seed(0)
    head, features = ViewHead(3, in_channels=5).eval(), torch.randn(1, 5, 4, 6)
    of_mean, of_maximum = head.linear.weight[1].detach().split(5)
    expected = torch.einsum("c,chw->hw", of_mean + of_maximum, features[0]).clamp(min=0) / 24
    torch.testing.assert_close(grad_cam(head, features, torch.tensor([1]))[0], expected)


@pytest.mark.parametrize("kind", ["joint", "classification", "dual"])
def test_the_view_heads_input_is_explained(checkpoints, tiny_data: Path, kind: str):
    model = load(checkpoints[kind])
    (head,) = (layer for layer in model.modules() if isinstance(layer, ViewHead))
    image = read_image(min((tiny_data.parent / "frames/images/val").iterdir()))
    found = Predictor(model, FLOAT32, 64, 0.5, explained=head)(image)
    letterbox = Letterbox.fit(*image.shape[:2], 64)
    square = FLOAT32.images(torch.from_numpy(letterbox.apply(image)).permute(2, 0, 1)[None])
    if kind == "dual":
        read = model.classifier.model[:-1](square)
    else:
        (source,) = model.sources[model.view_index]
        read = model.trunk(square)[source] if kind == "joint" else model.run(range(source + 1), {-1: square})[source]
    cells = grad_cam(head, read, torch.tensor([found.view]))[0].numpy()
    np.testing.assert_allclose(found.attention, to_image(cells, letterbox, *image.shape[:2]), atol=1e-5)
    assert found.attention.shape == image.shape[:2] and found.attention.max() > 0
    assert not head._forward_pre_hooks
    assert Predictor(model, FLOAT32, 64, 0.5)(image).attention is None


@pytest.mark.parametrize(("height", "width"), [(120, 240), (240, 120), (77, 77)])
def test_a_map_lies_where_its_cells_are(height: int, width: int):
    letterbox, cells = Letterbox.fit(height, width, 64), np.zeros((16, 16), np.float32)
    cells[8, 9] = 3
    centre = np.array([9.5, 8.5, 9.5, 8.5]) * 4  # of the cell, in pixels of the square
    x, y, *_ = letterbox.restore(centre[None], height, width)[0]
    found = to_image(cells, letterbox, height, width)
    assert found.shape == (height, width) and found.min() == 0 and 0.7 < found.max() <= 1
    weights = found / found.sum()
    np.testing.assert_allclose(
        ((np.arange(width) + 0.5) @ weights.sum(0), (np.arange(height) + 0.5) @ weights.sum(1)), (x, y), atol=0.5
    )
    assert not to_image(np.zeros((16, 16), np.float32), letterbox, height, width).any()


def test_attention_to_the_letterboxs_border_makes_the_rest_pale():
    cells = np.zeros((16, 16), np.float32)
    cells[0], cells[8] = 4, 1
    found = to_image(cells, Letterbox.fit(32, 64, 64), 32, 64)
    assert 0.2 < found.max() <= 0.25


# ---- sources -----------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """b/x.png, b/c/y.JPG, a.png, film.avi and text.txt, each image of another shade."""
    folder = tmp_path / "tree"
    (folder / "b/c").mkdir(parents=True)
    for shade, name in enumerate(("a.png", "b/x.png", "b/c/y.JPG")):
        cv2.imwrite(str(folder / name), np.full((8, 12, 3), 50 * shade, np.uint8))
    write_video(folder / "film.avi", [20, 120, 220], "MJPG")
    (folder / "text.txt").write_text("a")
    return folder


def names_of(*entries: object) -> list[str]:
    return [source.name.as_posix() for source in find_sources([str(entry) for entry in entries])]


def test_what_is_found(tree: Path):
    assert names_of(tree) == ["a", "b/c/y", "b/x", "film"]
    assert names_of(tree / "b") == ["c/y", "x"]
    assert names_of(tree / "b/x.png") == ["x"]
    assert names_of(tree / "*") == ["a", "film"]
    assert names_of(tree / "**/*.png") == ["a", "b/x"]
    assert names_of(tree / "b/*.png") == ["x"]
    assert names_of(tree / "a.png", tree / "film.avi", tree / "*.png") == ["a", "film"]


def test_a_name_with_brackets_is_a_file_and_no_pattern(tree: Path):
    (tree / "a.png").rename(tree / "a[1].png")
    assert names_of(tree / "a[1].png") == ["a[1]"]


@pytest.mark.parametrize(
    ("first", "second"), [("b/x.png", "b/x.bmp"), ("film.avi", "film_12.png"), ("film.avi", "film.mp4")]
)
def test_outputs_of_one_name_are_refused(tree: Path, first: str, second: str):
    shutil.copy(tree / first, tree / second)
    with pytest.raises(UserError, match="their outputs would have the same name"):
        find_sources([str(tree)])
    assert len(names_of(tree / first)) == 1


def test_numbered_videos_share_no_name(tree: Path):
    shutil.copy(tree / "film.avi", tree / "film_2.avi")
    assert names_of(tree) == ["a", "b/c/y", "b/x", "film", "film_2"]


def test_frames_of_images_and_videos(tree: Path):
    reader = FrameReader(find_sources([str(tree)]))
    assert len(reader) == 6
    found = list(reader)
    assert [x.name.as_posix() for x in found] == ["a", "b/c/y", "b/x", "film_1", "film_2", "film_3"]
    assert [x.number for x in found] == [None, None, None, 1, 2, 3]
    assert [x.clip for x in found] == [None, None, None, "film", "film", "film"]
    np.testing.assert_allclose([x.image.mean() for x in found], [0, 100, 50, 20, 120, 220], atol=3)
    assert found[-1].rate == pytest.approx(12.5) and found[-1].image.shape == (64, 96, 3)
    assert not reader.problems


def test_colours_of_a_video_are_red_green_blue(tmp_path: Path):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (32, 32))
    writer.write(np.full((32, 32, 3), (0, 0, 250), np.uint8))  # OpenCV: blue, green, red
    writer.release()
    (found,) = FrameReader(find_sources([str(tmp_path)]))
    np.testing.assert_allclose(found.image.mean(axis=(0, 1)), [250, 0, 0], atol=8)


def test_what_cannot_be_read_is_left_out_and_noted(tree: Path):
    (tree / "b/x.png").write_bytes(b"no image")
    content = write_video(tree / "torn.avi", [9] * 60, "MJPG").read_bytes()
    (tree / "torn.avi").write_bytes(content[: len(content) * 3 // 4])
    (tree / "lost.mp4").write_bytes(b"no video" * 50)
    reader = FrameReader(find_sources([str(tree)]))
    found = [x.name.as_posix() for x in reader]
    torn = len(found) - 5
    assert found == ["a", "b/c/y", "film_1", "film_2", "film_3", *(f"torn_{i + 1}" for i in range(torn))]
    bad = [str(tree / name) for name in ("b/x.png", "lost.mp4", "torn.avi")]
    assert [problem.partition(": ")[0] for problem in reader.problems] == bad
    assert "cannot be read as a video" in reader.problems[1]
    assert 0 < torn < 60 and f"ends after {torn} of 60 frames" in reader.problems[2]


# ---- outputs -----------------------------------------------------------------------------------------------


def test_a_clips_view_has_the_highest_mean_probability(tmp_path: Path):
    """And is not the view of most frames."""
    table, tally = (kind(tmp_path, NAMES, VIEWS) for kind in (outputs.Table, outputs.Tally))
    views = {"c": [(0.5, 0.3, 0.2), (0.5, 0.4, 0.1), (0.0, 1.0, 0.0)], "d": [(0.1, 0.2, 0.7)], None: [(1.0, 0.0, 0.0)]}
    for clip, found in views.items():
        for view in found:
            for output in (table, tally):
                output.add(frame(np.zeros((60, 100, 3), np.uint8), clip=clip), prediction(view=view))
    table.close()
    rows = rows_of(tmp_path)
    assert [row["view"] for row in rows] == ["A4C", "A4C", "PSAX", "PLAX", "A4C"]
    assert [row["clip_view"] for row in rows] == ["PSAX"] * 3 + ["PLAX", ""]
    means = [[float(row[f"clip_p_{view}"]) for view in VIEWS] for row in rows[:4]]
    np.testing.assert_allclose(means, [np.mean(views["c"], axis=0)] * 3 + [views["d"][0]], atol=1e-6)
    assert tally.clips() == ["clip c: PSAX 0.57", "clip d: PLAX 0.70"]


def test_the_table_has_a_row_a_box_and_a_row_a_frame_without_any(tmp_path: Path):
    table = outputs.Table(tmp_path, NAMES, VIEWS)
    image = np.zeros((60, 100, 3), np.uint8)
    table.add(frame(image, "a"), prediction([(1, 2, 30.5, 40, 0.75, 1), (0, 0, 100, 60, 0.5, 3)], (0.2, 0.5, 0.3)))
    table.add(frame(image, "b"), prediction(view=(1.0, 0.0, 0.0)))
    table.close()
    boxes = [[row[column] for column in ("image", *outputs.BOX_COLUMNS)] for row in rows_of(tmp_path)]
    assert boxes == [
        ["a.png", "MR", "0.750000", "1.00", "2.00", "30.50", "40.00"],
        ["a.png", "TR", "0.500000", "0.00", "0.00", "100.00", "60.00"],
        ["b.png", "", "", "", "", "", ""],
    ]


def test_crops_are_the_pixels_that_a_box_touches(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    crops = outputs.Crops(tmp_path, ["../../AR", "MR"], VIEWS)
    crops.add(frame(image, "b/a"), prediction([(10.2, 5, 20.5, 9.01, 0.9, 0), (99.5, 0, 100, 60, 0.5, 1)]))
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert files == ["crops/MR/b/a_2.png", "crops/______AR/b/a_1.png"]
    np.testing.assert_array_equal(read_image(tmp_path / files[1]), image[5:10, 10:21])
    np.testing.assert_array_equal(read_image(tmp_path / files[0]), image[:, 99:])


def test_summary_in_words(tmp_path: Path):
    image = np.zeros((60, 100, 3), np.uint8)
    both = outputs.Tally(tmp_path, NAMES, VIEWS)
    both.add(frame(image), prediction([(0, 0, 9, 9, 0.9, 1), (0, 0, 9, 9, 0.9, 3)], (0.2, 0.5, 0.3)))
    both.add(frame(image), prediction(view=(0.9, 0.1, 0.0)))
    assert both.summary() == "2 frames; 2 boxes in 1 of them (AR 0, MR 1, PR 0, TR 1); views A4C 1, PSAX 1, PLAX 0"
    boxes = outputs.Tally(tmp_path, NAMES, ())
    boxes.add(frame(image), prediction())
    assert boxes.summary() == "1 frames; 0 boxes in 0 of them (AR 0, MR 0, PR 0, TR 0)"


# ---- pictures ----------------------------------------------------------------------------------------------


def colour(code: str) -> np.ndarray:
    return np.round(255 * np.array(to_rgb(code)))


def test_a_picture_shows_the_image_its_boxes_and_its_view():
    image = np.full((300, 400, 3), (0, 0, 200), np.uint8)
    plain = draw_prediction(image, prediction(view=(0.2, 0.5, 0.3), size=(300, 400)), NAMES, VIEWS)
    top = CAPTION + STRIP
    panel = plain[top : top + 480, MARGIN : MARGIN + SIDE]
    assert plain.shape == (480 + CAPTION + 2 * STRIP, SIDE + 2 * MARGIN, 3)
    assert (panel == (0, 0, 200)).all(axis=-1).mean() > 0.99
    assert (plain[:CAPTION] < 100).any() and (plain[CAPTION:top] == 255).all()  # words, then room for labels
    boxes = [(100, 100, 200, 200, 0.75, number) for number in range(4)]
    for number, box in enumerate(boxes):
        drawn = draw_prediction(image, prediction([box], (0.2, 0.5, 0.3), (300, 400)), NAMES, VIEWS)
        y, x = np.nonzero((np.abs(drawn - colour(CLASS_COLOURS[number])) < 3).all(axis=-1))
        edges = np.array([100, 200]) * 1.6
        assert np.abs(x.min() - MARGIN - edges[0]) < 8 and np.abs(y.max() - top - edges[1]) < 8
        assert (drawn[:CAPTION] == plain[:CAPTION]).all()
        inside = slice(top + 170, top + 310), slice(MARGIN + 170, MARGIN + 310)
        assert (drawn[inside] == plain[inside]).all()  # no label on the box
    no_view = draw_prediction(image, prediction(size=(300, 400)), NAMES, [])
    assert (no_view[:top] == 255).all() and no_view.shape == plain.shape


@pytest.mark.parametrize("size", [(1, 9), (9, 9), (64, 500), (1200, 900)])
def test_pictures_of_any_size(size: tuple[int, int]):
    image = np.zeros((*size, 3), np.uint8)
    drawn = draw_prediction(image, prediction([(0, 0, size[1], size[0], 0.9, 0)], (1.0,), size), NAMES, ["long " * 9])
    scale = max(SIDE, *size) / max(size)
    assert min(drawn.shape[:2]) >= scale * min(size) and max(drawn.shape[:2]) >= scale * max(size)


def test_attention_is_drawn_beside_the_image():
    image, attention = np.full((300, 400, 3), 100, np.uint8), np.zeros((300, 400), np.float32)
    attention[:, 200:] = 1
    plain = draw_prediction(image, prediction(view=(0.2, 0.8, 0), size=(300, 400)), NAMES, VIEWS)
    both = draw_prediction(image, prediction(view=(0.2, 0.8, 0), size=(300, 400), attention=attention), NAMES, VIEWS)
    assert both.shape == (plain.shape[0], 2 * (SIDE + MARGIN) + MARGIN, 3)
    np.testing.assert_array_equal(both[:, : SIDE + MARGIN], plain[:, : SIDE + MARGIN])
    cold, hot = both[300, SIDE + 2 * MARGIN + 160], both[300, SIDE + 2 * MARGIN + 480]
    np.testing.assert_allclose(cold, 100, atol=1)
    np.testing.assert_allclose(hot, (1 - OPACITY) * 100 + OPACITY * colour(CLASSIFICATION), atol=1)


def test_tint_is_grey_where_nothing_was_looked_at():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    grey = tint(image, np.zeros((5, 6), np.float32))
    np.testing.assert_array_equal(grey, np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1))


# ---- the script --------------------------------------------------------------------------------------------


def test_everything_of_a_folder_and_nothing_beside_it(run, said, checkpoints, frames: Path, tmp_path: Path):
    (frames / "broken.png").write_bytes(b"")
    before = {path: path.stat().st_mtime_ns for path in [frames, *frames.rglob("*")]}
    arguments = ("--source", frames, *EVERYTHING, "--conf-thres", 0.001, "--max-det", 3, "--explain")
    out = run(checkpoints["dual"], *arguments)
    assert {path: path.stat().st_mtime_ns for path in [frames, *frames.rglob("*")]} == before
    folder, stems = tmp_path / "runs/exp", sorted(path.stem for path in frames.glob("P*.png"))
    assert sorted(path.stem for path in folder.glob("*.jpg")) == stems
    assert sorted(path.stem for path in (folder / "labels").iterdir()) == stems
    boxes = [(number, found) for found in said for number in range(len(found.classes))]
    assert len(list(folder.glob("crops/*/*.png"))) == len(boxes) > 8
    for row, (number, found) in zip(rows_of(folder), boxes, strict=True):
        assert row["class"] == NAMES[found.classes[number]] and row["view"] == VIEWS[found.view]
        np.testing.assert_allclose([float(row[f"p_{view}"]) for view in VIEWS], found.view_probabilities, atol=1e-6)
        assert float(row["confidence"]) == pytest.approx(found.scores[number], abs=1e-6)
        assert row["clip"] == row["clip_view"] == row["frame"] == ""
    height, width = read_image(next(folder.glob("*.jpg"))).shape[:2]
    assert width == 2 * (SIDE + MARGIN) + MARGIN and height > CAPTION
    assert f"warning: {frames / 'broken.png'}: cannot be read as an image" in out
    last = out.strip().splitlines()[-1]
    assert (
        last.startswith(f"8 frames; {len(boxes)} boxes in 8 of them")
        and "1 of 9 files not read" in last
        and str(folder) in last
    )


def test_a_video(run, said, checkpoints, tmp_path: Path):
    video = write_video(tmp_path / "in.mp4", [40, 90, 140, 190, 240])
    out = run(checkpoints["joint"], "--source", video, "--save-csv", "--save-txt", "--conf-thres", 0.9)
    folder = tmp_path / "runs/exp"
    assert sorted(path.name for path in (folder / "labels").iterdir()) == [f"in_{i}.txt" for i in range(1, 6)]
    drawn = cv2.VideoCapture(str(folder / "in.mp4"))
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    pictures = []
    while (picture := drawn.read())[0]:
        pictures.append(picture[1][CAPTION + STRIP + 10 : -STRIP - 10, 20:-20].mean())
    np.testing.assert_allclose(pictures, [40, 90, 140, 190, 240], atol=10)  # encoded twice
    rows, mean = rows_of(folder), np.mean([found.view_probabilities for found in said], axis=0)
    assert [row["frame"] for row in rows] == list("12345") and {row["clip"] for row in rows} == {"in"}
    assert {row["clip_view"] for row in rows} == {VIEWS[mean.argmax()]}
    np.testing.assert_allclose([float(rows[0][f"clip_p_{view}"]) for view in VIEWS], mean, atol=1e-6)
    assert f"clip in: {VIEWS[mean.argmax()]} {mean.max():.2f}\n5 frames; 0 boxes" in out


def test_two_videos_and_an_image(run, checkpoints, tmp_path: Path):
    tmp_path.joinpath("in").mkdir()
    for name, count in (("a", 3), ("b", 2)):
        write_video(tmp_path / f"in/{name}.avi", [100] * count, "MJPG")
    cv2.imwrite(str(tmp_path / "in/c.png"), np.zeros((64, 96, 3), np.uint8))
    run(checkpoints["detection"], "--source", tmp_path / "in", "--conf-thres", 0.9)
    folder = tmp_path / "runs/exp"
    assert sorted(path.name for path in folder.iterdir()) == ["a.mp4", "b.mp4", "c.jpg"]
    counts = [cv2.VideoCapture(str(folder / f"{name}.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) for name in "ab"]
    assert counts == [3, 2]


def test_clips_of_images(run, checkpoints, frames: Path, tmp_path: Path, tiny_data: Path):
    run(checkpoints["joint"], "--source", frames, "--data", tiny_data, "--save-csv", "--nosave", "--conf-thres", 0.9)
    rows, data = rows_of(tmp_path / "runs/exp"), load_data_config(tiny_data)
    assert [row["clip"] for row in rows] == [data.clip_of(row["image"])[0] for row in rows]
    for row in rows:
        own = [[float(r[f"p_{v}"]) for v in VIEWS] for r in rows if r["clip"] == row["clip"]]
        assert len(own) == 2
        np.testing.assert_allclose([float(row[f"clip_p_{v}"]) for v in VIEWS], np.mean(own, axis=0), atol=2e-6)
    assert [path.name for path in (tmp_path / "runs/exp").iterdir()] == ["predictions.csv"]


@pytest.mark.parametrize("kind", ["detection", "classification"])
def test_a_model_with_one_task(run, checkpoints, frames: Path, tmp_path: Path, kind: str):
    out = run(checkpoints[kind], "--source", frames, *EVERYTHING, "--conf-thres", 0.001, "--max-det", 2)
    row = rows_of(tmp_path / "runs/exp")[0]
    assert bool(row["class"]) == (tmp_path / "runs/exp/crops").exists() == ("boxes in" in out) == (kind == "detection")
    assert bool(row["view"]) == ("p_A4C" in row) == ("views A4C" in out) == (kind == "classification")


@pytest.mark.parametrize(
    ("option", "written"), [("--save-txt", "labels"), ("--save-csv", "predictions.csv"), ("--save-crop", "crops")]
)
def test_what_an_option_writes(run, checkpoints, frames: Path, tmp_path: Path, option: str, written: str):
    source = min(frames.glob("*.png"))
    run(checkpoints["joint"], "--source", source, "--nosave", option, "--conf-thres", 0.001, "--max-det", 2)
    assert [path.name for path in (tmp_path / "runs/exp").iterdir()] == [written]


def test_nothing_is_written_if_nothing_is_wanted(run, checkpoints, frames: Path, tmp_path: Path):
    out = run(checkpoints["joint"], "--source", frames, "--nosave")
    assert not (tmp_path / "runs").exists() and "everything is in" not in out and out.startswith("8 frames")


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.fixture
def refused(run, capsys: pytest.CaptureFixture, tmp_path: Path) -> Callable[..., str]:
    """Run detect.py, expect it to refuse, and return its message."""

    def call(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            run_script(lambda: run(*arguments))
        stderr = capsys.readouterr().err
        assert stop.value.code == 2 and "Traceback" not in stderr and stderr.count("error: ") == 1
        assert not (tmp_path / "runs").exists()
        return stderr.partition("error: ")[2]

    return call


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint\n", b"\x89PNG\r\n\x1a\n", None], ids=["0", "text", "png", "torn"]
)
def test_a_file_that_is_no_checkpoint(refused, checkpoints, frames: Path, tmp_path: Path, content: bytes | None):
    torn = checkpoints["joint"].read_bytes()[:50_000]
    (tmp_path / "a.pt").write_bytes(torn if content is None else content)
    message = refused(tmp_path / "a.pt", "--source", frames)
    assert message.startswith(f"{tmp_path / 'a.pt'}: ") and message.count("\n") == 1


def test_a_hostile_checkpoint(refused, hostile_checkpoint: tuple, frames: Path):
    path, marker = hostile_checkpoint
    assert refused(path, "--source", frames).startswith(f"{path}: refused")
    assert not marker.exists()


def test_sources_without_anything_to_see(refused, checkpoints, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("a")
    for path, expected in (
        (tmp_path / "empty", "no image or video in it"),
        (tmp_path / "none.png", "no such file, folder or match"),
        (tmp_path / "*.png", "no such file, folder or match"),
        (tmp_path / "a.txt", "expected an image or a video"),
    ):
        message = refused(checkpoints["joint"], "--source", path)
        assert str(path) in message and expected in message and message.count("\n") == 1


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.png", "a.mkv"])
@pytest.mark.parametrize("content", [b"", b"nothing " * 99])
def test_a_source_that_cannot_be_read(refused, checkpoints, tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    message = refused(checkpoints["joint"], "--source", tmp_path / name, *EVERYTHING)
    assert message.startswith(f"{tmp_path / name}: cannot be read as") and message.count("\n") == 1


def test_several_sources_none_of_which_can_be_read(refused, checkpoints, tmp_path: Path):
    for name in ("a.png", "b.avi"):
        (tmp_path / name).write_bytes(b"nothing")
    message = refused(checkpoints["joint"], "--source", tmp_path / "a.png", tmp_path / "b.avi")
    assert message.startswith("none of 2 files can be read") and "a.png" in message and "b.avi" in message


def test_results_beside_the_source(refused, checkpoints, frames: Path):
    for place in (
        ("--project", frames),
        ("--project", frames / "a/b"),
        ("--project", frames.parent, "--exist-ok", "--name", frames.name),
    ):
        source = frames if "--exist-ok" not in place else min(frames.glob("*.png"))
        assert "would lie beside what is looked at" in refused(checkpoints["joint"], "--source", source, *place)


def test_wrong_options(refused, checkpoints, frames: Path, tmp_path: Path, tiny_data: Path):
    content = yaml.safe_load(tiny_data.read_text())
    del content["clip_pattern"]
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    for kind, arguments, expected in (
        ("joint", ["--conf-thres", 2], "--conf-thres is 2.0, expected 0 to 1"),
        ("joint", ["--iou-thres", -1], "--iou-thres is -1.0"),
        ("joint", ["--max-det", 0], "--max-det must be at least 1"),
        ("joint", ["--imgsz", 100], "--imgsz"),
        ("joint", ["--device", "nonsense"], "--device is 'nonsense'"),
        ("joint", ["--explain", "--nosave"], "--explain"),
        ("joint", ["--data", tmp_path / "data.yaml"], "'clip_pattern' is missing"),
        ("detection", ["--explain"], f"--explain: {checkpoints['detection']} has no view head"),
    ):
        assert expected in refused(checkpoints[kind], "--source", frames, *arguments)


def test_an_unreadable_video_for_real(checkpoints, tmp_path: Path):
    """One line, and nothing of what FFmpeg and OpenCV have to say."""
    video, place = tmp_path / "clip_01.mp4", tmp_path / "runs"
    video.write_bytes(write_video(tmp_path / "b.mp4", [9] * 9).read_bytes()[:500])
    command = ["detect.py", "--weights", checkpoints["joint"], "--source", video, "--project", place]
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    lines = [line for line in re.split(r"[\r\n]+", done.stderr) if line.strip() and not line.startswith("detect:")]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert lines[0].startswith(f"error: {video}: cannot be read") and not place.exists()
