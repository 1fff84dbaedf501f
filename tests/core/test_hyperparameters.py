"""Hyper-parameters: YOLOv5's files and ours, and that mistakes are named."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from small_files import write_yaml

from utils.core.files import ROOT
from utils.core.hyperparameters import (
    AUGMENTATION_KEYS,
    RATES,
    HyperParameters,
    load_hyperparameters,
)
from utils.core.names import TASKS
from utils.core.options import DualOptions
from utils.core.script import UserError

RULES = ROOT / "hyp/joint_training_rules.yaml"

# The keys of the public YOLOv5's hyp files, in its order, with the values of its scratch-low file.
YOLOV5_HYP = {
    "lr0": 0.01,
    "lrf": 0.01,
    "momentum": 0.937,
    "weight_decay": 0.0005,
    "warmup_epochs": 3.0,
    "warmup_momentum": 0.8,
    "warmup_bias_lr": 0.1,
    "box": 0.05,
    "cls": 0.5,
    "cls_pw": 1.0,
    "obj": 1.0,
    "obj_pw": 1.0,
    "iou_t": 0.20,
    "anchor_t": 4.0,
    "fl_gamma": 0.0,
    "hsv_h": 0.015,
    "hsv_s": 0.7,
    "hsv_v": 0.4,
    "degrees": 0.0,
    "translate": 0.1,
    "scale": 0.5,
    "shear": 0.0,
    "perspective": 0.0,
    "flipud": 0.0,
    "fliplr": 0.5,
    "mosaic": 1.0,
    "mixup": 0.0,
    "copy_paste": 0.0,
}
OFF = HyperParameters()
DEFAULTS = DualOptions()


# ---- files ---------------------------------------------------------------------------------------


def test_yolov5s_hyp_file_loads_unchanged(tmp_path: Path):
    hyp = load_hyperparameters(write_yaml(tmp_path, YOLOV5_HYP))
    assert {key: getattr(hyp, key) for key in YOLOV5_HYP} == YOLOV5_HYP
    assert hyp.augmentation == {
        k: YOLOV5_HYP[k]
        for k in ("hsv_h", "hsv_s", "hsv_v", "translate", "scale", "fliplr", "mosaic")
    }
    assert not hyp.not_applied
    assert HyperParameters(copy_paste=0.3, anchors=3.0).not_applied == {
        "copy_paste": 0.3,
        "anchors": 3.0,
    }


def test_keys_left_out_take_yolov5s_defaults_but_no_augmentation(tmp_path: Path):
    hyp = load_hyperparameters(write_yaml(tmp_path, {"patience": 7}))
    assert hyp == HyperParameters(patience=7) and not hyp.augmentation
    kept = YOLOV5_HYP.keys() - {"hsv_h", "hsv_s", "hsv_v", "translate", "scale", "fliplr", "mosaic"}
    assert {key: getattr(hyp, key) for key in kept} == {key: YOLOV5_HYP[key] for key in kept}
    assert (hyp.optimizer, hyp.cos_lr, hyp.nominal_batch_size) == ("SGD", False, 64)


def test_our_own_hyp_files_have_every_key_that_applies():
    every = {field.name for field in fields(HyperParameters)} - {"anchors"}
    of_networks = {f"{task}_{name}" for task in TASKS for name in RATES}
    of_weights = {
        name
        for name in every
        if name.startswith(("balancer", "gradnorm_", "initial_", "weight_sum"))
    }
    for name in ("joint_training_rules", "joint_with_augmentation", "new_patients"):
        joint = yaml.safe_load((ROOT / "hyp" / f"{name}.yaml").read_text(encoding="utf-8"))
        assert joint.keys() == every - of_networks, name
    dual = yaml.safe_load((ROOT / DualOptions.hyp).read_text(encoding="utf-8"))
    assert dual.keys() == every - of_weights - set(RATES)


def test_the_recipe_for_new_patients_differs_in_gradnorms_rule_only():
    recipe = load_hyperparameters("new_patients")
    augmented = load_hyperparameters("joint_with_augmentation")
    assert recipe == replace(augmented, gradnorm_rule="log")
    assert recipe.augmentation


def test_our_own_hyp_file_has_no_augmentation():
    hyp = load_hyperparameters(RULES)
    assert not hyp.augmentation and hyp.patience == 0 and hyp.classification_required
    assert (hyp.optimizer, hyp.nominal_batch_size) == ("AdamW", None)
    assert (
        hyp.gradnorm_alpha,
        hyp.initial_detection_weight,
        hyp.initial_classification_weight,
    ) == (1.5, 1.0, 0.01)


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 0.001), ("1E3", 1000.0), ("3", 3.0), (".5", 0.5), ("'0.1'", 0.1)],
)
def test_numbers_as_people_write_them(tmp_path: Path, written: str, value: float):
    hyp = load_hyperparameters(write_yaml(tmp_path, f"box: {written}\n"))
    assert hyp.box == value and type(hyp.box) is float


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("gradnorm_alfa", "gradnorm_alpha"),
        ("Box", "box"),
        ("mosiac", "mosaic"),
        ("weightdecay", "weight_decay"),
    ],
)
def test_an_unknown_key_names_file_key_and_nearest(tmp_path: Path, key: str, nearest: str):
    path = write_yaml(tmp_path, {key: 1.0})
    with pytest.raises(UserError) as error:
        load_hyperparameters(path)
    assert str(error.value).startswith(
        f"{path}: unknown key '{key}'"
    ) and f"did you mean '{nearest}'" in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr0", "fast"),
        ("lr0", True),
        ("lr0", None),
        ("lr0", [0.1]),
        ("cos_lr", 1),
        ("cos_lr", "yes"),
        ("patience", 3.5),
        ("patience", "3"),
        ("patience", True),
        ("nominal_batch_size", 64.0),
        ("optimizer", 3),
        ("classification_required", "true"),
        # out of range
        ("lr0", 0),
        ("lr0", -0.1),
        ("lr0", float("nan")),
        ("lr0", float("inf")),
        ("lrf", 1.5),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("warmup_epochs", -1.0),
        ("nominal_batch_size", 0),
        ("gradient_clip", 0.0),
        ("patience", -1),
        ("box", -0.1),
        ("anchor_t", 1.0),
        ("label_smoothing", 1.0),
        ("initial_detection_weight", 0.0),
        ("initial_classification_weight", -1.0),
        ("gradnorm_alpha", -1.0),
        ("gradnorm_interval", 0),
        ("gradnorm_min_share", 0.5),
        ("weight_sum", 0.0),
        # not one of
        ("optimizer", "sgd"),
        ("gradnorm_rule", "paper"),
        ("gradnorm_place", "trunk"),
        # not implemented
        ("fl_gamma", 1.5),
    ],
)  # fmt: skip
def test_a_wrong_value_names_file_key_and_value(tmp_path: Path, key: str, value: object):
    path = write_yaml(tmp_path, {key: value})
    with pytest.raises(UserError) as error:
        load_hyperparameters(path)
    message = str(error.value)
    assert str(path) in message and key in message and str(value) in message


def test_an_override_of_none_is_no_override():
    assert load_hyperparameters(RULES, {"lr0": None}) == load_hyperparameters(RULES)


# ---- networks ------------------------------------------------------------------------------------


def test_a_networks_own_rates_lie_over_the_common_ones():
    hyp = HyperParameters(lr0=0.1, lrf=0.2, detection_lr0=0.3, classification_warmup_epochs=0.0)
    detection, classification = hyp.of_network("detection"), hyp.of_network("classification")
    assert (detection.lr0, detection.lrf, detection.warmup_epochs) == (0.3, 0.2, hyp.warmup_epochs)
    assert (classification.lr0, classification.lrf, classification.warmup_epochs) == (0.1, 0.2, 0.0)


def test_the_default_rates_are_the_reports():
    hyp = load_hyperparameters(DEFAULTS.hyp)
    for task in TASKS:
        own = hyp.of_network(task)
        assert (own.optimizer, own.cos_lr, own.lr0, own.lr0 * own.lrf) == (
            "AdamW",
            True,
            0.001,
            pytest.approx(0.0001),
        )


# ---- augmentation and sampling -------------------------------------------------------------------


def test_our_files_differ_in_augmentation_alone_and_without_what_changes_the_anatomy():
    rules, augmented = (
        load_hyperparameters(ROOT / f"hyp/joint_{n}.yaml")
        for n in ("training_rules", "with_augmentation")
    )
    assert replace(augmented, **dict.fromkeys(AUGMENTATION_KEYS, 0.0)) == rules
    assert set(augmented.augmentation) == {"hsv_s", "hsv_v", "gamma", "translate", "scale"}


@pytest.mark.parametrize(
    ("key", "value"), [("fliplr", 1.1), ("scale", 1.0), ("mosaic", -0.1), ("perspective", 0.1)]
)
def test_a_value_out_of_range_is_an_error(key: str, value: float):
    with pytest.raises(UserError, match=f"{key} is"):
        replace(OFF, **{key: value})


def test_views_are_not_balanced_twice():
    with pytest.raises(UserError, match="balance the views twice"):
        HyperParameters(sampler="views", view_loss_weights="inverse")


def test_one_of_our_hyp_files_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    by_path = load_hyperparameters(ROOT / "hyp/joint_with_augmentation.yaml")
    assert load_hyperparameters("joint_with_augmentation") == by_path
    (tmp_path / "mine").write_text("lr0: 0.5\n")
    assert load_hyperparameters("mine").lr0 == 0.5
    with pytest.raises(UserError, match=r"hyp/none\.yaml: no such file"):
        load_hyperparameters("none")
