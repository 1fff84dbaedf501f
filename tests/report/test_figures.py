"""metrics.json as tables."""

from made_up_results import NAMES, VIEWS, random_results

from utils.evaluation.metrics import summarise
from utils.report import figures


def test_the_overview_has_figures_and_intervals():
    metrics = summarise(random_results(), NAMES, VIEWS)
    table = figures.overview({"a": metrics, "b": {"detection": {"mAP_0.5": None}}})
    row = dict(zip(table.columns, table.rows[0][1], strict=True))
    low, high = metrics["detection"]["intervals"]["mAP_0.5"]
    assert row["map50"].value == metrics["detection"]["mAP_0.5"]
    assert row["map50"].note == f"{low:.3f} to {high:.3f}"
    assert table.rows[1][1][0].text == "-"


def test_errors_have_counts_and_gains():
    metrics = summarise(random_results(), NAMES, VIEWS, intervals=False)
    table = figures.errors({"a": metrics})
    counts = metrics["detection"]["errors"]["counts"]
    assert [cell.value for cell in table.rows[0][1]] == list(counts.values())
    assert table.rows[0][1][0].note == "" and table.rows[0][1][-1].note.startswith(("+", "-"))
    assert figures.errors({"a": {}}) is None


def test_confusions_are_shaded_by_their_largest():
    metrics = summarise(random_results(), NAMES, VIEWS, intervals=False)
    tables = {table.title: table for table in figures.details(metrics)}
    assert set(tables) == {"per_class", "confusion_boxes", "per_view", "confusion_views"}
    shades = [cell.shade for _, cells in tables["confusion_views"].rows for cell in cells]
    assert max(shades) == 1
    assert [name for name, _ in tables["confusion_boxes"].rows] == [*NAMES, "missed"]
