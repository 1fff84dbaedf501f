"""report.html: what it is made of, and what it says of itself."""

import json
import re
from pathlib import Path

import pytest
import yaml
from made_up_pages import unpacked, write_run

from utils.core.script import UserError
from utils.report.run_page import write_report
from utils.report.thumbnails import LONGEST_SIDE_PX


def data_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_a_run_has_curves_figures_card_and_frames(tiny_data: Path, tmp_path: Path):
    page = write_report([write_run(tmp_path / "exp", tiny_data)])
    assert page == tmp_path / "exp/report.html" and page.stat().st_size < 2e6
    data = data_of(page)
    (frames,) = data["sets"]
    assert frames["frames"] == len(unpacked(frames["packed"])["names"]) == 8 and data["charts"]
    text = page.read_text(encoding="utf-8")
    assert "<code>AR</code>" in text and 'id="figures"' in text
    assert "Made of real frames" in text  # the copy of the phantom has no generator
    assert 'content="referred to"' in text and "data:image" not in text


def test_frames_of_a_generator_are_not_called_real(tiny_data: Path, tmp_path: Path):
    run = write_run(tmp_path / "exp", tiny_data)
    content = yaml.safe_load(tiny_data.read_text()) | {
        "path": str(tiny_data.parent / "frames"),
        "generate": "echo_phantom",
    }
    (tmp_path / "phantom.yaml").write_text(yaml.safe_dump(content))
    page = write_report([run], data_sets=[str(tmp_path / "phantom.yaml")])
    assert 'class="notice"' not in page.read_text(encoding="utf-8")


def test_without_its_frames_a_page_has_no_gallery_and_says_so(
    tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = write_run(tmp_path / "exp", tiny_data)
    (run / "opt.yaml").write_text("data: gone.yaml\n")
    page = write_report([run])
    assert data_of(page)["sets"] == [] and 'id="gallery"' not in page.read_text(encoding="utf-8")
    assert "no frames of exp in the page" in caplog.text and "--data" in caplog.text


def test_a_data_set_that_was_named_must_fit(tiny_data: Path, tmp_path: Path):
    run = write_run(tmp_path / "exp", tiny_data)
    content = yaml.safe_load(tiny_data.read_text()) | {
        "path": str(tiny_data.parent / "frames"),
        "val": "images/train",
    }
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"are in no data set that was named: .*other\.yaml"):
        write_report([run], data_sets=[str(tmp_path / "other.yaml")])


def test_a_comparison_puts_an_arms_folds_into_one_set(tiny_data: Path, tmp_path: Path):
    for fold, split in enumerate(("val", "train")):
        write_run(tmp_path / f"fold{fold}-fixed-seed0", tiny_data, split=split)
    rows = [
        {"arm": "a", "reference": "b", "metric": "mAP50", "value": 0.1}
        | {"low": -0.1, "high": 0.3, "is_counted": False, "word": "exploratory"}
    ]
    (tmp_path / "comparison_results.json").write_text(json.dumps({"differences": rows}))
    (tmp_path / "report.md").write_text("# Comparison\n\nwords\n")
    page = write_report([tmp_path])
    (own,) = data_of(page)["sets"]
    assert own["name"] == "fixed, seed 0" and own["frames"] == 20
    text = page.read_text(encoding="utf-8")
    assert 'class="not-told"' in text and "words" in text


@pytest.mark.parametrize("contrasts", [0, 1])
def test_without_differences_the_report_lies_open(contrasts: int, tiny_data: Path, tmp_path: Path):
    write_run(tmp_path / "fixed-seed0", tiny_data)
    row = {"arm": "a", "reference": "b", "metric": "mAP50", "value": 0.1}
    row |= {"low": -0.1, "high": 0.3, "is_counted": False, "word": "exploratory"}
    results = {"differences": [row] * contrasts}
    (tmp_path / "comparison_results.json").write_text(json.dumps(results))
    (tmp_path / "report.md").write_text("words\n")
    text = write_report([tmp_path]).read_text(encoding="utf-8")
    assert ("<details open><summary>report.md" in text) is not bool(contrasts)


def test_the_page_says_what_its_data_set_calls_a_view(tiny_data: Path, tmp_path: Path):
    content = yaml.safe_load(tiny_data.read_text())
    content |= {"path": str(tiny_data.parent / "frames"), "cls_title": "projection"}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    run = write_run(tmp_path / "exp", tmp_path / "data.yaml")
    text = write_report([run]).read_text(encoding="utf-8")
    shown = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL)
    assert ">predicted projection<" in shown and ">By projection<" in shown
    assert not re.search(r">[^<]*\bviews?\b", shown, re.IGNORECASE)
    other = write_run(tmp_path / "other", tiny_data)
    both = write_report([run, other], tmp_path / "both.html").read_text(encoding="utf-8")
    assert ">predicted view<" in both  # they do not agree


def test_embedded_pictures_are_small(tiny_data: Path, tmp_path: Path):
    page = write_report([write_run(tmp_path / "exp", tiny_data)], embed=True)
    pictures = data_of(page)["sets"][0]["thumbnails"]
    assert len(pictures) == 8 and all(len(own) < 4 * LONGEST_SIDE_PX**2 / 8 for own in pictures)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.json", {"detection": 3}),
        ("metrics.json", {"detection": {"confusion": [[1]]}}),
        ("metrics.json", {"detection": {"mAP_0.5": "x"}}),
        ("metrics.json", {"cls_title": ["floor"]}),
        ("comparison_results.json", {"differences": 5}),
        ("comparison_results.json", {"differences": [{"metric": "mAP50"}]}),
    ],
)
def test_a_damaged_file_is_named(file: str, content: dict, tmp_path: Path):
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / file}: ")):
        write_report([tmp_path])
    assert not (tmp_path / "report.html").exists()
