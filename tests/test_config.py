"""What a user sets: data.yaml, hyp files, the command line; and that mistakes are named."""

import logging
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from utils.config import (
    RATE_RANGES,
    DataConfig,
    DualOptions,
    HyperParameters,
    JointOptions,
    TrainOptions,
    from_mapping,
    load_data_config,
    load_hyperparameters,
    split_arguments,
    to_mapping,
    training_parser,
)
from utils.general import TASKS, UserError

ROOT = Path(__file__).resolve().parents[1]
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
DATA = {"train": "images/train", "val": "images/val", "nc": 2, "names": ["AR", "MR"], "cls_names": ["A4C", "PSAX"]}


def write_yaml(folder: Path, content: object) -> Path:
    path = folder / "file.yaml"
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


# ---- hyp files ---------------------------------------------------------------------------------------------


def test_yolov5s_hyp_file_loads_unchanged(tmp_path: Path):
    hyp = load_hyperparameters(write_yaml(tmp_path, YOLOV5_HYP))
    assert {key: getattr(hyp, key) for key in YOLOV5_HYP} == YOLOV5_HYP
    assert hyp.augmentation == {
        k: YOLOV5_HYP[k] for k in ("hsv_h", "hsv_s", "hsv_v", "translate", "scale", "fliplr", "mosaic")
    }
    assert not hyp.not_applied
    assert HyperParameters(copy_paste=0.3, anchors=3.0).not_applied == {"copy_paste": 0.3, "anchors": 3.0}


def test_keys_left_out_take_yolov5s_defaults_but_no_augmentation(tmp_path: Path):
    hyp = load_hyperparameters(write_yaml(tmp_path, {"patience": 7}))
    assert hyp == HyperParameters(patience=7) and not hyp.augmentation
    kept = YOLOV5_HYP.keys() - {"hsv_h", "hsv_s", "hsv_v", "translate", "scale", "fliplr", "mosaic"}
    assert {key: getattr(hyp, key) for key in kept} == {key: YOLOV5_HYP[key] for key in kept}
    assert (hyp.optimizer, hyp.cos_lr, hyp.nominal_batch_size) == ("SGD", False, 64)


def test_our_own_hyp_files_have_every_key_that_applies():
    every = {field.name for field in fields(HyperParameters)} - {"anchors"}
    of_networks = {f"{task}_{name}" for task in TASKS for name in RATE_RANGES}
    of_weights = {name for name in every if name.startswith(("balancer", "gradnorm_", "initial_", "weight_sum"))}
    assert yaml.safe_load(RULES.read_text(encoding="utf-8")).keys() == every - of_networks
    dual = yaml.safe_load((ROOT / DualOptions.hyp).read_text(encoding="utf-8"))
    assert dual.keys() == every - of_weights - RATE_RANGES.keys()


def test_our_own_hyp_file_has_no_augmentation():
    hyp = load_hyperparameters(RULES)
    assert not hyp.augmentation and hyp.patience == 0 and hyp.classification_required
    assert (hyp.optimizer, hyp.nominal_batch_size) == ("AdamW", None)
    assert (hyp.gradnorm_alpha, hyp.initial_detection_weight, hyp.initial_classification_weight) == (1.5, 1.0, 0.01)


@pytest.mark.parametrize(
    ("written", "value"), [("1e-3", 0.001), ("1E3", 1000.0), ("3", 3.0), (".5", 0.5), ("'0.1'", 0.1)]
)
def test_numbers_as_people_write_them(tmp_path: Path, written: str, value: float):
    hyp = load_hyperparameters(write_yaml(tmp_path, f"box: {written}\n"))
    assert hyp.box == value and type(hyp.box) is float


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("gradnorm_alfa", "gradnorm_alpha"), ("Box", "box"), ("mosiac", "mosaic"), ("weightdecay", "weight_decay")],
)
def test_an_unknown_key_names_file_key_and_nearest(tmp_path: Path, key: str, nearest: str):
    path = write_yaml(tmp_path, {key: 1.0})
    with pytest.raises(UserError) as error:
        load_hyperparameters(path)
    assert str(error.value).startswith(f"{path}: unknown key '{key}'") and f"did you mean '{nearest}'" in str(
        error.value
    )


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


def test_command_line_over_hyp_file_over_defaults(tmp_path: Path):
    path = write_yaml(tmp_path, {"momentum": 0.5, "patience": 7, "cos_lr": True})
    given = vars(training_parser("").parse_args(["--patience", "9", "--epochs", "3", "--batch-size", "4"]))
    options, over = split_arguments(given)
    hyp = load_hyperparameters(path, over)
    assert (hyp.patience, hyp.momentum, hyp.lr0) == (9, 0.5, HyperParameters().lr0)
    assert hyp.cos_lr  # neither --cos-lr nor --no-cos-lr was given
    assert options == TrainOptions(epochs=3, batch_size=4)
    off = vars(training_parser("").parse_args(["--no-cos-lr", "--optimizer", "Adam"]))
    hyp = load_hyperparameters(path, split_arguments(off)[1])
    assert (hyp.cos_lr, hyp.optimizer) == (False, "Adam")


def test_an_override_of_none_is_no_override():
    assert load_hyperparameters(RULES, {"lr0": None}) == load_hyperparameters(RULES)


@pytest.mark.parametrize(
    "config",
    [HyperParameters(), TrainOptions(epochs=3), DualOptions(freeze_task=["detection"]), JointOptions(size="n")],
)
def test_plain_values_and_back(config: object):
    assert from_mapping(type(config), yaml.safe_load(yaml.safe_dump(to_mapping(config)))) == config


# ---- options -----------------------------------------------------------------------------------------------


def test_defaults_of_the_contract():
    options = TrainOptions()
    assert (options.imgsz, options.batch_size, options.project, options.name) == (320, 16, "runs/train", "exp")
    assert (ROOT / options.cfg).is_file() and (ROOT / options.data).is_file() and (ROOT / options.hyp).is_file()


def test_a_networks_own_rates_lie_over_the_common_ones():
    hyp = HyperParameters(lr0=0.1, lrf=0.2, detection_lr0=0.3, classification_warmup_epochs=0.0)
    detection, classification = hyp.of_network("detection"), hyp.of_network("classification")
    assert (detection.lr0, detection.lrf, detection.warmup_epochs) == (0.3, 0.2, hyp.warmup_epochs)
    assert (classification.lr0, classification.lrf, classification.warmup_epochs) == (0.1, 0.2, 0.0)


def test_when_each_network_trains():
    late = DualOptions(epochs=9, classification_start_epoch=2, classification_epochs=3)
    assert [late.trained_epochs(task) for task in TASKS] == [range(9), range(2, 5)]
    frozen = DualOptions(epochs=9, freeze_task=["detection"])
    assert [frozen.trained_epochs(task) for task in TASKS] == [range(0), range(9)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tasks": []}, "--tasks is , expected detection and/or classification"),
        ({"tasks": ["detection", "detection"]}, "--tasks is detection detection"),
        ({"tasks": ["segmentation"]}, "--tasks is segmentation"),
        ({"diagnose_interval": -1}, "--diagnose-interval is -1, expected at least 0"),
        ({"diagnose_interval": 5, "tasks": ["detection"]}, "--diagnose-interval: --tasks detection has nothing"),
        ({"size": "q"}, "--size is 'q', expected one of n, s, m, l, x"),
        ({"epochs": 0}, "--epochs is 0"),
    ],
)
def test_wrong_options_of_the_joint_script(given: dict, message: str):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        JointOptions(**given)


def test_options_of_the_joint_script():
    assert JointOptions().tasks == list(TASKS) and not JointOptions().diagnose_interval
    assert JointOptions(tasks=["classification"], size="x").tasks == ["classification"]
    options, over_hyp = split_arguments({"tasks": ["detection"], "balancer": "fixed", "lr0": 0.1}, JointOptions)
    assert options == JointOptions(tasks=["detection"]) and over_hyp == {"balancer": "fixed", "lr0": 0.1}


def test_every_option_of_a_training_can_be_given():
    options = {f"--{field.name.replace('_', '-')}" for field in fields(TrainOptions)}
    known = set(training_parser("")._option_string_actions)
    assert options | {"--resume", "--optimizer", "--cos-lr", "--patience"} <= known


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("epochs", -1), ("batch_size", 0), ("imgsz", 0), ("workers", -2), ("seed", -1), ("freeze", -1)],
)
def test_options_have_lower_limits(name: str, value: int):
    with pytest.raises(UserError, match=rf"--{name.replace('_', '-')} is {value}, expected"):
        TrainOptions(**{name: value})


@pytest.mark.parametrize(("size", "nearest"), [(100, 96), (330, 320), (1, 32), (17, 32)])
def test_image_size_is_a_multiple_of_the_stride(size: int, nearest: int):
    with pytest.raises(UserError, match=rf"--imgsz is {size}, expected a multiple of 32.*{nearest}\b"):
        TrainOptions(imgsz=size)
    assert TrainOptions(imgsz=nearest).imgsz == nearest


# ---- data.yaml ---------------------------------------------------------------------------------------------


def test_data_yaml(tmp_path: Path):
    (tmp_path / "yaml").mkdir()
    patterns = {"group_pattern": r"^(P\d+)_", "clip_pattern": r"^(P\d+_.+)_F(\d+)"}
    path = write_yaml(tmp_path / "yaml", DATA | patterns | {"path": "../set", "test": ["a", "b.txt"], "generate": "x"})
    data = load_data_config(path)
    root = (tmp_path / "set").resolve()
    assert (data.source, data.root, data.generate) == (path, root, "x")
    assert data.splits["train"] == (root / "images/train",)
    assert data.splits["val"] == (root / "images/val",)
    assert data.splits["test"] == (root / "a", root / "b.txt")
    assert (data.names, data.view_names) == (("AR", "MR"), ("A4C", "PSAX"))
    assert data.group_of("anywhere/P07_V1-1_F0003.jpg") == "P07"
    assert data.group_of("anywhere/other.jpg") != data.group_of("anywhere/another.jpg")


@pytest.mark.parametrize(
    ("pattern", "name", "clip"),
    [
        (r"^(P\d+_.+)_F(\d+)", "P07_V1-1_F0013b.jpg", ("P07_V1-1", 13)),
        (r"^(P\d+_.+)_F(\d+)", "P07.jpg", None),
        (r"^(\w+)-(\w*)", "clip-last.png", ("clip", 0)),
        (r"^(\w+)-(\d+)?", "clip-.png", ("clip", 0)),
        (r"^(\w*)-(\d+)", "-5.png", None),
        (None, "P07_V1-1_F0013.jpg", None),
    ],
)
def test_the_clip_of_a_frame_and_its_number(pattern: str | None, name: str, clip: tuple[str, int] | None):
    data = DataConfig(Path("data.yaml"), Path(), {}, ("AR",), clip_pattern=pattern)
    assert data.clip_of(Path("P99_V9_F9") / name) == data.clip_of(f"P99_V9_F9/{name}") == clip


def test_paths_without_a_path_key_are_relative_to_the_yaml_file(tmp_path: Path):
    assert load_data_config(write_yaml(tmp_path, DATA)).splits["train"] == (tmp_path.resolve() / "images/train",)


def test_labels_are_relative_to_the_yaml_file(tmp_path: Path):
    (tmp_path / "yaml").mkdir()
    path = write_yaml(tmp_path / "yaml", DATA | {"path": "../set", "labels": "../mended", "val": "../lists/val.txt"})
    data = load_data_config(path)
    assert data.labels == (tmp_path / "mended").resolve()
    assert data.splits["val"] == (tmp_path.resolve() / "lists/val.txt",)  # without the ".."
    assert load_data_config(write_yaml(tmp_path, DATA)).labels is None


def test_absolute_paths_stay(tmp_path: Path):
    data = load_data_config(write_yaml(tmp_path, DATA | {"path": "/sets/echo", "val": "/elsewhere/val.txt"}))
    assert data.splits == {"train": (Path("/sets/echo/images/train"),), "val": (Path("/elsewhere/val.txt"),)}


@pytest.mark.parametrize(
    "names", [["AR", "MR"], {0: "AR", 1: "MR"}, {1: "MR", 0: "AR"}], ids=["list", "numbered", "numbered, any order"]
)
def test_names_as_list_or_numbered(tmp_path: Path, names: object):
    assert load_data_config(write_yaml(tmp_path, DATA | {"names": names})).names == ("AR", "MR")


def test_nc_and_views_may_be_left_out(tmp_path: Path):
    data = load_data_config(write_yaml(tmp_path, {k: DATA[k] for k in ("train", "val", "names")}))
    assert (data.names, data.view_names, data.group_pattern) == (("AR", "MR"), (), None)
    assert "test" not in data.splits


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param({"nc": 3}, "nc is 3 but names lists 2", id="nc too large"),
        pytest.param({"nc": "two"}, "nc is two", id="nc in words"),
        pytest.param({"train": None}, "'train' is missing", id="no train"),
        pytest.param({"val": None}, "'val' is missing", id="no val"),
        pytest.param({"names": None}, "'names' is missing", id="no names"),
        pytest.param({"names": "AR"}, "names is 'AR'", id="one name"),
        pytest.param({"names": {1: "AR", 2: "MR"}}, r"names has numbers \[1, 2\]", id="numbered from 1"),
        pytest.param({"names": {0: "AR", "x": "MR"}}, "names", id="numbered with a letter"),
        pytest.param({"names": ["AR", "AR"]}, "names repeats", id="names twice"),
        pytest.param({"cls_names": "A4C"}, "cls_names is 'A4C'", id="one view"),
        pytest.param({"train": 3}, "train is 3", id="train a number"),
        pytest.param({"train": {"a": "b"}}, "train is", id="train a mapping"),
        pytest.param({"path": 3}, "path", id="path a number"),
        pytest.param({"labels": ["a"]}, "labels", id="labels a list"),
        pytest.param({"generate": ["x"]}, "generate", id="generate a list"),
        pytest.param({"group_pattern": "(P"}, "group_pattern '.P' is not a regular expression", id="open parenthesis"),
        pytest.param({"group_pattern": "P"}, "group_pattern 'P' has 0 groups", id="no group"),
        pytest.param({"group_pattern": 3}, "group_pattern 3", id="pattern a number"),
        pytest.param({"clip_pattern": "(P)"}, "clip_pattern '.P.' has 1 groups", id="one group of two"),
    ],
)
def test_a_wrong_data_yaml_names_file_and_key(tmp_path: Path, change: dict, found: str):
    path = write_yaml(tmp_path, DATA | change)
    with pytest.raises(UserError, match=found) as error:
        load_data_config(path)
    assert str(path) in str(error.value)


def test_an_unknown_key_warns_and_names_the_nearest(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    load_data_config(write_yaml(tmp_path, DATA | {"group_patern": "(P)"}))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "'group_patern'" in record.message and "did you mean 'group_pattern'" in record.message


@pytest.mark.parametrize("load", [load_data_config, load_hyperparameters])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param(b"", id="empty"),
        pytest.param(b"- a\n- b\n", id="a list"),
        pytest.param(b"just words", id="words"),
        pytest.param(b"a: [1\nb: 2", id="open bracket"),
        pytest.param(b"a: b: c", id="two colons"),
        pytest.param(b"\xff\xfea", id="not UTF-8"),
        pytest.param(b"lr0: !!python/object/apply:os.getcwd []", id="would execute"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, load, content: bytes | None):
    path = tmp_path / "file.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("path", sorted((ROOT / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_our_own_data_files_load(path: Path, caplog: pytest.LogCaptureFixture):
    data = load_data_config(path)
    assert not caplog.records
    assert len(data.names) == 4 and len(data.view_names) == 3
    assert data.group_of("P07_V1-1_F0003.jpg") == "P07"
    assert ROOT / "datasets" in data.root.parents  # git-ignored
