"""report.py and --report: where the page is, and what is refused."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up_pages import write_run
from script_calls import exit_code_of
from small_comparisons import compare, not_again

import report
import val
from utils.commands.report import report_if_asked
from utils.core.script import run_script


def test_the_page_is_in_the_run_or_where_it_was_asked_for(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = write_run(tmp_path / "exp", tiny_data)
    assert exit_code_of(report, run, monkeypatch=monkeypatch) == 0
    assert (run / "report.html").is_file()
    out = tmp_path / "other.html"
    given = (run, "--data", tiny_data, "--out", out, "--embed")
    assert exit_code_of(report, *given, monkeypatch=monkeypatch) == 0
    assert "data:image/jpeg" in out.read_text(encoding="utf-8")


def test_a_folder_that_is_no_run_ends_with_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    assert exit_code_of(report, tmp_path, monkeypatch=monkeypatch) == 2
    assert "expected the folder of a run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_pictures")
def test_an_evaluation_writes_it_on_request(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = write_run(tmp_path / "exp", tiny_data)
    given = ["--predictions", run / "predictions.npz", "--data", tiny_data]
    given += ["--project", tmp_path, "--name", "val", "--report"]
    assert exit_code_of(val, *given, monkeypatch=monkeypatch) == 0
    assert 'id="gallery"' in (tmp_path / "val/report.html").read_text(encoding="utf-8")


def test_a_training_writes_it_on_request(tiny_data: Path, tmp_path: Path):
    run = write_run(tmp_path / "exp", tiny_data)
    for asked in (False, True):
        report_if_asked(SimpleNamespace(options=SimpleNamespace(report=asked), folder=run))
        assert (run / "report.html").exists() == asked


def test_a_comparison_writes_it_on_request(
    linked: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
):
    data = next(own for own in arguments if own.startswith("--data="))
    run_script(
        lambda: compare(monkeypatch, not_again, linked, f"--rescore={linked}", data, "--report")
    )
    text = (linked / "report.html").read_text(encoding="utf-8")
    assert 'id="comparison"' in text and "fixed, seed 0" in text
