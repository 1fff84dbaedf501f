"""The options of the training scripts as frozen dataclasses, their checks, and the parser that they share."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from utils.core.hyperparameters import HYP_CHOICES, RATE_RANGES, HyperParameters
from utils.core.names import TASKS
from utils.core.script import LOGGER, UserError

USUAL_CONFIDENCE = (
    0.25  # YOLOv5's, for boxes of a model without a threshold chosen on validation frames
)
GRADNORM_KEYS = (
    "gradnorm_alpha",
    "gradnorm_interval",
    "gradnorm_rule",
    "gradnorm_place",
)  # that have an option
INITIAL_WEIGHTS = ("initial_detection_weight", "initial_classification_weight")
CACHE_MODES = ("auto", "ram", "disk", "off")

# YOLOv5's sizes: depth multiple, width multiple
SIZES = {
    "n": (0.33, 0.25),
    "s": (0.33, 0.50),
    "m": (0.67, 0.75),
    "l": (1.0, 1.0),
    "x": (1.33, 1.25),
}


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
                raise UserError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}, expected at least 1"
                )
        if self.workers < -1:
            raise UserError(
                f"--workers is {self.workers}, expected at least 0, or -1 for as many as there are cores"
            )
        for name in ("seed", "freeze"):
            if getattr(self, name) < 0:
                raise UserError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}, expected at least 0"
                )
        for name in ("cfg", "data", "hyp", "device", "amp"):
            if not getattr(self, name):
                raise UserError(f"--{name} is empty; leave it out for {getattr(type(self), name)}")
        if self.save_period < 1 and self.save_period != -1:
            raise UserError(
                f"--save-period is {self.save_period}, expected at least 1 (epochs), or -1 for never"
            )
        if self.download and not self.weights:
            raise UserError("--download: nothing to fetch; say what, e.g. --weights yolov5s.pt")
        if self.size and self.size not in SIZES:
            raise UserError(f"--size is {self.size!r}, expected one of {', '.join(SIZES)}")
        if self.imgsz % 32:
            nearest = max(32, round(self.imgsz / 32) * 32)
            raise UserError(
                f"--imgsz is {self.imgsz}, expected a multiple of 32 (the stride), e.g. {nearest}"
            )

    def without_effect(self, hyp: HyperParameters) -> dict[str, str]:
        """Options, and keys of the hyp file, that change nothing -> because of what."""
        idle = {}
        if hyp.patience >= self.epochs:
            idle["patience"] = f"--epochs {self.epochs}"
        if self.noval:
            idle["patience"] = "--noval"
        if self.save_period > self.epochs:
            idle["save_period"] = f"--epochs {self.epochs}"
        return idle


@dataclass(frozen=True)
class JointOptions(TrainOptions):
    """The options of the joint model's script.

    Attributes:
        tasks: that the model has a head for; one alone is the single-task reference.
        diagnose_interval: batches between two measurements of the gradients' interference; 0:
            never.
    """

    tasks: list[str] = dataclasses.field(default_factory=lambda: list(TASKS))
    diagnose_interval: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (
            not self.tasks
            or len(set(self.tasks)) < len(self.tasks)
            or not set(self.tasks) <= set(TASKS)
        ):
            raise UserError(f"--tasks is {' '.join(self.tasks)}, expected {' and/or '.join(TASKS)}")
        if self.diagnose_interval < 0:
            raise UserError(
                f"--diagnose-interval is {self.diagnose_interval}, expected at least 0 (0: never)"
            )
        if self.diagnose_interval and len(self.tasks) < len(TASKS):
            raise UserError(
                f"--diagnose-interval: --tasks {self.tasks[0]} has nothing to interfere with; leave it out"
            )

    def without_effect(self, hyp: HyperParameters) -> dict[str, str]:
        idle = super().without_effect(hyp)
        if hyp.balancer != "gradnorm":
            idle |= dict.fromkeys(GRADNORM_KEYS, f"the balancer {hyp.balancer}")
        if hyp.balancer not in ("gradnorm", "fixed"):
            idle |= dict.fromkeys(INITIAL_WEIGHTS, f"the balancer {hyp.balancer}")
        if len(self.tasks) == 1:
            alone = f"--tasks {self.tasks[0]}, which has no other loss to be balanced with"
            idle |= dict.fromkeys(("balancer", *GRADNORM_KEYS, *INITIAL_WEIGHTS), alone)
        if "detection" not in self.tasks:
            idle["autoanchor"] = "--tasks classification"
        if "classification" not in self.tasks:
            idle["view_loss_weights"] = "--tasks detection"
        return idle


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
            raise UserError(
                f"--classification-start-epoch is {start}, expected 0 to {self.epochs - 1} (--epochs - 1)"
            )
        if count != -1 and not 1 <= count <= self.epochs - start:
            raise UserError(
                f"--classification-epochs is {count}, expected 1 to {self.epochs - start}, which are left of "
                f"--epochs {self.epochs}; to leave the classifier out, --freeze-task classification"
            )
        frozen = set(self.freeze_task)
        if frozen == set(TASKS):
            raise UserError(
                "--freeze-task detection and classification: nothing is left to train; freeze one"
            )
        if frozen and (start, count) not in ((0, -1), (0, self.epochs)):
            raise UserError(
                f"--freeze-task {self.freeze_task[0]} goes with neither --classification-start-epoch nor "
                "--classification-epochs: one network alone trains in all --epochs; leave one of them out"
            )
        if self.autoanchor and "detection" in frozen:
            raise UserError(
                "--autoanchor changes the detection network, which --freeze-task detection leaves as it is"
            )

    def without_effect(self, hyp: HyperParameters) -> dict[str, str]:
        idle = super().without_effect(hyp)
        for task in self.freeze_task:
            idle |= dict.fromkeys(
                (f"{task}_{name}" for name in RATE_RANGES), f"--freeze-task {task}"
            )
        if "detection" in self.freeze_task:
            idle["freeze"] = "--freeze-task detection"
        if "classification" in self.freeze_task:
            idle["view_loss_weights"] = "--freeze-task classification"
        return idle

    def trained_epochs(self, task: str) -> range:
        """The epochs in which `task`'s network trains."""
        if task in self.freeze_task:
            return range(0)
        if task == "detection":
            return range(self.epochs)
        start, count = self.classification_start_epoch, self.classification_epochs
        return range(start, self.epochs if count == -1 else start + count)


def filled(text: str) -> str:
    """An argument that must not be empty, as one from an unset variable of a shell is."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; give a value, or leave the option out")
    return text


def training_parser(
    description: str, options: type[TrainOptions] = TrainOptions
) -> argparse.ArgumentParser:
    """The options that every training script has, with YOLOv5's names and the defaults of `options`.

    Options left out are absent from the parsed namespace, so that "given" and "default" can be told
    apart.
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

    add(
        "--weights",
        "checkpoint of this project, or of the public YOLOv5, whose matching tensors to start from",
    )
    add(
        "--download",
        "fetch --weights yolov5{n,s,m,l,x}.pt from YOLOv5's release if missing",
        action="store_true",
    )
    add("--cfg", "model YAML")
    add(
        "--size",
        "YOLOv5's n, s, m, l or x, in place of the depth and width in --cfg",
        choices=tuple(SIZES),
    )
    add(
        "--autoanchor",
        "fit anchors to the training boxes, and take them if they are better",
        action="store_true",
    )
    add("--data", "data.yaml")
    add("--hyp", "hyper-parameter YAML; YOLOv5's load unchanged")
    add("--epochs", "how often to go through the training images")
    add("--batch-size", "images a batch")
    add("--imgsz", "side of the square that images are fitted into, pixels; a multiple of 32")
    add("--device", "auto, cpu, or a CUDA device's number")
    add(
        "--workers",
        "loader processes, where images are not cached in memory; -1: as many as cores, at most 8",
    )
    add("--project", "folder of run folders")
    add("--name", "name of the run folder; a number is added if it exists")
    add("--exist-ok", "write into an existing run folder", action="store_true")
    add("--seed", "of initial weights and data order")
    add(
        "--save-period",
        "keep a checkpoint every so many epochs, in addition to last and best; -1: never",
    )
    add("--noval", "validate after the last epoch only", action="store_true")
    add(
        "--cache",
        "of letterboxed images; ram: in memory; disk: in the user's cache folder; off; auto: ram if it fits",
        choices=CACHE_MODES,
    )
    add("--freeze", "do not train the first so many layers")
    add("--amp", "auto, off (float32, contiguous), bf16 or fp16 (CUDA)")
    add(
        "--rect",
        "cut off the grey border that no frame needs, down to a multiple of 32",
        action="store_true",
    )
    add(
        "--sync-bn",
        "batch-norm statistics over all processes (torchrun, CUDA)",
        action="store_true",
    )
    add("--compile", "compile the network; the first batches take minutes", action="store_true")
    add("--skip-bad-labels", "leave out frames whose label file is wrong", action="store_true")
    add("--tensorboard", "write event files for TensorBoard, an extra package", action="store_true")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=None,
        type=filled,
        metavar="LAST.PT",
        help="go on with a run (the newest)",
    )
    hyp = parser.add_argument_group("hyper-parameters, over the hyp file's")
    hyp.add_argument("--optimizer", choices=HYP_CHOICES["optimizer"])
    hyp.add_argument(
        "--cos-lr", action=argparse.BooleanOptionalAction, help="cosine decay rather than linear"
    )
    hyp.add_argument(
        "--sampler", choices=HYP_CHOICES["sampler"], help="draw every view, or group, equally often"
    )
    hyp.add_argument(
        "--view-loss-weights",
        choices=HYP_CHOICES["view_loss_weights"],
        help="inverse: the rarer a view, the more its frames count in the training loss",
    )
    hyp.add_argument(
        "--patience", type=int, help="stop after so many epochs without a better fitness; 0: never"
    )
    return parser


def usual_confidence() -> float:
    """YOLOv5's, and a word that it is taken; for a model without a threshold of its own."""
    LOGGER.warning(
        f"no confidence was chosen for this model's boxes: the usual {USUAL_CONFIDENCE} is taken"
    )
    return USUAL_CONFIDENCE


def warn_without_effect(given: Iterable[str], idle: Mapping[str, str]) -> None:
    """Say which of the options `given` change nothing.

    Args:
        given: names of options, with underscores.
        idle: name -> because of what it changes nothing.
    """
    for name in sorted(idle.keys() & set(given)):
        LOGGER.warning(f"warning: --{name.replace('_', '-')} has no effect beside {idle[name]}")


def given_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> set[str]:
    """The names of the arguments that have another value than their default."""
    return {name for name, value in vars(args).items() if value != parser.get_default(name)}


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
