"""The audit's pictures know the kinds of findings, and show what is frequent of many classes."""

from matplotlib.figure import Figure

from utils.curation.kinds import KINDS
from utils.curation.pictures import SHEET_KINDS, SHOWN_ROWS, _plot_shares


def test_the_contact_sheet_knows_the_kinds():
    assert set(SHEET_KINDS) < set(KINDS)


def test_of_many_classes_the_most_frequent_over_all_splits_have_a_row_in_their_order():
    train = {f"c{number}": number % 50 for number in range(100)}
    val = dict.fromkeys(train, 0) | {"c0": 90}
    splits = {"train": {"frames": 90, "classes": train}, "val": {"frames": 90, "classes": val}}
    ax = Figure().subplots()
    _plot_shares(ax, "By class", splits, "classes", "C0")
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == ["c0", "c30", *(name for name in train if train[name] > 30)]
    assert len(rows) == SHOWN_ROWS and len(ax.patches) == 2 * SHOWN_ROWS
    assert ax.get_title("left") == "By class: the 40 most frequent of 100"


def test_of_few_classes_all_have_a_row():
    ax = Figure().subplots()
    _plot_shares(ax, "By class", {"train": {"frames": 3, "views": {"a": 2, "b": 0}}}, "views", "C0")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_title("left") == "By class"
