"""The command of docs/performance.md that says what validation takes beside its forward passes."""

import re
import sys
from pathlib import Path

import pytest
import torch
from small_runs import small_options

from docs import validation_share


@pytest.mark.slow
def test_it_says_what_a_validation_takes(tiny_data: Path, tmp_path: Path, monkeypatch, capsys):
    options = small_options(tiny_data, tmp_path) | {"steps": 10}
    given = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    monkeypatch.setattr(sys, "argv", ["validation_share", *given])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    validation_share.main()
    said = capsys.readouterr().out
    found = re.fullmatch(
        r"validation but its forward passes: (\d+\.\d\d)% of an epoch's processor time "
        r"\(.* in 1 turns\), \d+ detections a frame\n",
        said,
    )
    assert found and 0 < float(found.group(1)) < 100
