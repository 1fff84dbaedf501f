"""The hyper-parameters as a frozen dataclass, their ranges and choices, and how a hyp file is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from utils.core.files import find_file
from utils.core.names import BALANCERS, GRADNORM_PLACES, GRADNORM_RULES, TASKS
from utils.core.script import UserError
from utils.core.values import from_mapping, is_number, read_yaml_mapping, to_mapping

AUGMENTATION_KEYS = (
    *("hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective"),
    *("flipud", "fliplr", "mosaic", "mixup", "gamma"),
)


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
    gradnorm_kappa: float = 0.1
    gradnorm_min_share: float = 0.01
    weight_sum: float | None = None
    # For studies: the averages of the weights that are evaluated every epoch, see
    # `averaging_windows`
    record_averages: list = field(default_factory=list)
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
                raise UserError(
                    f"{name} is {getattr(self, name)!r}, expected one of {', '.join(allowed)}"
                )
        for name, (low, high) in HYP_RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UserError(f"{name} is {value}, expected a value from {low} to {high}")
        if self.fl_gamma:
            raise UserError(
                f"fl_gamma is {self.fl_gamma}: focal loss is not implemented; set fl_gamma: 0.0"
            )
        windows = self.averaging_windows
        if len(set(windows)) < len(windows) or not all(
            is_number(window, 0.01, 1000) for window in windows
        ):
            raise UserError(
                f"record_averages is {self.record_averages}, expected different numbers of epochs, and ramp for "
                "YOLOv5's average, such as [ramp, 0.5, 1]"
            )
        if (self.sampler, self.view_loss_weights) == ("views", "inverse"):
            raise UserError(
                "sampler views and view_loss_weights inverse balance the views twice; use one of them"
            )

    @property
    def averaging_windows(self) -> list[float]:
        """The numbers in `record_averages`: windows of epochs. Beside them it may hold "ramp", YOLOv5's average."""
        return [entry for entry in self.record_averages if entry != "ramp"]

    @property
    def network_rates(self) -> dict[str, float]:
        """The keys that set a rate of one network of the dual backbone, and their values."""
        keys = (f"{task}_{name}" for task in TASKS for name in RATE_RANGES)
        return {key: getattr(self, key) for key in keys if getattr(self, key) is not None}

    def of_network(self, task: str) -> HyperParameters:
        """With the rates of `task`'s network, where they are set, in place of the common ones."""
        own = {name: getattr(self, f"{task}_{name}") for name in RATE_RANGES}
        return dataclasses.replace(
            self, **{name: value for name, value in own.items() if value is not None}
        )

    @property
    def augmentation(self) -> dict[str, float]:
        """The augmentation that is on; see `utils.data.augment`."""
        return {key: getattr(self, key) for key in AUGMENTATION_KEYS if getattr(self, key)}

    @property
    def not_applied(self) -> dict[str, float]:
        """The keys that ask for what is not done: pasting needs outlines, and fitted anchors have an option."""
        return {key: getattr(self, key) for key in ("copy_paste", "anchors") if getattr(self, key)}


_TINY, _HUGE = 1e-12, 1e12
HYP_CHOICES = {
    "optimizer": ("SGD", "Adam", "AdamW"),
    "balancer": BALANCERS,
    "gradnorm_rule": GRADNORM_RULES,
    "gradnorm_place": GRADNORM_PLACES,
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
    **dict.fromkeys(
        ("hsv_h", "hsv_s", "hsv_v", "flipud", "fliplr", "mosaic", "mixup", "copy_paste"), (0, 1)
    ),
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
    "gradnorm_kappa": (_TINY, 1),
    "gradnorm_min_share": (1e-6, 0.49),
    "weight_sum": (_TINY, _HUGE),
}


def load_hyperparameters(
    path: str | Path, overrides: Mapping[str, object] | None = None
) -> HyperParameters:
    """Read a hyp file (YOLOv5's load unchanged) and lay `overrides` that are not None over it.

    Raises:
        UserError: an unknown key (with the nearest valid one), a value of the wrong type or out of
            range.
    """
    path = find_file(path)
    content = read_yaml_mapping(path, "--hyp takes a hyp file, e.g. hyp/joint_training_rules.yaml")
    try:
        from_file = from_mapping(HyperParameters, content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    return from_mapping(HyperParameters, to_mapping(from_file) | given)
