"""models/gradnorm.py copied alone into a project that has a `models` and a `utils` of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

from utils.core.files import ROOT

PROGRAM = """
import doctest, sys
import models.theirs, utils
from models import gradnorm
results = doctest.testmod(gradnorm)
assert results.attempted > 0 and results.failed == 0, results
foreign = [name for name in sys.modules if name.startswith("utils.") or name == "models.balancers"]
assert not foreign, foreign
"""


def test_its_docstring_runs_where_nothing_else_of_this_project_is(tmp_path: Path):
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "models" / "gradnorm.py", tmp_path / "models")
    (tmp_path / "models" / "theirs.py").touch()
    (tmp_path / "utils.py").touch()
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
