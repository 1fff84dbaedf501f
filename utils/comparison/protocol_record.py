"""Notes in a comparison's folder what was fixed before, and says from that where the protocol was left.

protocol.yaml is a copy of the protocol file as it was at first. protocol_history.json has a line for that and for
every later change of what is trained, compared or allowed: when it was noted, and everything that held then.
"""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from utils.comparison.protocol import Protocol
from utils.comparison.trainings import Trial, relevant
from utils.core.files import write_atomically, write_json
from utils.core.values import to_mapping

COPY, HISTORY = "protocol.yaml", "protocol_history.json"
NOTHING = "nothing"


def note_protocol(folder: Path, protocol: Protocol, trials: Sequence[Trial]) -> None:
    """Note a protocol file, and any other protocol in a folder that has one, if it is not the one noted last.

    Args:
        folder: of the comparison.
        trials: its trainings, some of which may have been begun.
    """
    history = _history(folder)
    if protocol.source is None and not history:
        return
    content = plain_protocol(protocol)
    if history and history[-1]["protocol"] == content:
        return
    time = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    source = str(protocol.source or "the command line")
    begun = sum(trial.is_begun for trial in trials)
    if not history:
        head = f"# Copied at {time} from {source}; trainings begun before: {begun}\n"
        text = head + protocol.source.read_text(encoding="utf-8")
        write_atomically(folder / COPY, lambda path: path.write_text(text, encoding="utf-8"))
    entry = {"time": time, "source": source, "begun": begun, "protocol": content}
    write_json(folder / HISTORY, [*history, entry])


def _history(folder: Path) -> list[dict]:
    path = folder / HISTORY
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def plain_protocol(protocol: Protocol) -> dict[str, object]:
    """Everything that a protocol fixes, as plain values; the arms with all their options and hyper-parameters."""
    content = {
        "data": [f"{Path(path).resolve().parent.name}/{Path(path).name}" for path in protocol.data.values()],
        "seeds": list(protocol.seeds),
        "split": protocol.split,
        "primary": dict(protocol.primary),
        "compare": [str(contrast) for contrast in protocol.counted],
        "margins": dict(protocol.margins),
        "budget": to_mapping(protocol.budget) if protocol.budget else {},
        "arms": {arm.name: _plain_arm(protocol, arm) for arm in protocol.arms},
    }
    return json.loads(json.dumps(content))  # tuples become lists, as they do in the file


def _plain_arm(protocol: Protocol, arm: object) -> dict[str, object]:
    options, hyp = protocol.settings(arm)
    settings = relevant(options) | relevant(hyp)
    for key in ("data", "seed"):
        del settings[key]
    return {"script": arm.script, "needs": arm.needs, **settings}


def protocol_facts(folder: Path, protocol: Protocol, trials: Sequence[Trial]) -> dict[str, object]:
    """What was fixed before, and where it was left, as plain values for the report.

    Returns:
        "counted" and "margins"; "text" of the protocol file as it was at first (None: there is none), its "source",
        the "time" when it was noted, how many trainings had "begun"; "departures", a sentence each.
    """
    facts = {"counted": [f"`{c.arm}` - `{c.reference}` in {c.metric}" for c in protocol.counted]}
    facts |= {"margins": dict(protocol.margins)}
    history = _history(folder)
    if not history:
        return facts | {"text": None, "departures": []}
    first = history[0]
    _, _, text = (folder / COPY).read_text(encoding="utf-8").partition("\n")
    return facts | {
        "text": text,
        "source": first["source"],
        "time": first["time"],
        "begun": f"after {first['begun']} trainings had begun" if first["begun"] else "before any training",
        "departures": [*_changes(history), *_shortfalls(first["protocol"], trials)],
    }


def _changes(history: Sequence[Mapping]) -> Iterator[str]:
    """What changed from one entry of the history to the next."""
    if history[0]["begun"]:
        yield f"{history[0]['begun']} trainings had begun before the protocol was noted"
    for before, after in itertools.pairwise(history):
        for line in differences(before["protocol"], after["protocol"]):
            yield f"{line} (noted at {after['time']}, from {after['source']}, {after['begun']} trainings begun)"


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Where two protocols, as `plain_protocol` gives them, differ; a change that several arms share is one line."""
    found = [
        f"`{key}`: {_shown(before.get(key))} -> {_shown(after.get(key))}"
        for key in dict.fromkeys((*before, *after))
        if key != "arms" and before.get(key) != after.get(key)
    ]
    old, new = before["arms"], after["arms"]
    found += [f"arm `{name}` left out" for name in old if name not in new]
    found += [f"arm `{name}` added" for name in new if name not in old]
    shared: dict[tuple[str, str, str], list[str]] = {}
    for name in (name for name in old if name in new):
        for key in dict.fromkeys((*old[name], *new[name])):
            change = (key, _shown(old[name].get(key)), _shown(new[name].get(key)))
            if change[1] != change[2]:
                shared.setdefault(change, []).append(f"`{name}`")
    return found + [f"`{key}` of {', '.join(arms)}: {was} -> {now}" for (key, was, now), arms in shared.items()]


def _shown(value: object) -> str:
    return NOTHING if value in (None, "", [], {}) else json.dumps(value)


def _shortfalls(promised: Mapping, trials: Sequence[Trial]) -> Iterator[str]:
    """What was not done, or took longer than the budget."""
    missing = [trial.folder.name for trial in trials if not trial.is_finished]
    if missing:
        yield f"{len(missing)} of {len(trials)} trainings were not finished: {', '.join(missing)}"
    hours = sum(_training_hours(trial.folder) for trial in trials)
    allowed = promised["budget"].get("hours")
    if allowed is not None and hours > allowed:
        yield f"the trainings took {hours:.1f} hours, the budget was {allowed:g}"


def _training_hours(folder: Path) -> float:
    path = folder / "results.csv"
    if not path.exists():
        return 0.0
    return float(pd.read_csv(path)[["time/epoch_s", "time/val_s"]].sum().sum()) / 3600
