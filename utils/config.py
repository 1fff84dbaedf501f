"""Frozen dataclasses for what a user sets: the data set, the hyper-parameters, a training's options.

Every loader checks names and types and raises `UserError` with the file, what was found and the mend.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from utils.general import LOGGER, TASKS, UserError

CACHE_MODES = ("auto", "ram", "disk", "off")
BALANCERS = (
    *("gradnorm", "fixed"),
    *("uw", "dwa", "pcgrad", "upgrad", "mgda", "imtl-g", "aligned-mtl", "cagrad"),  # by TorchJD, an optional extra
)
# YOLOv5's sizes: depth multiple, width multiple
SIZES = {"n": (0.33, 0.25), "s": (0.33, 0.50), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
AUGMENTATION_KEYS = (
    *("hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective"),
    *("flipud", "fliplr", "mosaic", "mixup", "gamma"),
)


@dataclass(frozen=True)
class DataConfig:
    """A data.yaml with its paths resolved.

    Attributes:
        source: the YAML file.
        splits: "train", "val" and perhaps "test" -> folders of images or .txt lists of images.
        names: box classes, by class number.
        view_names: the one-hot columns of the view line, in order; empty if the data has no views.
        group_pattern: regular expression on the file name; its first group must not cross splits.
        clip_pattern: regular expression on the file name; its groups are the clip and the frame number.
        generate: the generator that makes the data on first use, or None.
        root: the data set's folder.
        labels: folder of label files that mirrors `root` (the label of root/a/b.jpg is labels/a/b.txt), or None
            where labels lie beside the images by YOLOv5's convention; see `utils.dataloaders.label_path`.
    """

    source: Path
    root: Path
    splits: dict[str, tuple[Path, ...]]
    names: tuple[str, ...]
    view_names: tuple[str, ...] = ()
    group_pattern: str | None = None
    clip_pattern: str | None = None
    generate: str | None = None
    labels: Path | None = None

    def group_of(self, path: str | Path) -> str:
        """The patient (or whatever the pattern names) of an image; the image itself where it names none."""
        match = re.search(self.group_pattern, Path(path).name) if self.group_pattern else None
        return match.group(1) if match else str(path)

    def clip_of(self, path: str | Path) -> tuple[str, int] | None:
        """A frame's clip and its number there (0 where the pattern finds no number); None where it finds no clip."""
        match = re.search(self.clip_pattern, Path(path).name) if self.clip_pattern else None
        if not match or not match.group(1):
            return None
        number = match.group(2) or ""
        return match.group(1), int(number) if number.isdecimal() else 0


DATA_KEYS = (
    *("path", "train", "val", "test", "labels", "nc", "names", "cls_names"),
    *("group_pattern", "clip_pattern", "generate"),
)


def load_data_config(path: str | Path) -> DataConfig:
    """Read a data.yaml; unknown keys are warned about.

    Raises:
        UserError: missing file or keys, names that do not fit nc, a pattern that is not one.
    """
    path = Path(path)
    content = read_yaml_mapping(path, "--data takes a data.yaml, e.g. data/echo_phantom.yaml")
    for key in content.keys() - set(DATA_KEYS):
        LOGGER.warning(f"warning: {path}: unknown key '{key}' is ignored{_nearest(key, DATA_KEYS)}")
    for key in ("train", "val", "names"):
        if content.get(key) is None:
            raise UserError(f"{path}: key '{key}' is missing; a data.yaml needs train, val and names")
    for key in ("path", "labels", "generate"):
        if not isinstance(content.get(key), str | None):
            raise UserError(f"{path}: {key} is {content[key]!r}, expected text")
    names = _names(content["names"], "names", path)
    if content.get("nc", len(names)) != len(names):
        raise UserError(f"{path}: nc is {content['nc']} but names lists {len(names)}; make them agree")
    root = (path.parent / (content.get("path") or ".")).resolve()
    splits = {
        split: tuple(Path(os.path.normpath(root / entry)) for entry in _strings(content[split], split, path))
        for split in ("train", "val", "test")
        if content.get(split)
    }
    return DataConfig(
        source=path,
        root=root,
        splits=splits,
        names=names,
        view_names=_names(content.get("cls_names") or (), "cls_names", path),
        group_pattern=_pattern(content, "group_pattern", 1, path),
        clip_pattern=_pattern(content, "clip_pattern", 2, path),
        generate=content.get("generate"),
        labels=(path.parent / content["labels"]).resolve() if content.get("labels") else None,
    )


def read_yaml_mapping(path: Path, hint: str) -> dict:
    """The mapping in a YAML file.

    Raises:
        UserError: no such file, not YAML, or not a mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {hint}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: found {type(content).__name__}, expected 'key: value' lines; {hint}")
    return content


def _names(value: object, key: str, path: Path) -> tuple[str, ...]:
    if isinstance(value, dict):
        if set(value) != set(range(len(value))):
            raise UserError(f"{path}: {key} has numbers {list(value)}, expected 0 to {len(value) - 1}")
        value = [value[number] for number in range(len(value))]
    if not isinstance(value, list | tuple):
        raise UserError(f"{path}: {key} is {value!r}, expected a list of names")
    names = tuple(str(name) for name in value)
    if len(set(names)) != len(names):
        raise UserError(f"{path}: {key} repeats a name: {list(names)}; every name must differ")
    return names


def _strings(value: object, key: str, path: Path) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise UserError(f"{path}: {key} is {value!r}, expected a folder or .txt list, or several in a list")
    return entries


def _pattern(content: Mapping, key: str, groups: int, path: Path) -> str | None:
    pattern = content.get(key)
    if pattern is None:
        return None
    try:
        found = re.compile(pattern).groups
    except (re.error, TypeError) as error:
        raise UserError(f"{path}: {key} {pattern!r} is not a regular expression: {error}") from None
    if found < groups:
        raise UserError(f"{path}: {key} {pattern!r} has {found} groups in parentheses, expected {groups}")
    return pattern


@dataclass(frozen=True)
class HyperParameters:
    """YOLOv5's hyper-parameters and ours; see hyp/joint_training_rules.yaml.

    The defaults are YOLOv5's, but for augmentation, which is off.
    """

    # Optimisation
    optimizer: str = "SGD"
    cos_lr: bool = False
    lr0: float = 0.01
    lrf: float = 0.01
    momentum: float = 0.937
    weight_decay: float = 0.0005
    warmup_epochs: float = 3.0
    warmup_momentum: float = 0.8
    warmup_bias_lr: float = 0.1
    nominal_batch_size: int | None = 64
    gradient_clip: float = 10.0
    patience: int = 100
    # Detection loss
    box: float = 0.05
    cls: float = 0.5
    cls_pw: float = 1.0
    obj: float = 1.0
    obj_pw: float = 1.0
    iou_t: float = 0.2
    anchor_t: float = 4.0
    anchors: float | None = None
    fl_gamma: float = 0.0
    label_smoothing: float = 0.0
    # Augmentation (YOLOv5's keys, and gamma)
    hsv_h: float = 0.0
    hsv_s: float = 0.0
    hsv_v: float = 0.0
    degrees: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0
    flipud: float = 0.0
    fliplr: float = 0.0
    mosaic: float = 0.0
    mixup: float = 0.0
    copy_paste: float = 0.0
    gamma: float = 0.0
    # The joint task
    classification_required: bool = True
    sampler: str = "shuffle"
    view_loss_weights: str = "equal"
    initial_detection_weight: float = 1.0
    initial_classification_weight: float = 0.01
    balancer: str = "gradnorm"
    gradnorm_rule: str = "gradient"
    gradnorm_place: str = "features"
    gradnorm_alpha: float = 1.5
    gradnorm_interval: int = 10
    gradnorm_lr: float = 0.025
    gradnorm_momentum: float = 0.9
    gradnorm_min_share: float = 0.01
    weight_sum: float | None = None
    # The dual backbone: a network's own rates; None takes the common key
    detection_lr0: float | None = None
    detection_lrf: float | None = None
    detection_weight_decay: float | None = None
    detection_warmup_epochs: float | None = None
    classification_lr0: float | None = None
    classification_lrf: float | None = None
    classification_weight_decay: float | None = None
    classification_warmup_epochs: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in HYP_CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(allowed)}")
        for name, (low, high) in HYP_RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UserError(f"{name} is {value}, expected a value from {low} to {high}")
        if self.fl_gamma:
            raise UserError(f"fl_gamma is {self.fl_gamma}: focal loss is not implemented; set fl_gamma: 0.0")
        if (self.sampler, self.view_loss_weights) == ("views", "inverse"):
            raise UserError("sampler views and view_loss_weights inverse balance the views twice; use one of them")

    @property
    def network_rates(self) -> dict[str, float]:
        """The keys that set a rate of one network of the dual backbone, and their values."""
        keys = (f"{task}_{name}" for task in TASKS for name in RATE_RANGES)
        return {key: getattr(self, key) for key in keys if getattr(self, key) is not None}

    def of_network(self, task: str) -> HyperParameters:
        """With the rates of `task`'s network, where they are set, in place of the common ones."""
        own = {name: getattr(self, f"{task}_{name}") for name in RATE_RANGES}
        return dataclasses.replace(self, **{name: value for name, value in own.items() if value is not None})

    @property
    def augmentation(self) -> dict[str, float]:
        """The augmentation that is on; see `utils.augment`."""
        return {key: getattr(self, key) for key in AUGMENTATION_KEYS if getattr(self, key)}

    @property
    def not_applied(self) -> dict[str, float]:
        """The keys that ask for what is not done: pasting needs outlines, and fitted anchors have an option."""
        return {key: getattr(self, key) for key in ("copy_paste", "anchors") if getattr(self, key)}


_TINY, _HUGE = 1e-12, 1e12
HYP_CHOICES = {
    "optimizer": ("SGD", "Adam", "AdamW"),
    "balancer": BALANCERS,
    "gradnorm_rule": ("gradient", "equilibrium"),
    "gradnorm_place": ("features", "weights"),
    "sampler": ("shuffle", "views", "groups"),
    "view_loss_weights": ("equal", "inverse"),
}
RATE_RANGES = {
    "lr0": (_TINY, _HUGE),
    "lrf": (0, 1),
    "weight_decay": (0, _HUGE),
    "warmup_epochs": (0, _HUGE),
}
HYP_RANGES = {
    **RATE_RANGES,
    **{f"{task}_{name}": limits for task in TASKS for name, limits in RATE_RANGES.items()},
    "momentum": (0, 0.9999),
    "warmup_momentum": (0, 0.9999),
    "warmup_bias_lr": (0, _HUGE),
    "nominal_batch_size": (1, 1e9),
    "gradient_clip": (_TINY, _HUGE),
    "patience": (0, 1e9),
    "box": (0, _HUGE),
    "cls": (0, _HUGE),
    "obj": (0, _HUGE),
    "cls_pw": (_TINY, _HUGE),
    "obj_pw": (_TINY, _HUGE),
    "anchor_t": (1 + 1e-6, _HUGE),
    "label_smoothing": (0, 0.999),
    **dict.fromkeys(("hsv_h", "hsv_s", "hsv_v", "flipud", "fliplr", "mosaic", "mixup", "copy_paste"), (0, 1)),
    "degrees": (0, 180),
    "translate": (0, 1),
    "scale": (0, 0.99),
    "shear": (0, 89),
    "perspective": (0, 0.001),
    "gamma": (0, 3),
    "initial_detection_weight": (_TINY, _HUGE),
    "initial_classification_weight": (_TINY, _HUGE),
    "gradnorm_alpha": (0, 100),
    "gradnorm_interval": (1, 1e9),
    "gradnorm_lr": (_TINY, 1),
    "gradnorm_momentum": (0, 0.9999),
    "gradnorm_min_share": (1e-6, 0.49),
    "weight_sum": (_TINY, _HUGE),
}


def load_hyperparameters(path: str | Path, overrides: Mapping[str, object] | None = None) -> HyperParameters:
    """Read a hyp file (YOLOv5's load unchanged) and lay `overrides` that are not None over it.

    Raises:
        UserError: an unknown key (with the nearest valid one), a value of the wrong type or out of range.
    """
    path = Path(path)
    content = read_yaml_mapping(path, "--hyp takes a hyp file, e.g. hyp/joint_training_rules.yaml")
    try:
        from_file = from_mapping(HyperParameters, content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    return from_mapping(HyperParameters, to_mapping(from_file) | given)


def from_mapping(cls: type, content: Mapping[str, object]):
    """Build the dataclass `cls` from plain values, checked and converted by its annotations."""
    annotations = typing.get_type_hints(cls)
    for key in content:
        if key not in annotations:
            raise UserError(f"unknown key '{key}'{_nearest(key, annotations)}")
    return cls(**{key: _convert(key, value, annotations[key]) for key, value in content.items()})


def _nearest(key: object, valid: typing.Iterable[str]) -> str:
    matches = difflib.get_close_matches(str(key), list(valid), n=1, cutoff=0)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def _convert(key: str, value: object, annotation: object) -> object:
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if value is None and types.NoneType in kinds:
        return None
    kind = typing.get_origin(kinds[0]) or kinds[0]
    if kind is float:
        # PyYAML reads 1e-3 (no dot) as a string.
        try:
            if isinstance(value, bool):
                raise ValueError
            return float(value)
        except (TypeError, ValueError):
            raise UserError(f"{key} is {value!r}, expected a number") from None
    if type(value) is not kind:
        raise UserError(f"{key} is {value!r}, expected {kind.__name__}")
    return value


@dataclass(frozen=True)
class TrainOptions:
    """The options of a training script that are not hyper-parameters; names as on the command line."""

    weights: str = ""
    download: bool = False
    cfg: str = "models/yolov5s_joint.yaml"
    size: str = ""
    autoanchor: bool = False
    data: str = "data/echo_phantom.yaml"
    hyp: str = "hyp/joint_training_rules.yaml"
    epochs: int = 50
    batch_size: int = 16
    imgsz: int = 320
    device: str = "auto"
    workers: int = -1
    project: str = "runs/train"
    name: str = "exp"
    exist_ok: bool = False
    seed: int = 0
    save_period: int = -1
    noval: bool = False
    cache: str = "auto"
    freeze: int = 0
    amp: str = "auto"
    skip_bad_labels: bool = False
    rect: bool = False
    sync_bn: bool = False
    compile: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "imgsz"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected at least 1")
        if self.workers < -1:
            raise UserError(f"--workers is {self.workers}, expected at least 0, or -1 for as many as there are cores")
        for name in ("seed", "freeze"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected at least 0")
        if self.download and not self.weights:
            raise UserError("--download: nothing to fetch; say what, e.g. --weights yolov5s.pt")
        if self.size and self.size not in SIZES:
            raise UserError(f"--size is {self.size!r}, expected one of {', '.join(SIZES)}")
        if self.imgsz % 32:
            nearest = max(32, round(self.imgsz / 32) * 32)
            raise UserError(f"--imgsz is {self.imgsz}, expected a multiple of 32 (the stride), e.g. {nearest}")


@dataclass(frozen=True)
class JointOptions(TrainOptions):
    """The options of the joint model's script.

    Attributes:
        tasks: that the model has a head for; one alone is the single-task reference.
        diagnose_interval: batches between two measurements of the gradients' interference; 0: never.
    """

    tasks: list[str] = dataclasses.field(default_factory=lambda: list(TASKS))
    diagnose_interval: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks or len(set(self.tasks)) < len(self.tasks) or not set(self.tasks) <= set(TASKS):
            raise UserError(f"--tasks is {' '.join(self.tasks)}, expected {' and/or '.join(TASKS)}")
        if self.diagnose_interval < 0:
            raise UserError(f"--diagnose-interval is {self.diagnose_interval}, expected at least 0 (0: never)")
        if self.diagnose_interval and len(self.tasks) < len(TASKS):
            raise UserError(f"--diagnose-interval: --tasks {self.tasks[0]} has nothing to interfere with; leave it out")


@dataclass(frozen=True)
class DualOptions(TrainOptions):
    """The options of the dual backbone's script.

    Attributes:
        cfg: the detector's model YAML.
        classifier_cfg: the classifier's.
        freeze_task: tasks whose network rests throughout.
        classification_start_epoch: epochs that the classifier rests before it trains.
        classification_epochs: how many it then trains for; -1: to the end.
    """

    cfg: str = "models/yolov5s.yaml"
    classifier_cfg: str = "models/view_classifier.yaml"
    hyp: str = "hyp/dual_backbone_rules.yaml"
    freeze_task: list[str] = dataclasses.field(default_factory=list)
    classification_start_epoch: int = 0
    classification_epochs: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        start, count = self.classification_start_epoch, self.classification_epochs
        if not 0 <= start < self.epochs:
            raise UserError(f"--classification-start-epoch is {start}, expected 0 to {self.epochs - 1} (--epochs - 1)")
        if count != -1 and not 1 <= count <= self.epochs - start:
            raise UserError(
                f"--classification-epochs is {count}, expected 1 to {self.epochs - start}, which are left of "
                f"--epochs {self.epochs}; to leave the classifier out, --freeze-task classification"
            )
        frozen = set(self.freeze_task)
        if frozen == set(TASKS):
            raise UserError("--freeze-task detection and classification: nothing is left to train; freeze one")
        if frozen and (start, count) not in ((0, -1), (0, self.epochs)):
            raise UserError(
                f"--freeze-task {self.freeze_task[0]} goes with neither --classification-start-epoch nor "
                "--classification-epochs: one network alone trains in all --epochs; leave one of them out"
            )

    def trained_epochs(self, task: str) -> range:
        """The epochs in which `task`'s network trains."""
        if task in self.freeze_task:
            return range(0)
        if task == "detection":
            return range(self.epochs)
        start, count = self.classification_start_epoch, self.classification_epochs
        return range(start, self.epochs if count == -1 else start + count)


def to_mapping(config: object) -> dict[str, object]:
    """A dataclass as plain values, for YAML and checkpoints."""
    return dataclasses.asdict(config)


def training_parser(description: str, options: type[TrainOptions] = TrainOptions) -> argparse.ArgumentParser:
    """The options that every training script has, with YOLOv5's names and the defaults of `options`.

    Options left out are absent from the parsed namespace, so that "given" and "default" can be told apart.
    """
    base = options()
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )

    def add(name: str, text: str, **kwargs: object) -> None:
        default = getattr(base, name[2:].replace("-", "_"))
        if not kwargs.get("action"):
            kwargs.setdefault("type", type(default))
        shown = "" if default in ("", False) else f" (default: {default})"
        parser.add_argument(name, help=text + shown, **kwargs)

    add("--weights", "checkpoint of this project, or of the public YOLOv5, whose matching tensors to start from")
    add("--download", "fetch --weights yolov5{n,s,m,l,x}.pt from YOLOv5's release if missing", action="store_true")
    add("--cfg", "model YAML")
    add("--size", "YOLOv5's n, s, m, l or x, in place of the depth and width in --cfg", choices=tuple(SIZES))
    add("--autoanchor", "fit anchors to the training boxes, and take them if they are better", action="store_true")
    add("--data", "data.yaml")
    add("--hyp", "hyper-parameter YAML; YOLOv5's load unchanged")
    add("--epochs", "how often to go through the training images")
    add("--batch-size", "images a batch")
    add("--imgsz", "side of the square that images are fitted into, pixels; a multiple of 32")
    add("--device", "auto, cpu, or a CUDA device's number")
    add("--workers", "loader processes, where images are not cached in memory; -1: as many as cores, at most 8")
    add("--project", "folder of run folders")
    add("--name", "name of the run folder; a number is added if it exists")
    add("--exist-ok", "write into an existing run folder", action="store_true")
    add("--seed", "of initial weights and data order")
    add("--save-period", "keep a checkpoint every so many epochs, in addition to last and best; -1: never")
    add("--noval", "validate after the last epoch only", action="store_true")
    add(
        "--cache",
        "of letterboxed images; ram: in memory; disk: in the user's cache folder; off; auto: ram if it fits",
        choices=CACHE_MODES,
    )
    add("--freeze", "do not train the first so many layers")
    add("--amp", "auto, off (float32, contiguous), bf16 or fp16 (CUDA)")
    add("--rect", "cut off the grey border that no frame needs, down to a multiple of 32", action="store_true")
    add("--sync-bn", "batch-norm statistics over all processes (torchrun, CUDA)", action="store_true")
    add("--compile", "compile the network; the first batches take minutes", action="store_true")
    add("--skip-bad-labels", "leave out frames whose label file is wrong", action="store_true")
    add("--tensorboard", "write event files for TensorBoard, an extra package", action="store_true")
    parser.add_argument("--resume", nargs="?", const="", metavar="LAST.PT", help="go on with a run (the newest)")
    hyp = parser.add_argument_group("hyper-parameters, over the hyp file's")
    hyp.add_argument("--optimizer", choices=HYP_CHOICES["optimizer"])
    hyp.add_argument("--cos-lr", action=argparse.BooleanOptionalAction, help="cosine decay rather than linear")
    hyp.add_argument("--sampler", choices=HYP_CHOICES["sampler"], help="draw every view, or group, equally often")
    hyp.add_argument(
        "--view-loss-weights",
        choices=HYP_CHOICES["view_loss_weights"],
        help="inverse: the rarer a view, the more its frames count in the training loss",
    )
    hyp.add_argument("--patience", type=int, help="stop after so many epochs without a better fitness; 0: never")
    return parser


def check_thresholds(args: argparse.Namespace) -> None:
    """Raise a `UserError` for a confidence or IoU threshold, where one is given, that is not a share."""
    for name in ("conf_thres", "iou_thres"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}, expected 0 to 1")


def split_arguments(
    given: Mapping[str, object], kind: type[TrainOptions] = TrainOptions
) -> tuple[TrainOptions, dict[str, object]]:
    """Parsed arguments -> the options, of type `kind`, and what lies over the hyp file."""
    names = {field.name for field in dataclasses.fields(kind)}
    options = {key: value for key, value in given.items() if key in names}
    return kind(**options), {key: value for key, value in given.items() if key not in names}
