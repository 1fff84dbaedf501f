"""The report in a real browser."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from made_up_pages import HOSTILE, with_names, write_run
from made_up_results import NAMES, VIEWS, clip_data, image_result

from utils.evaluation.error_kinds import KINDS, NO_BOX
from utils.report import records
from utils.report.figures import overview
from utils.report.page import write_page
from utils.report.records import LEAST_SCORE, frame_set
from utils.report.run_page import SCRIPTS, write_report

PICTURES = """(() => {
  const pictures = [...document.querySelectorAll("#frames img")];
  return pictures.length > 0 && pictures.every((own) => own.naturalWidth > 0);
})()"""  # whether all are there


def boxes(opened) -> int:
    return opened.page.locator("#frames rect:not(.halo)").count()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_opens_quietly_asks_nobody_and_fits(look, report_page: Path, width: int):
    opened = look(report_page, width)
    opened.page.locator("#frames .cell").first.wait_for()
    opened.page.locator("#charts canvas").first.wait_for()
    opened.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    opened.page.wait_for_timeout(200)
    assert opened.said == [] and opened.leaving() == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.until(PICTURES)
    assert opened.page.is_hidden("#moved")


def test_filters_change_the_count_and_show_all_brings_it_back(look, report_page: Path):
    opened = look(report_page)
    everything = opened.count()
    assert everything == 8
    by_kind = []
    for kind in ("missed", "right", "background"):
        opened.page.check(f"#kinds input[value='{kind}']")
        by_kind.append(opened.count())
        opened.page.uncheck(f"#kinds input[value='{kind}']")
    assert min(by_kind) < everything
    shares = []
    for answer in ("right", "wrong", "unknown"):
        opened.page.select_option("#view-found", answer)
        shares.append(opened.count())
    assert sum(shares) == everything and shares[1] > 0
    opened.page.select_option("#view-found", "")
    for choice in ("#patient", "#clip", "#view"):
        counts = []
        for value in opened.page.eval_on_selector_all(
            f"{choice} option", "(all) => all.map((o) => o.value)"
        ):
            if value:
                opened.page.select_option(choice, value)
                counts.append(opened.count())
        assert sum(counts) == everything, choice
        opened.page.select_option(choice, "")
    opened.page.click("#reset")
    assert opened.count() == everything


def test_the_slider_changes_the_boxes(look, report_page: Path):
    opened = look(report_page)
    counts = []
    for confidence in ("0.05", "0.5", "1"):
        opened.page.locator("#confidence").fill(confidence)
        opened.page.wait_for_timeout(100)
        counts.append(boxes(opened))
    assert counts[0] > counts[1] > counts[2]
    assert opened.page.locator("#frames rect.found").count() == 0
    truth = opened.page.locator("#frames rect.truth").count()
    assert opened.page.locator("#frames rect.missed").count() == truth == counts[2] > 0
    opened.page.uncheck("#classes input >> nth=0")
    assert boxes(opened) < counts[2]


def test_the_kinds_in_the_page_are_those_of_the_metrics(look, run_folder: Path, report_page: Path):
    import json

    detection = json.loads((run_folder / "metrics.json").read_text())["detection"]
    opened = look(report_page)
    confidence = detection["confidence"]
    script = """(confidence) => {
      const counts = Object.fromEntries(DATA.kinds.map((kind) => [kind, 0]));
      for (let frame = 0; frame < gallery.set.names.length; frame++) {
        const found = detections(gallery.set, frame, confidence);
        found.forEach((own) => counts[own.kind]++);
        const meant = new Set(found.map((own) => own.meant));
        counts.missed += trueBoxes(gallery.set, frame).filter((own) => !meant.has(own.number)).length;
      }
      return counts;
    }"""
    assert opened.page.evaluate(script, confidence) == detection["errors"]["counts"]


def test_the_keyboard_moves_opens_and_closes(look, report_page: Path):
    opened = look(report_page)
    opened.page.locator("#frames .cell").first.focus()
    opened.page.keyboard.press("ArrowRight")
    focused = "document.activeElement.closest('[data-place]').dataset.place"
    assert opened.page.evaluate(focused) == "1"
    opened.page.keyboard.press("Enter")
    first = opened.page.inner_text("#frame-name")
    assert opened.page.evaluate("document.getElementById('frame').open")
    opened.page.keyboard.press("ArrowRight")
    assert opened.page.inner_text("#frame-name") != first
    assert opened.page.locator("#strip button").count() >= 1
    opened.page.keyboard.press("Escape")
    assert not opened.page.evaluate("document.getElementById('frame').open")
    # The browser tells the page a little later that the dialog has closed.
    opened.page.locator("[data-place='2']:focus, [data-place='2'] :focus").wait_for()
    label = opened.page.locator("#frames .cell").first.get_attribute("aria-label")
    assert "label:" in label and "predicted:" in label


def test_a_chart_shows_values_by_the_keyboard(look, report_page: Path):
    opened = look(report_page)
    opened.page.locator(".chart canvas").first.wait_for()
    opened.page.locator(".chart").first.focus()
    opened.page.keyboard.press("ArrowRight")
    opened.until("document.querySelector('.u-legend .u-value').textContent === '1'")


def test_tables_sort(look, tiny_data: Path, tmp_path: Path):
    runs = [write_run(tmp_path / f"run{seed}", tiny_data, seed) for seed in range(4)]
    opened = look(write_report(runs, tmp_path / "report.html"))
    table = opened.page.locator("#figures table").first
    table.locator(".sort").nth(1).click()
    cells = "(rows) => rows.map((row) => Number(row.cells[1].dataset.value))"
    values = table.locator("tbody tr").evaluate_all(cells)
    assert values == sorted(values, reverse=True) and len(set(values)) > 1
    table.locator(".sort").nth(1).click()
    assert table.locator("tbody tr").evaluate_all(cells) == values[::-1]
    assert table.locator("th[aria-sort='ascending']").count() == 1
    opened.page.uncheck("#shown-runs input >> nth=0")
    assert opened.said == []


def test_the_page_speaks_two_languages(look, report_page: Path):
    opened = look(report_page)
    assert opened.page.inner_text("#gallery-title") == "Frames"
    opened.page.click("[data-language='1']")
    assert opened.page.inner_text("#gallery-title") == "影格"
    assert opened.page.evaluate("document.documentElement.lang") == "zh-Hant"
    assert "張" in opened.page.inner_text("#count")
    assert look(report_page, locale="zh-TW").page.inner_text("#gallery-title") == "影格"


def test_hostile_names_stay_text(look, tiny_data: Path, tmp_path: Path):
    classes = [
        "</script><script>document.title='pwned'</script>",
        "\"'<b>",
        "c" * 300,
        "\u05d0\u202e",
    ]
    data = with_names(tiny_data, tmp_path / "data", list(HOSTILE), classes)
    run = write_run(tmp_path / "<b onclick=alert(1)>", data)
    opened = look(write_report([run], tmp_path / "report.html"), 390)
    opened.page.locator("#frames .cell").first.wait_for()
    opened.page.click("#frames .cell >> nth=0")
    shown = opened.page.inner_text("main") + opened.page.inner_text("#frame")
    assert "<b onclick=alert(1)>" in opened.page.inner_text("h1")
    assert classes[0] in shown and classes[1] in shown
    assert not any(text in opened.page.title() for text in ("pwned",))
    assert opened.page.locator("main b, main [onerror], main script").count() == 0
    assert opened.said == [] and opened.leaving() == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    opened.until(PICTURES)


def test_pictures_that_have_moved_are_asked_for_once(look, tiny_data: Path, tmp_path: Path):
    shutil.copytree(tiny_data.parent, tmp_path / "old")
    run = write_run(tmp_path / "run", tmp_path / "old/data.yaml")
    page = write_report([run])
    (tmp_path / "old").rename(tmp_path / "new place")
    opened = look(page)
    opened.page.locator("#moved").wait_for(state="visible")
    opened.page.fill("#root", str(tmp_path / "new place/frames/images/val"))
    opened.page.click("#moved button")
    opened.until(PICTURES)
    opened.page.reload()
    opened.until(PICTURES)
    assert opened.page.is_hidden("#moved")


def test_embedded_pictures_need_no_file(look, tiny_data: Path, tmp_path: Path):
    run = write_run(tmp_path / "run", tiny_data)
    page = write_report([run], embed=True)
    opened = look(page)
    opened.until(PICTURES)
    assert [url for url in opened.asked if url.startswith("file:")] == [page.resolve().as_uri()]
    notice = opened.page.locator("header .notice").last.inner_text()
    assert "--embed" in notice
    assert opened.page.get_attribute("meta[name=pictures]", "content") == "embedded"


def many_frames(count: int) -> list:
    """Frames of 100 patients, three boxes and a label each."""
    rng = np.random.default_rng(0)
    results = []
    for index in range(count):
        low = rng.uniform(0, 60, (3, 2))
        found = np.column_stack((np.sort(rng.uniform(0.1, 1, 3))[::-1], [0, 1, 2], low, low + 30))
        name = f"/data/train/images/P{index % 100:02}_V{index // 20}_F{index % 20:04}.jpg"
        truth = [(index % 3, *low[0], *(low[0] + 30))]
        view = int(rng.integers(3))
        said = rng.dirichlet(np.ones(3))
        results.append(image_result(truth, found, view, said, name, f"P{index % 100:02}"))
    return results


def test_20000_frames_open_in_3_seconds_and_draw_what_is_visible(
    look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Seconds of the page's own work, however busy the machine is."""
    kinds = [(np.array([0, 3, 5]), np.array([0, NO_BOX, NO_BOX]))] * 20_000
    monkeypatch.setattr(records, "frame_kinds", lambda results, class_count: kinds)
    data = clip_data(r"^(P\d+_.+)_F(\d+)")
    page = tmp_path / "many.html"
    frames = frame_set("many", [many_frames(20_000)], data, page, 0.3)
    write_page(
        page,
        "report.html.j2",
        SCRIPTS,
        {"runs": [], "charts": [], "kinds": list(KINDS), "least_score": LEAST_SCORE}
        | {"sets": [frames], "classes": list(NAMES), "views": list(VIEWS)},
        title="many",
        cards=[],
        comparisons=[],
        overview=overview({}),
        errors=None,
        details=[],
        frames=20_000,
        is_real=False,
        is_embedded=False,
    )
    assert page.stat().st_size < 2e6
    opened = look(page, cpu=True)
    opened_s = opened.cpu_s()
    opened.page.evaluate(
        """() => {
          gallery.confidence = 0.6;
          gallery.kinds.add("missed");
          choose();
        }"""
    )
    filtered_s = opened.cpu_s() - opened_s
    assert 0 < opened.count() < 20_000
    assert opened.page.locator("#frames .cell").count() < 100
    assert opened_s < 3 and filtered_s < 1, (opened_s, filtered_s)
    opened.page.evaluate("window.scrollTo(0, document.body.scrollHeight / 2)")
    opened.page.wait_for_timeout(200)
    visible = opened.page.locator("#frames .cell").evaluate_all(
        "(cells) => cells.filter((own) => own.getBoundingClientRect().top < 900).length"
    )
    assert 0 < visible < 100
