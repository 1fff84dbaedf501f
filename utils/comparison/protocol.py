"""What a comparison promises before it trains: arms, data and options, and which differences count.

`utils.comparison.protocol_file` reads a protocol from a file, `utils.comparison.protocol_record`
notes it in the comparison's folder and says where it was left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.comparison.arms import Arm
from utils.comparison.trainings import read_settings
from utils.core.hyperparameters import HyperParameters
from utils.core.options import JointOptions, TrainOptions

METRICS = {  # task -> what arms can be compared in
    "detection": ("mAP50", "mAP50-95"),
    "classification": ("view_accuracy", "view_balanced_accuracy"),
}
PRIMARY = {"detection": "mAP50", "classification": "view_balanced_accuracy"}
# What 54 patients in five folds, three seeds each, can tell from nothing with a power of 80 %
MARGINS = {"mAP50": 0.08, "view_balanced_accuracy": 0.15}
BUILT_IN = (  # contrasts: arm, reference, metric
    ("gradnorm", "fixed", "mAP50"),
    ("gradnorm", "fixed", "view_balanced_accuracy"),
    ("gradnorm", "detection-only", "mAP50"),
    ("gradnorm", "classification-only", "view_balanced_accuracy"),
)
_BASE = JointOptions()
COMMON = {  # options of all arms -> their defaults
    "epochs": _BASE.epochs,
    "imgsz": _BASE.imgsz,
    "batch_size": _BASE.batch_size,
    "hyp": _BASE.hyp,
    "amp": _BASE.amp,
    "size": "s",
    "diagnose_interval": 10,
}


@dataclass(frozen=True)
class Contrast:
    """The difference `arm` less `reference` in `metric`, a figure of `outcomes.Outcome`."""

    arm: str
    reference: str
    metric: str

    def __str__(self) -> str:
        return f"{self.arm} - {self.reference} in {self.metric}"


@dataclass(frozen=True)
class Budget:
    """What a comparison may need at most.

    Attributes:
        hours: of all trainings together, on the machine that is used.
    """

    trainings: int
    hours: float | None = None


@dataclass(frozen=True)
class Protocol:
    """Fixed before training.

    Attributes:
        counted: the contrasts that get a word, corrected for their number (Holm); all others are
            exploratory.
        margins: metric -> the difference below which two arms count as equivalent.
        data: name of the fold -> its data.yaml; the name is empty where there is one data set.
        arms: all that are trained.
        options: of all arms, by `COMMON`'s names and any other of a training script or of a hyp
            file.
        split: that is reported.
        primary: task -> the metric that speaks for it.
        source: the protocol file; None: the command line's options.
    """

    counted: tuple[Contrast, ...]
    margins: Mapping[str, float]
    data: Mapping[str, str] = field(default_factory=dict)
    arms: tuple[Arm, ...] = ()
    seeds: tuple[int, ...] = ()
    options: Mapping[str, object] = field(default_factory=lambda: dict(COMMON))
    split: str = "val"
    primary: Mapping[str, str] = field(default_factory=lambda: dict(PRIMARY))
    budget: Budget | None = None
    source: Path | None = None

    @property
    def planned(self) -> int:
        """The number of trainings."""
        return len(self.data) * len(self.seeds) * len(self.arms)

    def common_options(self, arm: Arm) -> dict[str, object]:
        """Those of `options` that its script has, and that measure what the arm can have."""
        foreign = self.options.keys() - arm.keys
        if not arm.has_interference:
            foreign |= {"diagnose_interval"}
        return {name: value for name, value in self.options.items() if name not in foreign}

    def settings(self, arm: Arm) -> tuple[TrainOptions, HyperParameters]:
        """What the arm is trained with, but for data, seed, and weights taken from another arm.

        Raises:
            UserError: a wrong name, type or value.
        """
        return read_settings(arm, self.common_options(arm) | arm.options)


def built_in_contrasts(arms: Sequence[Arm]) -> tuple[Contrast, ...]:
    """Those of `BUILT_IN` whose arms are there."""
    names = {arm.name for arm in arms}
    return tuple(Contrast(*contrast) for contrast in BUILT_IN if names.issuperset(contrast[:2]))


def protocol_section(results: Mapping) -> str:
    """The report's section on what was fixed before, and where it was left.

    Args:
        results: with "fixed_before", see `utils.comparison.protocol_record.protocol_summary`.
    """
    summary = results.get("fixed_before")
    if summary is None:
        return ""
    margins = ", ".join(f"{metric} {margin:g}" for metric, margin in summary["margins"].items())
    promised = (
        f"Contrasts that count: {'; '.join(summary['counted']) or 'none'}. Margins: {margins}."
    )
    parts = ["## What was fixed before"]
    if summary["text"] is None:
        parts.append(f"There is no protocol file: these are the built-in contrasts. {promised}")
        return "\n\n".join(parts)
    noted = (
        f"The protocol `{summary['source']}`, as it was at {summary['time']}, {summary['begun']}."
    )
    parts.append(f"{noted} {promised}")
    parts.append(f"```yaml\n{summary['text'].strip()}\n```")
    if summary["departures"]:
        departures = "\n".join(f"- {departure}" for departure in summary["departures"])
        parts.append(f"Where it was left:\n\n{departures}")
    else:
        parts.append("It was not left: all planned trainings were done as it says.")
    return "\n\n".join(parts)
