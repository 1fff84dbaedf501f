"""The hyper-parameters as a frozen dataclass, with ranges and choices, and how a file is read."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from utils.core.files import find_file
from utils.core.names import BALANCERS, GRADNORM_PLACES, GRADNORM_RULES, TASKS
from utils.core.script import UserError
from utils.core.settings import HUGE, MANY, TINY, problem_of, setting, setting_of
from utils.core.values import from_mapping, to_mapping
from utils.core.yaml_reader import read_yaml_mapping

AUGMENTATION_KEYS = (
    "hsv_h",
    "hsv_s",
    "hsv_v",
    "degrees",
    "translate",
    "scale",
    "shear",
    "perspective",
    "flipud",
    "fliplr",
    "mosaic",
    "mixup",
    "gamma",
)
POSITIVE = (TINY, HUGE)
NOT_NEGATIVE = (0, HUGE)
SHARE = (0, 1)
# The keys that each network of the dual backbone can have for itself
RATES = ("lr0", "lrf", "weight_decay", "warmup_epochs")
NETWORK_RATES = tuple(f"{task}_{rate}" for task in TASKS for rate in RATES)


def rate_of(network: str, common: dataclasses.Field) -> typing.Any:
    """The field of a network's own rate, with the range of the common one."""
    declared = setting_of(common)
    text = f"of the {network} alone: {declared.help}"
    return setting(None, text, limits=declared.limits)


@dataclass(frozen=True)
class HyperParameters:
    """YOLOv5's hyper-parameters and ours; see hyp/joint_training_rules.yaml.

    The defaults are YOLOv5's, but for augmentation, which is off.
    """

    # Optimisation
    optimizer: str = setting(
        "SGD", "what changes the weights by the gradients", choices=("SGD", "Adam", "AdamW")
    )
    cos_lr: bool = setting(
        False,
        "cosine decay of the learning rates rather than linear",
        arguments={"action": argparse.BooleanOptionalAction},
    )
    lr0: float = setting(0.01, "learning rate after the warm-up", limits=POSITIVE)
    lrf: float = setting(0.01, "last learning rate as a share of the first", limits=SHARE)
    momentum: float = setting(0.937, "SGD's momentum, Adam's beta1", limits=(0, 0.9999))
    weight_decay: float = setting(
        0.0005,
        "decay of convolution and linear weights, never of norms and biases",
        limits=NOT_NEGATIVE,
    )
    warmup_epochs: float = setting(
        3.0,
        "epochs of warm-up (at least 100 batches, at most a third of the epochs that are trained)",
        limits=NOT_NEGATIVE,
    )
    warmup_momentum: float = setting(0.8, "SGD's momentum at the start", limits=(0, 0.9999))
    warmup_bias_lr: float = setting(
        0.1, "the biases' learning rate at the start", limits=NOT_NEGATIVE
    )
    nominal_batch_size: int | None = setting(
        64, "images that gradients accumulate up to; null: a step every batch", limits=(1, MANY)
    )
    gradient_clip: float = setting(
        10.0, "largest L2 norm of all gradients of a network together", limits=POSITIVE
    )
    patience: int = setting(
        100, "stop after so many epochs without a better fitness (0: never)", limits=(0, MANY)
    )
    # Detection loss
    box: float = setting(0.05, "gain of the box loss (CIoU)", limits=NOT_NEGATIVE)
    cls: float = setting(0.5, "gain of the class loss", limits=NOT_NEGATIVE)
    cls_pw: float = setting(1.0, "weight of the positives in the class loss", limits=POSITIVE)
    obj: float = setting(1.0, "gain of the objectness loss", limits=NOT_NEGATIVE)
    obj_pw: float = setting(1.0, "weight of the positives in the objectness loss", limits=POSITIVE)
    iou_t: float = setting(0.2, "unused, as in YOLOv5")
    anchor_t: float = setting(
        4.0,
        "largest ratio of box side to anchor side that still matches",
        limits=(1 + 1e-6, HUGE),
        expected="above 1",
    )
    anchors: float | None = setting(None, "not applied; --autoanchor fits anchors")
    fl_gamma: float = setting(0.0, "focal loss: not implemented, must be 0")
    label_smoothing: float = setting(0.0, "label smoothing of the box classes", limits=(0, 0.999))
    # Augmentation (YOLOv5's keys, and gamma)
    hsv_h: float = setting(
        0.0, "hue times a factor in 1 +- this; it encodes the direction of flow", limits=SHARE
    )
    hsv_s: float = setting(0.0, "saturation times a factor in 1 +- this", limits=SHARE)
    hsv_v: float = setting(0.0, "brightness times a factor in 1 +- this", limits=SHARE)
    degrees: float = setting(0.0, "rotation, +- degrees", limits=(0, 180))
    translate: float = setting(0.0, "shift, +- share of the side", limits=SHARE)
    scale: float = setting(0.0, "size times a factor in 1 +- this", limits=(0, 0.99))
    shear: float = setting(0.0, "shear, +- degrees", limits=(0, 89))
    perspective: float = setting(0.0, "perspective, +-", limits=(0, 0.001))
    flipud: float = setting(0.0, "probability of a flip upside down", limits=SHARE)
    fliplr: float = setting(0.0, "probability of a flip left to right", limits=SHARE)
    mosaic: float = setting(
        0.0, "probability of a mosaic of four frames of the same view", limits=SHARE
    )
    mixup: float = setting(
        0.0,
        "probability of a second frame of the same view laid over the first",
        limits=SHARE,
    )
    copy_paste: float = setting(0.0, "not applied: it needs outlines", limits=SHARE)
    gamma: float = setting(
        0.0, "every channel to the power of e^(+- this); not a key of YOLOv5", limits=(0, 3)
    )
    # The joint task
    classification_required: bool = setting(
        True, "whether a data set without a single view label is an error"
    )
    sampler: str = setting(
        "shuffle",
        "shuffle: every frame once an epoch; "
        "views, groups: draw each view, or group, equally often",
        choices=("shuffle", "views", "groups"),
    )
    view_loss_weights: str = setting(
        "equal",
        "inverse: the rarer a view, the more its frames count in the training loss",
        choices=("equal", "inverse"),
    )
    initial_detection_weight: float = setting(
        1.0, "loss weight of detection until the balancer's first update", limits=POSITIVE
    )
    initial_classification_weight: float = setting(
        0.01, "loss weight of classification until the balancer's first update", limits=POSITIVE
    )
    balancer: str = setting(
        "gradnorm",
        "what weighs the losses; fixed: the initial weights; others than gradnorm: TorchJD's",
        choices=BALANCERS,
    )
    gradnorm_rule: str = setting(
        "gradient",
        "gradient: the paper's, Adam on the weights; log: steps that are ratios; "
        "equilibrium: a moving average",
        choices=GRADNORM_RULES,
    )
    gradnorm_place: str = setting(
        "features",
        "where gradients are measured; features: at the trunk's outputs, free; "
        "weights: at the last shared layer, as in the paper",
        choices=GRADNORM_PLACES,
    )
    gradnorm_alpha: float = setting(
        1.5,
        "pull towards equal training rates (0 makes the gradient norms equal)",
        limits=(0, 100),
    )
    gradnorm_interval: int = setting(
        10, "batches from one update of the weights to the next", limits=(1, MANY)
    )
    gradnorm_lr: float = setting(
        0.025, "Adam's learning rate on the weights (rule gradient)", limits=(TINY, 1)
    )
    gradnorm_momentum: float = setting(
        0.9, "momentum of the weights' moving average (rule equilibrium)", limits=(0, 0.9999)
    )
    gradnorm_kappa: float = setting(
        0.1, "the share of a gap that a step closes (rule log)", limits=(TINY, 1)
    )
    gradnorm_min_share: float = setting(
        0.01, "least share of the weights' sum that each weight keeps", limits=(1e-6, 0.49)
    )
    weight_sum: float | None = setting(
        None, "what the weights sum to; null: the number of tasks", limits=POSITIVE
    )
    # The dual backbone: a network's own rates; None takes the common key
    detection_lr0: float | None = rate_of("detector", lr0)
    detection_lrf: float | None = rate_of("detector", lrf)
    detection_weight_decay: float | None = rate_of("detector", weight_decay)
    detection_warmup_epochs: float | None = rate_of("detector", warmup_epochs)
    classification_lr0: float | None = rate_of("classifier", lr0)
    classification_lrf: float | None = rate_of("classifier", lrf)
    classification_weight_decay: float | None = rate_of("classifier", weight_decay)
    classification_warmup_epochs: float | None = rate_of("classifier", warmup_epochs)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            problem = problem_of(field, getattr(self, field.name))
            if problem:
                raise UserError(f"{field.name} {problem}")
        if self.fl_gamma:
            raise UserError(
                f"fl_gamma is {self.fl_gamma}: focal loss is not implemented; set fl_gamma: 0.0"
            )
        if (self.sampler, self.view_loss_weights) == ("views", "inverse"):
            raise UserError(
                "sampler views and view_loss_weights inverse balance the views twice; "
                "use one of them"
            )

    @property
    def network_rates(self) -> dict[str, float]:
        """The keys that set a rate of one network of the dual backbone, and their values."""
        values = {key: getattr(self, key) for key in NETWORK_RATES}
        return {key: value for key, value in values.items() if value is not None}

    def of_network(self, task: str) -> HyperParameters:
        """The same with the rates of `task`'s network, where they are set, as the common ones."""
        own = {}
        for name in RATES:
            value = getattr(self, f"{task}_{name}")
            if value is not None:
                own[name] = value
        return dataclasses.replace(self, **own)

    @property
    def augmentation(self) -> dict[str, float]:
        """The augmentation that is on; see `utils.data.augment`."""
        return {key: getattr(self, key) for key in AUGMENTATION_KEYS if getattr(self, key)}

    @property
    def not_applied(self) -> dict[str, float]:
        """The keys that ask for what is not done.

        Pasting needs outlines, and fitted anchors have an option.
        """
        return {key: getattr(self, key) for key in ("copy_paste", "anchors") if getattr(self, key)}


HYP_RANGES = {
    field.name: setting_of(field).limits
    for field in dataclasses.fields(HyperParameters)
    if setting_of(field).limits
}


def load_hyperparameters(
    path: str | Path, overrides: Mapping[str, object] | None = None
) -> HyperParameters:
    """Read a hyp file (YOLOv5's load unchanged) and lay `overrides` that are not None over it.

    Args:
        path: a file, or the bare name of one of this project's, such as new_patients.

    Raises:
        UserError: an unknown key (with the nearest valid one), a value of the wrong type or out of
            range.
    """
    path = find_file(path)
    if not path.suffix and not path.exists():
        path = find_file(Path("hyp") / f"{path}.yaml")
    content = read_yaml_mapping(path, "--hyp takes a hyp file, e.g. hyp/joint_training_rules.yaml")
    try:
        from_file = from_mapping(HyperParameters, content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    return from_mapping(HyperParameters, to_mapping(from_file) | given)
