"""Data that there is nothing to learn from, and what is said of augmentation."""

import logging
from pathlib import Path

import numpy as np
import pytest

from utils.core.data_config import DataConfig
from utils.core.hyperparameters import HyperParameters
from utils.core.names import TASKS
from utils.core.script import UserError
from utils.data.labels import FrameLabels
from utils.data.splits import Split
from utils.training.frames import (
    augment,
    refuse_missing_names,
    refuse_nothing_to_learn,
    warn_of_wrong_sides,
)

BOX, NO_BOX = np.array([[0, 0.5, 0.5, 0.2, 0.2]]), np.zeros((0, 5))
BOTH, BOXES, VIEWS, NOTHING = (
    FrameLabels(BOX, 0),
    FrameLabels(BOX),
    FrameLabels(NO_BOX, 1),
    FrameLabels(NO_BOX),
)
DETECTION, CLASSIFICATION = ["detection"], ["classification"]


@pytest.mark.parametrize(
    ("labels", "tasks", "missing"),
    [
        ([BOTH, NOTHING], TASKS, None),
        ([BOXES, VIEWS], TASKS, None),
        ([BOXES, NOTHING], DETECTION, None),
        ([VIEWS, NOTHING], CLASSIFICATION, None),
        ([BOXES, BOXES], TASKS, "view"),
        ([VIEWS, VIEWS], TASKS, "box"),
        ([NOTHING], TASKS, "box"),
        ([NOTHING], DETECTION, "box"),
        ([VIEWS], DETECTION, "box"),
        ([NOTHING], CLASSIFICATION, "view"),
        ([BOXES], CLASSIFICATION, "view"),
        ([NOTHING], [], None),
    ],
)
@pytest.mark.parametrize("is_required", [True, False])
def test_a_task_that_is_trained_needs_an_example(
    labels: list, tasks: list, missing: str | None, is_required: bool
):
    data = DataConfig(Path("data.yaml"), Path(), {}, ("AR",), ("A4C", "PSAX"))
    train = Split(
        "train", tuple(Path(f"{number}.png") for number in range(len(labels))), tuple(labels)
    )
    hyp = HyperParameters(classification_required=is_required)
    if missing is None or (missing == "view" and not is_required):
        refuse_nothing_to_learn(data, train, tasks, hyp)
        return
    other = {"box": "classification", "view": "detection"}[missing]
    with pytest.raises(
        UserError, match=rf"^data.yaml: no training frame has a {missing}; .*--tasks {other}$"
    ):
        refuse_nothing_to_learn(data, train, tasks, hyp)


@pytest.mark.parametrize("tasks", [TASKS, DETECTION, CLASSIFICATION])
@pytest.mark.parametrize(
    ("names", "view_names"), [(("AR",), ("A4C",)), (("AR",), ()), ((), ("A4C",)), ((), ())]
)
def test_a_task_needs_names(tasks: list, names: tuple, view_names: tuple):
    data = DataConfig(Path("data.yaml"), Path(), {}, names, view_names)
    needs = {
        "detection": ("names is empty", names),
        "classification": ("'cls_names' is missing", view_names),
    }
    missing = [words for task, (words, given) in needs.items() if task in tasks and not given]
    if not missing:
        refuse_missing_names(data, tasks)
        return
    with pytest.raises(
        UserError,
        match=rf"^data.yaml: .*{missing[0]}; expected .*: train_joint_gradnorm.py --tasks",
    ):
        refuse_missing_names(data, tasks)


@pytest.mark.parametrize(
    ("fliplr", "pairs", "named"),
    [
        (0.5, (), "left, right"),
        (0.5, (("left", "right"),), None),
        (0.5, (("left", "heart"),), "right"),
        (0.0, (), None),
    ],
)
def test_flips_of_classes_that_say_left_or_right_warn(
    fliplr: float, pairs: tuple, named: str | None, caplog: pytest.LogCaptureFixture
):
    names = ("left", "right", "heart")
    data = DataConfig(Path("data.yaml"), Path(), {}, names, flip_pairs=pairs)
    with caplog.at_level(logging.WARNING):
        warn_of_wrong_sides(data, HyperParameters(fliplr=fliplr))
    if named is None:
        assert not caplog.records
    else:
        assert f"data.yaml: fliplr 0.5 mirrors images, but {named} stay as they are" in caplog.text


@pytest.mark.parametrize("pattern", [None, r"^(P\d+)_"])
def test_what_new_patients_miss_without_augmentation_is_said(
    pattern: str | None, caplog: pytest.LogCaptureFixture
):
    data = DataConfig(Path("data.yaml"), Path(), {}, ("AR",), (), group_pattern=pattern)
    with caplog.at_level(logging.INFO):
        augment(None, data, HyperParameters(), seed=0)
    expected = ["no augmentation; for patients who are not in training use --hyp new_patients"]
    if pattern is None:
        expected = []
    assert [record.message.partition(":")[0] for record in caplog.records] == expected


def test_data_without_labels_of_images_are_refused_in_the_words_of_the_data():
    names = ("PA", "AP")
    data = DataConfig(Path("data.yaml"), Path(), {}, ("lung",), names, cls_title="projection")
    train = Split("train", (Path("a.png"),), (BOXES,))
    with pytest.raises(UserError, match="no training frame has a projection"):
        refuse_nothing_to_learn(data, train, TASKS, HyperParameters())
