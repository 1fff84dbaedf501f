"""The options of the training scripts as frozen dataclasses, and their parser."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from utils.core.arguments import (
    MOST_ASKED_WORKERS,
    MOST_SIDE,
    WORKERS,
    filled,
    problem_of_side,
    script_parser,
)
from utils.core.hyperparameters import NETWORK_RATES, RATES, HyperParameters
from utils.core.names import TASKS
from utils.core.script import LOGGER, UserError
from utils.core.settings import (
    MANY,
    add_argument,
    default_of,
    option_name,
    problem_of,
    setting,
    shown,
)

# YOLOv5's, for boxes of a model without a threshold chosen on validation frames
USUAL_CONFIDENCE = 0.25
# GradNorm's keys that are options, too
GRADNORM_KEYS = ("gradnorm_alpha", "gradnorm_interval", "gradnorm_rule", "gradnorm_place")
INITIAL_WEIGHTS = ("initial_detection_weight", "initial_classification_weight")
BALANCE_KEYS = ("balancer", *GRADNORM_KEYS, *INITIAL_WEIGHTS)
CACHE_MODES = ("auto", "ram", "disk", "off")
INDEX_MODES = ("auto", "trust", "rebuild", "off")
AT_LEAST_1 = (1, MANY)
AT_LEAST_0 = (0, MANY)

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
    """The options of a training script that are not hyper-parameters, by their names there."""

    weights: str = setting(
        "", "checkpoint of this project, or of the public YOLOv5, to start from: what matches"
    )
    download: bool = setting(
        False, "fetch --weights yolov5{n,s,m,l,x}.pt from YOLOv5's release if missing"
    )
    cfg: str = setting("models/yolov5s_joint.yaml", "model YAML", refuses_empty=True)
    size: str = setting(
        "", "YOLOv5's size, in place of the depth and width in the model YAML", choices=tuple(SIZES)
    )
    autoanchor: bool = setting(
        False, "fit anchors to the training boxes, and take them if they are better"
    )
    data: str = setting("data/echo_phantom.yaml", "data.yaml", refuses_empty=True)
    hyp: str = setting(
        "hyp/joint_training_rules.yaml",
        "hyper-parameter YAML, or the name of one in hyp/; YOLOv5's load unchanged",
        refuses_empty=True,
    )
    epochs: int = setting(50, "how often to go through the training images", limits=AT_LEAST_1)
    batch_size: int = setting(16, "images a batch", limits=AT_LEAST_1)
    imgsz: int = setting(
        320,
        "side in pixels, a multiple of 32, of the square that images are fitted into",
        limits=(1, MOST_SIDE),
    )
    device: str = setting("auto", "auto, cpu, or a CUDA device's number", refuses_empty=True)
    workers: int = setting(
        -1,
        "loader processes, where images are not cached in memory",
        limits=(0, MOST_ASKED_WORKERS),
        expected=WORKERS,
    )
    project: str = setting("runs/train", "folder of run folders")
    name: str = setting("exp", "name of the run folder; a number is added if it exists")
    exist_ok: bool = setting(False, "write into an existing run folder")
    seed: int = setting(0, "seed of initial weights and data order", limits=AT_LEAST_0)
    save_period: int = setting(
        -1,
        "keep a checkpoint every so many epochs, in addition to last and best",
        limits=AT_LEAST_1,
        expected="at least 1 (epochs), or -1 for never",
    )
    noval: bool = setting(False, "validate after the last epoch only")
    cache: str = setting(
        "auto",
        "cache of letterboxed images; ram: in memory; disk: in the user's cache folder; "
        "auto: ram if it fits",
        choices=CACHE_MODES,
    )
    index: str = setting(
        "auto",
        "index of what image and label files hold, in the user's cache folder; auto: read again "
        "what has changed; trust: look at no file before its use; rebuild: read all; "
        "off: keep none",
        choices=INDEX_MODES,
    )
    freeze: int = setting(0, "do not train the first so many layers", limits=AT_LEAST_0)
    amp: str = setting(
        "auto",
        "how to compute: auto, off (float32, contiguous), bf16 or fp16 (CUDA)",
        refuses_empty=True,
    )
    skip_bad_labels: bool = setting(False, "leave out frames whose label file is wrong")
    rect: bool = setting(
        False, "cut off the grey border that no frame needs, down to a multiple of 32"
    )
    sync_bn: bool = setting(False, "batch-norm statistics over all processes (torchrun, CUDA)")
    compile: bool = setting(False, "compile the network; the first batches take minutes")
    tensorboard: bool = setting(False, "write event files for TensorBoard, an extra package")
    report: bool = setting(False, "write report.html at the end, a page to look at the run with")

    # Title of a group of options -> the hyper-parameters in it
    hyp_options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "hyper-parameters, over the hyp file's": (
            "optimizer",
            "cos_lr",
            "sampler",
            "view_loss_weights",
            "patience",
        )
    }

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            problem = problem_of(field, getattr(self, field.name))
            if problem:
                raise UserError(f"{option_name(field.name)} {problem}")
        if self.download and not self.weights:
            raise UserError("--download: nothing to fetch; say what, e.g. --weights yolov5s.pt")
        problem = problem_of_side(self.imgsz)
        if problem:
            raise UserError(f"--imgsz {problem}")

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
    """The options of the joint model's script."""

    tasks: list[str] = setting(
        list(TASKS),
        "tasks that the model has a head for; one alone is the single-task reference",
        choices=TASKS,
        arguments={"nargs": "+", "metavar": "TASK"},
    )
    diagnose_interval: int = setting(
        0,
        "batches between two measurements of the gradients' interference",
        limits=AT_LEAST_0,
        expected="at least 0 (0: never)",
        arguments={"metavar": "N"},
    )

    hyp_options = TrainOptions.hyp_options | {
        "the balance of the two losses, over the hyp file's": BALANCE_KEYS,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        is_repeated = len(set(self.tasks)) < len(self.tasks)
        if not self.tasks or is_repeated or not set(self.tasks) <= set(TASKS):
            raise UserError(f"--tasks is {' '.join(self.tasks)}, expected {' and/or '.join(TASKS)}")
        if self.diagnose_interval and len(self.tasks) < len(TASKS):
            raise UserError(
                f"--diagnose-interval: --tasks {self.tasks[0]} has nothing to interfere with; "
                "leave it out"
            )

    def without_effect(self, hyp: HyperParameters) -> dict[str, str]:
        idle = super().without_effect(hyp)
        if hyp.balancer != "gradnorm":
            idle |= dict.fromkeys(GRADNORM_KEYS, f"the balancer {hyp.balancer}")
        if hyp.balancer not in ("gradnorm", "fixed"):
            idle |= dict.fromkeys(INITIAL_WEIGHTS, f"the balancer {hyp.balancer}")
        if len(self.tasks) == 1:
            alone = f"--tasks {self.tasks[0]}, which has no other loss to be balanced with"
            idle |= dict.fromkeys(BALANCE_KEYS, alone)
        if "detection" not in self.tasks:
            idle["autoanchor"] = "--tasks classification"
        if "classification" not in self.tasks:
            idle["view_loss_weights"] = "--tasks detection"
        return idle


@dataclass(frozen=True)
class DualOptions(TrainOptions):
    """The options of the dual backbone's script."""

    cfg: str = setting("models/yolov5s.yaml", "the detector's model YAML", refuses_empty=True)
    hyp: str = setting(
        "hyp/dual_backbone_rules.yaml",
        "hyper-parameter YAML, or the name of one in hyp/; YOLOv5's load unchanged",
        refuses_empty=True,
    )
    classifier_cfg: str = setting(
        "models/view_classifier.yaml", "the classifier's model YAML", refuses_empty=True
    )
    freeze_task: list[str] = setting(
        [],
        "leave this task's network as it is",
        choices=TASKS,
        arguments={"action": "append"},
    )
    classification_start_epoch: int = setting(
        0,
        "epochs that the classifier is idle before it trains",
        expected="at least 0, below --epochs",
        arguments={"metavar": "N"},
    )
    classification_epochs: int = setting(
        -1,
        "epochs that it then trains",
        expected="at least 1, at most what is left of --epochs, or -1 for all of that",
        arguments={"metavar": "N"},
    )

    hyp_options = TrainOptions.hyp_options | {
        "each network's rates, over the hyp file's": NETWORK_RATES,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        start, count = self.classification_start_epoch, self.classification_epochs
        if not 0 <= start < self.epochs:
            raise UserError(
                f"--classification-start-epoch is {start}, expected 0 to {self.epochs - 1} "
                "(--epochs - 1)"
            )
        if count != -1 and not 1 <= count <= self.epochs - start:
            raise UserError(
                f"--classification-epochs is {count}, expected 1 to {self.epochs - start}, "
                f"which are left of --epochs {self.epochs}; to leave the classifier out, "
                "--freeze-task classification"
            )
        frozen = set(self.freeze_task)
        if frozen == set(TASKS):
            raise UserError(
                "--freeze-task detection and classification: nothing is left to train; freeze one"
            )
        if frozen and (start, count) not in ((0, -1), (0, self.epochs)):
            raise UserError(
                f"--freeze-task {self.freeze_task[0]} goes with neither "
                "--classification-start-epoch nor --classification-epochs: "
                "one network alone trains in all --epochs; leave one of them out"
            )
        if self.autoanchor and "detection" in frozen:
            raise UserError(
                "--autoanchor changes the detection network, "
                "which --freeze-task detection leaves as it is"
            )

    def without_effect(self, hyp: HyperParameters) -> dict[str, str]:
        idle = super().without_effect(hyp)
        for task in self.freeze_task:
            rates = [f"{task}_{name}" for name in RATES]
            idle |= dict.fromkeys(rates, f"--freeze-task {task}")
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
        start = self.classification_start_epoch
        if self.classification_epochs == -1:
            return range(start, self.epochs)
        return range(start, start + self.classification_epochs)


def training_parser(
    description: str | None, options: type[TrainOptions] = TrainOptions
) -> argparse.ArgumentParser:
    """The options of a training script: the fields of `options`, and some of the hyp file's keys.

    Options left out are absent from the parsed namespace, so that "given" and "default" can be told
    apart.
    """
    parser = script_parser(description, argument_default=argparse.SUPPRESS)
    for field in dataclasses.fields(options):
        add_argument(parser, options, field.name)
    parser.add_argument(
        "--resume",
        nargs="?",
        const=None,
        type=filled,
        metavar="RUN",
        help="go on with an unfinished run: its folder or weights/last.pt (without one: the newest "
        "below --project), on the same data and with the options that it started with; refused are "
        "a finished run, best.pt and epochN.pt, an older version's file, and options other than "
        "--device, --workers, --index and --project; auto: begin the run --project/--name, or go "
        "on with it if it was begun by the same options",
    )
    for title, names in options.hyp_options.items():
        group = parser.add_argument_group(title)
        for name in names:
            add_argument(group, HyperParameters, name, default=_default_beside_a_file(name))
    return parser


def _default_beside_a_file(name: str) -> str:
    """Where a hyper-parameter is from that is not given as an option."""
    own = shown(default_of(HyperParameters.__dataclass_fields__[name]))
    if own:
        return f"the hyp file's, or {own} where it has none"
    return "the hyp file's"


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
        LOGGER.warning(f"warning: {option_name(name)} has no effect beside {idle[name]}")


def split_arguments(
    given: Mapping[str, object], kind: type[TrainOptions] = TrainOptions
) -> tuple[TrainOptions, dict[str, object]]:
    """Parsed arguments -> the options, of type `kind`, and what lies over the hyp file."""
    names = {field.name for field in dataclasses.fields(kind)}
    options = {key: value for key, value in given.items() if key in names}
    return kind(**options), {key: value for key, value in given.items() if key not in names}
