"""What a data set calls the label of an image, in the words that a user reads."""

import pytest

from utils.core.script import UserError
from utils.core.title import DEFAULT_TITLE, LONGEST_TITLE, plural, read_title, titled


@pytest.mark.parametrize(
    ("title", "several"),
    [
        ("projection", "projections"),
        ("quality", "qualities"),
        ("day", "days"),
        ("stress", "stresses"),
        ("X", "Xs"),
        ("切面", "切面"),
    ],
)
def test_the_plural_is_spelled_as_in_english(title: str, several: str):
    assert plural(title) == several


def test_the_word_view_gives_way_wherever_it_is_a_word():
    text = "View by clip: 3 views, each view counts; no view."
    expected = "Projection by clip: 3 projections, each projection counts; no projection."
    assert titled(text, "projection") == expected


@pytest.mark.parametrize(
    "text",
    [
        "--view-thres",
        "view_accuracy",
        "--harmonise-views",
        "views.csv",
        "runs/view/x",
        "a review",
        "viewer",
    ],
)
def test_names_of_options_keys_and_files_stay(text: str):
    assert titled(text, "projection") == text


def test_the_default_changes_nothing():
    assert read_title(None) == DEFAULT_TITLE
    assert titled("a view, two Views", DEFAULT_TITLE) == "a view, two Views"


@pytest.mark.parametrize(
    "value", [["projection"], 3, True, "", "  ", "a\nb", "a,b", "x" * (LONGEST_TITLE + 1), " a"]
)
def test_what_is_no_title_is_one_line(value: object):
    with pytest.raises(UserError) as refused:
        read_title(value)
    assert str(refused.value).startswith("cls_title is ")
    assert "\n" not in str(refused.value)
