"""The audit as a whole, and what of it a training says."""

import logging
import re
import shlex
from pathlib import Path

import cv2
import pytest
from small_audits import VAL, found_in, images_of, look, move, plausible_file

from utils.core.data_config import load_data_config
from utils.core.script import UserError
from utils.curation.audit import audit, quick_warnings, read_plausible, to_mapping
from utils.data.splits import label_path, load_splits
from utils.training.run import load_frames, start_run

# ---- the whole ---------------------------------------------------------------------------------------------


def test_a_clean_set_has_no_finding(frames: Path):
    result = look(frames)
    assert found_in(result) == {}
    assert (result.exit_code(), result.exit_code(strict=True)) == (0, 0)
    assert result.groups.total == 5 and result.groups.shared == () and set(result.groups.touched.values()) == {0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"AR": ["A4C"]}, "found classes"),
        ({"AR": ["A4C"], "MR": "A4C", "PR": ["A4C"], "TR": []}, "MR is 'A4C'"),
        ({"AR": ["A4C"], "MR": ["A9C"], "PR": ["A4C"], "TR": []}, "A9C"),
    ],
)
def test_a_wrong_table_is_refused(frames: Path, tmp_path: Path, content: dict, message: str):
    with pytest.raises(UserError, match=re.escape(message)):
        read_plausible(plausible_file(tmp_path, content), load_data_config(frames.parent / "data.yaml"))


# ---- what a training says ----------------------------------------------------------------------------------


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
    for image, text in ((one, "1 0 0"), (two, "0 1 0"), (images_of(frames, VAL)[0], "0 0.5 0.5 0.1 0.1")):
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
    assert shlex.split(command) == ["python", "check_dataset.py", "--data", str(moved / "data.yaml")]


def test_the_warnings_of_the_real_data_without_a_look_at_an_image(shared_dir: Path, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("an image is decoded"))
    data = load_data_config(shared_dir / "regurgitation/data.yaml")
    lines = quick_warnings(data, *load_splits(data, ("train", "val"))).splitlines()
    assert "33 of 54 groups (99% of val's frames), 77 of 142 clips (98% of val's frames)" in lines[1]
    assert lines[2].endswith("frames without a view: 2 in train") and len(lines) == 5
    patientwise = load_data_config(shared_dir / "regurgitation/data_patientwise.yaml")
    assert "in both" not in quick_warnings(patientwise, *load_splits(patientwise, ("train", "val")))


# ---- the real data -----------------------------------------------------------------------------------------


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
    figures += [neighbour.same_class_iou_50_adjacent, neighbour.iou_75, view.accuracy, view.class_lookup_accuracy]
    assert [round(figure, 2) for figure in figures] == [0.60, 0.97, 0.63, 0.70, 0.19, 0.66, 0.70]
    errors = {"bad_label", "unreadable_image", "damaged_image", "empty_image", "missing_label", "orphan_label"}
    assert not errors & set(found)
