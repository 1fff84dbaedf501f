"""Which classes a mirror image swaps, and which names say left or right."""

import pytest

from utils.core.flips import mirrored, read_flip_pairs, sided
from utils.core.script import UserError

NAMES = ("left_lung", "heart", "right_lung", "left_arm", "right_arm")


def test_a_mirror_image_swaps_pairs_and_swaps_them_back():
    pairs = read_flip_pairs([["left_lung", "right_lung"], ["right_arm", "left_arm"]], NAMES)
    found = mirrored(NAMES, pairs)
    assert found == (2, 1, 0, 4, 3)
    assert tuple(found[number] for number in found) == tuple(range(len(NAMES)))


def test_without_pairs_every_class_stays():
    assert read_flip_pairs(None, NAMES) == ()
    assert mirrored(NAMES, ()) == tuple(range(len(NAMES)))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("left_lung", "expected a list of pairs"),
        ({"left_lung": "right_lung"}, "expected a list of pairs"),
        (["left_lung", "right_lung"], "'left_lung' is no pair"),
        ([["left_lung"]], "is no pair; expected two names"),
        ([["left_lung", "right_lung", "heart"]], "is no pair; expected two names"),
        ([["left_lung", "rigth_lung"]], "'rigth_lung' is no class; .*did you mean 'right_lung'?"),
        ([["left_lung", 2]], "2 is no class"),
        ([[["left_lung"], "heart"]], r"\['left_lung'\] is no class"),
        ([["left_lung", "right_lung"], ["heart", "left_lung"]], "left_lung is there twice"),
        ([["heart", "heart"]], "heart is there twice"),
    ],
)
def test_what_is_no_list_of_pairs_is_one_line(value: object, said: str):
    with pytest.raises(UserError, match=said) as refused:
        read_flip_pairs(value, NAMES)
    assert str(refused.value).startswith("flip_pairs")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        "left_lung",
        "Left Lung",
        "lungLeft",
        "LEFT",
        "linke Lunge",
        "rechts",
        "左肺",
        "right2",
        "Rechter",
    ],
)
def test_names_that_say_left_or_right(name: str):
    assert sided([name]) == [name]


@pytest.mark.parametrize(
    "name", ["bright", "upright", "leftover", "Rechteck", "link", "AR", "lung"]
)
def test_names_that_do_not(name: str):
    assert sided([name]) == []
