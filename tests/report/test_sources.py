"""The folders that a page is made of."""

import json
from pathlib import Path

import pytest
from made_up_runs import log_epochs

from utils.core.script import UserError
from utils.report.sources import read_sources


def test_a_comparisons_trainings_are_told_by_arm_and_seed(tmp_path: Path):
    (tmp_path / "comparison_results.json").write_text("{}")
    for name in ("fold0-a-b-seed3", "fold1-a-b-seed3", "a-b-seed10", "logs"):
        (tmp_path / name).mkdir()
    for name in ("fold0-a-b-seed3", "fold1-a-b-seed3", "a-b-seed10"):
        log_epochs(tmp_path / name)
    runs, (comparison,) = read_sources([tmp_path])
    assert [(run.name, run.arm, run.seed) for run in runs] == [
        ("fold0-a-b-seed3", "a-b", 3),
        ("fold1-a-b-seed3", "a-b", 3),
        ("a-b-seed10", "a-b", 10),
    ]
    assert comparison.text == ""


def test_runs_of_one_name_are_told_apart(tmp_path: Path):
    for place in ("a", "b"):
        (tmp_path / place / "exp").mkdir(parents=True)
        log_epochs(tmp_path / place / "exp")
    runs, _ = read_sources([tmp_path / "a/exp", tmp_path / "b/exp"])
    assert len({run.name for run in runs}) == 2 and len({run.arm for run in runs}) == 2


def test_what_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"found no results\.csv.*expected the folder of a run"):
        read_sources([tmp_path])
    with pytest.raises(UserError, match=r"gone: no such folder.*expected the folder of a run"):
        read_sources([tmp_path / "gone"])
    (tmp_path / "metrics.json").write_text("[")
    with pytest.raises(UserError, match="not a JSON file"):
        read_sources([tmp_path])


def test_the_interference_of_a_run_is_read(tmp_path: Path):
    log_epochs(tmp_path)
    rows = ["step,place,cosine,norm/detection,norm/classification"]
    rows += ["9,cut,0.5,1,2", "9,3,0.1,1,2", "19,cut,,1,2"]
    (tmp_path / "interference.csv").write_text("\n".join(rows) + "\n")
    ((run,), _) = read_sources([tmp_path])
    assert run.tables.interference["place"].tolist() == ["cut", "3"]
    assert run.tables.updates is None


def test_an_evaluation_has_figures_and_no_curves(tmp_path: Path):
    (tmp_path / "metrics.json").write_text(json.dumps({"names": []}))
    ((run,), _) = read_sources([tmp_path])
    assert run.tables.results is None and run.metrics == {"names": []} and run.card == ""
