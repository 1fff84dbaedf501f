"""Tables, crops and summaries of predictions."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from detections import prediction, rows_of

from utils.core.script import UserError
from utils.data.images import read_image
from utils.inference import outputs
from utils.inference.sources import Frame, frame_count

NAMES, VIEWS = ["AR", "MR", "PR", "TR"], ["A4C", "PSAX", "PLAX"]


def frame(image: np.ndarray, name: str = "a", clip: str | None = None) -> Frame:
    return Frame(image, Path(f"{name}.png"), Path(name), clip)


def test_a_clips_view_has_the_highest_mean_probability(tmp_path: Path):
    """And is not the view of most frames."""
    table, tally = (kind(tmp_path, NAMES, VIEWS) for kind in (outputs.Table, outputs.Tally))
    views = {
        "c": [(0.5, 0.3, 0.2), (0.5, 0.4, 0.1), (0.0, 1.0, 0.0)],
        "d": [(0.1, 0.2, 0.7)],
        None: [(1.0, 0.0, 0.0)],
    }
    for clip, found in views.items():
        for view in found:
            for output in (table, tally):
                output.add(
                    frame(np.zeros((60, 100, 3), np.uint8), clip=clip), prediction(view=view)
                )
    table.close()
    rows = rows_of(tmp_path)
    assert [row["view"] for row in rows] == ["A4C", "A4C", "PSAX", "PLAX", "A4C"]
    assert [row["clip_view"] for row in rows] == ["PSAX"] * 3 + ["PLAX", ""]
    means = [[float(row[f"clip_p_{view}"]) for view in VIEWS] for row in rows[:4]]
    np.testing.assert_allclose(
        means, [np.mean(views["c"], axis=0)] * 3 + [views["d"][0]], atol=1e-6
    )
    assert tally.clips() == ["clip c: PSAX 0.57", "clip d: PLAX 0.70"]


def test_the_table_has_a_row_a_box_and_a_row_a_frame_without_any(tmp_path: Path):
    table = outputs.Table(tmp_path, NAMES, VIEWS)
    image = np.zeros((60, 100, 3), np.uint8)
    table.add(
        frame(image, "a"),
        prediction([(1, 2, 30.5, 40, 0.75, 1), (0, 0, 100, 60, 0.5, 3)], (0.2, 0.5, 0.3)),
    )
    table.add(frame(image, "b"), prediction(view=(1.0, 0.0, 0.0)))
    table.close()
    boxes = [
        [row[column] for column in ("image", *outputs.BOX_COLUMNS)] for row in rows_of(tmp_path)
    ]
    assert boxes == [
        ["a.png", "MR", "0.750000", "1.00", "2.00", "30.50", "40.00"],
        ["a.png", "TR", "0.500000", "0.00", "0.00", "100.00", "60.00"],
        ["b.png", "", "", "", "", "", ""],
    ]


def test_crops_are_the_pixels_that_a_box_touches(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    crops = outputs.Crops(tmp_path, ["../../AR", "MR"], VIEWS)
    crops.add(
        frame(image, "b/a"), prediction([(10.2, 5, 20.5, 9.01, 0.9, 0), (99.5, 0, 100, 60, 0.5, 1)])
    )
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert files == ["crops/MR/b/a_2.png", "crops/______AR/b/a_1.png"]
    np.testing.assert_array_equal(read_image(tmp_path / files[1]), image[5:10, 10:21])
    np.testing.assert_array_equal(read_image(tmp_path / files[0]), image[:, 99:])


@pytest.mark.parametrize(
    "names",
    [
        ["HER2+", "HER2-"],
        ["a/b", "a_b", "a b", "a-b"],
        ["MR", "mr"],
        ["..", ".", " ", "_"],
        ["CON", "nul", "x" * 400, "x" * 399 + "y"],
        ["\u5fc3\u81df", "\u5fc3\u810f"],
    ],
)
def test_crops_of_two_classes_never_share_a_folder(tmp_path: Path, names: list[str]):
    image = np.zeros((60, 100, 3), np.uint8)
    crops = outputs.Crops(tmp_path / "run", names, VIEWS)
    crops.add(frame(image), prediction([(0, 0, 9, 9, 0.9, number) for number in range(len(names))]))
    folders = [path.parent for path in (tmp_path / "run/crops").rglob("*.png")]
    assert len(set(folders)) == len(names) and {folder.parent for folder in folders} == {
        tmp_path / "run/crops"
    }


FOUND = prediction([(1, 2, 30, 40, 0.75, 1)], (0.2, 0.5, 0.3))
WRITTEN = {
    outputs.Pictures: "a.jpg",
    outputs.LabelFiles: "labels/a.txt",
    outputs.Crops: "crops/MR/a_1.png",
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("kind", WRITTEN)
def test_a_full_disk_names_the_file(tmp_path: Path, kind: type[outputs.Output]):
    path = tmp_path / WRITTEN[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        kind(tmp_path, NAMES, VIEWS).add(frame(np.zeros((60, 100, 3), np.uint8)), FOUND)
    assert error.value.filename == str(path) and "No space left" in error.value.strerror


def of_a_video(number: int) -> Frame:
    image = np.zeros((60, 100, 3), np.uint8)
    return Frame(image, Path("c.mp4"), Path(f"c_{number}"), "c", number, 25)


@pytest.mark.parametrize("frames", [1, 2, 30])
def test_a_video_has_all_its_frames(tmp_path: Path, frames: int):
    pictures = outputs.Pictures(tmp_path, NAMES, VIEWS)
    for number in range(1, frames + 1):
        pictures.add(of_a_video(number), FOUND)
    pictures.close()
    assert frame_count(tmp_path / "c.mp4") == frames


def test_a_video_that_could_not_be_written_is_named(tmp_path: Path, monkeypatch):
    """OpenCV says nothing on a full disk."""
    pictures = outputs.Pictures(tmp_path, NAMES, VIEWS)
    pictures.add(of_a_video(1), FOUND)
    pictures._video.release()
    pictures.add(of_a_video(2), FOUND)
    with pytest.raises(UserError, match=r"c\.mp4: cannot be written: 1 of 2 frames"):
        pictures.close()


def test_summary_in_words(tmp_path: Path):
    image = np.zeros((60, 100, 3), np.uint8)
    both = outputs.Tally(tmp_path, NAMES, VIEWS)
    both.add(
        frame(image), prediction([(0, 0, 9, 9, 0.9, 1), (0, 0, 9, 9, 0.9, 3)], (0.2, 0.5, 0.3))
    )
    both.add(frame(image), prediction(view=(0.9, 0.1, 0.0)))
    assert (
        both.summary()
        == "2 frames; 2 boxes in 1 of them (AR 0, MR 1, PR 0, TR 1); views A4C 1, PSAX 1, PLAX 0"
    )
    boxes = outputs.Tally(tmp_path, NAMES, ())
    boxes.add(frame(image), prediction())
    assert boxes.summary() == "1 frames; 0 boxes in 0 of them (AR 0, MR 0, PR 0, TR 0)"


def test_coco_has_frames_of_videos_and_frames_without_a_box(tmp_path: Path):
    coco = outputs.Coco(tmp_path, NAMES, VIEWS)
    coco.add(of_a_video(4), prediction([(1, 2, 31, 42, 0.75, 1)], (0.2, 0.5, 0.3)))
    coco.add(frame(np.zeros((60, 100, 3), np.uint8)), prediction())
    coco.close()
    found = json.loads((tmp_path / "coco.json").read_text())
    first, second = found["images"]
    assert (first["file_name"], first["frame"], first["view"]) == ("c.mp4", 4, "PSAX")
    assert (second["file_name"], second["view"], second["height"]) == ("a.png", None, 60)
    (box,) = found["annotations"]
    assert (box["image_id"], box["category_id"], box["bbox"]) == (1, 1, [1, 2, 30, 40])


def test_a_view_that_is_not_sure_is_unknown_of_a_frame_and_of_a_clip(tmp_path: Path):
    image = np.zeros((60, 100, 3), np.uint8)
    outs = [kind(tmp_path, NAMES, VIEWS) for kind in (outputs.Table, outputs.Tally, outputs.Coco)]
    for view in ((0.5, 0.3, 0.2), (0.7, 0.2, 0.1)):
        found = prediction(view=view, least_probability=0.65)
        for output in outs:
            output.add(frame(image, clip="c"), found)
    for output in outs:
        output.close()
    assert [row["view"] for row in rows_of(tmp_path)] == ["unknown", "A4C"]
    assert [row["clip_view"] for row in rows_of(tmp_path)] == ["unknown"] * 2  # 0.6
    assert outs[1].clips() == ["clip c: unknown 0.60"]
    assert outs[1].summary().endswith("views A4C 1, PSAX 0, PLAX 0, unknown 1")
    document = json.loads((tmp_path / "coco.json").read_text())
    assert [image["view"] for image in document["images"]] == [None, "A4C"]
    assert prediction(view=(0.5, 0.3, 0.2), least_probability=0.65).labels().view == -1


def test_rows_are_there_while_the_run_goes_on(tmp_path: Path):
    """So that nothing is lost where it is killed; the clips' cells are filled in at the end."""
    table = outputs.Table(tmp_path, NAMES, VIEWS)
    image = np.zeros((60, 100, 3), np.uint8)
    for number, view in enumerate([(0.2, 0.5, 0.3), (0.0, 1.0, 0.0)], start=1):
        table.add(frame(image, clip="c"), prediction([(1, 2, 30, 40, 0.75, 1)], view))
        rows = rows_of(tmp_path)
        assert [row["view"] for row in rows] == ["PSAX"] * number
        assert {row["clip_view"] for row in rows} == {""}
    table.close()
    assert [row["clip_p_PSAX"] for row in rows_of(tmp_path)] == ["0.750000"] * 2


def test_a_clip_whose_name_is_not_utf_8_has_its_view(tmp_path: Path):
    table = outputs.Table(tmp_path, ['a,"b"\n', "MR", "PR", "TR"], VIEWS)
    found = prediction([(1, 2, 30, 40, 0.75, 0)], (0.2, 0.5, 0.3))
    table.add(frame(np.zeros((60, 100, 3), np.uint8), "x\udcff", clip="x\udcff"), found)
    table.close()
    (row,) = rows_of(tmp_path)
    assert (row["clip"], row["clip_view"]) == ("x\\udcff", "PSAX")
    assert row["class"] == 'a,"b"\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_names_the_table(tmp_path: Path):
    (tmp_path / "predictions.csv").symlink_to("/dev/full")
    table = outputs.Table(tmp_path, NAMES, VIEWS)
    with pytest.raises(OSError) as error:
        table.add(frame(np.zeros((60, 100, 3), np.uint8)), FOUND)
    assert error.value.filename == str(tmp_path / "predictions.csv")
    with contextlib.suppress(OSError):
        table.close()
