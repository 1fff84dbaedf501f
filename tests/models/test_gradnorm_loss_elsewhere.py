"""`GradNormLoss` in several processes, and in the programs of its how-to."""

import json
import re
from pathlib import Path

import pytest
from script_processes import FORKS, run_script_process
from three_tasks import TASKS, train_rank

from utils.core.files import ROOT


@pytest.mark.parametrize(
    ("place", "unlabelled"), [("features", False), ("weight", False), ("weight", True)]
)
def test_two_ranks_have_the_weights_of_one_process_with_the_whole_batch(
    place: str, unlabelled: bool, tmp_path: Path
):
    ranks = []
    for rank in range(2):
        given = (rank, 2, place, unlabelled, tmp_path)
        ranks.append(FORKS.Process(target=train_rank, args=given))
        ranks[-1].start()
    train_rank(0, 1, place, False, tmp_path)
    for rank in ranks:
        rank.join(100)
        assert rank.exitcode == 0
    first, second, alone = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("2-0", "2-1", "1-0")
    )
    assert first == second
    if unlabelled:
        assert first[-1] != dict.fromkeys(TASKS, 1.0)
        return
    for ours, theirs in zip(first, alone, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


# ---- the how-to ----------------------------------------------------------------------------------

HOW_TO = ROOT / "docs" / "how-to" / "gradnorm-in-your-loop.md"


def programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_the_programs_of_the_how_to_run(number: int, tmp_path: Path):
    (tmp_path / "program.py").write_text(programs()[number], encoding="utf-8")
    done = run_script_process(tmp_path / "program.py", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert "weights" in done.stdout
