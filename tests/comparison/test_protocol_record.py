"""What was fixed before is kept as it was, and every departure from it is told."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from made_up_protocols import CONTENT, write_protocol

from utils.comparison.arms import expand
from utils.comparison.protocol import MARGINS, Protocol, built_in_contrasts
from utils.comparison.protocol_file import load_protocol
from utils.comparison.protocol_record import (
    COPY,
    HISTORY,
    differences,
    note_protocol,
    noted_protocol,
    plain_protocol,
    protocol_summary,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the comparison."""
    (tmp_path / "compared").mkdir()
    return tmp_path / "compared"


def trainings(begun: int = 0) -> list[SimpleNamespace]:
    """Stand-ins for twelve trainings."""
    return [SimpleNamespace(is_begun=number < begun) for number in range(12)]


def finish(folder: Path, protocol: Protocol, hours: float = 0.0) -> list[Path]:
    """Write what the finished trainings of a protocol leave, each of which took that long.

    Returns their folders.
    """
    runs = [
        folder / f"{f}-{arm.name}-seed{s}"
        for f in protocol.data
        for s in protocol.seeds
        for arm in protocol.arms
    ]
    times = {"time/epoch_s": [hours * 3000, 0], "time/val_s": [0, hours * 600]}
    for run in runs:
        run.mkdir(exist_ok=True)
        (run / "summary.json").touch()
        pd.DataFrame(times).to_csv(run / "results.csv", index=False)
    return runs


def departures(folder: Path) -> list[str]:
    return protocol_summary(folder)["departures"]


def test_the_file_is_copied_before_training_with_the_time(tmp_path: Path, folder: Path):
    path = write_protocol(tmp_path)
    protocol = load_protocol(path)
    note_protocol(folder, protocol, trainings())
    finish(folder, protocol)
    head, _, text = (folder / COPY).read_text().partition("\n")
    assert text == path.read_text() and yaml.safe_load((folder / COPY).read_text()) == CONTENT
    summary = protocol_summary(folder)
    assert (
        summary["time"] in head
        and summary["time"].endswith("UTC")
        and summary["begun"] == "before any training"
    )
    assert (
        summary["text"] == text and summary["source"] == str(path) and summary["departures"] == []
    )
    assert summary["counted"] == ["`gradnorm` - `fixed` in mAP50"] and summary["margins"] == {
        "mAP50": 0.08
    }
    json.dumps(summary)


def test_what_counts_can_be_read_from_the_folder_alone(tmp_path: Path, folder: Path):
    protocol = load_protocol(write_protocol(tmp_path))
    note_protocol(folder, protocol, trainings())
    noted = noted_protocol(folder)
    assert (noted.counted, noted.margins) == (protocol.counted, protocol.margins)


def test_going_on_with_the_same_file_changes_nothing(tmp_path: Path, folder: Path):
    protocol = load_protocol(write_protocol(tmp_path))
    for begun in (0, 2):
        note_protocol(folder, protocol, trainings(begun))
        kept = [(folder / name).read_bytes() for name in (COPY, HISTORY)]
    reworded = load_protocol(
        write_protocol(tmp_path, reasons="in other words", question="Is it worse?")
    )
    note_protocol(folder, reworded, trainings(3))
    assert [(folder / name).read_bytes() for name in (COPY, HISTORY)] == kept
    finish(folder, reworded)
    assert departures(folder) == []


def test_a_change_is_told_with_what_it_was_and_when(tmp_path: Path, folder: Path):
    note_protocol(folder, load_protocol(write_protocol(tmp_path)), trainings())
    before = (folder / COPY).read_bytes()
    entry = CONTENT["compare"][0] | {"metric": "mAP50-95"}
    changes = {"seeds": [0, 1, 2], "options": {"size": "n", "epochs": 5}, "compare": [entry]}
    changes |= {"margins": {"mAP50-95": 0.1}, "budget": {"trainings": 18}}
    later = load_protocol(write_protocol(tmp_path, **changes))
    note_protocol(folder, later, trainings(begun=2))
    finish(folder, later)
    time = json.loads((folder / HISTORY).read_text())[1]["time"]
    found = departures(folder)
    assert {line.partition(" (noted at ")[0] for line in found} == {
        "`seeds`: [0, 1] -> [0, 1, 2]",
        '`margins`: {"mAP50": 0.08} -> {"mAP50-95": 0.1}',
        '`budget`: {"trainings": 12, "hours": 2.0} -> {"trainings": 18, "hours": null}',
        "compare: gradnorm - fixed in mAP50 left out",
        "compare: gradnorm - fixed in mAP50-95 added",
        "`epochs` 3 -> 5 of `fixed`, `gradnorm`",
    }
    assert all(time in line and "2 trainings begun" in line for line in found)
    assert (folder / COPY).read_bytes() == before


def test_a_change_that_is_taken_back_is_told_twice(tmp_path: Path, folder: Path):
    for seeds in ([0, 1], [0], [0, 1]):
        protocol = load_protocol(write_protocol(tmp_path, seeds=seeds))
        note_protocol(folder, protocol, trainings())
    finish(folder, protocol)
    found = [line.partition(" (")[0] for line in departures(folder)]
    assert found == ["`seeds`: [0, 1] -> [0]", "`seeds`: [0] -> [0, 1]"]


def test_a_hyp_file_that_changed_is_a_change(tmp_path: Path, folder: Path):
    hyp = tmp_path / "hyp.yaml"
    for rate in (0.001, 0.002):
        hyp.write_text(f"lr0: {rate}\n")
        protocol = load_protocol(write_protocol(tmp_path, options={"hyp": "hyp.yaml"}))
        note_protocol(folder, protocol, trainings())
    finish(folder, protocol)
    (line,) = departures(folder)
    assert line.startswith("`lr0` 0.001 -> 0.002 of `fixed`, `gradnorm`")


def test_arms_that_came_or_went_are_told_also_by_the_command_line(tmp_path: Path, folder: Path):
    first = load_protocol(write_protocol(tmp_path))
    note_protocol(folder, first, trainings())
    now = replace(first, arms=tuple(expand(["gradnorm", "dual"])), source=None)
    note_protocol(folder, now, trainings())
    found = departures(folder)
    assert any(line.startswith("arms: `fixed` left out") for line in found)
    assert any(
        line.startswith("arms: `dual` added") and "from the command line" in line for line in found
    )


def test_a_file_that_comes_after_trainings_is_told(tmp_path: Path, folder: Path):
    """What the command line said before does not count as fixed."""
    protocol = load_protocol(write_protocol(tmp_path))
    note_protocol(folder, replace(protocol, source=None, seeds=(7,)), trainings())
    assert protocol_summary(folder)["text"] is None
    note_protocol(folder, protocol, trainings(begun=2))
    finish(folder, protocol)
    assert departures(folder) == ["2 trainings had begun before the protocol was noted"]


def test_a_file_that_says_what_the_command_line_said_is_noted(tmp_path: Path, folder: Path):
    protocol = load_protocol(write_protocol(tmp_path))
    for source in (None, protocol.source):
        note_protocol(folder, replace(protocol, source=source), trainings())
    assert protocol_summary(folder)["source"] == str(protocol.source)


def test_trainings_that_are_missing_are_told(tmp_path: Path, folder: Path):
    protocol = load_protocol(write_protocol(tmp_path))
    note_protocol(folder, protocol, trainings())
    runs = finish(folder, protocol)
    for run in runs[-2:]:
        (run / "summary.json").unlink()
    names = "fold2-fixed-seed1, fold2-gradnorm-seed1"
    assert departures(folder) == [f"2 of 12 trainings were not finished: {names}"]


@pytest.mark.parametrize(
    ("hours", "found"), [(0.125, ["the trainings took 1.5 hours, the budget was 1"]), (0.05, [])]
)
def test_more_hours_than_the_budgets_are_told(
    tmp_path: Path, folder: Path, hours: float, found: list[str]
):
    protocol = load_protocol(write_protocol(tmp_path, budget={"trainings": 12, "hours": 1}))
    note_protocol(folder, protocol, trainings())
    finish(folder, protocol, hours)
    assert departures(folder) == found


def test_without_a_file_what_counts_is_noted_and_nothing_else_is_said(folder: Path):
    arms = tuple(expand(["fixed", "gradnorm"]))
    protocol = Protocol(
        built_in_contrasts(arms), MARGINS, data={"": "data.yaml"}, arms=arms, seeds=(0,)
    )
    for seeds in ((0,), (0, 1)):
        note_protocol(folder, replace(protocol, seeds=seeds), trainings())
    summary = protocol_summary(folder)
    assert summary["text"] is None and summary["departures"] == [] and len(summary["counted"]) == 2
    assert noted_protocol(folder).counted == protocol.counted and not (folder / COPY).exists()


def test_an_older_comparison_has_the_built_in_contrasts(folder: Path):
    assert len(noted_protocol(folder).counted) == 4 and noted_protocol(folder).margins == MARGINS


def test_what_is_noted_is_plain_and_differs_from_itself_nowhere(tmp_path: Path):
    plain = plain_protocol(load_protocol(write_protocol(tmp_path)))
    assert plain == json.loads(json.dumps(plain)) and differences(plain, plain) == []
    assert plain["data"] == {f"fold{number}": f"fold{number}/data.yaml" for number in range(3)}
    assert str(tmp_path) not in json.dumps(plain)
