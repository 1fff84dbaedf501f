"""What a comparison trains: every arm, with every seed, on every data set.

Each training is a call of a training script, so its run folder is like any other and its command
can be given again by hand. A `Training` knows whether its folder holds it finished, begun, or
something else. `engine.py` runs them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from utils.comparison.arms import Arm, options_of
from utils.core.files import write_json, write_text
from utils.core.hyperparameters import HyperParameters, load_hyperparameters
from utils.core.options import TrainOptions
from utils.core.script import UserError
from utils.core.values import from_mapping, to_mapping
from utils.core.yaml_reader import read_yaml_mapping

# What may differ between the halves of a comparison: where it runs, not what it computes
INDIFFERENT = {
    "device",
    "workers",
    "cache",
    "index",
    "project",
    "name",
    "exist_ok",
    "hyp",
    "report",
}
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Training:
    """One arm trained once.

    Attributes:
        data: the data.yaml; one of a comparison's folds, or its only one.
        common: the options, and keys of the hyp file, that all arms share.
        folder: of the run.
        needed: the run folder that the arm's options come from, or None.
    """

    arm: Arm
    data: str
    seed: int
    common: Mapping[str, object]
    folder: Path
    needed: Path | None = None

    @property
    def is_finished(self) -> bool:
        return self._holds("summary.json")

    @property
    def is_begun(self) -> bool:
        return self._holds("weights/last.pt")

    def _holds(self, name: str) -> bool:
        return (self.folder / name).exists() and self._matches()

    @property
    def options(self) -> dict[str, object]:
        """Those that all arms share, and over them the arm's own."""
        return {**self.common, **self.arm.options}

    def _settings(self) -> tuple[TrainOptions, HyperParameters]:
        given = self.options | options_of(self.arm, self.needed)
        return read_settings(self.arm, given | {"data": self.data, "seed": self.seed})

    def _matches(self) -> bool:
        """Whether the run in the folder was started with these options, as far as they matter."""
        if self.needed is not None and not (self.needed / "summary.json").exists():
            return False
        options, hyp = self._settings()
        if relevant(options) != _read_relevant(self.folder / "opt.yaml", type(options)):
            return False
        return relevant(hyp) == _read_relevant(self.folder / "hyp.yaml", type(hyp))

    @property
    def log(self) -> Path:
        """What its process prints."""
        return self.folder.parent / "logs" / f"{self.folder.name}.log"

    @property
    def _hyp_file(self) -> Path:
        return self.folder.parent / "hyp" / f"{self.folder.name}.yaml"

    def write_hyp(self) -> None:
        """Write the hyper-parameters of a new training to the file that its command names."""
        self._hyp_file.parent.mkdir(exist_ok=True)
        _, hyp = self._settings()
        write_text(self._hyp_file, yaml.safe_dump(to_mapping(hyp), sort_keys=False))

    def command(self) -> list[str]:
        """The training as a command line, without the interpreter: new, or the rest of one."""
        if self.is_begun:
            device = _as_arguments({"device": self.common["device"]})
            return [self.arm.script, "--resume", str(self.folder / "weights" / "last.pt"), *device]
        options, _ = self._settings()
        chosen = {}
        for name, value in to_mapping(options).items():
            if name in self.options:
                chosen[name] = value
        chosen |= {"data": self.data, "seed": self.seed, "hyp": str(self._hyp_file)}
        place = {"project": str(self.folder.parent), "name": self.folder.name, "exist_ok": True}
        return [self.arm.script, *_as_arguments(chosen | place)]


def run_name(fold: str, arm: str, seed: int) -> str:
    """Of a run folder; `fold` is empty where there is one data set."""
    name = f"{arm}-seed{seed}"
    if fold:
        return f"{fold}-{name}"
    return name


def read_settings(arm: Arm, given: Mapping[str, object]) -> tuple[TrainOptions, HyperParameters]:
    """The options and the hyper-parameters that an arm is trained with.

    Args:
        given: options of the arm's script, and keys that lie over the hyp file.

    Raises:
        UserError: a wrong name, type or value.
    """
    names = {field.name for field in dataclasses.fields(arm.options_kind)}
    of_script = {key: value for key, value in given.items() if key in names}
    over_hyp = {key: value for key, value in given.items() if key not in names}
    options = from_mapping(arm.options_kind, of_script)
    return options, load_hyperparameters(options.hyp, over_hyp)


def relevant(options: TrainOptions | HyperParameters) -> dict[str, object]:
    """What makes a training another one."""
    return {key: value for key, value in to_mapping(options).items() if key not in INDIFFERENT}


def _read_relevant(path: Path, kind: type) -> dict[str, object] | None:
    """What a run was started with; None: it cannot be read.

    An option that did not exist then has its default.
    """
    try:
        return relevant(from_mapping(kind, read_yaml_mapping(path, "")))
    except UserError:
        return None


def _as_arguments(given: Mapping[str, object]) -> list[str]:
    arguments = []
    for name, value in given.items():
        if value is False or value == "":
            continue
        arguments.append(f"--{name.replace('_', '-')}")
        if isinstance(value, list):
            arguments += map(str, value)
        elif value is not True:
            arguments.append(str(value))
    return arguments


def check_fingerprints(folder: Path, fingerprints: Mapping[str, Mapping[str, object]]) -> None:
    """Note what data a comparison is about, or compare with what was noted.

    Args:
        fingerprints: data set -> split -> its fingerprint, and key of the data.yaml -> its value;
            what was not asked for before is noted now.

    Raises:
        UserError: a data set is not what it was when the comparison began.
    """
    path = folder / "data.json"
    known = {}
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
    for data, conditions in fingerprints.items():
        before = known.get(data, {})
        for key, found in conditions.items():
            if before.get(key, found) == found:
                continue
            what = "images or labels"
            if key not in SPLITS:
                what = f"{key} ({before[key]!r} -> {found!r})"
            raise UserError(
                f"{data}: {what} changed since {folder} was begun; "
                "restore them, or start anew with another --name"
            )
        known[data] = before | conditions
    write_json(path, known)
