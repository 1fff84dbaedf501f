"""Every fault between files, planted in a small data set, is found under its name, and nothing
else is.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_audits import TRAIN, VAL, copy, found_in, images_of, look, move, plausible_file, write

from utils.core.data_config import load_data_config
from utils.curation.audit import audit, read_plausible
from utils.curation.findings import find_duplicates, score_column_orders
from utils.curation.frames import Frame
from utils.data.images import read_image
from utils.data.labels import FrameLabels
from utils.data.splits import label_path

# ---- single files --------------------------------------------------------------------------------


def test_missing_views_labels_and_images_are_named(frames: Path):
    first, second, third, *_ = images_of(frames)
    label_path(first).write_text("0 0.5 0.5 0.1 0.1\n")
    label_path(second).unlink()
    third.unlink()
    result = look(frames)
    expected = {
        "missing_view": first.name,
        "missing_label": second.name,
        "orphan_label": label_path(third).name,
    }
    assert found_in(result) == {kind: [{name}] for kind, name in expected.items()}
    assert (result.exit_code(), result.exit_code(strict=True)) == (0, 1)


def test_a_split_without_labels_is_an_error(frames: Path):
    shutil.rmtree(frames / "labels/val")
    result = look(frames)
    assert set(found_in(result)) == {"unlabelled_split", "missing_label"}
    assert result.exit_code() == 1


def test_a_list_that_leaves_frames_out_makes_no_orphans(frames: Path):
    listing = frames / "few.txt"
    listing.write_text("\n".join(str(path) for path in images_of(frames)[:4]))
    result = look(frames, splits={"train": (listing,), "val": (frames / VAL,)})
    assert found_in(result) == {"no_example": [set()]}  # four frames do not show every view


def test_a_name_without_a_patient_is_named(frames: Path):
    image = images_of(frames)[0]
    copy(image, image.with_name("odd.png"))
    for path in (image, label_path(image)):
        path.unlink()
    assert found_in(look(frames)) == {"unmatched_name": [{"odd.png"}]}


# ---- duplicates ----------------------------------------------------------------------------------


def test_duplicates_within_a_split(frames: Path):
    image = images_of(frames)[0]
    twin = copy(image, image.with_name(f"{image.stem}b.png"))
    result = look(frames)
    assert found_in(result) == {"duplicate": [{image.name, twin.name}]}
    assert result.findings[0].iou == pytest.approx(1)


def test_duplicates_across_splits_are_a_leak_whatever_the_file_format(frames: Path):
    image = images_of(frames)[0]
    twin = frames / VAL / "P05_PLAX-9_F0001.bmp"
    write(twin, read_image(image)[..., ::-1])
    shutil.copy(label_path(image), label_path(twin))
    result = look(frames)
    assert found_in(result) == {"shared_duplicate": [{image.name, twin.name}]}
    assert result.exit_code() == 1


@pytest.mark.parametrize(
    ("text", "iou", "conflict"),
    [
        ("1 0.5 0.5 0.2 0.2\n0 1 0\n", 1, ""),
        ("1 0.5 0.55 0.2 0.2\n0 1 0\n", 0.6, ""),
        ("1 0.5 0.5 0.2 0.2\n", 1, ""),
        ("1 0.5 0.5 0.2 0.2\n0 0 1\n", 1, "views PSAX / PLAX"),
        ("2 0.5 0.5 0.2 0.2\n0 1 0\n", 1, "boxes MR / PR"),
        ("0 1 0\n", 0, "boxes no box / MR"),
    ],
)
def test_duplicates_whose_labels_disagree(frames: Path, text: str, iou: float, conflict: str):
    image = images_of(frames)[0]
    label_path(image).write_text("1 0.5 0.5 0.2 0.2\n0 1 0\n")
    twin = copy(image, image.with_name(f"{image.stem}b.png"))
    label_path(twin).write_text(text)
    result = look(frames, clip_pattern=None)
    assert set(found_in(result)) - {"missing_view"} == {"duplicate"} | (
        {"conflict"} if conflict else set()
    )
    finding = result.of_kind("duplicate")[0]
    assert finding.iou == pytest.approx(iou)
    assert conflict in finding.detail


def test_a_picture_stored_anew_is_a_near_duplicate(frames: Path):
    image, other, *_ = images_of(frames)
    pixels = read_image(image)[..., ::-1]
    small = image.with_name(f"{image.stem}b.jpg")
    write(small, cv2.resize(pixels, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA))
    shutil.copy(label_path(image), label_path(small))
    assert found_in(look(frames)) == {"near_duplicate": [{image.name, small.name}]}
    abroad = frames / VAL / "P05_PLAX-9_F0001.jpg"
    write(abroad, read_image(other)[..., ::-1])
    shutil.copy(label_path(other), label_path(abroad))
    assert found_in(look(frames)) == {
        "shared_near_duplicate": [{other.name, abroad.name}],
        "near_duplicate": [{image.name, small.name}],
    }


# ---- groups, clips, views ------------------------------------------------------------------------


def test_a_patient_in_two_splits(frames: Path):
    moved = move(frames, images_of(frames)[0])
    patient, clip = moved.name[:3], moved.name.split("_F")[0]
    of = {path.name for path in (*images_of(frames), *images_of(frames, VAL))}
    result = look(frames)
    assert found_in(result) == {
        "shared_group": [{name for name in of if name.startswith(f"{patient}_")}],
        "shared_clip": [{name for name in of if name.startswith(f"{clip}_")}],
    }
    assert result.findings[0].detail == f"{patient}: train 3, val 1"
    assert result.groups.touched == pytest.approx({"train": 3 / 11, "val": 1 / 9})
    assert result.clips.touched == pytest.approx({"train": 1 / 11, "val": 1 / 9})


def test_a_view_that_changes_in_a_clip(frames: Path):
    first, second, *_ = images_of(frames)
    for image, one_hot in ((first, "1 0 0"), (second, "0 1 0")):
        label_path(image).write_text(f"{one_hot}\n")
    assert first.name.split("_F")[0] == second.name.split("_F")[0]
    assert found_in(look(frames)) == {"view_change": [{first.name, second.name}]}
    assert found_in(look(frames, clip_pattern=None)) == {}


def test_a_rare_pair_of_class_and_view(frames: Path):
    rng = np.random.default_rng(0)
    for number in range(40):
        path = frames / TRAIN / f"Q{number:02d}_clip_F0001.png"
        write(path, cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (160, 120)))
        label_path(path).write_text(f"2 0.5 0.5 0.2 0.2\n{'1 0 0' if number == 7 else '0 1 0'}\n")
    for image in (*images_of(frames), *images_of(frames, VAL)):
        if image.name.startswith("P"):
            image.unlink()
            label_path(image).unlink()
    copy(frames / TRAIN / "Q39_clip_F0001.png", frames / VAL / "Q39_clip_F0001.png")
    (frames / TRAIN / "Q39_clip_F0001.png").unlink()
    label_path(frames / TRAIN / "Q39_clip_F0001.png").unlink()
    result = look(frames, group_pattern=None, clip_pattern=None)
    assert set(found_in(result)) == {"rare_pair", "no_example", "single_view"}
    assert found_in(result)["rare_pair"] == [{"Q07_clip_F0001.png"}]
    assert result.of_kind("rare_pair")[0].detail.startswith("PR in A4C: 2.5%")


def test_the_order_of_the_columns_is_judged_by_a_table(frames: Path, tmp_path: Path):
    """Each class of this set is seen in one view only, whose column is called by another's name."""
    boxes, columns = ("0", "1", "3"), ("1 0 0", "0 1 0", "0 0 1")
    for number, image in enumerate((*images_of(frames), *images_of(frames, VAL))):
        label_path(image).write_text(
            f"{boxes[number // 2 % 3]} 0.5 0.5 0.2 0.2\n{columns[number // 2 % 3]}\n"
        )
    table = {"AR": ["PSAX"], "MR": ["A4C"], "PR": ["PSAX"], "TR": ["PLAX"]}
    data = load_data_config(frames.parent / "data.yaml")
    plausible = read_plausible(plausible_file(tmp_path, table), data)
    result = audit(data, plausible)
    assert set(found_in(result)) == {"column_order", "no_example"}
    assert "[PSAX, A4C, PLAX]" in result.of_kind("column_order")[0].detail
    assert len(result.column_orders) == 6
    assert next(iter(result.column_orders.items())) == (("PSAX", "A4C", "PLAX"), 0)
    right = replace(data, view_names=("PSAX", "A4C", "PLAX"))
    assert set(found_in(audit(right, plausible))) == {"no_example"}  # no frame shows PR
    assert score_column_orders(right, result.frames, plausible) == result.column_orders


# ---- what there is nothing of, and what there is twice -------------------------------------------


def write_labels(frames: Path, folder: str, text: str) -> None:
    for image in images_of(frames, folder):
        label_path(image).write_text(text)


@pytest.mark.parametrize(
    ("folder", "text", "found", "exit_code"),
    [
        (TRAIN, "0 1 0", {"nothing_to_learn": "train: no box in 12 frames"}, 1),
        (TRAIN, "0 .5 .5 .1 .1", {"nothing_to_learn": "train: no view in 12 frames"}, 1),
        (VAL, "0 1 0", {"no_example": "val: no box in 8 frames"}, 0),
        (VAL, "0 .5 .5 .1 .1", {"no_example": "val: no view in 8 frames"}, 0),
        (
            TRAIN,
            "0 .5 .5 .1 .1\n0 1 0",
            {"no_example": "train: MR, PR, TR, A4C, PLAX", "single_view": "train: PSAX"},
            0,
        ),
        (
            VAL,
            "3 .5 .5 .1 .1\n1 0 0",
            {"no_example": "val: AR, MR, PR, PSAX, PLAX", "single_view": "val: A4C"},
            0,
        ),
    ],
)
def test_nothing_to_learn_from(frames: Path, folder: str, text: str, found: dict, exit_code: int):
    write_labels(frames, folder, text)
    result = look(frames, clip_pattern=None)
    for kind, detail in found.items():
        assert detail in [finding.detail for finding in result.of_kind(kind)]
    assert result.exit_code() == exit_code


@pytest.mark.parametrize(("folder", "text"), [(TRAIN, "0 1 0"), (VAL, "0 .5 .5 .1 .1")])
def test_data_of_one_task_are_asked_for_no_other(frames: Path, folder: str, text: str):
    for each in (TRAIN, VAL):
        for number, image in enumerate(images_of(frames, each)):
            box, view = f"{number % 4} .5 .5 .1 .1", ("1 0 0", "0 1 0", "0 0 1")[number % 3]
            label_path(image).write_text(view if text == "0 1 0" else box)
    without = {"names": ()} if text == "0 1 0" else {"view_names": ()}
    result = look(frames, clip_pattern=None, **without)
    assert found_in(result) == {} and result.neighbour == {}


@pytest.mark.parametrize(
    ("text", "kind", "detail"),
    [
        ("1 .5 .5 .2 .2\n1 .5 .5 .2 .2\n0 1 0", "repeated_row", "1 of 2 rows"),
        (
            "1 .5 .5 .2 .2\n1 .4 .4 .6 .4 .6 .6 .4 .6\n1 .5 .5 .2 .2\n0 1 0",
            "repeated_row",
            "2 of 3 rows",
        ),
        ("1 .5 .5 .2 .2\n2 .5 .5 .2 .2\n0 1 0", "two_classes", "MR and PR"),
        (
            "1 .2 .2 .8 .8 .8 .2 .2 .7 .5 .9\n0 1 0",
            "doubtful_line",
            "line 1: the outline crosses itself",
        ),
        ("1 .1 .5 .4 .2\n2 .5 .5 .2 .2\n0 1 0", "cut_box", "1 of 2 boxes"),
        (
            "1 .5 .5 .4 .6 .4 .4 .6 .7\n0 1 0",
            "doubtful_line",
            "line 1 may be a box and 2 keypoints",
        ),
        ("1 .5 .5 .4 .6 .4 .4 2 .6 .7 1\n0 1 0", "bad_label", "only be a box and 2 keypoints"),
        ("1 .5 .5 .2 .2 0 .3 .3 .2 .2 0 1 0", "bad_label", "can only be 2 boxes and a view"),
    ],
)
def test_lines_to_look_at(frames: Path, text: str, kind: str, detail: str):
    image = images_of(frames)[0]
    label_path(image).write_text(text)
    result = look(frames, clip_pattern=None)
    (finding,) = result.of_kind(kind)
    assert detail in finding.detail and finding.files == (image,)
    assert all(len(frame.labels.boxes) < 3 for frame in result.frames if frame.labels)


def test_a_file_that_is_listed_twice_is_no_duplicate(frames: Path):
    images = images_of(frames)
    listing = frames / "list.txt"
    listing.write_text("\n".join(map(str, [*images, images[0], images[0]])))
    result = look(frames, splits={"train": (listing,), "val": (frames / VAL,)})
    assert found_in(result) == {"repeated_file": [{images[0].name}]}
    assert result.findings[0].detail == "train 3"


@pytest.mark.parametrize(
    ("differing", "is_near"),
    [(0, True), (1, True), (12, True), (13, True), (24, True), (25, False)],
)
def test_how_many_bits_make_a_near_duplicate(frames: Path, differing: int, is_near: bool):
    data = load_data_config(frames.parent / "data.yaml")
    bits = np.random.default_rng(differing).integers(0, 2, 768).astype(bool)
    other = bits.copy()
    other[np.random.default_rng(1).permutation(768)[:differing]] ^= True
    pair = [
        Frame("train", Path(f"{name}.png"), FrameLabels(), size=(8, 8), pixels=name, bits=own)
        for name, own in (("a", bits), ("b", other))
    ]
    assert [finding.kind for finding in find_duplicates(data, pair)] == ["near_duplicate"] * is_near


@pytest.mark.parametrize(
    "pattern", [r"^(?:(P0[0-2])|P\d+)_", r"^(P\d+)_(?:.*_F(\d+)x)?", r"^()(F\d+)?"]
)
def test_patterns_with_parts_that_are_not_there(frames: Path, pattern: str):
    clip_pattern = pattern if "F" in pattern else pattern + "(x)?"
    result = look(frames, group_pattern=pattern, clip_pattern=clip_pattern)
    names = {image.name for image in (*images_of(frames), *images_of(frames, VAL))}
    unmatched = {finding.files[0].name for finding in result.of_kind("unmatched_name")}
    assert unmatched == {name for name in names if not result.data.found_group(name)}
    assert None not in {result.data.group_of(name) for name in names}
