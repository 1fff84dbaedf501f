"""Which differences can be told from none."""

import pytest

from utils.report.comparison import MARGIN, METRIC_WORDS, WIDTH, differences, is_told
from utils.report.page import words


def row(low, high, word="exploratory", is_counted=False, value=0.0, metric="mAP50"):
    return {
        "arm": "a",
        "reference": "b",
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "word": word,
        "is_counted": is_counted,
    }


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (row(0.01, 0.2), True),
        (row(-0.2, -0.01), True),
        (row(-0.1, 0.1), False),
        (row(None, None), False),
        (row(0.01, 0.2, "better", True), True),
        (row(0.01, 0.2, "not shown", True), False),
        (row(-0.01, 0.01, "equivalent", True), False),
    ],
)
def test_a_difference_is_told_where_interval_and_word_say_so(found: dict, told: bool):
    assert is_told(found) is told


def test_drawings_share_a_scale_and_show_zero():
    rows = [row(0.1, 0.3, value=0.2), row(None, None, value=-0.1), row(5, 6, value=5, metric="x")]
    first, second, other = differences({"differences": rows})
    assert first.at["high"] == WIDTH - MARGIN and second.at["value"] == MARGIN
    assert second.at["zero"] == first.at["zero"] and second.at["low"] is None
    assert other.at["zero"] == MARGIN
    assert differences({}) == []


def test_metrics_have_words_where_there_are_some():
    rows = [row(0, 1, metric="view_accuracy"), row(0, 1, metric="x")]
    assert [own.metric_word for own in differences({"differences": rows})] == ["accuracy", ""]
    assert set(METRIC_WORDS.values()) <= words().keys()
