"""Reads a protocol from a YAML file, and checks all of it before anything is trained.

The keys of the file are the attributes of `ProtocolFile`; docs/how-to/compare-with-a-protocol.md
explains them.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.comparison.arms import DUAL, JOINT, Arm, find_arm, refuse_gone
from utils.comparison.protocol import COMMON, METRICS, PRIMARY, Budget, Contrast, Protocol
from utils.core.files import find_file
from utils.core.names import TASKS
from utils.core.options import warn_without_effect
from utils.core.script import UserError, errors_in
from utils.core.settings import MANY
from utils.core.values import did_you_mean, from_mapping, is_whole, not_text
from utils.core.yaml_reader import read_yaml_mapping

SCRIPTS = {"joint": JOINT, "dual": DUAL}
SPLITS = ("val", "test")
TASK_OF = {metric: task for task, metrics in METRICS.items() for metric in metrics}
FILES = ("hyp", "cfg", "classifier_cfg", "weights")  # options that name one
ELSEWHERE = {  # options that are not set here -> where they are
    "data": "key data or folds",
    "seed": "key seeds",
    "device": "the command line",
    "project": "the command line",
    "name": "the command line",
    "exist_ok": "the comparison itself",
}
FOLDER_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")  # of an arm, which names its run folders


@dataclass(frozen=True)
class ProtocolFile:
    """A protocol as it stands in the file; what has no default must be there.

    Attributes:
        question: that the comparison answers.
        data: the data.yaml, relative to the protocol file; or
        folds: the folder of fold*/data.yaml, relative to the protocol file, and
        fold_numbers: which of them; without it all.
        arms: name -> a built-in arm's name, or the keys of `ArmEntry`.
        compare: the contrasts that count, each with the keys arm, reference and metric.
        reasons: why it is so, in free text.
    """

    question: str
    seeds: list
    arms: dict
    compare: list
    margins: dict
    budget: dict
    data: str = ""
    folds: str = ""
    fold_numbers: list | None = None
    split: str = "val"
    options: dict = field(default_factory=dict)
    primary: dict = field(default_factory=lambda: dict(PRIMARY))
    reasons: str = ""


@dataclass(frozen=True)
class ArmEntry:
    """An arm of one's own.

    Attributes:
        like: the built-in arm whose script and options it has, or
        script: joint or dual.
        options: over those, and over the protocol's: of the script, or of a hyp file.
        about: a line for the report.
    """

    like: str = ""
    script: str = ""
    options: dict = field(default_factory=dict)
    about: str = ""


def load_protocol(path: str | Path) -> Protocol:
    """Read and check a protocol file.

    Raises:
        UserError: a key is unknown, missing or of a wrong type; an arm, a fold, a metric or an
            option is not there; a contrast cannot be measured; the trainings are more than the
            budget's.
    """
    path = find_file(path)
    content = read_yaml_mapping(
        path, "--protocol takes a protocol file, e.g. docs/example-protocol.yaml"
    )
    with errors_in(path):
        entries = _filled(ProtocolFile, content)
        known = Arm("", "", JOINT).keys | Arm("", "", DUAL).keys
        options = COMMON | _checked_options(entries.options, known, path)
        protocol = Protocol(
            counted=_contrasts(entries.compare),
            margins=_margins(entries.margins),
            data=_data(entries, path),
            arms=_arms(entries.arms, path),
            seeds=_whole_numbers("seeds", entries.seeds),
            options=options,
            split=_one_of("split", entries.split, SPLITS),
            primary=_primary(entries.primary),
            budget=_budget(entries.budget),
            source=path,
        )
        with errors_in("options"):
            protocol.settings(Arm("", ""))
        check_settings(protocol)
        _check_contrasts(protocol)
        _check_number(protocol)
    return protocol


def check_settings(protocol: Protocol) -> None:
    """Say which of the arms' own options have no effect.

    Raises:
        UserError: an arm's training would refuse its options.
    """
    for arm in protocol.arms:
        with errors_in(f"arms: {arm.name}"):
            options, hyp = protocol.settings(arm)
            warn_without_effect(arm.options, options.without_effect(hyp))


def _filled(cls: type, content: Mapping[str, object]):
    """The dataclass from the keys of a mapping.

    Raises:
        UserError: a key is unknown, of a wrong type, or missing.
    """
    fields = {one.name: one for one in dataclasses.fields(cls)}
    for key, one in fields.items():
        is_needed = one.default is one.default_factory is dataclasses.MISSING
        if is_needed and key not in content and not content.keys() - fields.keys():
            raise UserError(f"key '{key}' is missing; expected {', '.join(fields)}")
    return from_mapping(cls, content)


def _one_of(key: str, value: str, known: Iterable[str]) -> str:
    if value not in known:
        raise UserError(
            f"{key} is {value!r}, expected {' or '.join(known)}{did_you_mean(value, known)}"
        )
    return value


def _whole_numbers(key: str, values: Sequence[object]) -> tuple[int, ...]:
    are_whole = all(is_whole(value, 0, MANY) for value in values)
    if not values or not are_whole or len(set(values)) < len(values):
        raise UserError(
            f"{key} is {values!r}, expected different whole numbers from 0 to {MANY}, as [0, 1, 2]"
        )
    return tuple(values)


def _data(entries: ProtocolFile, path: Path) -> dict[str, str]:
    """Name of the fold -> data.yaml."""
    if bool(entries.data) == bool(entries.folds):
        raise UserError(
            "expected one of the keys data (a data.yaml) and folds (a folder of fold*/data.yaml)"
        )
    if entries.data:
        if entries.fold_numbers is not None:
            raise UserError(
                "fold_numbers is given, but no folds; expected the key folds in place of data"
            )
        return {"": os.path.normpath(path.parent / entries.data)}
    found = find_folds(os.path.normpath(path.parent / entries.folds))
    if entries.fold_numbers is None:
        return found
    names = [f"fold{number}" for number in _whole_numbers("fold_numbers", entries.fold_numbers)]
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(
            f"fold_numbers: {entries.folds} has no {', '.join(missing)}; found {', '.join(found)}"
        )
    return {name: found[name] for name in names}


def find_folds(folder: str | Path) -> dict[str, str]:
    """Name of the fold -> its data.yaml.

    Raises:
        UserError: there are not at least two.
    """
    found = {path.parent.name: str(path) for path in sorted(Path(folder).glob("*/data.yaml"))}
    if len(found) < 2:
        raise UserError(
            f"{folder}: {len(found)} folds; expected DIR/*/data.yaml, as split_dataset.py writes"
        )
    return found


def _arms(entries: Mapping[object, object], path: Path) -> tuple[Arm, ...]:
    """All arms to train: those in the file, and those that they need."""
    arms: dict[str, Arm] = {}
    for name, entry in entries.items():
        with errors_in(f"arms: {name}"):
            arms[name] = _entered(name, entry, path)
    for needed in [arm.needs for arm in arms.values() if arm.needs]:
        arms.setdefault(needed, find_arm(needed))
    if not arms:
        raise UserError("arms is empty, expected at least one")
    return tuple(arms.values())


def _entered(name: object, entry: object, path: Path) -> Arm:
    if not_text(name) or not FOLDER_NAME.fullmatch(name):
        raise UserError(
            "expected a name of letters, digits and . + - _, in quotes if it is a number"
        )
    if isinstance(entry, str):
        return dataclasses.replace(find_arm(entry), name=name)
    if not isinstance(entry, dict):
        raise UserError(
            f"is {entry!r}, expected a built-in arm's name, or like or script, and options"
        )
    own = _filled(ArmEntry, entry)
    if bool(own.like) == bool(own.script):
        raise UserError("expected one of the keys like (a built-in arm) and script (joint or dual)")
    base = _base_of(own)
    options = base.options | _checked_options(own.options, base.keys, path)
    tasks = tuple(task for task in TASKS if task in options.get("tasks", base.tasks))
    about = own.about
    if not about:
        changes = ", ".join(f"{key} {value}" for key, value in own.options.items())
        about = f"{own.like or own.script}, {changes}"
    return dataclasses.replace(base, name=name, about=about, options=options, tasks=tasks)


def _base_of(entry: ArmEntry) -> Arm:
    """The arm whose script and options the entry starts from."""
    if entry.like:
        return find_arm(entry.like)
    return Arm("", "", SCRIPTS[_one_of("script", entry.script, SCRIPTS)])


def _checked_options(
    given: Mapping[object, object], known: Iterable[str], path: Path
) -> dict[str, object]:
    """Options by their names; files are looked for beside the protocol, or else as usual."""
    found = {}
    for key, value in given.items():
        with errors_in("options"):
            if key in ELSEWHERE:
                raise UserError(f"'{key}' is not set here but by {ELSEWHERE[key]}")
            if key not in known:
                raise UserError(f"unknown key '{key}'{did_you_mean(key, sorted(known))}")
        is_beside = key in FILES and isinstance(value, str) and (path.parent / value).is_file()
        if is_beside:
            value = str(path.parent / value)
        found[key] = value
    return found


def _contrasts(entries: Sequence[object]) -> tuple[Contrast, ...]:
    found = []
    for number, entry in enumerate(entries, start=1):
        with errors_in(f"compare, entry {number}"):
            if not isinstance(entry, dict):
                raise UserError(f"is {entry!r}, expected the keys arm, reference and metric")
            contrast = _filled(Contrast, entry)
            if contrast in found:
                raise UserError(f"{contrast} is there twice")
            found.append(contrast)
    return tuple(found)


def _margins(entries: Mapping[str, object]) -> dict[str, float]:
    found = {}
    for metric, margin in entries.items():
        with errors_in("margins"):
            _one_of("metric", metric, TASK_OF)
            if type(margin) not in (int, float) or not 0 < margin < 1:
                raise UserError(f"{metric} is {margin!r}, expected a number above 0 and below 1")
            found[metric] = float(margin)
    return found


def _primary(entries: Mapping[str, object]) -> dict[str, str]:
    with errors_in("primary"):
        for task, metric in entries.items():
            _one_of("task", task, METRICS)
            _one_of(task, metric, METRICS[task])
    return dict(entries)


def _budget(entries: Mapping[str, object]) -> Budget:
    with errors_in("budget"):
        budget = _filled(Budget, entries)
        if budget.trainings < 1 or (budget.hours is not None and not budget.hours > 0):
            raise UserError(f"is {dict(entries)!r}, expected numbers above 0")
        return budget


def _check_contrasts(protocol: Protocol) -> None:
    """Check that the contrasts can be measured.

    Raises:
        UserError: an arm of a contrast is not there, or does not have the metric; or the metric has
            no margin.
    """
    tasks = {arm.name: arm.tasks for arm in protocol.arms}
    for number, contrast in enumerate(protocol.counted, start=1):
        with errors_in(f"compare, entry {number}"):
            _one_of("metric", contrast.metric, TASK_OF)
            for name in (contrast.arm, contrast.reference):
                if name not in tasks:
                    refuse_gone(name)
                _one_of("arm", name, tasks)
                if TASK_OF[contrast.metric] not in tasks[name]:
                    trained_for = " ".join(tasks[name])
                    raise UserError(
                        f"{name} has no {contrast.metric}: it is trained for {trained_for}"
                    )
            if contrast.arm == contrast.reference:
                raise UserError(f"{contrast.arm} is compared with itself")
            if contrast.metric not in protocol.margins:
                raise UserError(
                    f"margins has no {contrast.metric}, "
                    "expected one for every metric that is compared"
                )


def _check_number(protocol: Protocol) -> None:
    allowed = protocol.budget.trainings
    if protocol.planned > allowed:
        data_sets, seeds, arms = map(len, (protocol.data, protocol.seeds, protocol.arms))
        names = ", ".join(arm.name for arm in protocol.arms)
        raise UserError(
            f"{data_sets} data sets x {seeds} seeds x {arms} arms ({names}) are "
            f"{protocol.planned} trainings, expected budget's {allowed} at most"
        )
