"""The audit as a whole, and what of it a training says."""

import itertools
import logging
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from small_audits import TRAIN, VAL, found_in, images_of, look, move, plausible_file

from utils.core.data_config import load_data_config
from utils.core.names import TASKS
from utils.core.script import UserError
from utils.curation.audit import audit, quick_warnings, read_plausible, to_mapping
from utils.curation.findings import score_column_orders
from utils.curation.frames import read_frames
from utils.data.labels import view_line
from utils.data.splits import label_path, load_splits
from utils.training.frames import load_frames
from utils.training.run import start_run

# ---- the whole -----------------------------------------------------------------------------------


def test_a_clean_set_has_no_finding(frames: Path):
    result = look(frames)
    assert found_in(result) == {}
    assert (result.exit_code(), result.exit_code(strict=True)) == (0, 0)
    assert (
        result.groups.total == 5
        and result.groups.shared == ()
        and set(result.groups.touched.values()) == {0}
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"AR": ["A4C"]}, "found classes"),
        ({"AR": ["A4C"], "MR": "A4C", "PR": ["A4C"], "TR": []}, "MR is 'A4C'"),
        ({"AR": ["A4C"], "MR": ["A9C"], "PR": ["A4C"], "TR": []}, "A9C"),
        (
            {0: ["A4C"], 1: ["A4C"], 2: ["A4C"], 3: ["A4C"]},
            "key is 0, expected text; put it in quotes",
        ),
        ({"AR": ["A4C"], "MR": [0], "PR": [1], "TR": [2]}, "MR is [0], expected a list of views"),
        ({"AR": ["A4C"], "MR": [True], "PR": ["A4C"], "TR": []}, "MR is [True]"),
        ({"AR": ["A4C"], "MR": [["A4C"]], "PR": ["A4C"], "TR": []}, "MR is [['A4C']]"),
        ({"AR": ["A4C"], "MR": None, "PR": ["A4C"], "TR": []}, "MR is None"),
        ({"AR": ["A4C"], "MR": {"A4C": 1}, "PR": ["A4C"], "TR": []}, "MR is {'A4C': 1}"),
        (
            {"ar": ["A4C"], "MR": ["A4C"], "PR": ["A4C"], "TR": []},
            "found classes ['MR', 'PR', 'TR', 'ar']",
        ),
        ({"AR": [], "MR": [], "PR": [], "TR": []}, "no class has a plausible view"),
    ],
)
def test_a_wrong_table_is_refused(frames: Path, tmp_path: Path, content: dict, message: str):
    with pytest.raises(UserError, match=re.escape(message)):
        read_plausible(
            plausible_file(tmp_path, content), load_data_config(frames.parent / "data.yaml")
        )


# ---- what a training says ------------------------------------------------------------------------


def quick(frames: Path) -> str:
    data = load_data_config(frames.parent / "data.yaml")
    return quick_warnings(data, *load_splits(data, ("train", "val")))


def test_a_clean_set_is_trained_on_without_a_word(frames: Path, caplog: pytest.LogCaptureFixture):
    assert quick(frames) == ""
    load_frames(start_run({"data": str(frames.parent / "data.yaml"), "imgsz": 64}, "joint"))
    assert not caplog.records


def test_a_training_warns_in_one_paragraph(frames: Path, caplog: pytest.LogCaptureFixture):
    one, two, other, *_ = images_of(frames)
    move(frames, other)
    for image, text in (
        (one, "1 0 0"),
        (two, "0 1 0"),
        (images_of(frames, VAL)[0], "0 0.5 0.5 0.1 0.1"),
    ):
        label_path(image).write_text(f"{text}\n")
    load_frames(start_run({"data": str(frames.parent / "data.yaml"), "imgsz": 64}, "joint"))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.splitlines() == [
        f"warning: {frames.parent / 'data.yaml'}:",
        "  in both train and val: 1 of 5 groups (11% of val's frames), 1 of 10 clips (11% of val's frames); "
        "a score says that much less about new ones",
        "  frames without a view: 1 in val",
        "  clips whose view changes: 1 in train",
        f"  more: python check_dataset.py --data {frames.parent / 'data.yaml'}",
    ]


def test_a_view_that_changes_between_splits_only_is_left_to_the_audit(frames: Path):
    one, two, *_ = images_of(frames)
    label_path(one).write_text("1 0 0\n")
    label_path(two).write_text("0 1 0\n")
    assert "clips whose view changes: 1 in train" in quick(frames)
    move(frames, two)
    assert "view changes" not in quick(frames) and "view_change" in found_in(look(frames))


def test_the_command_can_be_pasted(frames: Path):
    label_path(images_of(frames)[0]).write_text("")
    moved = frames.parent.rename(frames.parent.with_name("my set (1)"))
    command = quick(moved / "frames").splitlines()[-1].split(maxsplit=1)[1]
    assert shlex.split(command) == [
        "python",
        "check_dataset.py",
        "--data",
        str(moved / "data.yaml"),
    ]


def test_the_warnings_of_the_real_data_without_a_look_at_an_image(shared_dir: Path, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("an image is decoded"))
    data = load_data_config(shared_dir / "regurgitation/data.yaml")
    lines = quick_warnings(data, *load_splits(data, ("train", "val"))).splitlines()
    assert (
        "33 of 54 groups (99% of val's frames), 77 of 142 clips (98% of val's frames)" in lines[1]
    )
    assert lines[2].endswith("frames without a view: 2 in train") and len(lines) == 5
    patientwise = load_data_config(shared_dir / "regurgitation/data_patientwise.yaml")
    assert "in both" not in quick_warnings(patientwise, *load_splits(patientwise, ("train", "val")))


# ---- the real data -------------------------------------------------------------------------------


def test_the_audit_of_the_real_data_set_finds_its_facts(shared_dir: Path):
    """Every figure is the data set's README's."""
    result = audit(load_data_config(shared_dir / "regurgitation/data.yaml"))
    found = found_in(result)
    assert set().union(*found["missing_view"]) == {"P38_V1-6_F0040.jpg", "P54_V1-3_F0028.jpg"}
    identical = [*found["duplicate"], *found["shared_duplicate"]]
    assert (len(identical), sum(map(len, identical)), len(found["shared_duplicate"])) == (30, 72, 6)
    assert len(found["conflict"]) == 1
    assert all(finding.iou < 1 for finding in result.of_kind("duplicate"))
    assert to_mapping(result)["sizes"] == {"430x320": 1036, "700x495": 151, "800x556": 38}
    assert (result.groups.total, len(result.groups.shared)) == (54, 33)
    assert (result.clips.total, len(result.clips.shared)) == (142, 77)
    assert result.groups.touched["val"] == pytest.approx(182 / 183)
    assert result.clips.touched["val"] == pytest.approx(180 / 183)
    assert len(found["view_change"]) == 32
    assert list(to_mapping(result)["splits"]["train"]["views"].values()) == [111, 555, 374, 2]
    neighbour, view = result.neighbour["val"], result.view["val"]
    assert (neighbour.with_neighbour, neighbour.median_distance) == (180, 1)
    figures = [neighbour.iou_quantiles[50], neighbour.same_class, neighbour.same_class_iou_50]
    figures += [
        neighbour.same_class_iou_50_adjacent,
        neighbour.iou_75,
        view.accuracy,
        view.class_lookup_accuracy,
    ]
    assert [round(figure, 2) for figure in figures] == [0.60, 0.97, 0.63, 0.70, 0.19, 0.66, 0.70]
    errors = {
        "bad_label",
        "unreadable_image",
        "damaged_image",
        "empty_image",
        "missing_label",
        "orphan_label",
    }
    assert not errors & set(found)


@pytest.mark.parametrize("names", [["0", "1", "2", "3"], ["1.5", "No", "010", "null"]])
def test_names_that_look_like_numbers_are_judged_as_text(
    frames: Path, tmp_path: Path, names: list[str]
):
    data = replace(
        load_data_config(frames.parent / "data.yaml"),
        names=tuple(names),
        view_names=("7", "8", "on"),
    )
    table = plausible_file(tmp_path, {name: ["7", "8", "on"] for name in names})
    assert set(
        score_column_orders(data, read_frames(data), read_plausible(table, data)).values()
    ) == {0}
    table.write_text(", ".join(f"{name}: [7, 8, on]" for name in names).join("{}"))
    with pytest.raises(
        UserError, match=r"expected text; put it in quotes|expected a list of views"
    ):
        read_plausible(table, data)


# ---- what a training says of missing examples and of the same files ------------------------------


def label(classes: str, view: int | None = None) -> str:
    """A label file's text: a box of every class, each elsewhere, and a view."""
    boxes = [f"{number} 0.{number}5 0.5 0.1 0.2\n" for number in map(int, classes)]
    return "".join(boxes) + ("" if view is None else view_line(view, 3))


EACH_VIEW = [("", 0), ("", 1), ("", 2)]


@pytest.mark.parametrize(
    ("train", "val", "tasks", "said"),
    [
        pytest.param([("0", 0), ("1", 1), ("2", 2)], None, TASKS, "of a class or a view: train: TR;", id="a class"),
        pytest.param([("01", 0), ("23", 1)], None, TASKS, "of a class or a view: train: PLAX;", id="a view"),
        pytest.param(None, [("0123", 1), ("", 2)], TASKS, "of a class or a view: val: A4C;", id="a view in val"),
        pytest.param(None, [("123", 0), ("", 1), ("", 2)], TASKS, "class or a view: val: AR;", id="a class in val"),
        pytest.param([("3", 0)], [("3", 2)], TASKS, "train: AR, MR, PR, PSAX, PLAX; val: AR, MR, PR, A4C, ", id="all"),
        pytest.param([("0123", 0)], None, TASKS, "all show one view: train: A4C; there, balanced", id="one view"),
        pytest.param(None, [("0123", 2)], TASKS, "all show one view: val: PLAX; there, balanced", id="one in val"),
        pytest.param(None, EACH_VIEW, TASKS, "or a view: val: no box in 8 frames;", id="no box in val"),
        pytest.param(None, [("0123",)], TASKS, "or a view: val: no view in 8 frames;", id="no view in val"),
        pytest.param([("0123",)], None, TASKS, "any view: train: no view in 12 frames", id="no view, not required"),
        pytest.param([("0123",)], [("0123",)], ["detection"], None, id="no view, not asked for"),
        pytest.param([("0123", 0)], [("0123", 0)], ["detection"], None, id="one view, not asked for"),
        pytest.param([("012",)], None, ["detection"], "of a class or a view: train: TR;", id="a class, boxes only"),
        pytest.param(EACH_VIEW, EACH_VIEW, ["classification"], None, id="views only"),
        pytest.param([("", 0), ("", 1)], None, ["classification"], "a view: train: PLAX;", id="a view, views only"),
    ],
)  # fmt: skip
def test_a_training_says_what_has_no_example(frames: Path, train, val, tasks, said: str | None):
    for folder, texts in ((TRAIN, train), (VAL, val)):
        for image, text in zip(images_of(frames, folder), itertools.cycle(texts or [])):
            label_path(image).write_text(label(*text))
    data = replace(load_data_config(frames.parent / "data.yaml"), clip_pattern=None)
    found = quick_warnings(data, *load_splits(data, ("train", "val")), tasks)
    assert said in found if said else found == ""
    assert found.count("any view") + found.count("class or a view") + found.count("one view:") <= 2


@pytest.mark.parametrize("kind", ["the same list", "a link", "the same folder"])
def test_a_training_says_that_both_splits_have_the_same_files(frames: Path, kind: str):
    image = images_of(frames)[0]
    data = replace(
        load_data_config(frames.parent / "data.yaml"), group_pattern=None, clip_pattern=None
    )
    splits = {"train": (frames / TRAIN,), "val": (frames / VAL,)}
    if kind == "a link":
        target = frames / VAL / "elsewhere.png"
        target.symlink_to(image)
        shutil.copy(label_path(image), label_path(target))
    elif kind == "the same folder":
        splits["val"] = splits["train"]
    else:
        (frames / "list.txt").write_text(
            f"{TRAIN}/{image.name}\n{VAL}/{images_of(frames, VAL)[0].name}"
        )
        splits["val"] = (frames / "list.txt",)
    data = replace(data, splits=splits)
    count = {
        "a link": "1 of val's 9",
        "the same folder": "12 of val's 12",
        "the same list": "1 of val's 2",
    }
    found = quick_warnings(data, *load_splits(data, ("train", "val")))
    assert f"the same image files in train and val: {count[kind]}, the first: {frames}" in found
    result = audit(data)
    assert (
        len(result.of_kind("shared_file")) == int(count[kind].split()[0])
        and result.exit_code() == 1
    )
    assert not result.of_kind("shared_duplicate")


def test_a_training_says_which_names_tell_no_group(frames: Path):
    data = replace(load_data_config(frames.parent / "data.yaml"), group_pattern=r"^(P0[0-2])?")
    found = quick_warnings(data, *load_splits(data, ("train", "val")))
    assert re.search(
        r"file names without a group, each a group by itself: \d+, the first: P\d+", found
    )
