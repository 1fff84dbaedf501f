"""A signal stops a training cleanly in every phase: soon, in one line, to be gone on with."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from forked_runs import Forge
from small_runs import assert_same_run, small_options

PHASES = {
    "scan": ("utils.data.frame_index:read_label_file", 5),
    "caching": ("utils.data.dataset:JointDataset._decode", 5),
    "model": ("utils.commands.train_joint_gradnorm:build_model", 1),
    "first save": ("torch:save", 1),
    "batch": ("utils.training.trainer:Trainer.step", 2),
    "validation": ("utils.evaluation.evaluate:_predictions", 1),
    "save": ("torch:save", 2),
    "last validation": ("utils.evaluation.evaluate:_predictions", 4),
    "bootstrap": ("utils.evaluation.average_precision:_resampled_class_ap", 1),
    "predictions": ("utils.training.finish:write_predictions", 1),
    "pictures": ("utils.plots.run:plot_pr_curve", 1),
    "the last file": ("utils.training.finish:write_json", 1),
}
BEFORE_THE_FIRST_CHECKPOINT = ("scan", "caching", "model", "first save")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
QUICK = ("scan", "batch", "last validation", "bootstrap")
SOON_S = 2.0


def cases() -> list:
    """Every phase with every signal; four of them are quick."""
    found = []
    for place, phase in enumerate(PHASES):
        for offset, number in enumerate(SIGNALS):
            is_quick = phase in QUICK and offset == place % len(SIGNALS)
            marks = () if is_quick else pytest.mark.slow
            found.append(pytest.param(phase, number, id=f"{phase}-{number.name}", marks=marks))
    return found


@pytest.fixture(scope="module")
def arguments(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    options = small_options(tiny_data, tmp_path_factory.mktemp("cfg"))
    options |= {"epochs": 2, "index": "off"}  # so that label files are read
    return [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]


@pytest.fixture(scope="module")
def whole(forge: Forge, arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbs."""
    project = tmp_path_factory.mktemp("whole")
    ended = forge.run([*arguments, f"--project={project}"], project / "notes")
    assert ended.code == 0, ended.stderr
    return project / "exp"


def last_line(stderr: str) -> str:
    """What a terminal shows at last; progress bars return to the beginning of their line."""
    return re.split(r"[\r\n]", stderr.rstrip("\n"))[-1]


@pytest.mark.parametrize(("phase", "number"), cases())
def test_a_signal_stops_a_run_soon_and_in_one_line(
    forge: Forge, arguments: list[str], whole: Path, tmp_path: Path, phase: str, number: int
):
    call, nth = PHASES[phase]
    folder, notes = tmp_path / "exp", tmp_path / "notes"
    command = [*arguments, f"--project={tmp_path}", "--resume=auto"]
    stopped = forge.run(command, notes, call=call, number=int(number), nth=nth)
    assert stopped.code == 128 + number and "Traceback" not in stopped.stderr, stopped.stderr
    assert stopped.after_s < SOON_S
    said = last_line(stopped.stderr)
    assert said.startswith(f"stopped by {signal.Signals(number).name} ")
    assert json.loads((folder / "progress.json").read_text())["state"] == "stopped"
    assert not [path for path in folder.rglob(".*") if path.is_file()]
    last = folder / "weights/last.pt"
    assert last.exists() != (phase in BEFORE_THE_FIRST_CHECKPOINT)
    if last.exists():
        assert said.endswith(f"resume with --resume {last}")
    else:
        assert "before the first checkpoint; start the run anew" in said
    gone_on = forge.run(command, notes)
    assert gone_on.code == 0, gone_on.stderr
    assert json.loads((folder / "progress.json").read_text())["state"] == "finished"
    assert_same_run(folder, whole)
