"""What `compare_solutions.py` can compare: every arm is a training script and options of its own.

All arms that balance two losses have weights that sum to `WEIGHT_SUM`, so that none of them trains
at another effective rate, but for two that start alike with the 1.0 and 0.01 of the first joint
trainings: `fixed`, which keeps them, and `gradnorm`, whose weights sum to `WEIGHT_SUM` from its
first update on. A network that trains one task only gives its loss the weight 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from utils.core.hyperparameters import HyperParameters
from utils.core.names import BALANCERS, TASKS
from utils.core.options import DualOptions, JointOptions, TrainOptions
from utils.core.script import UserError
from utils.core.values import did_you_mean

WEIGHT_SUM = 2.0
ORIGINAL_WEIGHTS = (1.0, 0.01)  # of detection and classification
ORIGINAL_RATIO = 100.0
JOINT = "train_joint_gradnorm.py"
DUAL = "train_joint_dual_backbone.py"
# For two tasks the methods of a pair point the same way (up to TorchJD's regularisation of UPGrad,
# which shows where one gradient is a hundred times as long as the other), so they are one method.
COINCIDING = (("pcgrad", "upgrad"), ("imtl-g", "config"))
ARM_NAMES = (
    "fixed",
    "fixed-scaled",
    "equal",
    "ratio-15",
    "gradnorm",
    "gradnorm-alpha-0.5",
    "gradnorm-static",
    "dual",
    "detection-only",
    "classification-only",
)


@dataclass(frozen=True)
class Arm:
    """A way to train.

    Attributes:
        about: a line for the report.
        script: that trains it.
        options: of the script, and keys of the hyp file, beside those that all arms share.
        tasks: that it is measured on.
        needs: an arm of the same seed that has to be finished first.
    """

    name: str
    about: str
    script: str = JOINT
    options: dict[str, object] = field(default_factory=dict)
    tasks: tuple[str, ...] = TASKS
    needs: str | None = None

    @property
    def options_kind(self) -> type[TrainOptions]:
        """The options of its script."""
        if self.script == DUAL:
            return DualOptions
        return JointOptions

    @property
    def keys(self) -> set[str]:
        """The options that its script has, and the keys of a hyp file."""
        own = {field.name for field in fields(self.options_kind)}
        return own | {field.name for field in fields(HyperParameters)}

    @property
    def has_interference(self) -> bool:
        """Whether its tasks share weights, so that they can interfere."""
        return self.script == JOINT and self.tasks == TASKS


def find_arm(name: str) -> Arm:
    """The arm of that name; `ratio-X` and `gradnorm-alpha-X` exist for every number above zero.

    Raises:
        UserError: there is no such arm.
    """
    refuse_gone(name)
    if name.startswith("ratio-"):
        ratio = _number(name, "ratio-")
        return Arm(name, f"fixed weights {ratio:g}:1", options=_fixed(*_split(ratio)))
    if name.startswith("gradnorm-alpha-"):
        return _gradnorm(name, _number(name, "gradnorm-alpha-"))
    if name in BALANCERS and name not in ("gradnorm", "fixed"):
        return Arm(name, f"{name}, by TorchJD", options={"balancer": name})
    arms = {
        "fixed": Arm(
            name,
            "fixed weights 1.0 and 0.01, the original joint training",
            options=_fixed(*ORIGINAL_WEIGHTS),
        ),
        "fixed-scaled": Arm(name, "fixed weights 100:1", options=_fixed(*_split(ORIGINAL_RATIO))),
        "equal": Arm(name, "fixed weights 1:1", options=_fixed(*_split(1.0))),
        "gradnorm": _gradnorm(name, 1.5),
        "gradnorm-static": Arm(
            name, "gradnorm's weights, averaged over its training, fixed", needs="gradnorm"
        ),
        "dual": Arm(name, "two networks that share nothing", DUAL),
        "detection-only": _single(name, "detection"),
        "classification-only": _single(name, "classification"),
    }
    if name not in arms:
        known = f"{', '.join(ARM_NAMES)}, ratio-X, gradnorm-alpha-X"
        raise UserError(f"no arm '{name}'; expected some of {known}{did_you_mean(name, ARM_NAMES)}")
    return arms[name]


def refuse_gone(name: str) -> None:
    """Raise a `UserError` for an arm that there was once."""
    if name == "tuned":
        raise UserError(
            "the arm 'tuned' is gone: it was the best of five ratios, chosen on the frames that it "
            "was reported on; name a ratio fixed beforehand, e.g. ratio-15, or choose one on other "
            "folds (docs/how-to/compare-with-a-protocol.md)"
        )


def expand(names: Sequence[str]) -> list[Arm]:
    """The arms to train for `names`, each once, and before an arm what it needs."""
    arms: dict[str, Arm] = {}
    for name in names:
        arm = find_arm(name)
        if arm.needs:
            arms.setdefault(arm.needs, find_arm(arm.needs))
        arms.setdefault(name, arm)
    return list(arms.values())


def options_of(arm: Arm, needed: Path | None) -> dict[str, object]:
    """The arm's options; those of `gradnorm-static` are read from the finished run `needed`."""
    if needed is None:
        return arm.options
    return arm.options | _fixed(*average_weights(needed))


def average_weights(run: Path) -> tuple[float, float]:
    """The two weights of a GradNorm run, averaged over its batches.

    They come from gradnorm.csv and the starting weights.
    """
    import pandas as pd  # takes long to import, which --help need not wait for

    if not (run / "gradnorm.csv").exists():  # the run ended before the first update
        return _split(ORIGINAL_RATIO)
    log = pd.read_csv(run / "gradnorm.csv")
    results = pd.read_csv(run / "results.csv")
    # A row's weights hold from the batch after it to that of the next row; before the first, the
    # starting weights.
    first_batches = log["step"].to_numpy() + 1
    total = _batches(log) * len(results)
    lasted = pd.Series([*first_batches, total]).diff().iloc[1:].to_numpy()
    averages = []
    for task, start in zip(TASKS, ORIGINAL_WEIGHTS, strict=True):
        weighted = (log[f"weight/{task}"].to_numpy() * lasted).sum() + start * first_batches[0]
        averages.append(float(weighted / total))
    scale = WEIGHT_SUM / sum(averages)
    return averages[0] * scale, averages[1] * scale


def _batches(log) -> int:
    """Batches an epoch, from any row of the log (a pandas.DataFrame) beyond the first epoch."""
    later = log[log["epoch"] > 0]
    if later.empty:
        return int(log["step"].max()) + 1
    row = later.iloc[0]
    return round((row["step"] - row["batch"]) / row["epoch"])


def _gradnorm(name: str, alpha: float) -> Arm:
    detection, classification = ORIGINAL_WEIGHTS
    options = {
        "balancer": "gradnorm",
        "gradnorm_alpha": alpha,
        "initial_detection_weight": detection,
        "initial_classification_weight": classification,
    }
    return Arm(name, f"GradNorm, alpha {alpha:g}, starting at 1.0 and 0.01", options=options)


def _single(name: str, task: str) -> Arm:
    return Arm(
        name,
        f"{task} alone: the joint network without the other head",
        options={"tasks": [task]},
        tasks=(task,),
    )


def _fixed(detection: float, classification: float) -> dict[str, object]:
    return {
        "balancer": "fixed",
        "initial_detection_weight": detection,
        "initial_classification_weight": classification,
    }


def _split(ratio: float) -> tuple[float, float]:
    """Two weights in this ratio that sum to `WEIGHT_SUM`."""
    return WEIGHT_SUM * ratio / (1 + ratio), WEIGHT_SUM / (1 + ratio)


def _number(name: str, prefix: str) -> float:
    try:
        value = float(name.removeprefix(prefix))
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise UserError(
            f"'{name}': expected a number above zero after '{prefix}', e.g. {prefix}1.5"
        )
    return value
