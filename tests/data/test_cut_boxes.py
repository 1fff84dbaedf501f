"""Boxes that reach far outside of the image are cut off at its edges, and not in silence."""

from pathlib import Path

import pytest
from small_files import make_set

from utils.data.boxes import xywh_to_xyxy
from utils.data.labels import parse_labels
from utils.data.splits import load_split


@pytest.mark.parametrize(
    ("row", "is_cut"),
    [
        ("0 .5 .5 1 1", False),
        ("0 .1 .5 .2004 .5", False),  # what rounding does
        ("0 .1 .5 .4 .5", True),  # a quarter
        ("0 .99 .99 .06 .06", True),
        ("0 1 .5 .1 .1", True),
        ("0 .15 .5 .4 .5", True),
        ("0 0 .1 .6 .1 .6 .6 0 .6", False),
    ],
)
def test_a_box_far_outside_of_the_image_is_counted(row: str, is_cut: bool):
    labels = parse_labels(f"{row}\n1 .5 .5 .1 .1\n0 1", 2, 2)
    assert labels.cut_boxes == is_cut
    edges = xywh_to_xyxy(labels.boxes[:, 1:])
    assert edges.min() >= 0 and edges.max() <= 1 + 1e-12


def test_a_training_is_told_how_many(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    cut = "0 .1 .5 .4 .5\n1 .95 .5 .2 .2\n0 1 0"
    data = make_set(tmp_path, {"a.png": cut, "b.png": "1 .5 .5 .1 .1", "c.png": cut})
    load_split(data, "train")
    (message,) = [text for text in caplog.messages if "outside of the image" in text]
    assert message.startswith("warning: train: 4 boxes in 2 label files ")
    assert message.endswith(f"the first: {tmp_path / 'labels/train/a.txt'}")
