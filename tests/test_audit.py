"""The audit: every fault planted in a small data set is found under its name, and nothing else is."""

import json
import logging
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import check_dataset
from utils.audit import (
    KINDS,
    Audit,
    audit,
    quick_warnings,
    read_plausible,
    score_column_orders,
)
from utils.audit_plots import SHEET_KINDS, markdown, to_mapping, verdict
from utils.config import load_data_config
from utils.dataloaders import label_path, load_splits, read_image
from utils.general import UserError, run_script
from utils.labels import read_label_file
from utils.runs import load_frames, start_run

TRAIN, VAL = "images/train", "images/val"


@pytest.fixture(scope="module")
def clean_folder(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny phantom with a view in every label file, so that there is nothing to be found in it."""
    folder = tmp_path_factory.mktemp("clean")
    shutil.copytree(tiny_data.parent, folder, dirs_exist_ok=True)
    for path in (folder / "frames/labels").rglob("*.txt"):
        if read_label_file(path, 4, 3).view < 0:
            view = path.stem.split("_")[1].split("-")[0]
            one_hot = " ".join(str(int(view == name)) for name in ("A4C", "PSAX", "PLAX"))
            path.write_text(f"{path.read_text()}\n{one_hot}\n")
    return folder


@pytest.fixture
def frames(clean_folder: Path, tmp_path: Path) -> Path:
    """The folder of a clean data set that may be spoilt; its data.yaml lies beside it."""
    shutil.copytree(clean_folder, tmp_path / "set")
    return tmp_path / "set/frames"


def look(frames: Path, **changes: object) -> Audit:
    return audit(replace(load_data_config(frames.parent / "data.yaml"), **changes))


def found_in(result: Audit) -> dict[str, list[set[str]]]:
    """Kind of finding -> the file names of each."""
    names: dict[str, list[set[str]]] = {}
    for finding in result.findings:
        names.setdefault(finding.kind, []).append({path.name for path in finding.files})
    return names


def images_of(frames: Path, split: str = TRAIN) -> list[Path]:
    return sorted((frames / split).iterdir())


def copy(image: Path, target: Path) -> Path:
    """Copy an image and its label file."""
    shutil.copy(image, target)
    shutil.copy(label_path(image), label_path(target))
    return target


def write(path: Path, pixels: np.ndarray) -> None:
    cv2.imencode(path.suffix, pixels)[1].tofile(path)


# ---- a file's own faults -----------------------------------------------------------------------------------


def test_a_clean_set_has_no_finding(frames: Path):
    result = look(frames)
    assert found_in(result) == {}
    assert (result.exit_code(), result.exit_code(strict=True)) == (0, 0)
    assert result.groups.total == 5 and result.groups.shared == () and set(result.groups.touched.values()) == {0}


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("0 0.5 0.5 0.1 0.1\n")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def deep(path: Path) -> None:
    write(path, read_image(path)[..., ::-1].astype(np.uint16) * 257)


def transparent(path: Path) -> None:
    write(path, cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGRA))


def grey(path: Path) -> None:
    write(path, cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY))


def tiny(path: Path) -> None:
    write(path, cv2.resize(read_image(path)[..., ::-1], (60, 45)))


def long(path: Path) -> None:
    write(path, cv2.resize(read_image(path)[..., ::-1], (700, 100)))


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (empty, "empty_image"),
        (text, "unreadable_image"),
        (folder, "unreadable_image"),
        (cut, "damaged_image"),
        (deep, "deep_image"),
        (transparent, "alpha_image"),
        (grey, "grey_image"),
        (tiny, "extreme_size"),
        (long, "extreme_size"),
    ],
)
def test_an_image_with_a_fault_is_named(frames: Path, spoil: Callable[[Path], None], kind: str):
    image = images_of(frames)[4]
    spoil(image)
    result = look(frames)
    assert found_in(result) == {kind: [{image.name}]}
    assert result.exit_code() == (KINDS[kind][0] == "error")
    assert result.exit_code(strict=True) == 1


def test_a_truncated_jpeg_is_named_though_opencv_reads_it(frames: Path):
    image = images_of(frames)[0]
    target = image.with_suffix(".jpg")
    write(target, read_image(image)[..., ::-1])
    image.unlink()
    assert found_in(look(frames)) == {}
    cut(target)
    assert found_in(look(frames)) == {"damaged_image": [{target.name}]}


def test_grey_of_16_bits_is_both(frames: Path):
    image = images_of(frames)[0]
    write(image, cv2.cvtColor(read_image(image), cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257)
    assert found_in(look(frames)) == {"deep_image": [{image.name}], "grey_image": [{image.name}]}


def test_several_faults_at_once_are_all_named(frames: Path):
    train = images_of(frames)
    for image, spoil in zip(train, (empty, cut, text, grey), strict=False):
        spoil(image)
    kinds = ("empty_image", "damaged_image", "unreadable_image", "grey_image")
    assert found_in(look(frames)) == {kind: [{image.name}] for kind, image in zip(kinds, train, strict=False)}


@pytest.mark.parametrize(
    "content", [b"0 0.5 0.5\n", b"7 0.5 0.5 0.1 0.1\n1 0 0\n", b"1 1 0\n", b"0 nan 0.5 0.1 0.1\n", b"\xff\xfe\n"]
)
def test_a_label_that_breaks_the_format_is_named(frames: Path, content: bytes):
    image = images_of(frames)[2]
    label_path(image).write_bytes(content)
    result = look(frames)
    assert found_in(result) == {"bad_label": [{image.name}]}
    assert label_path(image).name in result.findings[0].detail


def test_missing_views_labels_and_images_are_named(frames: Path):
    first, second, third, *_ = images_of(frames)
    label_path(first).write_text("0 0.5 0.5 0.1 0.1\n")
    label_path(second).unlink()
    third.unlink()
    result = look(frames)
    expected = {"missing_view": first.name, "missing_label": second.name, "orphan_label": label_path(third).name}
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
    assert found_in(look(frames, splits={"train": (listing,), "val": (frames / VAL,)})) == {}


def test_a_name_without_a_patient_is_named(frames: Path):
    image = images_of(frames)[0]
    copy(image, image.with_name("odd.png"))
    for path in (image, label_path(image)):
        path.unlink()
    assert found_in(look(frames)) == {"unmatched_name": [{"odd.png"}]}


# ---- duplicates --------------------------------------------------------------------------------------------


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
    assert set(found_in(result)) - {"missing_view"} == {"duplicate"} | ({"conflict"} if conflict else set())
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


# ---- groups, clips, views ----------------------------------------------------------------------------------


def move(frames: Path, image: Path) -> Path:
    """Move a training frame into the validation split."""
    target = copy(image, frames / VAL / image.name)
    for path in (image, label_path(image)):
        path.unlink()
    return target


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
    assert found_in(result) == {"rare_pair": [{"Q07_clip_F0001.png"}]}
    assert result.findings[0].detail.startswith("PR in A4C: 2.5%")


def plausible_file(folder: Path, content: object) -> Path:
    (folder / "plausible.yaml").write_text(yaml.safe_dump(content))
    return folder / "plausible.yaml"


def test_the_order_of_the_columns_is_judged_by_a_table(frames: Path, tmp_path: Path):
    """Each class of this set is seen in one view only, whose column is called by another's name."""
    boxes, columns = ("0", "1", "3"), ("1 0 0", "0 1 0", "0 0 1")
    for number, image in enumerate((*images_of(frames), *images_of(frames, VAL))):
        label_path(image).write_text(f"{boxes[number // 2 % 3]} 0.5 0.5 0.2 0.2\n{columns[number // 2 % 3]}\n")
    table = {"AR": ["PSAX"], "MR": ["A4C"], "PR": ["PSAX"], "TR": ["PLAX"]}
    data = load_data_config(frames.parent / "data.yaml")
    plausible = read_plausible(plausible_file(tmp_path, table), data)
    result = audit(data, plausible)
    assert set(found_in(result)) == {"column_order"}
    assert "[PSAX, A4C, PLAX]" in result.findings[0].detail
    assert len(result.column_orders) == 6
    assert next(iter(result.column_orders.items())) == (("PSAX", "A4C", "PLAX"), 0)
    right = replace(data, view_names=("PSAX", "A4C", "PLAX"))
    assert found_in(audit(right, plausible)) == {}
    assert score_column_orders(right, result.frames, plausible) == result.column_orders


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


# ---- the script --------------------------------------------------------------------------------------------


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the script and return its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["check_dataset.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run_script(check_dataset.main)
        return stop.value.code or 0

    return run


def everything_below(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_script_writes_its_report_and_nothing_into_the_data(frames: Path, check, caplog, tmp_path: Path):
    caplog.set_level("INFO")
    label_path(images_of(frames)[0]).write_text("0 0.5 0.5 0.1 0.1\n")
    move(frames, images_of(frames)[5])
    before = everything_below(frames.parent)
    assert check("--data", frames.parent / "data.yaml") == 1
    assert check("--data", frames.parent / "data.yaml") == 1
    assert everything_below(frames.parent) == before
    folders = [tmp_path / "runs/check" / name for name in ("exp", "exp2")]
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert names == {f"{name}.png" for name in ("balance", "boxes", "class_by_view", "suspicious")} | {
            "audit.json",
            "audit.md",
        }
    content = json.loads((folders[0] / "audit.json").read_text())
    assert content["findings"]["missing_view"]["found"][0]["files"] == [f"images/train/{images_of(frames)[0].name}"]
    assert re.search(r"^ +1 clips in more than one split: P0", caplog.text, re.MULTILINE)


def test_the_exit_code_says_clean_doubtful_or_impossible(frames: Path, check, capsys, tmp_path: Path):
    data, out = frames.parent / "data.yaml", tmp_path / "report"
    assert check("--data", data, "--strict", "--out", out) == 0
    label_path(images_of(frames)[0]).unlink()
    assert check("--data", data, "--out", out) == 0
    assert check("--data", data, "--strict", "--out", out) == 1
    assert check("--data", tmp_path / "absent.yaml") == 2
    for inside in ("images/train/report", "labels/train"):
        assert check("--data", data, "--out", frames / inside) == 2
    assert "choose another folder" in capsys.readouterr().err
    assert not (frames / "images/train/report").exists()


def test_help_names_every_kind_of_finding(check, capsys):
    assert check("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(meaning in text for _, meaning in KINDS.values())


def test_the_report_holds_without_views_patterns_or_boxes(frames: Path, tmp_path: Path):
    for image in (*images_of(frames), *images_of(frames, VAL)):
        label_path(image).write_text("")
    result = look(frames, view_names=(), group_pattern=None, clip_pattern=None)
    assert (found_in(result), result.groups, result.clips, result.neighbour) == ({}, None, None, {})
    json.dumps(to_mapping(result), allow_nan=False)
    assert "verdict: 0 errors" in verdict(result) and "Verdict: 0 errors" in markdown(result)
    check_dataset.write_report(result, tmp_path)


def test_the_contact_sheet_knows_the_kinds():
    assert set(SHEET_KINDS) < set(KINDS)


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
