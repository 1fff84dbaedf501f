"""What the training frames of the same clip say of a frame.

The oracles, and their rows beside a model's.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from made_up_results import NAMES, VIEWS, random_results
from small_files import split_frame_by_frame

from utils.core.data_config import DataConfig, load_data_config
from utils.curation.audit import audit
from utils.curation.reference import neighbour_oracle, same_clip_reference, view_oracle
from utils.data.labels import FrameLabels
from utils.data.splits import Split, label_path, load_split
from utils.evaluation.metrics import summarise
from utils.evaluation.results import SAME_CLIP
from utils.evaluation.tables import format_table

# ---- the oracles ---------------------------------------------------------------------------------


CONFIG = DataConfig(
    source=Path("data.yaml"),
    root=Path(),
    splits={},
    names=("AR", "MR"),
    view_names=("A4C", "PSAX"),
    clip_pattern=r"^(\w+)_F(\d+)",
)


def split_of(name: str, frames: dict[str, tuple[list[float] | None, int]]) -> Split:
    """File name -> class and xywhn of its box, and its view."""
    labels = [
        FrameLabels(np.array([box] if box else []).reshape(-1, 5), view)
        for box, view in frames.values()
    ]
    return Split(name, tuple(map(Path, frames)), tuple(labels))


def test_the_neighbour_oracle_takes_the_nearest_frame_of_the_clip():
    box, moved, other = [0, 0.5, 0.5, 0.2, 0.2], [0, 0.5, 0.55, 0.2, 0.2], [1, 0.5, 0.5, 0.2, 0.2]
    train = split_of(
        "train",
        {
            "a_F1": (box, 0),
            "a_F9": (other, 0),
            "b_F2": (moved, 0),
            "b_F6": (other, 0),
            "c_F5": (box, 0),
        },
    )
    val = split_of("val", {"a_F3": (box, 0), "b_F4": (box, 0), "d_F5": (box, 0)})
    oracle = neighbour_oracle(CONFIG, train, val)
    assert (oracle.frames, oracle.with_neighbour, oracle.median_distance) == (3, 2, 2)
    # both tries of a_F3 take a_F1; b_F4 lies between b_F2 (IoU 0.6) and b_F6 (IoU 1, another class)
    assert oracle.same_class == pytest.approx(3 / 4)
    assert oracle.same_class_iou_50 == pytest.approx(3 / 4)
    assert oracle.same_class_iou_50_adjacent is None
    assert oracle.iou_75 == pytest.approx(3 / 4)
    assert oracle.map_50 == pytest.approx(
        0.5, abs=0.02
    )  # 3 of 6 true boxes found, without a mistake above them
    assert oracle.map_30 >= oracle.map_50 > oracle.map_50_95


def test_a_training_frame_is_not_its_own_neighbour():
    train = split_of(
        "train", {"a_F1": ([0, 0.5, 0.5, 0.2, 0.2], 0), "a_F4": ([1, 0.5, 0.5, 0.2, 0.2], 0)}
    )
    oracle = neighbour_oracle(CONFIG, train, train)
    assert (oracle.median_distance, oracle.same_class, oracle.iou_75) == (3, 0, 1)


def test_the_view_oracle_takes_the_clips_majority():
    box = [0, 0.5, 0.5, 0.2, 0.2]
    train = split_of(
        "train",
        {"a_F1": (box, 1), "a_F2": (box, 1), "a_F3": (box, 0), "b_F1": (box, 0), "c_F1": (box, -1)},
    )
    val = split_of("val", {"a_F5": (box, 1), "b_F2": (box, 0), "c_F2": (box, 1), "d_F1": (box, -1)})
    oracle = view_oracle(CONFIG, train, val)
    assert (oracle.frames, oracle.with_clip) == (3, 2)
    assert oracle.accuracy == pytest.approx(
        2 / 3
    )  # c has no view in training: the overall majority, of a tie the first
    assert oracle.majority_accuracy == oracle.class_lookup_accuracy == pytest.approx(1 / 3)


def test_without_neighbours_or_views_the_oracles_are_undefined():
    train, val = split_of("train", {"a_F1": (None, -1)}), split_of("val", {"b_F1": (None, -1)})
    oracle = neighbour_oracle(CONFIG, train, val)
    assert (oracle.with_neighbour, oracle.map_50, oracle.same_class, oracle.iou_quantiles) == (
        0,
        None,
        None,
        {},
    )
    assert view_oracle(CONFIG, train, val).accuracy is None


# ---- the reference of an evaluation --------------------------------------------------------------


@pytest.fixture
def mixed(tiny_data: Path, tmp_path: Path) -> DataConfig:
    return split_frame_by_frame(tiny_data, tmp_path)


def reference_of(data: DataConfig, split: str = "val") -> dict | None:
    """With a model of the data's training split."""
    return same_clip_reference(
        data, load_split(data, split), load_split(data, "train").fingerprint()
    )


def test_the_reference_is_the_audits(mixed: DataConfig):
    expected = audit(mixed)
    boxes, views = expected.neighbour["val"], expected.view["val"]
    assert (
        boxes.with_neighbour == 10
        and boxes.map_50 > 0
        and views.with_clip >= 5
        and views.accuracy > 0.5
    )
    reference = reference_of(mixed)
    assert reference == {"boxes": asdict(boxes), "views": asdict(views)}


def test_no_reference_for_training_frames_or_without_clips(mixed: DataConfig):
    assert reference_of(mixed, "train") is None
    assert reference_of(replace(mixed, clip_pattern=None)) is None


def absent(folder: Path) -> None:
    (folder / "train.txt").unlink()


def unlabelled(folder: Path) -> None:
    (folder / "lonely.png").touch()
    (folder / "train.txt").write_text("lonely.png")


def broken(folder: Path) -> None:
    for name in "ab":
        (folder / f"{name}.png").touch()
        (folder / f"{name}.txt").write_text("9 0.5 0.5\n")
    (folder / "train.txt").write_text("a.png\nb.png")


@pytest.mark.parametrize(
    ("spoil", "reason"), [(absent, "train.txt"), (unlabelled, "none of 1"), (broken, "2 bad")]
)
def test_training_labels_that_cannot_be_read_cost_one_warning(
    mixed: DataConfig, caplog, spoil: Callable, reason: str
):
    split, trained_on = load_split(mixed, "val"), load_split(mixed, "train").fingerprint()
    spoil(mixed.source.parent)
    assert same_clip_reference(mixed, split, trained_on) is None
    (record,) = caplog.records
    assert SAME_CLIP in record.message and reason in record.message and "\n" not in record.message


def test_a_model_of_other_frames_has_no_reference_in_this_data(
    mixed: DataConfig, tiny_data: Path, caplog
):
    other = load_split(load_data_config(tiny_data), "train").fingerprint()
    assert same_clip_reference(mixed, load_split(mixed, "val"), other) is None
    assert "trained on other frames or labels than train of" in caplog.text


@pytest.mark.parametrize("views", [("A4C", "PSAX"), ()])
def test_no_image_is_decoded_and_views_are_optional(tmp_path: Path, views: tuple[str, ...]):
    """All images are empty files."""
    for split, number in (("train", 1), ("train", 3), ("val", 2)):
        image = tmp_path / "images" / split / f"P1_F{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
        label_path(image).parent.mkdir(parents=True, exist_ok=True)
        label_path(image).write_text("0 0.5 0.5 0.2 0.2\n" + "0 1" * bool(views))
    splits = {name: (tmp_path / "images" / name,) for name in ("train", "val")}
    data = replace(CONFIG, root=tmp_path, splits=splits, view_names=views)
    reference = reference_of(data)
    assert reference["boxes"]["map_50"] == 1
    assert reference["views"] is None if not views else reference["views"]["accuracy"] == 1


def same_clip_lines(reference: dict | None) -> list[str]:
    lines = format_table(
        summarise(random_results(), NAMES, VIEWS) | {"reference": reference}
    ).splitlines()
    assert max(map(len, lines)) <= 110
    return [line for line in lines if line.startswith(SAME_CLIP)]


def test_the_rows_stand_under_the_models(mixed: DataConfig):
    reference = reference_of(mixed)
    boxes, views = reference["boxes"], reference["views"]
    row, words, view_row, view_words = same_clip_lines(reference)
    assert [row[start : start + 9].strip() for start in range(51, 105, 9)] == [
        *("", "", ""),
        *(f"{boxes[key]:.3f}" for key in ("map_50", "map_50_95", "map_30")),
    ]
    assert f"{boxes['with_neighbour']} of {boxes['frames']} frames" in words
    rates = [f"{views[key]:.3f}" for key in ("accuracy", "balanced_accuracy")]
    assert view_row[24:].split() == [str(views["frames"]), *rates]
    assert f"{views['with_clip']} of {views['frames']} frames" in view_words
    assert same_clip_lines(None) == []


def test_where_no_frame_has_one_it_is_said_and_no_zero_is_shown(tiny_data: Path):
    data = load_data_config(tiny_data)
    reference = reference_of(data)
    assert reference["boxes"]["with_neighbour"] == reference["views"]["with_clip"] == 0
    (line,) = same_clip_lines(reference)
    assert "none of the 8 frames" in line and "0.000" not in line


# ---- the real data -------------------------------------------------------------------------------


def test_the_reference_of_the_real_data(shared_dir: Path):
    """The audit's figures; the data set's README has the accuracy."""
    data = load_data_config(shared_dir / "regurgitation/data.yaml")
    reference = reference_of(data)
    boxes, views = reference["boxes"], reference["views"]
    assert (boxes["frames"], boxes["with_neighbour"], views["with_clip"]) == (183, 180, 180)
    figures = [boxes["map_50"], boxes["map_50_95"], views["accuracy"]]
    assert [round(figure, 3) for figure in figures] == [0.417, 0.144, 0.661]
    patients = load_data_config(shared_dir / "regurgitation/data_patientwise.yaml")
    assert reference_of(patients)["boxes"]["with_neighbour"] == 0
