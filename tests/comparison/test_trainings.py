"""What a comparison trains: the data that it is about do not change between its halves."""

from pathlib import Path

import pytest

from utils.comparison.trainings import check_fingerprints
from utils.core.script import UserError


def test_a_split_that_is_asked_for_later_is_no_change(tmp_path: Path):
    check_fingerprints(
        tmp_path, {"a.yaml": {"train": "1", "val": "2"}, "b.yaml": {"train": "3", "val": "4"}}
    )
    check_fingerprints(tmp_path, {"a.yaml": {"train": "1", "val": "2", "test": "5"}})
    check_fingerprints(tmp_path, {"b.yaml": {"train": "3", "val": "4"}, "c.yaml": {"train": "6"}})
    for changed in ({"a.yaml": {"test": "6"}}, {"b.yaml": {"train": "3", "val": "5"}}):
        with pytest.raises(UserError, match="images or labels changed since"):
            check_fingerprints(tmp_path, changed)


@pytest.mark.parametrize(
    ("key", "before", "now"),
    [
        ("names", ["AR", "MR"], ["MR", "AR"]),
        ("names", ["AR", "MR"], ["AR", "MR", "PR"]),
        ("cls_names", ["A4C"], ["A2C"]),
        ("group_pattern", "^(P)", None),
        ("clip_pattern", None, "(a)(b)"),
    ],
)
def test_a_data_yaml_that_changed_between_two_halves(
    tmp_path: Path, key: str, before: object, now: object
):
    check_fingerprints(tmp_path, {"a.yaml": {"train": "1"}})  # as older comparisons noted
    check_fingerprints(tmp_path, {"a.yaml": {"train": "1", key: before}})
    with pytest.raises(UserError) as refused:
        check_fingerprints(tmp_path, {"a.yaml": {"train": "1", key: now}})
    assert str(refused.value).startswith(
        f"a.yaml: {key} ({before!r} -> {now!r}) changed since {tmp_path} was begun"
    )
