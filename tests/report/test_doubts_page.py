"""Labels to doubt: the table, the machine's decisions, and the page in a real browser."""

import csv
import json
from pathlib import Path

import pytest
from made_up_pages import HOSTILE, with_names, write_run

from utils.core.data_config import load_data_config
from utils.curation.decisions import decided, read_decisions
from utils.curation.held_out import DataSets, find_predictions
from utils.data.splits import load_split
from utils.report.doubts_page import write_doubts

pytest.importorskip("cleanlab", reason="pip install '.[labels]'")


@pytest.fixture(scope="module")
def doubts(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of doubts about a made-up run."""
    folder = tmp_path_factory.mktemp("doubts")
    (found,) = find_predictions([write_run(folder / "run", tiny_data, split="train", confused=1)])
    write_doubts(folder, [DataSets([tiny_data]).held_out(found)], load_data_config(tiny_data))
    return folder


def test_the_table_is_sorted_and_names_what_is_likely(doubts: Path):
    with (doubts / "doubts.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for subject in ("view", "box"):
        values = [float(row["doubt"]) for row in rows if row["subject"] == subject]
        assert values and values == sorted(values, reverse=True)
    views = [row for row in rows if row["subject"] == "view"]
    assert all(row["label"] != row["likely"] for row in views)


def test_a_machines_decisions_can_be_applied(doubts: Path, tiny_data: Path):
    data = load_data_config(tiny_data)
    path = doubts / "decisions_by_machine.json"
    assert json.loads(path.read_text())["decided_by"] == "machine"
    decisions = read_decisions(path, data)
    frames, changes = decided(load_split(data, "train"), decisions, data)
    assert decisions and len(changes) <= len(frames.images)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_quietly_and_fits(look, doubts: Path, width: int):
    opened = look(doubts / "doubts.html", width)
    opened.page.locator("#picture img").wait_for()
    assert opened.said == [] and opened.leaving() == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_keyboard_decisions_come_out_in_the_file(
    look, doubts: Path, tiny_data: Path, tmp_path: Path
):
    opened = look(doubts / "doubts.html")
    page = opened.page
    records = page.evaluate("Object.values(DOUBTS).flat()")
    views = [own for own in records if own["subject"] == "view"]
    page.keyboard.press("1")  # the label is right
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("2")  # changed: the likely view
    page.click("#subjects button >> nth=1")
    boxes = [own for own in records if own["subject"] == "box"]
    page.keyboard.press("9")  # no such choice: nothing happens
    page.keyboard.press("2")  # add, or remove
    choices = page.locator("#choices button").count()
    page.keyboard.press(str(choices))  # the last: skip
    page.reload()  # the browser keeps them
    page.locator("#choices button").first.wait_for()
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "decisions.json")
    data = load_data_config(tiny_data)
    view, box = read_decisions(tmp_path / "decisions.json", data)
    assert view.decision == "change" and view.new == views[0]["view"]
    expected = "remove"
    if boxes[0]["old"] is None:
        expected = "add"
    assert box.decision == expected
    _, changes = decided(load_split(data, "train"), [view, box], data)
    assert 1 <= len(changes) <= 2
    assert opened.said == []


def test_hostile_names_stay_text(look, tiny_data: Path, tmp_path: Path):
    classes = ["</script><script>document.title='pwned'</script>", "\"'<b>", "c" * 300, "\u05d0"]
    data = with_names(tiny_data, tmp_path / "data", list(HOSTILE), classes)
    (found,) = find_predictions([write_run(tmp_path / "run", data, confused=1)])
    write_doubts(tmp_path, [DataSets([data]).held_out(found)], load_data_config(data))
    opened = look(tmp_path / "doubts.html", 390)
    opened.page.click("#subjects button >> nth=1")
    for _ in range(opened.page.evaluate("doubtsOfSubject().length")):
        opened.page.keyboard.press("ArrowRight")
    assert "pwned" not in opened.page.title()
    assert opened.page.locator("main b, main [onerror], main script").count() == 0
    assert opened.said == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
