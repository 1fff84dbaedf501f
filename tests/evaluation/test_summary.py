"""What `summarise` returns has the keys and types that `Summary` says, whatever the tasks."""

import json
import types
from collections.abc import Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from made_up_results import NAMES, VIEWS, clip_data, random_results, without_predictions

from utils.core.names import TASKS
from utils.evaluation.clip_metrics import clip_metrics
from utils.evaluation.metrics import plain, summarise
from utils.evaluation.results import ViewPrior
from utils.evaluation.summary import Clips, Summary
from utils.evaluation.thresholds import Thresholds


def check(value: object, kind: Any, where: str) -> None:
    """Fail where a value that was read from JSON is not of a type."""
    if is_typeddict(kind):
        check_keys(value, kind, where)
    elif get_origin(kind) in (Union, types.UnionType):
        kinds = get_args(kind)
        if value is None:
            assert type(None) in kinds, where
        else:
            check(value, kinds[0], where)
    elif get_origin(kind) is list:
        assert type(value) is list, where
        for item in value:
            check(item, get_args(kind)[0], f"{where}[]")
    elif get_origin(kind) is dict:
        for key, item in value.items():
            check(item, get_args(kind)[1], f"{where}.{key}")
    else:
        assert isinstance(value, kind), f"{where} is {value!r}"


def check_keys(value: object, kind: Any, where: str) -> None:
    assert value.keys() >= kind.__required_keys__, where
    hints = get_type_hints(kind)
    assert value.keys() <= hints.keys(), where
    for key, item in value.items():
        check(item, hints[key], f"{where}.{key}")


@pytest.mark.parametrize("intervals", [True, False])
@pytest.mark.parametrize("tasks", [TASKS, ["detection"], ["classification"]])
def test_a_summary_has_the_keys_and_types_that_are_written_down(tasks: Sequence[str], intervals):
    results = random_results(12)
    for own in (results, [without_predictions(result) for result in results]):
        summary = summarise(
            own, NAMES, VIEWS, view_prior=ViewPrior(1, {0: 1}), intervals=intervals, tasks=tasks
        )
        assert ("detection" in summary) == ("detection" in tasks)
        assert ("views" in summary) == ("classification" in tasks)
        check(json.loads(json.dumps(summary)), Summary, "summary")


@pytest.mark.parametrize("tasks", [TASKS, ["detection"], ["classification"]])
def test_the_figures_of_clips_have_the_keys_and_types_that_are_written_down(tasks: Sequence[str]):
    data = clip_data(r"^(.)(\d*)", "^(.)")
    for own in (random_results(24), [without_predictions(result) for result in random_results(9)]):
        found = plain(clip_metrics(own, data, Thresholds(view_probability=0.4), tasks))
        check(json.loads(json.dumps(found)), Clips, "clips")


def test_a_wrong_key_or_type_would_be_seen():
    summary = summarise(random_results(4), NAMES, VIEWS, intervals=False)
    for wrong in ({"more": 1}, {"images": "4"}, {"detection": {}}):
        with pytest.raises(AssertionError):
            check(summary | wrong, Summary, "summary")
