"""GradNorm's three files copied alone into a project that has a `models` and a `utils` of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

from utils.core.files import ROOT

PROGRAM = """
import doctest, sys
import models.theirs, utils
from models import gradnorm, gradnorm_loss
for module in (gradnorm, gradnorm_loss):
    results = doctest.testmod(module)
    assert results.attempted > 0 and results.failed == 0, results
foreign = [name for name in sys.modules if name.startswith("utils.") or name == "models.balancers"]
assert not foreign, foreign
"""


def test_their_docstrings_run_where_nothing_else_of_this_project_is(tmp_path: Path):
    (tmp_path / "models").mkdir()
    for name in ("gradnorm.py", "gradnorm_balancer.py", "gradnorm_loss.py"):
        shutil.copy(ROOT / "models" / name, tmp_path / "models")
    (tmp_path / "models" / "theirs.py").touch()
    (tmp_path / "utils.py").touch()
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
