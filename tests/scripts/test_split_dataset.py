"""split_dataset.py: what it writes and refuses."""

import csv
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from eight_patients import FRAMES, NAMES, PATTERNS, VIEWS, load_all, make_set
from sklearn.model_selection import StratifiedGroupKFold

import split_dataset
from utils.core.data_config import DataConfig, load_data_config
from utils.core.script import LOGGER, run_script
from utils.curation.balance import Content, content_of, groups_of, imbalance, merge
from utils.curation.clips import find_clips
from utils.data.splits import GENERATORS, Split, label_path, load_split, load_splits


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Run split_dataset.py in this process and return what it prints."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["split_dataset.py", *map(str, arguments)])
        split_dataset.main()
        return capsys.readouterr().out

    monkeypatch.setattr(LOGGER, "info", print)
    monkeypatch.setattr(LOGGER, "warning", print)
    return call


def patients(split: Split) -> set[str]:
    return {image.name.partition("_")[0] for image in split.images}


def held(split: Split) -> set[str]:
    """The classes and views that a split's frames show."""
    classes = {f"class {int(number)}" for labels in split.labels for number in labels.boxes[:, 0]}
    return classes | {f"view {labels.view}" for labels in split.labels if labels.view >= 0}


def everything_in(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# ---- the script: what it writes ------------------------------------------------------------------


def test_a_split_by_patient(tmp_path: Path, run):
    path = make_set(tmp_path / "set")
    before = everything_in(tmp_path / "set")
    said = run("--data", path, "--val", 0.25, "--test", 0.25, "--out", tmp_path / "out")
    data = load_data_config(tmp_path / "out/data.yaml")
    parts = load_splits(data, ["train", "val", "test"])
    assert [len(part.images) for part in parts] == [12, 6, 6]
    assert (
        not set.intersection(*map(patients, parts))
        and sum(len(patients(part)) for part in parts) == 8
    )
    assert all(len(held(part)) == 5 for part in parts)
    whole, again = load_all(path), merge(parts)
    assert whole.images == again.images and whole.fingerprint() == again.fingerprint()
    assert everything_in(tmp_path / "set") == before
    assert all(
        word in said
        for word in ("frames", "groups", "class AR", "view PLAX", "imbalance 0.0", "data.yaml")
    )


def test_folds_carry_what_trainings_need_and_cover_every_frame_once(tmp_path: Path, run):
    path = make_set(tmp_path / "set")
    run("--data", path, "--folds", 4, "--out", tmp_path / "out")
    source, validated = load_data_config(path), []
    for number in range(4):
        data = load_data_config(tmp_path / f"out/fold{number}/data.yaml")
        same = (
            "names",
            "view_names",
            "group_pattern",
            "clip_pattern",
            "generate",
            "root",
            "labels",
        )
        assert [getattr(data, name) for name in same] == [getattr(source, name) for name in same]
        train, val = load_splits(data, ["train", "val"])
        assert not patients(train) & patients(val) and len(train.images) + len(val.images) == len(
            FRAMES
        )
        validated += val.images
    assert sorted(validated) == list(load_all(path).images)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"fold{number}" for number in range(4)
    ]


def test_the_same_seed_gives_the_same_lists(tmp_path: Path, run):
    path = make_set(tmp_path / "set")
    for name in "ab":
        run("--data", path, "--val", 0.25, "--seed", 7, "--out", tmp_path / name)
    for name in ("train.txt", "val.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_almost_identical_frames_of_two_patients_are_in_one_fold(tmp_path: Path, run):
    path = make_set(tmp_path / "set")
    rng = np.random.default_rng(0)
    for image in load_all(path).images:
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(image), cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC))
    images = {image.name: image for image in load_all(path).images}
    picture = cv2.imread(str(images["P00_V1_F0.png"]))
    cv2.imwrite(
        str(images["P05_V1_F1.png"]), np.clip(picture.astype(int) + 3, 0, 255).astype(np.uint8)
    )
    for seed in range(4):
        out = tmp_path / f"out{seed}"
        said = run("--data", path, "--folds", 4, "--seed", seed, "--out", out)
        assert (
            "1 sets of almost identical frames lie in more than one group and stay together: P00, P05"
            in said
        )
        held_out = [
            patients(load_split(load_data_config(out / f"fold{n}/data.yaml"), "val"))
            for n in range(4)
        ]
        assert sum({"P00", "P05"} <= fold for fold in held_out) == 1
    said = run("--data", path, "--folds", 4, "--by", "image", "--out", tmp_path / "by image")
    assert "almost identical" not in said


def test_frame_by_frame_says_so(tmp_path: Path, run):
    path = make_set(tmp_path / "set", group_pattern=None)
    said = run("--data", path, "--by", "image", "--val", 0.5, "--out", tmp_path / "out")
    assert "--by image" in said and "patient" in said
    assert (
        len(load_split(load_data_config(tmp_path / "out/data.yaml"), "val").images)
        == len(FRAMES) // 2
    )


def mixed() -> dict[str, str]:
    """As `FRAMES`, but clips show one view, except in some frames: P00 for a person to decide, P01
    to P03 not.
    """
    one_hot = ["1 0 0", "0 1 0", "0 0 1"]
    views = {
        f"P{patient:02}_V1_F{frame}.png": patient % 3 for patient in range(8) for frame in range(10)
    }
    views |= {f"P00_V1_F{frame}.png": 1 for frame in range(4)}
    views |= {f"P01_V1_F{frame}.png": 2 for frame in range(3)} | {"P02_V1_F0.png": 0}
    return {
        name: f"{int(name[-5]) % 2} 0.5 0.5 0.25 0.5\r\n{one_hot[view]}"
        for name, view in views.items()
    } | {"P03_V1_F1.png": "0 0.5 0.5 0.25 0.5"}


@pytest.mark.parametrize(
    "divided", [[], ["--val", 0.4], ["--folds", 2]], ids=["as it is", "val", "folds"]
)
def test_harmonised_views(tmp_path: Path, run, divided: list):
    path = make_set(tmp_path / "set", mixed())
    before, old = everything_in(tmp_path / "set"), load_all(path)
    said = run("--data", path, "--harmonise-views", *divided, "--out", tmp_path / "out")
    assert everything_in(tmp_path / "set") == before
    written = sorted((tmp_path / "out").rglob("data.yaml"))
    assert len(written) == (2 if "--folds" in divided else 1)
    new = load_all(written[0])
    assert new.images == old.images
    changed = {
        image.name
        for image, one, two in zip(old.images, old.labels, new.labels, strict=True)
        if one.view != two.view
    }
    assert changed == {
        "P01_V1_F0.png",
        "P01_V1_F1.png",
        "P01_V1_F2.png",
        "P02_V1_F0.png",
        "P03_V1_F1.png",
    }
    assert {
        labels.view
        for image, labels in zip(new.images, new.labels, strict=True)
        if "P00" in image.name
    } == {0, 1}
    data, source = load_data_config(written[0]), load_data_config(path)
    for image in new.images:
        mine, theirs = (label_path(image, config).read_bytes() for config in (data, source))
        assert mine == theirs or (
            image.name in changed and mine.startswith(theirs.splitlines(keepends=True)[0])
        )
    with (tmp_path / "out/undecided.csv").open(newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [
            ["clip", "frames", *VIEWS],
            ["P00_V1", "10", "6", "4", "0"],
        ]
    assert (
        "5 frames get another view, 1 of them had none" in said and "P00_V1: 6 A4C, 4 PSAX" in said
    )


def test_what_was_written_can_be_split_again(tmp_path: Path, run):
    run(
        "--data",
        make_set(tmp_path / "set", mixed()),
        "--harmonise-views",
        "--out",
        tmp_path / "one",
    )
    run("--data", tmp_path / "one/data.yaml", "--folds", 2, "--out", tmp_path / "two")
    one, two = load_all(tmp_path / "one/data.yaml"), load_all(tmp_path / "two/fold1/data.yaml")
    assert one.fingerprint() == two.fingerprint()
    assert (
        load_data_config(tmp_path / "two/fold1/data.yaml").labels
        == (tmp_path / "one/labels").resolve()
    )


def test_unusual_names_links_lists_and_generators(
    tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch
):
    """Frames behind a linked folder, listed beside the data set, with names that need care."""
    names = {name.replace("_V1_", "_V+1 (\u5fc3)=_"): text for name, text in FRAMES.items()}
    make_set(tmp_path / "real", names)
    root = tmp_path / "\u8cc7 \u6599"
    root.mkdir()
    (root / "train").symlink_to(tmp_path / "real/train")
    (root / "val").symlink_to(tmp_path / "real/val")
    lists = tmp_path / "lists"
    lists.mkdir()
    for name in ("train", "val"):
        images = sorted((root / name / "images").iterdir())
        lines = [os.path.relpath(image, lists) for image in images]
        (lists / f"{name}.txt").write_text(
            "\n".join(lines + lines[:1]), encoding="utf-8"
        )  # one of them twice
    monkeypatch.setitem(GENERATORS, "stub", lambda folder: pytest.fail("the data exist"))
    entries = {name: f"../lists/{name}.txt" for name in ("train", "val")}
    content = {
        "path": root.name,
        **entries,
        "names": list(NAMES),
        "cls_names": list(VIEWS),
        "generate": "stub",
    }
    (tmp_path / "data.yaml").write_text(
        yaml.safe_dump(content | PATTERNS, allow_unicode=True), encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    run("--data", "data.yaml", "--folds", 2, "--harmonise-views", "--out", "out 1")
    data = load_data_config("out 1/fold0/data.yaml")
    assert data.generate == "stub" and data.root == root.resolve()
    again = load_all(Path("out 1/fold0/data.yaml"))
    assert sorted(image.name for image in again.images) == sorted(names) and all(
        x.view >= 0 for x in again.labels
    )


# ---- the script: what it refuses -----------------------------------------------------------------


def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *arguments: object
) -> str:
    monkeypatch.setattr(sys, "argv", ["split_dataset.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run_script(split_dataset.main)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "nothing to do"),
        (["--val", "0"], "--val and --test are"),
        (["--val", "1"], "--val and --test are"),
        (["--val", "nan"], "--val is nan, expected 0 to 1"),
        (["--val", "0.5", "--test", "0.5"], "leave some frames for train"),
        (["--test", "0.5"], "--test without --val"),
        (["--folds", "1"], "--folds is 1, expected at least 2"),
        (["--folds", "3", "--val", "0.1"], "--folds 3 goes with neither --val nor --test"),
        (["--val", "0.1", "--seed", "-1"], "--seed is -1"),
        (["--folds", "9"], "8 groups do not split into 9 parts"),
        (["--val", "0.1", "--by", "clip"], "--by"),
    ],
    ids=" ".join,
)
def test_wrong_options(monkeypatch, capsys, tmp_path: Path, arguments: list[str], expected: str):
    message = refusal(
        monkeypatch,
        capsys,
        "--data",
        make_set(tmp_path / "set"),
        "--out",
        tmp_path / "out",
        *arguments,
    )
    assert expected in message and not (tmp_path / "out").exists()


LONELY = {
    name: text.replace("0 0 1", "0 1 0") if "P03" not in name else text
    for name, text in FRAMES.items()
}
TWO_OF_A_CLASS = {
    f"P{number}_V1_F1.png": f"{int(number > 5)} .5 .5 .1 .1\n1 0 0" for number in range(8)
}


@pytest.mark.parametrize(
    ("frames", "changes", "arguments", "expected"),
    [
        pytest.param(
            FRAMES,
            {"group_pattern": None},
            ["--val", "0.2"],
            "'group_pattern' is missing.*--by image",
        ),
        pytest.param(
            FRAMES | {"x.png": ""},
            {},
            ["--folds", "2"],
            r"finds no group in 1 of 25 file names, the first: x\.png",
        ),
        pytest.param(
            LONELY, {}, ["--val", "0.4"], r"no frame of view PLAX in \w+ \(groups that have it: 1\)"
        ),
        pytest.param(
            TWO_OF_A_CLASS,
            {},
            ["--folds", "3"],
            r"no frame of class MR in fold\d \(groups that have it: 2",
        ),
        pytest.param(
            FRAMES, {}, ["--folds", "40"], r"fold\d+ and \d+ more \(groups that have it: \d+\)"
        ),
        pytest.param(
            FRAMES, {"clip_pattern": None}, ["--harmonise-views"], "'clip_pattern' is missing"
        ),
        pytest.param(
            FRAMES, {"clip_pattern": "(x)(y)"}, ["--harmonise-views"], "finds a clip in no frame"
        ),
        pytest.param(
            dict.fromkeys(FRAMES, "0 0.5 0.5 0.1 0.1"),
            {"cls_names": None},
            ["--harmonise-views"],
            "'cls_names' is",
        ),
    ],
    ids=[
        "no pattern",
        "unmatched",
        "lonely view",
        "class in two",
        "many folds",
        "no clips",
        "no clip found",
        "no views",
    ],
)
def test_data_that_cannot_be_split(
    monkeypatch, capsys, tmp_path: Path, frames, changes, arguments, expected
):
    path = make_set(tmp_path / "set", frames, **changes)
    message = refusal(monkeypatch, capsys, "--data", path, "--out", tmp_path / "out", *arguments)
    assert re.search(expected, message), message
    assert not (tmp_path / "out").exists()


def test_bad_labels_of_all_splits_are_named_and_can_be_left_out(
    monkeypatch, capsys, tmp_path: Path, run
):
    bad = ["P00_V1_F0.png", "P00_V1_F1.png"]  # one in train, one in val
    path = make_set(tmp_path / "set", FRAMES | dict.fromkeys(bad, "9 0.5 0.5 0.1 0.1"))
    message = refusal(monkeypatch, capsys, "--data", path, "--val", 0.3, "--out", tmp_path / "out")
    assert all(f"{Path(name).stem}.txt:1: found class 9" in message for name in bad)
    run("--data", path, "--harmonise-views", "--skip-bad-labels", "--out", tmp_path / "out")
    assert {image.name for image in load_all(tmp_path / "out/data.yaml").images} == set(
        FRAMES
    ) - set(bad)


@pytest.mark.parametrize("place", [".", "out", "train/images/out", "train/labels"])
def test_nothing_is_written_into_the_data_set(monkeypatch, capsys, tmp_path: Path, place: str):
    path = make_set(tmp_path / "set")
    before = everything_in(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "set")
    for root in ("set", "link"):
        out = tmp_path / root / place
        message = refusal(monkeypatch, capsys, "--data", path, "--folds", 2, "--out", out)
        assert str(out) in message
    (tmp_path / "link").unlink()
    assert everything_in(tmp_path) == before


def test_nothing_is_overwritten(monkeypatch, capsys, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/kept").touch()
    for out in ("out", "out/kept"):
        message = refusal(
            monkeypatch,
            capsys,
            "--data",
            make_set(tmp_path / "set"),
            "--folds",
            2,
            "--out",
            tmp_path / out,
        )
        assert "not an empty folder" in message
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["kept"]


def test_views_of_images_outside_the_data_sets_folder(monkeypatch, capsys, tmp_path: Path):
    path = make_set(tmp_path / "set")
    path.write_text(path.read_text() + "path: train\n")
    path.write_text(
        path.read_text().replace("train/images", "images").replace("val/images", "../val/images")
    )
    arguments = ("--data", path, "--harmonise-views", "--out", tmp_path / "out")
    assert "every image lies below path" in refusal(monkeypatch, capsys, *arguments)
    assert not (tmp_path / "out").exists()


# ---- the real data -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared_dir: Path) -> tuple[Path, DataConfig, Split, Content]:
    path = shared_dir / "regurgitation/data.yaml"
    data, frames = load_data_config(path), load_all(path)
    return path, data, frames, content_of(frames, data, groups_of(frames.images, data))


def test_real_split_is_balanced_better_than_the_one_made_by_hand(real, tmp_path: Path, run):
    path, _, frames, groups = real
    run("--data", path, "--val", 0.18, "--out", tmp_path / "out")

    def unevenness(yaml_path: Path) -> tuple[float, float]:
        """How uneven the frames are, and by how many patients a class or view is off its share at
        most.
        """
        train, val = load_splits(load_data_config(yaml_path), ["train", "val"])
        assert len(train.images) + len(val.images) == len(frames.images) == 1225
        assert not patients(train) & patients(val)
        assert len(held(train)) == len(held(val)) == 7
        part = np.zeros(len(groups.counts), int)
        chosen = {image.name for image in val.images}
        part[groups.unit[[image.name in chosen for image in frames.images]]] = 1
        sums = groups.group_sums(part, 2)
        off = np.abs(sums - np.outer([0.82, 0.18], sums.sum(axis=0))).max()
        return imbalance(groups.sums(part, 2), [0.82, 0.18]), off

    ours = unevenness(tmp_path / "out/data.yaml")
    theirs = unevenness(path.with_name("data_patientwise.yaml"))
    assert ours[0] < theirs[0] < 0.05 and ours[1] < 1


def test_real_folds_have_their_patients_of_every_class_and_view(real, real_folds: Path):
    _, _, frames, groups = real
    part = np.full(len(groups.counts), -1)
    validated = []
    for number in range(5):
        train, val = load_splits(
            load_data_config(real_folds / f"fold{number}/data.yaml"), ["train", "val"]
        )
        assert not patients(train) & patients(val) and len(held(val)) == 7
        validated += val.images
        part[groups.unit[np.isin(frames.images, val.images)]] = number
    assert sorted(validated) == list(frames.images)
    pairs = [f"{labels.boxes[0, 0]} {labels.view}" for labels in frames.labels]
    other = np.zeros_like(part)
    with warnings.catch_warnings(action="ignore"):
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(
            pairs, pairs, groups.unit
        )
        for number, (_, val) in enumerate(folds):
            other[groups.unit[val]] = number
    ours, theirs = (groups.group_sums(one, 5) for one in (part, other))
    names = groups.names
    assert (
        ours[:, names.index("class AR")].min() >= 3 and ours[:, names.index("class PR")].min() >= 2
    )
    spread, other_spread = (np.ptp(sums, axis=0) for sums in (ours, theirs))
    assert spread.max() <= 1 < other_spread.max()
    assert imbalance(groups.sums(part, 5), [0.2] * 5) < 0.2


def test_real_views_are_harmonised(real, tmp_path: Path, run):
    path, data, old, _ = real
    run("--data", path, "--harmonise-views", "--out", tmp_path / "out")
    written = load_data_config(tmp_path / "out/data.yaml")
    new = load_all(tmp_path / "out/data.yaml")
    assert new.images == old.images
    for image, before, after in zip(old.images, old.labels, new.labels, strict=True):
        assert (before.boxes == after.boxes).all()
        source, target = (label_path(image, config).read_bytes() for config in (data, written))
        assert source.splitlines()[0] == target.splitlines()[0]
        assert (source == target) == (before.view == after.view)
    before, after = find_clips(old, data), find_clips(new, written)
    assert len(before) == 142 and sum(clip.is_mixed for clip in before) == 32
    with (tmp_path / "out/undecided.csv").open(newline="", encoding="utf-8") as stream:
        undecided = {row["clip"] for row in csv.DictReader(stream)}
    assert {clip.name for clip in after if clip.is_mixed} == undecided and len(undecided) == 6
    for split in ("train", "val"):
        assert load_split(written, split).images == load_split(data, split).images
