"""benchmark.py from end to end."""

import logging
from pathlib import Path

import pytest
from small_runs import small_options

import benchmark


@pytest.mark.slow
def test_the_benchmark_runs_from_end_to_end(tiny_data: Path, tmp_path: Path, monkeypatch, caplog):
    options = small_options(tiny_data, tmp_path)
    given = [
        text
        for key, value in options.items()
        for text in (f"--{key.replace('_', '-')}", str(value))
    ]
    monkeypatch.setattr(
        "sys.argv",
        [
            "benchmark.py",
            "--steps",
            "10",
            "--project",
            str(tmp_path),
            "--against",
            "--amp bf16",
            *given,
        ],
    )
    with caplog.at_level(logging.INFO):
        benchmark.main()
    assert (tmp_path / "exp" / "benchmark.png").stat().st_size > 10_000
    assert "whole epoch" in caplog.text and "COCO evaluation" in caplog.text
