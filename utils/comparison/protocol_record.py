"""Notes in a comparison's folder what was fixed before; says from that where the protocol was left.

protocol_history.json has an entry for what held at first, and for every later change of what is
trained, compared or allowed: when it was noted, from where, and how many trainings had begun by
then. protocol.yaml is a copy of the protocol file as it was at first. The report needs nothing else
but the run folders.
"""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from utils.comparison.arms import Arm
from utils.comparison.protocol import BUILT_IN, MARGINS, Contrast, Protocol
from utils.comparison.trainings import Training, relevant, run_name
from utils.core.files import write_json, write_text
from utils.core.terminal import one_line
from utils.core.values import to_mapping

COPY = "protocol.yaml"
HISTORY = "protocol_history.json"


def note_protocol(folder: Path, protocol: Protocol, trainings: Sequence[Training]) -> None:
    """Note a protocol where it is not the one that was noted last.

    Args:
        folder: of the comparison.
        trainings: its trainings, some of which may have been begun.
    """
    history = _history(folder)
    entry = {
        "time": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "source": str(protocol.source or ""),
        "begun": sum(training.is_begun for training in trainings),
        "protocol": plain_protocol(protocol),
    }
    is_first_file = protocol.source is not None and not (folder / COPY).exists()
    if is_first_file:
        origin = f"Copied at {entry['time']} from {one_line(entry['source'])}"
        head = f"# {origin}; trainings begun before: {entry['begun']}\n"
        text = head + protocol.source.read_text(encoding="utf-8")
        write_text(folder / COPY, text)
    if is_first_file or not history or history[-1]["protocol"] != entry["protocol"]:
        write_json(folder / HISTORY, [*history, entry])


def _history(folder: Path) -> list[dict]:
    path = folder / HISTORY
    if not path.exists():
        return []
    return json.loads(path.read_text(encoding="utf-8"))


def noted_protocol(folder: Path) -> Protocol:
    """What counts in a comparison, and the margins, as noted last.

    An older comparison has noted none; it has the built-in ones.
    """
    history = _history(folder)
    if not history:
        return Protocol(tuple(Contrast(*contrast) for contrast in BUILT_IN), MARGINS)
    last = history[-1]["protocol"]
    return Protocol(tuple(Contrast(**contrast) for contrast in last["compare"]), last["margins"])


def plain_protocol(protocol: Protocol) -> dict[str, object]:
    """Everything that a protocol fixes, as plain values.

    The arms are there with all their options and hyper-parameters.
    """
    data = {}
    for name, path in protocol.data.items():
        data[name] = f"{Path(path).resolve().parent.name}/{Path(path).name}"
    budget = {}
    if protocol.budget:
        budget = to_mapping(protocol.budget)
    content = {
        "data": data,
        "seeds": protocol.seeds,
        "split": protocol.split,
        "primary": dict(protocol.primary),
        "compare": [to_mapping(contrast) for contrast in protocol.counted],
        "margins": dict(protocol.margins),
        "budget": budget,
        "arms": {arm.name: _plain_arm(protocol, arm) for arm in protocol.arms},
    }
    return json.loads(json.dumps(content))  # tuples become lists, as they do in the file


def _plain_arm(protocol: Protocol, arm: Arm) -> dict[str, object]:
    options, hyp = protocol.settings(arm)
    settings = relevant(options) | relevant(hyp)
    del settings["data"], settings["seed"]
    return {"script": arm.script, "needs": arm.needs, **settings}


def protocol_summary(folder: Path) -> dict[str, object]:
    """What was fixed before, and where it was left, as plain values for the report.

    Returns:
        "counted" and "margins", as noted last; "text" of the protocol file as it was at first
        (None: there is none), its "source", the "time" when it was noted, and what had "begun" by
        then; "departures", a sentence each.
    """
    protocol = noted_protocol(folder)
    summary = {
        "counted": [f"`{one.arm}` - `{one.reference}` in {one.metric}" for one in protocol.counted],
        "margins": dict(protocol.margins),
    }
    # From the first file on
    history = list(itertools.dropwhile(lambda entry: not entry["source"], _history(folder)))
    if not history:
        return summary | {"text": None, "departures": []}
    first = history[0]
    _, _, text = (folder / COPY).read_text(encoding="utf-8").partition("\n")
    begun = "before any training"
    if first["begun"]:
        begun = f"after {first['begun']} trainings had begun"
    shortfalls = _shortfalls(folder, first["protocol"], history[-1]["protocol"])
    return summary | {
        "text": text,
        "source": first["source"],
        "time": first["time"],
        "begun": begun,
        "departures": [*_changes(history), *shortfalls],
    }


def _changes(history: Sequence[Mapping]) -> Iterator[str]:
    """What changed from one entry of the history to the next."""
    if history[0]["begun"]:
        yield f"{history[0]['begun']} trainings had begun before the protocol was noted"
    for before, after in itertools.pairwise(history):
        source = after["source"] or "the command line"
        noted = f"noted at {after['time']}, from {source}, {after['begun']} trainings begun"
        for line in differences(before["protocol"], after["protocol"]):
            yield f"{line} ({noted})"


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Where two protocols, as `plain_protocol` gives them, differ.

    A change that several arms share is one line.
    """
    found = []
    for key in dict.fromkeys((*before, *after)):
        if key not in ("arms", "compare") and before.get(key) != after.get(key):
            found.append(f"`{key}`: {_shown(before.get(key))} -> {_shown(after.get(key))}")
    for what in ("arms", "compare"):
        old = {_name(item) for item in before[what]}
        new = {_name(item) for item in after[what]}
        found += [f"{what}: {name} left out" for name in sorted(old - new)]
        found += [f"{what}: {name} added" for name in sorted(new - old)]
    return found + _changed_settings(before["arms"], after["arms"])


def _name(item: str | Mapping[str, str]) -> str:
    """Of an arm, or of a contrast."""
    if isinstance(item, str):
        return f"`{item}`"
    return str(Contrast(**item))


def _changed_settings(before: Mapping[str, Mapping], after: Mapping[str, Mapping]) -> list[str]:
    """What arms that both have are trained with."""
    shared: dict[str, list[str]] = {}
    for name, old in before.items():
        new = after.get(name, old)
        for key in dict.fromkeys((*old, *new)):
            if old.get(key) != new.get(key):
                change = f"`{key}` {_shown(old.get(key))} -> {_shown(new.get(key))}"
                shared.setdefault(change, []).append(f"`{name}`")
    return [f"{change} of {', '.join(arms)}" for change, arms in shared.items()]


def _shown(value: object) -> str:
    if value in (None, "", [], {}):
        return "nothing"
    return json.dumps(value)


def _shortfalls(folder: Path, promised: Mapping, planned: Mapping) -> Iterator[str]:
    """What was not done, or took longer than the budget.

    Args:
        promised: the protocol as it was at first.
        planned: as it was noted last.
    """
    units = itertools.product(planned["data"], planned["seeds"], planned["arms"])
    runs = [folder / run_name(fold, arm, seed) for fold, seed, arm in units]
    missing = [run.name for run in runs if not (run / "summary.json").exists()]
    if missing:
        yield f"{len(missing)} of {len(runs)} trainings were not finished: {', '.join(missing)}"
    hours = sum(_training_hours(run) for run in runs)
    allowed = promised["budget"].get("hours")
    if allowed is not None and hours > allowed:
        yield f"the trainings took {hours:.1f} hours, the budget was {allowed:g}"


def _training_hours(run: Path) -> float:
    path = run / "results.csv"
    if not path.exists():
        return 0.0
    times_s = pd.read_csv(path)[["time/epoch_s", "time/val_s"]]
    return float(times_s.sum().sum()) / 3600
